"""Images of volumes: the surface that a viewer sees, lit, the volume's outline over the photo, and slices through it
("scan images" in the review of Jackson et al. 2017)."""
from __future__ import annotations

import cv2
import numpy as np

from Dataset.rendering.shading import lambert
from Dataset.representations.volume import LEVEL, front
from Evaluation.figures.sheet import contact_row, to_uint8
from Evaluation.views.base import ViewFile

VIEWS = ("volume", "slices")
SLICES, TILE = 6, 160   # slices along an axis; px of an image
LIGHT = np.array([-0.35, -0.45, 0.82])      # x right, y down, z to the viewer; from the upper left


def front_image(values: np.ndarray) -> np.ndarray:
    """The front surface of a volume (S, S, D), sigmoid values, lit from the upper left: (S, S, 3) uint8 BGR; black
    off the surface."""
    z = front(values)
    seen = np.isfinite(z)
    flat = np.where(seen, z, 0.0)
    # a mean over the neighbours on the face: voxels are steps
    weight = np.maximum(cv2.GaussianBlur(seen.astype(np.float64), (0, 0), 1.0), 1e-6)
    smooth = cv2.GaussianBlur(flat, (0, 0), 1.0) / weight
    down, across = np.gradient(smooth)
    normal = np.stack([across, down, np.ones_like(z)], -1)
    # z grows away from the viewer: where it grows to the right, the surface turns to the right
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    grey = np.where(seen, 40 + 215 * lambert(normal, LIGHT / np.linalg.norm(LIGHT)), 0)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, -1)


def outline(photo: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A photo (S, S, 3), uint8 or float in [0, 1], with the outline of what a volume (S, S, D) fills, uint8 BGR."""
    drawn = to_uint8(photo).copy()
    inside = np.isfinite(front(values)).astype(np.uint8)
    drawn[(inside - cv2.erode(inside, np.ones((3, 3), np.uint8))) > 0] = (80, 230, 80)
    return drawn


def slices(values: np.ndarray, count: int = SLICES) -> np.ndarray:
    """Cross sections of a volume (S, S, D) in [0, 1], one row for each axis: parallel to the image from the nearest to
    the farthest layer, level from the top down, upright from left to right; `count` each, evenly over what is filled
    -> (3 * 180, count * 160, 3) uint8 BGR, 1 is white. An empty volume is cut over its whole length."""
    values = np.asarray(values, np.float32)
    inside, rows = values > LEVEL, []
    for axis, name in ((2, "layer"), (0, "row"), (1, "column")):
        used = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        first, last = (used[0], used[-1]) if len(used) else (0, values.shape[axis] - 1)
        at = np.rint(np.linspace(first, last, count + 2)[1:-1]).astype(int)     # not the ends, which are nearly empty
        tiles = []
        for number in at:
            cut = np.take(values, number, axis)
            cut = cut.T if axis == 0 else cut       # depth runs down, away from the viewer
            tiles.append((f"{name} {number}", np.repeat(cut[..., None], 3, -1)))
        rows.append(contact_row(tiles, TILE))
    return np.vstack(rows)


class VolumeViewWriter(ViewFile):
    """`Evaluation.views.uv_photos.ViewWriter` for volumes: "volume", the photo with its outline beside the front
    surface, or "slices". ValueError for another view."""

    views = VIEWS

    def draw(self, photo: np.ndarray, values: np.ndarray) -> np.ndarray:
        """photo (P, P, 3) uint8 BGR; its volume (S, S, D) in [0, 1] -> the view, uint8 BGR; kept to `write`."""
        small = cv2.resize(photo, (values.shape[1], values.shape[0]), interpolation=cv2.INTER_AREA)
        self.image = slices(values) if self.view == "slices" else contact_row(
            [("photo", photo), ("outline", outline(small, values)), ("front surface", front_image(values))], 2 * TILE)
        return self.image
