"""The truth behind a fit (Network/calibration.py):  python -m Network.calibrate RUN SHARDS [--people 1000]

For networks whose answers are fitted, and for `coarse`, whose photos' identities are averaged: each training person's
pictures are looked at and fitted, the first, the first two and so on; the true identities give the map by ridge
regression. Of `uvnet` with places nothing is fitted: what these tell gives the map, by Bayes' rule. People of the
lowest numbers stay held out as in training; they choose the ridge. RUN, a run or weight folder, gets calibration.npz,
which demo.py, evaluate.py and Network.pack find there; one that is there is not looked at.
"""
from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

from Dataset.face_model import FaceModel, load_face_model
from Dataset.images import minmax
from Dataset.representations.points import encode
from Dataset.shards import Shards, open_shards
from Dataset.sidecar import model_hash
from Dataset.transforms import umeyama
from Network.calibration import Calibration, ridge_calibration, told_map, world_of, write_calibration
from Network.checkpoints import CHECKPOINTS
from Network.coarse_stream import identity_of, iterated_of, photo_faces
from Network.evidence import triangulated, with_evidence
from Network.fitted import FITTERS, MOST_PHOTOS
from Network.flags import exit_code
from Network.loading import Loaded, load_model
from Network.predict import NoFace
from Network.streaming import Graph

RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 10.0, 1e6)     # the last: the fit is taken as it is
TOLD_RIDGES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.4, 1.0, 3.0)      # of the noise's variances
SIDE = 32           # of the ordered grid on which errors are measured


class Fits(NamedTuple):
    """fits, truths (M, n) float64, photos (M,) int64: of each person a row of one photo, then of more."""

    fits: np.ndarray
    truths: np.ndarray
    photos: np.ndarray


