"""Faces in an image, at any roll: box, score, six keypoints and roll, by BlazeFace.

One pass over the shrunk image proposes faces; it sees them at any roll, but its scores fall and its keypoints err as
they turn. So each proposal is looked at once more in a small upright patch, at quarter turns until it is upright. The
score of that pass, and of two more that are narrower and wider, tells a face from what is none; its keypoints give roll
and box.
"""
from __future__ import annotations

import math
from typing import NamedTuple, Sequence

import cv2
import numpy as np

from Dataset.detection.blazeface import SAME_FACE, Found, Run, look, overlaps
from Dataset.detection.cascades import Detection
from Dataset.io.images import Box

COARSE, FINE = 256, 448     # longer sides, px, of the shrunk image: faces from a tenth of it, and from a thirtieth
POSSIBLE = 0.2              # score of a proposal
DOUBTFUL, FACE = 0.3, 0.68  # score of upright passes: below the first none, from the second on a face
MAX_PROPOSALS = 64          # of a pass, the best
PATCH, BOX_IN_PATCH = 128, 0.4  # px of a patch, and the fraction of its side that the face's box has
CHECKS = (1.55, 2.8)        # sides of two more patches, of the face's square
MIN_SCORE, OFF_MIDDLE = 0.02, 0.25  # score that is looked at in a patch, and how far from its middle, of its side
ENOUGH, STILL_UPRIGHT = 0.7, 45.0     # score, and degrees off upright, with which no other quarter turn is tried
CONTAINED = 0.5             # of the smaller box's area, from which only the better of two is kept
NEARLY = 15.0               # degrees off upright from which a patch is cut once more
#: of `framed`, of eyes to mouth, ears to mouth, nose to mouth, eye to eye, ear to ear
UP = np.array([1.692, -0.238, 0.529, -0.766, 0.853])
CENTRE = np.array([-0.092, 0.549, 0.665, -0.042, 0.063])
NOSE = 0.611                # of `sideways`: how far the nose is off the middle of the ears in profile, of the side
FRONTAL = 0.42              # of `sideways`, the sine of a yaw of 25 degrees


