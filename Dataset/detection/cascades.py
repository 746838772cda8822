"""Face detection with the cascades of Viola and Jones.

The thesis (4.2.2, listing B-1.1) runs OpenCV's frontal cascade on the full image; `thesis=True` does
the same. The default is a chain of stages on a shrunk image, from the most to the least reliable: frontal
(default, alt2), the image rotated by some degrees, profile and mirrored profile, weak detections, the image
rotated far. It stops at the first stage that finds anything, so a frontal photo pays for one pass only.
"""
from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Sequence

import cv2
import numpy as np

from Dataset.io.images import Box

MAX_SIDE = 640
FRONTAL, ALTERNATIVE, PROFILE = ("haarcascade_frontalface_default.xml", "haarcascade_frontalface_alt2.xml",
                                 "haarcascade_profileface.xml")


class Detection(NamedTuple):
    """One face.

    box        (x, y, w, h) integers, pixels of the image that was given
    score      of BlazeFace: of a face, in [0, 1]; of dlib: its own; of the cascades: how many windows agree
               ("neighbours"), over all passes of a stage. Larger is more reliable
    pass_name  which pass found it: "frontal", "alt2", "profile", "profile mirrored", "alt2 +20", ...; of BlazeFace
               "frontal", or "turned" for a yaw of more than about 25 degrees
    keypoints  six (x, y), px of the image, as `Dataset.detection.blazeface.KEYPOINTS`; (): the detector has none
    roll       degrees in [-180, 180] by which the head is turned counter-clockwise; 0 where the detector has none
    certain    the score is a face's; False: it is doubtful
    """

    box: Box
    score: float
    pass_name: str
    keypoints: tuple[tuple[float, float], ...] = ()
    roll: float = 0.0
    certain: bool = True


class Pass(NamedTuple):
    """One run of one cascade: over the image mirrored, or turned by `angle` degrees counter-clockwise."""

    name: str
    cascade: str
    neighbours: int
    mirrored: bool = False
    angle: float = 0.0


# Stages, tried in this order until one finds a face. With few agreeing windows the frontal cascade also reports coins
# and hair (5-16 measured on photos, true faces 23-96; alt2 18-60). So detections of 20 or more are accepted at once,
# weaker ones only in the last stage, where the scores of overlapping detections of several passes are added. Strongly
# rotated heads come last; detections of the earlier passes are kept.
STAGES = (
    (Pass("frontal", FRONTAL, 20),),
    (Pass("alt2", ALTERNATIVE, 10),),
    (Pass("frontal +20", FRONTAL, 20, angle=20.0), Pass("frontal -20", FRONTAL, 20, angle=-20.0)),
    (Pass("profile", PROFILE, 3), Pass("profile mirrored", PROFILE, 3, mirrored=True),
     Pass("alt2, weak", ALTERNATIVE, 4), Pass("alt2 +20", ALTERNATIVE, 4, angle=20.0),
     Pass("alt2 -20", ALTERNATIVE, 4, angle=-20.0), Pass("frontal, weak", FRONTAL, 4)),
    (Pass("alt2 +40", ALTERNATIVE, 4, angle=40.0), Pass("alt2 -40", ALTERNATIVE, 4, angle=-40.0)),
)
WEAK = 0.2          # within a stage, what scores less than this part of the best is dropped
SAME_FACE = 0.3     # intersection over union from which two detections are one face
CONTAINED = 0.5     # intersection over the smaller box from which only one detection is kept


def detect_faces(image: np.ndarray, max_side: int = MAX_SIDE, thesis: bool = False,
                 every_stage: bool = False, stages: tuple[tuple[Pass, ...], ...] = STAGES) -> list[Detection]:
    """Faces in (H, W, 3) uint8 BGR or (H, W) grey, the largest first; an empty list if there is none.

    The image is shrunk to at most `max_side` pixels; faces under about 5 % of that are not looked for.
    `every_stage` goes through the whole chain even when an early stage has found a face (for images of several
    subjects); overlapping detections are merged. `thesis=True` is plain `detectMultiScale(image, 1.1, 4)` of the
    frontal cascade on the full image. ValueError for another shape or dtype, or if OpenCV ships no cascades.
    """
    grey, scale = shrunk_grey(image, max_side)
    if thesis:
        return detect_as_published(image)
    found: list[Detection] = []
    minimum = max(24, round(0.05 * max_side))
    for stage in stages:
        new = merge_overlapping([d for one in stage for d in _run(grey, one, minimum)])
        best = max((d.score for d in new), default=0.0)
        found += [d for d in new if d.score >= WEAK * best]
        if found and not every_stage:
            break
    return merge_overlapping([d._replace(box=_enlarge(d.box, 1 / scale)) for d in found])


