"""Registration of a scan to the ordered 128x128 grid: non-rigid ICP of the built-in face.

1. `Dataset/fitting/scan_fit.py`: pose, scale, identity and expression of the model.
2. Here: a displacement per grid point, iterated as by Amberg, Romdhani and Vetter 2007 (Optimal Step Nonrigid ICP
   Algorithms for Surface Registration): closest points, reliable pairs, one sparse linear system, with a stiffness
   that decreases from level to level.

Differences to the paper: one displacement instead of an affine matrix per vertex (the model explains rotation and
bending); stiffness on first and second differences of the displacement, as a membrane and a thin plate; point-to-plane
distances, so that points may slide; landmarks are used in step 1 only. Where there is no scan underneath (holes, beyond
the boundary, the strips that close eyes and mouth) the displacement is continued smoothly.
"""
from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.fitting.scan_fit import Fit, Landmarks, fit_model, grid_is_skin, pair_weights
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.normals import area_vectors, vertex_normals
from Dataset.geometry.scan_surface import Nearest, ScanSurface
from Dataset.representations.points import SIZE, encode, grid_landmarks, grid_triangles

# Membrane and plate stiffness, robust scale (mm), rounds. A plate of stiffness b halves waves of 2 pi b**(1/4) cells.
LEVELS = ((5.0, 100.0, 3.0, 2), (1.0, 20.0, 2.0, 2), (0.2, 3.0, 1.5, 2), (0.02, 0.3, 1.0, 3))
HOLD = 1e-4                 # regularisation weight of each displacement: without any scan the model's face stays
FAR = 5.0                   # mm: a grid point farther from the scan than this has no scan underneath
# A scan that the model explains worse, or that lies under less of the grid, is no face.
NO_FACE_RESIDUAL, NO_FACE_COVERED = 2.0, 0.35
# Beyond these a registration is listed as bad: least or largest values of Quality's fields.
BAD_ABOVE = {"surface_mean": 0.5, "surface_p95": 1.5, "landmarks_mean": 6.0, "residual": 0.7, "identity": 1.5,
             "folded": 0.01}
BAD_BELOW = {"covered": 0.6}


class Quality(NamedTuple):
    """The quality of a registration; distances in mm, NaN where there is nothing to measure.

    surface_mean, surface_p95   grid points that have scan underneath to the scan: mean, 95th percentile
    reverse_mean, reverse_p95   the scan's surface to the grid's, where the grid's skin is nearest (not its boundary,
                                eyes or mouth); hair and glasses count here
    covered                     fraction of the grid's skin points with scan underneath
    landmarks_mean              given landmarks to the grid's, those on its boundary (0, 16) left out
    residual                    mean distance after step 1, by the model alone
    identity                    root mean square of the identity coefficients; about 1 for subjects of the model
    scale                       of the model
    folded                      fraction of the grid's triangles that are flipped
    """

    surface_mean: float
    surface_p95: float
    reverse_mean: float
    reverse_p95: float
    covered: float
    landmarks_mean: float
    residual: float
    identity: float
    scale: float
    folded: float

    def faults(self) -> list[str]:
        """The fields beyond BAD_ABOVE and BAD_BELOW, in words; empty for a good fit."""
        above = [f"{name} {getattr(self, name):.2f} > {limit:g}" for name, limit in BAD_ABOVE.items()
                 if getattr(self, name) > limit]
        return above + [f"{name} {getattr(self, name):.2f} < {limit:g}" for name, limit in BAD_BELOW.items()
                        if getattr(self, name) < limit]


class Registration(NamedTuple):
    """grid (128, 128, 3) float64 mm in the scan's frame, all finite; the model's fit; the quality."""

    grid: np.ndarray
    fit: Fit
    quality: Quality


def register(scan: Mesh, landmarks: Landmarks | None = None, name: str = "scan", model: FaceModel | None = None,
             threads: int = 1) -> Registration:
    """Register the built-in face to `scan` (mm, +y up, +z out of the face within some 30 degrees).

    Deterministic. `landmarks` are some of the 68 on the scan, None where there are none. ValueError in one line that
    begins with `name`: no triangles, coordinates that are not finite, landmarks of another size, no face.
    """
    model = load_face_model() if model is None else model
    surface = ScanSurface(scan, name, threads)
    if landmarks is not None and not np.isfinite(landmarks.points).all():
        raise ValueError(f"{name}: landmarks must be finite, received NaN or infinity")
    try:
        fit = fit_model(surface, landmarks, model)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    start = encode(fit.vertices(model), model=model).reshape(-1, 3)
    skin = grid_is_skin(model).ravel()
    covered = float(has_scan(surface, start)[1][skin].mean())
    if not (fit.residual <= NO_FACE_RESIDUAL and covered >= NO_FACE_COVERED):
        raise ValueError(f"{name}: must be a scan of a face in mm, +y up and +z out of the face; the face model stays "
                         f"{fit.residual:.1f} mm away on average (limit {NO_FACE_RESIDUAL:g}) and {covered:.0%} of it "
                         f"have scan underneath (at least {NO_FACE_COVERED:.0%})")
    grid = deform(surface, start, skin, model)
    quality = measure(surface, grid, start, fit, landmarks, model)
    return Registration(grid.reshape(SIZE, SIZE, 3), fit, quality)


