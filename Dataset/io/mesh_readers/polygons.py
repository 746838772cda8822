"""What the readers of mesh files share: bounds, lines, polygons to triangles, and corners' texture coordinates to
vertices."""
from __future__ import annotations

from typing import IO, AnyStr, Iterator, Sequence

import numpy as np

MAX_BYTES = 1 << 30             # of a file
MAX_LINE = 1 << 20              # characters of a line of text, measured before it is cut into words
MAX_CORNERS = 10_000            # of a face


def lines_of(file: IO[AnyStr]) -> Iterator[AnyStr]:
    """The lines of an open file, with their ends; one at a time is in memory. ValueError for one of more than MAX_LINE
    characters."""
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise ValueError(f"a line may have at most {MAX_LINE} characters")
        yield line


def fans(polygons: Sequence[Sequence[int]] | np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Polygons of vertices 0 to count - 1 -> their fans: triangles (F, 3) int64, and (F, 3) int64 which corner each one
    has in the row of all polygons' corners, one polygon after the other.

    ValueError for fewer than 3 corners, for more than MAX_CORNERS, and for corners that there are not.
    """
    lengths = np.array([len(row) for row in polygons], np.int64)
    if not len(lengths):
        return np.zeros((0, 3), np.int64), np.zeros((0, 3), np.int64)
    if lengths.min() < 3:
        raise ValueError(f"a face must have at least 3 corners, received {lengths.min()}")
    if lengths.max() > MAX_CORNERS:
        raise ValueError(f"a face may have at most {MAX_CORNERS} corners, received {lengths.max()}")
    corners = np.asarray(polygons) if isinstance(polygons, np.ndarray) else np.concatenate(
        [np.asarray(row, np.float64) for row in polygons])
    corners = corners.reshape(-1)
    wrong = ~((corners >= 0) & (corners < count)) | (corners != np.floor(corners))
    if wrong.any():
        raise ValueError(f"a face's corners must be vertices 0 to {count - 1}, received {corners[wrong][0]:g}")
    start = np.repeat(np.cumsum(lengths) - lengths, lengths - 2)
    second = np.concatenate([np.arange(1, length - 1) for length in lengths]) if lengths.max() > 3 \
        else np.ones(len(lengths), np.int64)
    at = np.stack([start, start + second, start + second + 1], axis=1)
    return corners.astype(np.int64)[at], at


def uv_per_vertex(count: int, triangles: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Texture coordinates of each triangle's corners (3F, 2) -> (count, 2): of the first corner that uses a vertex, NaN
    of a vertex without triangles."""
    uv = np.full((count, 2), np.nan)
    used, first = np.unique(triangles.ravel(), return_index=True)
    uv[used] = corners.reshape(-1, 2)[first]
    return uv


def numbers(words: Sequence[str], kind: type, what: str) -> np.ndarray:
    """Words -> an array of a kind. ValueError names the first that is no such number; 1_0 and digits of other
    scripts are some to Python alone."""
    strange = next((word for word in words if "_" in word or not word.isascii()), None)
    if strange is not None:
        raise ValueError(f"{what} must be numbers, received {str(strange)[:20]!r}")
    try:
        found = np.array(words, kind)
    except (ValueError, OverflowError):
        for word in words:
            try:
                np.array([word], kind)
            except (ValueError, OverflowError):
                raise ValueError(f"{what} must be numbers, received {str(word)[:20]!r}") from None
        raise
    if not np.isfinite(found).all():
        raise ValueError(f"{what} must be finite numbers, received {words[int(np.argmin(np.isfinite(found)))][:20]!r}")
    return found
