"""A mesh as an image: in clay, or with its texture as it is, by the z-buffer of Dataset/rendering; no display.

Drawn larger and reduced, so that its outline is smooth.
"""
from __future__ import annotations

from typing import Callable, NamedTuple

import cv2
import numpy as np

from Dataset.geometry.mesh import Mesh
from Dataset.geometry.normals import vertex_normals
from Dataset.geometry.transforms import rotation_from_euler
from Dataset.rendering.rasterise import Fragments, faces, rasterise
from Dataset.rendering.shading import lambert
from Evaluation.figures.splat import AMBIENT, BACKGROUND, CLAY, LIGHT, Frame

OVERSAMPLE = 2
#: visible fragments -> their colours (n, 3) BGR, 0 to 255
Paint = Callable[[Fragments], np.ndarray]


class Drawn(NamedTuple):
    """A square image: colour (S, S, 3) float32 BGR, 0 to 255, times cover; cover (S, S) float32 in [0, 1]."""

    colour: np.ndarray
    cover: np.ndarray

    def over(self, image: np.ndarray, opacity: float = 1.0) -> np.ndarray:
        """Laid over an image (S, S, 3) uint8 -> another one."""
        seen = image * (1 - opacity * self.cover[..., None]) + opacity * self.colour
        return np.clip(np.rint(seen), 0, 255).astype(np.uint8)


class Surface:
    """A mesh as it is seen, ready to be painted.

    points (V, 3): x and y px, y down, and z to the viewer in the same unit; triangles (F, 3), counter-clockwise from
    outside: the others are not drawn. ValueError for triangles so large that it would take gigabytes.
    """

    def __init__(self, points: np.ndarray, triangles: np.ndarray, size: int) -> None:
        self._size, self._side = size, size * OVERSAMPLE
        scaled = np.ascontiguousarray(OVERSAMPLE * np.asarray(points).T, np.float32)
        self._seen = rasterise(faces(scaled, np.ascontiguousarray(np.asarray(triangles).T)), self._side)

    def draw(self, paint: Paint) -> Drawn:
        both = np.zeros((self._side * self._side, 4), np.float32)
        both[self._seen.pixel, :3] = paint(self._seen)
        both[self._seen.pixel, 3] = 1
        small = cv2.resize(both.reshape(self._side, self._side, 4), (self._size, self._size),
                           interpolation=cv2.INTER_AREA)
        return Drawn(small[..., :3], small[..., 3])


class Turned:
    """A mesh of the head frame, turned and seen orthographically on white.

    yaw  degrees; 0 is the front, positive turns the face to image right
    """

    def __init__(self, mesh: Mesh, yaw: float, size: int, frame: Frame) -> None:
        scale = size / (2 * frame.half)
        self._mesh, self._turned = mesh, (mesh.vertices - frame.centre) @ rotation_from_euler(yaw=yaw).T
        self._surface = Surface(self._turned * (scale, -scale, scale) + (size / 2, size / 2, 0), mesh.triangles, size)
        self._paper = np.full((size, size, 3), BACKGROUND, np.uint8)

    def clay(self) -> np.ndarray:
        """(size, size, 3) uint8 BGR, shaded without colours."""
        paint = clay_of(vertex_normals(self._turned, self._mesh.triangles), self._mesh.triangles)
        return self._surface.draw(paint).over(self._paper)

    def coloured(self, texture: np.ndarray | None = None) -> np.ndarray:
        """The same unlit, in the colours of a texture (T, T, 3) uint8 BGR over the mesh's uv; without one, or uv, in
        those of its vertices; in clay where it has none."""
        mesh = self._mesh
        if texture is not None and mesh.uv is not None:
            paint = texture_of(texture, mesh.uv, mesh.triangles)
        elif mesh.colours is not None:
            paint = _interpolated(mesh.colours[:, ::-1].astype(np.float32), mesh.triangles)
        else:
            return self.clay()
        return self._surface.draw(paint).over(self._paper)


def clay_of(normals: np.ndarray, triangles: np.ndarray, colour: tuple[int, int, int] = CLAY) -> Paint:
    """Lambert's shading by unit normals (V, 3), x right, y up, z to the viewer."""
    light = lambert(normals, LIGHT / np.linalg.norm(LIGHT), AMBIENT).astype(np.float32)
    shade, bgr = _interpolated(light[:, None], triangles), np.array(colour, np.float32)
    return lambda seen: shade(seen) * bgr


def texture_of(texture: np.ndarray, uv: np.ndarray, triangles: np.ndarray) -> Paint:
    """The colours of a texture (T, T, 3) uint8 BGR, bilinear, over uv (V, 2), v up."""
    side = len(texture)
    across = _interpolated((uv * (1, -1) + (0, 1)).astype(np.float32) * side - np.float32(0.5), triangles)

    def paint(seen: Fragments) -> np.ndarray:
        at = across(seen)
        rows = -(-len(at) // 4096)      # OpenCV takes no row of more than 32,767
        padded = np.zeros((rows * 4096, 2), np.float32)
        padded[:len(at)] = at
        found = cv2.remap(texture, padded.reshape(rows, 4096, 2), None, cv2.INTER_LINEAR,
                          borderMode=cv2.BORDER_REPLICATE)
        return found.reshape(-1, 3)[:len(at)]
    return paint


def _interpolated(values: np.ndarray, triangles: np.ndarray) -> Paint:
    """Values (V, C) of the vertices, linear over each triangle."""
    def paint(seen: Fragments) -> np.ndarray:
        corners = np.asarray(triangles)[seen.triangle]
        return sum(values[corners[:, k]] * seen.weights[:, k, None] for k in range(3))
    return paint
