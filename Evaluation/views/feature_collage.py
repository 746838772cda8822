"""Collages of feature maps: each channel of a layer a small image (Ronkainen 2017, 4.5.2)."""
from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Iterable, Mapping

import cv2
import numpy as np

from Dataset.io.images import write_image
from Evaluation.figures.sheet import caption

MAX_SIDE = 2048        # pixels of a collage
MAX_CHANNELS = 144     # of a layer; of more channels, those with the largest standard deviation
TILE = (24, 128)        # smallest and largest side of a channel, px
_GAP, _CAPTION = 2, 22
_PALETTE = cv2.COLORMAP_VIRIDIS


def collage(maps: np.ndarray, title: str = "", limit: int = MAX_CHANNELS) -> np.ndarray:
    """Feature maps (h, w, C) floats -> (H, W, 3) uint8 BGR, at most MAX_SIDE px per side: channels row by row in their
    order, each scaled from its minimum to its maximum, dark to bright; constant channels and values that are not finite
    are dark. Of more than `most` channels, those with the largest standard deviation are shown. ValueError for another
    shape."""
    maps = np.asarray(maps)
    if maps.ndim != 3 or 0 in maps.shape or limit < 1:
        raise ValueError(f"feature maps must be (h, w, C) with values, got {maps.shape}, and at least 1 of them shown")
    maps = maps.astype(np.float32)
    flat = np.where(np.isfinite(maps), maps, np.nan).reshape(-1, maps.shape[2])
    known = np.isfinite(flat).any(0)
    flat = np.where(known, flat, 0)
    low, high = np.nanmin(flat, 0), np.nanmax(flat, 0)
    sigma = np.nan_to_num(np.nanstd(flat, 0))
    count = min(maps.shape[2], limit)
    chosen = np.sort(np.argsort(-sigma, kind="stable")[:count])
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    fits = (MAX_SIDE - _CAPTION) // columns - _GAP
    scale = min(max(TILE[0], min(TILE[1], max(maps.shape[:2]))), fits) / max(maps.shape[:2])
    height, width = (max(1, round(n * scale)) for n in maps.shape[:2])
    image = np.full((_CAPTION + rows * (height + _GAP), max(columns * (width + _GAP), 160), 3), 255, np.uint8)
    for place, channel in enumerate(chosen):
        level = np.nan_to_num((maps[..., channel] - low[channel]) / max(high[channel] - low[channel], 1e-12))
        tile = cv2.resize(np.rint(255 * level.clip(0, 1)).astype(np.uint8), (width, height),
                          interpolation=cv2.INTER_NEAREST if scale >= 1 else cv2.INTER_AREA)
        y, x = _CAPTION + place // columns * (height + _GAP), place % columns * (width + _GAP)
        image[y:y + height, x:x + width] = cv2.applyColorMap(tile, _PALETTE)
    text = f"{title} {maps.shape[0]}x{maps.shape[1]}, {count} of {maps.shape[2]}".strip()
    caption(image, text, 4, 15, 0.4)
    return image


def collage_files(folder: str | os.PathLike[str], names: Iterable[str]) -> list[Path]:
    """Where the collages of layers lie: FOLDER/NN_NAME.png, in their order."""
    return [Path(folder) / f"{number:02d}_{re.sub(r'[^A-Za-z0-9._-]', '_', name)[:64]}.png"
            for number, name in enumerate(names)]


def write_collages(folder: str | os.PathLike[str], layers: Mapping[str, np.ndarray]) -> list[Path]:
    """`collage_files` of each layer's feature maps (h, w, C), each atomically -> their paths. ValueError, before
    anything is written, for a layer without feature maps."""
    images = {name: collage(maps, name) for name, maps in layers.items()}
    paths = collage_files(folder, images)
    for path, image in zip(paths, images.values()):
        write_image(path, image)
    return paths
