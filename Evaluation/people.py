"""A network judged on people in shards: beside the mean face, and over the number of images."""
from __future__ import annotations

import math
from typing import Callable, Protocol

import numpy as np

from Dataset.transforms import to_unit_sphere
from Evaluation.curve import curve_table, error_curve
from Evaluation.evaluate_predictions import score_batches
from Evaluation.identification import identify
from Evaluation.tables import Table, compared_table


class People(Protocol):
    """images(p): person p's pictures (T, S, S, 3) float32, `count` of them; truths (P, N, 3) and constant (N, 3), the
    mean face, in the unit sphere; digest: of who they are."""

    images: Callable[[int], np.ndarray]
    count: int
    truths: np.ndarray
    constant: np.ndarray
    digest: str
    in_photo: Callable[[int, int], tuple[np.ndarray, np.ndarray]]


def score_people(people: People, predict: Callable[[np.ndarray], np.ndarray], count: int, title: str,
                 surface: bool = True, progress: Callable = lambda people, total: people) -> Table:
    """Every metric of `score_batches` on the first `count` pictures of each person, and whether each is nearest to its
    own person, beside the mean face's.

    predict  (1, T, S, S, 3) float32 -> (1, N, 3), unit sphere
    ValueError unless each person has `count` pictures.
    """
    if not 1 <= count <= people.count:
        raise ValueError(f"--images must be 1 to {people.count}, as many as each person has pictures, got {count}")

    def scores(face: Callable[[int], np.ndarray]):
        numbers = progress(range(len(people.truths)), total=len(people.truths))
        return score_batches(((face(p), people.truths[p][None], [str(p)]) for p in numbers), ordered=True,
                             surface=surface)
    faces: dict[int, np.ndarray] = {}

    def face(person: int) -> np.ndarray:
        faces[person] = predict(people.images(person)[None, :count])[0]
        return faces[person][None]
    table = compared_table(scores(face), scores(lambda p: people.constant[None]),
                           f"{_where(people, title)}, {count} images each")
    if len(faces) < 2:
        return table
    ours = identify(np.stack([faces[p] for p in range(len(faces))]), people.truths)
    floor = identify(np.stack([people.constant] * len(faces)), people.truths)
    how = "point to point after a similarity, each prediction against every person's ground truth"
    return table._replace(rows=[
        *table.rows,
        ["own_to_others", ours.ratio, floor.ratio, ours.ratio / floor.ratio, ours.people,
         f"mean distance from the own ground truth / from the others'; {how}; a constant face has 1"],
        ["nearest_own", ours.nearest, floor.nearest, math.nan, ours.people,
         f"how many predictions are nearest to their own person; {how}"]])


def score_photos(people: People, predict: Callable[[np.ndarray], np.ndarray], count: int, title: str,
                 surface: bool = True, progress: Callable = lambda people, total: people) -> Table:
    """*This photo's face*: each of the first `count` pictures of each person alone, with the expression that it shows,
    where it shows the face; beside the mean face's, on which the same places count.

    predict  (S, S, 3) float32 -> (N, 3), an ordered grid of the face in the picture, or (M, 3) points without an order,
             of what the picture shows
    ValueError unless each person has `count` pictures.
    """
    if not 1 <= count <= people.count:
        raise ValueError(f"--images must be 1 to {people.count}, as many as each person has pictures, got {count}")
    pairs = [(p, k) for p in range(len(people.truths)) for k in range(count)]

    def scores(face: Callable[[int, int], np.ndarray]):
        def batches():
            for p, k in progress(pairs, total=len(pairs)):
                (truth, seen), cloud = people.in_photo(p, k), face(p, k)
                cloud = cloud[seen] if len(cloud) == len(seen) else cloud
                yield to_unit_sphere(cloud)[0][None], to_unit_sphere(truth[seen])[0][None], [f"{p}/{k}"]
        return score_batches(batches(), ordered=False, surface=surface)
    return compared_table(scores(lambda p, k: predict(people.images(p)[k])), scores(lambda p, k: people.constant),
                          f"{_where(people, title)}, each of {count} photos alone, the visible part of its face")


def curve_of_people(people: People, prefixes: Callable[[np.ndarray], np.ndarray], orders: int, seed: int, title: str,
                    progress: Callable = lambda people, total: people) -> Table:
    """`Evaluation.curve` over all pictures of each person."""
    return curve_table(error_curve(prefixes, people.images, people.truths, people.constant, orders, seed, progress),
                       _where(people, title))


def _where(people: People, title: str) -> str:
    return f"{title}: {len(people.truths)} people (SHA-256 of their identities {people.digest[:16]})"
