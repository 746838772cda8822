"""Representation `points`: the face as an ordered grid of 128x128 points (target of `convlstm`).

Grid point (row, column) corresponds across all faces: row 0 is the forehead's boundary, the last row the jaw's;
column 0 is the subject's right (image left). Flattened row by row it is the ordered cloud (16384, 3). Eyes
and mouth are closed by strips between the lids and between the lips, so that every point is valid for every
identity and expression.
"""
from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import sparse

from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.geometry.bilinear import bilinear, bilinear_matrix
from Dataset.geometry.transforms import to_unit_sphere

SIZE = 128
GRID = 16               # of `coarse_grid`: the ordered grid sampled 16x16, the 256 keypoints


def encode(vertices: np.ndarray, size: int = SIZE, model: FaceModel | None = None) -> np.ndarray:
    """The grid (size, size, 3) float64 of a face's vertices (V, 3), in their unit.

    One product with a constant sparse matrix (`FaceModel.grid_matrix`): subdivision and gather in one.
    Coarser grids are the 128x128 one sampled bilinearly at `grid_steps(size)`: the boundary is kept. `model`
    defaults to the built-in face. ValueError for a wrong vertex count or size.
    """
    model = load_face_model() if model is None else model
    grid_steps(size)        # refuses other sizes first
    vertices = np.asarray(vertices)
    if vertices.shape != model.mean.shape:
        raise ValueError(f"vertices must be {model.mean.shape}, received shape {vertices.shape}")
    grid = (model.grid_matrix @ vertices.astype(np.float32)).astype(float).reshape(SIZE, SIZE, 3)
    return coarser(grid, size)


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
    positions = np.stack(np.meshgrid(step, step, indexing="ij"), -1).reshape(-1, 2)
    return (bilinear_matrix(positions, SIZE) @ model.grid_matrix.astype(np.float64)).tocsr()


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
    """The 68 landmarks (68, 3) of a grid (n, n, 3) or flattened (n * n, 3), by bilinear interpolation.

    Their grid positions are the nearest ones to each landmark on the mean face: landmarks outside the grid (the upper
    ends of the jaw line, 0 and 16) are replaced by the nearest point of the boundary.
    """
    model = load_face_model() if model is None else model
    points = decode(grid)
    size = round(len(points) ** 0.5)
    if size * size != len(points) or size < 2:
        raise ValueError(f"a grid must be square, received {len(points)} points")
    return bilinear(points.reshape(size, size, 3), *(model.grid_landmarks * (size - 1) / (SIZE - 1)).T)


def coarser(grid: np.ndarray, size: int) -> np.ndarray:
    """The grid (128, 128, 3) resampled to (size, size, 3): bilinear, keeping the boundary. ValueError as
    `grid_steps`."""
    steps = grid_steps(size)
    return grid if size == SIZE else bilinear(grid, *np.meshgrid(steps, steps, indexing="ij"))


class SizedGrid(NamedTuple):
    """points (N, 3) float32, an ordered grid in the unit sphere; radius: of this sphere, mm."""

    points: np.ndarray
    radius: float


def sized_grid(vertices: np.ndarray, model: FaceModel, points: int = SIZE ** 2) -> SizedGrid:
    """The ordered grid of vertices (V, 3) mm, with its size."""
    grid, used = to_unit_sphere(decode(encode(vertices, round(points ** 0.5), model)))
    return SizedGrid(grid.astype(np.float32), 1 / used.scale)


def grid_of(vertices: np.ndarray, model: FaceModel, points: int = SIZE ** 2) -> np.ndarray:
    """The ordered grid (points, 3) float32 of vertices (V, 3) mm, in the unit sphere."""
    return sized_grid(vertices, model, points).points


def mean_face(points: int = SIZE ** 2) -> np.ndarray:
    """The model's mean face as the grid (points, 3) float32; as the whole grid where there is none of so many."""
    model, side = load_face_model(), round(points ** 0.5)
    known = side * side == points and side in (8, 16, 32, 64, 128)
    return grid_of(np.asarray(model.mean, float), model, points if known else SIZE ** 2)
