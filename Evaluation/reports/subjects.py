"""A network judged on people in shards: beside the mean face, and over the number of images."""
from __future__ import annotations

import math
import time
from typing import Callable, Protocol, Sequence

import numpy as np

from Dataset.geometry.transforms import to_unit_sphere
from Dataset.io.workers import cores
from Evaluation.evaluate_predictions import score_batches
from Evaluation.metrics.curve import error_curve
from Evaluation.metrics.identification import identify
from Evaluation.reports.curve import curve_table
from Evaluation.reports.tables import Cell, Table, compared_table


class SubjectSet(Protocol):
    """images(p): person p's pictures (T, S, S, 3) uint8 BGR, `count` of them; truths (P, N, 3) and constant (N, 3), the
    mean face, in the unit sphere; digest: of who they are."""

    images: Callable[[int], np.ndarray]
    count: int
    targets: np.ndarray
    constant: np.ndarray
    digest: str
    in_photo: Callable[[int, int], tuple[np.ndarray, np.ndarray]]
    turned: Callable[[int, int], np.ndarray]
    landmarks: Callable[[int, int], tuple[np.ndarray, np.ndarray]]


def score_subjects(subjects: SubjectSet, subject: Callable[[np.ndarray], np.ndarray], count: int, title: str,
                 surface: bool = True, progress: Callable = lambda subjects, total: subjects) -> Table:
    """Every metric of `score_batches` on the first `count` pictures of each person, and whether each is nearest to its
    own person, beside the mean face's.

    subject  (T, S, S, 3) uint8 BGR -> the neutral face (N, 3), unit sphere
    ValueError unless each person has `count` pictures.
    """
    if not 1 <= count <= subjects.count:
        raise ValueError(f"--images must be 1 to {subjects.count}, as many as each person has pictures, got {count}")

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
    how = "point to point after a similarity, each prediction against every person's ground truth"
    return table._replace(rows=[
        *table.rows,
        ["own_to_others", ours.ratio, floor.ratio, ours.ratio / floor.ratio, ours.subjects,
         f"mean distance from the own ground truth / from the others'; {how}; a constant face has 1"],
        ["nearest_own", ours.nearest, floor.nearest, math.nan, ours.subjects,
         f"how many predictions are nearest to their own person; {how}"]])


def score_photos(subjects: SubjectSet, read: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None, bool]],
                 count: int, title: str, surface: bool = True, progress: Callable = lambda subjects, total: subjects,
                 clock: Callable[[], float] = time.perf_counter) -> Table:
    """*This photo's face*: each of the first `count` pictures of each person alone, with the expression that it shows,
    where it shows the face (`photo_batch`); beside the mean face's, on which the same places count. Then the 68
    landmarks in the picture, where the network says them, and how long it takes.

    read  (S, S, 3) uint8 BGR -> (N, 3), an ordered grid of the face in the picture, or (M, 3) points without an order,
          of what the picture shows; the landmarks (68, 2) in the picture's sides, or None; whether there is a face at
          all: where not, the points, the mean face's, count, and so does the row `no_face`
    ValueError unless each person has `count` pictures.
    """
    if not 1 <= count <= subjects.count:
        raise ValueError(f"--images must be 1 to {subjects.count}, as many as each person has pictures, got {count}")
    pairs = [(p, k) for p in range(len(subjects.targets)) for k in range(count)]
    landmarks: list[np.ndarray | None] = []
    found: list[bool] = []
    seconds: list[float] = []

    def face(subject: int, picture: int) -> np.ndarray:
        image = subjects.images(subject)[picture]
        begun = clock()
        points, places, sees = read(image)
        seconds.append(clock() - begun)
        landmarks.append(places)
        found.append(sees)
        return points

    def scores(face: Callable[[int, int], np.ndarray]):
        def batches():
            for p, k in progress(pairs, total=len(pairs)):
                yield photo_batch(subjects, p, k, face(p, k))
        return score_batches(batches(), ordered=False, surface=surface)
    table = compared_table(scores(face), scores(lambda p, k: subjects.constant),
                           f"{_where(subjects, title)}, each of {count} photos alone, the visible part of its face")
    timing = ["ms_per_photo", 1000 * float(np.median(seconds)), math.nan, math.nan, len(seconds),
              f"from a picture to its face: the network, and what makes a face of its answer; median, {cores()} cores"]
    rows = landmark_rows(landmarks, [subjects.landmarks(p, k) for p, k in pairs])
    missed: list[Cell] = ["no_face", found.count(False), math.nan, math.nan, len(found),
                          "photos in which the model sees no face: they count with the mean face"]
    return table._replace(rows=[*table.rows, *rows, missed, timing])


