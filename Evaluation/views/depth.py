"""A depth map and the surfaces made of it, side by side, as the paper's figure 9 shows it (Baby et al. 2020): photo,
depth, coloured cloud, wireframe, surface."""
from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np

from Dataset.fitting.surface_reconstruction import depth_surface
from Dataset.geometry.camera import Camera
from Dataset.geometry.mesh import Mesh
from Dataset.representations.depth import decode, encode_depth, to_image, triangulate
from Evaluation.figures.splat import Frame, render_cloud
from Evaluation.figures.wireframe import draw_wireframe
from Evaluation.views.base import ViewFile

VIEWS = ("depth", "cloud", "wireframe", "surface", "strip")
SPACING = 8         # pixels of the image between a wireframe's lines: nearer ones would fill it
YAW = 30.0          # degrees from which cloud, wireframe and surface are seen


class Reading(Protocol):
    """depth (S, S) mm, NaN for none; its camera; the photo (S, S, 3) uint8 BGR."""

    depth: np.ndarray
    camera: Camera
    image: np.ndarray


def depth_strip(image: np.ndarray, depth: np.ndarray, camera: Camera, surface: Mesh, yaw: float = YAW,
                size: int = 320) -> np.ndarray:
    """(size, 5 size, 3) uint8 BGR: the image (S, S, 3), its depth map (S, S) mm as grey (near is bright), and from
    `yaw` degrees the cloud in the image's colours, a wireframe of it, and `surface`, which
    `Dataset.fitting.surface_reconstruction.depth_surface` makes. ValueError "no depth" where the map is empty.
    """
    return np.hstack([_flat(image, size), *(draw_depth(view, image, depth, camera, surface, yaw, size)
                                            for view in VIEWS[:-1])])


def draw_depth(view: str, image: np.ndarray, depth: np.ndarray, camera: Camera, surface: Mesh | None = None,
               yaw: float = YAW, size: int = 320) -> np.ndarray:
    """One image of `depth_strip` (size, size, 3) uint8 BGR, or with view "strip" all of them; a surface is made
    where none is given. ValueError as there, and for another view."""
    if view not in VIEWS:
        raise ValueError(f"view must be one of {', '.join(VIEWS)}, got {view!r}")
    if not np.isfinite(depth).any():
        raise ValueError("no depth: there is nothing to show")
    if view == "depth":
        return _flat(cv2.cvtColor(to_image(encode_depth(depth, None, camera.focal)), cv2.COLOR_GRAY2BGR), size)
    if view in ("surface", "strip") and surface is None:
        surface = depth_surface(depth, camera, image)
    if view == "strip":
        return depth_strip(image, depth, camera, surface, yaw, size)
    cloud = decode(depth, camera, image)
    frame = Frame.around(cloud.vertices)
    if view == "cloud":
        return render_cloud(cloud.vertices, yaw, size, cloud.colours, frame, shade=False)
    if view == "surface":
        return render_cloud(surface.vertices, yaw, size, surface.colours, frame, surface.triangles)
    rows, columns = np.nonzero(np.isfinite(depth))
    every = max(1, round(max(np.ptp(rows), np.ptp(columns)) * SPACING / size))
    wire = triangulate(depth, camera, every=every)
    return draw_wireframe(wire.vertices, wire.triangles, yaw, size, frame)


class DepthViewWriter(ViewFile):
    """`Evaluation.views.uv_photos.ViewWriter` for depth maps: draws one view of each photo's and writes it beside the
    face as NAME_VIEW.png. ValueError for another view."""

    views = VIEWS

    def draw(self, photo: np.ndarray, reading: Reading) -> np.ndarray:
        """photo (P, P, 3) uint8 BGR, the square that the network saw, finer; a strip shows it -> the view, uint8 BGR;
        kept to `write`."""
        size = 320 if self.view == "strip" else 512
        self.image = draw_depth(self.view, reading.image, reading.depth, reading.camera, size=size)
        if self.view == "strip":
            self.image[:, :size] = _flat(photo, size)
        return self.image


def _flat(image: np.ndarray, size: int) -> np.ndarray:
    smaller = len(image) > size
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
