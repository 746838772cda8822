"""Where a UV map shows given points of the UV square: the inverse of a map, to a fraction of a pixel."""
from __future__ import annotations

from typing import Iterator

import cv2
import numpy as np

JUMP = 0.1              # of the UV square's side: neighbouring pixels that differ by more show two surfaces
_PART = 1 << 19         # pairs that are processed together


def locate(uv: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where a map (H, W, 2) has the UV `wanted` (K, 2): (K, 2) float64 x, y, px, the first pixel's centre 0.5; NaN for
    UV that the map does not show.

    Four neighbouring pixels are two triangles in the UV square. The barycentric weights in the triangle that contains a
    UV give its position between the pixels. Triangles with a side of more than JUMP are skipped. Where noise folds the
    map, several triangles contain a UV: the result is their mean, flipped triangles with weight -1, which is continuous
    when a fold appears or vanishes.
    """
    uv, wanted = np.asarray(uv, np.float32), np.asarray(wanted, np.float64)
    if uv.ndim != 3 or uv.shape[2] != 2 or wanted.ndim != 2 or wanted.shape[1] != 2:
        raise ValueError(f"locate takes a map (H, W, 2) and uv (K, 2), got {uv.shape} and {wanted.shape}")
    result = np.full((len(wanted), 2), np.nan)
    if len(wanted) == 0 or min(uv.shape[:2]) < 2:
        return result
    found, turns = np.zeros((len(wanted), 2)), np.zeros(len(wanted))
    for row, column, number in _candidates(uv, wanted):
        for sign, position, held in _triangles(uv, wanted, row, column, number):
            turns += np.bincount(held, sign, len(wanted))
            for axis in range(2):
                found[:, axis] += np.bincount(held, sign * position[:, axis], len(wanted))
    shown = turns != 0
    result[shown] = found[shown] / turns[shown][:, None]
    return result


def _triangles(uv: np.ndarray, wanted: np.ndarray, row: np.ndarray, column: np.ndarray, number: np.ndarray
               ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The pairs (quad's first pixel, UV) in one of the two triangles: sign of its area, x and y, index of the UV."""
    for corners in (((0, 0), (0, 1), (1, 0)), ((1, 1), (1, 0), (0, 1))):        # (down, right), both turned alike
        a, b, c = (uv[row + down, column + right].astype(np.float64) for down, right in corners)
        (bx, by), (cx, cy), (px, py) = (b - a).T, (c - a).T, (wanted[number] - a).T
        area = bx * cy - by * cx
        with np.errstate(divide="ignore", invalid="ignore"):
            second, third = (px * cy - py * cx) / area, (bx * py - by * px) / area
            inside = (second >= 0) & (third >= 0) & (second + third <= 1)
        weights = np.stack([1 - second - third, second, third], -1)[inside]
        offsets = weights @ np.array([(right + 0.5, down + 0.5) for down, right in corners])
        yield np.sign(area[inside]), offsets + np.stack([column[inside], row[inside]], -1), number[inside]


def _candidates(uv: np.ndarray, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs (quad, wanted UV) whose boxes intersect, in parts of bounded size: row and column of the quad's first
    pixel, index of the UV."""
    cells = int(np.clip(8 * np.sqrt(len(wanted)), 8, 512))                      # per side; most are empty
    cell = np.clip((wanted * cells).astype(np.int64), 0, cells - 1)
    counts = np.zeros((cells + 1, cells + 1), np.int32)
    np.add.at(counts, (cell[:, 0] + 1, cell[:, 1] + 1), 1)
    counts = counts.cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32)
    kernel, planes, smooth = np.ones((2, 2), np.uint8), [], True
    for plane in cv2.split(uv):             # planes: numpy is slow on a last axis of two
        plane = cv2.patchNaNs(plane.copy(), 9) * np.float32(cells)              # 9 is a jump from anywhere
        low, high = (f(plane, kernel, anchor=(0, 0))[:-1, :-1] for f in (cv2.erode, cv2.dilate))
        smooth = smooth & (high - low <= JUMP * cells)
        planes += [np.clip(edge, 0, cells - 1, out=edge).astype(np.int32) for edge in (low, high)]
    (u0, u1, v0, v1), flat, side = planes, counts.ravel(), cells + 1
    upper, lower = (u1 + 1) * side + 1, u0 * side
    number = flat[upper + v1] - flat[lower + v1 + 1] - flat[upper + v0 - 1] + flat[lower + v0]
    order = np.argsort(cell[:, 0] * cells + cell[:, 1], kind="stable")
    held = np.bincount(cell[:, 0] * cells + cell[:, 1], minlength=cells * cells)
    starts = np.concatenate([[0], np.cumsum(held)])
    rows, columns = np.nonzero((number > 0) & smooth)
    work = np.cumsum(((u1 - u0 + 1) * (v1 - v0 + 1) + number)[rows, columns], dtype=np.int64)
    for part in np.split(np.arange(len(rows)), np.searchsorted(work, np.arange(_PART, work[-1:].sum(), _PART))):
        row, column = rows[part], columns[part]
        wide, tall = ((a - b)[row, column] + 1 for a, b in ((u1, u0), (v1, v0)))
        which, step = _expanded(wide * tall)                # every cell of a quad's box
        bucket = (u0[row, column][which] + step // tall[which]) * cells + v0[row, column][which] + step % tall[which]
        pair, step = _expanded(held[bucket])                # every UV of a cell
        which = which[pair]
        yield row[which], column[which], order[starts[bucket[pair]] + step]


def _expanded(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """counts (n,) -> each index as often as its count, and the number 0, 1, ... within it."""
    index = np.repeat(np.arange(len(counts)), counts)
    return index, np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
