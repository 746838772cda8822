"""The Basel face models of 2009 (`01_MorphableModel.mat`) and of 2017 and 2019 (`.h5`).

Paysan et al. 2009, "A 3D Face Model for Pose and Illumination Invariant Face Recognition"; Gerig et al. 2018,
"Morphable Face Models: An Open Framework". Left out: colours, segments, the noise's variance.
"""
from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np

from Dataset.face_model.readers.raw import (MAX_UNPACKED, RawModel, basis_of, check_layout, check_numbers, check_size,
                                            checked)
from Dataset.io.archives.hdf5 import check_hdf5
from Dataset.io.mat_files import mat_shapes, read_mat

MICROMETRE = 1e-3       # mm: unit of 2009
_2009 = ("shapeMU", "shapePC", "shapeEV", "tl")
_SHAPE = ("shape/model/mean", "shape/model/pcaBasis", "shape/model/pcaVariance", "shape/representer/cells")
_EXPRESSION = ("expression/model/mean", "expression/model/pcaBasis", "expression/model/pcaVariance")


def read_basel_2009(path: str | Path) -> RawModel:
    """53,490 vertices, 199 identity basis vectors, no expressions. shapeMU (3V, 1) and shapePC (3V, K) micrometres,
    shapeEV (K, 1) standard deviations (they are not variances), tl (F, 3) triangles, the first vertex 1. ValueError,
    naming the file, for anything else."""
    path = Path(path)
    check_size(path)
    try:
        check_layout(path, mat_shapes(path, MAX_UNPACKED), _2009, "Basel 2009")
        found = read_mat(path, _2009)
        for name in _2009:
            check_numbers(path, name, found[name].dtype)
        mean, basis, sigma, faces = (found[name] for name in _2009)
        raw = RawModel(path, mean.astype(np.float64).reshape(-1, 3) * MICROMETRE, faces.astype(np.int64) - 1,
                       basis_of(basis, sigma.ravel(), MICROMETRE), np.zeros((0, mean.size // 3, 3), np.float32), (),
                       False)
    except ValueError as error:
        raise error if str(error).startswith(f"{path}:") else _broken(path, error) from None
    except (OSError, NotImplementedError, AttributeError, TypeError, KeyError, IndexError, EOFError, MemoryError,
            RuntimeError, zlib.error) as error:
        raise _broken(path, error) from None
    return checked(raw)


def read_basel_2017(path: str | Path) -> RawModel:
    """shape/ and expression/model/{mean (3V,), pcaBasis (3V, K) orthonormal, pcaVariance (K,)} mm,
    shape/representer/cells (3, F). The mean is shape's plus expression's; a file without expressions has none.
    ValueError, naming the file, for anything else, and for parts that lie in other files."""
    path = Path(path)
    check_size(path)
    try:
        check_hdf5(path, MAX_UNPACKED, links=True)      # those on the way to an array are refused below
    except ValueError as error:
        raise _broken(path, error) from None
    try:
        with h5py.File(path, "r") as file:
            there = [name for name in (*_SHAPE, *_EXPRESSION) if isinstance(_node(file, path, name), h5py.Dataset)]
            shapes = {name: file[name].shape for name in there}
            names = (*_SHAPE, *_EXPRESSION) if _EXPRESSION[1] in there else _SHAPE
            check_layout(path, shapes, names, "Basel 2017")
            for name in names:
                check_numbers(path, name, file[name].dtype)
            mean, identity = _part(file, _SHAPE)
            cells = file[_SHAPE[3]][()]
            expression = np.zeros((0, len(mean) // 3, 3), np.float32)
            if _EXPRESSION[1] in there:
                more, expression = _part(file, _EXPRESSION)
                mean = mean + more
        faces = cells.T if cells.shape[0] == 3 and cells.shape[1] != 3 else cells
        raw = RawModel(path, mean.reshape(-1, 3), faces.astype(np.int64), identity, expression,
                       tuple(f"expression{k:03d}" for k in range(len(expression))), True)
    except ValueError as error:
        raise error if str(error).startswith(f"{path}:") else _broken(path, error) from None
    except (OSError, AttributeError, KeyError, TypeError, IndexError, RuntimeError, MemoryError) as error:
        raise _broken(path, error) from None
    return checked(raw)


def _part(file: h5py.File, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mean (3V,) float64 and basis (K, V, 3) float32 of the shape or the expressions, whose arrays are `names`."""
    mean, basis, variance = (file[name] for name in names[:3])
    return mean[()].astype(np.float64).ravel(), basis_of(basis, np.sqrt(variance[()].ravel()), 1.0)


def _node(file: h5py.File, path: Path, name: str) -> object:
    """What `name` leads to, None where there is nothing; nothing outside this file is opened."""
    node: object = file
    for part in name.split("/"):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{path}: {name} must lie in the file itself, received a link")
        node = node[part]
    if isinstance(node, h5py.Dataset) and (node.is_virtual or node.external):
        raise ValueError(f"{path}: {name} must lie in the file itself, received a link")
    return node


def _broken(path: Path, error: Exception) -> ValueError:
    text = " ".join(str(error).split()).removeprefix(f"{path}: ")[:120]
    return ValueError(f"{path}: no face model that can be read ({type(error).__name__}: {text})")
