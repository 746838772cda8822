"""Faces drawn over the frames of a video: the shaded surface where a network sees it, the frame shows through it.

Endrawis 2018, section 4, evaluates videos by such images. To cost only a few milliseconds, a face is drawn in a
small square and enlarged: its shading is smooth, and only its outline grows a little soft.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Sequence

import cv2
import numpy as np

from Dataset.geometry.normals import around
from Dataset.rendering.rasterise import faces as area_vectors, rasterise
from Dataset.rendering.shading import lambert

LIGHT = np.array([-0.25, 0.45, 0.86], np.float32)       # x right, y up, z to the viewer; of unit length within 1 %
COLOURS = ((232, 214, 190), (170, 225, 190), (190, 190, 240), (215, 225, 150), (235, 190, 225))   # BGR, track by track
AMBIENT = 0.3


class Drawn(NamedTuple):
    """A square image of a face: shade (n, n) float32 in [0, 1], 0 where it is not; cover (n, n) float32, 1 where it
    is; left, top, side: the square in px of the frame."""

    shade: np.ndarray
    cover: np.ndarray
    left: float
    top: float
    side: float


@dataclass(frozen=True)
class OverlayConfig:
    """opacity in [0, 1]; size: most px of the square in which a face is drawn before it is enlarged; labels: draw boxes
    and numbers. ValueError for a value out of range."""

    opacity: float = 0.75
    size: int = 160
    labels: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1 or not 8 <= self.size <= 1024:
            raise ValueError(f"opacity must be within 0 and 1 and size within 8 and 1024, got {self.opacity} and "
                             f"{self.size}")


class Overlay:
    """`frame = overlay(frame, faces)`: a copy of (H, W, 3) uint8 BGR with every face on it.

    faces: with attributes `vertices` (V, 3) float, x, y px of the frame (y down) and z to the viewer in px, or None;
    `keypoints` (256, 2) px, drawn as a net where there are no vertices; `track` int; `box` (x, y, side) px.
    triangles: (F, 3) int of the vertices, counter-clockwise from outside; None for networks that give none.
    paint: (vertices, size of the square, px) -> `Drawn`; None: `Shaded` with Dataset/rendering/rasterise.py.
    """

    def __init__(self, triangles: np.ndarray | None, config: OverlayConfig = OverlayConfig(),
                 paint: Callable[[np.ndarray, int], Drawn] | None = None) -> None:
        self._config = config
        self._paint = paint if paint is not None or triangles is None else Shaded(triangles)

    def __call__(self, frame: np.ndarray, faces: Sequence[Any]) -> np.ndarray:
        out = frame.copy()
        for face in faces:
            colour = COLOURS[face.track % len(COLOURS)]
            if face.vertices is not None and self._paint is not None:
                if np.isfinite(face.vertices).all():
                    blend(out, self._paint(face.vertices, self._config.size), colour, self._config.opacity)
            elif np.isfinite(face.keypoints).all():
                draw_net(out, face.keypoints, colour)
            if self._config.labels:
                _label(out, face, colour)
        return out


class Shaded:
    """Lambert's shading with smooth normals under a lamp beside the camera."""

    def __init__(self, triangles: np.ndarray) -> None:
        """ValueError for another shape than (F, 3)."""
        triangles = np.asarray(triangles)
        if triangles.ndim != 2 or triangles.shape[1] != 3 or not len(triangles):
            raise ValueError(f"triangles must be (F, 3), got {triangles.shape}")
        self._used, inverse = np.unique(triangles, return_inverse=True)
        self._triangles = np.ascontiguousarray(inverse.reshape(-1, 3).T)
        self._around = around(self._triangles.T, len(self._used))

    def __call__(self, vertices: np.ndarray, size: int) -> Drawn:
        points = np.ascontiguousarray(np.asarray(vertices, np.float32)[self._used].T)
        low, high = points[:2].min(1) - 1, points[:2].max(1) + 1
        side = float((high - low).max())
        size = int(np.clip(np.ceil(side), 8, size))
        scale = np.float32(size / side)
        points[:2] -= low[:, None]
        points *= scale
        found = area_vectors(points, self._triangles)
        normals = self._around @ found.normals.T
        length = np.sqrt(np.einsum("ij,ij->i", normals, normals))
        shade = lambert(normals / np.maximum(length, 1e-12)[:, None], LIGHT, AMBIENT)
        seen = rasterise(found, size)
        drawn, cover = np.zeros((2, size * size), np.float32)
        corners = self._triangles[:, seen.triangle]
        drawn[seen.pixel] = sum(shade[corners[k]] * seen.weights[:, k] for k in range(3))
        cover[seen.pixel] = 1
        return Drawn(drawn.reshape(size, size), cover.reshape(size, size), float(low[0]), float(low[1]), side)


def blend(frame: np.ndarray, drawn: Drawn, colour: Sequence[int], opacity: float) -> None:
    """Lay a drawn face over (H, W, 3) uint8, in place."""
    height, width = frame.shape[:2]
    left, top = max(int(np.floor(drawn.left)), 0), max(int(np.floor(drawn.top)), 0)
    right = min(int(np.ceil(drawn.left + drawn.side)), width)
    bottom = min(int(np.ceil(drawn.top + drawn.side)), height)
    if right - left < 1 or bottom - top < 1:
        return
    scale = len(drawn.cover) / drawn.side
    # the frame's pixel centres in the square's pixels, cv2's zero at a pixel's centre
    matrix = np.array([[scale, 0, (left + 0.5 - drawn.left) * scale - 0.5],
                       [0, scale, (top + 0.5 - drawn.top) * scale - 0.5]])
    cover = drawn.cover if drawn.cover.any() else None
    if cover is None:
        return
    both = cv2.warpAffine(cv2.merge([drawn.shade, cover]), matrix, (right - left, bottom - top),
                          flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    shade, alpha = cv2.split(both)          # shade is already multiplied by the cover: 0 where nothing is
    part = frame[top:bottom, left:right]
    alpha = 1 - opacity * alpha
    shade *= opacity
    layers = [cv2.add(cv2.multiply(part[..., k], alpha, dtype=cv2.CV_32F), shade * np.float32(colour[k]))
              for k in range(3)]
    part[:] = cv2.convertScaleAbs(cv2.merge(layers))


def draw_net(frame: np.ndarray, keypoints: np.ndarray, colour: Sequence[int]) -> None:
    """The lines of a square grid of keypoints (n * n, 2) px, in place."""
    side = round(len(keypoints) ** 0.5)
    grid = np.rint(np.clip(keypoints, -4096, 8192) * 8 - 4).astype(np.int32).reshape(side, side, 1, 2)
    lines = [*grid, *np.ascontiguousarray(grid.transpose(1, 0, 2, 3))]
    cv2.polylines(frame, lines, False, tuple(colour), 1, cv2.LINE_AA, shift=3)


def _label(frame: np.ndarray, face: Any, colour: Sequence[int]) -> None:
    x, y, side = (int(round(float(v))) for v in face.box)
    cv2.rectangle(frame, (x, y), (x + side, y + side), colour, 1)
    cv2.putText(frame, str(face.track), (max(x, 0) + 3, max(y, 0) + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1,
                cv2.LINE_AA)
