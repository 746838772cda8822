"""Sidecars: the parameters of synthetic images, one npz per subject beside the images.

``frame_mesh`` gives an image's camera and vertices, and with :mod:`Dataset.rendering.raycast` its depth, normals,
UV, landmarks or volume in the crop's pixels; ``rerender`` gives the image itself.
"""
import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from Dataset.face_model.model import FaceModel
from Dataset.geometry.camera import FLIP, Camera
from Dataset.io.archives.npz import read_npz
from Dataset.io.atomic import write_atomic
from Dataset.sources.subjects import SIDECAR
from Dataset.synthesis.scene import RenderContext, SceneSubject, View, pose_vertices
from Dataset.synthesis.skin import Appearance

VERSION = 3             # 3 renamed arrays; files of other versions are refused
_ARRAYS = ("version", "identity", "boxes", "box_sources", "landmarks", "model_hash", "seed", "camera", "photographed",
           "annotations", *(f"view_{name}" for name in View._fields),
           *(f"appearance_{name}" for name in Appearance._fields))


class Sidecar(NamedTuple):
    """One subject's images, n of them.

    identity: (200,) float32 standard deviations; appearance: skin, hair and eyes; views: n
    :class:`Dataset.synthesis.scene.View`; cameras: n cameras of the saved crops; boxes: (n, 4) int64 x, y, w, h of
    the crop in the detector's image; box_sources: n strings, the detector's pass or "predicted";
    landmarks: (n, 68, 2) float32 pixels of the crop; model_hash: of the face model's file; seed: (2,) the
    dataset's seed and the subject's number; photographed: the dataset's fraction of subjects with photographed skin
    (the seed of the appearance decides which); annotations: hash of the model's landmarks, grid and texture coordinates
    (`annotation_hash`), "" in older files.
    """
    identity: np.ndarray
    appearance: Appearance
    views: list[View]
    cameras: list[Camera]
    boxes: np.ndarray
    box_sources: list[str]
    landmarks: np.ndarray
    model_hash: str
    seed: np.ndarray
    photographed: float = 0.0
    annotations: str = ""


def save_sidecar(path: str | os.PathLike[str], sidecar: Sidecar) -> None:
    """Write a sidecar, atomically. The first axis of every array is the image, except for those of the
    subject."""
    arrays = {"version": np.array(VERSION), "identity": sidecar.identity, "boxes": sidecar.boxes,
              "box_sources": np.array(sidecar.box_sources), "landmarks": sidecar.landmarks,
              "model_hash": np.array(sidecar.model_hash), "seed": sidecar.seed,
              "camera": np.array([[c.width, c.height, c.focal, *c.centre, *c.translation] for c in sidecar.cameras])}
    if sidecar.photographed:
        arrays["photographed"] = np.array(sidecar.photographed)
    if sidecar.annotations:
        arrays["annotations"] = np.array(sidecar.annotations)
    for name in View._fields:
        arrays[f"view_{name}"] = np.stack([np.asarray(getattr(v, name)) for v in sidecar.views])
    for name in Appearance._fields:
        arrays[f"appearance_{name}"] = np.asarray(getattr(sidecar.appearance, name))
    write_atomic(path, lambda temporary: _savez(temporary, arrays))


def load_sidecar(path: str | os.PathLike[str]) -> Sidecar:
    """Read a sidecar (the file, or the subject's folder). ValueError, naming the file, if it is none or is
    too new."""
    path = Path(path)
    path = path / SIDECAR if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"{path}: no such sidecar")
    data = read_npz(path, what="sidecar of a synthetic subject", names=_ARRAYS)
    try:
        version = int(data["version"])
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: holds no sidecar of a synthetic subject ({error})") from None
    if version != VERSION:
        raise ValueError(f"{path}: a sidecar of version {VERSION} is needed, received {version}")
    try:
        return _sidecar(data)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{path}: a sidecar lacks an array or holds a wrong one ({error})") from None


def _sidecar(data: dict[str, np.ndarray]) -> Sidecar:
    values = [data[f"appearance_{name}"] for name in Appearance._fields]
    appearance = Appearance(*(value if value.ndim else value.item() for value in values))
    columns = [data[f"view_{name}"] for name in View._fields]
    views = [View(*row) for row in zip(*columns)]
    views = [view._replace(seed=int(view.seed), glasses=int(view.glasses)) for view in views]
    cameras = [Camera(int(c[0]), int(c[1]), float(c[2]), (float(c[3]), float(c[4])), FLIP.copy(), c[5:8])
               for c in data["camera"]]
    return Sidecar(data["identity"], appearance, views, cameras, data["boxes"], [str(s) for s in data["box_sources"]],
                   data["landmarks"], str(data["model_hash"]), data["seed"], float(data.get("photographed", 0.0)),
                   str(data.get("annotations", "")))


def frame_mesh(sidecar: Sidecar, index: int, model: FaceModel) -> tuple[Camera, np.ndarray]:
    """The crop's camera and the face's vertices (V, 3) in its world (posed head frame, mm, float64) of
    an image.

    model: the :class:`Dataset.face_model.model.FaceModel` that made the images; ValueError if it is another.
    """
    _check_model(sidecar, model)
    view = sidecar.views[index]
    return sidecar.cameras[index], pose_vertices(model.shape(sidecar.identity, view.expression), view.pose)


def rerender(sidecar: Sidecar, index: int, context: RenderContext) -> np.ndarray:
    """The image again, (size, size, 3) uint8 BGR: the stored one before JPEG."""
    _check_model(sidecar, context.model)
    scene_subject = SceneSubject(context, sidecar.identity, sidecar.appearance, sidecar.photographed)
    return scene_subject.set(sidecar.views[index]).render(sidecar.cameras[index])


def _check_model(sidecar: Sidecar, model: FaceModel) -> None:
    if model_hash(model) != sidecar.model_hash:
        raise ValueError(f"sidecar: made with face model {sidecar.model_hash[:12]}, "
                         f"received model {model_hash(model)[:12]}")
    if sidecar.annotations not in ("", annotation_hash(model)):
        raise ValueError("sidecar: made with a face model of other landmarks, grid or texture coordinates")


@lru_cache(maxsize=4)
def model_hash(model: FaceModel) -> str:
    """SHA-256 (hex) of the shape of the model: mean, identity and expression basis vectors, triangles."""
    return _sha256(model.mean, model.identity, model.expression, model.triangles)


@lru_cache(maxsize=4)
def annotation_hash(model: FaceModel) -> str:
    """SHA-256 (hex) of the annotations of the surface: landmarks, ordered grid, texture coordinates, regions, ears.
    They change the targets, but not the shape; older files have only `model_hash`."""
    return _sha256(model.landmark_vertices, model.landmark_weights, model.grid_vertices, model.grid_weights,
                   model.grid_landmarks, model.corner_uv_quads, model.regions,
                   np.frombuffer(" ".join(model.region_names).encode(), np.uint8), model.masks["ears"])


def _sha256(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _savez(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """np.savez in a fixed order of entries; NumPy writes no time stamps, so the same arrays give the same bytes."""
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)
