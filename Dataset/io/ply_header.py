"""Check a .ply file's length against its header before a reader sees it.

Open3D reads a cut-off .ply without an error, as a mesh with the announced number of vertices, of which the missing ones
are uninitialised memory. It tries to allocate any announced number of vertices.
"""
from __future__ import annotations

import os
from pathlib import Path

_SIZES = {"char": 1, "uchar": 1, "int8": 1, "uint8": 1, "short": 2, "ushort": 2, "int16": 2, "uint16": 2,
          "int": 4, "uint": 4, "int32": 4, "uint32": 4, "float": 4, "float32": 4, "double": 8, "float64": 8}
_MAX_HEADER = 65536


def check_ply(path: str | os.PathLike[str]) -> None:
    """ValueError, with the file's name, unless `path` begins with a PLY header and is long enough for what it
    announces.

    Exact for points and triangles; of polygons with more corners only the part that triangles would take is
    known from the header.
    """
    lines, length = _header(Path(path))
    ascii_format = next(line[1] for line in lines if line[:1] == ["format"]) == "ascii"
    there, needed = Path(path).stat().st_size - length, _needed(lines, ascii_format)
    if there < needed:
        raise ValueError(f"{path}: the .ply header announces at least {needed} bytes of data, the file has {there}"
                         " (cut off?)")


def vertex_count(path: str | os.PathLike[str]) -> int:
    """The number of vertices that a .ply file's header announces, without reading them."""
    lines, _ = _header(Path(path))
    return next((int(line[2]) for line in lines if line[:2] == ["element", "vertex"]), 0)


def _header(path: Path) -> tuple[list[list[str]], int]:
    """The header's lines as words, and its length in bytes."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    with open(path, "rb") as file:
        head = file.read(_MAX_HEADER)
    if not head.startswith(b"ply"):
        raise ValueError(f"{path}: a .ply file must begin with 'ply', got {head[:8]!r}")
    end = head.find(b"end_header")
    newline = head.find(b"\n", end)
    if end < 0 or newline < 0:
        raise ValueError(f"{path}: a .ply file must have an 'end_header' line, this has none (cut off?)")
    lines = [line.split() for line in head[:end].decode("ascii", "replace").splitlines()]
    try:
        _needed(lines, next(line[1] for line in lines if line[:1] == ["format"]) == "ascii")
    except (StopIteration, IndexError, KeyError, ValueError):
        raise ValueError(f"{path}: the .ply header must name a format, elements and properties of known types; "
                         "this one is broken") from None
    return lines, newline + 1


def _needed(lines: list[list[str]], ascii_format: bool) -> int:
    """The fewest bytes that the announced elements can take."""
    total = count = row = 0
    for line in lines + [["element", "end", "0"]]:
        if line[:1] == ["element"]:
            total += count * row
            count, row = int(line[2]), 0
            if count < 0:
                raise ValueError("negative count")
        elif line[:2] == ["property", "list"]:      # a face: its count and three corners
            row += 8 if ascii_format else _SIZES[line[2]] + 3 * _SIZES[line[3]]
        elif line[:1] == ["property"]:              # in text at least a digit and a separator
            row += 2 if ascii_format else _SIZES[line[1]]
    # The last line of a text file may lack its line end.
    return max(total - 1, 0) if ascii_format else total
