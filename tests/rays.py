"""Slow, obvious twins of the ray caster and of the rasteriser, and values at hit points."""
import numpy as np

from Dataset.geometry.camera import Camera
from Dataset.rendering.rasterise import _MIN_AREA, Fragments
from Dataset.rendering.raycast import Hits, Scene


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


def rasterise_slowly(points: np.ndarray, triangles: np.ndarray, size: int) -> Fragments:
    """The oracle of :func:`rasterise`: every pixel centre against every triangle, float64. Takes what `faces` takes."""
    points = np.asarray(points, np.float64).T
    best: dict[int, tuple[float, int, tuple[float, ...]]] = {}
    for number, (a, b, c) in enumerate(points[np.asarray(triangles).T]):
        area = (b - a)[1] * (c - a)[0] - (b - a)[0] * (c - a)[1]
        if area <= _MIN_AREA:
            continue
        for row in range(size):
            for column in range(size):
                x, y = np.array([column + 0.5, row + 0.5]) - a[:2]
                u = ((c - a)[0] * y - (c - a)[1] * x) / area
                v = ((b - a)[1] * x - (b - a)[0] * y) / area
                depth, pixel = a[2] + u * (b - a)[2] + v * (c - a)[2], row * size + column
                if u >= 0 and v >= 0 and u + v <= 1 and (pixel not in best or depth > best[pixel][0]):
                    best[pixel] = depth, number, (1 - u - v, u, v)
    order = sorted(best)
    return Fragments(np.array(order, np.int64), np.array([best[p][1] for p in order], np.int32),
                     np.array([best[p][2] for p in order], np.float32).reshape(-1, 3),
                     np.array([best[p][0] for p in order], np.float32))
