"""Triangle meshes and point clouds: read, write, clean, sample."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Mesh(NamedTuple):
    """A triangle mesh, or a point cloud when `triangles` is empty.

    vertices   (V, 3) float64, millimetres unless said otherwise
    triangles  (F, 3) int64, counter-clockwise from outside; (0, 3) for a cloud
    uv         (V, 2) float64 in [0, 1], v up; None if there is none
    colours    (V, 3) uint8, **RGB** (as in .ply files); None if there are none
    """

    vertices: np.ndarray
    triangles: np.ndarray = np.zeros((0, 3), np.int64)
    uv: np.ndarray | None = None
    colours: np.ndarray | None = None
