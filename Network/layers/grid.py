"""Ordered grids as arrays: finer, coarser, their normals. numpy only."""
from __future__ import annotations

import numpy as np


def interpolation(coarse: int, fine: int) -> np.ndarray:
    """(fine, coarse) float64: linear weights of `fine` even steps along `coarse` values, ends on ends."""
    position = np.linspace(0, coarse - 1, fine)
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(coarse)))


def texels(values: np.ndarray, side: int) -> np.ndarray:
    """Values of n x n cells (n * n, C) at the centres of side x side cells of the same square (side * side, C).

    Bilinear between cell centres, constant beyond the outermost: how a texture is read where `grid_uv` puts points.
    """
    count = round(len(values) ** 0.5)
    position = np.clip((np.arange(side) + 0.5) * count / side - 0.5, 0, count - 1)
    matrix = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(count)))
    rows = np.tensordot(matrix, np.reshape(values, (count, count, -1)), 1)
    return np.ascontiguousarray(np.matmul(matrix, rows)).reshape(side * side, -1)


def resample(values: np.ndarray, side: int) -> np.ndarray:
    """Values of an ordered grid (n * n, C) on another grid (side * side, C) over the same boundary, bilinear."""
    count = round(len(values) ** 0.5)
    if count * count != len(values) or count < 2 or side < 2:
        raise ValueError(f"a grid must be square and have two points a side, got {len(values)} points for side {side}")
    matrix = interpolation(count, side)
    rows = np.tensordot(matrix, np.reshape(values, (count, count, -1)), 1)              # (side, count, C)
    return np.ascontiguousarray(np.matmul(matrix, rows)).reshape(side * side, -1)


def grid_normals(points: np.ndarray) -> np.ndarray:
    """Outward unit normals (N, 3) of an ordered grid (N, 3): row 0 at the forehead, column 0 at image left."""
    side = round(len(points) ** 0.5)
    grid = np.reshape(points, (side, side, 3))
    normal = np.cross(np.gradient(grid, axis=1), np.gradient(grid, axis=0)).reshape(-1, 3)
    normal = -normal
    return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
