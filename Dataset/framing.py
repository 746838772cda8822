"""How a rendered picture is cut: by the detector, as a photo is; where it misses the face, by the box it would give."""
from typing import NamedTuple

import numpy as np

from Dataset.camera import Camera, Projection
from Dataset.detect import detect_faces
from Dataset.scene import Shot, view_camera

PREDICTED = "predicted"
_SAME = 0.45            # intersection over union from which a detection is this face
_JITTER = (0.02, 0.02, 0.04)        # of a predicted box's place and side, as the detector's own boxes scatter
# Fitted to 152 frontal boxes on renders: side, and place against the middle of eyes and mouth, in lengths
# of the face.
_BOX_SIDE, _BOX_NOSE, _BOX_RISE = 1.37, np.array([-1.0, 0.47]), -0.18


class Framing(NamedTuple):
    """How a picture is cut: box (x, y, w, h) in the detector's picture, square; source: the detector's
    pass that found the face, or "predicted"; camera: of the crop."""
    box: tuple[int, int, int, int]
    source: str
    camera: Camera


def frame_face(shot: Shot, size: int) -> Framing:
    """Cut as for a photo: by the detector, in a small picture; where it misses the face, by the box it
    would give."""
    camera = view_camera(shot.view)
    expected = expected_box(camera.project(shot.landmarks()))
    found = [d for d in detect_faces(shot.render(camera, smooth=False)) if _overlap(d.box, expected) > _SAME]
    if found:
        best = max(found, key=lambda d: _overlap(d.box, expected))
        box, source = best.box, best.pass_name
    else:
        jitter = np.random.default_rng([shot.view.seed, 2]).normal(0, _JITTER, 3)
        x, y, side = expected[0], expected[1], expected[2]
        grown = side * (1 + jitter[2])
        box = (round(x + (side - grown) / 2 + side * jitter[0]), round(y + (side - grown) / 2 + side * jitter[1]),
               round(grown), round(grown))
        source = PREDICTED
    box = tuple(int(b) for b in (*box[:2], box[2], box[2]))
    return Framing(box, source, camera.crop(box, size))


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
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / (a[2] * a[3] + b[2] * b[3] - common)
