"""demo.png: the photo, the mesh over the whole photo, the face with its texture, unlit, and in clay."""
from __future__ import annotations

import os
from typing import NamedTuple, Sequence

import cv2
import numpy as np

from Dataset.geometry.mesh import Mesh
from Dataset.geometry.normals import vertex_normals
from Dataset.geometry.transforms import as_points
from Dataset.io.images import write_image
from Evaluation.figures.sheet import caption
from Evaluation.figures.splat import Frame, render_cloud
from Evaluation.figures.surface import Surface, Turned, clay_of

PANEL = 480             # px
GAP = 28                # px above a panel, for its caption
ACROSS, ASIDE = 40.0, 90.0          # degrees
OVER = (226, 206, 178)  # BGR of the mesh over the photo
OPACITY = 0.85
TOP = ("photo", "texture, front", "texture, 40 degrees")
BOTTOM = ("mesh over the photo", "clay, front", "clay, profile")


class Panel(NamedTuple):
    """A photo in a square: image (P, P, 3) uint8 BGR; a pixel x of the photo is seen at scale * x + shift (2,)."""

    image: np.ndarray
    scale: float
    shift: np.ndarray


def panel_of(photo: np.ndarray, side: int = PANEL) -> Panel:
    """The whole photo (H, W, 3) uint8 BGR in a white square, as large as it fits. ValueError for another shape."""
    photo = np.asarray(photo)
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or 0 in photo.shape:
        raise ValueError(f"photo: must be (H, W, 3) uint8, got {photo.shape} {photo.dtype}")
    height, width = photo.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(scale * width)), max(1, round(scale * height))
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    image = np.full((side, side, 3), 255, np.uint8)
    image[top:top + size[1], left:left + size[0]] = small
    return Panel(image, scale, np.array([left, top], np.float64))


def overlaid(panel: Panel, points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The panel with a mesh in clay over it. points (V, 3): px of the photo, y down, z px to the camera."""
    placed = panel.scale * np.asarray(points, np.float64) + (*panel.shift, 0)
    normals = vertex_normals(placed * (1, -1, 1), triangles)
    drawn = Surface(placed, triangles, len(panel.image)).draw(clay_of(normals, triangles, OVER))
    return drawn.over(panel.image, OPACITY)


def preview(photos: Sequence[Panel], mesh: Mesh, texture: np.ndarray | None = None, in_photo: np.ndarray | None = None
            ) -> np.ndarray:
    """The photos beside the face, (2 * (PANEL + GAP), 3 * PANEL, 3) uint8 BGR.

    photos    at least one, up to four are shown; the mesh is drawn over the last
    mesh      of the head frame; without triangles it is shown as a cloud
    texture   (T, T, 3) uint8 BGR over the mesh's uv; None: the vertices' colours
    in_photo  (V, 3) the mesh's vertices in the last photo, px, y down, z to the camera; None: unknown, not drawn
    ValueError without a photo, or for points that are none.
    """
    points = as_points(mesh.vertices, "cloud")
    if not photos:
        raise ValueError("preview: wants at least one photo, got none")
    frame, last = Frame.around(points), photos[-1]
    known = in_photo is not None and len(mesh.triangles) and np.isfinite(in_photo).all()
    over = overlaid(last, in_photo, mesh.triangles) if known else np.full_like(last.image, 255)
    if len(mesh.triangles):
        front = Turned(mesh, 0.0, PANEL, frame)
        coloured = [front.coloured(texture), Turned(mesh, ACROSS, PANEL, frame).coloured(texture)]
        clay = [front.clay(), Turned(mesh, ASIDE, PANEL, frame).clay()]
    else:
        coloured = [render_cloud(points, yaw, PANEL, mesh.colours, frame, shade=mesh.colours is None)
                    for yaw in (0.0, ACROSS)]
        clay = [render_cloud(points, yaw, PANEL, None, frame) for yaw in (0.0, ASIDE)]
    top = _row([_photos([photo.image for photo in photos[-4:]]), *coloured], TOP)
    return np.concatenate([top, _row([over, *clay], BOTTOM if known else ("", *BOTTOM[1:]))])


def write_preview(path: str | os.PathLike[str], *shown: object) -> None:
    """`preview` as a PNG."""
    write_image(path, preview(*shown))


def _photos(images: Sequence[np.ndarray]) -> np.ndarray:
    """One square image, or up to four of one size in a square."""
    if len(images) == 1:
        return images[0]
    half = PANEL // 2
    out = np.full((PANEL, PANEL, 3), 255, np.uint8)
    for place, image in enumerate(images):
        row, column = divmod(place, 2)
        small = cv2.resize(image, (half, half), interpolation=cv2.INTER_AREA)
        out[row * half:(row + 1) * half, column * half:(column + 1) * half] = small
    return out


def _row(images: Sequence[np.ndarray], names: Sequence[str]) -> np.ndarray:
    """Panels side by side under their names."""
    head = np.full((GAP, PANEL * len(images), 3), 255, np.uint8)
    for place, name in enumerate(names):
        caption(head, name, x=PANEL * place + 8, y=GAP - 9, scale=0.5)
    return np.concatenate([head, np.concatenate(images, axis=1)])
