"""Nearest neighbours of points that move, as in the iterations of ICP."""
from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from Dataset.geometry.transforms import as_points


class NearestTracker:
    """Exact nearest neighbours of points that move a little between queries.

    Far moves are plain tree queries. Once the points move less than about half the target's spacing, each keeps its
    4 nearest target points as candidates: everything else is at least as far as the 4th was, less what the point has
    moved since (triangle inequality), so while the best candidate is nearer than that it is the nearest of all; only
    the other points are looked up again. Answers are those of fresh tree queries (exact ties may fall to either side).
    """

    CANDIDATES = 4      # measured on face-like clouds of 16,384 points: 3 to 10 differ by less than a fifth
    SMALL = 0.6         # of the spacing: a move from which on candidates are kept

    def __init__(self, target: np.ndarray, workers: int = -1, tree: cKDTree | None = None):
        """target: (M, 3), M >= 1; workers: threads for a query, -1 for all cores (the answer does not depend on it);
        tree: of the target, where there is one."""
        self.target = as_points(target, "target")
        self.tree = cKDTree(self.target, leafsize=16) if tree is None else tree
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


def _norm(vectors: np.ndarray) -> np.ndarray:
    """(N, 3) -> (N,) lengths."""
    return np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
