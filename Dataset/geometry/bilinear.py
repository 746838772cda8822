"""Bilinear interpolation on grids."""
from __future__ import annotations

import numpy as np
from scipy import sparse


def bilinear(grid: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Values (..., C) of a grid (H, W, C), H and W >= 2, at fractional rows and columns (...) within it."""
    top, left = (np.clip(np.floor(x).astype(int), 0, side - 2) for x, side in zip((rows, columns), grid.shape))
    down, across = (rows - top)[..., None], (columns - left)[..., None]
    upper = grid[top, left] * (1 - across) + grid[top, left + 1] * across
    lower = grid[top + 1, left] * (1 - across) + grid[top + 1, left + 1] * across
    return upper * (1 - down) + lower * down


def bilinear_matrix(positions: np.ndarray, side: int) -> sparse.csr_matrix:
    """The sampling matrix (K, side * side) float64: times the values of a square grid, row by row, it gives the values
    at positions (K, 2), row and column in [0, side - 1]."""
    low = np.clip(positions.astype(int), 0, side - 2)
    down, across = (positions - low).T
    columns = (low[:, :1] * side + low[:, 1:]) + np.array([0, 1, side, side + 1])
    values = np.stack([(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across], 1)
    return sparse.csr_matrix((values.ravel(), columns.ravel(), 4 * np.arange(len(positions) + 1)),
                             (len(positions), side * side))