def photo_batch(subjects: SubjectSet, subject: int, picture: int, cloud: np.ndarray) -> tuple:
    """A prediction of the face in a picture beside it, as `score_batches` takes them: (1, N, 3), (1, M, 3), its name,
    and the whole face.

    cloud  an ordered grid in the head frame, of which the places that the picture shows count; or, another number of
           them, points of what the picture shows, in the camera's upright frame, into which the truth is then turned

    All of it is measured against the frame's own whole face: where the seen part ends is known to nobody, and right
    beyond is right. The other way what is seen must be found.
    """
    truth, seen = subjects.in_photo(subject, picture)
    if len(cloud) == len(seen):
        cloud = cloud[seen]
    else:
        truth = truth @ subjects.turned(subject, picture).T
    if np.isfinite(cloud).all():            # what is not, score_batches lists as skipped
        cloud = to_unit_sphere(cloud)[0]
    shown, move = to_unit_sphere(truth[seen])
    return cloud[None], shown[None], [f"{subject}/{picture}"], [move.apply(truth)]


def landmark_rows(found: Sequence[np.ndarray | None], targets: Sequence[tuple[np.ndarray, np.ndarray]]
                  ) -> list[list[Cell]]:
    """Rows for `score_photos`: `landmarks` over all 68, `landmarks_seen` over those that the photos show.

    found   (68, 2) of each photo, None where a network says none, or none that are finite; [] when it never does
    truths  the true ones (68, 2), hidden ones too, in the same unit, and which of them the photo shows (68,) bool

    The floor is the constant answer: each landmark's mean place over all the photos. It also stands in where a photo
    has none.
    """
    found = [places if places is not None and np.isfinite(places).all() else None for places in found]
    if all(places is None for places in found):
        return []
    constant = np.mean([places for places, _ in targets], axis=0)
    answers = [constant if places is None else places for places in found]
    without = sum(places is None for places in found)

    def error(places: np.ndarray, truth: np.ndarray, shown: np.ndarray) -> float:
        side = math.sqrt(float(np.prod(np.ptp(truth, axis=0))))
        return 100 * float(np.linalg.norm(np.asarray(places, np.float64) - truth, axis=-1)[shown].mean()) / side
    rows, everything = [], np.ones(len(constant), bool)
    for name, about in (("landmarks", "hidden ones too"), ("landmarks_seen", "those that the picture shows")):
        shown = [everything if name == "landmarks" else seen for _, seen in targets]
        used = [i for i, where in enumerate(shown) if where.any()]
        ours, floor = (float(np.mean([error(said[i], targets[i][0], shown[i]) for i in used])) if used else math.nan
                       for said in (answers, [constant] * len(targets)))
        rows.append([name, ours, floor, ours / floor if floor else math.nan, len(targets) - without,
                     f"68 landmarks in the picture, {about}: mean distance / sqrt(w h) of the true ones' bounding box, "
                     "in %, mean over the pictures; the mean face's column: each landmark's mean place over all the "
                     f"pictures, which also stands in for the {without} in which the model sees no face"])
    return rows


def curve_of_subjects(subjects: SubjectSet, prefixes: Callable[[np.ndarray], np.ndarray], orders: int, seed: int, title: str,
                    progress: Callable = lambda subjects, total: subjects) -> Table:
    """`Evaluation.metrics.curve` over all pictures of each person."""
    return curve_table(error_curve(prefixes, subjects.images, subjects.targets, subjects.constant, orders, seed, progress),
                       _where(subjects, title))


def _where(subjects: SubjectSet, title: str) -> str:
    return f"{title}: {len(subjects.targets)} people (SHA-256 of their identities {subjects.digest[:16]})"
