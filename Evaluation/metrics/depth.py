"""Errors of depth maps: (H, W) predicted and (H, W) true depth -> one number, over the pixels where both have a depth.

NaN means "no depth"; the result is NaN where no pixel has both. Depths are positive and in one unit (mm here). A pixel
that only one map has does not count: report `coverage` as well.

A crop does not determine the distance of the face: maps decoded with an assumed range are compared after `align`, which
returns what it removed. `delta` is the fraction of pixels whose ratio is below 1.25 (Eigen et al. 2014, section 4.1).
It is meant for rooms: a face with 0.1 m of relief at 0.8 m always passes.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from Evaluation.metrics.distances import Metric
from Evaluation.metrics.overlap import iou

ALIGNMENTS = ("none", "offset", "offset and scale")
DELTA = 1.25


class Aligned(NamedTuple):
    """depth (H, W) float64: the prediction times `scale` plus `offset`."""

    depth: np.ndarray
    scale: float
    offset: float


def align(predicted: np.ndarray, truth: np.ndarray, how: str = "offset") -> Aligned:
    """Remove what a crop does not determine. how: "offset", the median of truth - predicted; "offset and scale", the
    least squares line through the common pixels (the offset alone where fewer than 2 pixels are common or all predicted
    depths are equal); "none"."""
    if how not in ALIGNMENTS:
        raise ValueError(f"depth: alignment must be one of {', '.join(ALIGNMENTS)}, got {how!r}")
    a, b = _common(predicted, truth)
    scale, offset = 1.0, 0.0
    if how != "none" and len(a):
        offset = float(np.median(b - a))
        if how != "offset" and len(a) > 1 and np.ptp(a) > 0:
            scale = float(((a - a.mean()) * (b - b.mean())).sum() / ((a - a.mean()) ** 2).sum())
            offset = float(b.mean() - scale * a.mean())
    return Aligned(np.asarray(predicted, np.float64) * scale + offset, scale, offset)


def mae(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean absolute difference, in the maps' unit."""
    a, b = _common(predicted, truth)
    return float(np.abs(a - b).mean()) if len(a) else float("nan")


def mae_of_face(predicted: np.ndarray, truth: np.ndarray, far: float) -> float:
    """Mean absolute difference over all pixels of the true face, in the maps' unit, nothing removed; where the
    prediction has no depth it counts as `far`, the depth of the background. NaN where the truth has none."""
    known = np.isfinite(np.asarray(truth, np.float64))
    return mae(np.where(known & ~np.isfinite(predicted), far, predicted), truth)


def rmse(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Root of the mean squared difference, in the maps' unit."""
    a, b = _common(predicted, truth)
    return float(np.sqrt(((a - b) ** 2).mean())) if len(a) else float("nan")


def delta(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Fraction of the pixels with max(predicted / truth, truth / predicted) < 1.25. A predicted depth of 0 or less, as
    alignment may make it, does not pass; a true one is a ValueError."""
    a, b = _common(predicted, truth)
    if (b <= 0).any():
        raise ValueError("depth: true depths are positive, received 0 or less")
    return float(((a > 0) & (a < DELTA * b) & (b < DELTA * a)).mean()) if len(a) else float("nan")


def coverage(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of the pixels that have a depth; NaN where neither map has any."""
    a, b = (np.isfinite(np.asarray(depth, np.float64)) for depth in (predicted, truth))
    return iou(a, b, empty=float("nan"))


DEPTH_METRICS = {
    "mae": Metric("mae", "the maps' unit", "mean |predicted - true depth| over pixels where both have one", mae),
    "rmse": Metric("rmse", "the maps' unit", "root of the mean squared difference over pixels where both have a depth",
                   rmse),
    "delta": Metric("delta", "fraction", "pixels with max(predicted / true, true / predicted depth) < 1.25, of those "
                    "where both have one", delta),
    "coverage": Metric("coverage", "fraction", "pixels where both have a depth / pixels where either has", coverage),
}


def depth_scores(predicted: np.ndarray, truth: np.ndarray, how: str = "offset") -> dict[str, float]:
    """All of DEPTH_METRICS after `align`."""
    aligned = align(predicted, truth, how).depth
    return {name: metric.function(aligned, truth) for name, metric in DEPTH_METRICS.items()}


def _common(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if predicted.ndim != 2 or predicted.shape != truth.shape:
        raise ValueError(f"depth: two maps (H, W) of one size are needed, got {predicted.shape} and {truth.shape}")
    both = np.isfinite(predicted) & np.isfinite(truth)
    return predicted[both], truth[both]
