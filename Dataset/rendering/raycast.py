"""Ray casting with Open3D's RaycastingScene (Embree, no OpenGL). tests/rays.py has a slow twin.

A pixel that no triangle covers has triangle -1, weights 0 and depth NaN. Both sides of a triangle count.
"""
from typing import NamedTuple

import numpy as np

from Dataset.geometry.camera import Camera

_MISS = np.uint32(0xFFFFFFFF)     # Embree's RTC_INVALID_GEOMETRY_ID


class Hits(NamedTuple):
    """triangle (...) int64, -1 where nothing is hit; barycentric (..., 3) float32, weights of the
    triangle's first, second and third vertex; depth (...) float32 in units of the ray's direction (a
    camera's rays: mm along the optical axis), NaN where nothing is hit."""
    triangle: np.ndarray
    barycentric: np.ndarray
    depth: np.ndarray


class Scene:
    """A mesh ready for many casts: views, shadow rays and supersamples share one BVH, built at the first
    cast.

    Args:
        vertices: (V, 3) mm. The scene cannot be updated: a moved face is a new scene.
        triangles: (F, 3) int.
        threads: 0 = all cores; 1 in worker processes.
    """

    def __init__(self, vertices: np.ndarray, triangles: np.ndarray, threads: int = 0):
        import open3d as o3d  # takes a second to import

        vertices, triangles = np.asarray(vertices), np.asarray(triangles)
        if vertices.ndim != 2 or vertices.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
            raise ValueError(f"Scene: vertices (V, 3) and triangles (F, 3) are needed, "
                             f"received {vertices.shape} and {triangles.shape}")
        if not np.isfinite(vertices).all():
            raise ValueError("Scene: vertices are finite, received NaN or infinity")
        if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(vertices):
            raise ValueError(f"Scene: triangles index {len(vertices)} vertices, "
                             f"received indices {triangles.min()} to {triangles.max()}")
        self._tensor = o3d.core.Tensor.from_numpy
        self._threads = threads
        self._scene = o3d.t.geometry.RaycastingScene(nthreads=threads)
        self._empty = len(triangles) == 0
        if not self._empty:
            self._scene.add_triangles(self._tensor(np.ascontiguousarray(vertices, np.float32)),
                                      self._tensor(np.ascontiguousarray(triangles, np.uint32)))

    def cast(self, camera: Camera) -> Hits:
        """One ray through the centre of every pixel: Hits of shape (height, width)."""
        rays = camera.rays()
        return self.cast_rays(rays.origin, rays.directions)

    def cast_rays(self, origins: np.ndarray, directions: np.ndarray) -> Hits:
        """First hits along ``directions`` (..., 3) from ``origins``, broadcast against them."""
        rays = self._rays(origins, directions)
        shape = rays.shape[:-1]
        if self._empty or rays.size == 0:
            return Hits(np.full(shape, -1), np.zeros((*shape, 3), np.float32), np.full(shape, np.nan, np.float32))
        answer = self._scene.cast_rays(self._tensor(rays), nthreads=self._threads)
        triangle = answer["primitive_ids"].numpy()
        miss = triangle == _MISS
        uv, depth = answer["primitive_uvs"].numpy(), answer["t_hit"].numpy()
        barycentric = np.concatenate([1 - uv.sum(-1, keepdims=True), uv], axis=-1)
        barycentric[miss] = 0
        return Hits(np.where(miss, -1, triangle.astype(np.int64)), barycentric, np.where(miss, np.nan, depth))

    def occluded(self, origins: np.ndarray, directions: np.ndarray, near: float = 0.0,
                 far: float = np.inf) -> np.ndarray:
        """Whether any triangle lies on the rays between ``near`` and ``far`` (in lengths of the directions):
        bool (...)."""
        rays = self._rays(origins, directions)
        if self._empty or rays.size == 0:
            return np.zeros(rays.shape[:-1], bool)
        return self._scene.test_occlusions(self._tensor(rays), tnear=near, tfar=far, nthreads=self._threads).numpy()

    @staticmethod
    def _rays(origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        directions = np.asarray(directions)
        rays = np.empty((*directions.shape[:-1], 6), np.float32)
        rays[..., :3], rays[..., 3:] = origins, directions
        return rays
