"""Find faces in a picture with Viola and Jones's cascades: the one place that knows cascades.

The thesis (section 3.5, listing B-1.1) runs OpenCV's frontal cascade on the full picture; `thesis=True` does
just that. The default is a chain of passes on a shrunk picture, from the surest to the least sure: frontal
(default, alt2), then profile and mirrored profile, then the picture turned by some degrees. It stops at the
first pass that finds anything, so a frontal photo pays for one pass only.
"""
from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from Dataset.images import Box

MAX_SIDE = 640
FRONTAL, ALTERNATIVE, PROFILE = ("haarcascade_frontalface_default.xml", "haarcascade_frontalface_alt2.xml",
                                 "haarcascade_profileface.xml")


class Detection(NamedTuple):
    """One face.

    box        (x, y, w, h) integers, pixels of the picture that was given
    score      the cascade's last stage sum; larger is surer; to be compared within one pass only
    pass_name  which pass found it: "frontal", "alt2", "profile", "profile mirrored", "alt2 +20", ...
    """

    box: Box
    score: float
    pass_name: str


class Pass(NamedTuple):
    """One run of one cascade: over the picture mirrored, or turned by `angle` degrees counter-clockwise."""

    name: str
    cascade: str
    neighbours: int
    mirrored: bool = False
    angle: float = 0.0


# The profile cascade and turned pictures see faces in wallpaper: they must agree with themselves more often.
PASSES = (
    Pass("frontal", FRONTAL, 4),
    Pass("alt2", ALTERNATIVE, 4),
    Pass("profile", PROFILE, 4),
    Pass("profile mirrored", PROFILE, 4, mirrored=True),
    Pass("alt2 +20", ALTERNATIVE, 4, angle=20.0),
    Pass("alt2 -20", ALTERNATIVE, 4, angle=-20.0),
)
THESIS_PASS = Pass("frontal", FRONTAL, 4)


def detect_faces(image: np.ndarray, max_side: int = MAX_SIDE, thesis: bool = False,
                 every_pass: bool = False, passes: tuple[Pass, ...] = PASSES) -> list[Detection]:
    """Faces in (H, W, 3) uint8 BGR or (H, W) grey, the largest first; an empty list if there is none.

    The picture is shrunk to at most `max_side` pixels; faces under about 5 % of that are not looked for.
    `every_pass` goes through the whole chain even when an early pass has found a face (for pictures of several
    people); overlapping finds are merged. `thesis=True` is plain `detectMultiScale(image, 1.1, 4)` of the
    frontal cascade on the full picture. ValueError for another shape or dtype, or if OpenCV ships no cascades.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.size == 0:
        raise ValueError(f"faces are sought in (H, W, 3) or (H, W) uint8, got {image.shape} {image.dtype}")
    if thesis:
        return merge_overlapping(_run(image, THESIS_PASS, minimum=0), limit=1.0)
    if max_side < 32:
        raise ValueError(f"max_side must be at least 32 pixels, got {max_side}")
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image
    height, width = grey.shape
    scale = min(1.0, max_side / max(height, width))
    if scale < 1:
        grey = cv2.resize(grey, (max(round(width * scale), 1), max(round(height * scale), 1)),
                          interpolation=cv2.INTER_AREA)
    found: list[Detection] = []
    for one in passes:
        found += _run(grey, one, minimum=max(24, round(0.05 * max_side)))
        if found and not every_pass:
            break
    return merge_overlapping([d._replace(box=_enlarge(d.box, 1 / scale)) for d in found])


def largest_face(image: np.ndarray, max_side: int = MAX_SIDE, thesis: bool = False) -> Detection | None:
    """The largest face in the picture, or None."""
    return next(iter(detect_faces(image, max_side, thesis)), None)


def merge_overlapping(detections: list[Detection], limit: float = 0.3) -> list[Detection]:
    """Drop what overlaps an earlier find; sort the rest by area, the largest first.

    Detections come in the order of the passes, surest first. Two overlap when the intersection is more than
    `limit` of the smaller box (so a box within a box goes too). With limit=1 nothing is dropped.
    """
    kept: list[Detection] = []
    for detection in detections:
        if all(_overlap(detection.box, other.box) <= limit for other in kept):
            kept.append(detection)
    return sorted(kept, key=lambda d: -d.box[2] * d.box[3])


def _overlap(a: Box, b: Box) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0) / max(min(a[2] * a[3], b[2] * b[3]), 1)


def _run(image: np.ndarray, one: Pass, minimum: int) -> list[Detection]:
    """One pass -> detections in the pixels of `image`, the surest first."""
    height, width = image.shape[:2]
    seen = image
    turn = None
    if one.mirrored:
        seen = cv2.flip(image, 1)
    elif one.angle:
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), one.angle, 1.0)
        seen = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    boxes, _, weights = _cascade(one.cascade).detectMultiScale3(
        seen, 1.1, one.neighbours, minSize=(minimum, minimum), outputRejectLevels=True)
    found = []
    for (x, y, w, h), weight in zip(np.reshape(boxes, (-1, 4)).tolist(), np.ravel(weights).tolist()):
        if one.mirrored:
            x = width - x - w
        elif turn is not None:          # the box keeps its size and stays upright; its centre is turned back
            centre = cv2.invertAffineTransform(turn) @ (x + w / 2, y + h / 2, 1.0)
            x, y = round(centre[0] - w / 2), round(centre[1] - h / 2)
        found.append(Detection((x, y, w, h), float(weight), one.name))
    return sorted(found, key=lambda d: -d.score)


def _enlarge(box: Box, factor: float) -> Box:
    x, y, w, h = box
    return (math.floor(x * factor), math.floor(y * factor), round(w * factor), round(h * factor))


@lru_cache(maxsize=None)
def _cascade(name: str) -> cv2.CascadeClassifier:
    """Load a cascade that OpenCV's package ships, once a process (or a file, given by its path)."""
    if not hasattr(cv2, "CascadeClassifier"):
        raise ValueError(f"OpenCV {cv2.__version__} has no CascadeClassifier: install opencv-python>=4.10,<5")
    path = Path(name)
    if path.name == name:
        path = Path(getattr(getattr(cv2, "data", None), "haarcascades", ".")) / name
    cascade = cv2.CascadeClassifier()
    try:
        loaded = path.is_file() and cascade.load(str(path))
    except cv2.error:
        loaded = False
    if not loaded:
        raise ValueError(f"{path}: must be a face cascade; opencv-python>=4.10,<5 ships them (5.x does not)")
    return cascade
