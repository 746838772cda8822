"""Arrays of .npz files of others: what they unpack to is bounded before anything is unpacked."""
from __future__ import annotations

import io
import os
import struct
import sys
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Collection

import numpy as np

from Dataset.io.archives.regular import check_regular
from Dataset.io.archives.zips import check_zip

MAX_BYTES = 1 << 30
_STEP = 1 << 20     # bytes that are unpacked at a time
_LENGTHS = 26       # where an entry's own header says how long its name and its extra field are (APPNOTE.TXT, 4.3.7)


def read_npz(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES, what: str = "arrays that can be read",
             names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Name -> array of all arrays in an .npz file, or of those of `names` that it has. No pickles.

    what   the file should hold, for the message
    names  whoever knows what the file holds names it: nothing else is unpacked
    ValueError, one line that names the file: missing, no .npz, damaged, arrays of objects, text beyond Unicode, or
    arrays whose headers or archive entries promise more than `max_bytes` together, or more than their entry holds.
    """
    path = Path(path)
    check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            check_zip(archive, max_bytes)
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")
                       and (names is None or entry.filename.removesuffix(".npy") in names)]
            found = {}
            for entry in entries:
                with archive.open(entry) as file:
                    found[entry.filename.removesuffix(".npy")] = _array(file, entry)
            return found
    except (OSError, KeyError, EOFError, ValueError, TypeError, NotImplementedError, RuntimeError, SyntaxError,
            OverflowError, MemoryError, RecursionError, tokenize.TokenError, zlib.error, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:160] or type(error).__name__
        raise ValueError(f"{path}: holds no {what} ({reason})") from None


def positions(data: bytes) -> dict[str, int]:
    """Name -> where the numbers of an array begin, of the arrays of an .npz file that lie in it as they are, neither
    compressed nor in Fortran's order."""
    found = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED or not entry.filename.endswith(".npy"):
                continue
            with archive.open(entry) as file:
                _, fortran, _ = _header(file, entry)
                if not fortran:
                    name, extra = struct.unpack_from("<HH", data, entry.header_offset + _LENGTHS)
                    found[entry.filename.removesuffix(".npy")] = (
                        entry.header_offset + _LENGTHS + 4 + name + extra + file.tell())
    return found


def _header(file: zipfile.ZipExtFile, entry: zipfile.ZipInfo) -> tuple[tuple[int, ...], bool, np.dtype]:
    """shape, whether in Fortran's order, dtype; `file` then stands where the numbers begin."""
    version = np.lib.format.read_magic(file)
    reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if reader is None:
        raise ValueError(f"{entry.filename} is of .npy version {version}")
    return reader(file)


def _array(file: zipfile.ZipExtFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """One .npy. The header is read first: it must promise what the entry holds."""
    shape, fortran, dtype = _header(file, entry)
    if dtype.hasobject:
        raise ValueError(f"{entry.filename} holds objects")
    count = 1
    for side in shape:
        count *= int(side)
    if count < 0 or count * dtype.itemsize > entry.file_size:
        raise ValueError(f"{entry.filename} promises {count} numbers, its entry has {entry.file_size} bytes")
    data = np.empty(count * dtype.itemsize, np.uint8)        # the array's own memory: no copy is made of it
    view = memoryview(data)
    for start in range(0, len(data), _STEP):
        part = view[start:start + _STEP]
        if file.readinto(part) != len(part):
            raise ValueError(f"{entry.filename} is cut off")
    if dtype.kind == "U" and data.view(f"{dtype.byteorder}u4").max(initial=0) > sys.maxunicode:
        raise ValueError(f"{entry.filename} holds text that is none")       # numpy raises SystemError where it is used
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
