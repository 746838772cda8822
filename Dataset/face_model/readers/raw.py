"""A face model as read from its file, with its own vertices and triangles, in mm; checks that all formats share."""
from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

#: of a file, or of all files of a folder together; Basel 2009 has 240 MB, ICT-FaceKit 500 MB
MAX_BYTES = 1 << 30
MAX_UNPACKED = 1 << 30          # of one that is compressed; Basel's have 300 MB
MAX_VERTICES, MAX_TRIANGLES, MAX_BASIS = 200_000, 400_000, 500
_PARTS = 8


class RawModel(NamedTuple):
    """mean (V, 3) float64 mm; triangles (F, 3) int64; identity (K, V, 3) float32 mm per standard deviation; expression
    (M, V, 3) float32 mm, of a standard deviation where `signed`, else at weight 1; names of the M expressions;
    landmarks (68, 3) mm on the mean, Multi-PIE order, None if unknown. +y up, +z out of the face; arbitrary origin."""

    source: Path
    mean: np.ndarray
    triangles: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    expression_names: tuple[str, ...]
    signed: bool
    landmarks: np.ndarray | None = None

    def shape(self, identity: np.ndarray | None = None, expression: np.ndarray | None = None) -> np.ndarray:
        """Vertices (V, 3) float64 mm of a subject; shorter coefficient vectors leave the rest at 0."""
        result = self.mean
        for basis, weights in ((self.identity, identity), (self.expression, expression)):
            if weights is not None:
                result = result + np.einsum("k,kvc->vc", np.asarray(weights, np.float64), basis[:len(weights)])
        return result


def checked(raw: RawModel) -> RawModel:
    """Check a model and return it. ValueError, one line that begins with the file, for arrays that do not fit together,
    are too large, empty or not finite."""
    count = len(raw.mean)
    if raw.mean.shape != (count, 3) or not 100 <= count <= MAX_VERTICES:
        raise ValueError(f"{raw.source}: a face model's mean must be (V, 3) with 100 to {MAX_VERTICES} vertices, "
                         f"received {raw.mean.shape}")
    faces = raw.triangles
    if faces.ndim != 2 or faces.shape[1] != 3 or not 1 <= len(faces) <= MAX_TRIANGLES:
        raise ValueError(f"{raw.source}: triangles must be (F, 3) with 1 to {MAX_TRIANGLES} rows, "
                         f"received {faces.shape}")
    if faces.min() < 0 or faces.max() >= count:
        raise ValueError(f"{raw.source}: triangles must name vertices 0 to {count - 1}, "
                         f"received {faces.min()} to {faces.max()}")
    for name, basis in (("identity", raw.identity), ("expression", raw.expression)):
        if basis.shape[1:] != (count, 3) or len(basis) > MAX_BASIS:
            raise ValueError(f"{raw.source}: {name} must be (K, {count}, 3) with at most {MAX_BASIS} basis vectors, "
                             f"received {basis.shape}")
    if not len(raw.identity):
        raise ValueError(f"{raw.source}: a face model must have at least one identity basis vector, this has none")
    if not all(np.isfinite(x).all() for x in (raw.mean, raw.identity, raw.expression)):
        raise ValueError(f"{raw.source}: a face model's numbers must be finite, received NaN or infinity")
    return raw


def check_size(path: Path, count: int | None = None) -> None:
    """ValueError when the file is missing or larger than MAX_BYTES; count: its bytes, if known."""
    if count is None:
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        count = path.stat().st_size
    if count > MAX_BYTES:
        raise ValueError(f"{path}: a face model has at most {MAX_BYTES >> 20} MB, this has {count >> 20}")


def check_layout(path: Path, shapes: dict[str, tuple[int, ...]], needed: tuple[str, ...], kind: str) -> None:
    """ValueError, before an array is read, when a file lacks one of those of its kind, or they don't fit together, or
    one is too large to be a face model's.

    needed  names of a mean, its basis, the basis's deviations, the triangles, and then, if there are more, of another
            mean, basis, deviations
    """
    missing = [name for name in needed if name not in shapes]
    if missing:
        raise ValueError(f"{path}: a {kind} file must hold {', '.join(needed)}; found no {', '.join(missing)}")
    if sum(4 * math.prod(shapes[name]) for name in needed) > MAX_UNPACKED:       # float32 is what all of them become
        raise ValueError(f"{path}: its arrays are too large for a face model, which has at most "
                         f"{MAX_UNPACKED >> 20} MB")
    numbers = math.prod(shapes[needed[0]])
    for mean, basis, sigmas in (needed[:3], needed[4:]) if needed[4:] else (needed[:3],):
        for name, most in ((mean, 3 * MAX_VERTICES), (basis, 3 * MAX_VERTICES * MAX_BASIS), (sigmas, MAX_BASIS),
                           (needed[3], 3 * MAX_TRIANGLES)):
            if math.prod(shapes[name]) > most:
                raise ValueError(f"{path}: {name} of shape {shapes[name]} is too large for a face model")
        if math.prod(shapes[mean]) != numbers or numbers % 3 \
                or shapes[basis] != (numbers, math.prod(shapes[sigmas])):
            raise ValueError(f"{path}: {mean}, {basis} and {sigmas} must be (3V,), (3V, K) and (K,) of one V, received "
                             f"{shapes[mean]}, {shapes[basis]} and {shapes[sigmas]}")


def check_numbers(path: Path, name: str, kind: np.dtype) -> None:
    """ValueError for an array of anything but real numbers: complex ones would lose their imaginary part."""
    if kind.kind not in "fiu":
        raise ValueError(f"{path}: {name} must be an array of real numbers, received {kind}")


def basis_of(columns: np.ndarray | h5py.Dataset, sigmas: np.ndarray | float, unit: float) -> np.ndarray:
    """(3V, K) columns, x y z of each vertex in turn, times their standard deviations (K,) -> (K, V, 3) float32 mm;
    unit: mm. An array that still lies in its file is read in _PARTS parts, so that it is in memory once."""
    scaled = np.empty(columns.shape[::-1], np.float32)
    step = -(-columns.shape[0] // _PARTS)
    for start in range(0, columns.shape[0], step):
        scaled[:, start:start + step] = columns[start:start + step].T
    scaled *= np.broadcast_to(np.asarray(np.asarray(sigmas) * unit, np.float32), len(scaled))[:, None]
    return scaled.reshape(len(scaled), -1, 3)
