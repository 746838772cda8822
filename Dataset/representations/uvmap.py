"""Representation `uvmap`: for every pixel of an image the texture coordinates of the point of the face that it shows
(target of `uvnet`; Ronkainen 2017, sections 3.2 and 3.3).

UV coordinates refer to the texture square of the 128x128 ordered grid (docs/conventions.md): grid position (row r,
column c), continuous, is u = (c + 1/2) / 128, v = 1 - (r + 1/2) / 128, and the face uses the whole square. UV is
sampled at pixel centres without antialiasing, since UV coordinates cannot be averaged across a discontinuity. The mask
contains the pixels of which all 64 samples show the face, which excludes border pixels.

On the skin UV is linear over each triangle of the model. In eyes and mouth, which the grid closes by strips between the
lids and between the lips, UV is that of the intersection of the ray with the strip, since eyeballs, teeth and tongue
move independently of the skin.
"""
from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.geometry.camera import Camera
from Dataset.geometry.closest import ClosestPoints
from Dataset.rendering.raycast import Hits, Scene
from Dataset.representations import points
from Dataset.representations.correspondences import Correspondences

SIZE = points.SIZE
SPLIT = 8               # 8x8 samples of a pixel
NOTHING, OTHER = -1, -2         # instead of a triangle of the model: nothing is hit, or another object
_NEAR = 1.0             # mm: grid points farther from the skin lie on a strip
_OFF = 7.5              # mm: skin farther from the grid, extrapolated beyond its boundary, is not part of the face
_BOUNDARY = 6                # cells of this extrapolation
_PRIOR = 0.1            # weight of a vertex's nearest grid position, relative to one grid point
_AROUND = np.ones((11, 11), np.uint8)       # cells around a strip that belong to it: it is often thinner than one cell
NONE, PART, ALL = 0, 1, 2         # how much of a triangle is face; of PART what lies within the grid
_FIRST, _LAST = 0.5 / SIZE, 1 - 0.5 / SIZE      # u or v of the grid's first and last lines
_QUICK = np.array([0, SPLIT - 1, SPLIT * (SPLIT - 1), SPLIT * SPLIT - 1])       # samples in a pixel's corners


class UVMap(NamedTuple):
    """The map of an image.

    uv            (H, W, 2) float32 in [0, 1], NaN where mask is False
    mask          (H, W) bool: the whole pixel shows the face, ignoring hair, glasses and other objects in front of it,
                  but not occlusion by the head itself
    visible_mask  (H, W) bool: mask, and nothing is in front of the pixel's centre
    """

    uv: np.ndarray
    mask: np.ndarray
    visible_mask: np.ndarray


class Atlas(NamedTuple):
    """The triangles of a model in the texture square.

    corners  (F, 3, 2) float32 u, v of skin, beyond [0, 1] outside the grid
    face     (F,) uint8, NONE, PART or ALL of it is face; inside (F,) bool, eyes and mouth, which are ALL
    strips   (M, 3) int64, triangles that close eyes and mouth, over K points of the grid: strip_uv (K, 2) float32,
             strip_matrix (K, V) from the model's vertices
    """

    corners: np.ndarray
    face: np.ndarray
    inside: np.ndarray
    strips: np.ndarray
    strip_uv: np.ndarray
    strip_matrix: sparse.csr_matrix


def grid_positions(uv: np.ndarray) -> np.ndarray:
    """u, v (..., 2) -> row, column (..., 2) float64 on the 128x128 grid; NaN stays NaN."""
    uv = np.asarray(uv, np.float64)
    return np.stack([SIZE * (1 - uv[..., 1]) - 0.5, SIZE * uv[..., 0] - 0.5], -1)


def grid_uv(positions: np.ndarray) -> np.ndarray:
    """Row, column (..., 2) on the 128x128 grid -> u, v (..., 2) float64: the inverse of `grid_positions`."""
    positions = np.asarray(positions, np.float64)
    return np.stack([(positions[..., 1] + 0.5) / SIZE, 1 - (positions[..., 0] + 0.5) / SIZE], -1)


