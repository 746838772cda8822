"""The texture of an ordered-grid face, and how its gaps are filled.

The uv coordinates of a grid point are its row and column: no unwrapping is needed. Columns c and n - 1 - c are mirror
images of each other, so that a part which a photo does not show can be copied from the other half of the face.
"""
from __future__ import annotations

import cv2
import numpy as np

LIGHT_CELLS = 16    # cells a side in which the brightness of the two halves is compared


def grid_uv(size: int) -> np.ndarray:
    """Texture coordinates (size * size, 2) float64 of the grid's points, row by row; v points up.

    u = (column + 1/2) / size, v = 1 - (row + 1/2) / size: with half a cell of margin no bilinear reader reaches beyond
    the boundary, and a texture of size x size pixels holds exactly one colour a point.
    """
    if size < 2:
        raise ValueError(f"a grid needs at least 2 points a side, received {size}")
    row, column = np.divmod(np.arange(size * size), size)
    return np.stack([(column + 0.5) / size, 1 - (row + 0.5) / size], 1)


def fill(colours: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Fill the holes of a texture: colours (S, S, 3) float32, weight (S, S) in [0, 1] -> (S, S, 3) float32.

    Where the weight is below 1, the mirrored half is blended in, its brightness matched to this half; what is still
    missing is continued smoothly.
    """
    if weight.min() == 1:
        return colours
    other, seen = colours[:, ::-1], weight[:, ::-1]
    both = weight * seen
    if both.max() > 0.25:       # how much brighter this half is than the other, continued smoothly over the face
        other = (other + 8) * np.exp(_light_between(colours + 8, other + 8, both)) - 8
    mixed = weight[..., None] * colours + ((1 - weight) * seen)[..., None] * other
    total = weight + (1 - weight) * seen
    mixed = mixed / np.maximum(total, 1e-6)[..., None]
    known = total > 0.999
    soft = push_pull(mixed, total)
    return np.where(known[..., None], mixed, total[..., None] * mixed + (1 - total[..., None]) * soft)


def _light_between(colours: np.ndarray, other: np.ndarray, both: np.ndarray) -> np.ndarray:
    """Logarithm (S, S, 3) of how much brighter `colours` are than `other`, known where `both` (S, S) is large.

    Computed from the means of large cells, since light is smooth; an eyelid two texels off its mirror image is not
    light.
    """
    cells = (min(LIGHT_CELLS, len(both)),) * 2
    ours, theirs = (cv2.resize(c * both[..., None], cells, interpolation=cv2.INTER_AREA) for c in (colours, other))
    mass = cv2.resize(both, cells, interpolation=cv2.INTER_AREA)
    ratio = np.log(np.maximum(ours, 1e-6) / np.maximum(theirs, 1e-6))
    smooth = push_pull(np.clip(ratio, -0.7, 0.7), np.where(mass > 0.25, 1, 0).astype(np.float32))
    return cv2.resize(smooth, both.shape[::-1], interpolation=cv2.INTER_LINEAR)


def push_pull(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Values (S, T, C) float32 where `weight` (S, T) is 1, elsewhere a smooth continuation of them ("pull-push").

    Weighted means over ever larger cells, until every cell has some, then back down: what a cell lacks in weight it
    takes from its parents. One whole pixel is enough for a cell, so that a hole is filled from its surroundings (after
    Gortler et al. 1996, The Lumigraph, section 3.4). Cost linear in the pixels, whatever the hole's size.
    """
    levels = [(values, weight)]
    while max(weight.shape) > 1 and weight.min() < 1:
        target = tuple(max(1, (n + 1) // 2) for n in weight.shape[::-1])
        total = cv2.resize(values * weight[..., None], target, interpolation=cv2.INTER_AREA)
        mean = cv2.resize(weight, target, interpolation=cv2.INTER_AREA).reshape(target[::-1])
        values = total.reshape(*target[::-1], -1) / np.maximum(mean, 1e-12)[..., None]
        weight = np.minimum(4 * mean, 1)
        levels.append((values, weight))
    result = levels.pop()[0]
    for values, weight in reversed(levels):
        above = cv2.resize(result, weight.shape[::-1], interpolation=cv2.INTER_LINEAR).reshape(values.shape)
        result = np.where(weight[..., None] > 0, above + weight[..., None] * (values - above), above)
    return result
