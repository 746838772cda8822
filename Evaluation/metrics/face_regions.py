"""Regions of the ordered grid, for errors by region: forehead, eyes, nose, mouth, cheeks, chin."""
from __future__ import annotations

from functools import lru_cache

import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.representations.points import encode

REGIONS = ("forehead", "eyes", "nose", "mouth", "cheeks", "chin")
#: mm of the mean face, beyond the landmarks that bound a region
MARGIN, LIP_MARGIN, NOSE_MARGIN = 6.0, 7.0, 4.0


@lru_cache(maxsize=1)
def grid_regions() -> np.ndarray:
    """(16384,) int64: of each point of the 128x128 grid its index in REGIONS; every point has one.

    Bounded by the 68 landmarks of the mean face, as the front view shows it: above the brows the forehead; about the
    lids the eyes; from the nose bridge to below the nostrils the nose, as wide as the nostrils there and a third of it
    between the eyes; about the lips the mouth; below them, as wide as the mouth, the chin; the rest are cheeks.
    """
    model = load_face_model()
    mean = np.asarray(model.mean, np.float64)
    x, y, _ = encode(mean, model=model).reshape(-1, 3).T
    marks = model.landmarks(mean)
    brows, lids, lips = marks[17:27, 1].mean(), marks[36:48], marks[48:60]
    low, high = marks[31:36, 1].min() - NOSE_MARGIN, marks[27, 1]
    wings = np.abs(marks[[31, 35], 0]).mean() + 2 * NOSE_MARGIN
    width = wings * (1 - 2 / 3 * np.clip((y - low) / (high - low), 0, 1))
    regions = np.full(len(x), REGIONS.index("cheeks"))
    inside = np.abs(x) < np.abs(lips[:, 0]).max() + LIP_MARGIN
    regions[inside & (y < lips[:, 1].min() - LIP_MARGIN)] = REGIONS.index("chin")
    regions[inside & (y >= lips[:, 1].min() - LIP_MARGIN) & (y < lips[:, 1].max() + LIP_MARGIN)] = \
        REGIONS.index("mouth")
    regions[(np.abs(x) < np.abs(lids[:, 0]).max() + MARGIN) & (y > lids[:, 1].min() - MARGIN)] = REGIONS.index("eyes")
    regions[(np.abs(x) < width) & (y >= low) & (y <= high)] = REGIONS.index("nose")
    regions[y > brows] = REGIONS.index("forehead")
    regions.flags.writeable = False
    return regions
