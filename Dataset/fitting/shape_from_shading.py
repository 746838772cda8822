"""Shape from shading: fine relief of the skin, which 284 coefficients cannot represent, from the photo.

Endrawis 2018, 6.1, names "a more classical approach to the shape from shading problem". This is one linear step of it,
similar to Or-El et al. 2015 ("RGBD-Fusion"). Light is fitted to the photo as spherical harmonics of second order
(Ramamoorthi and Hanrahan 2001) on the normals of the coarse face. The smooth part of photo / shading is the albedo. The
remaining difference is explained by a change of depth, whose slopes change the shading: a linearised sparse
least-squares problem with a prior for small and smooth relief.
"""
from __future__ import annotations

import dataclasses
from typing import NamedTuple

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from Dataset.geometry.normals import normalise
from Dataset.rendering.shading import GAMMA, LUMINANCE, sh_basis
from Dataset.representations.coefficients import POSE, checked, decode_pose
from Dataset.representations.pncc import RenderingUnit, built_in_unit

_MIN_PIXELS = 64             # pixels of a face, at least
FRONT, CHIN, BROW = 0.0, -85.0, 60.0        # mm on the mean face: smallest z, and range of y, of the front of the face
_ROUNDS = 3             # of reweighting, of light and of relief


@dataclasses.dataclass(frozen=True)
class DetailOptions:
    """smooth: scale of the albedo, mm: slower variation is albedo; relief, bend: regularisation weights of depth and of
    curvature, relative to a shading error of 1; robust: shading error, relative to the face's brightness, from which a
    pixel has less weight (brows, freckles, highlights); tint: difference of ln(blue / green) and ln(red /
    green) from the surroundings', from which a pixel has less weight; facing: least cosine between normal and viewer.
    ValueError for a value that is not positive."""

    smooth: float = 3.0
    relief: float = 0.003
    bend: float = 0.02
    robust: float = 0.15
    tint: float = 0.04
    facing: float = 0.35

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not 0 < getattr(self, field.name) < np.inf:
                raise ValueError(f"{field.name} must be positive, got {getattr(self, field.name)}")


class Detail(NamedTuple):
    """Of the pixels in `mask` (S, S) bool: normals (S, S, 3) float64 in the upright camera frame (x right, y up, z to
    the camera) and coarse, those of the input face; relief (S, S) float64 mm, how much nearer the viewer; albedo (S, S)
    and shading (S, S) float64, of luminance. NaN elsewhere. light (9,): of `Dataset.rendering.shading.sh_basis`."""

    mask: np.ndarray
    normals: np.ndarray
    coarse: np.ndarray
    relief: np.ndarray
    albedo: np.ndarray
    shading: np.ndarray
    light: np.ndarray


def refine(image: np.ndarray, face: np.ndarray, where: np.ndarray | None = None,
           options: DetailOptions = DetailOptions(), unit: RenderingUnit | None = None) -> Detail:
    """A crop (S, S, 3) uint8 BGR and the face (290,) that lies in it -> its relief.

    where: (S, S) bool, the pixels to refine, e.g. the visible ones; None: the whole rendered head, including hair.
    ValueError for other shapes or fewer than 64 pixels.
    """
    image, face, unit = np.asarray(image), checked(face), unit or built_in_unit(True)
    size = len(image)
    if image.shape != (size, size, 3) or image.dtype != np.uint8 or where is not None and where.shape != (size, size):
        raise ValueError(f"image must be (S, S, 3) uint8 and where (S, S), got {image.shape} {image.dtype} and "
                         f"{None if where is None else where.shape}")
    drawn = unit(face, size)
    coarse = normalise(drawn[..., 3:].astype(float) * 2 - 1)
    mask = drawn[..., :3].any(-1) & (coarse[..., 2] > options.facing)
    mask = mask if where is None else mask & where
    if mask.sum() < _MIN_PIXELS:
        raise ValueError(f"{mask.sum()} pixels show the face, fewer than {_MIN_PIXELS}")
    return refine_normals(image, coarse, mask, decode_pose(face[POSE], size).scale, options)


