"""Where in a picture the face may be, the likeliest place first: what the detector finds, then places by geometry.

The cascades miss dark, turned and shaded faces, and see them in ears and curls. A network that finds the face's places
by itself does so from any crop that holds most of it, so that few squares are enough to look everywhere.
"""
from __future__ import annotations

import math
from typing import Iterator, NamedTuple, Sequence

import numpy as np

from Dataset.detection.cascades import STAGES, Detection, detect_faces
from Dataset.io.images import Box

QUICK_LOOK, SURE = 320, 2   # pixels, stages: the detector's surest look at a small picture first, then the whole chain
SURE_PASSES = tuple(one.name for stage in STAGES[:SURE] for one in stage)
ESTIMATE = "guess"
# Sides of the squares of a guess, of the picture's shorter side, and by how much neighbours overlap, of their side.
# `compact`, its crop cut again up to three times, came to the face from 201 of 202 random squares of 0.8 to 2 times the
# face's crop whose middle lay up to 0.45 of their side off the face's, and from 24 of 25 of 0.45 to 0.8 times its size;
# from 0.75 of 77 up to 0.6 of their side off, from 0.11 of 441 farther off (200 own renders, yaw up to 60 degrees). A
# pass takes a few milliseconds, the whole chain of the detector some hundreds: squares come before it.
COARSE, FINE, OVERLAP = (1.0, 0.5), (0.25,), 0.25
LONGEST = 4                 # of the shorter side: only the middle of a longer picture is guessed at
TRIED = 0.5                 # intersection over union with a place that was tried, from which on one is left out


class Candidate(NamedTuple):
    """box (x, y, w, h) of a crop, px of the picture, also beyond it; name: the detector's pass, or GUESS."""

    box: Box
    name: str


def find(image: np.ndarray, every_face: bool = False, quick: bool = False) -> list[Detection]:
    """What the detector finds in (H, W, 3) uint8 BGR, the largest first: by its surest stages in a small picture, and,
    unless `quick`, by the whole chain where these see nobody; every_face: by all stages."""
    if every_face:
        return detect_faces(image, every_stage=True)
    found = detect_faces(image, max_side=QUICK_LOOK, stages=STAGES[:SURE])
    return found if found or quick else detect_faces(image)


def candidates(image: np.ndarray, found: Sequence[Detection], margin: float) -> Iterator[Candidate]:
    """Every place of a picture where the face may be, as crops: what was found, grown by `margin`; squares over all of
    the picture, from the middle, the larger first; what all stages of the detector find, the surest first; and smaller
    squares. Each is made when it is asked for."""
    tried: list[Box] = []
    for candidate in _in_order(image, found, margin):
        if all(_shared(candidate.box, box) < TRIED for box in tried):
            tried.append(candidate.box)
            yield candidate


def guesses(shape: Sequence[int], sides: Sequence[float]) -> list[Candidate]:
    """Squares that cover a picture (H, W, ...), of sides in its shorter side; of each size the nearest to the middle
    first."""
    shorter = min(shape[:2])
    height, width = (min(length, LONGEST * shorter) for length in shape[:2])
    left, top = (shape[1] - width) // 2, (shape[0] - height) // 2

    def off(box: Box) -> float:
        return max(abs(box[0] + box[2] / 2 - width / 2), abs(box[1] + box[3] / 2 - height / 2))
    found: list[Box] = []
    for side in sides:
        found += sorted(_squares((height, width), max(1, round(side * shorter))), key=off)
    return [Candidate((x + left, y + top, w, h), ESTIMATE) for x, y, w, h in found]


def grown(box: Box, margin: float) -> Box:
    """A box (x, y, w, h) `margin` times as large about its centre, to whole pixels."""
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
    yield from guesses(image.shape, COARSE)
    weaker = sorted(detect_faces(image, every_stage=True), key=lambda one: -one.score)
    yield from (Candidate(grown(one.box, margin), one.pass_name) for one in weaker)
    yield from guesses(image.shape, FINE)


def _shared(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / (a[2] * a[3] + b[2] * b[3] - common)
