"""The surface of a raw scan, for nearest-point queries: welded, cleaned, oriented, with smooth normals.

Normals of single triangles are useless on a noisy scan (0.3 mm over edges of 1.5 mm turn them by 10 degrees), so
normals are averaged over about NORMAL_RADIUS first. A query whose nearest point lies on the scan's boundary has no
surface underneath it: such results are marked.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from Dataset.errors import NotFittable
from Dataset.geometry.closest import ClosestPoints
from Dataset.geometry.edges import border_mask
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.normals import area_vectors, normalise, sum_at_vertices

WELD = 1e-3                 # mm: corners nearer than this are one vertex
SMALL_PIECE = 0.01          # pieces with less than this fraction of the area are removed
BEHIND = 100.0              # mm behind the scan's centre: a viewpoint from which the whole face is back-facing
NORMAL_RADIUS = 2.5         # mm over which normals are averaged


class Nearest(NamedTuple):
    """For N points: points (N, 3) float64 mm on the surface, normals (N, 3) unit, outwards, distance (N,) mm,
    boundary (N,) bool: the point lies on the scan's border or a hole's."""

    points: np.ndarray
    normals: np.ndarray
    distance: np.ndarray
    boundary: np.ndarray


class ScanSurface:
    """Built once per scan; `vertices` (V, 3) mm, `triangles` (F, 3) int64, `normals` (V, 3), `boundary` (V,) bool.

    ValueError, beginning with `name`: coordinates that are not finite, no triangles, no area.
    """

    def __init__(self, scan: Mesh, name: str = "scan", threads: int = 1):
        vertices, triangles = np.asarray(scan.vertices, np.float64), np.asarray(scan.triangles, np.int64)
        if not np.isfinite(vertices).all():
            raise ValueError(f"{name}: a scan's coordinates must be finite, received NaN or infinity")
        vertices, triangles = _weld(vertices, triangles)
        if len(triangles) == 0:
            raise NotFittable(f"{name}: a scan must have triangles with an area, it has none "
                              f"({len(scan.vertices)} vertices, {len(scan.triangles)} triangles)")
        vertices, triangles = _largest_pieces(vertices, triangles)
        corners = vertices[triangles]
        centres, cross = corners.mean(1), area_vectors(vertices, triangles)
        weight = np.linalg.norm(cross, axis=1)
        inside = np.average(centres, axis=0, weights=weight) - (0, 0, BEHIND)
        if np.einsum("ij,ij->", centres - inside, cross) < 0:
            triangles, cross = triangles[:, ::-1].copy(), -cross
        self.vertices, self.triangles, self.area = vertices, triangles, weight / 2
        self.boundary = border_mask(triangles, len(vertices))
        self.normals = _smooth_normals(vertices, triangles, cross)
        self._closest = ClosestPoints(vertices, triangles, threads)

    def nearest(self, points: np.ndarray) -> Nearest:
        """The nearest surface point of each of points (N, 3) mm."""
        found = self._closest(points)
        corners = self.triangles[found.triangle]
        normals = normalise(np.einsum("nk,nkc->nc", found.weights, self.normals[corners]))
        boundary = (found.weights * self.boundary[corners]).sum(1) > 1 - 1e-3
        return Nearest(found.points, normals, found.distance, boundary)


def _weld(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One vertex per position, no triangle without area, no unused vertex. Some scans are unconnected triangles."""
    if len(triangles) == 0:
        return vertices[:0], triangles.reshape(-1, 3)
    used, triangles = np.unique(triangles, return_inverse=True)
    vertices = vertices[used]
    _, first, number = np.unique(np.round(vertices / WELD).astype(np.int64), axis=0, return_index=True,
                                 return_inverse=True)
    vertices, triangles = vertices[first], number.ravel()[triangles.reshape(-1, 3)]
    return vertices, triangles[np.linalg.norm(area_vectors(vertices, triangles), axis=1) > WELD**2]


def _largest_pieces(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sides = triangles[:, [0, 1, 0, 2]].reshape(-1, 2).T
    graph = sparse.coo_matrix((np.ones(sides.shape[1]), sides), (len(vertices),) * 2)
    piece = connected_components(graph, directed=False)[1][triangles[:, 0]]
    area = np.bincount(piece, np.linalg.norm(area_vectors(vertices, triangles), axis=1))
    triangles = triangles[area[piece] >= SMALL_PIECE * area.sum()]
    used, triangles = np.unique(triangles, return_inverse=True)
    return vertices[used], triangles.reshape(-1, 3)


def _smooth_normals(vertices: np.ndarray, triangles: np.ndarray, cross: np.ndarray) -> np.ndarray:
    rows, columns = np.concatenate([triangles, np.roll(triangles, 1, 1)]).T.ravel(), \
        np.concatenate([np.roll(triangles, -1, 1), triangles]).T.ravel()
    graph = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), (len(vertices),) * 2)
    graph.data[:] = 1.0
    graph = graph + sparse.eye(len(vertices))
    edge = np.median(np.linalg.norm(vertices[triangles[:, 1]] - vertices[triangles[:, 0]], axis=1))
    normals = sum_at_vertices(cross, triangles, len(vertices))
    for _ in range(int(np.clip(np.round((NORMAL_RADIUS / edge)**2), 0, 8))):
        normals = graph @ normals           # not normalised in between: large triangles are less noisy
    return normalise(normals)
