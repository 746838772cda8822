"""Framing of a rendered image: by the detector, as for a photo, or by a prediction of its box if it misses the face."""
import logging
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from Dataset.detection.cascades import Detection, detect_faces, has_cascades, intersection
from Dataset.geometry.camera import Camera, Projection
from Dataset.synthesis.scene import PosedScene, view_camera

log = logging.getLogger(__name__)
PREDICTED = "predicted"
_SAME = 0.45            # intersection over union from which a detection is this face
_JITTER = (0.02, 0.02, 0.04)        # standard deviations of a predicted box's x, y and side, as of the detector's
# Fitted to 152 frontal boxes on renders: side, and position relative to the middle of eyes and mouth, in face lengths.
_BOX_SIDE, _BOX_NOSE, _BOX_RISE = 1.37, np.array([-1.0, 0.47]), -0.18


class Framing(NamedTuple):
    """The crop of an image: box (x, y, w, h) in the detector's image, square; source: the detector's
    pass that found the face, or "predicted"; camera: of the crop."""
    box: tuple[int, int, int, int]
    source: str
    camera: Camera


def frame_face(posed: PosedScene, size: int) -> Framing:
    """The crop by the detector, in a small image, or by its predicted box if it misses the face."""
    camera = view_camera(posed.view)
    best = detected_face(posed)
    if best:
        box, source = best.box, best.pass_name
    else:
        x, y, side, _ = expected_box(camera.project(posed.landmarks()))
        jitter = np.random.default_rng([posed.view.seed, 2]).normal(0, _JITTER, 3)
        grown = side * (1 + jitter[2])
        box = (round(x + (side - grown) / 2 + side * jitter[0]), round(y + (side - grown) / 2 + side * jitter[1]),
               round(grown), round(grown))
        source = PREDICTED
    box = tuple(int(b) for b in (*box[:2], box[2], box[2]))
    return Framing(box, source, camera.crop(box, size))


def detected_face(posed: PosedScene) -> Detection | None:
    """The detection of the face in the small image; None if the detector misses it, or this OpenCV has no cascades."""
    if not has_cascades():
        _say_once()
        return None
    camera = view_camera(posed.view)
    expected = expected_box(camera.project(posed.landmarks()))
    found = [d for d in detect_faces(posed.render(camera, smooth=False)) if _overlap(d.box, expected) > _SAME]
    return max(found, key=lambda d: _overlap(d.box, expected), default=None)


@lru_cache(maxsize=1)
def _say_once() -> None:
    log.warning("OpenCV 5 has no cascades: images are framed by predicted boxes, and differ from those of OpenCV 4")


def predict_box(posed: PosedScene) -> tuple[float, float, float, float]:
    """A box (x, y, w, w), pixels of the detector's image, as the detector might give it, without running it: the
    expected box with bias and noise as measured on 454 detections in 600 renders.

    Both grow as the head turns: at 60 degrees and more (where one face in five is detected) a box lies 0.11
    sides behind the expected one, and is 17 % larger.
    """
    x, y, side, _ = expected_box(view_camera(posed.view).project(posed.landmarks()))
    yaw = float(posed.view.pose[0])
    turned = np.clip((abs(yaw) - 10) / 55, 0, 1)
    noise = np.clip(np.random.default_rng([posed.view.seed, 2]).normal(0, 1, 3), [-2, -2, -1.3], 2)
    right = -0.11 * np.sign(yaw) * np.clip((abs(yaw) - 15) / 35, 0, 1) + (0.02 + 0.14 * turned) * noise[0]
    down = 0.018 - 0.03 * turned + (0.02 + 0.07 * turned) * noise[1]
    grown = side * np.exp(0.17 * np.clip((abs(yaw) - 10) / 45, 0, 1) + (0.062 + 0.08 * turned) * noise[2])
    return (float(x + side * right + (side - grown) / 2), float(y + side * down + (side - grown) / 2), float(grown),
            float(grown))


def expected_box(landmarks: Projection) -> tuple[float, float, float, float]:
    """The box (x, y, w, w) that the frontal cascade gives on average for 68 landmarks in pixels (measured
    on renders)."""
    eyes, nose, mouth = (np.array([landmarks.x[part].mean(), landmarks.y[part].mean()])
                         for part in (slice(36, 48), slice(31, 36), slice(48, 60)))
    length = float(np.hypot(np.ptp(landmarks.x[17:]), np.linalg.norm(mouth - eyes)))
    middle = 0.5 * (eyes + mouth)
    x, y = middle + _BOX_NOSE * (nose - middle) + np.array([0, _BOX_RISE * length])
    side = _BOX_SIDE * length
    return float(x - side / 2), float(y - side / 2), side, side


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes (x, y, w, h)."""
    common = intersection(a, b)
    return common / (a[2] * a[3] + b[2] * b[3] - common)