def detect(image: np.ndarray, run: Run, every_face: bool = False, sides: Sequence[int] = (COARSE, FINE)
           ) -> list[Detection]:
    """Faces in (H, W, 3) uint8 BGR or (H, W) grey, the largest first, also doubtful ones (score DOUBTFUL to FACE); an
    empty list if there is none.

    every_face  also looks for small ones where a large one is found
    sides       longer sides, px, of the images that are looked through, in this order
    The boxes are squares of the upright face, as the networks were trained on, and may reach out of the image.
    ValueError for another shape or dtype.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.size == 0:
        raise ValueError(f"faces are sought in (H, W, 3) or (H, W) uint8, got {image.shape} {image.dtype}")
    image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image
    found: list[Detection] = []
    for longest in sides:
        found += _confirmed(image, run, look(image, run, longest, POSSIBLE), found)
        if not every_face and any(one.score >= FACE for one in found):
            break
    return sorted(found, key=lambda one: one.box[2], reverse=True)


class Framing(NamedTuple):
    """centre (2,) and side, px of the image, of the upright square about a face; roll, degrees, counter-clockwise."""

    centre: np.ndarray
    side: float
    roll: float


def framed(keypoints: np.ndarray) -> Framing:
    """The square in which the networks were trained to see a face, from keypoints (6, 2) px.

    Linear in the keypoints as complex numbers, and alike for a mirrored face. The numbers were fitted by ridge
    regression to 199 renders of seed 101 (`tests.bench.find_face`), to the mean of the boxes of training
    (`Dataset.synthesis.framing.predict_box` without its noise). On renders of other subjects the centre is 1.9 % and
    2.4 % of the side off (x, y; standard deviations), the side 6 %, roll 3.5 degrees; training's own boxes scatter as
    much and more.
    """
    x, y = np.asarray(keypoints, float).T
    right_eye, left_eye, nose, mouth, right_ear, left_ear = x + 1j * y
    parts = np.array([(right_eye + left_eye) / 2 - mouth, (right_ear + left_ear) / 2 - mouth, nose - mouth,
                      -1j * (left_eye - right_eye), -1j * (left_ear - right_ear)])
    up, centre = 1j * (UP @ parts), mouth + CENTRE @ parts      # y points down: up is real where the face is upright
    return Framing(np.array([centre.real, centre.imag]), float(abs(up)), float(-np.degrees(np.angle(up))))


def sideways(keypoints: np.ndarray) -> float:
    """About the sine of the yaw of keypoints (6, 2); above 0 the nose is to the right in the image."""
    x, y = np.asarray(keypoints, float).T
    right_eye, left_eye, nose, _, right_ear, left_ear = x + 1j * y
    up = framed(keypoints)
    aside = (nose - (right_ear + left_ear) / 2) * np.exp(1j * np.radians(up.roll))
    return float(aside.real / (NOSE * up.side))


def patch(image: np.ndarray, centre: np.ndarray, side: float, roll: float) -> tuple[np.ndarray, np.ndarray]:
    """A square of (H, W, 3) uint8, turned upright: (PATCH, PATCH, 3) uint8, black outside the image, and (2, 3) float64
    that takes px of the patch to px of the image (the first pixel's centre is 0.5).

    centre (2,) and side, px of the image; roll: degrees by which its content is turned counter-clockwise
    """
    finer = max(1, int(side / PATCH))                   # averaged where it shrinks
    angle, step = math.radians(roll), side / PATCH
    turn = step * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    to_image = np.column_stack([turn, centre - turn @ (PATCH / 2, PATCH / 2)])
    fine = np.column_stack([turn / finer, to_image[:, 2]])
    fine[:, 2] += fine[:, :2] @ (0.5, 0.5) - 0.5        # OpenCV has the first pixel's centre at 0
    cut = cv2.warpAffine(image, fine, (finer * PATCH, finer * PATCH), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return cut if finer == 1 else cv2.resize(cut, (PATCH, PATCH), interpolation=cv2.INTER_AREA), to_image


class _Pass(NamedTuple):
    """score and keypoints (6, 2), px of the image, of an upright pass; 0 and None: no face."""

    score: float
    keypoints: np.ndarray | None


def _confirmed(image: np.ndarray, run: Run, proposed: Found, known: Sequence[Detection]) -> list[Detection]:
    """The proposals that an upright pass sees, too, but for those that overlap one another or a known face."""
    found: list[Detection] = []
    for box, keypoints in zip(proposed.boxes[:MAX_PROPOSALS], proposed.keypoints):
        seen = _upright(image, run, box, keypoints)
        if seen.keypoints is None or seen.score < DOUBTFUL:
            continue
        centre, side, roll = framed(seen.keypoints)
        square: Box = (*(round(float(v)) for v in centre - side / 2), round(side), round(side))
        name = "frontal" if abs(sideways(seen.keypoints)) <= FRONTAL else "turned"
        found.append(Detection(square, seen.score, name, tuple(map(tuple, seen.keypoints.tolist())), roll,
                               seen.score >= FACE))
    kept = list(known)
    for one in sorted(found, key=lambda one: -one.score):
        if not any(_same(one.box, other.box) for other in kept):
            kept.append(one)
    return kept[len(known):]


def _upright(image: np.ndarray, run: Run, box: np.ndarray, keypoints: np.ndarray) -> _Pass:
    """The best pass over a proposal, box (4,) and keypoints (6, 2): as its keypoints say first, then at quarter turns,
    and once more where the best still sees the face turned."""
    centre, side = box[:2].astype(float), float(box[2:].mean()) / BOX_IN_PATCH
    first, best, turned = framed(keypoints).roll, _Pass(0.0, None), 0.0
    for quarter in (0.0, 180.0, 90.0, -90.0):
        seen = _pass(image, run, centre, side, first + quarter)
        if seen.score > best.score:
            best = seen
            turned = _within_half_turn(framed(seen.keypoints).roll - first - quarter)
        if best.score >= ENOUGH and abs(turned) <= STILL_UPRIGHT:
            break
    if best.keypoints is not None and abs(turned) > NEARLY:
        again = _pass(image, run, centre, side, framed(best.keypoints).roll)
        best = again if again.score > best.score else best
    return best if best.keypoints is None or best.score < DOUBTFUL else _checked(image, run, best)


def _checked(image: np.ndarray, run: Run, seen: _Pass) -> _Pass:
    """The same with the mean of its score and of those in a narrower and a wider patch: textures and text look like a
    face at one size only."""
    centre, side, roll = framed(seen.keypoints)
    scores = [seen.score, *(_pass(image, run, centre, wide * side, roll).score for wide in CHECKS)]
    return seen._replace(score=float(np.mean(scores)))


def _pass(image: np.ndarray, run: Run, centre: np.ndarray, side: float, roll: float) -> _Pass:
    """The face in the middle of a patch, as `patch` cuts it."""
    cut, to_image = patch(image, centre, side, roll)
    seen = look(cut, run, PATCH, MIN_SCORE)
    middle = np.abs(seen.boxes[:, :2] - PATCH / 2).max(axis=1, initial=0) < OFF_MIDDLE * PATCH
    if not middle.any():
        return _Pass(0.0, None)
    best = int(np.argmax(middle))           # the highest score comes first
    return _Pass(float(seen.scores[best]), seen.keypoints[best] @ to_image[:, :2].T + to_image[:, 2])


def _within_half_turn(degrees: float) -> float:
    """The same angle in [-180, 180)."""
    return (degrees + 180) % 360 - 180


def _same(a: Box, b: Box) -> bool:
    """Whether boxes (x, y, w, h) overlap as those of one face do, or one lies in the other, as an eye in a face."""
    one, other = (np.array([[x + w / 2, y + h / 2, w, h]], float) for x, y, w, h in (a, b))
    union = float(overlaps(one, other)[0, 0])
    common = union / (1 + union) * (a[2] * a[3] + b[2] * b[3])
    return union > SAME_FACE or common > CONTAINED * min(a[2] * a[3], b[2] * b[3])
