"""Keypoint models for tiny `compact` networks of random weights, whose keypoints no subjects would teach anything."""
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.synthesis.sidecar import model_hash
from Network.readout.model import KeypointModel, file_hash, shapes_of, weights_file, write_keypoint_model


def write_stand_in(source: str | Path) -> None:
    """Write keypoint_model.npz for a run or weight folder: small random maps, independent keypoints."""
    rng, counts = np.random.default_rng(0), np.array([2, 4, 8])
    arrays = {name: 1e-3 * rng.standard_normal(shape) for name, shape in shapes_of(len(counts)).items()}
    arrays |= {"counts": counts, "precision": np.eye(256)}
    folder = Path(source) if Path(source).is_dir() else Path(source).parent
    write_keypoint_model(folder, KeypointModel(**arrays, face=model_hash(load_face_model()),
                                               weights=file_hash(weights_file(source))))


@lru_cache(maxsize=None)
def stand_in_folder() -> Path:
    """A folder with a stand-in for a model that was never saved."""
    folder = Path(tempfile.mkdtemp(prefix="keypoint_model-"))
    (folder / "best_validation.npz").write_bytes(b"weights")
    write_stand_in(folder)
    return folder
