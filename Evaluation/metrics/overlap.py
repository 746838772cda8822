"""Overlap of masks and volumes."""
from __future__ import annotations

import numpy as np


def iou(first: np.ndarray, second: np.ndarray, empty: float = 1.0) -> float:
    """Intersection over union of two bool arrays of one shape; `empty` where neither has an element."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else empty
