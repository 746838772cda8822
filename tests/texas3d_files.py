"""Pairs of images named as in the Texas 3D Face Recognition Database, of the built-in face: for tests, no licence."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.geometry.camera import look_at_face
from Dataset.geometry.normals import vertex_normals
from Dataset.io.images import write_image
from Dataset.rendering.raycast import Scene
from Dataset.synthesis.scene import pose_vertices
from tests.rays import interpolate

PIXEL = 1.6             # mm of a pixel and of a grey level: the real images have five times as many
LEVEL = 0.5
SIZE = (100, 150)       # width, height: 501 x 751 there
FAR = 1e5


def depth_of(subject: int, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A subject's face: vertices (V, 3) mm, (H, W) depth from a plane at z = FAR, normals (H, W, 3); NaN off the face.
    """
    model = load_face_model()
    rng = np.random.default_rng([subject, number])
    pose = np.array([*rng.uniform(-5, 5, 3), 0, 0, -60.0])
    vertices = pose_vertices(model.shape(model.sample_identity(np.random.default_rng(subject))), pose)
    width, height = SIZE
    camera = look_at_face(max(SIZE), FAR, FAR / PIXEL)
    camera = camera._replace(width=width, height=height, centre=(width / 2, height / 2))
    hits = Scene(vertices, model.triangles, threads=1).cast(camera)
    depth = np.where(hits.depth - np.nanmin(hits.depth) < 250 * LEVEL, hits.depth, np.nan)
    normals = interpolate(hits, model.triangles, vertex_normals(vertices, model.triangles))
    return vertices, depth, np.where(np.isfinite(depth)[..., None], normals, np.nan)


def write_pair(folder: Path, subject: int, number: int = 0) -> str:
    """Write one pair -> its name without endings."""
    _, depth, normals = depth_of(subject, number)
    name = f"Made_{subject:03d}_{number:04d}"
    lit = np.nan_to_num((normals @ np.array([0.3, 0.4, 0.866])).clip(0.45, 1), nan=0.1)
    tint = np.array([150, 170, 220]) * np.random.default_rng([subject, 9]).uniform(0.7, 1.1, 3)
    write_image(folder / f"{name}_Portrait.png", (lit[..., None] * tint).clip(0, 255).astype(np.uint8))
    levels = np.where(np.isfinite(depth), np.rint(255 - (depth - np.nanmin(depth)) / LEVEL).clip(1, 255), 0)
    write_image(folder / f"{name}_Range.png", np.nan_to_num(levels).astype(np.uint8))
    return name


def write_database(folder: Path, subjects: int = 6, images: int = 2) -> list[str]:
    """Pairs of subjects 001, 002 ...; the k-th has `images` + k % 2 of them."""
    return [write_pair(folder, subject, number) for subject in range(1, subjects + 1)
            for number in range(images + subject % 2)]
