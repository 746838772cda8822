"""Iterative closest point: the motion that lays one cloud on another, by the definition the thesis evaluates with.

Source: thesis appendix B-6, which names ClayFlannigan/icp (Besl and McKay 1992, point to point). One iteration there
is: nearest target point of every source point; best rigid motion onto those; move; stop when the mean of the
distances *found before this move* differs from the previous iteration's by less than the tolerance (the "previous"
mean of the first iteration is 0). The tolerance is absolute, in the clouds' unit: 1e-4 is meant for unit spheres.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from Dataset.geometry.nearest import NearestTracker
from Dataset.geometry.transforms import Similarity, as_points, umeyama


class ICPResult(NamedTuple):
    """What `icp` found.

    transform   Similarity, source -> target (scale 1 unless with_scale)
    distances   (N,) float64, from each *aligned* source point to its nearest target point (the published code
                returns those from before the last move)
    iterations  int >= 1, moves made
    converged   False: stopped by max_iterations
    """

    transform: Similarity
    distances: np.ndarray
    iterations: int
    converged: bool


def icp(source: np.ndarray, target: np.ndarray, max_iterations: int = 100, tolerance: float = 1e-4,
        with_scale: bool = False, initial: Similarity | None = None, workers: int = -1) -> ICPResult:
    """Lay `source` on `target`; the defaults are the thesis's (rigid, at most 100 iterations, tolerance 1e-4).

    source   (N, 3), target (M, 3): any sizes, one unit
    initial  where to start from (None: where the source stands); ICP finds the nearest optimum, not the best
    workers  threads for nearest neighbours, -1 for all cores; the result is the same

    ValueError for an empty or non-finite cloud, another shape, max_iterations < 1 or a negative tolerance.
    """
    source = as_points(source, "source")
    tracker = NearestTracker(target, workers)
    if max_iterations < 1 or not tolerance >= 0:
        raise ValueError("icp: want max_iterations >= 1 and tolerance >= 0, "
                         f"got {max_iterations} and {tolerance}")
    transform = Similarity.identity() if initial is None else initial
    # neighbours in space next to each other in memory: the tree's branches stay in the cache
    order = cKDTree(source, leafsize=64, balanced_tree=False, compact_nodes=False).indices
    ordered = source[order]
    moved = transform.apply(ordered)
    previous, converged, iterations = 0.0, False, 0
    while iterations < max_iterations and not converged:
        distances, index = tracker.query(moved)
        step = umeyama(moved, tracker.target[index], with_scale=with_scale)
        transform, moved = step.compose(transform), step.apply(moved)
        mean = float(distances.mean())
        converged = abs(previous - mean) < tolerance
        previous, iterations = mean, iterations + 1
    distances = np.empty(len(source))
    distances[order] = tracker.query(transform.apply(ordered))[0]
    return ICPResult(transform, distances, iterations, converged)
