"""Whether a predicted face is nearer to its own subject than to other subjects. A mean face fails this test.

Each prediction is compared with every subject's ground truth. A constant face has the same distance from its own
subject as from the others: its genuine/impostor distance ratio is 1, and its rank-1 identification is at chance.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from Evaluation.metrics.distances import similarity_error


class Identification(NamedTuple):
    """own, others: mean distances in % of the ground truth's bounding-box diagonal, point to point after a similarity,
    of a prediction from its own subject's ground truth (genuine) and from the others' (impostor); nearest: how many of
    the `subjects` predictions are nearest to their own subject (rank-1 identification; a tie does not count)."""

    own: float
    others: float
    nearest: int
    subjects: int

    @property
    def ratio(self) -> float:
        """The genuine/impostor distance ratio, own / others."""
        return self.own / self.others


def distances(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(P, Q) float64: `similarity_error` of predictions (P, N, 3) to ground truths (Q, N, 3) whose points have the same
    order. ValueError for other shapes."""
    if predictions.ndim != 3 or predictions.shape[2] != 3 or predictions.shape[1:] != targets.shape[1:]:
        raise ValueError(f"predictions (P, N, 3) and ground truths (Q, N, 3) are needed, got {predictions.shape} and "
                         f"{targets.shape}")
    return np.array([[similarity_error(face, target) for target in targets] for face in predictions])


def identify(predictions: np.ndarray, targets: np.ndarray) -> Identification:
    """predictions (P, N, 3), one for each ground truth of targets (P, N, 3). Where a prediction is not finite, the
    distances are NaN and `nearest` is 0. ValueError for fewer than two subjects."""
    if len(predictions) != len(targets) or len(targets) < 2:
        raise ValueError(f"one prediction for each of at least two subjects is needed, got {len(predictions)} for "
                         f"{len(targets)}")
    if not np.isfinite(predictions).all():
        return Identification(np.nan, np.nan, 0, len(targets))
    table = distances(predictions, targets)
    own = np.diag(table)
    others = (table.sum(axis=1) - own) / (len(targets) - 1)
    nearest = (table <= own[:, None] + 1e-9).sum(axis=1) == 1
    return Identification(float(own.mean()), float(others.mean()), int(nearest.sum()), len(targets))
