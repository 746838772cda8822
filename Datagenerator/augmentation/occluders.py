"""Things in front of a face: noise blobs, hand-like blobs, bars (Ronkainen 2017, section 3.6; drawn, not photographed).

Each function returns a `Layer` for `augment.occlude` to lay over an image. Rectangles alone taught Ronkainen's network
that obstructions are rectangles; what helped were shapes from one crop coloured by another, independent one. He repeats
the threshold until the covered fraction is in a range: so does `crops`; for `blob` the threshold is the quantile
that gives the wanted fraction at once.
"""
from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from Dataset.geometry.transforms import plane_rotation

PLANE = 512         # pixels a side of the precomputed noise; every crop of it is turned and scaled
SKIN = (np.array([45.0, 62.0, 100.0]), np.array([178.0, 203.0, 240.0]))      # BGR, darkest and lightest hand


class Layer(NamedTuple):
    """`colour` (H, W, 3) uint8 BGR; `alpha` (H, W) float32 in [0, 1], 1 where the image is hidden."""

    colour: np.ndarray
    alpha: np.ndarray


@lru_cache(maxsize=1)
def smooth_plane() -> np.ndarray:
    """(512, 512, 4) float32 noise with a spectrum near 1/f, mean 0, sd 1 a channel; the same in every process.

    The first channel shapes blobs, the other three colour them. Read-only.
    """
    rng = np.random.default_rng(2017)
    plane = np.zeros((PLANE, PLANE, 4), np.float32)
    for cells in (8, 16, 32, 64, 128):      # each octave half the strength of the one before
        octave = rng.standard_normal((cells, cells, 4), np.float32)
        plane += cv2.resize(octave, (PLANE, PLANE), interpolation=cv2.INTER_CUBIC) * np.float32(8 / cells)
    plane = (plane - plane.mean((0, 1))) / plane.std((0, 1))
    plane.flags.writeable = False
    return plane


@lru_cache(maxsize=1)
def shape_plane() -> np.ndarray:
    """The first channel of `smooth_plane`, contiguous: (512, 512) float32. Read-only."""
    plane = np.ascontiguousarray(smooth_plane()[..., 0])
    plane.flags.writeable = False
    return plane


@lru_cache(maxsize=1)
def colour_plane() -> np.ndarray:
    """The other three channels as colours around grey 128: (512, 512, 3) uint8. Read-only."""
    plane = np.clip(smooth_plane()[..., 1:] * 50 + 128, 0, 255).astype(np.uint8)
    plane.flags.writeable = False
    return plane


def random_crop(plane: np.ndarray, shape: tuple[int, int], rng: np.random.Generator,
                zoom: tuple[float, float]) -> np.ndarray:
    """A crop of `plane` (A, B) or (A, B, C), turned by any angle and magnified by `zoom`, as (H, W[, C]) = `shape`.

    What lies outside the plane is its reflection.
    """
    height, width = shape
    factor, angle = rng.uniform(*zoom), rng.uniform(0, 2 * np.pi)
    a = plane_rotation(angle) / factor    # crop -> plane
    centre = rng.random(2) * (plane.shape[1], plane.shape[0])
    matrix = np.column_stack([a, centre - a @ (width / 2, height / 2)])
    return cv2.warpAffine(plane, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                          borderMode=cv2.BORDER_REFLECT_101)


def blob(shape: tuple[int, int], fraction: float, rng: np.random.Generator, other: np.ndarray | None = None) -> Layer:
    """Thresholded smooth noise over `fraction` in [0, 1] of an image of `shape` (H, W), with an edge that may be soft.

    Filled with one colour, with smooth noise, or with a crop of `other` (h, w, 3) uint8, drawn independently of the
    shape.
    """
    side = min(shape)
    values = random_crop(shape_plane(), shape, rng, (side / 160, side / 40))
    edge = rng.uniform(2.0, 12.0)       # alpha goes from 0 to 1 over 1 / edge of the noise's standard deviation
    sample = values[::2, ::2].ravel()
    rank = min(int((1 - fraction) * sample.size), sample.size - 1)
    threshold = np.partition(sample, rank)[rank]
    alpha = np.clip((values - threshold) * np.float32(edge * side / 128) + np.float32(0.5), 0, 1)
    if fraction <= 0:
        alpha[:] = 0
    fill = rng.integers(2 if other is None else 3)
    if fill == 0:
        colour = np.full((*shape, 3), rng.integers(0, 256, 3), np.uint8)
    elif fill == 1:
        colour = random_crop(colour_plane(), shape, rng, (side / 256, side / 32))
    else:
        fits = side / max(other.shape[:2])
        colour = random_crop(other, shape, rng, (fits, 3 * fits))
    return Layer(colour, alpha)


