"""Keypoints of an image and of its mirror image, averaged: what the network errs by on one side only is halved."""
from __future__ import annotations

from typing import Callable

import numpy as np

Find = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
SIDE = 16               # of the grid of keypoints; column c is the mirror image of column 15 - c


def both_ways(find: Find) -> Find:
    """A finder of keypoints in many images (Network/readout/finder.py) -> one for both ways round."""
    return lambda images: averaged(*find(images), *find(mirrored(images)))


def mirrored(images: np.ndarray) -> np.ndarray:
    """Images (..., S, S, 3), left for right."""
    return np.ascontiguousarray(images[..., ::-1, :])


def averaged(keypoints: np.ndarray, log_variance: np.ndarray, mirrored_keypoints: np.ndarray,
             mirrored_log_variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """keypoints (..., 256, 2) in normalised coordinates and log_variance (..., 256) of images and of their mirror
    images -> of the images: the mean of both, float32."""
    back = _columns(mirrored_keypoints * [-1, 1] + [1, 0])
    variance = _columns(mirrored_log_variance[..., None])[..., 0]
    return ((keypoints + back) / 2).astype(np.float32), ((log_variance + variance) / 2).astype(np.float32)


def _columns(values: np.ndarray) -> np.ndarray:
    """(..., 256, C) with the grid's columns in reverse order."""
    grid = values.reshape(*values.shape[:-2], SIDE, SIDE, values.shape[-1])
    return grid[..., ::-1, :].reshape(values.shape)
