"""The read-out's model, learnt from synthetic subjects:  python -m Network.readout.fit RUN SHARDS [--cache FOLDER]

RUN, a run or weight folder of `compact`, gets keypoint_model.npz. Its network finds the keypoints in every image of
SHARDS, each way round (about 20 ms); how identity and expression move them is least squares over the training
subjects, and Bayes' rule gives the maps (Network/readout/gaussian.py). The subjects of the lowest numbers are held out
and choose the regularisation. --cache keeps the keypoints, a file a shard, so that a second call goes on where one was
stopped.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple

import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.geometry.transforms import umeyama
from Dataset.io.archives.npz import read_npz
from Dataset.io.atomic import write_atomic
from Dataset.io.command import one_line
from Dataset.io.images import minmax
from Dataset.representations.coefficients import IDENTITY, SHAPE
from Dataset.synthesis.shards import Shards, open_shards
from Dataset.synthesis.sidecar import model_hash
from Network.config.run_config import file_hash
from Network.readout.canonical import KEYPOINTS, Sums, features_of, observe, sums_of
from Network.readout.estimate import FaceKeypoints, face_keypoints, yaw_of, yaw_weights
from Network.readout.gaussian import LinearGaussian, Moments, Prior, apply, learn, moments_of, posterior, total
from Network.readout.mirrored import both_ways
from Network.readout.model import YAWS, KeypointModel, read_keypoint_model, weights_file, write_keypoint_model
from Network.readout.outliers import precision_of

Keypoints = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
RIDGES = (0.05, 0.1, 0.2, 0.4)          # of the noise's variances, added to them: what real photos add is not there
HELD_OUT = 128                          # subjects of the lowest numbers
COUNTS = (2, 4, 8)                      # photos that a map of the subject is learnt for
CHUNK = 64                              # subjects at a time


class Part(NamedTuple):
    """Some subjects (P) with T photos each. numbers (P,), keypoints (P, T, 256, 2) crop sides, log_variance (P, T,
    256), identity (P, 200), expression (P, T, 84); float32."""

    numbers: np.ndarray
    keypoints: np.ndarray
    log_variance: np.ndarray
    identity: np.ndarray
    expression: np.ndarray

    def coefficients(self) -> np.ndarray:
        """(P * T, 284) float64, photo by photo."""
        photos = self.expression.shape[1]
        both = np.concatenate([np.repeat(self.identity, photos, axis=0),
                               self.expression.reshape(len(self.identity) * photos, -1)], axis=1)
        return both.astype(np.float64)

    def take(self, rows: np.ndarray) -> Part:
        """Those subjects."""
        return Part(*(array[rows] for array in self))


def parts_of(shards: Shards, find: Keypoints, cache: Path | None = None,
             progress: Callable[..., Any] = lambda items, total: items) -> Iterator[Part]:
    """The keypoints of all images, CHUNK subjects at a time, from the cache where they are there."""
    for first in progress(range(0, len(shards), CHUNK), total=-(-len(shards) // CHUNK)):
        rows = np.arange(first, min(first + CHUNK, len(shards)))
        numbers = shards.subjects[rows]
        file = cache / f"averaged_{numbers[0]}_{numbers[-1]}.npz" if cache else None
        if file is not None and file.is_file():
            found = _stored(file, (len(rows), shards.images))
        else:
            images = shards.gather("images", rows)
            found = find(np.stack([minmax(image) for image in images.reshape(-1, *images.shape[2:])]))
            found = tuple(array.reshape(*images.shape[:2], *array.shape[1:]) for array in found)
            if file is not None:
                write_atomic(file, lambda temporary: _save(temporary, *found))
        yield Part(numbers, *found, shards.gather("identity", rows),
                   shards.gather("expression", np.repeat(rows, shards.images),
                                 np.tile(np.arange(shards.images), len(rows))).reshape(len(rows), shards.images, -1))


def _stored(path: Path, count: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """What `_save` wrote, of so many subjects and photos of each. ValueError, naming the file, for anything else."""
    stored = read_npz(path, what="keypoints", names=("keypoints", "log_variance"))
    wanted = {"keypoints": (*count, KEYPOINTS, 2), "log_variance": (*count, KEYPOINTS)}
    for name, shape in wanted.items():
        found = stored.get(name)
        if found is None or found.shape != shape or found.dtype.kind != "f":
            raise ValueError(f"{path}: {name} must be {shape} of floats, received "
                             f"{None if found is None else (found.shape, found.dtype)}")
    return stored["keypoints"], stored["log_variance"]


def _save(path: Path, keypoints: np.ndarray, log_variance: np.ndarray) -> None:
    with path.open("wb") as file:
        np.savez(file, keypoints=keypoints, log_variance=log_variance)


def joined(photos: Sums, count: int, start: int = 0) -> np.ndarray:
    """(P, F): features of `count` photos that follow one another from `start`, round the end."""
    which = (start + np.arange(count)) % photos.camera.shape[1]
    return features_of(Sums(*(array[:, which].sum(axis=1) for array in photos[:3]), count))


class Learnt(NamedTuple):
    """Moments of the features: of one photo, weighted for each of YAWS; of so many photos, by count; and how many
    subjects stand behind them; precision (K, K) of the offsets as photos show them."""

    photo: list[Moments]
    subject: dict[int, Moments]
    subjects: int
    precision: np.ndarray


def learnt(parts: list[Part], face: FaceKeypoints) -> Learnt:
    """The statistics of the training subjects. ValueError for no subjects, or fewer than two photos of each."""
    if not parts or parts[0].keypoints.shape[1] < min(COUNTS):
        raise ValueError(f"the read-out is learnt of subjects with at least {min(COUNTS)} photos each, received "
                         + (f"{parts[0].keypoints.shape[1]}" if parts else "none"))
    photo: list[list[Moments]] = [[] for _ in YAWS]
    subject: dict[int, list[Moments]] = {}
    second, coordinates = 0.0, 0
    for part in parts:
        seen = observe(part.keypoints, face.template)
        sums, yaw = sums_of(seen, part.log_variance), yaw_of(seen)
        fields = (seen.offsets @ np.swapaxes(seen.rows, -1, -2)).reshape(-1, *part.keypoints.shape[2:])
        flat_fields = fields.transpose(1, 0, 2).reshape(fields.shape[1], -1)
        second, coordinates = second + flat_fields @ flat_fields.T, coordinates + flat_fields.shape[1]
        features, weights = features_of(sums), yaw_weights(yaw)
        flat, truth = features.reshape(-1, features.shape[-1]), part.coefficients()
        for which, kept in enumerate(photo):
            weight = weights[..., which].ravel()
            some, root = weight > 0, np.sqrt(weight[weight > 0])[:, None]
            x = np.concatenate([truth[some], np.ones((some.sum(), 1))], axis=1) * root
            y = flat[some] * root
            kept.append(Moments(x.T @ x, x.T @ y, y.T @ y, weight.sum()))
        images = part.keypoints.shape[1]
        for count in COUNTS:
            if count <= images:
                for start in range(0, images, count):
                    subject.setdefault(count, []).append(moments_of(joined(sums, count, start), part.identity))
    return Learnt([total(kept) for kept in photo], {count: total(kept) for count, kept in subject.items()},
                  sum(len(part.identity) for part in parts), precision_of(second / coordinates, face.template.points))


def expression_prior(parts: list[Part]) -> Prior:
    """Mean and covariance of identity (standard normal, by the face model) and of the training photos' expressions."""
    expressions = np.concatenate([part.expression.reshape(-1, part.expression.shape[-1]) for part in parts])
    mean, covariance = np.zeros(SHAPE.stop), np.eye(SHAPE.stop)
    mean[IDENTITY.stop:] = expressions.mean(axis=0)
    covariance[IDENTITY.stop:, IDENTITY.stop:] = np.cov(expressions.T) + 1e-6 * np.eye(expressions.shape[1])
    return Prior(mean, covariance)