def encode(vertices: np.ndarray, camera: Camera, size: int | None = None, model: FaceModel | None = None,
           numbers: np.ndarray | None = None, seen: Hits | None = None, threads: int = 0) -> UVMap:
    """The UV map of a posed face, as ``camera`` sees it.

    vertices  (V, 3) mm of the model, in the camera's world
    size      side of the map, px, for a camera of a square image; None: the camera's own pixels
    numbers   (N,), the triangles of the model to draw; None: all but the lashes
    seen      the first hits of the image, if known: triangle (H, W) is a triangle of the model, NOTHING or OTHER (an
              object in front of the face); None: nothing is in front of the face

    ValueError for vertices or hits of another shape.
    """
    model = load_face_model() if model is None else model
    vertices = np.asarray(vertices)
    if vertices.shape != model.mean.shape:
        raise ValueError(f"vertices must be {model.mean.shape}, received shape {vertices.shape}")
    if size is not None:
        camera = camera.crop((0, 0, camera.width, camera.height), size)
    numbers = _facing(vertices, model, drawn_triangles(model) if numbers is None else np.asarray(numbers), camera)
    head, chart = Scene(vertices, model.triangles[numbers], threads), atlas(model)
    first = _bare(head, numbers, camera, seen)
    uv, face = _positions(chart, first)
    _close(chart, vertices, camera, first, uv, face, threads)
    mask = _whole(chart, head, numbers, camera, face)
    uv[~mask] = np.nan
    return UVMap(uv, mask, mask & (seen.triangle >= 0) if seen else mask)


def erode(mask: np.ndarray) -> np.ndarray:
    """A mask (H, W), bool or uint8, eroded by one pixel (8 neighbours); beyond the image's border counts as inside.
    Same dtype. (Section 3.5: the pixels whose differences to neighbours stay within the mask.)"""
    return cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(mask.dtype)


def decode(uv: UVMap | np.ndarray, mask: np.ndarray | None = None, weights: np.ndarray | None = None,
           stride: int = 1) -> Correspondences:
    """The correspondences between pixels and grid positions of a map, row by row.

    uv       a `UVMap` (its own mask is used where none is given), or (S, S, 2), finite within the mask
    mask     (S, S) bool; none and no `UVMap`: where uv is finite
    weights  (S, S) >= 0; None: 1
    stride   use every stride-th pixel in either direction, from the middle of the first block

    Positions are clipped to the grid. ValueError for other shapes.
    """
    if isinstance(uv, UVMap):
        uv, mask = uv.uv, uv.mask if mask is None else mask
    uv = np.asarray(uv)
    mask = np.isfinite(uv).all(-1) if mask is None else np.asarray(mask)
    if uv.ndim != 3 or uv.shape[0] != uv.shape[1] or uv.shape[2] != 2 or mask.shape != uv.shape[:2]:
        raise ValueError(f"a map must be (S, S, 2) and its mask (S, S), received {uv.shape} and {mask.shape}")
    if mask.dtype != bool or stride < 1:
        raise ValueError(f"a mask must be bool and the stride at least 1, received {mask.dtype} and {stride}")
    if weights is not None and np.shape(weights) != mask.shape:
        raise ValueError(f"weights must be {mask.shape}, received {np.shape(weights)}")
    start = stride // 2
    row, column = np.nonzero(mask[start::stride, start::stride])
    row, column = row * stride + start, column * stride + start
    grid = np.clip(grid_positions(uv[row, column]), 0, SIZE - 1)
    fraction = np.ones(len(row)) if weights is None else np.asarray(weights)[row, column].astype(np.float64)
    return Correspondences(grid, np.stack([column, row], -1) + 0.5, fraction, len(mask))


@lru_cache(maxsize=2)
def drawn_triangles(model: FaceModel) -> np.ndarray:
    """The triangles of the model (N,) int64 that are drawn: all but the lashes."""
    return np.setdiff1d(np.arange(len(model.triangles)), model.region("lashes"))


