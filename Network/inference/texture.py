"""The colours of a face, gathered from any number of photos: each point takes them from photos that see it squarely."""
from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from Dataset.rendering.texture import fill
from Network.layers.grid import grid_normals, resample, texels

#: where no place is known: point (px, py) of a unit-sphere cloud lies at (x + scale px, y - scale py) of the frontal
#: detector's square; measured on 160 frontal renders, rms 2.6 % of the square
FACE_IN_BOX = (0.611, 0.5, 0.48)
TEXTURE = 256       # texels a side
_SHARPNESS = 6          # the larger, the more the squarest view decides
_BEHIND = 0.08          # unit sphere: a point this much behind another in the same cell is hidden
_CELLS = 72
_MIN = 5e-3           # a weight below it is no view at all


class View(NamedTuple):
    """place (N, 2): of each point in the photo, in sides, the top left corner (0, 0); weight (N,) in [0, 1]: how
    squarely the photo sees it, 0 where it does not."""

    place: np.ndarray
    weight: np.ndarray


def view_of(points: np.ndarray, keypoints: np.ndarray) -> View:
    """How a photo sees a face. points (N, 3), an ordered grid in the head frame; places (K, 2), a coarser grid of where
    they lie, in sides of the photo."""
    side, coarse = round(len(points) ** 0.5), round(len(keypoints) ** 0.5)
    fine = resample(keypoints, side)
    few = resample(points, coarse).astype(np.float64)
    known = np.concatenate([few, np.ones((len(few), 1))], axis=1)
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
    """The same without places, for a photo that the frontal detector cut."""
    scale, x, y = FACE_IN_BOX
    place = np.stack([x + scale * points[:, 0], y - scale * points[:, 1]], 1)
    return View(place, np.clip(grid_normals(points)[:, 2], 0, 1) ** _SHARPNESS)


class Texture:
    """The colours of an ordered grid of N points, as a texture: a running, weighted mean over photos."""

    def __init__(self, count: int) -> None:
        self._points = round(count ** 0.5)
        self._side = max(TEXTURE, self._points)
        self._sum = np.zeros((self._side ** 2, 3), np.float32)
        self._weight = np.zeros(self._side ** 2, np.float32)

    def add(self, photo: np.ndarray, view: View, free: np.ndarray | None = None) -> None:
        """photo (P, P, 3) uint8 BGR as a view of the N points sees the face. free (S, S) bool: the pixels of the same
        square that show the face with nothing before it, else hair, hands and glasses are painted onto it; None: all.
        """
        place = texels(view.place, self._side).reshape(self._side, self._side, 2)
        weight = texels(view.weight[:, None], self._side)[:, 0].astype(np.float32)
        bgr = _sampled(photo, place, cv2.BORDER_REPLICATE).reshape(-1, 3)
        if free is not None:
            # a pixel is free by its centre: at its rim hair may show, so its neighbours have to be free as well
            sure = cv2.erode(np.asarray(free).astype(np.float32), np.ones((3, 3), np.uint8))
            weight *= _sampled(sure, place, cv2.BORDER_CONSTANT).ravel() > 0.999
        self._sum += bgr * weight[:, None]
        self._weight += weight

    def image(self) -> np.ndarray | None:
        """(side, side, 3) uint8 BGR, a texel for each place of the face, row by row; None before a photo showed any.

        What no photo shows takes the other half's colour, then a smooth continuation.
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


def _sampled(picture: np.ndarray, place: np.ndarray, border: int) -> np.ndarray:
    """A square picture (S, S, ...) at places (h, w, 2) in its sides, bilinear."""
    return cv2.remap(picture, (place * len(picture) - 0.5).astype(np.float32), None, cv2.INTER_LINEAR,
                     borderMode=border)
