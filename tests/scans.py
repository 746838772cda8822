"""Made scans whose truth is known: subjects of the built-in face with bumps that it cannot make, as a scanner gives
them.

A scan is what two cameras see of the head, triangulated anew by decimation, with noise, holes, a ragged border,
strands of hair, in a slightly turned frame, its vertices and triangles in random order.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.normals import vertex_normals
from Dataset.geometry.transforms import Similarity, rotation_from_euler
from Dataset.rendering.raycast import Scene
from Dataset.representations.points import encode


class MadeScan(NamedTuple):
    """scan: unordered mesh, mm; grid (128, 128, 3) the truth on it; landmarks (68, 3); vertices (V, 3) of the head."""

    scan: Mesh
    grid: np.ndarray
    landmarks: np.ndarray
    vertices: np.ndarray


def make_scan(seed: int, bumps: float = 2.0, expression: float = 0.0, noise: float = 0.1, holes: int = 4,
              hair: int = 150, triangles: int = 25_000, turn: float = 8.0) -> MadeScan:
    """`bumps`: largest height in mm; `expression`: strength; `noise`: mm along the normal; `turn`: degrees."""
    rng = np.random.default_rng([17, seed])
    model = load_face_model()
    vertices = model.shape(model.sample_identity(rng), expression * model.sample_expression(rng))
    vertices = vertices + _bumps(model.mean.astype(float), vertices, model.triangles, bumps, rng)
    pose = Similarity(1.0, rotation_from_euler(*rng.uniform(-turn, turn, 3)), rng.uniform(-60, 60, 3))
    fine, faces = model.subdivide(vertices), model.subdivided_triangles
    faces = np.delete(faces, model.region("lashes", subdivided=True), axis=0)
    seen = _seen(fine, faces)
    # a border that follows no edge loop: cut by a wavy distance from the nose
    centre = fine[faces].mean(1) - model.landmarks(vertices)[30]
    angle = np.arctan2(centre[:, 1], centre[:, 0])
    wave = 125 + 8 * np.sin(3 * angle + rng.uniform(0, 6)) + 5 * np.sin(11 * angle + rng.uniform(0, 6))
    seen &= np.linalg.norm(centre, axis=1) < wave
    scan = _decimate(Mesh(fine, faces[seen]), triangles)
    grid = encode(vertices)
    keep = np.ones(len(scan.triangles), bool)
    for position in grid.reshape(-1, 3)[rng.integers(0, 128 * 128, holes)]:
        keep &= np.linalg.norm(scan.vertices[scan.triangles].mean(1) - position, axis=1) > rng.uniform(4, 10)
    points = scan.vertices + vertex_normals(scan.vertices, scan.triangles) * rng.normal(0, noise, (
        len(scan.vertices), 1))
    points, faces = _with_hair(points, scan.triangles[keep], grid, hair, rng)
    order = rng.permutation(len(points))
    number = np.argsort(order)
    scan = Mesh(pose.apply(points[order]), number[faces][rng.permutation(len(faces))])
    return MadeScan(scan, pose.apply(grid), pose.apply(model.landmarks(vertices)), pose.apply(vertices))


def _bumps(mean: np.ndarray, vertices: np.ndarray, triangles: np.ndarray, height: float, rng: np.random.Generator
           ) -> np.ndarray:
    """Smooth displacements along the normals, wider than 8 mm, that the model has no direction for."""
    front = np.flatnonzero((mean[:, 2] > -40) & (mean[:, 1] > -110))
    normals = vertex_normals(vertices, triangles)
    total = np.zeros((len(vertices), 3))
    for position in mean[rng.choice(front, 14)]:
        shape = np.exp(-((mean - position)**2).sum(1) / (2 * rng.uniform(8, 20)**2))
        way = normals[np.argmin(((mean - position)**2).sum(1))] + rng.normal(0, 0.2, 3)
        total += height * rng.uniform(-1, 1) * shape[:, None] * way
    return total


def _seen(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F,) bool: triangles that one of three viewers sees; the mouth's inside and the sockets' backs are not."""
    scene = Scene(vertices, faces, threads=1)
    seen = np.zeros(len(faces), bool)
    x, y = np.meshgrid(np.arange(-130, 130, 0.5), np.arange(-140, 140, 0.5))
    for yaw in (-40, 0, 40):
        rotation = rotation_from_euler(yaw)
        origins = np.stack([x, y, np.full_like(x, 300)], -1) @ rotation.T
        hit = scene.cast_rays(origins, np.broadcast_to(rotation @ (0, 0, -1), origins.shape)).triangle
        seen[hit[hit >= 0]] = True
    return seen


def _decimate(mesh: Mesh, triangles: int) -> Mesh:
    import open3d as o3d
    work = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(mesh.vertices),
                                     o3d.utility.Vector3iVector(mesh.triangles.astype(np.int32)))
    work.remove_unreferenced_vertices()
    if triangles > len(mesh.triangles):
        work = work.subdivide_midpoint(1)
    work = work.simplify_quadric_decimation(triangles)
    return Mesh(np.asarray(work.vertices), np.asarray(work.triangles).astype(np.int64))


def _with_hair(points: np.ndarray, faces: np.ndarray, grid: np.ndarray, strands: int, rng: np.random.Generator
               ) -> tuple[np.ndarray, np.ndarray]:
    """Strips of two triangles a few mm above the upper rows of the grid, unconnected to the skin."""
    positions = grid[rng.integers(0, 22, strands), rng.integers(0, 128, strands)]
    outward = positions - (0, -20, -80)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    begin = positions + outward * rng.uniform(1, 12, (strands, 1))
    along = rng.normal(0, 1, (strands, 3)) * (4, 10, 4)
    side = np.cross(along, outward)
    side *= 1.5 / np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    corners = np.stack([begin, begin + side, begin + along + side, begin + along], 1).reshape(-1, 3)
    base = len(points) + 4 * np.arange(strands)[:, None]
    return np.concatenate([points, corners]), np.concatenate([faces, base + [0, 1, 2], base + [0, 2, 3]])
