"""demo.py's --blendshapes: a video's faces as a table of ARKit's 52 weights, for animation."""
from __future__ import annotations

from pathlib import Path
from typing import Callable, Mapping

import numpy as np

from Dataset.face_model.blendshapes import NAMES, blendshapes, has_blendshapes, weights_of
from Dataset.face_model.model import load_face_model
from Dataset.io.atomic import write_text
from Dataset.representations.coefficients import EXPRESSION
from Network.inference.base import Predictor

COLUMNS = ("time_s", "face", "yaw_deg", "pitch_deg", "roll_deg", *NAMES)


def _check(path: Path, predictor: Predictor) -> None:
    if path.suffix.lower() != ".csv":
        raise ValueError(f"--blendshapes {path}: must end in .csv")
    if not predictor.has_expression:
        raise ValueError(f"--blendshapes: {predictor.source} ({predictor.network}) predicts no expressions")
    if not has_blendshapes(load_face_model()):
        raise ValueError("--blendshapes are of the built-in face model; the expressions of this one have other names")


def table_writer(name: str | None, predictor: Predictor) -> Callable[[Mapping[str, np.ndarray]], Path] | None:
    """write(arrays) -> the path: a row for each face in each frame, in the order of time; nan: unknown. arrays: of
    `Network.video.process.Rows`. None for no name. ValueError for another ending than .csv, or a system or face model
    without ARKit's expressions."""
    if not name:
        return None
    path = Path(name)
    _check(path, predictor)

    def write(arrays: Mapping[str, np.ndarray]) -> Path:
        shapes, rows = blendshapes(load_face_model()), [",".join(COLUMNS)]
        for time, face, pose, found in zip(arrays["time"], arrays["track"], arrays["pose"], arrays["coefficients"]):
            known = found[EXPRESSION].size and np.isfinite(found[EXPRESSION]).all()
            weights = weights_of(shapes, found[EXPRESSION]) if known else np.full(len(NAMES), np.nan)
            rows.append(",".join([f"{time:.4f}", str(face), *(f"{angle:.3f}" for angle in pose[:3]),
                                  *(f"{weight:.4f}" for weight in weights)]))
        write_text(path, "\n".join(rows) + "\n")
        return path
    return write
