"""Edges of polygon meshes: each one once, and those at a border."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Edges(NamedTuple):
    """ends (E, 2) int64, the smaller vertex first, sorted, each edge once; uses (E,): polygons that have it, 1 at a
    border."""

    ends: np.ndarray
    uses: np.ndarray


def edges(polygons: np.ndarray) -> Edges:
    """The edges of polygons (F, K): triangles or quads. Without polygons both arrays are empty."""
    polygons = np.asarray(polygons, np.int64)
    sides = np.sort(np.stack([polygons, np.roll(polygons, -1, 1)], 2).reshape(-1, 2), 1)
    count = int(sides.max(initial=0)) + 1
    numbers, uses = np.unique(sides[:, 0] * count + sides[:, 1], return_counts=True)     # a tenth of the time of rows
    return Edges(np.stack(np.divmod(numbers, count), 1), uses)


def border_vertices(polygons: np.ndarray) -> np.ndarray:
    """Vertices (B,) int64, ascending, on edges of one polygon only; empty for a closed mesh."""
    found = edges(polygons)
    return np.unique(found.ends[found.uses == 1])


def border_mask(polygons: np.ndarray, count: int) -> np.ndarray:
    """(count,) bool: which of `count` vertices lie on the border."""
    mask = np.zeros(count, bool)
    mask[border_vertices(polygons)] = True
    return mask
