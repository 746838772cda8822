"""The colours of a face from any number of photos: each point takes them from photos that show it frontally."""
from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from Dataset.rendering.texture import fill
from Network.layers.grid import grid_normals, resample, texels

#: without keypoints: point (px, py) of a unit-sphere cloud lies at (x + scale px, y - scale py) of the frontal
#: detector's square; measured on 160 frontal renders, rms 2.6 % of the square
FACE_IN_BOX = (0.611, 0.5, 0.48)
TEXTURE = 256           # texels a side, where no more is asked for
SIDES = (32, 1024)      # what may be asked for
_SHARPNESS = 6          # the larger, the more the most frontal view dominates
_BEHIND = 0.08          # unit sphere: a point this much behind another in the same cell is hidden
_CELLS = 72
_MIN = 5e-3           # a smaller weight counts as hidden


class View(NamedTuple):
    """position (N, 2): of each point in the photo, normalised coordinates; weight (N,) in [0, 1]: 1 where the photo
    shows it frontally, 0 where it is hidden."""

    position: np.ndarray
    weight: np.ndarray


def view_of(points: np.ndarray, keypoints: np.ndarray) -> View:
    """The view of a face in a photo. points (N, 3), an ordered grid in the head frame; keypoints (K, 2), a coarser
    grid, in normalised coordinates of the photo."""
    side, coarse = round(len(points) ** 0.5), round(len(keypoints) ** 0.5)
    fine = resample(keypoints, side)
    few = resample(points, coarse).astype(np.float64)
    known = np.concatenate([few, np.ones((len(few), 1))], axis=1)
    # an affine camera, not the weak perspective: texels lie where the keypoints do, however a lens has bent the face
    camera = np.linalg.lstsq(known, keypoints * (1.0, -1.0), rcond=None)[0][:3].T        # (2, 3), y up
    toward = np.cross(camera[0], camera[1])
    toward /= max(np.linalg.norm(toward), 1e-12)
    facing = np.clip(grid_normals(points) @ toward, 0, 1)
    inside = ((fine > 0) & (fine < 1)).all(1)
    depth = points @ toward
    cell = np.clip((fine * _CELLS).astype(int), 0, _CELLS - 1) @ (1, _CELLS)
    nearest = np.full(_CELLS * _CELLS, -np.inf)
    np.maximum.at(nearest, cell, depth)
    return View(fine, facing ** _SHARPNESS * inside * (depth > nearest[cell] - _BEHIND))


def frontal_view(points: np.ndarray) -> View:
    """The same without keypoints, for a crop of the frontal detector."""
    scale, x, y = FACE_IN_BOX
    position = np.stack([x + scale * points[:, 0], y - scale * points[:, 1]], 1)
    return View(position, np.clip(grid_normals(points)[:, 2], 0, 1) ** _SHARPNESS)


class Texture:
    """The colours of an ordered grid of N points, as a texture: a running, weighted mean over photos.

    side: texels, within SIDES; at least one for each point.
    """

    def __init__(self, count: int, side: int = TEXTURE) -> None:
        self._points = round(count ** 0.5)
        self._side = max(side, self._points)
        self._sum = np.zeros((self._side ** 2, 3), np.float32)
        self._weight = np.zeros(self._side ** 2, np.float32)

    def add(self, photo: np.ndarray, view: View, visible: np.ndarray | None = None) -> None:
        """Add a photo (P, P, 3) uint8 BGR with its view of the N points. visible (S, S) bool: the pixels of the same
        square in which the face is not occluded, so that hair, hands and glasses are left out; None: all."""
        position = texels(view.position, self._side).reshape(self._side, self._side, 2)
        weight = texels(view.weight[:, None], self._side)[:, 0].astype(np.float32)
        bgr = _sampled(photo, position, cv2.BORDER_REPLICATE).reshape(-1, 3)
        if visible is not None:
            # the mask is sampled at pixel centres: at its boundary hair may show, so it is eroded by a pixel
            eroded = cv2.erode(np.asarray(visible).astype(np.float32), np.ones((3, 3), np.uint8))
            weight *= _sampled(eroded, position, cv2.BORDER_CONSTANT).ravel() > 0.999
        self._sum += bgr * weight[:, None]
        self._weight += weight

    def image(self) -> np.ndarray | None:
        """(side, side, 3) uint8 BGR, a texture over the ordered grid, row by row; None before a photo showed any.

        Hidden texels take the colour of the mirrored ones, then a smooth continuation.
        """
        if self._weight.max() < _MIN:
            return None
        square = (self._side, self._side)
        known = np.clip(self._weight / (4 * _MIN), 0, 1)
        mean = self._sum / np.maximum(self._weight, 1e-9)[:, None]
        filled = fill(mean.reshape(*square, 3), known.reshape(square))
        return np.clip(np.rint(filled), 0, 255).astype(np.uint8)

    def rgb(self) -> np.ndarray | None:
        """(N, 3) uint8 RGB of the points; None before a photo showed any."""
        texture = self.image()
        if texture is None:
            return None
        colours = texels(texture.reshape(-1, 3).astype(np.float32), self._points)
        return np.ascontiguousarray(np.rint(colours)[:, ::-1]).astype(np.uint8)


def _sampled(image: np.ndarray, position: np.ndarray, border: int) -> np.ndarray:
    """A square image (S, S, ...) at positions (h, w, 2) in normalised coordinates, bilinear."""
    return cv2.remap(image, (position * len(image) - 0.5).astype(np.float32), None, cv2.INTER_LINEAR,
                     borderMode=border)
