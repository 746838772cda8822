"""A network evaluated on the subjects of shards: beside the mean face, and over the number of images."""
from __future__ import annotations

import math
import time
from argparse import Namespace
from typing import Any, Callable, Mapping, Protocol, Sequence

import numpy as np

from Dataset.geometry.transforms import to_unit_sphere
from Dataset.io.workers import cores
from Evaluation.evaluate_predictions import score_batches
from Evaluation.metrics.curve import error_curve
from Evaluation.metrics.identification import identify
from Evaluation.metrics.landmarks import landmark_nme
from Evaluation.reports.curve import curve_table
from Evaluation.reports.tables import Cell, Table, compared_table


class SubjectSet(Protocol):
    """`Datagenerator.source.SubjectSet`. images(p): subject p's images (T, S, S, 3) uint8 BGR, `count` of them; targets
    (P, N, 3) and constant (N, 3), the mean face, in the unit sphere; digest: of the identities, hex;
    seed: of the shards."""

    images: Callable[[int], np.ndarray]
    count: int
    targets: np.ndarray
    constant: np.ndarray
    digest: str
    seed: int
    in_photo: Callable[[int, int], tuple[np.ndarray, np.ndarray]]
    turned: Callable[[int, int], np.ndarray]
    landmarks: Callable[[int, int], tuple[np.ndarray, np.ndarray]]
    attributes: Callable[[int, int], Mapping[str, str]]


class Reader(Protocol):
    """`Network.inference.base.Predictor`."""

    config: dict[str, Any]
    subject: Callable[[np.ndarray], np.ndarray]
    photo: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None, bool]]
    prefixes: Callable[[np.ndarray], np.ndarray]


def requested_table(subjects: SubjectSet, predictor: Reader, arguments: Namespace, progress: Callable) -> Table:
    """What a command line of `Evaluation.reports.options` asks for: a curve, photos one at a time, or subjects."""
    title, surface = f"{arguments.model} on {arguments.data}", not arguments.no_surface
    title += " (SEEN IN TRAINING: same seed)" if subjects.seed == predictor.config.get("shards", {}).get("seed") else ""
    if arguments.curve:
        return curve_of_subjects(subjects, predictor.prefixes, arguments.orders, arguments.seed, title, progress)
    if arguments.photos:
        return score_photos(subjects, predictor.photo, arguments.images or 2, title, surface, progress)
    return score_subjects(subjects, predictor.subject, arguments.images or 8, title, surface, progress)


def score_subjects(subjects: SubjectSet, subject: Callable[[np.ndarray], np.ndarray], count: int, title: str,
                   surface: bool = True, progress: Callable = lambda subjects, total: subjects) -> Table:
    """Every metric of `score_batches` from the first `count` images of each subject, and identification, each beside
    the mean face's.

    subject  (T, S, S, 3) uint8 BGR -> the neutral face (N, 3), unit sphere
    ValueError unless each subject has `count` images.
    """
    if not 1 <= count <= subjects.count:
        raise ValueError(f"--images must be 1 to {subjects.count}, the images of a subject, got {count}")

    def scores(face: Callable[[int], np.ndarray]):
        numbers = progress(range(len(subjects.targets)), total=len(subjects.targets))
        return score_batches(((face(p), subjects.targets[p][None], [str(p)]) for p in numbers), ordered=True,
                             surface=surface)
    faces: dict[int, np.ndarray] = {}

    def face(index: int) -> np.ndarray:
        faces[index] = subject(subjects.images(index)[:count])
        return faces[index][None]
    table = compared_table(scores(face), scores(lambda p: subjects.constant[None]),
                           f"{_where(subjects, title)}, {count} images each")
    if len(faces) < 2:
        return table
    ours = identify(np.stack([faces[p] for p in range(len(faces))]), subjects.targets)
    floor = identify(np.stack([subjects.constant] * len(faces)), subjects.targets)
    how = "point to point after a similarity, each prediction against every subject's ground truth"
    return table._replace(rows=[
        *table.rows,
        ["genuine_impostor_ratio", ours.ratio, floor.ratio, ours.ratio / floor.ratio, ours.subjects,
         f"mean distance from the own ground truth / from the others'; {how}; 1 for a constant face"],
        ["rank_1", ours.nearest, floor.nearest, math.nan, ours.subjects,
         f"how many predictions are nearest to their own subject; {how}"]])


