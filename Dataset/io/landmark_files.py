"""The 68 landmarks of a face as a file: .pts (text, as iBUG's, with three columns) or .json.

Row i is landmark i in Multi-PIE order, 0-based as everywhere here (docs/conventions.md). Coordinates keep the unit of
the mesh that they belong to.
"""
from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from Dataset.io.atomic import write_text
from Dataset.io.json_files import parse_json

COUNT = 68
ORDER = "Multi-PIE 68"
SUFFIXES = (".pts", ".json")
MAX_BYTES = 1 << 20     # 68 rows take 4 kB; a longer file is no landmark file


def write_landmarks(path: str | os.PathLike[str], landmarks: np.ndarray) -> None:
    """Write (68, 3) landmarks atomically, with 6 decimals; the ending chooses the format.

    ValueError for another ending, another shape, or coordinates that are not finite.
    """
    path = _checked(path)
    landmarks = np.asarray(landmarks, float)
    if landmarks.shape != (COUNT, 3) or not np.isfinite(landmarks).all():
        raise ValueError(f"{path}: landmarks are written from ({COUNT}, 3) finite coordinates, got {landmarks.shape}")
    if path.suffix.lower() == ".pts":
        rows = ["%.6f %.6f %.6f" % tuple(row) for row in landmarks]
        text = "\n".join(["version: 1", f"n_points: {COUNT}", "{", *rows, "}", ""])
    else:
        rows = ["[%.6f, %.6f, %.6f]" % tuple(row) for row in landmarks]
        text = f'{{"order": "{ORDER}", "points": [\n' + ",\n".join(rows) + "\n]}\n"
    write_text(path, text)


def read_landmarks(path: str | os.PathLike[str]) -> np.ndarray:
    """(68, 3) float64 of a file that `write_landmarks` wrote. ValueError, with the file's name, for any other."""
    path = _checked(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: a landmark file has at most {MAX_BYTES} bytes, this has {path.stat().st_size}")
    try:
        text = path.read_text("utf-8")
        rows = _pts_rows(text) if path.suffix.lower() == ".pts" else parse_json(text, path.name)["points"]
        points = np.array([[float(value) for value in row] for row in rows])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{path}: must hold {COUNT} landmarks ({type(error).__name__}: "
                         f"{' '.join(str(error).split())[:80]})") from None
    if points.shape != (COUNT, 3) or not np.isfinite(points).all():
        raise ValueError(f"{path}: must hold ({COUNT}, 3) finite coordinates, got {points.shape}")
    return points


def _pts_rows(text: str) -> list[list[str]]:
    head, _, rest = text.partition("{")
    body, end, _ = rest.partition("}")
    if not head.startswith("version:") or not end:
        raise ValueError("a .pts file begins with 'version:' and has its rows between { and }")
    if "_" in body or not body.isascii():       # Python takes 1_0 and digits of other scripts for numbers
        raise ValueError("its rows must be numbers")
    return [line.split() for line in body.splitlines() if line.strip()]


def _checked(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: landmarks are kept as {' or '.join(SUFFIXES)}, got {path.suffix or 'no ending'!r}")
    return path
