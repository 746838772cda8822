"""The thesis's name for face detection (listing B-1.1); the work is done in `Dataset.detection.cascades`."""
from __future__ import annotations

import os

import numpy as np

from Dataset.detection.cascades import FRONTAL, Detection, detect_as_published, detect_faces
from Dataset.io.images import crop

__all__ = ["Detection", "detect_faces", "find_faces"]


def find_faces(img: np.ndarray, feature_file: str | os.PathLike[str] = FRONTAL) -> list[np.ndarray]:
    """Crops of the faces that one cascade finds in (H, W, 3) uint8, each (h, w, 3), the largest first.

    `feature_file` is a cascade of OpenCV's package by name, or the path of another. Where the thesis returns
    None, which its callers then index, this returns an empty list.
    """
    return [crop(img, d.box) for d in detect_as_published(img, str(feature_file))]