def crops(shape: tuple[int, int], cover: tuple[float, float], rng: np.random.Generator, first: np.ndarray,
          second: np.ndarray, tries: int = 12) -> Layer | None:
    """One image's crop thresholded, over a fraction within `cover` of an image of `shape` (H, W), in the colours of an
    independent crop of another image; both (h, w, 3) uint8 BGR and turned by any angle, as published.

    A channel, a level and a crop are drawn anew until the share (alpha > 1/2) fits; None after `tries` times. The edge
    is soft: alpha rises over 4 to 24 grey levels. Crops are magnified, at least twice, so that whole faces are rare.
    """
    fits = max(shape) / min(min(first.shape[:2]), min(second.shape[:2]))
    for _ in range(tries):
        channel = cv2.extractChannel(first, int(rng.integers(3)))
        values = random_crop(channel, shape, rng, (2 * fits, 5 * fits))
        level, width, above = rng.uniform(30, 225), rng.uniform(4, 24), rng.random() < 0.5
        fraction = np.count_nonzero(values > level) / values.size
        if cover[0] <= (fraction if above else 1 - fraction) <= cover[1]:
            rise = (values - np.float32(level)) * np.float32((1 if above else -1) / width)
            return Layer(random_crop(second, shape, rng, (2 * fits, 5 * fits)), np.clip(rise + np.float32(0.5), 0, 1))
    return None


def hand(shape: tuple[int, int], rng: np.random.Generator) -> Layer:
    """A palm and four fingers, rounded capsules in one skin tone, that reach in from the border of the image."""
    height, width = shape
    side = min(shape)
    tone = SKIN[0] + (SKIN[1] - SKIN[0]) * rng.random()
    entry = rng.uniform(0, 2 * np.pi)
    inwards = -np.array([np.cos(entry), np.sin(entry)])
    inwards = _turned(inwards, rng.uniform(-0.5, 0.5))
    across = np.array([-inwards[1], inwards[0]])
    thick = side * rng.uniform(0.055, 0.085)            # of a finger
    palm = np.array([width, height]) / 2 - inwards * side * rng.uniform(0.36, 0.52)
    colour = np.empty((*shape, 3), np.uint8)
    colour[:] = np.clip(tone * 0.5, 0, 255)
    alpha = np.zeros(shape, np.uint8)
    _capsule(colour, alpha, palm - inwards * side, palm, thick * 4.0, tone * 0.92)
    sigma, length = rng.uniform(0.02, 0.16), side * rng.uniform(0.22, 0.38)
    for place in (-1.5, -0.5, 0.5, 1.5):
        start = palm + across * place * thick * 1.05
        reach = length * (1 - 0.09 * place * place) * rng.uniform(0.9, 1.1)
        _capsule(colour, alpha, start, start + _turned(inwards, place * sigma) * reach, thick,
                 tone * rng.uniform(0.92, 1.06))
    return Layer(cv2.blur(colour, (3, 3)), alpha.astype(np.float32) * np.float32(1 / 255))


def bar(shape: tuple[int, int], rng: np.random.Generator) -> Layer:
    """A dark or bright bar across the whole image at any angle, 4 to 14 % of the side wide, nearly opaque."""
    height, width = shape
    dark = rng.random() < 0.5
    tone = rng.uniform(0, 50) if dark else rng.uniform(200, 250)
    colour = np.full((*shape, 3), np.clip(tone + rng.uniform(-12, 12, 3), 0, 255), np.uint8)
    alpha = np.zeros(shape, np.uint8)
    middle = np.array([width, height]) * rng.uniform(0.1, 0.9, 2)
    along = _turned(np.array([1.0, 0.0]), rng.uniform(0, np.pi)) * (width + height)
    thickness = max(1, round(min(shape) * rng.uniform(0.04, 0.14)))
    cv2.line(alpha, _pixel(middle - along), _pixel(middle + along), 255, thickness, cv2.LINE_AA)
    return Layer(colour, alpha.astype(np.float32) * np.float32(rng.uniform(0.75, 1.0) / 255))


def _capsule(colour: np.ndarray, alpha: np.ndarray, start: np.ndarray, end: np.ndarray, thickness: float,
             tone: np.ndarray) -> None:
    """Draw a round-ended stroke with a darker outline into both images."""
    wide, ends = max(1, round(thickness)), (_pixel(start), _pixel(end))
    cv2.line(alpha, *ends, 255, wide, cv2.LINE_AA)
    cv2.line(colour, *ends, tuple(np.clip(tone * 0.7, 0, 255)), wide)
    cv2.line(colour, *ends, tuple(np.clip(tone, 0, 255)), max(1, round(thickness * 0.8)))


def _turned(vector: np.ndarray, angle: float) -> np.ndarray:
    """(2,) turned by `angle` radians from x towards y."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([c * vector[0] - s * vector[1], s * vector[0] + c * vector[1]])


def _pixel(point: np.ndarray) -> tuple[int, int]:
    return int(np.floor(point[0])), int(np.floor(point[1]))
