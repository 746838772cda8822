"""Before and after of detail from shading (Dataset/fitting/shape_from_shading.py), side by side."""
from __future__ import annotations

import numpy as np

from Dataset.fitting.shape_from_shading import Detail
from Dataset.rendering.shading import lambert
from Evaluation.figures.sheet import contact_row

TILE = 256              # pixels
LAMP = np.array([-0.6, 0.45, 0.66])     # from the side, which shows relief


def detail_image(photo: np.ndarray, detail: Detail, truth: np.ndarray | None = None) -> np.ndarray:
    """The photo (S, S, 3) uint8 BGR, the face lit from the side before and after, its normals before and after, and
    where they are known the true ones, (S, S, 3): (276, 256 n, 3) uint8 BGR."""
    shown = [("before", detail.coarse), ("after", detail.normals)] + ([] if truth is None else [("true", truth)])
    tiles = [("photo", photo)]
    tiles += [(f"lit: {name}", _lit(normals, detail.mask)) for name, normals in shown]
    tiles += [(f"normals: {name}", _tinted(normals, detail.mask)) for name, normals in shown]
    return contact_row(tiles, TILE)


def _lit(normals: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Grey (S, S, 3) uint8, white off the mask."""
    light = 0.92 * lambert(np.nan_to_num(normals), LAMP / np.linalg.norm(LAMP), 0.12 / 0.92)
    return np.repeat(np.rint(255 * np.where(mask, light, 1))[..., None], 3, -1).astype(np.uint8)


def _tinted(normals: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """x, y, z as red, green, blue, black off the mask."""
    colours = np.rint(127.5 * (np.nan_to_num(normals)[..., ::-1] + 1)) * mask[..., None]
    return np.clip(colours, 0, 255).astype(np.uint8)
