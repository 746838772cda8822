"""The nearest points of a mesh, by Open3D's tree."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Closest(NamedTuple):
    """For N points: triangle (N,) int64; weights (N, 3) float64, barycentric, sum 1; points (N, 3) float64 on the
    surface; distance (N,) float64."""

    triangle: np.ndarray
    weights: np.ndarray
    points: np.ndarray
    distance: np.ndarray


class ClosestPoints:
    """A mesh (V, 3), (F, 3) with at least one triangle, built once: `mesh(points)` -> `Closest`.

    origin   (3,) of the float32 in which Open3D computes; None: the mean of the vertices, for meshes far from 0
    threads  0: all cores
    """

    def __init__(self, vertices: np.ndarray, triangles: np.ndarray, threads: int = 1,
                 origin: np.ndarray | None = None) -> None:
        import open3d as o3d  # takes a second to import

        self.vertices, self.triangles, self._threads = np.asarray(vertices, np.float64), triangles, threads
        self._origin = self.vertices.mean(0) if origin is None else np.asarray(origin, np.float64)
        self._tensor = o3d.core.Tensor.from_numpy
        self._scene = o3d.t.geometry.RaycastingScene(nthreads=threads)
        self._scene.add_triangles(self._local(self.vertices), self._tensor(triangles.astype(np.uint32)))

    def __call__(self, points: np.ndarray) -> Closest:
        """The closest surface points of points (N, 3), in the unit of the mesh."""
        points = np.asarray(points, np.float64)
        answer = self._scene.compute_closest_points(self._local(points), nthreads=self._threads)
        triangle = answer["primitive_ids"].numpy().astype(np.int64)
        uv = answer["primitive_uvs"].numpy().astype(np.float64)
        weights = np.concatenate([1 - uv.sum(1, keepdims=True), uv], axis=1)
        position = np.einsum("nk,nkc->nc", weights, self.vertices[self.triangles[triangle]])
        return Closest(triangle, weights, position, np.linalg.norm(position - points, axis=1))

    def _local(self, points: np.ndarray) -> object:
        return self._tensor(np.ascontiguousarray(points - self._origin, np.float32))
