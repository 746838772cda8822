"""A raw scan as a surface that can be asked for its nearest point: welded, cleaned, oriented, with smooth normals.

Normals of single triangles are useless on a noisy scan (0.3 mm over edges of 1.5 mm turn them by 10 degrees), so
normals are averaged over about NORMAL_RADIUS first. Where a nearest point lies on the scan's rim there is no
surface underneath the point that asked: such answers are marked.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from Dataset.errors import NotFittable
from Dataset.mesh import Mesh

WELD = 1e-3                 # mm: corners nearer than this are one vertex
SMALL_PIECE = 0.01          # pieces with less than this share of the area are dust
BEHIND = 100.0              # mm behind the scan's middle: seen from there all of a face looks away
NORMAL_RADIUS = 2.5         # mm over which normals are averaged


class Nearest(NamedTuple):
    """For N points: points (N, 3) float64 mm on the surface, normals (N, 3) unit, outwards, distance (N,) mm,
    rim (N,) bool: the point lies on the scan's border or a hole's."""

    points: np.ndarray
    normals: np.ndarray
    distance: np.ndarray
    rim: np.ndarray


class ScanSurface:
    """Built once per scan; `vertices` (V, 3) mm, `triangles` (F, 3) int64, `normals` (V, 3), `rim` (V,) bool.

    ValueError, beginning with `name`: coordinates that are not finite, no triangles, no area.
    """

    def __init__(self, scan: Mesh, name: str = "scan", threads: int = 1):
        import open3d as o3d        # takes a second to import

        vertices, triangles = np.asarray(scan.vertices, np.float64), np.asarray(scan.triangles, np.int64)
        if not np.isfinite(vertices).all():
            raise ValueError(f"{name}: a scan's coordinates must be finite, received NaN or infinity")
        vertices, triangles = _weld(vertices, triangles)
        if len(triangles) == 0:
            raise NotFittable(f"{name}: a scan must have triangles with an area, it has none "
                              f"({len(scan.vertices)} vertices, {len(scan.triangles)} triangles)")
        vertices, triangles = _largest_pieces(vertices, triangles)
        corners = vertices[triangles]
        centres, cross = corners.mean(1), _cross(corners)
        weight = np.linalg.norm(cross, axis=1)
        inside = np.average(centres, axis=0, weights=weight) - (0, 0, BEHIND)
        if np.einsum("ij,ij->", centres - inside, cross) < 0:
            triangles, cross = triangles[:, ::-1].copy(), -cross
        self.vertices, self.triangles, self.area = vertices, triangles, weight / 2
        self.rim = _rim(triangles, len(vertices))
        self.normals = _smooth_normals(vertices, triangles, cross)
        self._origin = vertices.mean(0)         # Open3D computes in float32
        self._tensor = o3d.core.Tensor.from_numpy
        self._scene = o3d.t.geometry.RaycastingScene(nthreads=threads)
        self._scene.add_triangles(self._tensor((vertices - self._origin).astype(np.float32)),
                                  self._tensor(triangles.astype(np.uint32)))
        self._threads = threads

    def nearest(self, points: np.ndarray) -> Nearest:
        """The nearest surface point of each of points (N, 3) mm."""
        points = np.asarray(points, np.float64)
        answer = self._scene.compute_closest_points(self._tensor((points - self._origin).astype(np.float32)),
                                                    nthreads=self._threads)
        corners = self.triangles[answer["primitive_ids"].numpy().astype(np.int64)]
        uv = answer["primitive_uvs"].numpy().astype(np.float64)
        weights = np.concatenate([1 - uv.sum(1, keepdims=True), uv], axis=1)
        place = np.einsum("nk,nkc->nc", weights, self.vertices[corners])
        normals = np.einsum("nk,nkc->nc", weights, self.normals[corners])
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        rim = (weights * self.rim[corners]).sum(1) > 1 - 1e-3
        return Nearest(place, normals, np.linalg.norm(place - points, axis=1), rim)


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals (V, 3) of a mesh, weighted by area; (0, 0, 0) where a vertex has no area around it."""
    cross = _cross(vertices[triangles])
    normals = np.stack([np.bincount(triangles.ravel(), np.repeat(cross[:, c], 3), len(vertices)) for c in range(3)], 1)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _cross(corners: np.ndarray) -> np.ndarray:
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def _weld(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One vertex per place, no triangle without area, no unused vertex. Some scans are soups of single triangles."""
    if len(triangles) == 0:
        return vertices[:0], triangles.reshape(-1, 3)
    used, triangles = np.unique(triangles, return_inverse=True)
    vertices = vertices[used]
    _, first, number = np.unique(np.round(vertices / WELD).astype(np.int64), axis=0, return_index=True,
                                 return_inverse=True)
    vertices, triangles = vertices[first], number.ravel()[triangles.reshape(-1, 3)]
    return vertices, triangles[np.linalg.norm(_cross(vertices[triangles]), axis=1) > WELD**2]


def _largest_pieces(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sides = triangles[:, [0, 1, 0, 2]].reshape(-1, 2).T
    graph = sparse.coo_matrix((np.ones(sides.shape[1]), sides), (len(vertices),) * 2)
    piece = connected_components(graph, directed=False)[1][triangles[:, 0]]
    area = np.bincount(piece, np.linalg.norm(_cross(vertices[triangles]), axis=1))
    triangles = triangles[area[piece] >= SMALL_PIECE * area.sum()]
    used, triangles = np.unique(triangles, return_inverse=True)
    return vertices[used], triangles.reshape(-1, 3)


def _rim(triangles: np.ndarray, count: int) -> np.ndarray:
    """Vertices on an edge of one triangle only, (V,) bool."""
    sides = np.sort(np.stack([triangles, np.roll(triangles, -1, 1)], 2).reshape(-1, 2), 1)
    edges, uses = np.unique(sides[:, 0] * count + sides[:, 1], return_counts=True)
    rim = np.zeros(count, bool)
    rim[np.concatenate(np.divmod(edges[uses == 1], count))] = True
    return rim


def _smooth_normals(vertices: np.ndarray, triangles: np.ndarray, cross: np.ndarray) -> np.ndarray:
    rows, columns = np.concatenate([triangles, np.roll(triangles, 1, 1)]).T.ravel(), \
        np.concatenate([np.roll(triangles, -1, 1), triangles]).T.ravel()
    graph = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), (len(vertices),) * 2)
    graph.data[:] = 1.0
    graph = graph + sparse.eye(len(vertices))
    edge = np.median(np.linalg.norm(vertices[triangles[:, 1]] - vertices[triangles[:, 0]], axis=1))
    normals = np.stack([np.bincount(triangles.ravel(), np.repeat(cross[:, c], 3), len(vertices)) for c in range(3)], 1)
    for _ in range(int(np.clip(np.round((NORMAL_RADIUS / edge)**2), 0, 8))):
        normals = graph @ normals           # not normalised in between: large triangles are less noisy
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
