"""400 images in which there is no face, from a seed: half of parts of scikit-image's photographs, half made in code.

Even numbers are for choosing a threshold, odd ones for checking it. Photographs of one half are none of the other's.
"""
from __future__ import annotations

from typing import Iterator

import cv2
import numpy as np
from skimage import data

from Dataset.rendering.shading import to_bgr8
from Dataset.synthesis.background import backdrop

COUNT = 400
#: of scikit-image's wheel; `coins` is left out, since it shows heads. Of the first two only a part without a face
PARTS = {"astronaut": (slice(250, 512), slice(0, 512)), "camera": (slice(230, 512), slice(250, 512))}
CHOOSING = ("astronaut", "brick", "coffee", "colorwheel", "gravel", "horse", "immunohistochemistry", "logo", "page",
            "stereo_motorcycle", "cell")
CHECKING = ("camera", "chelsea", "checkerboard", "clock", "grass", "hubble_deep_field", "microaneurysms", "moon",
            "retina", "rocket", "text")
WORDS = "abc def ghij klmn opq rstu vwx yz 0123 456 789 The quick brown fox jumps over a lazy dog".split()


def faceless(number: int, seed: int = 0) -> np.ndarray:
    """Image `number` of COUNT: (H, W, 3) uint8 BGR, 160 to 640 px a side."""
    rng = np.random.default_rng([seed, number, 11])
    kind = number // 2 % 4
    if kind < 2:
        names = CHECKING if number % 2 else CHOOSING
        return photographed(names[number // 8 % len(names)], rng)
    if kind == 2:
        return written(rng)
    image = to_bgr8(backdrop(640, rng, rng.uniform(0.1, 1)), 0.2).clip(0, 255).astype(np.uint8)
    return image[:int(rng.integers(320, 641)), :int(rng.integers(320, 641))]


def images(half: int, seed: int = 0) -> Iterator[np.ndarray]:
    """The images of a half: 0 for choosing, 1 for checking."""
    return (faceless(number, seed) for number in range(half, COUNT, 2))


def photographed(name: str, rng: np.random.Generator) -> np.ndarray:
    """A photograph, or a part of it, turned, mirrored, lit and scaled at random."""
    image = getattr(data, name)()
    image = np.asarray(image[0] if isinstance(image, tuple) else image)
    image = (255 * image).astype(np.uint8) if image.dtype == bool else image
    image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image[..., 2::-1]
    image = image[PARTS.get(name, (slice(None), slice(None)))]
    height, width = image.shape[:2]
    side = int(min(height, width) * rng.uniform(0.4, 1))
    top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    if rng.random() < 0.7:
        image = image[top:top + side, left:left + side]
    image = np.rot90(image, rng.integers(4))[:, ::rng.choice([1, -1])]
    image = (255 * (image / 255.0) ** rng.uniform(0.6, 1.6)).astype(np.uint8)
    scale = rng.uniform(240, 640) / max(image.shape[:2])
    return cv2.resize(np.ascontiguousarray(image), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def written(rng: np.random.Generator) -> np.ndarray:
    """A page of text, drawings and dots, dark on light or the reverse."""
    height, width = (int(length) for length in rng.integers(240, 641, 2))
    paper, ink = rng.uniform(170, 255, 3), rng.uniform(0, 90, 3)
    if rng.random() < 0.3:
        paper, ink = ink, paper
    image = np.full((height, width, 3), paper, np.uint8)
    size, y = rng.uniform(0.3, 2.5), 0
    while y < height:
        y += int(size * rng.uniform(26, 40))
        line = " ".join(rng.choice(WORDS, int(rng.integers(1, 12))))
        cv2.putText(image, line, (int(rng.integers(0, width // 3)), y), int(rng.integers(0, 8)), size, ink,
                    int(rng.integers(1, 4)), cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 12))):
        centre, colour = tuple(int(v) for v in rng.integers(0, (width, height))), rng.uniform(0, 255, 3)
        if rng.random() < 0.5:
            cv2.circle(image, centre, int(rng.integers(3, 80)), colour, int(rng.choice([-1, 2, 4])), cv2.LINE_AA)
        else:
            cv2.line(image, centre, tuple(int(v) for v in rng.integers(0, (width, height))), colour, 3, cv2.LINE_AA)
    noise = rng.normal(0, rng.uniform(0, 12), image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)
