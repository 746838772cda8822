"""What a fitted identity says of the true one: a linear map, learnt from people whose truth is known.

A fit believes its network's errors to be random. They are not: a network draws what it is unsure of towards what it has
seen most, some directions more than others. Ridge regression over training people (python -m Network.calibrate) gives
the truth that is to be expected behind a fit, as `Network.solve` does for `compact`, and, of a network that finds
places, behind what these tell beside it (Network/evidence.py). The file is `calibration.npz` in a run or weight folder.
"""
from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from Dataset.atomic import write_atomic
from Dataset.face_model import FaceModel, load_face_model
from Dataset.sidecar import model_hash
from Network.ridge import ridge_solution

FILE, VERSION = "calibration.npz", 1
TOLD = ("told", "told_own", "told_few")
LARGEST = 8 * 2**20         # bytes, unpacked


class Calibration(NamedTuple):
    """own, few (n, n) float64: the expected identity behind a fit x (n,) of T photos is x @ (own + few / T); face: hash
    of the face model whose coefficients these are.

    told (F + 1, n), told_own, told_few (n, n): with evidence y (F,), the mean of the photos', y' = (y, 1) @ told is who
    is expected behind one photo's, and y' @ (told_own + told_few / T) is added. None: without evidence.
    """

    own: np.ndarray
    few: np.ndarray
    face: str
    told: np.ndarray | None = None
    told_own: np.ndarray | None = None
    told_few: np.ndarray | None = None

    def expected(self, identity: np.ndarray, photos: int, evidence: np.ndarray | None = None) -> np.ndarray:
        """(n,) of a fit to `photos` photos, and their mean evidence (F,) -> (n,) float64. ValueError for another number
        of coefficients, or evidence that is missing or another."""
        if np.shape(identity) != self.own.shape[:1]:
            raise ValueError(f"the calibration is of {len(self.own)} coefficients, received {np.shape(identity)}")
        found = np.asarray(identity, np.float64) @ (self.own + self.few / photos)
        if self.told is None:
            return found
        if evidence is None or np.shape(evidence) != (len(self.told) - 1,):
            raise ValueError(f"the calibration is of {len(self.told) - 1} numbers of evidence, received "
                             f"{np.shape(evidence) if evidence is not None else 'none'}")
        return found + one_photo(self.told, evidence) @ (self.told_own + self.told_few / photos)


def one_photo(told: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    """Who is expected behind evidence (..., F), by a map (F + 1, n) whose last row is the constant: (..., n)."""
    return np.asarray(evidence, np.float64) @ told[:-1] + told[-1]


def write_calibration(folder: Path, calibration: Calibration) -> Path:
    """FOLDER/calibration.npz, float16 -> its path."""
    maps = {name: getattr(calibration, name) for name in ("own", "few", *TOLD)}
    arrays = {"version": np.array(VERSION), "face": np.array(calibration.face),
              **{name: values.astype(np.float16) for name, values in maps.items() if values is not None}}

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
            told = [np.asarray(stored[name], np.float64) for name in (TOLD if TOLD[0] in stored.files else ())]
    except (OSError, KeyError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: holds no calibration of this program ({error})") from None
    if version != VERSION or own.ndim != 2 or own.shape[0] != own.shape[1] or own.shape != few.shape \
            or not (np.isfinite(own).all() and np.isfinite(few).all()):
        raise ValueError(f"{path}: want version {VERSION} and two finite square matrices of one size, received version "
                         f"{version}, {own.shape} and {few.shape}")
    if told and not (told[0].ndim == 2 and told[0].shape[1:] == own.shape[:1] and told[1].shape == told[2].shape
                     == own.shape and all(np.isfinite(values).all() for values in told)):
        raise ValueError(f"{path}: want a finite map of evidence to {len(own)} coefficients and two square ones, "
                         f"received {', '.join(str(values.shape) for values in told)}")
    return Calibration(own, few, face, *told) if face == model_hash(model or load_face_model()) else None


def told_map(evidence: np.ndarray, truths: np.ndarray, ridge: float) -> np.ndarray:
    """Least squares of truths (M, n) from the evidence (M, F) of one photo each: (F + 1, n), as `one_photo` takes it;
    ridge: of each number's mean square."""
    x = np.pad(np.asarray(evidence, np.float64), ((0, 0), (0, 1)), constant_values=1.0)
    return ridge_solution(x.T @ x, x.T @ np.asarray(truths, np.float64), ridge)


def ridge_calibration(fits: np.ndarray, photos: np.ndarray, truths: np.ndarray, ridge: float, face: str,
                      one_is_right: bool = False, told: np.ndarray | None = None, seen: np.ndarray | None = None
                      ) -> Calibration:
    """Least squares of truths (M, n) from fits (M, n) to `photos` (M,) photos, pulled towards taking the fit as it is.

    ridge         of the fits' mean square, summed over them
    one_is_right  of one photo the fit stays as it is: where it comes from least squares itself
    told, seen    a map of `told_map`, and who is expected behind the photos' mean evidence (M, n), by a map that has
                  not learnt that person: then pulled towards taking this as it is, and the fit for nothing
    ValueError when there is nothing to learn from.
    """
    fits, truths = np.asarray(fits, np.float64), np.asarray(truths, np.float64)
    if not len(fits):
        raise ValueError("nobody to calibrate with")
    count, few = fits.shape[1], 1 / np.asarray(photos, np.float64)[:, None]
    if told is not None:
        seen = np.asarray(seen, np.float64)
        features = np.concatenate([fits, fits * few, seen, seen * few], axis=1)
        pull = ridge * len(fits) * float(np.mean(np.square(seen)))
        normal = features.T @ features + (pull + 1e-9) * np.eye(4 * count)
        parts = np.split(np.linalg.solve(normal, features.T @ (truths - seen)), 4)
        return Calibration(parts[0], parts[1], face, told, np.eye(count) + parts[2], parts[3])
    pull = ridge * len(fits) * float(np.mean(np.square(fits)))
    if one_is_right:
        more = fits * (1 - few)
        change = np.linalg.solve(more.T @ more + (pull + 1e-9) * np.eye(count), more.T @ (truths - fits))
        return Calibration(np.eye(count) + change, -change, face)
    features = np.concatenate([fits, fits * few], axis=1)
    start = np.concatenate([np.eye(count), np.zeros((count, count))])
    normal = features.T @ features + (pull + 1e-9) * np.eye(2 * count)
    change = np.linalg.solve(normal, features.T @ (truths - fits))
    found = start + change
    return Calibration(found[:count], found[count:], face)
