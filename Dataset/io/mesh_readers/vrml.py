"""Reads VRML 2 files as BU-4DFE has them: shapes of IndexedFaceSets with coordinates and texture coordinates (ISO/IEC
14772-1, VRML97, 6.23). Left out: transforms, prototypes, inlined files, colours, normals. One pass over the text.
"""
from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from Dataset.geometry.mesh import Mesh
from Dataset.io.mesh_readers.polygons import MAX_BYTES, fans, numbers, uv_per_vertex

_LEFT_OUT = re.compile(r"\b(Transform|PROTO|EXTERNPROTO|Inline|USE)\b")
#: strings and comments; one that is not closed reaches to the end, so that no part is read twice
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|#[^\n]*', re.DOTALL)


def read_vrml(path: str | os.PathLike[str]) -> Mesh:
    """A .wrl file -> the mesh of its face sets, one after the other; vertices keep the file's order. Polygons become
    fans. uv (V, 2) where every set has texture coordinates: of the first corner that uses a vertex.

    ValueError, naming file and rule: no VRML 2 text, no face set, a node that is left out, numbers that are none,
    corners that there are not.
    """
    path = Path(path)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: a .wrl file may have at most {MAX_BYTES >> 20} MB")
    text = path.read_text(encoding="latin-1")
    if not text.startswith("#VRML V2.0"):
        raise ValueError(f"{path}: must be VRML 2 text, which begins with '#VRML V2.0', got {text[:12]!r}")
    try:
        return _parsed(_TEXT.sub(" ", text))
    except ValueError as error:
        raise ValueError(f"{path}: must be VRML 2 text of face sets: {error}") from None


def _parsed(text: str) -> Mesh:
    left_out = _LEFT_OUT.search(text)
    if left_out:
        raise ValueError(f"{left_out.group(1)} is not read")
    sets = [_face_set(body) for body in _bodies(text, "IndexedFaceSet")]
    if not sets:
        raise ValueError("it has no IndexedFaceSet")
    vertices, triangles, uvs, count = [], [], [], 0
    for points, faces, uv in sets:
        triangles.append(faces + count)
        vertices.append(points)
        uvs.append(uv)
        count += len(points)
    all_uv = None if any(uv is None for uv in uvs) else np.concatenate(uvs)
    return Mesh(np.concatenate(vertices), np.concatenate(triangles), all_uv)


def _bodies(text: str, node: str) -> list[str]:
    """What stands between the braces of each node of this kind. ValueError where a brace is not closed."""
    found, end = [], 0
    for match in re.finditer(rf"\b{node}\s*\{{", text):
        if match.start() < end:             # within the last one
            continue
        depth = 1
        for brace in re.compile(r"[{}]").finditer(text, match.end()):
            depth += 1 if brace.group() == "{" else -1
            if depth == 0:
                end = brace.start()
                break
        if depth:
            raise ValueError(f"the braces of {node} are not closed")
        found.append(text[match.end():end])
    return found


def _face_set(body: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Vertices (V, 3), triangles (F, 3), uv (V, 2) or None."""
    words = _list(body, "coord", "point")
    if len(words) % 3:
        raise ValueError("coord must have three numbers a point")
    points = numbers(words, float, "coord").reshape(-1, 3)
    faces = _polygons(_list(body, "coordIndex"), "coordIndex")
    triangles, at = fans(faces, len(points))
    words = _list(body, "texCoord", "point", needed=False)
    if not words:
        return points, triangles, None
    if len(words) % 2:
        raise ValueError("texCoord must have two numbers a point")
    textures = numbers(words, float, "texCoord").reshape(-1, 2)
    own = _list(body, "texCoordIndex", needed=False)        # without it coordIndex counts (VRML97, 6.23)
    corners = _polygons(own, "texCoordIndex") if own else faces
    if [len(row) for row in corners] != [len(row) for row in faces]:
        raise ValueError("texCoordIndex must have the faces of coordIndex")
    flat = np.concatenate([np.asarray(row) for row in corners]) if len(corners) else np.zeros(0, np.int64)
    if flat.size and not 0 <= flat.min() <= flat.max() < len(textures):
        raise ValueError(f"texCoordIndex must name points 0 to {len(textures) - 1}, received {flat.min()} to "
                         f"{flat.max()}")
    return points, triangles, uv_per_vertex(len(points), triangles, textures[flat[at]])


def _list(body: str, field: str, inner: str = "", needed: bool = True) -> list[str]:
    """The words between the brackets behind a field, or behind `inner` in the node that is the field's value."""
    match = re.search(rf"\b{field}\b", body)
    if match is None:
        if needed:
            raise ValueError(f"a face set has no {field}")
        return []
    start = match.end()
    if inner:
        start = body.find(inner, start)
    opened = body.find("[", start) if start >= 0 else -1
    closed = body.find("]", opened) if opened >= 0 else -1
    if closed < 0 or body[match.end():opened].count("}"):
        raise ValueError(f"{field} has no list of numbers")
    return body[opened + 1:closed].replace(",", " ").split()


def _polygons(words: list[str], what: str) -> list[np.ndarray] | np.ndarray:
    """Indices that -1 ends, the last one perhaps not -> one row a polygon; an array where all have three corners."""
    indices = numbers(words, np.int64, what) if words else np.zeros(0, np.int64)
    if indices.size and indices[-1] != -1:
        indices = np.append(indices, -1)
    ended = indices == -1
    if indices.size % 4 == 0 and ended[3::4].all() and ended.sum() * 4 == indices.size:
        return indices.reshape(-1, 4)[:, :3]
    ends = np.flatnonzero(ended)
    return [row[row != -1] for row in np.split(indices, ends[:-1] + 1)] if ends.size else []
