"""MATLAB's .mat files: of versions up to 7 by scipy, of 7.3, which are HDF5 files, by h5py. Both look alike here."""
from __future__ import annotations

from pathlib import Path
from typing import Iterable

import h5py
import numpy as np
import scipy.io

from Dataset.io.archives.hdf5 import check_hdf5
from Dataset.io.archives.mat import check_mat

#: classes of MATLAB variables that are read, as `scipy.io.whosmat` names them
NUMERIC = ("double", "single", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64",
           "uint64")
Shape = tuple[int, ...]


def mat_shapes(path: Path, max_bytes: int) -> dict[str, Shape]:
    """Name -> shape of every array in the file, as MATLAB sees it; nothing else is read. ValueError and the errors of
    the two libraries for a file that is none; ValueError when its arrays unpack to more than `max_bytes`."""
    if not h5py.is_hdf5(path):
        check_mat(path, max_bytes)
        with _ScipyErrors():
            return {name: tuple(shape) for name, shape, _ in scipy.io.whosmat(path)}
    check_hdf5(path, max_bytes, links=True)     # `_array` follows none
    with h5py.File(path, "r") as file:
        arrays = {name: _array(file, name) for name in file}
        return {name: array.shape[::-1] for name, array in arrays.items() if array is not None}


def read_mat(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Those of the named arrays that the file holds, of which `mat_shapes` was asked first. Errors as there."""
    if not h5py.is_hdf5(path):
        names = list(names)
        with _ScipyErrors():
            for name, _, kind in scipy.io.whosmat(path):    # by the headers: cells nest, and SciPy's reader recurses
                if name in names and kind not in NUMERIC:
                    raise ValueError(f"{name} must be an array of numbers, is a {kind}")
            found = scipy.io.loadmat(path, variable_names=names, mat_dtype=False)
        return {name: found[name] for name in names if name in found}
    with h5py.File(path, "r") as file:
        arrays = {name: _array(file, name) for name in names}
        return {name: array[()].T for name, array in arrays.items() if array is not None}


def _array(file: h5py.File, name: str) -> h5py.Dataset | None:
    """An array that lies in the file itself; None for what is no array of numbers, or a link elsewhere."""
    link = file.get(name, getlink=True)
    node = file[name] if isinstance(link, h5py.HardLink) else None
    plain = isinstance(node, h5py.Dataset) and not node.is_virtual and not node.external and node.dtype.kind in "fiu"
    return node if plain else None


class _ScipyErrors:
    """scipy's reader has an error class of its own, which moved between versions: as ValueError."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is not None and type(error).__module__.split(".")[0] == "scipy":
            raise ValueError(str(error)) from None
