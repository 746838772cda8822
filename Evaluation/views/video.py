"""The projections of a UV map on the frames of a video (Ronkainen 2017, 4.3 and figure 4.4)."""
from __future__ import annotations

from typing import Any, Callable, Protocol, Sequence

import numpy as np

from Evaluation.figures.overlay import Overlay, OverlayConfig
from Evaluation.views.uv import grid_lines, grid_points, lift, project_texture
from Evaluation.views.uv_photos import checkered

VIEWS = ("lines", "points", "texture")
Draw = Callable[[np.ndarray, Sequence[Any]], np.ndarray]


class Projection:
    """`frame = projection(frame, faces)`: a copy of (H, W, 3) uint8 BGR with one view of every face's UV map on it.

    faces: `Network.video.video.FaceResult`s: box (x, y, side) px of the frame, answer.uv (S, S, 2) float32, NaN off the
    face, or None, then nothing is drawn. ValueError for another view.
    """

    def __init__(self, view: str) -> None:
        if view not in VIEWS:
            raise ValueError(f"--view must be one of {', '.join(VIEWS)} in a video, got {view!r}")
        self._view, self._texture = view, checkered()

    def __call__(self, frame: np.ndarray, faces: Sequence[Any]) -> np.ndarray:
        for face in faces:
            if face.answer.uv is None:
                continue
            x, y, side = (int(round(float(value))) for value in face.box)
            uv = lift(face.answer.uv, (x, y, side, side), frame.shape)
            if self._view == "texture":
                frame = project_texture(frame, uv, self._texture, opacity=0.7)
            else:
                frame = (grid_lines if self._view == "lines" else grid_points)(frame, uv)
        return frame.copy()


class System(Protocol):
    """A `Network.inference.base.Predictor`. maps: uv where it predicts UV maps."""

    network: str
    maps: str | None


def frame_drawer(view: str | None, system: System, triangles: np.ndarray | None, labels: bool) -> Draw:
    """What draws the faces into a video: the view, or their shaded surface. ValueError where the system has no map."""
    if view and system.maps != "uv":
        raise ValueError(f"--view {view} in a video is for networks that predict UV maps, not for {system.network}")
    return Projection(view) if view else Overlay(triangles, OverlayConfig(labels=labels))
