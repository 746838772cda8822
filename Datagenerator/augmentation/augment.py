"""Augmentation: pure functions (sample, rng) -> sample that transform image and points together.

After Ronkainen 2017, section 3.6 (rotation, channel shuffle, exposure, gamma, noise, occluders, then clipping and
quantisation), with further degradations of photos: blur, motion blur, low resolution, JPEG. Ronkainen rotates by
multiples of 90 degrees; here the jitter of a detector's box is simulated instead, because the network's input is the
crop of a detector of upright faces. Images are uint8 between the steps.

No step mirrors the image: the order of the points distinguishes the subject's left and right, and only the
representation can reorder them.
"""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from Datagenerator.augmentation import occluders
from Dataset.geometry.transforms import plane_rotation

REFERENCE = 128         # lengths in pixels are for an image of this side and grow with it
_NOISE_SD = 24.0        # of the precomputed noise, in grey levels: +-127 is then more than five of them
_NOISE_LENGTH = 1 << 21


class Sample(NamedTuple):
    """image    (S, S, 3) uint8 BGR
    points   (K, 2) float32, pixel coordinates (x, y); the first pixel's centre is (0.5, 0.5); K may be 0
    visible  (K,) bool, False where the image does not show the point
    """

    image: np.ndarray
    points: np.ndarray
    visible: np.ndarray


@dataclass(frozen=True)
class AugmentConfig:
    """Ranges (low, high) are sampled uniformly; a field named after a step is its probability in [0, 1].

    `AugmentConfig.off()` changes nothing. Lengths in pixels are for a side of 128 and grow with the image.
    ValueError for a range that is not low <= high or out of its bounds.
    """

    scale: tuple[float, float] = (0.9, 1.12)        # of the image about its centre; off (1, 1)
    shift: float = 0.07                             # largest, of the side, each axis; off 0
    rotation: float = 12.0                          # largest, degrees; off 0
    blob: float = 0.25                              # occluders: probability of each kind
    blob_cover: tuple[float, float] = (0.05, 0.35)  # fraction of the image under a blob
    hand: float = 0.10
    bar: float = 0.08
    max_covered: float = 0.45                      # fraction of the image; an occluder beyond it is left out
    exposure: tuple[float, float] = (-0.8, 0.8)     # stops (factors of two in linear light); off (0, 0)
    gain_sd: float = 0.04                           # of each channel's factor about 1; off 0
    gamma: tuple[float, float] = (0.7, 1.45)        # exponent of the value in [0, 1]; off (1, 1)
    contrast: tuple[float, float] = (0.7, 1.25)     # about mid-grey; off (1, 1)
    shuffle: float = 0.06                           # colour channels in another order
    grey: float = 0.08
    blur: float = 0.15
    blur_sigma: tuple[float, float] = (0.4, 1.6)    # pixels
    motion: float = 0.08
    motion_length: tuple[float, float] = (3.0, 8.0)     # pixels
    coarse: float = 0.2                             # shrunk and enlarged again
    coarse_factor: tuple[float, float] = (0.3, 0.8)     # of the side
    jpeg: float = 0.3
    jpeg_quality: tuple[int, int] = (20, 90)        # OpenCV's scale, 1 to 100, both ends included
    noise: tuple[float, float] = (0.0, 16.0)        # standard deviation in grey levels at progress 0; off (0, 0)
    noise_end: tuple[float, float] = (0.0, 5.0)     # the same at progress 1

    def __post_init__(self) -> None:
        bounds = {"scale": (0.1, 10), "blob_cover": (0, 1), "exposure": (-8, 8), "gamma": (0.1, 10),
                  "contrast": (0, 10), "blur_sigma": (0, 32), "motion_length": (1, 32), "coarse_factor": (0.02, 1),
                  "jpeg_quality": (1, 100), "noise": (0, 127), "noise_end": (0, 127), "shift": (0, 1),
                  "rotation": (0, 180), "gain_sd": (0, 1)}
        for field in dataclasses.fields(self):
            value, (minimum, limit) = getattr(self, field.name), bounds.get(field.name, (0, 1))
            numbers = value if isinstance(field.default, tuple) else (value, value)
            if len(numbers) != 2 or not minimum <= numbers[0] <= numbers[1] <= limit:
                what = "low <= high" if isinstance(field.default, tuple) else "a number"
                raise ValueError(f"{field.name}: must be {what} within {minimum} to {limit}, got {value!r}")

    @classmethod
    def off(cls, **changes: object) -> AugmentConfig:
        """Every step off, but for `changes`."""
        nothing = dict(scale=(1.0, 1.0), shift=0.0, rotation=0.0, blob=0.0, hand=0.0, bar=0.0, exposure=(0.0, 0.0),
                       gain_sd=0.0, gamma=(1.0, 1.0), contrast=(1.0, 1.0), shuffle=0.0, grey=0.0, blur=0.0,
                       motion=0.0, coarse=0.0, jpeg=0.0, noise=(0.0, 0.0), noise_end=(0.0, 0.0))
        return cls(**(nothing | changes))


