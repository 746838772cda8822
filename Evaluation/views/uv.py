"""Four visualisations of a photo and its UV map (Ronkainen 2017, 3.8).

A UV map gives the UV that each pixel of the photo shows: (H, W, 2) float32 u, v (docs/conventions.md), NaN off the
face. `lift` makes one from a network's map of a crop. Everything works on the face's box only and is written for the
processor's vectors; tests/test_uv_views.py has slow twins.

As in the paper, texture projection and grid lines are drawn at twice the size and averaged. The paper's grid points add
weights to the three pixels around a point; here they are discs.
"""
from __future__ import annotations

from typing import NamedTuple, Sequence

import cv2
import numpy as np

from Evaluation.metrics.locate import locate

MAX_PIXELS = 1 << 26       # pixels of a lifted box
WHITE = (255, 255, 255)


class Unprojected(NamedTuple):
    """texture (n, n, 3) uint8 BGR in the UV square's square, 0 where nothing fell; weights (n, n) float32, the pixels
    that fell on each texel."""

    texture: np.ndarray
    weights: np.ndarray


def lift(image: np.ndarray, box: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """A crop's map (S, S, C) or (S, S), floats with NaN for nothing or bool, at the photo's pixels: (H, W[, C]),
    float32 or bool.

    box    x, y, w, h of the crop in the photo, px, the part outside is left off; shape: (H, W, ...) of the photo
    Between pixels values are bilinear over those that are there; off the crop they are NaN or False. What is there of
    a pixel by less than half is nothing. ValueError for a box without area or over 2^26 px, and other shapes.
    """
    image, (x, y, w, h), (height, width) = np.asarray(image), map(int, box), shape[:2]
    image = image if image.dtype == bool else image.astype(np.float32)
    if image.ndim not in (2, 3) or image.size == 0 or w < 1 or h < 1 or w * h > MAX_PIXELS:
        raise ValueError(f"lift takes a map (S, S[, C]) and a box of 1 to {MAX_PIXELS} px, got {image.shape} and "
                         f"{w}x{h}")
    whole = np.full((height, width, *image.shape[2:]), False if image.dtype == bool else np.nan, image.dtype)
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if left < right and top < bottom:
        finer = _resized(image, (w, h))
        whole[top:bottom, left:right] = finer[top - y:bottom - y, left - x:right - x]
    return whole


def project_texture(photo: np.ndarray, uv: np.ndarray, texture: np.ndarray, where: np.ndarray | None = None,
                    opacity: float = 1.0) -> np.ndarray:
    """3.8.1: the photo (H, W, 3) uint8 BGR with a texture (h, w, 3) uint8 of the UV square on the face, unlit.

    uv     (H, W, 2) float32, NaN off the face; where: (H, W) bool, the pixels to draw on, e.g. those in front of which
           nothing stands; None: the whole face. No face: a copy of the photo. ValueError for shapes that disagree.
    """
    if np.ndim(texture) != 3 or texture.shape[2] != 3 or texture.dtype != np.uint8:
        raise ValueError(f"texture must be (h, w, 3) uint8, got {np.shape(texture)}")

    def look_up(fine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = texture.shape[:2]
        places = cv2.transform(fine, np.float64([[width, 0, -0.5], [0, -height, height - 0.5]]))
        colours = cv2.remap(texture, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return colours, np.isfinite(fine[..., 0])
    return _painted(photo, uv, where, look_up, opacity)


def grid_lines(photo: np.ndarray, uv: np.ndarray, density: int = 16, width: float = 0.12,
               colour: tuple[int, int, int] = WHITE, where: np.ndarray | None = None, opacity: float = 1.0
               ) -> np.ndarray:
    """3.8.3: the photo with the lines u = k / density and v = k / density of the UV square on the face; arguments as
    `project_texture`. width: of a line, in cells. ValueError for a density below 1."""
    _check_density(density)

    def draw(fine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cells = fine * np.float32(density)
        np.subtract(cells, np.rint(cells), out=cells)
        np.abs(cells, out=cells)
        near = np.minimum(cells[..., 0], cells[..., 1]) < width / 2             # NaN is not
        return np.broadcast_to(np.uint8(colour), (*near.shape, 3)), near
    return _painted(photo, uv, where, draw, opacity)


def unproject(photo: np.ndarray, uv: np.ndarray, size: int = 256, where: np.ndarray | None = None) -> Unprojected:
    """3.8.2: the face's pixels in the UV square's square of `size` texels a side, each spread over the four texels
    around its position; arguments as `project_texture`."""
    mean = TextureMean(size)
    mean.add(photo, uv, where)
    return mean.texture()


class TextureMean:
    """Running mean of the inverse projections of a video's frames: the mean colour of all that fell on a texel, so that
    a frame counts by the pixels in which it shows it."""

    def __init__(self, size: int = 256) -> None:
        """ValueError for a size below 2 or above 8192."""
        if not 2 <= size <= 8192:
            raise ValueError(f"size must be within 2 and 8192 texels, got {size}")
        self.size, self.frames = size, 0
        self._sums = np.zeros((4, size * size))         # blue, green, red, weights

    def add(self, photo: np.ndarray, uv: np.ndarray, where: np.ndarray | None = None) -> None:
        """One more frame, (H, W, 3) uint8, (H, W, 2) and (H, W)."""
        self.frames += 1
        face = _face(photo, uv, where)
        if face is None:
            return
        known = np.isfinite(face.uv[..., 0])
        places, colours = face.uv[known], photo[face.box][known]
        x = np.clip(places[:, 0] * self.size - 0.5, 0, self.size - 1)
        y = np.clip((1 - places[:, 1]) * self.size - 0.5, 0, self.size - 1)
        column, row = np.minimum(x.astype(np.int32), self.size - 2), np.minimum(y.astype(np.int32), self.size - 2)
        right, below, texel = x - column, y - row, row * self.size + column
        corners = np.concatenate([texel, texel + 1, texel + self.size, texel + self.size + 1])
        shares = np.concatenate([(1 - right) * (1 - below), right * (1 - below), (1 - right) * below, right * below])
        for total, values in zip(self._sums, (*colours.T, None)):
            weights = shares if values is None else shares * np.tile(values, 4)
            total += np.bincount(corners, weights, self.size * self.size)

    def texture(self) -> Unprojected:
        """The mean so far."""
        weights = self._sums[3]
        colours = self._sums[:3] / np.maximum(weights, 1e-12)
        texture = np.rint(np.where(weights > 1e-9, colours, 0)).astype(np.uint8).T
        side = (self.size, self.size)
        return Unprojected(texture.reshape(*side, 3).copy(), weights.reshape(side).astype(np.float32))


def grid_points(photo: np.ndarray, uv: np.ndarray, density: int = 16, radius: float = 1.5,
                colour: tuple[int, int, int] = WHITE, where: np.ndarray | None = None) -> np.ndarray:
    """3.8.4: the photo with a disc at each point (i / density, j / density) of the UV square that it shows; arguments
    as `project_texture`. radius: px. ValueError for a density below 1."""
    _check_density(density)
    drawn, face = photo.copy(), _face(photo, uv, where)
    if face is None:
        return drawn
    steps = np.arange(1, density) / density
    points = locate(face.uv, np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2))
    points = points[np.isfinite(points[:, 0])] + [face.box[1].start, face.box[0].start]
    reach = np.arange(-int(np.ceil(radius)) - 1, int(np.ceil(radius)) + 2)
    column = np.floor(points[:, 0]).astype(int)[:, None, None] + reach
    row = np.floor(points[:, 1]).astype(int)[:, None, None] + reach[:, None]
    distance = np.hypot(column + 0.5 - points[:, 0, None, None], row + 0.5 - points[:, 1, None, None])
    coverage = np.clip(radius + 0.5 - distance, 0, 1)
    keep = (coverage > 0) & (row >= 0) & (row < len(photo)) & (column >= 0) & (column < photo.shape[1])
    cover = np.zeros(photo.shape[:2])
    row, column = np.broadcast_arrays(row, column)
    np.maximum.at(cover, (row[keep], column[keep]), coverage[keep])
    some = np.nonzero(cover)
    drawn[some] = np.rint(photo[some] + cover[some][:, None] * (np.array(colour, float) - photo[some]))
    return drawn


class _Face(NamedTuple):
    """box: rows and columns of the photo that hold the face; uv: the map there, NaN where nothing is to be drawn."""

    box: tuple[slice, slice]
    uv: np.ndarray


def _face(photo: np.ndarray, uv: np.ndarray, where: np.ndarray | None) -> _Face | None:
    """The part of a map that is to be drawn on; None for no face. ValueError for shapes that disagree."""
    photo, uv = np.asarray(photo), np.asarray(uv)
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or uv.shape != (*photo.shape[:2], 2) \
            or (where is not None and np.shape(where) != photo.shape[:2]):
        raise ValueError(f"photo, map and mask must be (H, W, 3) uint8, (H, W, 2) and (H, W), got {photo.shape} "
                         f"{photo.dtype}, {uv.shape} and {None if where is None else np.shape(where)}")
    known = np.isfinite(uv[..., 0] + uv[..., 1])
    shown = known if where is None else known & where
    x, y, w, h = cv2.boundingRect(shown.astype(np.uint8))
    if w == 0:
        return None
    box = slice(y, y + h), slice(x, x + w)
    shown = np.where(shown[box], np.float32(0), np.float32(np.nan))
    return _Face(box, cv2.add(uv[box].astype(np.float32), cv2.merge([shown, shown])))


def _painted(photo: np.ndarray, uv: np.ndarray, where: np.ndarray | None, paint, opacity: float) -> np.ndarray:
    """The photo with what `paint` (map of twice the side -> colours, mask) puts there, averaged down."""
    drawn, face = photo.copy(), _face(photo, uv, where)
    if face is None:
        return drawn
    height, width = face.uv.shape[:2]
    colours, mask = paint(_resized(face.uv, (2 * width, 2 * height)))
    twice = cv2.resize(photo[face.box], (2 * width, 2 * height), interpolation=cv2.INTER_NEAREST)
    if opacity < 1:
        colours = cv2.addWeighted(np.ascontiguousarray(colours), opacity, twice, 1 - opacity, 0)
    cv2.copyTo(np.ascontiguousarray(colours), mask.astype(np.uint8), twice)
    drawn[face.box] = cv2.resize(twice, (width, height), interpolation=cv2.INTER_AREA)
    return drawn


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map (h, w[, C]) at another size (w, h), bilinear over the known values."""
    if image.dtype == bool:
        return cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5
    known = np.isfinite(image if image.ndim == 2 else image[..., 0])
    if known.all():
        return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    weight = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    weight = np.where(weight < 0.5, np.float32(np.nan), weight)
    planes = [cv2.resize(np.where(known, plane, np.float32(0)), size, interpolation=cv2.INTER_LINEAR) / weight
              for plane in cv2.split(image)]                # numpy is slow on a last axis of two
    return planes[0] if image.ndim == 2 else cv2.merge(planes).reshape(*weight.shape, -1)


def _check_density(density: int) -> None:
    if not 1 <= density <= 1024:
        raise ValueError(f"density must be within 1 and 1024, got {density}")