def front_of_face(face: np.ndarray, size: int, unit: RenderingUnit | None = None) -> np.ndarray:
    """(S, S) bool: the pixels of a crop that show the front of a face (290,), brow to chin, by their positions on the
    mean face: without ears, scalp and neck, but with the eyes and the mouth."""
    unit = unit or built_in_unit(True)
    code, mean = unit(face, size)[..., :3], np.asarray(unit.model.mean, float)
    y, z = (code[..., k] * np.ptp(mean[:, k]) + mean[:, k].min() for k in (1, 2))
    return code.any(-1) & (z > FRONT) & (y > CHIN) & (y < BROW)


def refine_normals(image: np.ndarray, coarse: np.ndarray, mask: np.ndarray, scale: float,
                   options: DetailOptions = DetailOptions()) -> Detail:
    """The same from normals (S, S, 3) of any origin, true inside mask (S, S) bool; scale: px per mm."""
    seen = (image.astype(float) / 255) ** GAMMA @ LUMINANCE
    bright = seen[mask].mean() + 1e-9
    seen = seen / bright
    light = _light(seen[mask], coarse[mask], options)
    smooth = np.where(mask, np.maximum(_shading(coarse, light), 0.05), 0)
    albedo = _albedo(seen, smooth, mask, options.smooth * scale)
    normals, relief = coarse.copy(), np.zeros(mask.shape)
    known = seen / np.maximum(albedo, 1e-3) - smooth
    depth = _solve(known, coarse, light, mask, options, _same_paint(image, mask, options, scale))
    relief[mask] = depth / scale
    normals = np.where(mask[..., None], _bent(coarse, relief * scale, mask), np.nan)
    nothing = np.where(mask, 0.0, np.nan)
    return Detail(mask, normals, coarse + nothing[..., None], relief + nothing, bright * albedo + nothing,
                  smooth + nothing, light)


def _shading(normals: np.ndarray, light: np.ndarray) -> np.ndarray:
    return sh_basis(normals) @ light


def _light(seen: np.ndarray, normals: np.ndarray, options: DetailOptions) -> np.ndarray:
    """The nine coefficients of light that fit the brightness (N,) at normals (N, 3) best, assuming uniform albedo."""
    basis, weight = sh_basis(normals), np.ones(len(seen))
    for _ in range(_ROUNDS):
        heavy = basis * weight[:, None]
        # second order is regularised: a face shows less than half of the sphere
        keep = len(seen) * np.diag([1e-6] + [1e-4] * 3 + [3e-3] * 5)
        light = np.linalg.solve(heavy.T @ basis + keep, heavy.T @ seen)
        miss = seen - basis @ light
        weight = 1 / (1 + (miss / (2 * np.median(np.abs(miss)) + 1e-9)) ** 2)
    return light


