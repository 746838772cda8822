"""Contact sheets: images side by side, each under its caption. OpenCV only, no display."""
from __future__ import annotations

from typing import Sequence

import cv2
import numpy as np

CAPTION = 20            # pixels of the line above an image
INK = (60, 60, 60)      # BGR


def caption(image: np.ndarray, text: str, x: int = 6, y: int = 14, scale: float = 0.42) -> None:
    """Write dark text on (H, W, 3) uint8 BGR in place; (x, y) is the left end of its baseline, px."""
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, INK, 1, cv2.LINE_AA)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """(..., 3), uint8 or float in [0, 1], -> uint8; values outside [0, 1] are clipped, NaN is black."""
    image = np.asarray(image)
    if image.dtype == np.uint8:
        return image
    return np.clip(255 * np.nan_to_num(image.astype(np.float64)), 0, 255).round().astype(np.uint8)


def contact_row(tiles: Sequence[tuple[str, np.ndarray]], side: int) -> np.ndarray:
    """Named square images (S, S, 3) BGR, uint8 or float in [0, 1], side by side, each resized to `side` px under its
    name: (CAPTION + side, n * side, 3) uint8 BGR on white."""
    row = np.full((CAPTION + side, side * len(tiles), 3), 255, np.uint8)
    for i, (text, image) in enumerate(tiles):
        row[CAPTION:, side * i:side * (i + 1)] = cv2.resize(to_uint8(image), (side, side),
                                                            interpolation=cv2.INTER_LINEAR)
        caption(row, text, side * i + 6)
    return row
