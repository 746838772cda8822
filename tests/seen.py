"""Made photos of the built-in face: where its keypoints are seen by a pinhole camera, with errors of a chosen kind."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from Dataset.face_model.model import FaceModel
from Dataset.geometry.camera import Camera, look_at_face
from Dataset.geometry.transforms import rotation_from_euler, umeyama
from Dataset.rendering.raycast import Scene
from Dataset.representations.correspondences import Correspondences
from Dataset.representations.points import SIZE, encode
from Dataset.synthesis.renders import visible


class Errors(NamedTuple):
    """white: px, of each point alone; field: px, of a random field over the grid with Gaussian bumps of `width` steps;
    outliers: fraction of points seen anywhere in the crop."""

    white: float = 0.0
    field: float = 0.0
    width: float = 16.0
    outliers: float = 0.0


class Made(NamedTuple):
    """A photo and its truth: camera; rotation; landmarks (68, 2) px; bad (K,) bool, the outliers."""

    photo: Correspondences
    camera: Camera
    rotation: np.ndarray
    landmarks: np.ndarray
    bad: np.ndarray


def see(model: FaceModel, identity: np.ndarray, rng: np.random.Generator, count: int = 800,
        expression: np.ndarray | None = None, angles: tuple[float, float, float] = (0.0, 0.0, 0.0),
        distance: float = 700.0, size: int = 128, errors: Errors = Errors()) -> Made:
    """A face 170 mm wide in the crop, the principal point a little off its middle; up to `count` visible points."""
    rotation = rotation_from_euler(*angles)
    head = model.shape(identity, expression) @ rotation.T
    camera = look_at_face(size, distance, size * distance / 170, (0.02 * size, -0.03 * size))
    grid = encode(head, model=model).reshape(-1, 3)
    seen = visible(Scene(head, model.triangles, 1), camera, grid)
    projected = camera.project(model.landmarks(head))
    photo, bad = disturbed(pixels_of(camera, grid), seen, rng, count, size, errors)
    return Made(photo, camera, rotation, np.stack([projected.x, projected.y], -1), bad)


def pixels_of(camera: Camera, points: np.ndarray) -> np.ndarray:
    """(N, 2)."""
    projected = camera.project(points)
    return np.stack([projected.x, projected.y], -1)


def disturbed(pixels: np.ndarray, seen: np.ndarray, rng: np.random.Generator, count: int, size: int, errors: Errors
              ) -> tuple[Correspondences, np.ndarray]:
    """A sample of the visible ones of the grid's pixels (16384, 2), with errors; weights 1."""
    picked = np.sort(rng.permutation(np.flatnonzero(seen))[:count])
    pixels = pixels[picked] + errors.white * rng.standard_normal((len(picked), 2))
    if errors.field:
        pixels = pixels + errors.field * smooth_field(rng, errors.width)[picked]
    bad = rng.random(len(picked)) < errors.outliers
    pixels[bad] = rng.uniform(0, size, (bad.sum(), 2))
    grid = np.stack(np.divmod(picked, SIZE), 1).astype(float)
    return Correspondences(grid, pixels, np.ones(len(picked)), size), bad


def smooth_field(rng: np.random.Generator, width: float) -> np.ndarray:
    """(16384, 2) with variance 1: white noise under a Gaussian of `width` grid steps."""
    boundary = round(3 * width)
    noise = gaussian_filter(rng.standard_normal((SIZE + 2 * boundary, SIZE + 2 * boundary, 2)), (width, width, 0))
    return noise[boundary:-boundary, boundary:-boundary].reshape(-1, 2) * (2 * np.sqrt(np.pi) * width)


def squared_error(model: FaceModel, identity: np.ndarray, truth: np.ndarray) -> float:
    """The neutral face's squared error over the mean face's, over the grid, both after a similarity."""
    faces = [encode(model.shape(x), model=model).reshape(-1, 3) for x in (truth, identity, np.zeros(1))]
    errors = [((umeyama(face, faces[0]).apply(face) - faces[0]) ** 2).sum() for face in faces[1:]]
    return float(errors[0] / errors[1])
