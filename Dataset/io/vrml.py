"""Texture coordinates of a VRML 2 file, read from its text.

MeshLab reads the geometry of .wrl files, but drops the texture coordinates without a word when the image that
the file names is not beside it.
"""
from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np


def texture_corners(path: str | os.PathLike[str]) -> np.ndarray | None:
    """Texture coordinates of each triangle's corners -> (3F, 2) float64 in [0, 1], v up; None without any.

    Read for files of one shape made of triangles; None for others. Where `texCoordIndex` is missing,
    `coordIndex` counts, as VRML 97 says (section 6.23).
    """
    text = re.sub(r"#[^\n]*", "", Path(path).read_text(encoding="latin-1"))
    blocks = re.findall(r"\btexCoord\b[^\[\]]*\bpoint\s*\[([^\]]*)\]", text)
    indices = re.findall(r"\btexCoordIndex\s*\[([^\]]*)\]", text) \
        or re.findall(r"\bcoordIndex\s*\[([^\]]*)\]", text)
    if len(blocks) != 1 or len(indices) != 1:
        return None
    try:
        points = np.array(blocks[0].replace(",", " ").split(), np.float64).reshape(-1, 2)
        faces = np.array(indices[0].replace(",", " ").split() or [-1], np.int64)
        faces = np.append(faces, -1) if faces[-1] != -1 else faces
        faces = faces.reshape(-1, 4)
    except ValueError:
        return None
    corners = faces[:, :3]
    if (faces[:, 3] != -1).any() or corners.size == 0 or corners.min() < 0 or corners.max() >= len(points):
        return None
    return points[corners].reshape(-1, 2)
