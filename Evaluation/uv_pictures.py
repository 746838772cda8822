"""The views of a UV map that `demo.py --view` writes, photo by photo (Ronkainen 2017, section 3.8)."""
from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from Evaluation.face_swap import Face, swap_face
from Evaluation.uv_views import TextureMean, grid_lines, grid_points, lift, project_texture
from Evaluation.view_file import ViewFile

VIEWS = ("texture", "inverse", "lines", "points", "swap")
SQUARES = 16            # of the checkered texture, a side
TEXTURE = 512           # texels a side


class Maps(Protocol):
    """uv (S, S, 2) float32, NaN off the face; occluded (S, S) bool, the face where nothing stands before it."""

    uv: np.ndarray
    occluded: np.ndarray


def checkered(size: int = TEXTURE, squares: int = SQUARES) -> np.ndarray:
    """A texture (size, size, 3) uint8 BGR whose places can be told apart: squares, red to the right, green upwards."""
    steps = (np.arange(size) + 0.5) / size
    dark = (np.floor(steps * squares)[:, None] + np.floor(steps * squares)) % 2
    ramp = np.broadcast_to(steps, (size, size))
    colour = np.stack([np.full((size, size), 0.35), ramp.T[::-1], ramp], -1)
    return np.rint(255 * colour * (0.55 + 0.45 * dark[..., None])).astype(np.uint8)


class ViewWriter(ViewFile):
    """Draws one view of each photo's map and writes it beside the face as NAME_VIEW.png. "inverse" is the mean of all
    photos so far, "swap" the first photo's face in this one. ValueError for another view."""

    def __init__(self, view: str) -> None:
        if view not in VIEWS:
            raise ValueError(f"view must be one of {', '.join(VIEWS)}, got {view!r}")
        self.view, self._texture = view, checkered()
        self.reset()

    def reset(self) -> None:
        """Forget the photos: the next one is another person's."""
        self.picture: np.ndarray | None = None
        self._mean = TextureMean(TEXTURE)
        self._first: Face | None = None

    def draw(self, photo: np.ndarray, maps: Maps) -> np.ndarray:
        """photo (P, P, 3) uint8 BGR, the square that the network saw, finer -> the view, uint8 BGR; kept to `write`.
        Of the first photo of "swap" there is none: the photo comes back."""
        box = (0, 0, photo.shape[1], photo.shape[0])
        uv, where = lift(maps.uv, box, photo.shape), lift(maps.occluded, box, photo.shape)
        if self.view == "swap":
            if self._first is None:
                self._first = Face(photo, uv, where)
                return photo
            self.picture = swap_face(self._first, Face(photo, uv, where))
        elif self.view == "inverse":
            self._mean.add(photo, uv, where)
            self.picture = self._mean.texture().texture
        elif self.view == "texture":
            self.picture = project_texture(photo, uv, self._texture, where, opacity=0.7)
        else:
            self.picture = (grid_lines if self.view == "lines" else grid_points)(photo, uv, where=where)
        return self.picture

    def target(self, path: Path) -> Path:
        """Where the view of the face at `path` goes. ValueError, before anything is written, for a "swap" of one photo.
        """
        if self.view == "swap" and self._first is not None and self.picture is None:
            raise ValueError("--view swap puts the first photo's face into the others: name two photos")
        return super().target(path)
