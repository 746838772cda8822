"""MATLAB files of version 5: what their compressed variables unpack to is counted before SciPy reads them."""
from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

HEADER, COMPRESSED = 128, 15        # bytes; type of an element
_STEP = 1 << 20


def check_mat(path: str | os.PathLike[str], max_bytes: int) -> None:
    """ValueError, one line without the file's name, when the variables of a version 5 file unpack to more than
    `max_bytes`, or one promises more bytes than follow. Files of other versions pass: SciPy reads version 4 without
    unpacking, and no other."""
    size = Path(path).stat().st_size
    with open(path, "rb") as file:
        head = file.read(HEADER)
        mark = head[126:128]
        if len(head) < HEADER or mark not in (b"IM", b"MI"):
            return
        order, total = "<" if mark == b"IM" else ">", 0
        while tag := file.read(8):
            if len(tag) < 8:
                raise ValueError("is cut off")
            kind, length = struct.unpack(f"{order}II", tag)
            if length > size - file.tell():
                raise ValueError(f"promises {length} bytes, {size - file.tell()} follow")
            end = file.tell() + length
            total += _unpacked(file.read(length), max_bytes - total) if kind == COMPRESSED else length
            if total > max_bytes:
                raise ValueError(f"unpacks to more than {max_bytes} bytes")
            file.seek(end)


def _unpacked(data: bytes, most: int) -> int:
    """How many bytes a zlib stream gives, counted up to a little more than `most`."""
    stream, count = zlib.decompressobj(), 0
    while data and not stream.eof and count <= most:
        count += len(stream.decompress(data, _STEP))
        data = stream.unconsumed_tail
    return count
