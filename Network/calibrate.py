"""The truth behind a fit (Network/calibration.py):  python -m Network.calibrate RUN SHARDS [--people 1000]

For networks whose answers are fitted, and for `coarse`, whose photos' identities are averaged: each training person's
pictures are looked at and fitted, the first, the first two and so on; the true identities give the map by ridge
regression. People of the lowest numbers stay held out as in training; they choose the ridge. RUN, a run or weight
folder, gets calibration.npz, which demo.py, evaluate.py and Network.pack find there.
"""
from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np

from Dataset.face_model import FaceModel, load_face_model
from Dataset.images import minmax
from Dataset.representations.points import encode
from Dataset.shards import Shards, open_shards
from Dataset.sidecar import model_hash
from Dataset.transforms import umeyama
from Network.calibration import Calibration, one_photo, ridge_calibration, told_map, write_calibration
from Network.checkpoints import CHECKPOINTS
from Network.coarse_stream import identity_of, iterated_of, photo_faces
from Network.evidence import with_evidence
from Network.fitted import FITTERS
from Network.flags import exit_code
from Network.loading import Loaded, load_model
from Network.predict import NoFace
from Network.streaming import Graph

FOLDS = 4           # of the people, when it is learnt what to make of what evidence tells
TOLD_RIDGES = (0.03, 0.1, 0.3, 1.0)                 # of each number's mean square
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 10.0, 1e6)     # the last: the fit is taken as it is
SIDE = 32           # of the ordered grid on which errors are measured


