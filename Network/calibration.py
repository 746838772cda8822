"""What a fitted identity says of the true one: a linear map, learnt from people whose truth is known.

A fit believes its network's errors to be random. They are not: a network draws what it is unsure of towards what it has
seen most, some directions more than others. Ridge regression over training people (python -m Network.calibrate) gives
the truth that is to be expected behind a fit, as `Network.solve` does for `compact`. Of `uvnet` with places these tell
more than the fit (Network/evidence.py), and Bayes' rule gives who is expected behind them. The file is
`calibration.npz` in a run or weight folder.
"""
from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from Dataset.atomic import write_atomic
from Dataset.face_model import FaceModel, load_face_model
from Dataset.sidecar import model_hash

FILE, VERSION = "calibration.npz", 2
STORED = {"own": np.float16, "few": np.float16, "told": np.float16, "counts": np.int64}
EXACT = {name: np.int64 if name == "counts" else np.float64 for name in STORED}
LARGEST = 8 * 2**20         # bytes, unpacked


class Calibration(NamedTuple):
    """own, few (n, n) float64: the expected identity behind a fit x (n,) of T photos is x @ (own + few / T); face: hash
    of the face model whose coefficients these are.

    told (K, F + 1, n) float64, counts (K,) int64, rising: in their place, of `uvnet` with places; behind the evidence y
    (F,) of counts[k] photos (y, 1) @ told[k] is expected. Between two counts the map is linear in 1 / T, beyond the
    last it is the last.
    """

    own: np.ndarray | None
    few: np.ndarray | None
    face: str
    told: np.ndarray | None = None
    counts: np.ndarray | None = None

    def expected(self, identity: np.ndarray, photos: int, evidence: np.ndarray | None = None) -> np.ndarray:
        """The identity (n,) fitted to `photos` photos, or, where `told` is, what these tell together (F,), and the fit
        is not looked at -> (n,) float64. ValueError for another number of coefficients, or evidence that is missing or
        another."""
        if self.told is None:
            if np.shape(identity) != self.own.shape[:1]:
                raise ValueError(f"the calibration is of {len(self.own)} coefficients, received {np.shape(identity)}")
            return np.asarray(identity, np.float64) @ (self.own + self.few / photos)
        if evidence is None or np.shape(evidence) != (self.told.shape[1] - 1,):
            received = "none" if evidence is None else np.shape(evidence)
            raise ValueError(f"the calibration is of {self.told.shape[1] - 1} numbers of evidence, received {received}")
        at = float(np.interp(-1 / photos, -1 / self.counts, np.arange(len(self.counts))))
        below, above = int(np.floor(at)), int(np.ceil(at))
        low, high = (behind(self.told[k], evidence) for k in (below, above))
        return low + (at - below) * (high - low)


def behind(told: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    """Who is expected behind evidence (..., F), by a map (F + 1, n) whose last row is the constant: (..., n)."""
    return np.asarray(evidence, np.float64) @ told[:-1] + told[-1]


def write_calibration(folder: Path, calibration: Calibration) -> Path:
    """FOLDER/calibration.npz, float16 -> its path."""
    known = {name: getattr(calibration, name) for name in STORED}
    arrays = {"version": np.array(VERSION), "face": np.array(calibration.face),
              **{name: values.astype(STORED[name]) for name, values in known.items() if values is not None}}

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
            found = {name: stored[name].astype(exact, casting="safe") for name, exact in EXACT.items()
                     if name in stored.files}
    except (OSError, KeyError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: holds no calibration of this program ({error})") from None
    if version != VERSION and (version != 1 or "told" in found):       # version 1 told in another way
        raise ValueError(f"{path}: want version {VERSION}, received {version}; make it anew with "
                         "python -m Network.calibrate")
    if not (_square(found) or _told(found)):
        received = ", ".join(f"{name} {array.shape}" for name, array in found.items()) or "neither"
        raise ValueError(f"{path}: want two finite square matrices of one size, or finite maps (K, F + 1, n) of K "
                         f"rising counts, received {received}")
    found = {"own": None, "few": None, **found}
    return Calibration(face=face, **found) if face == model_hash(model or load_face_model()) else None


def _square(found: dict[str, np.ndarray]) -> bool:
    """Whether these are a calibration of fits."""
    own, few = found.get("own"), found.get("few")
    return set(found) == {"own", "few"} and own.ndim == 2 and own.shape == few.shape == own.shape[::-1] \
        and all(np.isfinite(array).all() for array in found.values())


def _told(found: dict[str, np.ndarray]) -> bool:
    """Whether these are a calibration of evidence."""
    told, counts = found.get("told"), found.get("counts")
    return set(found) == {"told", "counts"} and told.ndim == 3 and 0 not in told.shape \
        and counts.shape == told.shape[:1] and counts[0] >= 1 and (np.diff(counts) > 0).all() \
        and np.isfinite(told).all()


class World(NamedTuple):
    """How people move evidence: middle (F,) without any coefficient, shown (n, F) by a unit of each, noise (F, F) the
    covariance of what is left of as many people, float64."""

    middle: np.ndarray
    shown: np.ndarray
    noise: np.ndarray
    people: int


def world_of(evidence: np.ndarray, truths: np.ndarray, people: int) -> World:
    """Least squares of evidence (M, F) from the truths (M, n) of so many people, with a little ridge (1 a coefficient,
    as one row of it would be). ValueError when there is nothing to learn from."""
    evidence, truths = np.asarray(evidence, np.float64), np.asarray(truths, np.float64)
    if not len(evidence):
        raise ValueError("nobody to calibrate with")
    centred = truths - truths.mean(axis=0)
    shown = np.linalg.solve(centred.T @ centred + np.eye(truths.shape[1]), centred.T @ evidence)
    middle = evidence.mean(axis=0) - truths.mean(axis=0) @ shown
    left = evidence - middle - truths @ shown
    return World(middle, shown, left.T @ left / len(left), people)


def told_map(world: World, pull: np.ndarray) -> np.ndarray:
    """Who is expected behind evidence in such a world: (F + 1, n) float64, as `behind` takes it.

    Identities are standard normal, evidence is linear in them with normal noise of any covariance: Bayes' rule gives a
    linear map (Bishop 2006, equations 2.113 to 2.117). It errs a little less than ridge regression of the truths from
    as much evidence (docs/results.md). pull (F,): added to the noise's variances, against chance.
    """
    count = len(world.shown)
    # what so many coefficients explain of their own people is too much
    noise = world.noise * (world.people / max(world.people - count, 1)) + np.diag(pull + 1e-9)
    gain = np.linalg.solve(noise, world.shown.T)
    found = gain @ np.linalg.inv(np.eye(count) + world.shown @ gain)
    return np.concatenate([found, -(world.middle @ found)[None]])


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
    count, few = fits.shape[1], 1 / np.asarray(photos, np.float64)[:, None]
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
