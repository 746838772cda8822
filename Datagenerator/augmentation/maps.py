"""Augmentation of an image and the per-pixel maps that belong to it: pure functions (sample, rng) -> sample.

Ronkainen 2017, section 3.6: quarter turns (off by default, as in the paper's final run), occluders that multiply the
visible mask, then exposure, gamma, channel shuffle, noise that fades to nothing in training, all in floating point,
and at last clipping and 8 bits. What photos have besides (contrast, blur, JPEG, ...) are steps of augment.py, off until
asked for.

No step mirrors: u runs from the subject's right ear to his left one, so a mirrored image would have to show the
other side's UV, and a network that saw both could not tell which of them a cheek is.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np

from Datagenerator.augmentation import occluders
from Datagenerator.augmentation.augment import (AugmentConfig, add_noise, blur, coarsen, colours, eight_bits, jpeg,
                                                light_table)
from Dataset.geometry.transforms import plane_rotation

STILL = np.eye(2, 3)
STILL.flags.writeable = False


class MapSample(NamedTuple):
    """image     (S, S, 3) uint8 BGR
    uv        (S, S, 2) float16 or float32, positions on the face's texture square; any value where mask is False; more
              channels move with them
    mask      (S, S) bool, the face, whatever stands before it
    visible_mask  (S, S) float32 in [0, 1]: how much of the face is seen; 0 where mask is False
    motion    (2, 3) float64, x, y in px of the image as it was -> as it is, the first pixel's centre at 0.5
    """

    image: np.ndarray
    uv: np.ndarray
    mask: np.ndarray
    visible_mask: np.ndarray
    motion: np.ndarray = STILL


@dataclass(frozen=True)
class MapAugmentConfig(AugmentConfig):
    """`AugmentConfig`'s fields with the paper's steps alone, and its own. It prints no ranges but two: all six orders
    of the channels are alike, and about half of what is hidden lies under an occluder, sometimes the whole face."""

    scale: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    rotation: float = 0.0
    blob: float = 0.0
    hand: float = 0.0
    bar: float = 0.0
    max_covered: float = 1.0                       # fraction of the image
    gain_sd: float = 0.0
    contrast: tuple[float, float] = (1.0, 1.0)
    shuffle: float = 5 / 6                          # into one of the five other orders
    grey: float = 0.0
    blur: float = 0.0
    motion: float = 0.0
    coarse: float = 0.0
    jpeg: float = 0.0
    noise_end: tuple[float, float] = (0.0, 0.0)     # "gradually decreased down to zero" (3.5)
    quarters: float = 0.0                           # turned by 0, 90, 180 or 270 degrees, evenly
    crops: float = 1.0                              # one image's shapes in another one's colours
    crops_cover: tuple[float, float] = (0.2, 0.8)   # fraction of the image under them

    @classmethod
    def off(cls, **changes: Any) -> MapAugmentConfig:
        """Every step off, but for `changes`."""
        return super().off(**({"quarters": 0.0, "crops": 0.0} | changes))


MAPS = MapAugmentConfig()
_PHOTOS = ("gain_sd", "contrast", "shuffle", "grey", "blur", "motion", "coarse", "jpeg")
#: what photos have besides the paper's steps, as strong as in augment.py; channels are swapped in few of them
PHOTOS = {name: getattr(AugmentConfig(), name) for name in _PHOTOS}


def augment_maps(sample: MapSample, rng: np.random.Generator, config: MapAugmentConfig = MAPS, progress: float = 0.0,
                 others: tuple[np.ndarray, np.ndarray] | None = None) -> MapSample:
    """All steps in order: turn, move, hide, light, colours, blur, coarsen, jpeg, noise. The input is not changed.
    From light on values are floats and may lie beyond 0 to 255 until the end (or a JPEG) clips them.

    progress  in [0, 1], how much of the training is done: the noise fades with it
    others    two other images (h, w, 3) uint8 BGR, whose crops hide the face; None: none do

    The same generator state gives the same bytes on one machine, the same choices on every machine. ValueError for
    arrays of another shape or dtype, or for a progress outside [0, 1].
    """
    size = sample.image.shape[:2]
    if sample.image.shape != (*size, 3) or sample.image.dtype != np.uint8 or size[0] != size[1]:
        raise ValueError(f"image: must be (S, S, 3) uint8, got {sample.image.shape} {sample.image.dtype}")
    if sample.uv.shape != (*size, max(2, sample.uv.shape[-1])) or sample.mask.shape != size \
            or sample.visible_mask.shape != size:
        raise ValueError(f"maps: must be of the image's size {size}, got {sample.uv.shape}, {sample.mask.shape}, "
                         f"{sample.visible_mask.shape}")
    if sample.mask.dtype != bool or sample.visible_mask.dtype != np.float32:
        raise ValueError(f"maps: mask must be bool and visible_mask float32, got {sample.mask.dtype} and "
                         f"{sample.visible_mask.dtype}")
    if not 0 <= progress <= 1:
        raise ValueError(f"progress: must be within 0 to 1, got {progress!r}")
    sample = hide(move(turn(sample, rng, config), rng, config), rng, config, others)
    image = colours(cv2.LUT(sample.image, light_table(rng, config)), rng, config)
    image = jpeg(coarsen(blur(image, rng, config), rng, config), rng, config)
    return sample._replace(image=eight_bits(add_noise(image, rng, config, progress)))


def turn(sample: MapSample, rng: np.random.Generator, config: MapAugmentConfig) -> MapSample:
    """By 0, 90, 180 or 270 degrees counter-clockwise, each as likely: exact, no pixel is lost. The UV that pixels
    show stay what they are."""
    if rng.random() >= config.quarters:
        return sample
    times, motion = int(rng.integers(4)), sample.motion
    for _ in range(times):
        motion = _then(motion, np.array([[0, 1, 0], [-1, 0, len(sample.image)]]))
    return MapSample(*(np.ascontiguousarray(np.rot90(array, times)) for array in sample[:4]), motion)


def move(sample: MapSample, rng: np.random.Generator, config: MapAugmentConfig) -> MapSample:
    """Scale, turn and shift the image (bilinear; its border is repeated) and its maps (the nearest pixel, since a
    mean of two positions is a third one; nothing beyond the border), all by the same map about the centre."""
    if config.scale == (1, 1) and config.shift == 0 and config.rotation == 0:
        return sample
    size = len(sample.image)
    factor = np.exp(rng.uniform(*np.log(config.scale)))
    angle = np.radians(rng.uniform(-config.rotation, config.rotation))
    shift = rng.uniform(-config.shift, config.shift, 2) * size
    a = factor * plane_rotation(angle)
    middle = np.full(2, (size - 1) / 2)         # OpenCV puts the first pixel's centre at (0, 0)
    matrix = np.column_stack([a, middle + shift - a @ middle])

    def nearest(array: np.ndarray) -> np.ndarray:
        return cv2.warpAffine(array, matrix, (size, size), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    image = cv2.warpAffine(sample.image, matrix, (size, size), flags=cv2.INTER_LINEAR,
                           borderMode=cv2.BORDER_REPLICATE)
    corner = matrix[:, 2] + 0.5 - matrix[:, :2] @ [0.5, 0.5]
    return MapSample(image, nearest(sample.uv.astype(np.float32)), nearest(sample.mask.astype(np.uint8)).astype(bool),
                     nearest(sample.visible_mask), _then(sample.motion, np.column_stack([matrix[:, :2], corner])))


def _then(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two affine maps (2, 3), one after the other."""
    return second[:, :2] @ first + [[0, 0, 1]] * second[:, 2:]


