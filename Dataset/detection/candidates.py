"""Proposals of face crops in an image, the likeliest first: the detections, then squares on a regular pattern.

The cascades miss dark, rotated and shaded faces, and report false faces in ears and hair. A network that predicts
keypoints finds the face in any crop that contains most of it, so that few squares cover an image.
"""
from __future__ import annotations

import math
from typing import Iterator, NamedTuple, Sequence

import numpy as np

from Dataset.detection.cascades import STAGES, Detection, detect_faces
from Dataset.io.images import Box

QUICK_SIZE, RELIABLE_STAGES = 320, 2   # pixels, stages: the most reliable ones on a small image first, then all
RELIABLE_PASSES = tuple(one.name for stage in STAGES[:RELIABLE_STAGES] for one in stage)
PROPOSAL = "proposal"
# Sides of the squares, as fractions of the image's shorter side, and the overlap of neighbours, of their side.
# `compact`, its crop re-cropped up to three times, came to the face from 201 of 202 random squares of 0.8 to 2 times
# the face's crop whose middle lay up to 0.45 of their side off the face's, and from 24 of 25 of 0.45 to 0.8 times its
# size; from 0.75 of 77 up to 0.6 of their side off, from 0.11 of 441 farther off (200 own renders, yaw up to 60
# degrees). A pass takes a few milliseconds, the whole chain of the detector some hundreds: squares come before it.
COARSE, FINE, OVERLAP = (1.0, 0.5), (0.25,), 0.25
LONGEST = 4                 # of the shorter side: squares cover only the middle of a longer image
TRIED = 0.5                 # a proposal is left out from this intersection over union with an earlier one


class Candidate(NamedTuple):
    """box (x, y, w, h) of a crop, px of the image, also beyond it; name: the detector's pass, or PROPOSAL."""

    box: Box
    name: str


def find(image: np.ndarray, every_face: bool = False, quick: bool = False) -> list[Detection]:
    """Detections in (H, W, 3) uint8 BGR, the largest first: by the most reliable stages in a small image and, unless
    `quick`, by the whole chain if these find nothing; every_face: by all stages."""
    if every_face:
        return detect_faces(image, every_stage=True)
    found = detect_faces(image, max_side=QUICK_SIZE, stages=STAGES[:RELIABLE_STAGES])
    return found if found or quick else detect_faces(image)


def candidates(image: np.ndarray, found: Sequence[Detection], margin: float) -> Iterator[Candidate]:
    """Proposals of crops, lazily, the likeliest first: the given detections, enlarged by `margin`; squares over the
    whole image, from the middle, the larger first; the detections of all stages, the highest score first; smaller
    squares."""
    tried: list[Box] = []
    for candidate in _in_order(image, found, margin):
        if all(_shared(candidate.box, box) < TRIED for box in tried):
            tried.append(candidate.box)
            yield candidate


def proposals(shape: Sequence[int], sides: Sequence[float]) -> list[Candidate]:
    """Squares that cover an image (H, W, ...), sides as fractions of its shorter side; of each size the nearest to the
    middle first."""
    shorter = min(shape[:2])
    height, width = (min(length, LONGEST * shorter) for length in shape[:2])
    left, top = (shape[1] - width) // 2, (shape[0] - height) // 2

    def off(box: Box) -> float:
        return max(abs(box[0] + box[2] / 2 - width / 2), abs(box[1] + box[3] / 2 - height / 2))
    found: list[Box] = []
    for side in sides:
        found += sorted(_squares((height, width), max(1, round(side * shorter))), key=off)
    return [Candidate((x + left, y + top, w, h), PROPOSAL) for x, y, w, h in found]


def grown(box: Box, margin: float) -> Box:
    """A box (x, y, w, h) enlarged about its centre by `margin`, in whole pixels."""
    x, y, w, h = box
    return round(x - w * (margin - 1) / 2), round(y - h * (margin - 1) / 2), round(w * margin), round(h * margin)


def _squares(shape: tuple[int, int], side: int) -> list[Box]:
    """Squares of one side that cover (H, W), evenly spaced, neighbours overlapping by at least OVERLAP."""
    rows, columns = (_starts(length, side) for length in shape)
    return [(x, y, side, side) for y in rows for x in columns]


def _starts(length: int, side: int) -> list[int]:
    """First pixels of squares along one axis; of a length below the side the one about the middle."""
    if length <= side:
        return [(length - side) // 2]
    count = 1 + math.ceil((length - side) / (side * (1 - OVERLAP)))
    return [round(k * (length - side) / (count - 1)) for k in range(count)]


def _in_order(image: np.ndarray, found: Sequence[Detection], margin: float) -> Iterator[Candidate]:
    yield from (Candidate(grown(one.box, margin), one.pass_name) for one in found)
    yield from proposals(image.shape, COARSE)
    weaker = sorted(detect_faces(image, every_stage=True), key=lambda one: -one.score)
    yield from (Candidate(grown(one.box, margin), one.pass_name) for one in weaker)
    yield from proposals(image.shape, FINE)


def _shared(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / (a[2] * a[3] + b[2] * b[3] - common)
