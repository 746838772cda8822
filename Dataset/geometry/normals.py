"""Normals of meshes and of clouds."""
from __future__ import annotations

import numpy as np
from scipy import sparse


def normalise(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) at unit length; zero vectors stay zero."""
    length = np.sqrt(np.einsum("...i,...i->...", vectors, vectors))[..., None]
    return vectors / np.where(length > 0, length, 1)


def area_vectors(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Normals (F, 3) of triangles (F, 3) over vertices (V, 3), as long as twice the area, in the vertices' dtype;
    outwards for counter-clockwise triangles."""
    corners = vertices[triangles]
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def sum_at_vertices(values: np.ndarray, triangles: np.ndarray, count: int) -> np.ndarray:
    """Sums (count, 3) float64, at each vertex, of values (F, 3) of the triangles (F, 3) around it."""
    flat = np.asarray(triangles).ravel()
    return np.stack([np.bincount(flat, np.repeat(values[:, k], 3), count) for k in range(3)], axis=-1)


def around(triangles: np.ndarray, count: int) -> sparse.csr_matrix:
    """(count, F) float32: as `sum_at_vertices`, as a matrix, for many meshes of the same triangles (F, 3)."""
    corner = np.repeat(np.arange(len(triangles)), 3)
    return sparse.csr_matrix((np.ones(3 * len(triangles), np.float32), (np.asarray(triangles).ravel(), corner)),
                             (count, len(triangles)))


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Smooth unit normals (V, 3) float64 of a mesh (V, 3), (F, 3), weighted by triangle area; outwards for
    counter-clockwise triangles.

    A vertex with no area around it has a zero normal.
    """
    vertices = np.asarray(vertices, np.float64)
    return normalise(sum_at_vertices(area_vectors(vertices, triangles), triangles, len(vertices)))


def plane_normals(points: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Unit normals (N, 3) of a cloud (M, 3): for each of N points the normal of the least-squares plane through its
    neighbours (N, K) int, indices into the cloud, K >= 3. The sign is arbitrary."""
    patches = points[neighbours] - points[neighbours].mean(axis=1, keepdims=True)
    return np.linalg.eigh(np.einsum("nki,nkj->nij", patches, patches))[1][:, :, 0]