DEFAULT = AugmentConfig()


def augment(sample: Sample, rng: np.random.Generator, config: AugmentConfig = DEFAULT, progress: float = 0.0,
            other: np.ndarray | None = None) -> Sample:
    """All steps in order: jitter, occlude, light, colours, blur, coarsen, jpeg, noise. The input is not changed.

    progress  in [0, 1], how much of the training is done: the noise fades with it
    other     (h, w, 3) uint8 BGR, another image; its crops fill some of the blobs

    The same generator state gives the same bytes on one machine, the same choices on every machine. ValueError for
    arrays of another shape or dtype, or for a progress outside [0, 1].
    """
    _check(sample, progress, other)
    sample = occlude(jitter(sample, rng, config), rng, config, other)
    image = colours(light(sample.image, rng, config), rng, config)
    image = jpeg(coarsen(blur(image, rng, config), rng, config), rng, config)
    return sample._replace(image=add_noise(image, rng, config, progress))


def _check(sample: Sample, progress: float, other: np.ndarray | None) -> None:
    for name, image in (("image", sample.image), ("other", other)):
        if image is not None and (image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size):
            raise ValueError(f"{name}: must be (S, S, 3) uint8, got {image.shape} {image.dtype}")
    if sample.points.ndim != 2 or sample.points.shape[1] != 2:
        raise ValueError(f"points: must be (K, 2), got {sample.points.shape}")
    if sample.visible.shape != sample.points.shape[:1] or sample.visible.dtype != bool:
        raise ValueError(f"visible: must be ({len(sample.points)},) bool, got {sample.visible.shape} "
                         f"{sample.visible.dtype}")
    if not 0 <= progress <= 1:
        raise ValueError(f"progress: must be within 0 to 1, got {progress!r}")


def jitter(sample: Sample, rng: np.random.Generator, config: AugmentConfig) -> Sample:
    """Scale (even in its logarithm), turn about the centre, shift; image (bilinear) and points by the same map.

    What comes in from outside is the image's reflection. Points that leave the image become invisible.
    """
    if config.scale == (1, 1) and config.shift == 0 and config.rotation == 0:
        return sample
    height, width = sample.image.shape[:2]
    factor = np.exp(rng.uniform(*np.log(config.scale)))
    angle = np.radians(rng.uniform(-config.rotation, config.rotation))
    shift = rng.uniform(-config.shift, config.shift, 2) * (width, height)
    a = factor * plane_rotation(angle)
    centre = np.array([width, height]) / 2
    t = centre + shift - a @ centre
    half = np.array([0.5, 0.5])         # OpenCV puts the first pixel's centre at (0, 0), we at (0.5, 0.5)
    matrix = np.column_stack([a, t + a @ half - half])
    image = cv2.warpAffine(sample.image, matrix, (width, height), flags=cv2.INTER_LINEAR,
                           borderMode=cv2.BORDER_REFLECT_101)
    points = (np.einsum("kj,ij->ki", sample.points, a) + t).astype(np.float32)
    inside = ((points >= 0) & (points < (width, height))).all(axis=1)
    return Sample(image, points, sample.visible & inside)


def occlude(sample: Sample, rng: np.random.Generator, config: AugmentConfig, other: np.ndarray | None = None) -> Sample:
    """Lay at most one blob, hand and bar over the image, in this order; points under them become invisible.

    A layer with which more than `most_covered` of the image would be hidden (alpha > 1/2) is left out.
    """
    drawn = rng.random(3) < (config.blob, config.hand, config.bar)
    shape, image, hidden = sample.image.shape[:2], sample.image, None
    for kind in np.flatnonzero(drawn):
        if kind == 0:
            layer = occluders.blob(shape, rng.uniform(*config.blob_cover), rng, other)
        else:
            layer = (occluders.hand, occluders.bar)[kind - 1](shape, rng)
        covered = layer.alpha > 0.5
        if hidden is not None:
            covered |= hidden
        if np.count_nonzero(covered) <= config.max_covered * covered.size:
            image, hidden = cv2.blendLinear(layer.colour, image, layer.alpha, 1 - layer.alpha), covered
    if hidden is None:
        return sample
    column, row = np.floor(sample.points).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < shape[1]) & (row < shape[0])
    visible = sample.visible.copy()
    visible[inside] &= ~hidden[row[inside], column[inside]]
    return Sample(image, sample.points, visible)


def light(image: np.ndarray, rng: np.random.Generator, config: AugmentConfig) -> np.ndarray:
    """Exposure and gain of each channel, then gamma, then contrast, in one table of 256 entries a channel."""
    return cv2.LUT(image, eight_bits(light_table(rng, config)))


