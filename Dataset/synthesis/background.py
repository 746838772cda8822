"""Backgrounds: plain walls, and clutter of noise and coarse shapes, from a seed."""
import cv2
import numpy as np

from Dataset.rendering.shading import background


def backdrop(size: int, rng: np.random.Generator, clutter: float = 0.0) -> np.ndarray:
    """A backdrop (size, size, 3) in linear BGR float32 in (0, 1).

    clutter: 0 is `shading.background`, a plain wall; towards 1 more contrast, colour and shapes, and less blur.
    """
    if clutter <= 0:
        return background(size, rng)
    image = _clouds(size, rng, clutter)
    for _ in range(rng.integers(0, 3 + int(22 * clutter))):
        _draw_shape(image, rng, clutter)
    if rng.random() < 0.4 * clutter:
        image *= _stripes(size, rng)
    blur = rng.uniform(0, 5) * (1.3 - clutter)
    if blur > 0.4:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    if rng.random() < 0.5:      # fine texture, in front of the blur: a wall, leaves, a carpet
        image *= np.exp(rng.uniform(0, 0.35) * clutter * _fractal(size, rng, 1, 1.0))[..., None]
    return np.clip(image, 0.004, 0.98)


def _clouds(size: int, rng: np.random.Generator, clutter: float) -> np.ndarray:
    """1/f noise between two colours, from dark to bright."""
    tone = _fractal(size, rng, 1, rng.uniform(0.7, 1.4))
    hue = _fractal(size, rng, 1, 1.2)
    level = float(np.exp(rng.uniform(np.log(0.03), np.log(0.6))))
    first, second = (level * np.exp(rng.normal(0, 0.15 + 0.35 * clutter, 3)).astype(np.float32) for _ in range(2))
    mix = (1 / (1 + np.exp(-2 * hue)))[..., None]
    return (first * mix + second * (1 - mix)) * np.exp((0.15 + 0.55 * clutter) * tone)[..., None]


def _fractal(size: int, rng: np.random.Generator, octave: int, slope: float) -> np.ndarray:
    """Noise (size, size) float32 of about unit variance whose amplitude falls with frequency ** slope."""
    total, power = np.zeros((size, size), np.float32), 0.0
    cells = 2 << octave
    while cells < size:
        strength = float(cells ** -slope)
        coarse = rng.standard_normal((cells, cells), np.float32)
        total += strength * cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        power += strength ** 2
        cells *= 2
    return total / np.float32(power ** 0.5)


def _draw_shape(image: np.ndarray, rng: np.random.Generator, clutter: float) -> None:
    """One flat shape with a soft edge and a gradient: like furniture, windows or leaves; in place."""
    size = len(image)
    centre, angle = rng.uniform(0, size, 2), rng.uniform(0, 180)
    axes = size * np.exp(rng.uniform(np.log(0.04), np.log(0.45), 2))
    mask = np.zeros((size, size), np.uint8)
    kind = rng.integers(3)
    if kind == 0:
        cv2.ellipse(mask, (tuple(centre), tuple(2 * axes), angle), 255, -1, cv2.LINE_AA)
    else:
        corners = cv2.boxPoints((tuple(centre), tuple(2 * axes), angle if kind == 2 else rng.normal(0, 4)))
        if kind == 2:
            corners = corners + rng.normal(0, 0.3, corners.shape) * axes
        cv2.fillPoly(mask, [np.rint(16 * corners).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    level = np.exp(rng.uniform(np.log(0.02), np.log(0.8)))
    colour = (level * np.exp(rng.normal(0, 0.1 + 0.4 * clutter, 3))).astype(np.float32)
    left, top, width, height = cv2.boundingRect(mask)
    part = image[top:top + height, left:left + width]
    alpha = mask[top:top + height, left:left + width, None] * np.float32(rng.uniform(0.5, 1) / 255)
    part += (colour - part) * alpha


def _stripes(size: int, rng: np.random.Generator) -> np.ndarray:
    """Blinds, bricks, boards: a factor (size, size, 1) around 1."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    angle = rng.normal(0, 0.1) + rng.integers(2) * np.pi / 2
    along = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
    wave = np.cos(2 * np.pi * rng.uniform(4, 24) * along + rng.uniform(0, 6))
    return np.exp(np.float32(rng.uniform(0.05, 0.6)) * np.tanh(3 * wave))[..., None]
