"""What a fitted identity says of the true one: a linear map, learnt from people whose truth is known.

A fit believes its network's errors to be random. They are not: a network draws what it is unsure of towards what it has
seen most, some directions more than others. Ridge regression over training people (python -m Network.calibrate) gives
the truth that is to be expected behind a fit, as `Network.solve` does for `compact`. The file is `calibration.npz` in a
run or weight folder.
"""
from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from Dataset.atomic import write_atomic
from Dataset.face_model import FaceModel, load_face_model
from Dataset.sidecar import model_hash

FILE, VERSION = "calibration.npz", 1
LARGEST = 8 * 2**20         # bytes, unpacked


class Calibration(NamedTuple):
    """own, few (n, n) float64: the expected identity behind a fit x (n,) of T photos is x @ (own + few / T); face: hash
    of the face model whose coefficients these are."""

    own: np.ndarray
    few: np.ndarray
    face: str

    def expected(self, identity: np.ndarray, photos: int) -> np.ndarray:
        """(n,) of a fit to `photos` photos -> (n,) float64. ValueError for another number of coefficients."""
        if np.shape(identity) != self.own.shape[:1]:
            raise ValueError(f"the calibration is of {len(self.own)} coefficients, received {np.shape(identity)}")
        return np.asarray(identity, np.float64) @ (self.own + self.few / photos)


def write_calibration(folder: Path, calibration: Calibration) -> Path:
    """FOLDER/calibration.npz, float16 -> its path."""
    arrays = {"version": np.array(VERSION), "face": np.array(calibration.face),
              "own": calibration.own.astype(np.float16), "few": calibration.few.astype(np.float16)}

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
    write_atomic(folder / FILE, save)
    return folder / FILE


def read_calibration(folder: Path, model: FaceModel | None = None) -> Calibration | None:
    """What is in a folder; None where there is none, or where it is of another face model than the one in use (or
    `model`). ValueError, naming the file, for one that cannot be read."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:      # before anything is unpacked
            size = sum(entry.file_size for entry in archive.infolist())
        if size > LARGEST:
            raise ValueError(f"unpacks to {size} bytes")
        with np.load(path, allow_pickle=False) as stored:
            version, face = int(stored["version"]), str(stored["face"])
            own, few = (np.asarray(stored[name], np.float64) for name in ("own", "few"))
    except (OSError, KeyError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: holds no calibration of this program ({error})") from None
    if version != VERSION or own.ndim != 2 or own.shape[0] != own.shape[1] or own.shape != few.shape \
            or not (np.isfinite(own).all() and np.isfinite(few).all()):
        raise ValueError(f"{path}: want version {VERSION} and two finite square matrices of one size, received version "
                         f"{version}, {own.shape} and {few.shape}")
    return Calibration(own, few, face) if face == model_hash(model or load_face_model()) else None


def ridge_calibration(fits: np.ndarray, photos: np.ndarray, truths: np.ndarray, ridge: float, face: str,
                      one_is_right: bool = False) -> Calibration:
    """Least squares of truths (M, n) from fits (M, n) to `photos` (M,) photos, pulled towards taking the fit as it is.

    ridge         of the fits' mean square, summed over them
    one_is_right  of one photo the fit stays as it is: where it comes from least squares itself
    ValueError when there is nothing to learn from.
    """
    fits, truths = np.asarray(fits, np.float64), np.asarray(truths, np.float64)
    if not len(fits):
        raise ValueError("nobody to calibrate with")
    count = fits.shape[1]
    pull = ridge * len(fits) * float(np.mean(np.square(fits)))
    if one_is_right:
        more = fits * (1 - 1 / np.asarray(photos, np.float64)[:, None])
        change = np.linalg.solve(more.T @ more + (pull + 1e-9) * np.eye(count), more.T @ (truths - fits))
        return Calibration(np.eye(count) + change, -change, face)
    features = np.concatenate([fits, fits / np.asarray(photos, np.float64)[:, None]], axis=1)
    start = np.concatenate([np.eye(count), np.zeros((count, count))])
    normal = features.T @ features + (pull + 1e-9) * np.eye(2 * count)
    change = np.linalg.solve(normal, features.T @ (truths - fits))
    found = start + change
    return Calibration(found[:count], found[count:], face)
