"""Temporal stability of a face over the frames of a video with ground truth: jitter, and lag.

The metrics compare predicted and true keypoints, (T, K, 2) px of the frame; NaN in a frame in which the face was not
found. Lengths are in % of the face's size, sqrt(width x height) of its true keypoints in the frame, so that faces of
any size compare. Ronkainen 2017 shows videos frame by frame, without such a number; Endrawis 2018 smooths because boxes
and faces shake, and does not measure it.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np


MIN_MOTION = 0.2      # % of the face per frame, RMS: a face that moves less has no lag
DELAYS = (-2.0, 12.0)   # frames: range of lags that are tried
_STEP = 0.25


class Stability(NamedTuple):
    """found: fraction of the frames with visible keypoints in which the face was found; error: mean distance, %;
    jitter: mean frame-to-frame movement of a keypoint beyond its true movement, %; sigma: standard deviation of a
    keypoint's error over time, %; lag: delay of the predicted keypoints, ms, NaN where the face is still or was found
    too rarely; uv_jitter, uv_sigma: the same of the UV that is predicted at the true keypoint's pixel, in % of the UV
    square."""

    found: float
    error: float
    jitter: float
    sigma: float
    lag: float
    uv_jitter: float
    uv_sigma: float


def measure(predicted: np.ndarray, truth: np.ndarray, visible: np.ndarray | None = None, rate: float = 30.0,
            uv: np.ndarray | None = None, grid: bool = True) -> Stability:
    """Measure a video.

    predicted, truth  (T, K, 2) px
    visible  (T, K) bool: the keypoints that count; None: all
    rate     frames per second
    uv       (T, K, 2): the UV that a map predicts at the true keypoints' pixels, minus the true UV. None: computed from
             `predicted` by `uv_errors` where its keypoints are an ordered grid (`grid`), else NaN
    ValueError for other shapes.
    """
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if predicted.shape != truth.shape or truth.ndim != 3 or truth.shape[2] != 2 or not truth.size:
        raise ValueError(f"keypoints must be (T, K, 2), predicted and true, got {predicted.shape} and {truth.shape}")
    visible = np.ones(truth.shape[:2], bool) if visible is None else np.asarray(visible)
    if visible.shape != truth.shape[:2] or visible.dtype != bool:
        raise ValueError(f"visible must be {truth.shape[:2]} bool, got {visible.shape} {visible.dtype}")
    present, size = visible.any(1), face_size(truth)
    off = np.where(visible[..., None], predicted - truth, np.nan) / size[:, None, None] * 100
    found = np.isfinite(off).all(-1).any(1)
    if uv is None and grid:
        uv = uv_errors(predicted, truth)
    in_atlas = np.full_like(off, np.nan) if uv is None else np.where(visible[..., None], uv, np.nan) * 100
    return Stability(float(found[present].mean()) if present.any() else np.nan, _mean(_length(off)),
                     jitter(off), sigma(off), lag(predicted, truth, visible) / rate * 1e3, jitter(in_atlas),
                     sigma(in_atlas))


def face_size(truth: np.ndarray) -> np.ndarray:
    """sqrt(width x height) of the keypoints (T, K, 2) of each frame: (T,) px."""
    return np.sqrt(np.maximum(np.ptp(truth, axis=1).prod(-1), 1e-12))


def jitter(errors: np.ndarray) -> float:
    """Mean length of the frame-to-frame change of errors (T, K, 2), which is the movement beyond the true one; over
    keypoints that are finite in both frames. NaN where there are none."""
    return _mean(_length(np.diff(errors, axis=0)))


def sigma(errors: np.ndarray) -> float:
    """Root of the mean squared deviation of each keypoint's errors (T, K, 2) from their mean over time."""
    count = np.isfinite(errors).sum(0, keepdims=True)
    mean = np.where(np.isfinite(errors), errors, 0).sum(0, keepdims=True) / np.maximum(count, 1)
    return _mean(((errors - mean) ** 2).sum(-1)) ** 0.5


def lag(predicted: np.ndarray, truth: np.ndarray, visible: np.ndarray | None = None) -> float:
    """Frames by which predicted keypoints (T, K, 2) are late, to a fraction of a frame: the delay of the truth with the
    least squared difference, after each keypoint's mean difference is removed. NaN where the face moves less than
    MIN_MOTION, or was found in fewer than 8 frames."""
    steps = _length(np.diff(truth, axis=0)) / face_size(truth)[1:, None] * 100
    if visible is not None:
        predicted = np.where(visible[..., None], predicted, np.nan)
    known = np.isfinite(predicted).all(-1)
    if not np.isfinite(steps).any() or _mean(steps ** 2) ** 0.5 < MIN_MOTION:
        return float("nan")
    delays = np.arange(DELAYS[0], DELAYS[1] + _STEP / 2, _STEP)
    # frames that exist for every delay: all delays are compared on the same frames
    first, last = int(np.ceil(DELAYS[1])), len(truth) - int(np.ceil(-DELAYS[0]))
    if last - first < 8 or known[first:last].any(1).sum() < 8:
        return float("nan")
    misses = []
    for delay in delays:
        at = np.arange(first, last) - delay
        low = np.minimum(np.floor(at).astype(int), len(truth) - 2)
        part = (at - low)[:, None, None]
        errors = predicted[first:last] - ((1 - part) * truth[low] + part * truth[low + 1])
        misses.append(sigma(errors) ** 2)
    best = int(np.argmin(misses))
    if not 0 < best < len(delays) - 1:
        return float(delays[best])
    before, here, after = misses[best - 1:best + 2]
    bend = before - 2 * here + after
    return float(delays[best] + (_STEP * 0.5 * (before - after) / bend if bend > 0 else 0.0))


def uv_errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The UV that is predicted at the true keypoints' pixels minus the true UV, to first order: (T, K, 2), across and
    down, of ordered grids of keypoints (T, n * n, 2) px.

    NaN where the predicted surface is so oblique that a pixel spans a tenth of the UV square (the outline).
    """
    frames, count = truth.shape[:2]
    side = round(count ** 0.5)
    if side * side != count or side < 2:
        raise ValueError(f"keypoints must be an ordered grid, got {count} points")
    grid = predicted.reshape(frames, side, side, 2)
    down, across = (np.gradient(grid, axis=axis) * (side - 1) for axis in (1, 2))       # px per UV square
    miss = (truth - predicted).reshape(frames, side, side, 2)
    area = across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
    u = miss[..., 0] * down[..., 1] - miss[..., 1] * down[..., 0]
    v = across[..., 0] * miss[..., 1] - across[..., 1] * miss[..., 0]
    longest = np.maximum(np.hypot(*np.moveaxis(across, -1, 0)), np.hypot(*np.moveaxis(down, -1, 0)))
    flat = ~(area > 10 * longest)           # a pixel spans longest / area of the UV square
    return np.where(flat[..., None], np.nan, np.stack([u, v], -1) / np.where(flat, 1, area)[..., None]
                    ).reshape(frames, count, 2)


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt((vectors ** 2).sum(-1))


def _mean(values: np.ndarray) -> float:
    """Mean of the finite values; NaN where there is none."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else float("nan")