def detect_as_published(image: np.ndarray, cascade: str = FRONTAL) -> list[Detection]:
    """Listing B-1.1's `detectMultiScale(image, 1.1, 4)` on the full image; only the order is ours.

    `cascade` is one of OpenCV's package by name, or the path of another file.
    """
    return sorted(_run(image, Pass("frontal", cascade, 4), minimum=0), key=_area, reverse=True)


def cascade_names() -> tuple[str, ...]:
    """The files of cascades that OpenCV's package ships."""
    folder = Path(getattr(getattr(cv2, "data", None), "haarcascades", "."))
    return tuple(sorted(path.name for path in folder.glob("*.xml")))


def shrunk_grey(image: np.ndarray, max_side: int) -> tuple[np.ndarray, float]:
    """The input of a detector: (H, W, 3) uint8 BGR or (H, W) grey -> (h, w) uint8 with sides of at most `max_side`
    pixels, and the scale in (0, 1]. ValueError for another shape or dtype, or a max_side below 32."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.size == 0:
        raise ValueError(f"faces are sought in (H, W, 3) or (H, W) uint8, got {image.shape} {image.dtype}")
    if max_side < 32:
        raise ValueError(f"max_side must be at least 32 pixels, got {max_side}")
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image
    height, width = grey.shape
    scale = min(1.0, max_side / max(height, width))
    if scale < 1:
        grey = cv2.resize(grey, (max(round(width * scale), 1), max(round(height * scale), 1)),
                          interpolation=cv2.INTER_AREA)
    return grey, scale


def merge_overlapping(detections: list[Detection]) -> list[Detection]:
    """One detection a face, the largest box first.

    Detections that overlap by SAME_FACE are merged: the box and name of the best, the sum of the scores. Of two that
    still overlap (an eye detected within a face, CONTAINED) the one with the higher sum is kept.
    """
    faces: list[Detection] = []
    for detection in sorted(detections, key=_score, reverse=True):
        for i, face in enumerate(faces):
            shared = intersection(detection.box, face.box)
            if shared > SAME_FACE * (_area(detection) + _area(face) - shared):
                faces[i] = face._replace(score=face.score + detection.score)
                break
        else:
            faces.append(detection)
    kept: list[Detection] = []
    for face in sorted(faces, key=_score, reverse=True):
        if all(intersection(face.box, k.box) <= CONTAINED * min(_area(face), _area(k)) for k in kept):
            kept.append(face)
    return sorted(kept, key=_area, reverse=True)


def _area(detection: Detection) -> int:
    return detection.box[2] * detection.box[3]


def _score(detection: Detection) -> float:
    return detection.score


def intersection(a: Sequence[float], b: Sequence[float]) -> float:
    """The area that two boxes (x, y, w, h) have in common."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)


def _run(image: np.ndarray, one: Pass, minimum: int) -> list[Detection]:
    """One pass -> detections in the pixels of `image`."""
    height, width = image.shape[:2]
    seen = image
    turn = None
    if one.mirrored:
        seen = cv2.flip(image, 1)
    elif one.angle:
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), one.angle, 1.0)
        seen = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    # detectMultiScale2 gives detectMultiScale's boxes; 3, which has stage sums, lets rejected windows through.
    boxes, agreeing = _cascade(one.cascade).detectMultiScale2(
        seen, 1.1, one.neighbours, minSize=(minimum, minimum))
    found = []
    for (x, y, w, h), count in zip(np.reshape(boxes, (-1, 4)).tolist(), np.ravel(agreeing).tolist()):
        if one.mirrored:
            x = width - x - w
        elif turn is not None:          # the box keeps its size and stays upright; its centre is turned back
            centre = cv2.invertAffineTransform(turn) @ (x + w / 2, y + h / 2, 1.0)
            x, y = round(centre[0] - w / 2), round(centre[1] - h / 2)
        found.append(Detection((x, y, w, h), float(count), one.name))
    return sorted(found)    # the order of OpenCV's threads is not fixed


def _enlarge(box: Box, factor: float) -> Box:
    x, y, w, h = box
    return (math.floor(x * factor), math.floor(y * factor), round(w * factor), round(h * factor))


def has_cascades() -> bool:
    """Whether this OpenCV has them: 5 has not."""
    return hasattr(cv2, "CascadeClassifier")


@lru_cache(maxsize=None)
def _cascade(name: str) -> cv2.CascadeClassifier:
    """Load a cascade that OpenCV's package ships, once a process (or a file, given by its path)."""
    if not has_cascades():
        raise ValueError(f"OpenCV {cv2.__version__} has no cascades, which --detector thesis needs: "
                         "pip install 'opencv-python<5'")
    path = Path(name)
    if path.name == name:
        path = Path(getattr(getattr(cv2, "data", None), "haarcascades", ".")) / name
    cascade = cv2.CascadeClassifier()
    try:
        loaded = path.is_file() and cascade.load(str(path))
    except cv2.error:
        loaded = False
    if not loaded:
        raise ValueError(f"{path}: must be a face cascade; opencv-python<5 ships them")
    return cascade