class Fits(NamedTuple):
    """fits, truths (M, n) float64, photos (M,) int64: of each person a row of one photo, then of more. Of a network
    that finds places also evidence (M, F), the mean of those photos', singles (K, F), that of every photo alone, and
    whose (K,) int64 that is, by the persons' order."""

    fits: np.ndarray
    truths: np.ndarray
    photos: np.ndarray
    evidence: np.ndarray | None = None
    singles: np.ndarray | None = None
    whose: np.ndarray | None = None

    def person(self) -> np.ndarray:
        """(M,) int64: whose row it is, by their order."""
        return np.cumsum(self.photos == 1) - 1

    def alone(self, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Evidence (k, F) and truths (k, n) of the single photos of some persons, `among` (persons,) bool."""
        chosen = among[self.whose]
        return self.singles[chosen], self.truths[self.photos == 1][self.whose[chosen]]


def fits_of(loaded: Loaded, shards: Shards, people: np.ndarray,
            progress: Callable[..., Any] = lambda items, total: items) -> Fits:
    """People's pictures as the network sees them, fitted, or those of `coarse` averaged, without a calibration.
    ValueError when no picture of anybody shows a face."""
    coarse = loaded.config["network"] == "coarse"
    fitter, rows, singles = None if coarse else FITTERS[loaded.config["network"]](None), [], []
    iterated = iterated_of(loaded) if coarse else None
    telling = None if coarse else with_evidence(loaded.model)
    loaded = loaded._replace(model=Graph(loaded.model), telling=telling and Graph(telling))
    for person in progress(people, total=len(people)):
        images = np.stack([minmax(image) for image in shards.gather("images", [person])[0]])
        truth, readings, state = shards.gather("identity", [person])[0], [], None
        if coarse:
            faces = [face for face in photo_faces(iterated, images[None])[0] if np.isfinite(face).all()]
            rows += [(identity_of(faces[:t + 1]), np.asarray(truth, np.float64), t + 1) for t in range(len(faces))]
            continue
        outputs, told = loaded.told(images[None])
        seen = []
        for t, output in enumerate(outputs[0]):
            with contextlib.suppress(NoFace):
                readings.append(fitter.read(output, *([] if told is None else [told[0, t]])))
                seen.append(t)
        for count in sorted({1, 2, len(readings)} & set(range(1, len(readings) + 1))):
            identity, state = fitter.identity(readings[:count], state)
            rows.append((np.array(identity, np.float64), np.asarray(truth, np.float64), count,
                         *([] if told is None else [told[0, seen[:count]].mean(axis=0)])))
        if told is not None:
            singles.append(told[0, seen])
    if not rows:
        raise ValueError(f"{loaded.source}: sees no face in any picture of {shards.path}")
    columns = [np.stack(column) for column in zip(*rows)]
    if not singles:
        return Fits(*columns)
    sizes = [len(some) for some in singles if len(some)]
    return Fits(*columns, np.concatenate(singles), np.repeat(np.arange(len(sizes)), sizes))


def shape_error(identities: np.ndarray, truths: np.ndarray, model: FaceModel) -> float:
    """Mean squared distance of neutral faces after a similarity, of the mean face's."""
    def distance(face: np.ndarray, truth: np.ndarray) -> float:
        return float(np.square(umeyama(face, truth).apply(face) - truth).sum(-1).mean())

    def grid(identity: np.ndarray) -> np.ndarray:
        return encode(model.shape(identity), SIDE, model).reshape(-1, 3)
    mean, faces = encode(model.mean, SIDE, model).reshape(-1, 3), [grid(truth) for truth in truths]
    ours = np.mean([distance(grid(identity), face) for identity, face in zip(identities, faces)])
    return float(ours / np.mean([distance(mean, face) for face in faces]))


def calibrate(training: Fits, validation: Fits, model: FaceModel, one_is_right: bool = False
              ) -> tuple[Calibration, dict[str, Any]]:
    """The map (`ridge_calibration`) whose ridge serves the validation people best, all their photos together, and what
    it did: shape errors of the mean face's, before and after, for one photo and for all."""
    told = means = None
    evidence: Sequence[np.ndarray | None] = [None] * len(validation.fits)
    if training.evidence is not None:
        everybody, person = np.ones(training.person()[-1] + 1, bool), training.person()
        maps = {ridge: told_map(*training.alone(everybody), ridge) for ridge in TOLD_RIDGES}
        one = validation.photos == 1
        best = min(maps, key=lambda ridge: shape_error(one_photo(maps[ridge], validation.evidence[one]),
                                                       validation.truths[one], model))
        told, evidence, means = maps[best], validation.evidence, np.zeros_like(training.truths)
        for fold in range(FOLDS):       # whom a map has learnt it knows too well
            others = np.arange(len(everybody)) % FOLDS != fold
            rows = ~others[person]
            means[rows] = one_photo(told_map(*training.alone(others), best), training.evidence[rows])

    def expected(map_: Calibration, rows: np.ndarray) -> np.ndarray:
        return np.stack([map_.expected(validation.fits[i], validation.photos[i], evidence[i]) for i in rows])
    last = np.flatnonzero(np.append(np.diff(validation.photos) <= 0, True))
    first = np.flatnonzero(validation.photos == 1)
    tried = {ridge: ridge_calibration(training.fits, training.photos, training.truths, ridge, model_hash(model),
                                      one_is_right, told, means)
             for ridge in RIDGES}
    errors = {ridge: shape_error(expected(found, last), validation.truths[last], model)
              for ridge, found in tried.items()}
    best = min(errors, key=errors.get)
    about = {"ridge": best, "rows": len(training.fits)}
    for name, rows in (("one", first), ("all", last)):
        about[f"{name}_before"] = shape_error(validation.fits[rows], validation.truths[rows], model)
        about[f"{name}_after"] = shape_error(expected(tried[best], rows), validation.truths[rows], model)
    return tried[best], about


def calibrate_run(run: Path, shards: Shards, which: str = "best_validation", people: int = 1000, held: int = 64,
                  progress: Callable[..., Any] = lambda items, total: items) -> dict[str, Any]:
    """Write RUN/calibration.npz -> what `calibrate` says of it. people: training people, those that follow the held-out
    ones; held: of the held-out people, how many choose the ridge.

    ValueError when the run's network is not fitted, was trained on other shards, or nobody is left on either side.
    """
    loaded = load_model(run, which)
    if loaded.config.get("network") not in (*FITTERS, "coarse"):
        raise ValueError(f"{run}: only {', '.join(FITTERS)} are fitted and coarse is averaged; this is another network")
    if loaded.config.get("shards", {}).get("seed") != shards.settings.seed or shards.size != loaded.image_size:
        raise ValueError(f"{shards.path}: not the shards (seed, size) that {run} was trained on")
    below = int(loaded.config.get("data", {}).get("validation_people", 128))
    inside = np.flatnonzero(shards.people < below)[:held]
    outside = np.flatnonzero(shards.people >= below)[:people]
    if not len(inside) or not len(outside):
        raise ValueError(f"{shards.path}: people on both sides of number {below} are needed")
    found, about = calibrate(fits_of(loaded, shards, outside, progress), fits_of(loaded, shards, inside, progress),
                             load_face_model(), loaded.config["network"] == "coarse")
    write_calibration(run, found)
    return about


def main(argv: list[str] | None = None) -> int:
    from tqdm import tqdm

    parser = argparse.ArgumentParser(prog="python -m Network.calibrate", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("shards", metavar="SHARDS", type=Path)
    parser.add_argument("--checkpoint", choices=CHECKPOINTS, default="best_validation")
    parser.add_argument("--people", type=int, default=1000, metavar="N", help="of the training people (1000)")
    parser.add_argument("--held", type=int, default=64, metavar="N", help="of those held out (64)")

    def work(arguments: argparse.Namespace) -> None:
        if arguments.people < 1 or arguments.held < 1:
            raise ValueError(f"--people and --held must be at least 1, got {arguments.people} and {arguments.held}")
        about = calibrate_run(arguments.run, open_shards(arguments.shards, partial=True), arguments.checkpoint,
                              arguments.people, arguments.held,
                              lambda items, total: tqdm(items, total=total, disable=None))
        print(f"{arguments.run}: ridge {about['ridge']:g}; squared error of held-out people, of the mean face's:")
        for name, words in (("one", "one photo "), ("all", "all photos")):
            print(f"{words} {about[f'{name}_before']:.3f} -> {about[f'{name}_after']:.3f}")
    return exit_code("python -m Network.calibrate", work, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
