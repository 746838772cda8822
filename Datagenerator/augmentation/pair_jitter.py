"""pix2pix's augmentation of an image and the maps that belong to it: enlarge, crop at random, mirror.

Baby et al. 2020, section IV.F; Isola et al. 2017, 6.2: 286x286 from 256x256, a crop of 256x256, half of them mirrored.
"""
from __future__ import annotations

import cv2
import numpy as np

ENLARGED = 286 / 256        # of the side


def pair_jitter(image: np.ndarray, *maps: np.ndarray, rng: np.random.Generator, enlarged: float = ENLARGED,
                mirror: bool = True) -> tuple[np.ndarray, ...]:
    """(image, *maps) of one size -> the same crop of each, of that size, from all enlarged alike.

    image     (H, W, 3) uint8 or float32; bilinear
    maps      (H, W) or (H, W, C) of any dtype: depth, masks; the nearest pixel, so NaN, background and labels stay what
              they are. Depth is not scaled: a face that fills more of an image is as deep as before
    enlarged  at least 1; 1 crops nothing
    mirror    half of the samples left to right. Only for maps without a left and a right: depth yes, UV no

    The input is not changed; every array that comes back is its own. The same generator state gives the same bytes.
    ValueError for arrays of several sizes, or a smaller `enlarged`.
    """
    size = image.shape[:2]
    if image.ndim != 3 or not image.size or any(array.shape[:2] != size for array in maps):
        raise ValueError("image and maps must be (H, W, ...) of one size, got "
                         + ", ".join(str(array.shape) for array in (image, *maps)))
    if not 1 <= enlarged < float("inf"):
        raise ValueError(f"enlarged must be at least 1, got {enlarged!r}")
    large = [round(side * enlarged) for side in size]
    top, left = (int(rng.integers(0, after - before + 1)) for before, after in zip(size, large))
    flipped = rng.random() < 0.5
    rows, columns = (np.arange(start, start + side) for start, side in zip((top, left), size))
    if mirror and flipped:
        columns = columns[::-1]
    whole = cv2.resize(image, (large[1], large[0]), interpolation=cv2.INTER_LINEAR).reshape(*large, -1)
    # pixel i of the enlarged side has its centre at (i + 1/2) / large of it
    nearest = np.ix_(*((2 * np.asarray(index) + 1) * side // (2 * after)
                       for index, side, after in zip((rows, columns), size, large)))
    return whole[np.ix_(rows, columns)], *(array[nearest] for array in maps)
