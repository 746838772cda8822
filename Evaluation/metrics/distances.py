"""Distances between point clouds in one frame: arrays in, one number per sample out, each with its definition.

Evaluation/evaluate_predictions.py aligns the clouds first. All metrics except `mse` are fractions of the ground truth's
bounding-box diagonal, so they do not depend on the unit.

`nme` alone rewards collapse: copies of one point that lies on the ground truth score a perfect 0. Always report
`reverse` or `chamfer` with it.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import numpy as np
from scipy.spatial import cKDTree

from Dataset.geometry.transforms import as_points, umeyama

#: points of an ordered cloud that `similarity_errors` aligns and measures, about
MAX_ALIGNED = 1024


@dataclass(frozen=True)
class Metric:
    """A named measure of (predicted (N, 3), truth (M, 3)) -> float, and what its number means."""

    name: str
    unit: str
    definition: str
    function: Callable[[np.ndarray, np.ndarray], float]
    corresponding: bool = False     # True: point i of one must be point i of the other


def bounding_box_diagonal(points: np.ndarray) -> float:
    """Length of the diagonal of the axis-aligned box around (N, 3) points, in their unit; ValueError when it is 0."""
    points = as_points(points, "ground truth")
    diagonal = float(np.linalg.norm(np.ptp(points, axis=0)))
    if diagonal == 0:
        raise ValueError(f"ground truth: want a cloud with an extent, got {len(points)} equal points")
    return diagonal


def nearest_distances(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(N, 3), (M, 3) -> (N,) float64: from each source point to its nearest target point."""
    return cKDTree(as_points(target, "target")).query(as_points(source, "source"), workers=-1)[0]


def nme(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance prediction -> nearest ground truth point, over the diagonal (the thesis's code, appendix B-6)."""
    return float(nearest_distances(predicted, truth).mean()) / bounding_box_diagonal(truth)


def reverse(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance ground truth -> nearest predicted point, over the diagonal: what is missing costs."""
    return float(nearest_distances(truth, predicted).mean()) / bounding_box_diagonal(truth)


def chamfer(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean of `nme` and `reverse` (Fan et al. 2017, eq. 2, with plain instead of squared distances)."""
    return 0.5 * (nme(predicted, truth) + reverse(predicted, truth))


def point_distances(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N, 3), (N, 3) -> (N,) float64 distances between points of equal index."""
    predicted, truth = as_points(predicted, "prediction"), as_points(truth, "ground truth")
    if predicted.shape != truth.shape:
        raise ValueError("point to point: want as many predicted as true points, "
                         f"got {len(predicted)} and {len(truth)}")
    return np.linalg.norm(predicted - truth, axis=1)


def point_to_point(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance between points of equal index, over the ground truth's diagonal (thesis eq. 13 in words)."""
    return float(point_distances(predicted, truth).mean()) / bounding_box_diagonal(truth)


def mse(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared difference of coordinates of equal index: the training loss (thesis 4.4)."""
    return float((point_distances(predicted, truth) ** 2).mean()) / 3.0


METRICS = {
    "nme": Metric("nme", "fraction of the diagonal",
                  "one way, prediction -> nearest ground truth point; mean over all predicted points / diagonal of the "
                  "ground truth's bounding box", nme),
    "reverse": Metric("reverse", "fraction of the diagonal",
                      "one way, ground truth -> nearest predicted point; mean over all ground truth points / "
                      "diagonal of the ground truth's bounding box", reverse),
    "chamfer": Metric("chamfer", "fraction of the diagonal", "(nme + reverse) / 2", chamfer),
    "point_to_point": Metric("point_to_point", "fraction of the diagonal",
                             "between points of equal index; mean / diagonal of the ground truth's bounding box",
                             point_to_point, corresponding=True),
    "mse": Metric("mse", "unit squared", "mean squared difference of coordinates of equal index", mse,
                  corresponding=True),
}


def similarity_error(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance between points of equal index, (N, 3) each, after the best similarity; in % of the diagonal of the
    ground truth's bounding box. Of a large cloud about MAX_ALIGNED points count."""
    step = max(1, len(truth) // MAX_ALIGNED) | 1        # odd: an even step would take few columns of the ordered grid
    points, target = (np.asarray(cloud[::step], np.float64) for cloud in (predicted, truth))
    distances = np.linalg.norm(umeyama(points, target).apply(points) - target, axis=1)
    return 100 * float(distances.mean()) / float(np.linalg.norm(np.ptp(truth, axis=0)))


def interocular_nme(predicted: np.ndarray, truth: np.ndarray, eyes: np.ndarray) -> float:
    """Mean distance ground truth vertex -> nearest predicted point, over the 3D distance between the outer corners of
    the eyes (Jackson et al. 2017, equation 2). The clouds are aligned; `Evaluation.metrics.volume_nme` does that.

    eyes  (2, 3): the ground truth's outer corners of the eyes (landmarks 36 and 45), in its unit

    The paper's x_k and y_k are vertices of two meshes of one topology. A volume has no topology, so y_k is the
    predicted point nearest to x_k: the order of the points does not matter. ValueError as of the other metrics, and
    unless the corners are two different finite points.
    """
    eyes = np.asarray(eyes, np.float64)
    if eyes.shape != (2, 3) or not np.isfinite(eyes).all() or (eyes[0] == eyes[1]).all():
        raise ValueError(f"eyes: want two different points (2, 3), got {eyes.shape} {eyes.ravel()[:6].tolist()}")
    return float(nearest_distances(truth, predicted).mean()) / float(np.linalg.norm(eyes[0] - eyes[1]))
