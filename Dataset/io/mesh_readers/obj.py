"""Reads Wavefront .obj files: v, vt and f. No other file is opened, whatever `mtllib` names."""
from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Iterator, TextIO

import numpy as np

from Dataset.geometry.mesh import Mesh
from Dataset.io.mesh_readers.polygons import (MAX_BYTES, MAX_CORNERS, MAX_LINE, fans, lines_of, numbers,
                                              uv_per_vertex)

_INDEX = re.compile(r"[+-]?[0-9]{1,11}")
_POINT, _TEXTURE = (3, 4, 6, 7), (2,)       # how many words the rows may have


def read_obj(path: str | os.PathLike[str]) -> Mesh:
    """An .obj file -> its mesh; vertices keep the file's order. Polygons become fans; positive indices count from the
    file's first vertex and may name one that comes later, negative ones from the last vertex so far. Colours: three
    numbers in [0, 1] behind each `v`. uv of a vertex: of the first corner that uses it. Normals, groups, materials are
    left out.

    ValueError, naming file and rule, for text that is none, lines of more than MAX_LINE characters, faces of more than
    MAX_CORNERS corners, numbers that are none, and corners that there are not.
    """
    path = Path(path)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: an .obj file may have at most {MAX_BYTES >> 20} MB")
    try:
        with open(path, encoding="ascii", errors="replace") as file:    # whose only line ends are \n, \r\n, \r
            return _parsed(file)
    except ValueError as error:
        raise ValueError(f"{path}: must be an .obj file: {error}") from None


def _parsed(file: TextIO) -> Mesh:
    points: list[list[str]] = []
    textures: list[list[str]] = []
    faces: list[list[int]] = []
    corners: list[int] = []             # texture index of each corner of all faces, -1 for none
    for line in _joined(file):
        match line.split():
            case ["v", *words]:
                points.append(_row(words, _POINT, "v"))
            case ["vt", *words]:
                textures.append(words[:2])
            case ["f", *words]:
                if len(words) > MAX_CORNERS:
                    raise ValueError(f"a face may have at most {MAX_CORNERS} corners, received {len(words)}")
                face = [_corner(word, len(points), len(textures)) for word in words]
                faces.append([vertex for vertex, _ in face])
                corners += [texture for _, texture in face]
    table = _table(points, _POINT, "v")
    vertices = table[:, :3]
    triangles, at = fans(faces, len(vertices))
    colours = np.clip(np.round(table[:, 3:6] * 255), 0, 255).astype(np.uint8) if table.shape[1] >= 6 else None
    return Mesh(vertices, triangles, _uv(textures, np.array(corners, np.int64), triangles, at, len(vertices)), colours)


def _joined(file: TextIO) -> Iterator[str]:
    """Lines; one that ends in a backslash goes on in the next."""
    parts, length = [], 0
    for line in lines_of(file):
        length += len(line)
        if length > MAX_LINE:
            raise ValueError(f"a line may have at most {MAX_LINE} characters")
        if line.endswith("\\\n"):
            parts.append(line[:-2])
            continue
        yield " ".join([*parts, line])
        parts, length = [], 0
    yield " ".join(parts)


def _row(words: list[str], widths: tuple[int, ...], what: str) -> list[str]:
    """The words of a row, which must be as many as one of `widths` says."""
    if len(words) not in widths:
        raise ValueError(f"all rows {what} must have the same number of words, one of {', '.join(map(str, widths))}")
    return words


def _table(rows: list[list[str]], widths: tuple[int, ...], what: str) -> np.ndarray:
    """(R, W) float64 of rows that are all as long as the first one."""
    width = len(rows[0]) if rows else widths[0]
    for row in rows:
        _row(row, (width,) if width in widths else widths, what)
    return numbers([word for row in rows for word in row], float, what).reshape(-1, width)


def _corner(word: str, vertices: int, textures: int) -> tuple[int, int]:
    """"7", "7/2", "7//3" or "7/2/3" -> 0-based vertex and texture, -1 for no texture."""
    first, _, rest = word.partition("/")
    second = rest.partition("/")[0]
    try:
        return _index(first, vertices), _index(second, textures) if second else -1
    except ValueError:
        raise ValueError("a face's corners must be indices, from 1 on or negative ones of rows before it, received "
                         f"{word[:20]!r}") from None


def _index(word: str, count: int) -> int:
    number = int(word) if _INDEX.fullmatch(word) else 0
    index = number - 1 if number > 0 else count + number
    if index < 0 or number == 0:
        raise ValueError(word)
    return index


def _uv(textures: list[list[str]], corners: np.ndarray, triangles: np.ndarray, at: np.ndarray, count: int
        ) -> np.ndarray | None:
    """(V, 2), where every corner has a texture coordinate."""
    if not textures or not len(corners) or (corners < 0).any():
        return None
    table = _table(textures, _TEXTURE, "vt")
    if corners.max() >= len(table):
        raise ValueError(f"a face's texture must be one of {len(table)}, received {corners.max() + 1}")
    return uv_per_vertex(count, triangles, table[corners[at]])
