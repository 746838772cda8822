"""dlib's face detector, an alternative to the cascades (Dataset/detection/cascades.py), used by Endrawis 2018 (2.5).

Histograms of gradients and a linear classifier (King 2015, "Max-margin object detection"), for frontal faces
and faces rotated by up to about 30 degrees. It needs an optional package: pip install '.[dlib]'.
"""
from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from Dataset.detection.cascades import MAX_SIDE, Detection, shrunk_grey

#: its boxes relative to those of the cascades, on which the networks were trained: width, and downward offset of the
#: centre, in widths of the cascades' box (medians of 40 rendered faces, 0.88 and 0.074, and of 8 in photos, 0.90, 0.08)
NARROW, LOW = 0.88, 0.075
MIN_VALUE = 80              # px: smaller faces are found in an enlarged image only
MAX_ENLARGED = 2       # doublings


def dlib_faces(image: np.ndarray, max_side: int = MAX_SIDE, enlarge: int = 0) -> list[Detection]:
    """Faces in (H, W, 3) uint8 BGR or (H, W) grey, the largest first; an empty list if there is none.

    The image is shrunk to at most `max_side` pixels, then doubled `enlarge` times: faces of at least MIN_VALUE px are
    found in the result. Boxes are converted to those of the cascades, and may reach out of the image; the score is
    dlib's own, 0 at its threshold. ValueError for another shape or dtype, a number out of range, or without dlib.
    """
    grey, scale = shrunk_grey(image, max_side)
    if not 0 <= enlarge <= MAX_ENLARGED:
        raise ValueError(f"enlarge must be within 0 to {MAX_ENLARGED}, got {enlarge}")
    detector = load_dlib()
    positions, scores, _ = detector.run(np.ascontiguousarray(grey), enlarge, 0.0)
    found = []
    for position, score in zip(positions, scores):
        side = max(position.width(), position.height()) / NARROW
        x, y = (position.left() + position.right() + 1) / 2, (position.top() + position.bottom() + 1) / 2 - LOW * side
        box = (x - side / 2, y - side / 2, side, side)
        found.append(Detection(tuple(round(v / scale) for v in box), float(score), "dlib"))
    return sorted(found, key=lambda one: -one.box[2])


@lru_cache(maxsize=1)
def load_dlib() -> Any:
    """The detector, loaded once a process. ValueError, one line, where dlib is not installed."""
    try:
        import dlib
    except ImportError:
        raise ValueError("dlib is not installed: pip install '.[dlib]' (PyPI's dlib-bin, built for Linux, macOS and "
                         "Windows)") from None
    return dlib.get_frontal_face_detector()