@lru_cache(maxsize=2)
def atlas(model: FaceModel) -> Atlas:
    """The atlas of a model, laid out on its mean face.

    The grid positions of the vertices are a least-squares fit to the grid points, each at its closest point on the
    skin. Over triangles of 5 mm the error is half of that of the closest grid position of each vertex, which serves as
    the prior where no grid point is near.
    """
    mean, skin = np.asarray(model.mean, np.float64), model.triangles[model.region("skin")]
    grid = points.encode(mean, model=model)
    near = ClosestPoints(mean, skin, 0, np.zeros(3))(grid.reshape(-1, 3))
    data = near.distance < _NEAR
    corners, weights = skin[near.triangle[data]], near.weights[data]
    product = sparse.csr_matrix((weights.ravel(), (np.repeat(np.arange(len(corners)), 3), corners.ravel())),
                                (len(corners), len(mean)))
    positions = np.stack(np.divmod(np.flatnonzero(data), SIZE), -1)
    prior, distance = _nearest_positions(mean, grid)
    normal = (product.T @ product + _PRIOR * sparse.identity(len(mean))).tocsc()
    fitted = spsolve(normal, product.T @ positions + _PRIOR * prior)

    skin, lashes = (np.isin(np.arange(len(model.triangles)), model.region(name)) for name in ("skin", "lashes"))
    uv = grid_uv(fitted)[model.triangles].astype(np.float32)
    uv[~skin] = 0.5         # replaced by the intersection with the strip
    low, high = uv.min(1), uv.max(1)
    face = np.where((low >= _FIRST).all(1) & (high <= _LAST).all(1), ALL, PART).astype(np.uint8)
    face[lashes | (high < _FIRST).any(1) | (low > _LAST).any(1)] = NONE
    face[skin & ~(distance < _OFF)[model.triangles].all(1)] = NONE
    inside = ~skin & ~lashes
    return Atlas(uv, face, inside, *_strips(model))


def _nearest_positions(vertices: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row, column (V, 2) of the nearest points of a grid's surface, continued by _BOUNDARY cells on all sides, and
    their distances (V,), mm."""
    for axis in (0, 1):
        lines = np.moveaxis(grid, axis, 0)
        steps = np.arange(1, _BOUNDARY + 1).reshape(-1, 1, 1)
        lines = np.concatenate([lines[:1] + (lines[:1] - lines[1:2]) * steps[::-1], lines,
                                lines[-1:] + (lines[-1:] - lines[-2:-1]) * steps])
        grid = np.moveaxis(lines, 0, axis)
    triangles = points.grid_triangles(len(grid))
    found = ClosestPoints(grid.reshape(-1, 3), triangles, 0, np.zeros(3))(vertices)
    corners = np.stack(np.divmod(triangles[found.triangle], len(grid)), -1) - _BOUNDARY
    return np.einsum("vk,vkc->vc", found.weights, corners), found.distance


def _strips(model: FaceModel) -> tuple[np.ndarray, np.ndarray, sparse.csr_matrix]:
    """The grid's triangles in eyes and mouth: around points whose three vertices belong to no common quad of skin."""
    level = model._subdivision
    quads = level.quads[model.subdivided_regions[::2] == model.region_names.index("skin")]
    on = sparse.csr_matrix((np.ones(quads.size), (quads.ravel(), np.repeat(np.arange(len(quads)), 4))),
                           (level.matrix.shape[0], len(quads)))
    vertices, weights = model.grid_vertices.reshape(-1, 3), model.grid_weights.reshape(-1, 3)
    a, b, c = np.where(weights > 1e-6, vertices, vertices[:, :1]).T
    between = on[a].multiply(on[b]).multiply(on[c]).getnnz(1) == 0
    around = cv2.dilate(between.reshape(SIZE, SIZE).astype(np.uint8), _AROUND).astype(bool).ravel()
    triangles = points.grid_triangles()
    used, triangles = np.unique(triangles[around[triangles].all(1)], return_inverse=True)
    uv = grid_uv(np.stack(np.divmod(used, SIZE), -1)).astype(np.float32)
    return triangles.reshape(-1, 3), uv, model.grid_matrix[used].astype(np.float64)


def _facing(vertices: np.ndarray, model: FaceModel, numbers: np.ndarray, camera: Camera) -> np.ndarray:
    """The triangles that face the camera. No ray hits another triangle of a closed head first, and leaving them out
    saves a third of the time to build the tree."""
    positions = (vertices - camera.position()).astype(np.float32).T
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = (positions[:, corner] for corner in model.triangles[numbers].T)
    return numbers[ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx) < 0]


