"""Memory for batches that is used again: a batch of the thesis is 31 MB, and fresh pages for it cost more than filling
them with cached images (measured: half the pipeline's speed). TensorFlow takes over what begins at a multiple of 64
bytes instead of copying it.
"""
from __future__ import annotations

import collections
import math

import numpy as np


class BufferPool:
    """`empty(shape)` -> a float32 array of at most `floats` values, contents undefined; thread-safe.

    Its memory comes back to the pool when the array, all views of it and all tensors on it are gone, so a batch
    that a caller keeps is never written over. At most `keep` unused buffers are kept.
    """

    def __init__(self, floats: int, keep: int = 8) -> None:
        self.floats = floats
        self._free: collections.deque[np.ndarray] = collections.deque(maxlen=keep)   # append and pop are atomic

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        if math.prod(shape) > self.floats:
            raise ValueError(f"this pool has buffers of {self.floats} floats, wanted shape {shape}")
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = np.empty(4 * self.floats + 64, np.uint8)
        return np.asarray(_Lease(buffer, shape, self._free))


class _Lease:
    """Owns a buffer while arrays use it: NumPy makes it the `base` of the array and of all its views."""

    def __init__(self, buffer: np.ndarray, shape: tuple[int, ...], free: collections.deque[np.ndarray]) -> None:
        self._buffer, self._free = buffer, free
        address = buffer.ctypes.data
        self.__array_interface__ = {"version": 3, "typestr": np.dtype(np.float32).str, "shape": tuple(shape),
                                    "data": (address + -address % 64, False)}

    def __del__(self) -> None:
        self._free.append(self._buffer)