class Told(NamedTuple):
    """evidence: of each person (T, F), T that person's photos that show a face; truths (P, n) float64."""

    evidence: list[np.ndarray]
    truths: np.ndarray

    def rows(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """What photos tell together, count at a time: (M, F'), and truths (M, n). Of a person with more photos each
        `count` of them that follow one another, round the end."""
        found = [(triangulated(np.roll(person, -start, axis=0)[:count]), truth)
                 for person, truth in zip(self.evidence, self.truths) if len(person) >= count
                 for start in range(len(person) if len(person) > count else 1)]
        return tuple(np.stack(column) for column in zip(*found))


def fits_of(loaded: Loaded, shards: Shards, people: np.ndarray,
            progress: Callable[..., Any] = lambda items, total: items) -> Fits:
    """People's pictures as the network sees them, fitted, or those of `coarse` averaged, without a calibration.
    ValueError when no picture of anybody shows a face."""
    coarse = loaded.config["network"] == "coarse"
    fitter, rows = None if coarse else FITTERS[loaded.config["network"]](None), []
    iterated = iterated_of(loaded) if coarse else None
    loaded = loaded._replace(model=Graph(loaded.model))
    for person in progress(people, total=len(people)):
        images, truth = _pictures(shards, person)
        readings, state = [], None
        if coarse:
            faces = [face for face in photo_faces(iterated, images[None])[0] if np.isfinite(face).all()]
            rows += [(identity_of(faces[:t + 1]), truth, t + 1) for t in range(len(faces))]
            continue
        for output in loaded.answers(images[None])[0]:
            with contextlib.suppress(NoFace):
                readings.append(fitter.read(output))
        for count in sorted({1, 2, len(readings)} & set(range(1, len(readings) + 1))):
            identity, state = fitter.identity(readings[:count], state)
            rows.append((np.array(identity, np.float64), truth, count))
    if not rows:
        raise ValueError(f"{loaded.source}: sees no face in any picture of {shards.path}")
    return Fits(*(np.stack(column) for column in zip(*rows)))


def told_of(loaded: Loaded, telling: Any, shards: Shards, people: np.ndarray,
            progress: Callable[..., Any] = lambda items, total: items) -> Told:
    """What the places of people's pictures tell; telling: of `with_evidence`. ValueError when no picture of anybody
    shows a face."""
    fitter, evidence, truths = FITTERS[loaded.config["network"]](None), [], []
    loaded = loaded._replace(telling=Graph(telling))
    for person in progress(people, total=len(people)):
        images, truth = _pictures(shards, person)
        outputs, told = loaded.told(images[None])
        seen = []
        for t, output in enumerate(outputs[0]):
            with contextlib.suppress(NoFace):
                fitter.read(output)
                seen.append(t)
        if seen:
            evidence.append(told[0, seen])
            truths.append(truth)
    if not evidence:
        raise ValueError(f"{loaded.source}: sees no face in any picture of {shards.path}")
    return Told(evidence, np.stack(truths))


def _pictures(shards: Shards, person: int) -> tuple[np.ndarray, np.ndarray]:
    """A person's pictures (T, S, S, 3) float32 in [0, 1] and identity (n,) float64."""
    images = np.stack([minmax(image) for image in shards.gather("images", [person])[0]])
    return images, np.asarray(shards.gather("identity", [person])[0], np.float64)


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
    def expected(map_: Calibration, rows: np.ndarray) -> np.ndarray:
        return np.stack([map_.expected(validation.fits[i], validation.photos[i]) for i in rows])
    last = np.flatnonzero(np.append(np.diff(validation.photos) <= 0, True))
    first = np.flatnonzero(validation.photos == 1)
    tried = {ridge: ridge_calibration(training.fits, training.photos, training.truths, ridge, model_hash(model),
                                      one_is_right) for ridge in RIDGES}
    errors = {ridge: shape_error(expected(found, last), validation.truths[last], model)
              for ridge, found in tried.items()}
    best = min(errors, key=errors.get)
    about = {"ridge": best, "rows": len(training.fits)}
    for name, rows in (("one", first), ("all", last)):
        about[f"{name}_before"] = shape_error(validation.fits[rows], validation.truths[rows], model)
        about[f"{name}_after"] = shape_error(expected(tried[best], rows), validation.truths[rows], model)
    return tried[best], about


def calibrate_told(training: Told, validation: Told, model: FaceModel) -> tuple[Calibration, dict[str, Any]]:
    """The maps (`told_map`) of one photo, two, and as many as half of the people have, whose ridge serves the
    validation people best, all their photos together, and what they did: shape errors of the mean face's for one photo
    and for all."""
    photos = sorted(map(len, training.evidence))
    most = min(photos[len(photos) // 2], MOST_PHOTOS)
    counts = np.array(sorted({1, min(2, most), most}))
    worlds = [world_of(*training.rows(count), len(photos)) for count in counts]
    spread = np.diag(worlds[0].noise)       # of one photo, for every count: a pull that does not shrink with the noise
    one, every = ([(len(person[:most]), triangulated(person[:most])) for person in validation.evidence]
                  for most in (1, MOST_PHOTOS))

    def error(found: Calibration, gathered: list[tuple[int, np.ndarray]]) -> float:
        expected = [found.expected(np.zeros(0), *telling) for telling in gathered]
        return shape_error(np.stack(expected), validation.truths, model)

    tried = {ridge: Calibration(None, None, model_hash(model),
                                np.stack([told_map(world, ridge * spread) for world in worlds]), counts)
             for ridge in TOLD_RIDGES}
    errors = {ridge: error(found, every) for ridge, found in tried.items()}
    best = min(errors, key=errors.get)
    return tried[best], {"ridge": best, "rows": sum(photos), "one_after": error(tried[best], one),
                         "all_after": errors[best]}


def calibrate_run(run: Path, shards: Shards, which: str = "best_validation", people: int = 1000, held: int = 64,
                  progress: Callable[..., Any] = lambda items, total: items) -> dict[str, Any]:
    """Write RUN/calibration.npz -> what `calibrate` or `calibrate_told` says of it.

    people: training people, those that follow the held-out ones; held: of the held-out people, how many choose the
    ridge.

    ValueError when the run's network is not fitted, was trained on other shards, or nobody is left on either side.
    """
    loaded = load_model(run, which, calibrated=False)
    if loaded.config.get("network") not in (*FITTERS, "coarse"):
        raise ValueError(f"{run}: only {', '.join(FITTERS)} are fitted and coarse is averaged; this is another network")
    if loaded.config.get("shards", {}).get("seed") != shards.settings.seed or shards.size != loaded.image_size:
        raise ValueError(f"{shards.path}: not the shards (seed, size) that {run} was trained on")
    below = int(loaded.config.get("data", {}).get("validation_people", 128))
    inside = np.flatnonzero(shards.people < below)[:held]
    outside = np.flatnonzero(shards.people >= below)[:people]
    if not len(inside) or not len(outside):
        raise ValueError(f"{shards.path}: people on both sides of number {below} are needed")
    # pix2pix and vrn find places, too; the person is to come from the surface or volume that they are about
    telling = with_evidence(loaded.model) if loaded.config["network"] == "uvnet" else None
    if telling is not None:
        known = [told_of(loaded, telling, shards, some, progress) for some in (outside, inside)]
        found, about = calibrate_told(*known, load_face_model())
    else:
        known = [fits_of(loaded, shards, some, progress) for some in (outside, inside)]
        found, about = calibrate(*known, load_face_model(), loaded.config["network"] == "coarse")
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
            before = f"{about[f'{name}_before']:.3f} -> " if f"{name}_before" in about else ""
            print(f"{words} {before}{about[f'{name}_after']:.3f}")
    return exit_code("python -m Network.calibrate", work, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
