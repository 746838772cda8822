"""What `demo.py --view` draws of the iterated coarse network: its passes, and detail from shading, before and after."""
from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np

from Dataset.rendering_unit import RenderingUnit
from Dataset.shading_detail import front_of_face, refine
from Evaluation.detail_views import detail_picture
from Evaluation.iterations import iteration_picture
from Evaluation.view_file import ViewFile

VIEWS = ("iterations", "detail")
DETAIL = 256            # px: side in which relief is sought


class Reading(Protocol):
    """faces (n, 290): of each pass over the last photo, the start first."""

    faces: np.ndarray


class CoarseViewWriter(ViewFile):
    """`Evaluation.uv_pictures.ViewWriter` for coefficients: draws one view of each photo and writes it beside the face
    as NAME_VIEW.png. ValueError for another view."""

    def __init__(self, view: str, unit: RenderingUnit | None = None) -> None:
        if view not in VIEWS:
            raise ValueError(f"view must be one of {', '.join(VIEWS)}, got {view!r}")
        self.view, self._unit = view, unit
        self.reset()

    def reset(self) -> None:
        """Forget the photos: the next one is another person's."""
        self.picture: np.ndarray | None = None

    def draw(self, photo: np.ndarray, reading: Reading) -> np.ndarray:
        """photo (P, P, 3) uint8 BGR, the square that the network saw, finer -> the view, uint8 BGR; kept to `write`."""
        if self.view == "iterations":
            self.picture = iteration_picture(photo, reading.faces, self._unit)
        else:
            small = cv2.resize(photo, (DETAIL, DETAIL), interpolation=cv2.INTER_AREA)
            face = reading.faces[-1]
            self.picture = detail_picture(small, refine(small, face, front_of_face(face, DETAIL)))
        return self.picture
