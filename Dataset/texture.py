"""The texture of an ordered-grid face, taken from a photo.

The natural uv of grid point (row, column) is its place in the grid, so the texture is the photo pulled through the
grid: no unwrapping, and what the photo does not show is one mirror image away, since column c and column n - 1 - c are
the same place on the other half of the face.
"""
from __future__ import annotations

import cv2
import numpy as np

LIGHT_CELLS = 16    # cells a side in which the light of the two halves is compared
FEATHER = 6.0       # texels at 512: width of the passage from the photo to what was filled in


def grid_uv(size: int) -> np.ndarray:
    """Texture coordinates (size * size, 2) float64 of the grid's points, row by row; v points up.

    u = (column + 1/2) / size, v = 1 - (row + 1/2) / size: with half a cell of margin no bilinear reader reaches beyond
    the rim, and a texture of size x size pixels holds exactly one colour a point.
    """
    if size < 2:
        raise ValueError(f"a grid needs at least 2 points a side, received {size}")
    row, column = np.divmod(np.arange(size * size), size)
    return np.stack([(column + 0.5) / size, 1 - (row + 0.5) / size], 1)


def grid_texture(photo: np.ndarray, places: np.ndarray, visible: np.ndarray | None = None,
                 size: int = 512) -> np.ndarray:
    """The texture (size, size, 3) uint8 BGR for `grid_uv`, from one photo.

    photo    (H, W, 3) uint8 BGR
    places   (n, n, 2) pixel coordinates (x, y) in the photo of every grid point; NaN where there is none
    visible  (n, n) bool, whether the photo shows the point; None: all. A good test where the camera is known is a ray
             (`Dataset.raycast`); without one, that the normal points to the camera (its z in the head frame > 0.2 for a
             frontal photo). Points outside the photo count as not visible.

    What is not visible is the mirrored half of the face where that is visible, brought to the light of its
    surroundings, and elsewhere a smooth continuation. ValueError for other shapes, or when no point is visible.
    """
    places, photo = np.asarray(places), np.asarray(photo)
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or not photo.size:
        raise ValueError(f"photo: must be (H, W, 3) uint8, got {photo.shape} {photo.dtype}")
    if places.ndim != 3 or places.shape[2] != 2 or places.shape[0] != places.shape[1] or len(places) < 2:
        raise ValueError(f"places: must be (n, n, 2), got {places.shape}")
    if visible is not None and np.shape(visible) != places.shape[:2]:
        raise ValueError(f"visible: must be {places.shape[:2]}, got {np.shape(visible)}")
    if not 2 <= size <= 8192:
        raise ValueError(f"a texture's size must be 2 to 8192, received {size!r}")
    height, width = photo.shape[:2]
    with np.errstate(invalid="ignore"):
        inside = np.all((places >= 0) & (places <= (width, height)), axis=2)        # NaN is not
    shown = inside if visible is None else inside & np.asarray(visible, bool)
    if not shown.any():
        raise ValueError("visible: no point of the grid is visible in the photo")
    colours, weight = _pull(photo, np.where(inside[..., None], places, 0), shown, size)
    return np.round(fill(colours, weight)).clip(0, 255).astype(np.uint8)


def _pull(photo: np.ndarray, places: np.ndarray, shown: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The photo at every texel (size, size, 3) float32, and where it counts: (size, size) float32 in [0, 1]."""
    step = np.linalg.norm(np.diff(places, axis=1), axis=2)[shown[:, 1:] & shown[:, :-1]]
    texel = np.median(step) * len(places) / size if step.size else 1.0      # photo pixels a texel
    photo, places = _shrink(photo, places, texel)
    # cv2.resize keeps pixel edges in place, as grid_uv does: texel t lies at grid place (t + 1/2) n / size - 1/2
    at = cv2.resize(places.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR) - np.float32(0.5)
    colours = cv2.remap(photo, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    whole = cv2.resize(shown.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR) > 0.999
    if whole.all():
        return colours, np.ones((size, size), np.float32)
    if not whole.any():         # single visible points, none with visible neighbours
        whole = cv2.resize(shown.astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST) > 0
    # the passage lies inside what is visible; the texture's own rim is no border of it
    padded = cv2.copyMakeBorder(whole.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    return colours, np.minimum(distance / max(1.0, FEATHER * size / 512), 1).astype(np.float32)


def _shrink(photo: np.ndarray, places: np.ndarray, texel: float) -> tuple[np.ndarray, np.ndarray]:
    """Average the photo down where a texel spans several of its pixels: one sample of them would be noise."""
    if texel < 1.5:
        return photo, places
    height, width = photo.shape[:2]
    small = max(1, round(width / texel)), max(1, round(height / texel))
    return cv2.resize(photo, small, interpolation=cv2.INTER_AREA), places * (small[0] / width, small[1] / height)


def fill(colours: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A texture without holes, (S, S, 3) float32, from colours (S, S, 3) float32 that count by weight (S, S) in [0, 1].

    Where the weight is below 1: the mirrored half in the light of this one, then a smooth continuation.
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
    soft = _continue(mixed, total)
    return np.where(known[..., None], mixed, total[..., None] * mixed + (1 - total[..., None]) * soft)


def _light_between(colours: np.ndarray, other: np.ndarray, both: np.ndarray) -> np.ndarray:
    """Logarithm (S, S, 3) of how much brighter `colours` are than `other`, known where `both` (S, S) is large.

    From the means of large cells: light is smooth, while an eyelid that lies two texels beside its twin is not light.
    """
    cells = (min(LIGHT_CELLS, len(both)),) * 2
    ours, theirs = (cv2.resize(c * both[..., None], cells, interpolation=cv2.INTER_AREA) for c in (colours, other))
    mass = cv2.resize(both, cells, interpolation=cv2.INTER_AREA)
    ratio = np.log(np.maximum(ours, 1e-6) / np.maximum(theirs, 1e-6))
    smooth = _continue(np.clip(ratio, -0.7, 0.7), np.where(mass > 0.25, 1, 0).astype(np.float32))
    return cv2.resize(smooth, both.shape[::-1], interpolation=cv2.INTER_LINEAR)


def _continue(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
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
