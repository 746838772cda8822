"""A mesh as lines: the second of the paper's three images (Baby et al. 2020, section IV.F). OpenCV only, no display.
"""
from __future__ import annotations

import cv2
import numpy as np

from Dataset.geometry.normals import area_vectors
from Dataset.geometry.transforms import rotation_from_euler
from Evaluation.figures.splat import BACKGROUND, Frame

LINE = (90, 60, 20)             # BGR
_SUB = 4                        # bits of a pixel's fraction


def draw_wireframe(vertices: np.ndarray, triangles: np.ndarray, yaw: float = 0.0, size: int = 320,
                   frame: Frame | None = None, colours: np.ndarray | None = None) -> np.ndarray:
    """A mesh (V, 3), (F, 3) in the head frame -> (size, size, 3) uint8 BGR: its edges on white, far ones first.

    yaw      degrees, as of `Evaluation.figures.splat.render_cloud`; frame: the part of space shown; None: the mesh's
             own
    colours  (V, 3) uint8 RGB; an edge has its first vertex's; None: one colour

    Edges nearer than three pixels fill the image: `Dataset.representations.depth.triangulate` has `every` for that.
    Triangles that look away hide nothing and are not drawn. Empty: a white image.
    """
    vertices, triangles = np.asarray(vertices, np.float64), np.asarray(triangles)
    if size < 8:
        raise ValueError(f"image: want a size of at least 8 pixels, got {size}")
    image = np.full((size, size, 3), BACKGROUND, np.uint8)
    if not len(triangles):
        return image
    frame = Frame.around(vertices) if frame is None else frame
    seen = (vertices - frame.centre) @ rotation_from_euler(yaw=yaw).T
    places = size / 2 + size / (2 * frame.half) * seen[:, :2] * (1, -1)
    triangles = triangles[area_vectors(seen, triangles)[:, 2] > 0]
    triangles = triangles[np.argsort(seen[triangles][..., 2].mean(1), kind="stable")]
    points = np.rint((places - 0.5) * 2 ** _SUB).astype(np.int32)
    for triangle in triangles:
        corner = points[triangle][None]
        cv2.fillPoly(image, corner, BACKGROUND, cv2.LINE_8, _SUB)
        line = LINE if colours is None else tuple(int(c) for c in colours[triangle[0]][::-1])
        cv2.polylines(image, corner, True, line, 1, cv2.LINE_AA, _SUB)
    return image
