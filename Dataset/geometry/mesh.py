"""Triangle meshes and point clouds: cleaning and cropping.

`Dataset.io.mesh_io` reads and writes them, `Dataset.geometry.sampling` draws points on them.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Mesh(NamedTuple):
    """A triangle mesh, or a point cloud when `triangles` is empty.

    vertices   (V, 3) float64, millimetres unless said otherwise
    triangles  (F, 3) int64, counter-clockwise from outside; (0, 3) for a cloud
    uv         (V, 2) float64 in [0, 1], v up; None if there is none
    colours    (V, 3) uint8, **RGB** (as in .ply files); None if there are none
    """

    vertices: np.ndarray
    triangles: np.ndarray = np.zeros((0, 3), np.int64)
    uv: np.ndarray | None = None
    colours: np.ndarray | None = None


def clean(mesh: Mesh) -> Mesh:
    """The thesis's cleaning (listing B-1.2): remove non-manifold edges, then vertices that no triangle uses.

    Of an edge with more than two triangles Open3D removes the smallest ones. ValueError for a point cloud, of which
    nothing would be left.
    """
    import open3d as o3d

    if len(mesh.triangles) == 0:
        raise ValueError("a mesh without triangles cannot be cleaned: all its vertices are unreferenced")
    work = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(np.asarray(mesh.vertices, np.float64)),
                                     o3d.utility.Vector3iVector(np.asarray(mesh.triangles, np.int32)))
    work.remove_non_manifold_edges()
    return _keep_used(mesh._replace(triangles=np.asarray(work.triangles).astype(np.int64)))


def crop_sphere(mesh: Mesh, centre: np.ndarray, radius: float) -> Mesh:
    """The part of a mesh or cloud within `radius` of `centre` (3,), in the unit of the mesh.

    A triangle is kept if its three vertices are within the radius. The mesh is empty if nothing is.
    """
    inside = np.linalg.norm(np.asarray(mesh.vertices) - np.asarray(centre), axis=1) <= radius
    if len(mesh.triangles) == 0:
        return _select(mesh, inside)
    return _keep_used(mesh._replace(triangles=mesh.triangles[inside[mesh.triangles].all(axis=1)]))


def _keep_used(mesh: Mesh) -> Mesh:
    used = np.zeros(len(mesh.vertices), bool)
    used[mesh.triangles] = True
    return _select(mesh, used)


def _select(mesh: Mesh, keep: np.ndarray) -> Mesh:
    """The vertices where `keep` (V,) is true, in their order; triangles, all of whose corners stay, renumbered."""
    number = np.cumsum(keep) - 1
    return Mesh(mesh.vertices[keep], number[mesh.triangles].reshape(-1, 3),
                None if mesh.uv is None else mesh.uv[keep],
                None if mesh.colours is None else mesh.colours[keep])
