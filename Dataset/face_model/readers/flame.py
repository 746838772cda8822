"""FLAME (Li et al. 2017, "Learning a model of facial shape and expression from 4D scans"): a pickle of Python 2.

A pickle can call any function, so the file is read by an unpickler that accepts only the names which such a file needs:
NumPy arrays, and inert stand-ins for chumpy's objects, for sets, and for SciPy's sparse matrices. Any other name is an
error. Left out: joints (the jaw opens by one, not
by an expression), pose correctives, skinning weights.
"""
from __future__ import annotations

import pickle
import re
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from Dataset.face_model.readers.raw import RawModel, check_size, checked

METRE = 1e3             # mm
IDENTITIES = 300        # of `shapedirs`; the others are expressions
_PLAIN = re.compile(r"[<>|=]?[biufcSUO]\d{0,6}")
_NEEDED = ("v_template", "shapedirs", "f")


class _Inert:
    """Stands for an object of chumpy or SciPy, or a set: it stores its state and has no behaviour."""

    def __init__(self, *_: object) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Plain:
    """Stands for `object`, which pickles of protocols 0 and 1 name as the base of what they rebuild."""


def _rebuilt(kind: object, base: object, state: object) -> _Inert:
    """copyreg's _reconstructor, by which pickles of protocols 0 and 1 make an object; of stand-ins only."""
    if kind is not _Inert or base is not _Plain or state is not None:
        raise pickle.UnpicklingError("rebuilds an object that no FLAME file needs: it is not made")
    return _Inert()


def _empty_array(_: object, shape: object, code: object) -> np.ndarray:
    """numpy's _reconstruct, which makes an array of any size; pickles ask for none, and fill it by its state."""
    return np.ndarray.__new__(np.ndarray, (0,), "u1")


def _latin1(text: str, encoding: str) -> bytes:
    """_codecs.encode, as pickles of bytes by old protocols call it."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"names the encoding {encoding!r}")
    return text.encode("latin1")


def _dtype(code: object, *_: object) -> np.dtype:
    """numpy's dtype, of plain kinds only, and always a copy: what a pickle does to it stays in the pickle."""
    if not (isinstance(code, str) and _PLAIN.fullmatch(code)):
        raise pickle.UnpicklingError(f"holds an array of kind {code!r}"[:80])
    return np.dtype(code, copy=True)


def _scalar(kind: np.dtype, data: str | bytes = b"") -> Any:
    """numpy's scalar, of numbers only."""
    if kind.hasobject:
        raise pickle.UnpicklingError("holds a scalar that is an object")
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, kind, 1)[0]


def _from_buffer(data: bytes | bytearray, kind: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    """numpy's way for arrays in pickles of protocol 5, of numbers only."""
    if not isinstance(kind, np.dtype) or kind.hasobject:
        raise pickle.UnpicklingError("holds an array of objects")
    return np.frombuffer(data, kind).reshape(shape, order=order)


class _Reader(pickle.Unpickler):
    """An unpickler restricted to a few names, see the module docstring."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            known = {"_reconstruct": _empty_array, "scalar": _scalar}.get(name)
        elif (module, name) in _BUFFERS:
            known = _from_buffer
        elif module == "numpy":
            known = {"ndarray": _Inert, "dtype": _dtype}.get(name)
        elif module.split(".")[0] == "chumpy" or (module, name) in _SPARSE:
            known = _Inert
        else:
            known = _OTHERS.get((module, name))
        if known is None:
            raise pickle.UnpicklingError(f"names {module}.{name}, which no FLAME file needs: it is not run")
        return known

    def persistent_load(self, _: object) -> Any:
        raise pickle.UnpicklingError("refers to another file")


_OTHERS = {("_codecs", "encode"): _latin1,
           **{(module, name): stand_in for module in ("__builtin__", "builtins")        # Python 2's name, Python 3's
              for name, stand_in in (("set", _Inert), ("object", _Plain))},
           **{(module, "_reconstructor"): _rebuilt for module in ("copy_reg", "copyreg")}}
_BUFFERS = {("numpy.core.numeric", "_frombuffer"), ("numpy._core.numeric", "_frombuffer")}
_SPARSE = {(f"scipy.sparse.{module}", f"{kind}_matrix") for kind in ("csc", "csr", "coo")
           for module in (kind, f"_{kind}")}


def read_flame(path: str | Path, identities: int = IDENTITIES) -> RawModel:
    """`v_template` (V, 3) metres, `shapedirs` (V, 3, N) metres per standard deviation, `f` (F, 3). Of the N directions
    the first `identities` are identity, the others expression. ValueError, naming the file, for anything else, and for
    a pickle that refers to anything else."""
    path = Path(path)
    check_size(path)
    try:
        with open(path, "rb") as file:
            data = _load(file)
        if not isinstance(data, dict):
            raise ValueError(f"holds a {type(data).__name__}, no dictionary")
        missing = [name for name in _NEEDED if name not in data]
        if missing:
            raise ValueError(f"must hold {', '.join(_NEEDED)}; found no {', '.join(missing)}")
        mean, shapes, faces = (_numbers(data[name], name) for name in _NEEDED)
        if mean.ndim != 2 or mean.shape[1] != 3 or shapes.ndim != 3 or shapes.shape[:2] != mean.shape:
            raise ValueError(f"v_template must be (V, 3) and shapedirs (V, 3, N), received {mean.shape} and "
                             f"{shapes.shape}")
    except (ValueError, pickle.UnpicklingError, EOFError, OSError, MemoryError, RecursionError, AttributeError,
            KeyError, TypeError, IndexError, struct.error, ImportError) as error:
        text = " ".join(str(error).split())[:160] or type(error).__name__
        raise ValueError(f"{path}: no FLAME model that can be read ({text})") from None
    basis = np.ascontiguousarray((shapes * METRE).transpose(2, 0, 1), np.float32)
    expression = basis[identities:]
    return checked(RawModel(path, mean.astype(np.float64) * METRE, faces.astype(np.int64), basis[:identities],
                            expression, tuple(f"expression{k:03d}" for k in range(len(expression))), True))


def _load(file: BinaryIO) -> Any:
    return _Reader(file, encoding="latin1").load()


def _numbers(value: Any, name: str) -> np.ndarray:
    """An array, or the one that a chumpy object keeps as `x`."""
    if isinstance(value, _Inert):
        value = value.state.get("x") if isinstance(value.state, dict) else None
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be an array of numbers, received {type(value).__name__}")
    return value