def squared_error(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared distance of point sets (M, K, 3) to (M, K, 3) after the similarity that brings each nearest."""
    return float(np.mean([np.square(umeyama(a, b).apply(a) - b).sum(-1).mean() for a, b in zip(found, truth)]))


def choose(models: list[LinearGaussian], prior: Prior, error: Callable[[list[np.ndarray]], float]
           ) -> tuple[list[np.ndarray], list[np.ndarray], float]:
    """Maps and precisions of models with the ridge that gives the least error(maps), and that ridge."""
    tried = {}
    for ridge in RIDGES:
        found = [posterior(model, prior, ridge * np.diag(model.noise)) for model in models]
        tried[ridge] = ([pair[0] for pair in found], [pair[1] for pair in found])
    best = min(RIDGES, key=lambda ridge: error(tried[ridge][0]))
    return *tried[best], best


def fit(training: list[Part], held: Part, weights: str) -> tuple[KeypointModel, dict[str, Any]]:
    """-> the model and its results on held-out subjects: squared errors as ratio to the mean face, and the ridges."""
    face = face_keypoints(load_face_model())
    sums, prior, truth = learnt(training, face), expression_prior(training), held.coefficients()
    seen = observe(held.keypoints, face.template)
    photos, yaw = sums_of(seen, held.log_variance), yaw_of(seen)
    alone = prior._replace(mean=prior.mean[IDENTITY], covariance=prior.covariance[IDENTITY, IDENTITY])

    def faces(coefficients: np.ndarray) -> np.ndarray:
        padded = np.pad(coefficients, ((0, 0), (0, SHAPE.stop - coefficients.shape[1])))
        return face.mean + (padded @ face.basis).reshape(len(padded), -1, 3)

    neutral, shown = faces(held.identity.astype(np.float64)), faces(truth)
    features, weights_of_yaw = features_of(photos), yaw_weights(yaw).reshape(-1, len(YAWS))
    flat = features.reshape(-1, features.shape[-1])
    photo_models = [learn(moments, prior, int(moments.count)) for moments in sums.photo]

    def photo_coefficients(maps: list[np.ndarray]) -> np.ndarray:
        return sum(weights_of_yaw[:, i:i + 1] * apply(found, flat) for i, found in enumerate(maps))
    photo, precisions, ridge = choose(photo_models, prior,
                                      lambda maps: squared_error(faces(photo_coefficients(maps)), shown))
    best = photo_coefficients(photo)
    about = {"subjects": sums.subjects, "ridge": {"photo": ridge},
             "photo": squared_error(faces(best), shown) / squared_error(faces(0 * best), shown), "subject": {}}
    floor = squared_error(np.broadcast_to(face.mean, neutral.shape), neutral)
    subject = []
    for count, moments in sums.subject.items():
        observed = joined(photos, count)
        maps, _, ridge = choose([learn(moments, alone, sums.subjects)], alone,
                                lambda maps: squared_error(faces(apply(maps[0], observed)), neutral))
        subject.append(maps[0])
        about["ridge"][count] = ridge
        about["subject"][count] = squared_error(faces(apply(maps[0], observed)), neutral) / floor
    conditional = [-np.linalg.solve(p[IDENTITY.stop:, IDENTITY.stop:], p[IDENTITY.stop:, IDENTITY]).T
                   for p in precisions]
    model = KeypointModel(np.stack(subject), np.array(list(sums.subject)), np.stack(photo), np.stack(conditional),
                          sums.precision, model_hash(load_face_model()), weights)
    return model, about


def fit_run(run: Path, shards: Shards, cache: Path | None = None, subjects: int = 0,
            progress: Callable[..., Any] = lambda items, total: items) -> dict[str, Any]:
    """Write RUN/keypoint_model.npz -> the report of `fit`. subjects: training subjects, 0 for all. ValueError when
    no subject is left on either side of the held-out numbers, or RUN is no run or weight folder of `compact`."""
    from Network.readout.finder import keypoint_finder
    weights = file_hash(weights_file(run))
    parts = list(parts_of(shards, both_ways(keypoint_finder(run)), cache, progress))
    all_subjects = Part(*(np.concatenate(column) for column in zip(*parts))) if parts else None
    inside = np.flatnonzero(shards.subjects < HELD_OUT)
    outside = np.flatnonzero(shards.subjects >= HELD_OUT)[:subjects or None]
    if all_subjects is None or not len(inside) or not len(outside):
        raise ValueError(f"{shards.path}: subjects on both sides of number {HELD_OUT} are needed")
    training = [all_subjects.take(outside[i:i + CHUNK]) for i in range(0, len(outside), CHUNK)]
    model, about = fit(training, all_subjects.take(inside), weights)
    write_keypoint_model(Path(run), model)
    read_keypoint_model(Path(run))          # what was written can be read
    return about


@one_line("Network.readout.fit")
def main(argv: list[str] | None = None) -> int:
    from tqdm import tqdm

    parser = argparse.ArgumentParser(prog="python -m Network.readout.fit", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("shards", metavar="SHARDS", type=Path)
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="of keypoints that were found before")
    parser.add_argument("--subjects", type=int, default=0, metavar="N", help="of the training subjects; 0: all (0)")
    arguments = parser.parse_args(argv)
    if arguments.subjects < 0:
        raise ValueError(f"--subjects must be at least 0, got {arguments.subjects}")
    about = fit_run(arguments.run, open_shards(arguments.shards, partial=True), arguments.cache,
                    arguments.subjects, lambda items, total: tqdm(items, total=total, disable=None))
    print(f"{arguments.run}: {about['subjects']} subjects, ridges {about['ridge']}; squared error of held-out "
          f"subjects, ratio to the mean face: photo {about['photo']:.3f}, subject "
          + ", ".join(f"{count} photos {error:.3f}" for count, error in about["subject"].items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
