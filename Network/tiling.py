"""A photo of any size through a network that answers per pixel, without a detector: overlapping tiles at several scales
(Ronneberger et al. 2015's overlap-tile strategy, which Ronkainen 2017, 4.5.2, wants tried on large faces).

The network was trained on crops that a face all but fills. A tile at one scale is such a crop for faces of one size, so
each scale finds its own; where tiles and scales meet, the pixels' own mask and confidence say whose word counts.
"""
from __future__ import annotations

from typing import Callable, Iterator, NamedTuple, Sequence

import cv2
import numpy as np

from Dataset.images import Box, minmax

MOST_PIXELS = 1 << 25           # of a photo
MOST_TILES = 4096
OVERLAP = 0.5                   # of a tile's side: some tile has each face near its middle
FILL = 0.6                      # of a tile's side, a face as the network knows it
_BATCH = 16
_FEWEST = 0.03                  # share of the tile's pixels: less is no face that the network knows
_DOUBT = 0.05           # of a tile's middle: the vote against a face that nobody sees whole
_CUT = 0.25                     # share of a face's outline on the tile's border from which on it is taken as cut off


class Tile(NamedTuple):
    """box (x, y, w, h) in the photo's pixels, w = h; it may reach beyond the photo."""

    box: Box
    scale: float


def scales_for(shape: Sequence[int], size: int, smallest: int = 40) -> tuple[float, ...]:
    """Scales of a photo (H, W, ...) at which tiles of `size` px are right for faces of `smallest` px up to the photo's
    shorter side, each sqrt(2) times the next. ValueError for an empty photo."""
    shorter = min(shape[:2])
    if shorter < 1 or smallest < 1:
        raise ValueError(f"a photo and the smallest face have at least 1 px, got {tuple(shape[:2])} and {smallest}")
    low, high = FILL * size / max(shorter, smallest), FILL * size / smallest
    count = 1 + max(0, round(2 * np.log2(high / low)))
    return tuple(float(s) for s in np.geomspace(high, low, count))


def tiles(shape: Sequence[int], size: int, scales: Sequence[float], overlap: float = OVERLAP) -> list[Tile]:
    """Squares that cover a photo (H, W, ...) at each scale, evenly spaced, neighbours overlapping by at least `overlap`
    of their side; a photo that is smaller than a tile lies in its middle. ValueError for scales or an overlap out of
    range, and for more than MOST_TILES."""
    if not scales or not all(0 < s < 64 for s in scales) or not 0 <= overlap <= 0.9 or min(shape[:2]) < 1:
        raise ValueError(f"tiles need scales within 0 to 64 and an overlap within 0 to 0.9, got {tuple(scales)} and "
                         f"{overlap}")
    found = []
    for scale in scales:
        side = max(1, round(size / scale))
        corners = [_corners(length, side, overlap) for length in shape[:2]]
        if len(found) + len(corners[0]) * len(corners[1]) > MOST_TILES:
            raise ValueError(f"more than {MOST_TILES} tiles: larger scales are for smaller photos")
        found += [Tile((x, y, side, side), scale) for y in corners[0] for x in corners[1]]
    return found


def stitch(photo: np.ndarray, predict: Callable[[np.ndarray], np.ndarray], size: int,
           scales: Sequence[float] | None = None, overlap: float = OVERLAP) -> np.ndarray:
    """The network's maps of a whole photo (H, W, 3) uint8 BGR: (H, W, C) float32, as of a crop, for
    `Network.uvnet.read_maps`.

    predict  tiles (B, size, size, 3) float32, each alone stretched to [0, 1] -> (B, size, size, C), C at least 4: u, v,
             mask, occluded mask; of a C from 6 on the last two are a log-variance, which counts
    scales   None: `scales_for` the photo
    Masks of a scale are means, a tile counting the more the nearer to its middle the pixel lies, and little where it
    cuts a face off; of all scales the largest counts. All else is a mean over all tiles weighted besides by mask and
    confidence; 0 where no tile sees a face. A photo of 512 px has 414 tiles, of faces from 64 px on 148.
    ValueError for a photo that is empty or larger than MOST_PIXELS.
    """
    photo = np.asarray(photo)
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or not 0 < photo[..., 0].size <= MOST_PIXELS:
        raise ValueError(f"photo must be (H, W, 3) uint8 of 1 to {MOST_PIXELS} pixels, got {photo.shape} {photo.dtype}")
    shape = photo.shape[:2]
    scales = scales_for(shape, size) if scales is None else tuple(scales)
    window, level, sums = _window(size), np.zeros((*shape, 3), np.float32), np.zeros((*shape, 1), np.float32)
    masks, last = np.zeros((*shape, 2), np.float32), None
    for tile, output in _answers(photo, predict, size, tiles(shape, size, scales, overlap)):
        if tile.scale != last:
            masks, last = np.maximum(masks, _voted(level)), tile.scale
            level[:] = 0
        if sums.shape[2] == 1:
            sums = np.zeros((*shape, output.shape[-1] - 1), np.float32)
        belief, mask = wholeness(output[..., 2], _cut_by(tile.box, shape)), np.clip(output[..., 2], 0, 1)
        sure = np.exp(-0.5 * output[..., -2:].mean(-1)) if output.shape[-1] >= 6 else 1.0
        _add(level, tile.box, np.dstack([output[..., 2:4], np.ones_like(mask)]) * ((belief or 1) * window)[..., None])
        weight = (window * mask ** 2 * sure * belief)[..., None]
        _add(sums, tile.box, np.concatenate([np.delete(output, (2, 3), -1) * weight, weight], -1))
    masks = np.maximum(masks, _voted(level))
    others = sums[..., :-1] / np.maximum(sums[..., -1:], 1e-12) * (sums[..., -1:] > 1e-9)
    return np.concatenate([others[..., :2], masks, others[..., 2:]], -1)


