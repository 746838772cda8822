"""Correspondences between one photo and the ordered grid, as networks predict and `Dataset/fitting/multi_view.py` fits
them."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from Dataset.errors import NotFittable
from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.representations.points import SIZE

MIN_VALUE = 6               # points with a weight: a pose has six numbers
CONTOUR = 17            # landmarks 0-16: the jaw's outline in the image, a line on the face that depends on the pose
CONTOUR_TRUST = 0.1     # weight of the contour, relative to the others


class Correspondences(NamedTuple):
    """One photo. grid: (K, 2) float64 row and column on the ordered 128x128 grid, within 0 and 127, continuous; pixels:
    (K, 2) float64 x, y of its projection in the crop, px, the first pixel's centre 0.5, also outside of it;
    weights: (K,) float64 >= 0, 1 / variance of a coordinate, px^-2, 0 for ignored points; size: side of the
    square crop, px."""

    grid: np.ndarray
    pixels: np.ndarray
    weights: np.ndarray
    size: int


def checked(photo: Correspondences, name: str = "photo") -> Correspondences:
    """The same as float64 arrays. ValueError, one line that begins with ``name``, for other shapes, NaN or infinity,
    positions off the grid, negative weights, a size below 1 px, fewer than 6 points with a weight, or points that all
    coincide."""
    grid, pixels, weights = (np.asarray(x, np.float64) for x in photo[:3])
    count = len(weights) if weights.ndim else -1
    if grid.shape != (count, 2) or pixels.shape != (count, 2) or weights.shape != (count,):
        raise ValueError(f"{name}: grid and pixels must be (K, 2) and weights (K,), received {grid.shape}, "
                         f"{pixels.shape} and {weights.shape}")
    if not all(np.isfinite(x).all() for x in (grid, pixels, weights)):
        raise ValueError(f"{name}: grid, pixels and weights must be finite, received NaN or infinity")
    if not photo.size >= 1:
        raise ValueError(f"{name}: the crop's size must be at least 1 px, received {photo.size}")
    if (weights < 0).any():
        raise ValueError(f"{name}: weights must not be negative, received {weights.min():g}")
    used = weights > 0
    if count and not used.any():
        raise NotFittable(f"{name}: at least {MIN_VALUE} weights must be positive, received {count} that are 0")
    if used.sum() < MIN_VALUE:
        raise NotFittable(f"{name}: at least {MIN_VALUE} points with a weight are needed, received {used.sum()}")
    if grid.min() < 0 or grid.max() > SIZE - 1:
        raise ValueError(f"{name}: positions must lie within 0 and {SIZE - 1} on the grid, "
                         f"received {grid.min():g} to {grid.max():g}")
    if not np.ptp(pixels[used], axis=0).max() > 0 or not np.ptp(grid[used], axis=0).max() > 0:
        raise NotFittable(f"{name}: points must not all coincide")
    return Correspondences(grid, pixels, weights, photo.size)


def from_landmarks(pixels: np.ndarray, size: int, weights: np.ndarray | None = None,
                   model: FaceModel | None = None) -> Correspondences:
    """The 68 landmarks (Multi-PIE order) seen at pixels (68, 2) of a crop of ``size`` px; weights (68,) px^-2, else 1.

    Landmarks of the jaw (0-16) have a tenth of the weight: on a rotated head detectors place them on the outline, which
    differs from the model's definition. ValueError for other shapes.
    """
    model = load_face_model() if model is None else model
    pixels = np.asarray(pixels, np.float64)
    weights = np.ones(len(model.grid_landmarks)) if weights is None else np.asarray(weights, np.float64)
    if pixels.shape != model.grid_landmarks.shape or weights.shape != pixels.shape[:1]:
        raise ValueError(f"landmarks must be (68, 2) with (68,) weights, received {pixels.shape} and {weights.shape}")
    trust = np.where(np.arange(len(weights)) < CONTOUR, CONTOUR_TRUST, 1.0)
    return Correspondences(model.grid_landmarks.copy(), pixels, weights * trust, size)
