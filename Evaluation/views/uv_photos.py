"""The views of a UV map that `demo.py --view` writes, photo by photo (Ronkainen 2017, section 3.8)."""
from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np

from Evaluation.figures.sheet import contact_row, to_uint8
from Evaluation.views.base import ViewFile
from Evaluation.views.face_swap import Face, swap_face
from Evaluation.views.uv import TextureMean, grid_lines, grid_points, lift, project_texture

VIEWS = ("texture", "inverse", "lines", "points", "swap", "uv", "mask", "visible", "row")
SQUARES = 16            # of the checkered texture, a side
TEXTURE = 512           # texels a side
TILE = 160              # px of an image of "row"


class Maps(Protocol):
    """uv (S, S, 2) float32, NaN off the face; mask (S, S) bool, the face, whatever stands before it; visible_mask
    (S, S) bool, the face where nothing does."""

    uv: np.ndarray
    mask: np.ndarray
    visible_mask: np.ndarray


def checkered(size: int = TEXTURE, squares: int = SQUARES) -> np.ndarray:
    """A texture (size, size, 3) uint8 BGR whose points differ: squares, red to the right, green upwards."""
    steps = (np.arange(size) + 0.5) / size
    dark = (np.floor(steps * squares)[:, None] + np.floor(steps * squares)) % 2
    ramp = np.broadcast_to(steps, (size, size))
    colour = np.stack([np.full((size, size), 0.35), ramp.T[::-1], ramp], -1)
    return np.rint(255 * colour * (0.55 + 0.45 * dark[..., None])).astype(np.uint8)


class ViewWriter(ViewFile):
    """Draws one view of each photo's map and writes it beside the face as NAME_VIEW.png. "inverse" is the mean of all
    photos so far, "swap" the first face in the last one's place, the whole image; "uv", "mask" and "visible" are what
    the network gives, u red and v green; "row" is the eight images of figure 4.1. ValueError for another view."""

    views = VIEWS

    def __init__(self, view: str) -> None:
        super().__init__(view)
        self._texture = checkered()
        if view == "swap":
            self.missing = ("--view swap puts the first photo's face into the others: name two photos, or one of two "
                            "subjects with --faces all")

    def reset(self) -> None:
        super().reset()
        self._mean = TextureMean(TEXTURE)
        self._first: Face | None = None

    def draw(self, photo: np.ndarray, maps: Maps) -> np.ndarray:
        """photo (P, P, 3) uint8 BGR, the square that the network saw, finer -> the view, uint8 BGR; kept to `write`.
        Of the first photo of "swap" there is none: the photo comes back."""
        box = (0, 0, photo.shape[1], photo.shape[0])
        if self.view == "swap":
            return self._swap(photo, box, maps)
        uv, where = lift(maps.uv, box, photo.shape), lift(maps.visible_mask, box, photo.shape)
        if self.view in ("inverse", "row"):
            self._mean.add(photo, uv, where)
        self.image = self._row(photo, uv, where, maps) if self.view == "row" else \
            self._one(self.view, photo, uv, where, maps)
        return self.image

    def _row(self, photo: np.ndarray, uv: np.ndarray, where: np.ndarray, maps: Maps) -> np.ndarray:
        """Figure 4.1: input, what the network gives, and the four projections."""
        names = {"mask": "mask", "visible": "visible mask", "uv": "UV", "texture": "texture", "lines": "grid lines",
                 "points": "grid points", "inverse": "inverse texture"}
        return contact_row([("input", photo), *((words, self._one(view, photo, uv, where, maps))
                                                for view, words in names.items())], TILE)

    def _one(self, view: str, photo: np.ndarray, uv: np.ndarray, where: np.ndarray, maps: Maps) -> np.ndarray:
        if view == "inverse":
            return self._mean.texture().texture
        if view == "texture":
            return project_texture(photo, uv, self._texture, where, opacity=0.7)
        if view in ("lines", "points"):
            return (grid_lines if view == "lines" else grid_points)(photo, uv, where=where)
        flat = maps.uv[..., ::-1] if view == "uv" else (maps.mask if view == "mask" else maps.visible_mask)[..., None]
        flat = np.nan_to_num(flat.astype(np.float32))
        # BGR: v is green, u red; a mask is grey
        colours = np.concatenate([np.zeros_like(flat[..., :1]), flat], -1) if view == "uv" else np.repeat(flat, 3, -1)
        return cv2.resize(to_uint8(colours), photo.shape[1::-1], interpolation=cv2.INTER_NEAREST)

    def draw_in(self, whole: np.ndarray, box: tuple[int, int, int, int], photo: np.ndarray, maps: Maps) -> np.ndarray:
        """As `ViewFile.draw_in`: a swap is drawn into the whole image."""
        return self._swap(whole, box, maps) if self.view == "swap" else self.draw(photo, maps)

    def _swap(self, whole: np.ndarray, box: tuple[int, int, int, int], maps: Maps) -> np.ndarray:
        x, y, width, height = box
        left, top = max(x, 0), max(y, 0)
        part = whole[top:y + height, left:x + width]        # all that there is of the box: the rest stays as it is
        inside = (x - left, y - top, width, height)
        face = Face(part, *(lift(values, inside, part.shape) for values in (maps.uv, maps.visible_mask)))
        if self._first is None:
            self._first = face._replace(photo=part.copy())  # not the whole image, which may be large
            return whole
        self.image = whole.copy()
        self.image[top:y + height, left:x + width] = swap_face(self._first, face)
        return self.image
