"""Reads Wavefront .obj files: v, vt and f. No other file is opened, whatever `mtllib` names."""
from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from Dataset.geometry.mesh import Mesh
from Dataset.io.mesh_readers.polygons import fans, numbers, uv_per_vertex

MAX_BYTES = 1 << 30


def read_obj(path: str | os.PathLike[str]) -> Mesh:
    """An .obj file -> its mesh; vertices keep the file's order. Polygons become fans; negative indices count from the
    last vertex so far. Colours: three numbers in [0, 1] behind each `v`. uv of a vertex: of the first corner that uses
    it. Normals, groups, materials are left out.

    ValueError, naming file and rule, for text that is none, numbers that are none, and corners that there are not.
    """
    path = Path(path)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: an .obj file may have at most {MAX_BYTES >> 20} MB")
    try:
        return _parsed(path.read_text(encoding="utf-8", errors="replace"))
    except ValueError as error:
        raise ValueError(f"{path}: must be an .obj file: {error}") from None


def _parsed(text: str) -> Mesh:
    points: list[list[str]] = []
    textures: list[list[str]] = []
    faces: list[list[int]] = []
    corners: list[int] = []             # texture index of each corner of all faces, -1 for none
    for line in text.replace("\\\n", " ").splitlines():
        match line.split():
            case ["v", *words]:
                points.append(words)
            case ["vt", *words]:
                textures.append(words[:2])
            case ["f", *words]:
                face = [_corner(word, len(points), len(textures)) for word in words]
                faces.append([vertex for vertex, _ in face])
                corners += [texture for _, texture in face]
    table = _table(points, (3, 4, 6, 7), "v")
    vertices = table[:, :3]
    triangles, at = fans(faces, len(vertices))
    colours = np.clip(np.round(table[:, 3:6] * 255), 0, 255).astype(np.uint8) if table.shape[1] >= 6 else None
    return Mesh(vertices, triangles, _uv(textures, np.array(corners, np.int64), triangles, at, len(vertices)), colours)


def _table(rows: list[list[str]], widths: tuple[int, ...], what: str) -> np.ndarray:
    """(R, W) float64 of rows that are all as long as the first one."""
    width = len(rows[0]) if rows else widths[0]
    if width not in widths or any(len(row) != width for row in rows):
        raise ValueError(f"all rows {what} must have the same number of words, one of {', '.join(map(str, widths))}")
    return numbers([word for row in rows for word in row], float, what).reshape(-1, width)


def _corner(word: str, vertices: int, textures: int) -> tuple[int, int]:
    """"7", "7/2", "7//3" or "7/2/3" -> 0-based vertex and texture, -1 for no texture."""
    first, _, rest = word.partition("/")
    second = rest.partition("/")[0]
    try:
        return _index(first, vertices), _index(second, textures) if second else -1
    except ValueError:
        raise ValueError(f"a face's corners must be indices of rows before it, received {word[:20]!r}") from None


def _index(word: str, count: int) -> int:
    number = int(word[:12])
    index = number - 1 if number > 0 else count + number
    if not 0 <= index or number == 0 or len(word) > 12 or "_" in word:
        raise ValueError(word)
    return index


def _uv(textures: list[list[str]], corners: np.ndarray, triangles: np.ndarray, at: np.ndarray, count: int
        ) -> np.ndarray | None:
    """(V, 2), where every corner has a texture coordinate."""
    if not textures or not len(corners) or (corners < 0).any():
        return None
    table = _table(textures, (2,), "vt")
    if corners.max() >= len(table):
        raise ValueError(f"a face's texture must be one of {len(table)}, received {corners.max() + 1}")
    return uv_per_vertex(count, triangles, table[corners[at]])
