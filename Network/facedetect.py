"""The thesis's name for face detection (listing B-1.1); the work is done in `Dataset.detection.cascades`."""
from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from Dataset.detection.cascades import FRONTAL, Detection, cascade_names, detect_as_published, detect_faces
from Dataset.io.images import crop

__all__ = ["Detection", "detect_faces", "find_faces"]


def find_faces(img: np.ndarray, feature_file: str | os.PathLike[str] = FRONTAL) -> list[np.ndarray]:
    """Crops of the faces that one cascade finds in (H, W, 3) uint8, each (h, w, 3), the largest first.

    `feature_file` is a cascade of OpenCV's package by name, or the path of a file; a path where there is none, as the
    listing's Network/res/haarcascade_frontalface_default.xml, stands for OpenCV's cascade of that name. Where the
    thesis returns None, which its callers then index, this returns an empty list.
    """
    path = Path(feature_file)
    name = str(path) if path.is_file() or path.name not in cascade_names() else path.name
    return [crop(img, d.box) for d in detect_as_published(img, name)]
