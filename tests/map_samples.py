"""UV maps sampled at points, for tests and benchmarks that know where the points are."""
from __future__ import annotations

import numpy as np

from Dataset.representations.points import SIZE
from Dataset.representations.uvmap import grid_uv


def sample_map(uv: np.ndarray, box: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A UV map (S, S, 2), NaN off the face, sampled at points (K, 2) px of the frame: (K, 2) float64, bilinear; NaN
    where one of the four neighbouring pixels is off the face or the map.

    box  (x, y, side) px: the square of the frame that the map covers
    """
    size = len(uv)
    positions = (np.asarray(points, np.float64) - np.asarray(box)[:2]) / box[2] * size - 0.5
    low = np.floor(positions).astype(int)
    inside = ((low >= 0) & (low < size - 1)).all(-1)
    low = np.where(inside[:, None], low, 0)
    x, y = (positions - low).T[..., None]
    (left, top), values = low.T, np.asarray(uv, np.float64)
    found = ((1 - x) * (1 - y) * values[top, left] + x * (1 - y) * values[top, left + 1]
             + (1 - x) * y * values[top + 1, left] + x * y * values[top + 1, left + 1])
    return np.where(inside[:, None], found, np.nan)


def grid_atlas(side: int = 16) -> np.ndarray:
    """u, v (side * side, 2) of an ordered grid's points."""
    steps = np.arange(side) * (SIZE - 1) / (side - 1)
    return grid_uv(np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2))
