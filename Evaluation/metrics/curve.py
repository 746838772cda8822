"""Error against the number of images, which Thomassen 2022 (6.2.4) hoped would fall and never measured.

For every person, seeded orders of all T images; after each image of an order the face so far is measured. Beside it
stands what needs no memory: the mean of the faces that each image gives alone. Differences are paired, person by
person, with a bootstrap interval (Efron and Tibshirani 1993, chapter 13).
"""
from __future__ import annotations

from typing import Callable, NamedTuple

import numpy as np

from Dataset.geometry.transforms import umeyama

#: points of an ordered cloud that are aligned and measured
MEASURED = 1024


class Curve(NamedTuple):
    """Mean distances in % of the ground truth's bounding-box diagonal, point to point after a similarity.

    memory, singles  (P, T): person p, t + 1 images, mean over the orders; singles: the mean of single-image faces
    floor            (P,): of a constant face
    """

    memory: np.ndarray
    singles: np.ndarray
    floor: np.ndarray


def error_curve(prefixes: Callable[[np.ndarray], np.ndarray], images: Callable[[int], np.ndarray], targets: np.ndarray,
                constant: np.ndarray, orders: int = 20, seed: int = 0,
                progress: Callable[..., object] = lambda subjects, total: subjects) -> Curve:
    """Measure a network.

    prefixes  one subject's images (T, S, S, 3) uint8 BGR -> (T, N, 3), the face after each image
    images    person's number -> (T, S, S, 3) uint8 BGR
    truths    (P, N, 3), in the order of the network's points; constant (N, 3), the floor
    orders    random orders of each person's images, from `seed`
    """
    memory, singles, floor = [], [], []
    for subject in progress(range(len(targets)), total=len(targets)):
        pictures, truth = images(subject), targets[subject]
        rng = np.random.default_rng((seed, subject))
        chosen = np.stack([rng.permutation(len(pictures)) for _ in range(orders)])
        faces = np.stack([prefixes(pictures[order]) for order in chosen])               # (orders, T, N, 3)
        alone = np.stack([prefixes(pictures[t:t + 1])[0] for t in range(len(pictures))])    # (T, N, 3)
        means = np.cumsum(alone[chosen], axis=1) / np.arange(1, len(pictures) + 1)[:, None, None]
        memory.append(_errors(faces, truth).mean(0))
        singles.append(_errors(means, truth).mean(0))
        floor.append(float(_errors(constant[None, None], truth)[0, 0]))
    return Curve(np.stack(memory), np.stack(singles), np.array(floor))


def _errors(faces: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(A, B, N, 3) faces -> (A, B): mean distance to a truth (N, 3) after the best similarity, % of its diagonal."""
    step = max(1, len(truth) // MEASURED) | 1           # odd: not one column of a grid whose side is even
    target = np.asarray(truth[::step], np.float64)
    diagonal = np.linalg.norm(np.ptp(truth, axis=0))
    out = np.empty(faces.shape[:2])
    for index in np.ndindex(*out.shape):
        face = np.asarray(faces[index][::step], np.float64)
        out[index] = np.linalg.norm(umeyama(face, target).apply(face) - target, axis=1).mean()
    return 100 * out / diagonal


def interval(values: np.ndarray, samples: int = 10_000, seed: int = 0) -> tuple[float, float, float]:
    """(mean, 2.5th, 97.5th percentile) of the mean of values (P,), by drawing people with replacement."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(samples, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values.mean()), float(low), float(high)
