"""How steady a face is over the frames of a video whose truth is known, and how far it trails behind.

Points are followed on the true face: (T, K, 2) px of the frame, as a network shows them and as they are; NaN in a frame
in which the face was not found. A length is given in % of the face, sqrt(width x height) of its true points in the
picture, so that faces of any size compare. Ronkainen 2017 looks at videos frame by frame and gives no such number;
Endrawis 2018 smooths because boxes and faces shake, and measures nothing.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from Dataset.representations.points import SIZE
from Dataset.representations.uvmap import grid_uv

MIN_MOTION = 0.2      # % of the face a frame, RMS: a truth that rests more than that has no delay
DELAYS = (-2.0, 12.0)   # frames that are tried
_STEP = 0.25


class Stability(NamedTuple):
    """found: share of the frames with points in which the face was found; error: mean distance, %; jitter: mean of how
    much a point moves from frame to frame beyond its true movement, %; spread: root of the mean squared deviation of a
    point's error from its own mean over time, %; lag: ms by which the shown points trail, NaN where the truth rests or
    too little was found; uv_jitter, uv_spread: as jitter and spread, of the place in the atlas that is shown at the
    true point's pixel, in % of the atlas's side."""

    found: float
    error: float
    jitter: float
    sigma: float
    lag: float
    uv_jitter: float
    uv_sigma: float


def measure(shown: np.ndarray, truth: np.ndarray, visible: np.ndarray | None = None, rate: float = 30.0,
            uv: np.ndarray | None = None, grid: bool = True) -> Stability:
    """shown, truth (T, K, 2) px; visible (T, K) bool: what counts, None: all; rate: frames a second; uv (T, K, 2): the
    place in the atlas that a map shows at the true points' pixels, less the true one; None: from `shown`, which then
    must be an ordered grid of places (`grid`), else NaN. ValueError for other shapes."""
    shown, truth = np.asarray(shown, np.float64), np.asarray(truth, np.float64)
    if shown.shape != truth.shape or truth.ndim != 3 or truth.shape[2] != 2 or not truth.size:
        raise ValueError(f"points must be (T, K, 2), shown and true, got {shown.shape} and {truth.shape}")
    visible = np.ones(truth.shape[:2], bool) if visible is None else np.asarray(visible)
    if visible.shape != truth.shape[:2] or visible.dtype != bool:
        raise ValueError(f"visible must be {truth.shape[:2]} bool, got {visible.shape} {visible.dtype}")
    there, size = visible.any(1), face_size(truth)
    off = np.where(visible[..., None], shown - truth, np.nan) / size[:, None, None] * 100
    found = np.isfinite(off).all(-1).any(1)
    if uv is None and grid:
        uv = uv_errors(shown, truth)
    in_atlas = np.full_like(off, np.nan) if uv is None else np.where(visible[..., None], uv, np.nan) * 100
    return Stability(float(found[there].mean()) if there.any() else np.nan, _mean(_length(off)),
                     jitter(off), sigma(off), lag(shown, truth, visible) / rate * 1e3, jitter(in_atlas),
                     sigma(in_atlas))


def face_size(truth: np.ndarray) -> np.ndarray:
    """sqrt(width x height) of the points (T, K, 2) of each frame: (T,) px."""
    return np.sqrt(np.maximum(np.ptp(truth, axis=1).prod(-1), 1e-12))


def jitter(errors: np.ndarray) -> float:
    """Mean length of the change from frame to frame of errors (T, K, 2), which is the movement beyond the true one;
    over points that are there in both frames. NaN where there are none."""
    return _mean(_length(np.diff(errors, axis=0)))


def sigma(errors: np.ndarray) -> float:
    """Root of the mean squared deviation of each point's errors (T, K, 2) from their own mean over time."""
    count = np.isfinite(errors).sum(0, keepdims=True)
    mean = np.where(np.isfinite(errors), errors, 0).sum(0, keepdims=True) / np.maximum(count, 1)
    return _mean(((errors - mean) ** 2).sum(-1)) ** 0.5


