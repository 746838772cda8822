"""Reads .ply files, ASCII and binary (Turk 1994, "The PLY polygon file format"), with every count checked.

A reader of its own, because the usual ones take a cut or damaged file for a whole one: they give the announced number
of vertices, and where the file has none, or a word, what was in memory. Here every number is read or the file refused.
Memory and time are bounded by the file's own size, which is at most MAX_BYTES and fits what the header announces.
"""
from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO, Iterator, NamedTuple

import numpy as np

from Dataset.geometry.mesh import Mesh
from Dataset.io.mesh_readers.polygons import MAX_BYTES, fans, lines_of

_TYPES = {"char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
          "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
          "double": "f8", "float64": "f8"}
_FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_MAX_HEADER = 65536
_MAX_PROPERTIES = 256           # of an element
_LINES = 100_000                # of text that are turned into numbers at a time
_INDICES = ("vertex_indices", "vertex_index")
_LINE_END = re.compile(r"\r\n|\n|\r")
_HEADER_END = re.compile(rb"[\r\n]end_header[ \t]*\r?\n")


class Property(NamedTuple):
    """name; kind: numpy's code of its numbers ("f4"); count: that of a list's length, "" for a single number."""

    name: str
    kind: str
    count: str = ""


class Element(NamedTuple):
    """name ("vertex", "face"), number of rows, and the properties of a row."""

    name: str
    rows: int
    properties: list[Property]


class Header(NamedTuple):
    """order: "<" or ">" of a binary file, "" of text; elements as they follow one another; size of the header, bytes.
    """

    order: str
    elements: list[Element]
    size: int


def read_ply(path: str | os.PathLike[str]) -> Mesh:
    """A .ply file -> its mesh, or cloud where it has no faces; vertices keep the file's order.

    Polygons with more than three corners are cut into a fan from their first. Colours are red, green, blue of the
    vertices: uchar as they are, floats in [0, 1] times 255. Other properties and elements are read and left out.
    ValueError, naming file and rule: no .ply, a broken header, more than MAX_BYTES, fewer or more rows or other numbers
    than it announces, a face of fewer than 3 corners, more than MAX_CORNERS, or of corners that there are not.
    """
    path = Path(path)
    header = read_header(path)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path}: a .ply file may have at most {MAX_BYTES >> 20} MB")
    _check_size(path, header, size - header.size)
    try:
        with open(path, "rb") as file:
            file.seek(header.size)
            read = _read_text(header, file) if not header.order else _read_binary(header, file.read())
        return _mesh(read)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from None


def vertex_count(path: str | os.PathLike[str]) -> int:
    """The number of vertices that a .ply file's header announces, without reading them. ValueError as `read_ply`."""
    return next((element.rows for element in read_header(Path(path)).elements if element.name == "vertex"), 0)