def deform(surface: ScanSurface, start: np.ndarray, skin: np.ndarray, model: FaceModel) -> np.ndarray:
    """Non-rigid ICP of a grid (16384, 3) mm to the scan -> (16384, 3); only points where `skin` (16384,) is True are
    attracted."""
    area, membrane = stiffness(model)
    plate = (membrane @ sparse.diags(1 / area) @ membrane).tocsc()
    moved = np.zeros_like(start)
    for soft, bend, sigma, rounds in LEVELS:
        energy = soft * membrane + bend * plate
        for _ in range(rounds):
            points = start + moved
            found = surface.nearest(points)
            fraction = area * skin * pair_weights(points, vertex_normals(points, grid_triangles()), found, sigma)
            along = np.einsum("ni,ni->n", found.normals, found.points - points)
            wanted = moved + along[:, None] * found.normals
            moved = solve(energy + sparse.diags(fraction + HOLD), fraction[:, None] * wanted)
    return start + moved


def solve(system: sparse.spmatrix, right: np.ndarray) -> np.ndarray:
    """The solution (N, 3) of a symmetric positive definite sparse system."""
    # For such systems a symmetric ordering without pivoting takes a third of splu's usual time.
    return splu(system.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0,
                options={"SymmetricMode": True}).solve(right)


def has_scan(surface: ScanSurface, points: np.ndarray) -> tuple[Nearest, np.ndarray]:
    """The scan's nearest points, and (N,) bool: whether the scan is underneath: within FAR, and not at its boundary."""
    found = surface.nearest(points)
    return found, ~found.boundary & (found.distance < FAR)


def measure(surface: ScanSurface, grid: np.ndarray, start: np.ndarray, fit: Fit, landmarks: Landmarks | None,
            model: FaceModel) -> Quality:
    """The quality of a grid (16384, 3) that was deformed from `start`."""
    skin, faces = grid_is_skin(model).ravel(), grid_triangles()
    found, under = has_scan(surface, grid)
    forward = found.distance[under & skin]
    own = ScanSurface(Mesh(grid, faces), "grid")
    back = own.nearest(surface.vertices[surface.triangles].mean(1))
    at = skin[cKDTree(grid).query(back.points)[1]] & ~back.boundary & (back.distance < 2 * FAR)
    normals = [area_vectors(g, faces) for g in (start, grid)]
    error = np.nan
    if landmarks is not None and len(landmarks.index):
        inner = ~np.isin(landmarks.index, (0, 16))
        error = np.linalg.norm(grid_landmarks(grid, model)[landmarks.index[inner]] - landmarks.points[inner], axis=1)
    return Quality(_mean(forward), _percentile(forward), _mean(back.distance[at], surface.area[at]),
                   _percentile(back.distance[at]), float(under[skin].mean()), _mean(np.atleast_1d(error)), fit.residual,
                   float(np.sqrt((fit.identity**2).mean())), float(fit.pose.scale),
                   float((np.einsum("ni,ni->n", *normals) < 0).mean()))


def _mean(values: np.ndarray, weights: np.ndarray | None = None) -> float:
    return float(np.average(values, weights=weights)) if len(values) else float("nan")


def _percentile(values: np.ndarray) -> float:
    return float(np.quantile(values, 0.95)) if len(values) else float("nan")


@lru_cache(maxsize=2)
def stiffness(model: FaceModel) -> tuple[np.ndarray, sparse.csc_matrix]:
    """Area of each grid point on the mean face, (16384,) with mean 1, and the membrane's matrix (16384, 16384).

    x^T M x is the sum over the grid's sides of w (x_a - x_b)^2, w = width / length of the side's strip: the integral of
    the squared gradient on the surface, by finite volumes.
    """
    grid = encode(model.mean, model=model)
    across, down = (np.linalg.norm(np.diff(grid, axis=axis), axis=2) for axis in (1, 0))
    width, height = (np.apply_along_axis(np.convolve, axis, np.pad(a, pad, mode="edge"), [0.5, 0.5], "valid")
                     for a, axis, pad in ((across, 1, ((0, 0), (1, 1))), (down, 0, ((1, 1), (0, 0)))))
    number = np.arange(SIZE * SIZE).reshape(SIZE, SIZE)
    ends = np.concatenate([np.stack([number[:, :-1].ravel(), number[:, 1:].ravel()], 1),
                           np.stack([number[:-1].ravel(), number[1:].ravel()], 1)])
    weights = np.concatenate([((height[:, :-1] + height[:, 1:]) / (2 * across)).ravel(),
                              ((width[:-1] + width[1:]) / (2 * down)).ravel()])
    weights = np.clip(weights, 0.2, 5.0)
    rows = np.repeat(np.arange(len(ends)), 2)
    differ = sparse.csr_matrix((np.tile([1.0, -1.0], len(ends)), (rows, ends.ravel())), (len(ends), SIZE * SIZE))
    area = (width * height).ravel()
    return area / area.mean(), (differ.T @ sparse.diags(weights) @ differ).tocsc()
