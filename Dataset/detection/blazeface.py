"""BlazeFace: faces with six keypoints, at any roll, by a small network (Bazarevsky et al. 2019, back-camera model).

The network is convolutional, so that it runs over the whole image shrunk to a few sizes, instead of over tiles. It is
given by the caller as a function (`Run`): Dataset knows no runtime; Network/engine/face_detector.py has it run by
onnxruntime. assets/README.md says where the weights come from.

Left out of MediaPipe's detector: tracking between frames, and the square that it pads an image to.
"""
from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Callable, NamedTuple

import cv2
import numpy as np

MODEL = Path(__file__).parent / "assets" / "blazeface.onnx"
#: image (1, H, W, 3) float32 RGB in [-1, 1], H and W multiples of STRIDE -> regressors (1, N, 16) and logits (1, N, 1)
#: float32, N = H W (2 / 16^2 + 6 / 32^2)
Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
STRIDE = 32
ANCHORS = ((16, 2), (32, 6))        # px of a cell, and how many anchors have its centre
KEYPOINTS = ("right eye", "left eye", "nose", "mouth", "right ear", "left ear")     # right: the subject's
SAME_FACE = 0.3                     # intersection over union from which two detections are one face


class Found(NamedTuple):
    """N detections. boxes (N, 4) float32 centre x, y, width, height and keypoints (N, 6, 2) float32, px of the image,
    as KEYPOINTS; scores (N,) float32 in [0, 1]."""

    boxes: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray

    def of(self, some: np.ndarray) -> "Found":
        """Those that a mask or indices select."""
        return Found(self.boxes[some], self.keypoints[some], self.scores[some])


def look(image: np.ndarray, run: Run, longest: int, threshold: float) -> Found:
    """One pass over (H, W, 3) uint8 BGR, scaled so that its longer side has `longest` px: the detections whose score is
    at least `threshold`, the highest score first, one a face."""
    height, width = image.shape[:2]
    scale = longest / max(height, width)
    size = tuple(max(1, round(length * scale)) for length in (width, height))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    padded = np.zeros((1, *(-(-length // STRIDE) * STRIDE for length in small.shape[:2]), 3), np.float32)
    np.multiply(small[..., ::-1], np.float32(2 / 255), out=padded[0, :size[1], :size[0]])
    regressors, logits = run(padded - 1)
    centres = anchor_centres(padded.shape[1], padded.shape[2])
    scores = 1 / (1 + np.exp(-np.clip(logits[0, :, 0], -80, 80)))
    likely = scores >= threshold
    values, centres = regressors[0, likely].reshape(-1, 8, 2), centres[likely]
    values[:, 0] += centres
    values[:, 2:] += centres[:, None]
    values *= np.array([width, height], np.float32) / size
    return merged(Found(values[:, :2].reshape(-1, 4), values[:, 2:], scores[likely]))


@lru_cache(maxsize=32)
def anchor_centres(height: int, width: int) -> np.ndarray:
    """(N, 2) float32 x, y px of the anchors of an image of height x width px, both multiples of STRIDE."""
    found = []
    for cell, count in ANCHORS:
        y, x = np.mgrid[0:height // cell, 0:width // cell]
        found.append(np.repeat((np.stack([x, y], -1).reshape(-1, 2) + 0.5) * cell, count, axis=0))
    return np.concatenate(found).astype(np.float32)


def merged(found: Found) -> Found:
    """One detection a face, the highest score first: the mean of those that overlap it by SAME_FACE, weighted by their
    scores, with the highest score."""
    order = np.argsort(-found.scores, kind="stable")
    faces: list[tuple[np.ndarray, ...]] = []
    while len(order):
        same = overlaps(found.boxes[order[:1]], found.boxes[order])[0] > SAME_FACE
        same[0] = True
        some = found.of(order[same])
        weights = some.scores / some.scores.sum()
        faces.append((weights @ some.boxes, np.einsum("n,nkc->kc", weights, some.keypoints), some.scores[0]))
        order = order[~same]
    return Found(*map(np.array, zip(*faces))) if faces else found


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (N, 4) and (M, 4), centre and size: (N, M) in [0, 1]."""
    a, b = a[:, None], b[None]
    low, high = np.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2), \
        np.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    common = np.clip(high - low, 0, None).prod(-1)
    return common / np.maximum(a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - common, 1e-9)