def _albedo(seen: np.ndarray, shading: np.ndarray, mask: np.ndarray, reach: float) -> np.ndarray:
    """Local least squares of seen = albedo * shading over a Gaussian of `reach` px: (S, S)."""
    def sigma(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(np.where(mask, values, 0.0), (0, 0), max(reach, 0.5))
    return sigma(seen * shading) / np.maximum(sigma(shading * shading), 1e-6)


def _same_paint(image: np.ndarray, mask: np.ndarray, options: DetailOptions, scale: float) -> np.ndarray:
    """Weights (S, S) in [0, 1]: low where the tint differs from the surroundings, as in lips, brows and freckles;
    relief does not change the tint."""
    linear = (image.astype(float) / 255) ** GAMMA + 1e-3
    weight = cv2.GaussianBlur(mask.astype(float), (0, 0), max(options.smooth * scale, 0.5)) + 1e-9
    off = np.zeros(mask.shape)
    for channel in (0, 2):
        tint = np.where(mask, np.log(linear[..., channel] / linear[..., 1]), 0)
        around = cv2.GaussianBlur(tint, (0, 0), max(options.smooth * scale, 0.5)) / weight
        # blurred against noise
        off += (cv2.GaussianBlur(np.where(mask, tint - around, 0), (0, 0), 1.0) / options.tint) ** 2
    return 1 / (1 + off) ** 2


def _slopes(mask: np.ndarray) -> tuple[sparse.csr_matrix, sparse.csr_matrix, sparse.csr_matrix]:
    """Central differences of the mask's N pixels along x and up, where neighbours are in the mask (one-sided at its
    boundary), and their Laplacian: (N, N) each."""
    number = np.full(mask.shape, -1)
    number[mask] = np.arange(mask.sum())
    padded = np.pad(number, 1, constant_values=-1)
    own = number[mask]
    right, left, up, down = (padded[1 + dy:padded.shape[0] - 1 + dy, 1 + dx:padded.shape[1] - 1 + dx][mask]
                             for dy, dx in ((0, 1), (0, -1), (-1, 0), (1, 0)))

    def along(ahead: np.ndarray, behind: np.ndarray) -> sparse.csr_matrix:
        a, b = np.where(ahead >= 0, ahead, own), np.where(behind >= 0, behind, own)
        fraction = 1 / np.maximum((ahead >= 0).astype(float) + (behind >= 0), 1)
        rows = np.concatenate([own, own])
        values = np.concatenate([fraction, -fraction])
        return sparse.csr_matrix((values, (rows, np.concatenate([a, b]))), (len(own),) * 2)
    rows, columns = [], []
    for other in (right, left, up, down):
        rows.append(own[other >= 0])
        columns.append(other[other >= 0])
    rows, columns = np.concatenate(rows), np.concatenate(columns)
    beside = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), (len(own),) * 2)
    laplacian = sparse.diags(np.asarray(beside.sum(1)).ravel()) - beside
    return along(right, left), along(up, down), laplacian.tocsr()


def _slope_of(normals: np.ndarray) -> np.ndarray:
    """Normals (..., 3) -> how depth grows to the right and up, (..., 2)."""
    return -normals[..., :2] / np.maximum(normals[..., 2:], 0.05)


def _normal_of(slope: np.ndarray) -> np.ndarray:
    return normalise(np.concatenate([-slope, np.ones((*slope.shape[:-1], 1))], -1))


def _solve(known: np.ndarray, coarse: np.ndarray, light: np.ndarray, mask: np.ndarray, options: DetailOptions,
           believed: np.ndarray) -> np.ndarray:
    """Depth (N,) px that explains the residual shading `known` (S, S) of the coarse face; believed: weights (S, S) in
    [0, 1]."""
    slope, step = _slope_of(coarse[mask]), 1e-4
    at = _shading(_normal_of(slope), light)
    by = [(_shading(_normal_of(slope + step * np.eye(2)[k]), light) - at) / step for k in range(2)]
    right, up, laplacian = _slopes(mask)
    change = sparse.diags(by[0]) @ right + sparse.diags(by[1]) @ up
    keep = options.relief * sparse.eye(len(at)) + options.bend * laplacian.T @ laplacian
    missing, depth = known[mask], np.zeros(len(at))
    for _ in range(_ROUNDS):
        trust = believed[mask] / (1 + ((missing - change @ depth) / options.robust) ** 2) ** 2
        weighted = change.T @ sparse.diags(trust)
        depth = splu((weighted @ change + keep).tocsc()).solve(weighted @ missing)
    return depth


def _bent(coarse: np.ndarray, depth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Normals (S, S, 3) of the coarse face with depth (S, S) px on it."""
    right, up, _ = _slopes(mask)
    out = coarse.copy()
    more = np.stack([right @ depth[mask], up @ depth[mask]], -1)
    out[mask] = _normal_of(_slope_of(coarse[mask]) + more)
    return out