def read_header(path: Path) -> Header:
    """The header. ValueError, naming file and rule, when it is none or of unknown types."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    with open(path, "rb") as file:
        head = file.read(_MAX_HEADER)
    if not head.startswith(b"ply"):
        raise ValueError(f"{path}: a .ply file must begin with 'ply', got {head[:8]!r}")
    end = _HEADER_END.search(head)
    if end is None:
        raise ValueError(f"{path}: a .ply file must have an 'end_header' line, this has none (cut off?)")
    order, elements = None, []
    try:
        for line in _LINE_END.split(head[3:end.start()].decode("ascii", "replace")):
            match line.split():
                case [] | ["comment" | "obj_info", *_]:
                    continue
                case ["format", kind, "1.0"] if order is None:
                    order = _FORMATS[kind]
                case ["element", name, rows] if rows.isascii() and rows.isdigit() and len(rows) < 19:
                    elements.append(Element(name, int(rows), []))
                case ["property", "list", count, kind, name] if _TYPES[count][0] != "f":
                    elements[-1].properties.append(Property(name, _TYPES[kind], _TYPES[count]))
                case ["property", kind, name]:
                    elements[-1].properties.append(Property(name, _TYPES[kind]))
                case _:
                    raise ValueError(line)
        if order is None or len({e.name for e in elements}) < len(elements) \
                or any(len({p.name for p in e.properties}) < len(e.properties)
                       or not 0 < len(e.properties) <= _MAX_PROPERTIES for e in elements):
            raise ValueError("format or properties")
    except (KeyError, IndexError, ValueError):
        raise ValueError(f"{path}: the .ply header must name one format, and elements and properties of known types, "
                         "each once; this one is broken") from None
    return Header(order, elements, end.end())


def _check_size(path: Path, header: Header, there: int) -> None:
    """ValueError when the file is too short for the announced rows, whatever stands in their lists, or, if it is
    binary, too long for them."""
    needed = most = 0
    for element in header.elements:
        if header.order:
            needed += element.rows * sum(np.dtype(p.count or p.kind).itemsize for p in element.properties)
            most += element.rows * sum(_most(p) for p in element.properties)
        else:                       # a digit and a separator at least
            needed += element.rows * 2 * len(element.properties)
    if there < needed - (not header.order):
        raise ValueError(f"{path}: the .ply header announces at least {needed} bytes of data, the file has {there}"
                         " (cut off?)")
    if header.order and there > most:
        raise ValueError(f"{path}: the .ply header announces at most {most} bytes of data, the file has {there}")


def _most(p: Property) -> int:
    """The bytes of a property in a binary row, at most."""
    size = np.dtype(p.kind).itemsize
    return np.dtype(p.count).itemsize + int(np.iinfo(p.count).max) * size if p.count else size


# --- text ---------------------------------------------------------------------------------------------------------
def _read_text(header: Header, file: BinaryIO) -> dict[str, dict[str, np.ndarray | list]]:
    lines = _rows_of(file)
    read: dict[str, dict[str, np.ndarray | list]] = {}
    for element in header.elements:
        if any(p.count for p in element.properties):
            read[element.name] = _text_lists(element, lines)
            continue
        parts = []
        for start in range(0, element.rows, _LINES):
            rows = [line.split() for _, line in zip(range(min(_LINES, element.rows - start)), lines)]
            if len(rows) < min(_LINES, element.rows - start):
                raise ValueError(f"has {start + len(rows)} rows of {element.name}, its header announces {element.rows}")
            wrong = next((i for i, row in enumerate(rows) if len(row) != len(element.properties)), None)
            if wrong is not None:
                raise ValueError(f"{element.name} {start + wrong} must have {len(element.properties)} numbers, "
                                 f"received {len(rows[wrong])}")
            parts.append(_numbers(rows, element.name, start))
        table = np.concatenate(parts) if parts else np.zeros((0, len(element.properties)))
        read[element.name] = {p.name: table[:, i] for i, p in enumerate(element.properties)}
    if next(lines, None) is not None:
        raise ValueError("holds more rows than its header announces")
    return read


def _rows_of(file: BinaryIO) -> Iterator[bytes]:
    """Lines that are not blank, one at a time."""
    for line in map(bytes.strip, lines_of(file)):
        at = line.find(b"_")
        if at >= 0:         # Python takes 1_0 for a number, nobody else does
            raise ValueError(f"must have numbers, received {line[max(0, at - 9):at + 9].decode('ascii', 'replace')!r}")
        if line:
            yield line


def _numbers(rows: list[list[bytes]], name: str, start: int) -> np.ndarray:
    """Words -> (R, C) float64. ValueError names the first word that is no number."""
    try:
        return np.array(rows, np.float64)
    except ValueError:
        for i, row in enumerate(rows):
            for word in row:
                _number(word, name, start + i)
        raise


def _number(word: bytes, name: str, row: int) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"{name} {row} must have numbers, received {word[:20].decode('ascii', 'replace')!r}") from None


def _text_lists(element: Element, lines: Iterator[bytes]) -> dict[str, list]:
    found: dict[str, list] = {p.name: [] for p in element.properties}
    for row in range(element.rows):
        line = next(lines, None)
        if line is None:
            raise ValueError(f"has {row} rows of {element.name}, its header announces {element.rows}")
        values, at = [_number(word, element.name, row) for word in line.split()], 0
        for p in element.properties:
            length = 1 if not p.count else int(values[at]) if at < len(values) and values[at].is_integer() else -1
            at += bool(p.count)
            if length < 0 or at + length > len(values):
                raise ValueError(f"{element.name} {row} must have as many numbers as it says, received {len(values)}")
            found[p.name].append(values[at:at + length] if p.count else values[at])
            at += length
        if at != len(values):
            raise ValueError(f"{element.name} {row} must have as many numbers as it says, received {len(values)}")
    return found


# --- binary -------------------------------------------------------------------------------------------------------
def _read_binary(header: Header, data: bytes) -> dict[str, dict[str, np.ndarray | list]]:
    read: dict[str, dict[str, np.ndarray | list]] = {}
    at = 0
    for element in header.elements:
        values, at = _binary_rows(element, header.order, data, at)
        read[element.name] = values
    if at != len(data):
        raise ValueError(f"has {len(data) - at} bytes behind the last row that its header announces")
    return read


def _binary_rows(element: Element, order: str, data: bytes, at: int) -> tuple[dict[str, np.ndarray | list], int]:
    """An element's rows from byte `at` on, and the byte behind them. Rows whose lists are all as long as the first
    row's are read at once."""
    lengths = _first_lengths(element, order, data, at) if element.rows else [0] * len(element.properties)
    fields = []
    for i, (p, length) in enumerate(zip(element.properties, lengths)):
        fields += [(f"n{i}", order + p.count)] * bool(p.count)
        fields.append((f"v{i}", order + p.kind, (length,)) if p.count else (f"v{i}", order + p.kind))
    row = np.dtype(fields)
    if element.rows * row.itemsize <= len(data) - at:
        table = np.frombuffer(data, row, element.rows, at)
        if all((table[f"n{i}"] == length).all() for i, (p, length) in enumerate(zip(element.properties, lengths))
               if p.count):
            return {p.name: table[f"v{i}"] for i, p in enumerate(element.properties)}, at + table.nbytes
    if not any(p.count for p in element.properties):
        raise ValueError(f"is cut off within its {element.rows} rows of {element.name}")
    return _binary_lists(element, order, data, at)


