"""Rasterisation of a mesh in pixel coordinates: a z-buffer in NumPy.

The candidate pixels of all triangles (those of their bounding boxes) are tested at once and resolved by one
`np.maximum.at`, without loops, OpenGL or an acceleration structure. For a mesh of small triangles that moves in every
image this is several times as fast as ray casting, which has to build its tree each time.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

_MIN_AREA = 1e-9      # px^2, twice the area: smaller triangles are not drawn
_MAX = 1 << 24         # candidate pixels of one image: 800 MB of temporary arrays


class Fragments(NamedTuple):
    """The visible triangles of N pixels: pixel (N,) int64, row * size + column, each at most once; triangle (N,) int32;
    weights (N, 3) float32, barycentric; depth (N,) float32, z. Pixels without a triangle are absent."""

    pixel: np.ndarray
    triangle: np.ndarray
    weights: np.ndarray
    depth: np.ndarray


class Faces(NamedTuple):
    """Twice the area vectors of F triangles in the upright frame (x right, y up, z to the viewer), (3, F) float32: the
    third row is positive where the viewer sees the outside."""

    normals: np.ndarray
    corner: np.ndarray          # (3, F): x, y, z of the first corner
    second: np.ndarray          # (3, F): from it to the second
    third: np.ndarray


def faces(points: np.ndarray, triangles: np.ndarray) -> Faces:
    """points (3, V) float32: x, y in pixels, y down, and z to the viewer in the same unit; triangles (3, F) int,
    counter-clockwise from outside."""
    corner = points[:, triangles[0]]
    second, third = points[:, triangles[1]] - corner, points[:, triangles[2]] - corner
    (bx, by, bz), (cx, cy, cz) = second, third
    return Faces(np.stack([bz * cy - by * cz, bz * cx - bx * cz, by * cx - bx * cy]), corner, second, third)


def rasterise(found: Faces, size: int) -> Fragments:
    """The visible triangles of a (size, size) image; back faces are not drawn. A pixel whose centre lies on an edge
    belongs to either of its triangles. ValueError if the triangles are so large that the image would take gigabytes.
    """
    (ax, ay, az), (bx, by, bz), (cx, cy, cz), area = *found[1:], found.normals[2]
    half, zero = np.float32(0.5), np.float32(0)
    left, right = _extent(ax, bx, cx, zero, size)
    top, bottom = _extent(ay, by, cy, zero, size)
    wide, tall = right - left + 1, bottom - top + 1
    kept = np.flatnonzero((area > _MIN_AREA) & (wide > 0) & (tall > 0)).astype(np.int32)
    left, top, wide, tall = left[kept], top[kept], wide[kept], tall[kept]
    ax, ay, az, bx, by, bz, cx, cy, cz = (values[kept] for values in (ax, ay, az, bx, by, bz, cx, cy, cz))
    inverse = 1 / area[kept]
    # the second and third weight, linear in the offset from the box's first pixel centre
    ux, uy, vx, vy = -cy * inverse, cx * inverse, by * inverse, -bx * inverse
    x, y = left.astype(np.float32) + half - ax, top.astype(np.float32) + half - ay
    u0, v0 = x * ux + y * uy, x * vx + y * vy
    count = wide * tall
    total = int(count.sum(dtype=np.int64))
    if total > _MAX:
        raise ValueError(f"rasterise: {total} candidate pixels are more than {_MAX}: the mesh is too near")
    which = np.repeat(np.arange(len(kept), dtype=np.int32), count)
    step = np.arange(total, dtype=np.int32) - np.repeat((np.cumsum(count) - count).astype(np.int32), count)
    width = wide[which]
    row = step // width
    column = step - row * width
    right, down = column.astype(np.float32), row.astype(np.float32)
    u, v = u0[which] + ux[which] * right + uy[which] * down, v0[which] + vx[which] * right + vy[which] * down
    inside = np.flatnonzero((u >= 0) & (v >= 0) & (u + v <= 1))
    which, u, v = which[inside], u[inside], v[inside]
    pixel = (top[which] + row[inside]).astype(np.int64) * size + left[which] + column[inside]
    depth = az[which] + u * bz[which] + v * cz[which]
    nearest = np.full(size * size, -np.inf, np.float32)
    np.maximum.at(nearest, pixel, depth)
    # of two at the same depth, on a shared edge, the later one
    owner = np.full(size * size, -1, np.int64)
    first = np.flatnonzero(depth == nearest[pixel])
    owner[pixel[first]] = first
    win = owner[owner >= 0]
    u, v = u[win], v[win]
    return Fragments(pixel[win], kept[which[win]], np.stack([1 - u - v, u, v], 1), depth[win])


def _extent(a: np.ndarray, b: np.ndarray, c: np.ndarray, zero: np.float32, size: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last pixel whose centre lies within the corners a, a + b, a + c, cut at the image: int32."""
    low = np.minimum(np.minimum(b, c), zero) + a
    high = np.maximum(np.maximum(b, c), zero) + a
    # clipped before the cast: coordinates far outside overflow an integer
    return (np.ceil(np.clip(low, -1, size + 1) - np.float32(0.5)).clip(0).astype(np.int32),
            np.floor(np.clip(high, -1, size + 1) - np.float32(0.5)).clip(None, size - 1).astype(np.int32))