def lag(shown: np.ndarray, truth: np.ndarray, visible: np.ndarray | None = None) -> float:
    """Frames by which (T, K, 2) trail: the delay of the truth that brings both nearest to each other in the least
    squares sense, each point's mean difference taken away; to a fraction of a frame. NaN where the truth hardly moves,
    or fewer than 8 frames are known."""
    steps = _length(np.diff(truth, axis=0)) / face_size(truth)[1:, None] * 100
    if visible is not None:
        shown = np.where(visible[..., None], shown, np.nan)
    known = np.isfinite(shown).all(-1)
    if not np.isfinite(steps).any() or _mean(steps ** 2) ** 0.5 < MIN_MOTION:
        return float("nan")
    delays = np.arange(DELAYS[0], DELAYS[1] + _STEP / 2, _STEP)
    # frames that every delay can look at, so that all are judged by the same ones
    first, last = int(np.ceil(DELAYS[1])), len(truth) - int(np.ceil(-DELAYS[0]))
    if last - first < 8 or known[first:last].any(1).sum() < 8:
        return float("nan")
    misses = []
    for delay in delays:
        at = np.arange(first, last) - delay
        low = np.minimum(np.floor(at).astype(int), len(truth) - 2)
        part = (at - low)[:, None, None]
        errors = shown[first:last] - ((1 - part) * truth[low] + part * truth[low + 1])
        misses.append(sigma(errors) ** 2)
    best = int(np.argmin(misses))
    if not 0 < best < len(delays) - 1:
        return float(delays[best])
    before, here, after = misses[best - 1:best + 2]
    bend = before - 2 * here + after
    return float(delays[best] + (_STEP * 0.5 * (before - after) / bend if bend > 0 else 0.0))


def uv_errors(shown: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Which place of the atlas is shown at the true points' pixels, less the true place, to first order: (T, K, 2) in
    the atlas's sides (across, down), of ordered grids of places (T, n * n, 2) px.

    Where the shown grid is seen so flatly that a pixel spans a tenth of the atlas (the outline), NaN.
    """
    frames, count = truth.shape[:2]
    side = round(count ** 0.5)
    if side * side != count or side < 2:
        raise ValueError(f"places must be an ordered grid, got {count} points")
    grid = shown.reshape(frames, side, side, 2)
    down, across = (np.gradient(grid, axis=axis) * (side - 1) for axis in (1, 2))       # px for a whole atlas
    miss = (truth - shown).reshape(frames, side, side, 2)
    area = across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
    u = miss[..., 0] * down[..., 1] - miss[..., 1] * down[..., 0]
    v = across[..., 0] * miss[..., 1] - across[..., 1] * miss[..., 0]
    longest = np.maximum(np.hypot(*np.moveaxis(across, -1, 0)), np.hypot(*np.moveaxis(down, -1, 0)))
    flat = ~(area > 10 * longest)           # 1 px / (area / longest) is the atlas that a pixel spans
    return np.where(flat[..., None], np.nan, np.stack([u, v], -1) / np.where(flat, 1, area)[..., None]
                    ).reshape(frames, count, 2)


def sample_map(uv: np.ndarray, box: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A map (S, S, 2), NaN off the face, of a crop whose square is box (x, y, side) px, at points (K, 2) px of the
    frame: (K, 2) float64, bilinear; NaN where one of the four pixels around is off the face or the map."""
    size = len(uv)
    places = (np.asarray(points, np.float64) - np.asarray(box)[:2]) / box[2] * size - 0.5
    low = np.floor(places).astype(int)
    inside = ((low >= 0) & (low < size - 1)).all(-1)
    low = np.where(inside[:, None], low, 0)
    x, y = (places - low).T[..., None]
    (left, top), values = low.T, np.asarray(uv, np.float64)
    found = ((1 - x) * (1 - y) * values[top, left] + x * (1 - y) * values[top, left + 1]
             + (1 - x) * y * values[top + 1, left] + x * y * values[top + 1, left + 1])
    return np.where(inside[:, None], found, np.nan)


def grid_atlas(side: int = 16) -> np.ndarray:
    """True places u, v (side * side, 2) in the atlas of an ordered grid's points."""
    steps = np.arange(side) * (SIZE - 1) / (side - 1)
    return grid_uv(np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2))


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt((vectors ** 2).sum(-1))


def _mean(values: np.ndarray) -> float:
    """Of what is finite; NaN where nothing is."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else float("nan")
