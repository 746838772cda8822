"""Images of volumes: the surface that a viewer sees, lit, and the volume's outline over the photo."""
from __future__ import annotations

import cv2
import numpy as np

from Dataset.rendering.shading import lambert
from Dataset.representations.volume import front
from Evaluation.figures.sheet import to_uint8

LIGHT = np.array([-0.35, -0.45, 0.82])      # x right, y down, z to the viewer; from the upper left


def front_image(values: np.ndarray) -> np.ndarray:
    """The front surface of a volume (S, S, D), sigmoid values, lit from the upper left: (S, S, 3) uint8 BGR; black
    off the surface."""
    z = front(values)
    seen = np.isfinite(z)
    flat = np.where(seen, z, 0.0)
    # a mean over the neighbours on the face: voxels are steps
    weight = np.maximum(cv2.GaussianBlur(seen.astype(np.float64), (0, 0), 1.0), 1e-6)
    smooth = cv2.GaussianBlur(flat, (0, 0), 1.0) / weight
    down, across = np.gradient(smooth)
    normal = np.stack([across, down, np.ones_like(z)], -1)
    # z grows away from the viewer: where it grows to the right, the surface turns to the right
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    grey = np.where(seen, 40 + 215 * lambert(normal, LIGHT / np.linalg.norm(LIGHT)), 0)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, -1)


def outline(photo: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A photo (S, S, 3), uint8 or float in [0, 1], with the outline of what a volume (S, S, D) fills, uint8 BGR."""
    drawn = to_uint8(photo).copy()
    inside = np.isfinite(front(values)).astype(np.uint8)
    drawn[(inside - cv2.erode(inside, np.ones((3, 3), np.uint8))) > 0] = (80, 230, 80)
    return drawn
