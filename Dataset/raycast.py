"""Where rays meet a mesh: Open3D's RaycastingScene (Embree, no GL), and a slow twin in plain numpy as its
oracle.

A pixel that no triangle covers has triangle -1, weights 0 and depth NaN. Both sides of a triangle count.
"""
from typing import NamedTuple

import numpy as np

from Dataset.camera import Camera

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
        import open3d as o3d      # here, since it takes a second that tests of other modules need not pay

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
        """Whether anything lies on the rays between ``near`` and ``far`` (in lengths of the directions):
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


def cast(vertices: np.ndarray, triangles: np.ndarray, camera: Camera) -> Hits:
    """What ``camera`` sees of a mesh, (height, width); for several views of one mesh keep a
    :class:`Scene`."""
    return Scene(vertices, triangles).cast(camera)


def interpolate(hits: Hits, triangles: np.ndarray, attribute: np.ndarray) -> np.ndarray:
    """A vertex attribute (V,) or (V, C) at the hit points: (...) or (..., C) in its float dtype, NaN at
    misses."""
    attribute = np.asarray(attribute)
    if not np.issubdtype(attribute.dtype, np.floating):
        attribute = attribute.astype(np.float64)
    flat = attribute.reshape(len(attribute), -1)
    hit = hits.triangle >= 0
    corners = np.asarray(triangles)[hits.triangle[hit]]
    weights = hits.barycentric[hit].astype(attribute.dtype)
    out = np.full((*hits.triangle.shape, flat.shape[1]), np.nan, attribute.dtype)
    out[hit] = sum(flat[corners[:, k]] * weights[:, k:k + 1] for k in range(3))
    return out[..., 0] if attribute.ndim == 1 else out


def cast_slowly(vertices: np.ndarray, triangles: np.ndarray, camera: Camera) -> Hits:
    """The oracle of :func:`cast`: every ray against every triangle (Moeller and Trumbore 1997), float64."""
    vertices, triangles = np.asarray(vertices, np.float64), np.asarray(triangles)
    rays = camera.rays()
    shape = rays.directions.shape[:-1]
    hits = Hits(np.full(shape, -1), np.zeros((*shape, 3)), np.full(shape, np.nan))
    for index in np.ndindex(*shape):
        nearest = np.inf
        for number, (a, b, c) in enumerate(vertices[triangles]):
            cross = np.cross(rays.directions[index], c - a)
            determinant = cross @ (b - a)
            if determinant == 0:
                continue
            u = cross @ (rays.origin - a) / determinant
            other = np.cross(rays.origin - a, b - a)
            v = other @ rays.directions[index] / determinant
            depth = other @ (c - a) / determinant
            if u >= 0 and v >= 0 and u + v <= 1 and 0 < depth < nearest:
                nearest = depth
                hits.triangle[index], hits.depth[index] = number, depth
                hits.barycentric[index] = 1 - u - v, u, v
    return hits
