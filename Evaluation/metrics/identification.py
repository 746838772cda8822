"""Whether predicted faces are their own person's: what a good mean face cannot feign.

Every prediction is compared with every person's ground truth. A constant face is as far from its own as from the
others': own / others is 1, and one in P is nearest to its own.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from Dataset.geometry.transforms import umeyama

#: points of an ordered cloud that are aligned and measured
MEASURED = 1024


class Identification(NamedTuple):
    """own, others: mean distances in % of the ground truth's bounding-box diagonal, point to point after a similarity,
    to a person's own ground truth and to the others'; nearest: how many of `people` predictions are nearest to their
    own (a draw is none)."""

    own: float
    others: float
    nearest: int
    subjects: int

    @property
    def ratio(self) -> float:
        """own / others."""
        return self.own / self.others


def distances(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(P, Q) float64: of predictions (P, N, 3) from ground truths (Q, N, 3) in the same order, in % of the truth's
    bounding-box diagonal, after the best similarity of each pair. ValueError for other shapes."""
    if predictions.ndim != 3 or predictions.shape[2] != 3 or predictions.shape[1:] != targets.shape[1:]:
        raise ValueError(f"predictions (P, N, 3) and ground truths (Q, N, 3) are needed, got {predictions.shape} and "
                         f"{targets.shape}")
    step = max(1, predictions.shape[1] // MEASURED | 1)         # an odd step: not one column of the grid
    predicted, true = predictions[:, ::step].astype(np.float64), targets[:, ::step].astype(np.float64)
    diagonals = np.linalg.norm(np.ptp(targets, axis=1), axis=1)
    return np.array([[100 * np.linalg.norm(umeyama(p, t).apply(p) - t, axis=1).mean() / diagonal
                      for t, diagonal in zip(true, diagonals)] for p in predicted])


def identify(predictions: np.ndarray, targets: np.ndarray) -> Identification:
    """predictions (P, N, 3), person by person that of truths (P, N, 3); of some that are not finite NaN, and nobody is
    nearest. ValueError for fewer than two people."""
    if len(predictions) != len(targets) or len(targets) < 2:
        raise ValueError(f"one prediction for each of at least two people is needed, got {len(predictions)} for "
                         f"{len(targets)}")
    if not np.isfinite(predictions).all():
        return Identification(np.nan, np.nan, 0, len(targets))
    table = distances(predictions, targets)
    own = np.diag(table)
    others = (table.sum(axis=1) - own) / (len(targets) - 1)
    nearest = (table <= own[:, None] + 1e-9).sum(axis=1) == 1
    return Identification(float(own.mean()), float(others.mean()), int(nearest.sum()), len(targets))