def _first_lengths(element: Element, order: str, data: bytes, at: int) -> list[int]:
    lengths = []
    for p in element.properties:
        length = 1
        if p.count:
            length, at = _one(data, at, order + p.count)
        lengths.append(length)
        at += length * np.dtype(p.kind).itemsize
        if length < 0 or at > len(data):
            raise ValueError(f"is cut off within its {element.rows} rows of {element.name}")
    return lengths


def _binary_lists(element: Element, order: str, data: bytes, at: int) -> tuple[dict[str, list], int]:
    """Row by row: lists of several lengths."""
    found: dict[str, list] = {p.name: [] for p in element.properties}
    for row in range(element.rows):
        for p in element.properties:
            length = 1
            if p.count:
                length, at = _one(data, at, order + p.count)
            kind = np.dtype(order + p.kind)
            if length < 0 or at + length * kind.itemsize > len(data):
                raise ValueError(f"is cut off within {element.name} {row} of {element.rows}")
            values = np.frombuffer(data, kind, length, at)
            found[p.name].append(values if p.count else values[0])
            at += values.nbytes
    return found, at


def _one(data: bytes, at: int, kind: str) -> tuple[int, int]:
    """The number at byte `at`, and the byte behind it."""
    size = np.dtype(kind).itemsize
    if at + size > len(data):
        raise ValueError("is cut off within a list")
    return int(np.frombuffer(data, kind, 1, at)[0]), at + size


# --- the mesh -----------------------------------------------------------------------------------------------------
def _mesh(read: dict[str, dict[str, np.ndarray | list]]) -> Mesh:
    vertex = read.get("vertex", {})
    missing = [name for name in "xyz" if not isinstance(vertex.get(name), np.ndarray)]
    if missing:
        raise ValueError(f"must have vertices with x, y and z, it has no {', '.join(missing)}")
    with np.errstate(invalid="ignore"):         # a signalling NaN; whoever reads a mesh refuses it
        vertices = np.stack([np.asarray(vertex[name], np.float64) for name in "xyz"], axis=1)
    return Mesh(vertices, _triangles(read.get("face", {}), len(vertices)), colours=_colours(vertex))


def _colours(vertex: dict[str, np.ndarray | list]) -> np.ndarray | None:
    channels = [vertex.get(name) for name in ("red", "green", "blue")]
    if not all(isinstance(channel, np.ndarray) for channel in channels):
        return None
    colours = np.stack([np.asarray(channel, np.float64) for channel in channels], axis=1)
    if not np.isfinite(colours).all():
        raise ValueError("must have finite colours")
    whole = all(channel.dtype.kind in "iu" for channel in channels) or colours.max(initial=0) > 1
    return np.clip(np.round(colours if whole else 255 * colours), 0, 255).astype(np.uint8)


def _triangles(face: dict[str, np.ndarray | list], count: int) -> np.ndarray:
    """Fans of the polygons (F, 3) int64."""
    return fans(next((face[name] for name in _INDICES if name in face), []), count)[0]