def hide(sample: MapSample, rng: np.random.Generator, config: MapAugmentConfig,
         others: tuple[np.ndarray, np.ndarray] | None = None) -> MapSample:
    """Lay at most one shape of each kind, crops, blob, hand and bar, over the image, in this order: `visible_mask` is
    multiplied by what shines through; uv and mask stay.

    A layer with which more than `most_covered` of the image would be hidden (alpha > 1/2) is left out.
    """
    drawn = rng.random(4) < (config.crops if others else 0.0, config.blob, config.hand, config.bar)
    shape, image, through = sample.image.shape[:2], sample.image, None
    for kind in np.flatnonzero(drawn):
        if kind == 0:
            layer = occluders.crops(shape, config.crops_cover, rng, *others)
            if layer is None:
                continue
        elif kind == 1:
            layer = occluders.blob(shape, rng.uniform(*config.blob_cover), rng)
        else:
            layer = (occluders.hand, occluders.bar)[kind - 2](shape, rng)
        shining = 1 - layer.alpha if through is None else through * (1 - layer.alpha)
        if np.count_nonzero(shining < 0.5) <= config.max_covered * shining.size:
            image, through = cv2.blendLinear(layer.colour, image, layer.alpha, 1 - layer.alpha), shining
    return sample if through is None else sample._replace(image=image, visible_mask=sample.visible_mask * through)


def paste(sample: MapSample, second: MapSample, rng: np.random.Generator,
          scale: tuple[float, float] = (0.3, 0.6)) -> MapSample:
    """A second face into the image, smaller and in front: its face with a soft rim of what is around it.

    It is laid where it hides least of the first one, of eight positions tried. Where its mask is, uv and masks are its
    own; its rim belongs to neither.
    """
    size = len(sample.image)
    side = max(2, round(size * rng.uniform(*scale)))
    # pixel i of the small image has its centre at (i + 1/2) / side
    pick = np.ix_(*[(2 * np.arange(side) + 1) * size // (2 * side)] * 2)
    uv, mask, visible_mask = second.uv[pick], second.mask[pick], second.visible_mask[pick]
    boundary = 2 * (side // 24) + 3
    alpha = cv2.dilate(mask.astype(np.float32), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (boundary, boundary)))
    alpha = np.maximum(cv2.GaussianBlur(alpha, (0, 0), boundary / 4), mask).astype(np.float32)
    alpha[alpha < 0.05] = 0
    corners = rng.integers(0, size - side + 1, (8, 2))
    y, x = min(corners, key=lambda at: np.count_nonzero(sample.mask[at[0]:at[0] + side, at[1]:at[1] + side] & mask))
    window = np.s_[y:y + side, x:x + side]
    out = MapSample(*(array.copy() for array in sample))
    small = cv2.resize(second.image, (side, side), interpolation=cv2.INTER_AREA)
    out.image[window] = cv2.blendLinear(small, np.ascontiguousarray(out.image[window]), alpha, 1 - alpha)
    out.uv[window] = np.where(mask[..., None], uv, out.uv[window])
    out.visible_mask[window] = np.where(mask, visible_mask, np.where(alpha > 0, 0, out.visible_mask[window]))
    out.mask[window] = mask | out.mask[window] & (alpha <= 0)
    return out
