"""FLAME (Li et al. 2017, "Learning a model of facial shape and expression from 4D scans"): a pickle of Python 2's days.

The pickle is read as plain data (plain_pickle.py): nothing that it names is imported or run. Only the names that such a
file needs may occur: numpy's arrays, chumpy's objects, the sets that these keep, scipy's sparse matrices. Left out:
joints (the jaw opens by one, not by an expression), pose correctives, skinning weights.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from Dataset.face_model.readers.plain_pickle import Call, Name, array_of, read_plain
from Dataset.face_model.readers.raw import RawModel, check_size, checked

METRE = 1e3             # mm
IDENTITIES = 300        # of `shapedirs`; what comes after are expressions
_NEEDED = ("v_template", "shapedirs", "f")
_NAMES = {Name(module, name) for module in ("numpy.core.multiarray", "numpy._core.multiarray")
          for name in ("_reconstruct", "scalar")}
_NAMES |= {Name(module, "_frombuffer") for module in ("numpy.core.numeric", "numpy._core.numeric")}
_NAMES |= {Name("numpy", name) for name in ("ndarray", "dtype")} | {Name("_codecs", "encode")}
_NAMES |= {Name(module, name) for module in ("__builtin__", "builtins")         # Python 2's name, Python 3's
           for name in ("set", "object", "bytes", "bytearray")}
_NAMES |= {Name(module, "_reconstructor") for module in ("copy_reg", "copyreg")}
_NAMES |= {Name(f"scipy.sparse.{module}", f"{kind}_matrix") for kind in ("csc", "csr", "coo")
           for module in (kind, f"_{kind}")}


def read_flame(path: str | Path, identities: int = IDENTITIES) -> RawModel:
    """`v_template` (V, 3) metres, `shapedirs` (V, 3, N) metres per standard deviation, `f` (F, 3). Of the N basis
    vectors the first `identities` are identity, the others expression. ValueError, naming the file, for anything else,
    and for a pickle that names anything beyond numbers."""
    path = Path(path)
    check_size(path)
    try:
        data = read_plain(path.read_bytes(), _is_needed)
        if not isinstance(data, dict):
            raise ValueError(f"holds a {type(data).__name__}, no dictionary")
        missing = [name for name in _NEEDED if name not in data]
        if missing:
            raise ValueError(f"must hold {', '.join(_NEEDED)}; found no {', '.join(missing)}")
        mean, shapes, faces = (_numbers(data[name], name) for name in _NEEDED)
        if mean.ndim != 2 or mean.shape[1] != 3 or shapes.ndim != 3 or shapes.shape[:2] != mean.shape:
            raise ValueError(f"v_template must be (V, 3) and shapedirs (V, 3, N), received {mean.shape} and "
                             f"{shapes.shape}")
    except (ValueError, OSError) as error:
        text = " ".join(str(error).split())[:160]
        raise ValueError(f"{path}: no FLAME model that can be read ({text})") from None
    basis = np.ascontiguousarray((shapes * METRE).transpose(2, 0, 1), np.float32)
    expression = basis[identities:]
    return checked(RawModel(path, mean.astype(np.float64) * METRE, faces.astype(np.int64), basis[:identities],
                            expression, tuple(f"expression{k:03d}" for k in range(len(expression))), True))


def _is_needed(name: Name) -> bool:
    """Whether a FLAME file may name it. chumpy's members are classes without dots in their names."""
    return name in _NAMES or (name.module.split(".")[0] == "chumpy" and name.name.isidentifier()
                              and not name.name.startswith("_"))


def _numbers(value: Any, name: str) -> np.ndarray:
    """An array, or the one that a chumpy object keeps as `x`."""
    if isinstance(value, Call) and value.function.module.split(".")[0] == "chumpy":
        value = value.state.get("x") if isinstance(value.state, dict) else None
    try:
        found = array_of(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if found.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be an array of numbers, received {found.dtype}")
    return found
