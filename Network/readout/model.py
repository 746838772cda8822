"""The file behind the read-out of `compact`: `keypoint_model.npz` beside the weights whose keypoints it was fitted to.

Written by `python -m Network.readout.fit`, read with bounds: its sizes are checked before anything is unpacked.
"""
from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.io.archives.npz import read_npz
from Dataset.io.atomic import write_atomic
from Dataset.representations.coefficients import EXPRESSION, IDENTITY, SHAPE
from Dataset.synthesis.sidecar import model_hash
from Network.config.run_config import file_hash
from Network.readout.canonical import CAMERA, KEYPOINTS

FILE, WEIGHTS, VERSION = "keypoint_model.npz", "weights.npz", 1
FEATURES = 3 * KEYPOINTS + CAMERA
MAX_BYTES = 16 * 2**20          # unpacked
YAWS = (-50.0, 0.0, 50.0)       # degrees: a photo's maps are linear in its yaw between these, constant beyond


class KeypointModel(NamedTuple):
    """The parameters of the read-out. Arrays are float32 unless noted; counts (C,) int64.

    subject      (C, F + 1, 200): identity from the triangulated features of counts[c] photos, at least 2 each
    photo        (Y, F + 1, 284): identity and expression from one photo's features, one map for each of YAWS
    conditional  (Y, 200, 84): change of the posterior mean of the expression with the identity
    precision    (256, 256) float64: inverse covariance of the keypoints' offsets as a photo shows them, of one
                 coordinate (Network/readout/outliers.py)
    face         SHA-256 of the face model whose coefficients these are; weights: of the network's weight file
    """

    subject: np.ndarray
    counts: np.ndarray
    photo: np.ndarray
    conditional: np.ndarray
    precision: np.ndarray
    face: str
    weights: str


def shapes_of(counts: int) -> dict[str, tuple[int, ...]]:
    """The shape of each array, for so many counts."""
    identity, expression = IDENTITY.stop, EXPRESSION.stop - EXPRESSION.start
    return {"subject": (counts, FEATURES + 1, identity), "counts": (counts,),
            "photo": (len(YAWS), FEATURES + 1, SHAPE.stop), "conditional": (len(YAWS), identity, expression),
            "precision": (KEYPOINTS, KEYPOINTS)}


def weights_file(source: str | Path) -> Path:
    """The file of the weights that a keypoint model is tied to. source: a weight folder, a run folder, for its
    best_validation, or a checkpoint's .keras file in one."""
    source = Path(source)
    if source.is_dir():
        packed = source / WEIGHTS
        return packed if packed.is_file() else source / "best_validation.npz"
    return source.with_name("state.npz" if source.stem == "last" else f"{source.stem}.npz")


def write_keypoint_model(folder: Path, model: KeypointModel) -> Path:
    """FOLDER/keypoint_model.npz, maps as float16 -> its path. ValueError for what float16 cannot hold."""
    arrays = {name: getattr(model, name) for name in shapes_of(len(model.counts))}
    stored = {name: values.astype(np.float32 if name == "precision" else np.float16)
              for name, values in arrays.items() if name != "counts"}
    if not all(np.isfinite(values).all() for values in stored.values()):
        raise ValueError(f"{folder / FILE}: the model must be finite in float16, received a number that is not")
    data = io.BytesIO()
    np.savez_compressed(data, version=np.array(VERSION), face=np.array(model.face), weights=np.array(model.weights),
                        counts=np.asarray(model.counts, np.int64), **stored)
    write_atomic(folder / FILE, lambda temporary: temporary.write_bytes(data.getvalue()))
    return folder / FILE


def read_keypoint_model(source: str | Path, face_model: FaceModel | None = None) -> KeypointModel:
    """What write_keypoint_model wrote. source: as `weights_file`. ValueError, naming the file: missing, unreadable, too
    large, of another version, shape, face model (default: the one in use) or other weights than those of `source`."""
    path = (Path(source) if Path(source).is_dir() else Path(source).parent) / FILE
    if not path.is_file():
        raise ValueError(f"{path.parent}: holds no {FILE}; run  python -m Network.readout.fit {path.parent} SHARDS")
    stored = read_npz(path, MAX_BYTES, "keypoint model", ("version", "face", "weights", *shapes_of(0)))
    try:
        version, face, weights = int(stored["version"]), str(stored["face"]), str(stored["weights"])
        found = {name: stored[name] for name in shapes_of(0)}
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: holds no keypoint model ({error})") from None
    if version != VERSION:
        raise ValueError(f"{path}: version {VERSION} is needed, received {version}")
    _check_arrays(path, found)
    if face != model_hash(face_model or load_face_model()):
        raise ValueError(f"{path}: its coefficients are of face model {face[:12]}, received "
                         f"{model_hash(face_model or load_face_model())[:12]}")
    if weights != file_hash(weights_file(source)):
        raise ValueError(f"{path}: was fitted to other weights than {weights_file(source).name}; run  "
                         f"python -m Network.readout.fit {path.parent} SHARDS")
    kinds = {"counts": np.int64, "precision": np.float64}
    arrays = {name: values.astype(kinds.get(name, np.float32)) for name, values in found.items()}
    return KeypointModel(**arrays, face=face, weights=weights)


def _check_arrays(path: Path, found: dict[str, np.ndarray]) -> None:
    """ValueError for an array of another shape or type, not finite, or counts that do not rise from 2."""
    counts = found["counts"]
    for name, shape in shapes_of(len(counts) if counts.ndim == 1 else 0).items():
        array, kind = found[name], "i" if name == "counts" else "f"
        if array.shape != shape or array.dtype.kind != kind or not np.isfinite(array).all():
            raise ValueError(f"{path}: {name} must be {shape}, finite, received {array.shape} {array.dtype}")
    if not len(counts) or counts[0] < 2 or (np.diff(counts) <= 0).any():
        raise ValueError(f"{path}: counts must rise from at least 2, received {counts.tolist()}")
    precision = found["precision"]
    if not np.allclose(precision, precision.T, rtol=1e-3, atol=1e-3) or (np.diag(precision) <= 0).any():
        raise ValueError(f"{path}: precision must be symmetric with a positive diagonal")