def _bare(head: Scene, numbers: np.ndarray, camera: Camera, seen: Hits | None) -> Hits:
    """First hits of the head alone: triangle is the model's number or -1."""
    number = np.append(numbers, NOTHING)
    if seen is None:
        hits = head.cast(camera)
        return hits._replace(triangle=number[hits.triangle])
    if seen.triangle.shape != (camera.height, camera.width):
        raise ValueError(f"hits must be {(camera.height, camera.width)}, received {seen.triangle.shape}")
    triangle, barycentric, depth = (np.array(part) for part in seen)
    row, column = np.nonzero(triangle == OTHER)
    again = head.cast_rays(*camera.rays(np.stack([column, row], -1) + 0.5))
    triangle[row, column], barycentric[row, column] = number[again.triangle], again.barycentric
    depth[row, column] = again.depth
    return Hits(triangle, barycentric, depth)


def _positions(chart: Atlas, hits: Hits) -> tuple[np.ndarray, np.ndarray]:
    """uv (H, W, 2) float32 of hits of the model's triangles, and whether they show the face (H, W)."""
    uv = np.full((*hits.triangle.shape, 2), np.nan, np.float32)
    hit = (hits.triangle >= 0) & (chart.face[hits.triangle] > NONE)
    uv[hit] = np.einsum("nk,nkc->nc", hits.barycentric[hit], chart.corners[hits.triangle[hit]])
    return uv, hit & ((uv >= _FIRST) & (uv <= _LAST)).all(-1)


def _shown(chart: Atlas, triangle: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
    """Whether hits (N, K) of the model's triangles show the face: as `_positions`, without the UV coordinates."""
    kind = np.where(triangle >= 0, chart.face[triangle], NONE)
    shown = kind == ALL
    boundary = kind == PART
    uv = np.einsum("nk,nkc->nc", barycentric[boundary], chart.corners[triangle[boundary]])
    shown[boundary] = ((uv >= _FIRST) & (uv <= _LAST)).all(-1)
    return shown


def _close(chart: Atlas, vertices: np.ndarray, camera: Camera, hits: Hits, uv: np.ndarray, face: np.ndarray,
           threads: int) -> None:
    """Set the UV of pixels that show eyes or mouth, in place, to that of the strip which their ray hits; pixels whose
    ray hits no strip are no face."""
    row, column = np.nonzero(face & chart.inside[hits.triangle])
    if len(row) == 0:
        return
    strips = Scene(chart.strip_matrix @ vertices, chart.strips, threads)
    met = strips.cast_rays(*camera.rays(np.stack([column, row], -1) + 0.5))
    hit = met.triangle >= 0
    face[row[~hit], column[~hit]] = False
    uv[row[hit], column[hit]] = np.einsum("nk,nkc->nc", met.barycentric[hit],
                                          chart.strip_uv[chart.strips[met.triangle[hit]]])


def _whole(chart: Atlas, head: Scene, numbers: np.ndarray, camera: Camera, face: np.ndarray) -> np.ndarray:
    """Pixels (H, W) of which all 64 samples show the face. Only those at the border of the face or of the image are
    sampled."""
    number = np.append(numbers, NOTHING)
    ring = np.ones((3, 3), np.uint8)
    inside = cv2.erode(face.astype(np.uint8), ring, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    row, column = np.nonzero(face & ~inside)
    offsets = np.stack(np.divmod(np.arange(SPLIT * SPLIT), SPLIT)[::-1], -1)
    mask = face.copy()
    for group in (_QUICK, np.setdiff1d(np.arange(SPLIT * SPLIT), _QUICK)):      # most fail in a corner
        positions = np.stack([column, row], -1)[:, None] + (offsets[group] + 0.5) / SPLIT
        hits = head.cast_rays(*camera.rays(positions))
        fine = _shown(chart, number[hits.triangle], hits.barycentric).all(1)
        mask[row[~fine], column[~fine]] = False
        row, column = row[fine], column[fine]
    return mask
