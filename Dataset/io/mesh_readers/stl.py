"""Reads .stl files, binary and ASCII (3D Systems 1989): triangles without shared vertices, colours or units.

Equal corners become one vertex, so that neighbouring triangles are connected. Facet normals are left out: the order of
the corners says the same.
"""
from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from Dataset.geometry.mesh import Mesh
from Dataset.io.mesh_readers.polygons import MAX_BYTES, numbers

_HEADER, _COUNT = 80, 4
_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def read_stl(path: str | os.PathLike[str]) -> Mesh:
    """An .stl file -> its mesh: vertices (V, 3) float64 in the order of their first use, triangles (F, 3).

    A file whose size fits its count of facets is binary, whatever its header says. ValueError, naming file and rule:
    too large, cut off, neither binary nor "solid ... endsolid", a facet without three vertices, words for numbers.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path}: an .stl file may have at most {MAX_BYTES >> 20} MB")
    data = path.read_bytes()
    try:
        corners = _text_corners(data) if _is_text(data) else _binary_corners(data)
    except ValueError as error:
        raise ValueError(f"{path}: must be an .stl file: {error}") from None
    return _welded(corners)


def _count(data: bytes) -> int:
    """The number of facets that a binary file announces; -1 where it is too short to."""
    return int.from_bytes(data[_HEADER:_HEADER + _COUNT], "little") if len(data) >= _HEADER + _COUNT else -1


def _is_text(data: bytes) -> bool:
    """Many binary files begin with "solid", too: the size decides."""
    return data[:5].lower() == b"solid" and len(data) != _HEADER + _COUNT + _count(data) * _FACET.itemsize


def _binary_corners(data: bytes) -> np.ndarray:
    """(F, 3, 3) float32."""
    count, there = _count(data), len(data) - _HEADER - _COUNT
    if count < 0 or there < count * _FACET.itemsize:
        raise ValueError(f"it announces {max(count, 0)} facets of {_FACET.itemsize} bytes, "
                         f"{max(there, 0)} bytes follow (cut off?)")
    return np.frombuffer(data, _FACET, count, _HEADER + _COUNT)["corners"]


def _text_corners(data: bytes) -> np.ndarray:
    """(F, 3, 3) float64."""
    if b"endsolid" not in data[-1024:].lower():
        raise ValueError("its text has no 'endsolid' (cut off?)")
    words, loops = [], 0
    for line in data.decode("latin-1").splitlines():
        match line.split():
            case [first, *rest] if first.lower() == "vertex":
                if len(rest) != 3:
                    raise ValueError(f"a vertex must have 3 numbers, received {len(rest)}")
                words += rest
            case [first, *_] if first.lower() == "endloop":
                loops += 1
                if len(words) != 9 * loops:
                    raise ValueError(f"facet {loops - 1} must have 3 vertices")
    if len(words) != 9 * loops:
        raise ValueError("its last facet is not closed (cut off?)")
    return numbers(words, float, "vertex").reshape(-1, 3, 3)


def _welded(corners: np.ndarray) -> Mesh:
    """Facets (F, 3, 3) -> the mesh in which equal corners are one vertex."""
    flat = np.asarray(corners, np.float64).reshape(-1, 3)
    _, first, number = np.unique(flat, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return Mesh(flat[first[order]], rank[number.reshape(-1)].reshape(-1, 3))
