"""Sample points on a mesh: uniformly by area, as blue noise, or by farthest point sampling. Deterministic by seed.

The thesis draws 2^14 points a face (section 4.2.2) and does not say how. Open3D's own uniform sampling takes its
seed from a global state; here NumPy draws, and Open3D only thins out the candidates, which is deterministic.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from Dataset.geometry.mesh import Mesh
from Dataset.geometry.normals import area_vectors

METHODS = ("uniform", "poisson", "fps")
OVERSAMPLING = {"poisson": 5.0, "fps": 2.5}     # candidates per point: Yuksel's 5; 2.5 for fps, whose cost is quadratic


class Samples(NamedTuple):
    """Points on a mesh, in no particular order.

    points       (N, 3) float64, the mesh's unit
    triangles    (N,) int64, the triangle each lies on
    barycentric  (N, 3) float64, >= 0, sum 1: weights of that triangle's vertices
    """

    points: np.ndarray
    triangles: np.ndarray
    barycentric: np.ndarray


def sample(mesh: Mesh, n: int, rng: np.random.Generator, method: str = "uniform") -> Samples:
    """Exactly `n` points on `mesh`.

    uniform  independent, with a chance proportional to area
    poisson  blue noise by weighted elimination from 5 n uniform ones (Yuksel 2015, Sample Elimination for
             Generating Poisson Disk Sample Sets; Open3D)
    fps      farthest point sampling from 2.5 n uniform ones (Open3D): the most even, and it reaches the boundary

    ValueError for a mesh without area, n < 1 or an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"sampling must be one of {', '.join(METHODS)}, got {method!r}")
    if n < 1:
        raise ValueError(f"at least 1 point must be sampled, got {n}")
    if method == "uniform":
        return _uniform(mesh, n, rng)
    candidates = _uniform(mesh, int(np.ceil(OVERSAMPLING[method] * n)), rng)
    kept = _thin(mesh, candidates.points, n, method)
    return Samples(*(array[kept] for array in candidates))


def _uniform(mesh: Mesh, n: int, rng: np.random.Generator) -> Samples:
    vertices = np.asarray(mesh.vertices, np.float64)
    corners, area = vertices[mesh.triangles], np.linalg.norm(area_vectors(vertices, mesh.triangles), axis=1)
    total = np.cumsum(area)
    if len(area) == 0 or not total[-1] > 0:
        raise ValueError(f"a mesh to sample must have an area, this has {len(area)} triangles and area 0")
    # side="right": a draw of exactly 0, or on a border, never lands on a triangle without area
    triangles = np.searchsorted(total, rng.random(n) * total[-1], side="right")
    triangles = np.minimum(triangles, np.flatnonzero(area)[-1])
    root, along = np.sqrt(rng.random(n)), rng.random(n)
    barycentric = np.stack([1 - root, root * (1 - along), root * along], axis=1)
    return Samples(np.einsum("nk,nkc->nc", barycentric, corners[triangles]), triangles, barycentric)


def _thin(mesh: Mesh, candidates: np.ndarray, n: int, method: str) -> np.ndarray:
    """Choose `n` of the candidates (M, 3) -> (n,) int64 indices, ascending."""
    import open3d as o3d

    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(candidates))
    # The candidate's index is passed along as its normal, and comes back with the point.
    number = np.zeros_like(candidates)
    number[:, 0] = np.arange(len(candidates))
    cloud.normals = o3d.utility.Vector3dVector(number)
    if method == "fps":
        kept = cloud.farthest_point_down_sample(n)
    else:
        whole = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(np.asarray(mesh.vertices, np.float64)),
                                          o3d.utility.Vector3iVector(np.asarray(mesh.triangles, np.int32)))
        kept = whole.sample_points_poisson_disk(n, pcl=cloud)
    chosen = np.sort(np.asarray(kept.normals)[:, 0].astype(np.int64))
    if len(chosen) != n:
        raise ValueError(f"{method} sampling was to keep {n} points of {len(candidates)}, it kept {len(chosen)}")
    return chosen
