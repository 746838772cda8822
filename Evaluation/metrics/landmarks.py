"""The error of 68 landmarks in an image, normalised by the size of the face."""
from __future__ import annotations

import numpy as np


def box_size(landmarks: np.ndarray) -> float:
    """sqrt(width x height) of the bounding box of landmarks (N, 2 or 3), in the plane of the image, in their unit."""
    return float(np.sqrt(np.ptp(np.asarray(landmarks, np.float64)[:, :2], axis=0).prod()))


def landmark_nme(found: np.ndarray, truth: np.ndarray, counted: np.ndarray | None = None) -> float:
    """Mean distance in the image of landmarks (N, 2 or 3) from the true ones (N, 2 or 3), in % of `box_size` of the
    true ones (Zhu et al. 2016, section 5). NaN where a landmark that counts is not finite.

    counted  (N,) bool: the landmarks that count; None: all. The box is that of all landmarks.
    """
    apart = np.asarray(found, np.float64)[:, :2] - np.asarray(truth, np.float64)[:, :2]
    distances = np.linalg.norm(apart, axis=1)
    return 100 * float(distances[slice(None) if counted is None else counted].mean()) / box_size(truth)