def score_photos(subjects: SubjectSet, read: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None, bool]],
                 count: int, title: str, surface: bool = True, progress: Callable = lambda subjects, total: subjects,
                 clock: Callable[[], float] = time.perf_counter) -> Table:
    """*This photo's face*: each of the first `count` images of each subject alone, with the expression that it shows,
    where the face is visible (`photo_batch`); beside it the mean face, evaluated at the same points. Then the 68
    landmarks in the image, where the network has them, and the time.

    read   (S, S, 3) uint8 BGR -> the face: (N, 3), an ordered grid, or (M, 3) unordered points of what the image shows;
           the landmarks (68, 2) in normalised coordinates, or None; whether a face is found: where not, the points, the
           mean face's, count, and so does the row `no_face`
    clock  seconds, for the times
    ValueError unless each subject has `count` images.
    """
    if not 1 <= count <= subjects.count:
        raise ValueError(f"--images must be 1 to {subjects.count}, the images of a subject, got {count}")
    pairs = [(p, k) for p in range(len(subjects.targets)) for k in range(count)]
    landmarks: list[np.ndarray | None] = []
    found: list[bool] = []
    seconds: list[float] = []

    def face(subject: int, number: int) -> np.ndarray:
        image = subjects.images(subject)[number]
        begun = clock()
        points, marks, sees = read(image)
        seconds.append(clock() - begun)
        landmarks.append(marks)
        found.append(sees)
        return points

    def scores(face: Callable[[int, int], np.ndarray]):
        def batches():
            for p, k in progress(pairs, total=len(pairs)):
                yield photo_batch(subjects, p, k, face(p, k))
        return score_batches(batches(), ordered=False, surface=surface)
    table = compared_table(scores(face), scores(lambda p, k: subjects.constant),
                           f"{_where(subjects, title)}, from one photo, {count} of each, the visible part of the face")
    timing = ["ms_per_photo", 1000 * float(np.median(seconds)), math.nan, math.nan, len(seconds),
              f"from an image to its face, network and fit; median, {cores()} cores"]
    rows = landmark_rows(landmarks, [subjects.landmarks(p, k) for p, k in pairs])
    missed: list[Cell] = ["no_face", found.count(False), math.nan, math.nan, len(found),
                          "photos in which the model finds no face: they count with the mean face"]
    return table._replace(rows=[*table.rows, *rows, missed, timing])


def photo_batch(subjects: SubjectSet, subject: int, number: int, cloud: np.ndarray) -> tuple:
    """A predicted face of one image and its ground truth, as `score_batches` takes them: (1, N, 3), (1, M, 3), its
    name, and the whole true face.

    cloud  an ordered grid in the head frame, of which the points that the image shows count; or, of another length,
           unordered points in the camera's upright frame, into which the ground truth is then rotated

    The prediction is measured against the whole true face: no network knows where the visible part ends, so correct
    points beyond it are no errors. In the other direction only the visible part must be found.
    """
    truth, seen = subjects.in_photo(subject, number)
    if len(cloud) == len(seen):
        cloud = cloud[seen]
    else:
        truth = truth @ subjects.turned(subject, number).T
    if np.isfinite(cloud).all():            # score_batches lists the others as skipped
        cloud = to_unit_sphere(cloud)[0]
    shown, move = to_unit_sphere(truth[seen])
    return cloud[None], shown[None], [f"{subject}/{number}"], [move.apply(truth)]


def landmark_rows(found: Sequence[np.ndarray | None], targets: Sequence[tuple[np.ndarray, np.ndarray]]
                  ) -> list[list[Cell]]:
    """Rows for `score_photos`: `landmarks` over all 68, `landmarks_seen` over those that are visible.

    found    (68, 2) of each image; None, or not finite, where the network has none. [] where it never has any
    targets  the true ones (68, 2), hidden ones too, in the same unit, and which are visible (68,) bool

    The constant baseline is each landmark's mean position over all images. It also replaces missing predictions.
    """
    found = [marks if marks is not None and np.isfinite(marks).all() else None for marks in found]
    if all(marks is None for marks in found):
        return []
    constant = np.mean([marks for marks, _ in targets], axis=0)
    predicted = [constant if marks is None else marks for marks in found]
    without = sum(marks is None for marks in found)
    rows: list[list[Cell]] = []
    for name, about in (("landmarks", "hidden ones too"), ("landmarks_seen", "the visible ones")):
        counted = [np.ones(len(constant), bool) if name == "landmarks" else visible for _, visible in targets]
        used = [i for i, some in enumerate(counted) if some.any()]
        ours, floor = (float(np.mean([landmark_nme(marks[i], targets[i][0], counted[i]) for i in used]))
                       if used else math.nan for marks in (predicted, [constant] * len(targets)))
        rows.append([name, ours, floor, ours / floor if floor else math.nan, len(targets) - without,
                     f"68 landmarks in the image, {about}: mean distance / sqrt(w h) of the true ones' bounding box, "
                     "in %, mean over the images; in the mean face's column: each landmark's mean position over all "
                     f"images, which also replaces the {without} in which the model finds no face"])
    return rows


def curve_of_subjects(subjects: SubjectSet, prefixes: Callable[[np.ndarray], np.ndarray], orders: int, seed: int,
                      title: str, progress: Callable = lambda subjects, total: subjects) -> Table:
    """`Evaluation.metrics.curve.error_curve` over all images of each subject, as a table."""
    curve = error_curve(prefixes, subjects.images, subjects.targets, subjects.constant, orders, seed, progress)
    return curve_table(curve, _where(subjects, title))


def _where(subjects: SubjectSet, title: str) -> str:
    return f"{title}: {len(subjects.targets)} subjects (SHA-256 of their identities {subjects.digest[:16]})"
