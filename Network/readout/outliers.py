"""Keypoints that are wrong: regions, replaced by what their neighbours predict, and independent noise of all of them.

Where keypoints lie beside the mean face is a smooth field on their 16x16 grid. Its covariance over training photos
predicts each 3x3 block from all other keypoints (leave-block-out prediction of a normal distribution, Rasmussen and
Williams 2006, equation 5.12, for a block); a block far off that is taken out, the worst first, until all agree. The
field of a photo whose keypoints have independent errors is rougher than that: their variance is that of greatest
likelihood (the same book, equation 5.8).
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

SIDE, BLOCK = 16, 3
MAX_OUT = 0.5           # of the keypoints at most are taken out
#: mean square in standard deviations: of a keypoint alone that is nowhere near, of a block, of a keypoint alone. Of the
#: keypoints of 1,024 synthetic validation photos none exceeds the last two (docs/results.md)
LIMITS = (400.0, 14.0, 45.0)
#: mean square of a whole field in standard deviations, above which its keypoints are noisy: 2.98 at most on
#: 1,024 synthetic validation photos (docs/results.md)
MISFIT = 3.0
VARIANCES = np.geomspace(1e-3, 1e4, 71)        # of the noise that are tried, squared units of the field
AFFINE = 25.0           # variance of affine changes of the field: which camera it was measured with must not matter


def precision_of(second_moment: np.ndarray, template: np.ndarray) -> np.ndarray:
    """second_moment (K, K): mean of f f^T over training photos and both coordinates of their fields f; template (K, 3)
    -> (K, K) float64, the inverse covariance, for which affine changes are likely."""
    affine = np.pad(template, ((0, 0), (0, 1)), constant_values=1.0)
    floor = 1e-6 * np.trace(second_moment) / len(second_moment)
    return np.linalg.inv(second_moment + AFFINE * affine @ affine.T + floor * np.eye(len(template)))


class Cleaned(NamedTuple):
    """field (K, 2): what was received, outliers replaced; inliers (K,) bool; misfit: the largest block's statistic that
    was left, mean square in standard deviations, about 1 where all is well."""

    field: np.ndarray
    inliers: np.ndarray
    misfit: float


def blocks() -> np.ndarray:
    """(196, 9) int64: the keypoints of every 3x3 block of the grid."""
    corners = (np.arange(SIDE - BLOCK + 1)[:, None] * SIDE + np.arange(SIDE - BLOCK + 1)).ravel()
    inside = (np.arange(BLOCK)[:, None] * SIDE + np.arange(BLOCK)).ravel()
    return corners[:, None] + inside


def misfits(precision: np.ndarray, field: np.ndarray, which: np.ndarray) -> np.ndarray:
    """How far each block lies off its prediction: mean square per coordinate, in standard deviations.

    precision (n, n): inverse covariance; field (n, C); which (B, b): the blocks' keypoints -> (B,). Of normal fields
    the mean is 1.
    """
    weighted = (precision @ field)[which]                                                     # (B, b, C)
    own = precision[which[:, :, None], which[:, None, :]]                                   # (B, b, b)
    return np.einsum("bkc,bkc->b", weighted, np.linalg.solve(own, weighted)) / weighted[0].size


def clean(field: np.ndarray, precision: np.ndarray, limits: tuple[float, float, float] = LIMITS) -> Cleaned:
    """field (K, C) on the 16x16 grid, precision (K, K) of each of its coordinates; limits: of `misfits`, in
    turn for keypoints alone, blocks, and keypoints alone -> the field, outliers replaced by what the others predict."""
    single = np.arange(len(field))[:, None]
    left, known, inside = precision.copy(), field.copy(), np.ones(len(field), bool)
    for which, limit in zip((single, blocks(), single), limits):
        while True:
            # a removed keypoint has precision 1 and value 0: it does not affect the others and is no outlier itself
            off = misfits(left, known, which)
            worst = int(np.argmax(off))
            if off[worst] <= limit or (~inside).mean() >= MAX_OUT:
                break
            gone = which[worst][inside[which[worst]]]
            inside[gone], known[gone] = False, 0.0
            link = left[:, gone]
            left = left - link @ np.linalg.solve(left[np.ix_(gone, gone)], link.T)
            left[gone, :] = left[:, gone] = 0.0
            left[gone, gone] = 1.0
    out, filled = ~inside, field.copy()
    if out.any():
        weighted = precision[np.ix_(out, inside)] @ field[inside]
        filled[out] = -np.linalg.solve(precision[np.ix_(out, out)], weighted)
    return Cleaned(filled, inside, float(off[worst]))


def noise_variance(field: np.ndarray, precision: np.ndarray) -> float:
    """Variance of independent errors of a field (K, C), precision (K, K) of each of its coordinates: 0 where the field
    fits (MISFIT), else that of VARIANCES under which the field is likeliest."""
    if np.vdot(field, precision @ field) / field.size <= MISFIT:
        return 0.0
    values, basis = np.linalg.eigh(precision)
    power, variances = np.square(basis.T @ field).mean(axis=-1), 1 / values + VARIANCES[:, None]        # (V, K)
    return float(VARIANCES[np.argmin((np.log(variances) + power / variances).sum(axis=-1))])