def light_table(rng: np.random.Generator, config: AugmentConfig) -> np.ndarray:
    """What `light` makes of each of 256 grey levels: (1, 256, 3) float32, grey levels, beyond 0 to 255 too."""
    stops, gamma, contrast = (rng.uniform(*r) for r in (config.exposure, config.gamma, config.contrast))
    gain = 1 + config.gain_sd * rng.standard_normal(3)
    # a stop doubles the light; pixel values are about its 1 / 2.2th power
    value = np.arange(256)[:, None] / 255 * np.maximum(gain, 0) * 2 ** (stops / 2.2)
    value = (np.clip(value, 0, None) ** gamma - 0.5) * contrast + 0.5
    return (value * 255).astype(np.float32)[None]


def eight_bits(image: np.ndarray) -> np.ndarray:
    """Grey levels of any real dtype, clipped to 0-255 and rounded to uint8; uint8 as it is."""
    return image if image.dtype == np.uint8 else np.clip(np.rint(image), 0, 255).astype(np.uint8)


def colours(image: np.ndarray, rng: np.random.Generator, config: AugmentConfig) -> np.ndarray:
    """Channels in one of the five other orders, or all three the grey value, or as they are."""
    drawn = rng.random(2)
    if drawn[0] < config.grey:
        return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if drawn[1] < config.shuffle:
        order = ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))[rng.integers(5)]
        return cv2.merge([cv2.extractChannel(image, c) for c in order])
    return image


def blur(image: np.ndarray, rng: np.random.Generator, config: AugmentConfig) -> np.ndarray:
    """Gaussian blur, motion along a straight line, both or neither."""
    drawn, unit = rng.random(2), min(image.shape[:2]) / REFERENCE
    if drawn[0] < config.blur:
        sigma = rng.uniform(*config.blur_sigma) * unit
        if sigma > 0:
            image = cv2.GaussianBlur(image, (2 * round(3 * sigma) + 1,) * 2, sigma, borderType=cv2.BORDER_REFLECT_101)
    if drawn[1] < config.motion:
        half, angle = rng.uniform(*config.motion_length) * unit / 2, rng.uniform(0, np.pi)
        image = cv2.filter2D(image, -1, _line_kernel(half, angle), borderType=cv2.BORDER_REFLECT_101)
    return image


def _line_kernel(half: float, angle: float) -> np.ndarray:
    """(n, n) float32, sum 1: a line of length 2 `half` pixels through the middle."""
    reach = int(np.ceil(half))
    kernel = np.zeros((2 * reach + 1,) * 2, np.float32)
    steps = np.linspace(-half, half, 4 * reach + 1)
    x, y = reach + steps * np.cos(angle), reach + steps * np.sin(angle)
    np.add.at(kernel, (np.round(y).astype(int), np.round(x).astype(int)), 1)
    return kernel / kernel.sum()


def coarsen(image: np.ndarray, rng: np.random.Generator, config: AugmentConfig) -> np.ndarray:
    """Shrink by averaging and enlarge again (linear or cubic): a face that was small in its photo."""
    if rng.random() >= config.coarse:
        return image
    height, width = image.shape[:2]
    factor = rng.uniform(*config.coarse_factor)
    small = cv2.resize(image, (max(1, round(width * factor)), max(1, round(height * factor))),
                       interpolation=cv2.INTER_AREA)
    how = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(2)]
    return cv2.resize(small, (width, height), interpolation=how)


def jpeg(image: np.ndarray, rng: np.random.Generator, config: AugmentConfig) -> np.ndarray:
    """Through a JPEG of random quality and back."""
    if rng.random() >= config.jpeg:
        return image
    quality = int(rng.integers(config.jpeg_quality[0], config.jpeg_quality[1] + 1))
    _, data = cv2.imencode(".jpg", eight_bits(image), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def noise_range(config: AugmentConfig, progress: float) -> tuple[float, float]:
    """Range of the noise's standard deviation, grey levels: `noise` at progress 0, `noise_end` at 1, linear between."""
    return tuple((1 - progress) * a + progress * b for a, b in zip(config.noise, config.noise_end))


def add_noise(image: np.ndarray, rng: np.random.Generator, config: AugmentConfig, progress: float = 0.0) -> np.ndarray:
    """Gaussian noise, independent for each pixel and channel, then clipping to 0-255 and rounding to integers."""
    low, high = noise_range(config, progress)
    if high <= 0:
        return image
    strength = rng.uniform(low, high)
    noise, need = _noise(), image.size
    if need > len(noise):
        noise = np.tile(noise, -(-need // len(noise)) + 1)
    start = int(rng.integers(len(noise) - need + 1))
    values = noise[start:start + need].reshape(image.shape)
    return cv2.addWeighted(image, 1, values, strength / _NOISE_SD, 0, dtype=cv2.CV_8U)


@lru_cache(maxsize=1)
def _noise() -> np.ndarray:
    """Two million Gaussian values, int8, sd 24; a random stretch of them costs far less than fresh ones."""
    values = np.random.default_rng(36).standard_normal(_NOISE_LENGTH, np.float32) * np.float32(_NOISE_SD)
    values = np.clip(np.round(values), -127, 127).astype(np.int8)
    values.flags.writeable = False
    return values
