"""HDF5 files: what their datasets promise is compared with the file's size before one is read."""
from __future__ import annotations

import math
import os
from pathlib import Path
from typing import BinaryIO, Iterator

import h5py

MAX_OBJECTS = 100_000
MAX_RATIO = 1_100           # deflate reaches 1,032
#: what h5py raises for a damaged file
ERRORS = (OSError, KeyError, TypeError, ValueError, RuntimeError, IndexError, OverflowError, MemoryError, EOFError,
          AttributeError)
Node = h5py.Group | h5py.Dataset


def check_hdf5(source: str | os.PathLike[str] | BinaryIO, max_bytes: int, name: str = "",
               links: bool = False) -> None:
    """ValueError, one line that begins with the file's name: no HDF5 file, links to other places or other files,
    datasets that promise more numbers than the file has bytes for, or more than `max_bytes` together.

    source  a path, or an open file with `seek`; name: what messages call it, by default the path
    links   pass over links instead of refusing them: whoever reads the file then follows none
    """
    if isinstance(source, (str, os.PathLike)):
        source, name = Path(source), name or str(source)
        size = source.stat().st_size
    else:
        size = source.seek(0, os.SEEK_END)
        source.seek(0)
    try:
        with h5py.File(source, "r") as root:
            promised = stored = 0
            for node in _nodes(root, links):
                for index in range(h5py.h5a.get_num_attrs(node.id)):
                    stored += h5py.h5a.open(node.id, index=index).get_storage_size()
                if isinstance(node, h5py.Dataset):
                    numbers, there = _dataset(node)
                    promised, stored = promised + numbers, stored + there
            if stored > size:
                raise ValueError(f"promises {stored} bytes, the file has {size}")
            if promised > max_bytes:
                raise ValueError(f"unpacks to {promised} bytes, at most {max_bytes} are allowed")
    except ERRORS as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ValueError(f"{name}: no HDF5 file that can be read ({reason})") from None


def _nodes(root: h5py.File, links: bool) -> Iterator[Node]:
    """Groups and datasets, each once, whatever links lead to it."""
    waiting: list[Node] = [root]
    seen = {h5py.h5o.get_info(root.id).addr}
    while waiting:
        node = waiting.pop()
        yield node
        for key in node if isinstance(node, h5py.Group) else ():
            if not isinstance(node.get(key, getlink=True), h5py.HardLink):
                if links:
                    continue
                raise ValueError(f"{key[:60]} is a link to another place")
            child = node[key]
            place = h5py.h5o.get_info(child.id).addr
            if place not in seen and isinstance(child, (h5py.Group, h5py.Dataset)):
                seen.add(place)
                waiting.append(child)
                if len(seen) > MAX_OBJECTS:
                    raise ValueError(f"has more than {MAX_OBJECTS} groups and datasets")


def _dataset(node: h5py.Dataset) -> tuple[int, int]:
    """Bytes that a dataset promises, and those that it takes in the file."""
    if node.is_virtual or node.external:
        raise ValueError(f"{node.name[:60]} lies in another file")
    promised, stored = math.prod(node.shape or (0,)) * node.dtype.itemsize, node.id.get_storage_size()
    packed = node.id.get_create_plist().get_nfilters() > 0
    if promised > stored * (MAX_RATIO if packed else 1):
        raise ValueError(f"{node.name[:60]} promises {promised} bytes, the file has {stored} for it")
    return promised, stored
