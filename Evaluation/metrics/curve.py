"""Error against the number of images. Thomassen 2022 (6.2.4) expects it to fall, and does not measure it.

The images of each subject are taken in several random orders; after each image the face so far is measured. The
comparison is a method without recurrent state: the mean of the faces that each image gives alone. Differences are
paired by subject and have a bootstrap interval (Efron and Tibshirani 1993, chapter 13).
"""
from __future__ import annotations

from typing import Callable, NamedTuple

import numpy as np

from Evaluation.metrics.distances import similarity_error


class Curve(NamedTuple):
    """Mean distances in % of the diagonal of the ground truth's bounding box, point to point after a similarity.

    memory, singles  (P, T): of subject p after t + 1 images, mean over the orders; singles: of the mean of the faces
                     that the images give alone
    floor            (P,): of the constant face
    """

    recurrent: np.ndarray
    singles: np.ndarray
    floor: np.ndarray


def error_curve(prefixes: Callable[[np.ndarray], np.ndarray], images: Callable[[int], np.ndarray],
                targets: np.ndarray, constant: np.ndarray, orders: int = 20, seed: int = 0,
                progress: Callable[..., object] = lambda subjects, total: subjects) -> Curve:
    """Measure a network.

    prefixes  one subject's images (T, S, S, 3) uint8 BGR -> (T, N, 3), the face after each image
    images    number of a subject -> its images (T, S, S, 3) uint8 BGR
    targets   (P, N, 3), points in the network's order; constant (N, 3): the constant baseline
    orders    random orders of each subject's images, drawn from `seed`
    """
    recurrent, singles, floor = [], [], []
    for subject in progress(range(len(targets)), total=len(targets)):
        photos, target = images(subject), targets[subject]
        rng = np.random.default_rng((seed, subject))
        chosen = np.stack([rng.permutation(len(photos)) for _ in range(orders)])
        faces = np.stack([prefixes(photos[order]) for order in chosen])                 # (orders, T, N, 3)
        alone = np.stack([prefixes(photos[t:t + 1])[0] for t in range(len(photos))])    # (T, N, 3)
        means = np.cumsum(alone[chosen], axis=1) / np.arange(1, len(photos) + 1)[:, None, None]
        recurrent.append(errors(faces, target).mean(0))
        singles.append(errors(means, target).mean(0))
        floor.append(similarity_error(constant, target))
    return Curve(np.stack(recurrent), np.stack(singles), np.array(floor))


def errors(faces: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(A, B, N, 3) faces -> (A, B) float64: `similarity_error` of each to one target (N, 3)."""
    return np.array([[similarity_error(face, target) for face in row] for row in faces])


def interval(values: np.ndarray, samples: int = 10_000, seed: int = 0) -> tuple[float, float, float]:
    """(mean, 2.5th, 97.5th percentile) of the mean of values (P,), over subjects drawn with
    replacement."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(samples, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values.mean()), float(low), float(high)
