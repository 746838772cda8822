"""Representation `points`: the face as a 128x128 grid of places, in a fixed order (the `convlstm` system's target).

Grid point (row, column) is the same place on every face: row 0 is the forehead's rim, the last row the jaw's;
column 0 is the subject's right (image left). Flattened row by row it is the ordered cloud (16384, 3). Eyes
and mouth are closed by strips between the lids and between the lips, so that every point is valid for every
identity and expression.
"""
from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import sparse

from Dataset.face_model import FaceModel, load_face_model

SIZE = 128
GRID = 16               # of `coarse_grid`: the ordered grid sampled 16x16, the 256 keypoints


def encode(vertices: np.ndarray, size: int = SIZE, model: FaceModel | None = None) -> np.ndarray:
    """The grid (size, size, 3) float64 of a face's vertices (V, 3), in their unit.

    One product with a constant sparse matrix (`FaceModel.grid_matrix`): subdivision and gather in one.
    Coarser grids are the 128x128 one sampled bilinearly at `grid_steps(size)`: the rim stays the rim. `model`
    defaults to the built-in face. ValueError for a wrong vertex count or size.
    """
    model = load_face_model() if model is None else model
    steps = grid_steps(size)
    vertices = np.asarray(vertices)
    if vertices.shape != model.mean.shape:
        raise ValueError(f"vertices must be {model.mean.shape}, received shape {vertices.shape}")
    grid = (model.grid_matrix @ vertices.astype(np.float32)).astype(float).reshape(SIZE, SIZE, 3)
    return grid if size == SIZE else _resample(grid, steps)


def decode(array: np.ndarray) -> np.ndarray:
    """An encoded face (n, n, 3) or (n * n, 3) as its points (n * n, 3), row by row. ValueError for another shape."""
    array = np.asarray(array)
    if array.ndim not in (2, 3) or array.shape[-1] != 3 or (array.ndim == 3 and array.shape[0] != array.shape[1]):
        raise ValueError(f"an encoded face must be (n, n, 3) or (n * n, 3), received shape {array.shape}")
    return array.reshape(-1, 3)


def grid_steps(size: int) -> np.ndarray:
    """Rows (and columns) of the 128x128 grid that a grid of `size` samples: (size,) float64, from 0 to 127 evenly.

    Sizes are powers of two from 8 to 128, anything else is a ValueError.
    """
    if size not in (8, 16, 32, 64, 128):
        raise ValueError(f"the grid's size must be 8, 16, 32, 64 or 128, received {size!r}")
    return np.linspace(0, SIZE - 1, size)


@lru_cache(maxsize=2)
def coarse_grid(model: FaceModel) -> sparse.csr_matrix:
    """(256, V) float64: vertices -> the ordered grid sampled 16x16, `encode(vertices, 16)` in one product."""
    step = (SIZE - 1) * np.arange(GRID) / (GRID - 1)
    low = np.minimum(step.astype(int), SIZE - 2)
    one = sparse.csr_matrix((np.concatenate([1 - (step - low), step - low]),
                             (np.tile(np.arange(GRID), 2), np.concatenate([low, low + 1]))), (GRID, SIZE))
    return (sparse.kron(one, one) @ model.grid_matrix.astype(np.float64)).tocsr()


@lru_cache(maxsize=8)
def grid_triangles(size: int = SIZE) -> np.ndarray:
    """The grid's faces (2 * (size - 1)**2, 3) int64 over its flattened points, counter-clockwise from outside."""
    if size < 2:
        raise ValueError(f"a grid needs at least 2 points a side, received {size}")
    rows, columns = np.divmod(np.arange((size - 1) ** 2), size - 1)
    corner = rows * size + columns
    below, right = corner + size, corner + 1
    triangles = np.stack([corner, below, below + 1, corner, below + 1, right], 1).reshape(-1, 3)
    triangles.flags.writeable = False
    return triangles


def grid_landmarks(grid: np.ndarray, model: FaceModel | None = None) -> np.ndarray:
    """The 68 landmarks (68, 3) of a grid (n, n, 3) or flattened (n * n, 3), by bilinear weights at stored places.

    The places are those of the 128x128 grid nearest to each landmark on the mean face: landmarks outside the
    grid (the upper ends of the jaw line, 0 and 16) are given as the rim's nearest place.
    """
    model = load_face_model() if model is None else model
    points = decode(grid)
    size = round(len(points) ** 0.5)
    if size * size != len(points) or size < 2:
        raise ValueError(f"a grid must be square, received {len(points)} points")
    return _bilinear(points.reshape(size, size, 3), *(model.grid_landmarks * (size - 1) / (SIZE - 1)).T)


def _resample(grid: np.ndarray, steps: np.ndarray) -> np.ndarray:
    rows, columns = np.meshgrid(steps, steps, indexing="ij")
    return _bilinear(grid, rows, columns)


def _bilinear(grid: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Values (..., C) of grid (n, n, C) at fractional rows and columns (...)."""
    top, left = (np.clip(np.floor(x).astype(int), 0, len(grid) - 2) for x in (rows, columns))
    down, across = (rows - top)[..., None], (columns - left)[..., None]
    upper = grid[top, left] * (1 - across) + grid[top, left + 1] * across
    lower = grid[top + 1, left] * (1 - across) + grid[top + 1, left + 1] * across
    return upper * (1 - down) + lower * down
