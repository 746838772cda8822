"""An image turned so that a head in it is upright, and the way back.

The networks see heads of up to 45 degrees of roll in training, so that an image is turned for a larger roll only. A
turn near a quarter is made one, which needs no interpolation.
"""
from __future__ import annotations

import math
from typing import NamedTuple, Sequence

import cv2
import numpy as np

from Dataset.io.images import Box

MAX_ROLL = 30.0     # degrees to which a head stays as it is
SNAP = 15.0         # degrees from a quarter turn within which that is taken


class Upright(NamedTuple):
    """degrees by which an image is turned clockwise; its height and width before, px. Pixel coordinates begin with 0 at
    the image's edge. 0, the default: the image itself."""

    degrees: float = 0.0
    height: int = 0
    width: int = 0

    @classmethod
    def of(cls, shape: Sequence[int], roll: float) -> "Upright":
        """For an image (H, W, ...) and a head that is rolled by so many degrees, counter-clockwise."""
        quarter = 90 * round(roll / 90)
        degrees = quarter if abs(roll - quarter) <= SNAP else 0.0 if abs(roll) <= MAX_ROLL else roll
        return cls(float(degrees) % 360, shape[0], shape[1]) if degrees % 360 else cls()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the turned image, px, which holds the whole one."""
        sine, cosine = abs(math.sin(math.radians(self.degrees))), abs(math.cos(math.radians(self.degrees)))
        return (math.ceil(self.height * cosine + self.width * sine - 1e-6),
                math.ceil(self.width * cosine + self.height * sine - 1e-6))

    @property
    def to_photo(self) -> np.ndarray:
        """(2, 3) float64: px of the turned image to px of the image."""
        if not self.degrees:
            return np.eye(2, 3)
        angle = math.radians(self.degrees)
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        height, width = self.size
        return np.column_stack([turn, np.array([self.width, self.height]) / 2 - turn @ (width / 2, height / 2)])

    def in_photo(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 2) px of the turned image -> px of the image."""
        matrix = self.to_photo
        return np.asarray(points, float) @ matrix[:, :2].T + matrix[:, 2]

    def box(self, box: Box) -> Box:
        """A square box about the same centre of the image, (x, y, w, h) px -> of the turned image, upright there."""
        if not self.degrees:
            return box
        x, y, w, h = box
        matrix = cv2.invertAffineTransform(self.to_photo)
        centre = matrix[:, :2] @ (x + w / 2, y + h / 2) + matrix[:, 2]
        return round(float(centre[0]) - w / 2), round(float(centre[1]) - h / 2), w, h


def turned_upright(image: np.ndarray, upright: Upright) -> np.ndarray:
    """(H, W, 3) uint8 turned, in an image that holds all of it; its border is repeated outside."""
    if not upright.degrees:
        return image
    if not upright.degrees % 90:
        return np.ascontiguousarray(np.rot90(image, -round(upright.degrees / 90)))
    matrix = upright.to_photo
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5        # OpenCV has the first pixel's centre at 0
    return cv2.warpAffine(image, matrix, upright.size[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                          borderMode=cv2.BORDER_REPLICATE)


def grown(box: Box, margin: float) -> Box:
    """A box (x, y, w, h) enlarged about its centre by `margin`, in whole pixels."""
    x, y, w, h = box
    return round(x - w * (margin - 1) / 2), round(y - h * (margin - 1) / 2), round(w * margin), round(h * margin)
