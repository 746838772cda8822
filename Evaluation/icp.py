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


class NearestTracker:
    """Exact nearest neighbours of points that move a little between queries.

    Far moves are plain tree queries. Once the points move less than about half the target's spacing, each keeps its
    4 nearest target points as candidates: everything else is at least as far as the 4th was, less what the point has
    moved since (triangle inequality), so while the best candidate is nearer than that it is the nearest of all; only
    the other points are looked up again. Answers are those of fresh tree queries (exact ties may fall to either side).
    """

    CANDIDATES = 4      # measured on face-like clouds of 16,384 points: 3 to 10 differ by less than a fifth
    SMALL = 0.6         # of the spacing: a move from which on candidates are kept

    def __init__(self, target: np.ndarray, workers: int = -1):
        """target: (M, 3), M >= 1; workers: threads for a query, -1 for all cores (the answer does not depend on it)."""
        self.target = as_points(target, "target")
        self.tree = cKDTree(self.target, leafsize=16)
        self._workers = workers
        self._few = len(self.target) <= self.CANDIDATES
        sample = self.target[::max(1, len(self.target) // 256)]
        self._spacing = 0.0 if self._few else float(self.tree.query(sample, k=2)[0][:, 1].mean())
        self._last: np.ndarray | None = None
        self._anchor: np.ndarray | None = None

    def query(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, 3), the same points at each call -> (N,) distances, (N,) int64 indices into the target."""
        last, self._last = self._last, points
        if self._anchor is None:
            small = last is not None and _norm(points - last).mean() < self.SMALL * self._spacing
            if not small:
                return self.tree.query(points, workers=self._workers)
            return self._start(points)
        return self._follow(points)

    def _start(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        distance, index = self.tree.query(points, k=self.CANDIDATES, workers=self._workers)
        self._anchor, self._reach = points.copy(), distance[:, -1].copy()
        self._index = np.ascontiguousarray(index.T)                                    # (4, N)
        self._coordinates = [self.target[:, axis][self._index] for axis in range(3)]   # 3 of (4, N)
        return distance[:, 0], index[:, 0]

    def _follow(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        squared = np.zeros(self._index.shape)
        for axis in range(3):
            difference = self._coordinates[axis] - points[:, axis]
            squared += difference * difference
        nearest, which = squared[0].copy(), np.zeros(len(points), np.int64)
        for row in range(1, self.CANDIDATES):       # several times faster than argmin along the short axis
            nearer = squared[row] < nearest
            np.copyto(nearest, squared[row], where=nearer)
            np.copyto(which, row, where=nearer)
        nearest = np.sqrt(nearest)
        index = self._index[which, np.arange(len(points))]
        # the margin covers rounding, far above it and far too small to cost a look-up
        stale = np.flatnonzero(nearest > (1 - 1e-9) * self._reach - _norm(points - self._anchor))
        if len(stale):
            distance, found = self.tree.query(points[stale], k=self.CANDIDATES, workers=self._workers)
            self._anchor[stale], self._reach[stale] = points[stale], distance[:, -1]
            self._index[:, stale] = found.T
            for axis in range(3):
                self._coordinates[axis][:, stale] = self.target[:, axis][found.T]
            nearest[stale], index[stale] = distance[:, 0], found[:, 0]
        return nearest, index


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


def _norm(vectors: np.ndarray) -> np.ndarray:
    """(N, 3) -> (N,) lengths."""
    return np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