def boxes(mask: np.ndarray, least: int = 24) -> list[Box]:
    """Boxes (x, y, w, h), squares about what hangs together in a mask (H, W) bool, the largest first; what is less than
    `least` px wide and high is left out. Cut out and grown as `Network.predict.crop_faces` cuts a box."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(np.asarray(mask).astype(np.uint8), connectivity=8)
    found = []
    for x, y, w, h, area in sorted(stats[1:count].tolist(), key=lambda s: -s[4]):
        side = max(w, h)
        if side >= least and 5 * area >= side ** 2:      # a stripe is no face
            found.append((x + (w - side) // 2, y + (h - side) // 2, side, side))
    return found


def wholeness(mask: np.ndarray, sides: Sequence[bool] = (True, True, True, True)) -> float:
    """How far a tile (S, S) shows a whole face, in [0, 1]: 0 where there is none, less the more of its outline lies on
    the border. One that is cut off, or far too large, is seen whole by another tile; sides: top, bottom, left, right,
    where there is one."""
    face = np.asarray(mask) > 0.5
    if face.mean() < _FEWEST:
        return 0.0
    border = sum(int(line.sum()) for line, cut in zip((face[0], face[-1], face[:, 0], face[:, -1]), sides) if cut)
    outline = face & (cv2.erode(face.astype(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT,
                                borderValue=0) == 0)
    return float(np.clip(1 - border / outline.sum() / _CUT, 0.02, 1))


def _voted(level: np.ndarray) -> np.ndarray:
    """Masks (H, W, 2) of one scale."""
    return level[..., :2] / (level[..., 2:] + _DOUBT)


def _cut_by(box: Box, shape: Sequence[int]) -> tuple[bool, bool, bool, bool]:
    """On which sides a tile ends within the photo."""
    x, y, w, h = box
    return y > 0, y + h < shape[0], x > 0, x + w < shape[1]


def _answers(photo: np.ndarray, predict: Callable[[np.ndarray], np.ndarray], size: int, where: Sequence[Tile]
             ) -> Iterator[tuple[Tile, np.ndarray]]:
    for start in range(0, len(where), _BATCH):
        part = where[start:start + _BATCH]
        outputs = np.asarray(predict(np.stack([minmax(_cut(photo, tile.box, size)) for tile in part])), np.float32)
        if outputs.ndim != 4 or outputs.shape[:3] != (len(part), size, size) or outputs.shape[3] < 4:
            raise ValueError(f"predict must give ({len(part)}, {size}, {size}, C), C at least 4, got {outputs.shape}")
        yield from zip(part, np.nan_to_num(outputs, posinf=0, neginf=0))


def _cut(photo: np.ndarray, box: Box, size: int) -> np.ndarray:
    """A tile (size, size, 3); beyond the photo its border goes on."""
    x, y, w, h = box
    height, width = photo.shape[:2]
    inner = photo[max(y, 0):y + h, max(x, 0):x + w]
    wide = cv2.copyMakeBorder(inner, max(-y, 0), max(y + h - height, 0), max(-x, 0), max(x + w - width, 0),
                              cv2.BORDER_REPLICATE)
    return cv2.resize(wide, (size, size), interpolation=cv2.INTER_AREA if w > size else cv2.INTER_LINEAR)


def _add(whole: np.ndarray, box: Box, values: np.ndarray) -> None:
    """A tile's values (S, S, C), resized to its box, onto the photo's (H, W, C), in place."""
    x, y, w, h = box
    how = cv2.INTER_LINEAR if w >= len(values) else cv2.INTER_AREA
    fine = np.concatenate([cv2.resize(np.ascontiguousarray(values[..., i:i + 4], np.float32), (w, h), interpolation=how)
                           .reshape(h, w, -1) for i in range(0, values.shape[2], 4)], -1)      # OpenCV's most is four
    top, left = max(-y, 0), max(-x, 0)
    target = whole[max(y, 0):y + h, max(x, 0):x + w]
    target += fine[top:top + target.shape[0], left:left + target.shape[1]]


def _window(size: int) -> np.ndarray:
    """(S, S) float32: a pixel's weight by its place in the tile, 1 in the middle, little at the border, nowhere 0."""
    line = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    return (np.outer(line, line) + 1e-3).astype(np.float32)


def _corners(length: int, side: int, overlap: float) -> list[int]:
    """Where tiles begin along one side."""
    if length <= side:
        return [(length - side) // 2]
    count = 1 + int(np.ceil((length - side) / max(1, side * (1 - overlap))))
    return [int(c) for c in np.rint(np.linspace(0, length - side, count))]
