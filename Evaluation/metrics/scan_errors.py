"""A face in mm against a scan: distances in mm and %, after rigid and after similarity alignment, by region.

What counts is within RADIUS of the scan's nose tip, without neck, ears and hair: scan points that are nearest to the
rim of the face model's grid on the scan. *Reverse* distances go from the scan to the predicted surface, as
NoW measures them (Sanyal et al. 2019, section 5.1); *forward* ones from predicted points to the scan, without those
whose nearest point is on the border of the scan or of a hole. Alignment: from landmarks, then ICP from the scan to the
predicted surface, as NoW's, without the farthest 5 % of the scan, with the scale free or fixed to 1. One way only: the
other way, what a scan lacks would pull.

The landmarks are the scan's own or those of the face model fitted to it, the regions those of that fit: neither depends
on a prediction.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from Dataset.face_model.model import load_face_model
from Dataset.fitting.scan_fit import COARSE, Landmarks, fit_model
from Dataset.geometry.closest import ClosestPoints
from Dataset.geometry.edges import border_mask
from Dataset.geometry.mesh import Mesh, crop_sphere
from Dataset.geometry.sampling import sample
from Dataset.geometry.scan_surface import ScanSurface
from Dataset.geometry.transforms import Similarity, umeyama
from Dataset.representations.points import encode, grid_landmarks, grid_triangles
from Evaluation.metrics.face_regions import grid_regions
from Evaluation.metrics.surface import TRIM, Crop, surface_distances, surface_scores

RADIUS = 95.0           # mm from the nose tip
SAMPLES = 10_000        # points of a scan's surface, even by area
MIN_SAMPLES = 100       # a scan with fewer shows no face
MAX_RESIDUAL = 2.0      # mm: a scan that the fitted face model misses by more is not taken for a face
ROUNDS, CONVERGED = 100, 1e-4       # of the ICP; mm, change of the mean distance
INNER = slice(17, 68)   # landmarks without the jaw's, which slide along the surface
NOSE = 30
ALIGNMENTS = ("rigid", "similarity")


class ScanTarget(NamedTuple):
    """A scan prepared for any number of predictions. points (M, 3) mm, samples of its surface in the crop; regions
    (M,) int64 into `face_regions.REGIONS`; surface: None for a cloud, of which `cloud` (K, 3) are all points; landmarks
    (68, 3) mm; diagonal: of the box of `points`, mm."""

    points: np.ndarray
    regions: np.ndarray
    surface: ScanSurface | None
    cloud: np.ndarray
    landmarks: np.ndarray
    crop: Crop
    diagonal: float


class ScanErrors(NamedTuple):
    """reverse (M,) mm of `ScanTarget.points`; forward (N,) mm of the predicted points, NaN of those that do not count;
    transform: prediction -> scan."""

    reverse: np.ndarray
    forward: np.ndarray
    transform: Similarity


class _Anchor(NamedTuple):
    """The face model on a scan: landmarks (68, 3) and the ordered grid (16384, 3), mm."""

    landmarks: np.ndarray
    grid: np.ndarray


def scan_target(scan: Mesh, landmarks: np.ndarray | None = None, name: str = "scan", seed: int = 0) -> ScanTarget:
    """scan: mm, a mesh or a cloud; landmarks (68, 3) mm in its frame, None: the face model's on it.

    ValueError, beginning with `name`, where no face is found in it.
    """
    surface = ScanSurface(scan, name) if len(scan.triangles) else None
    try:
        anchor = _on_cloud(scan.vertices, landmarks) if surface is None else _on_mesh(surface, landmarks, name)
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith(name) else f"{name}: {error}") from None
    marks = anchor.landmarks if landmarks is None else np.asarray(landmarks, np.float64)
    crop = Crop(marks[NOSE], RADIUS)
    if surface is None:
        points = scan.vertices[crop.inside(scan.vertices)]
        points = points[np.random.default_rng(seed).permutation(len(points))[:SAMPLES]]
    else:
        part = crop_sphere(Mesh(surface.vertices, surface.triangles), crop.nose, RADIUS)
        points = sample(part, SAMPLES, np.random.default_rng(seed)).points if len(part.triangles) else np.zeros((0, 3))
    nearest = cKDTree(anchor.grid).query(points)[1] if len(points) else np.zeros(0, np.int64)
    on_face = ~border_mask(grid_triangles(round(len(anchor.grid) ** 0.5)), len(anchor.grid))[nearest]
    points, regions = points[on_face], grid_regions()[nearest[on_face]]
    if len(points) < MIN_SAMPLES:
        raise ValueError(f"{name}: must show a face about the nose tip, within {RADIUS:g} mm of it are {len(points)} "
                         "points of one")
    return ScanTarget(points, regions, surface, scan.vertices, marks, crop,
                      float(np.linalg.norm(np.ptp(points, axis=0))))


def scan_errors(face: np.ndarray, target: ScanTarget, with_scale: bool) -> ScanErrors:
    """A predicted face (n * n, 3) mm, an ordered grid in the head frame, against a scan."""
    face = np.asarray(face, np.float64)
    initial = umeyama(grid_landmarks(face)[INNER], target.landmarks[INNER], with_scale=with_scale)
    surface = ClosestPoints(face, grid_triangles(round(len(face) ** 0.5)))
    transform = aligned(surface, target.points, initial, with_scale)
    moved = transform.apply(face)
    counted = target.crop.inside(moved)
    forward = np.full(len(moved), np.nan)
    if target.surface is None:
        forward[counted] = surface_distances(moved[counted], target.cloud)[0] if counted.any() else 0.0
    else:
        found = target.surface.nearest(moved)
        counted &= ~found.boundary
        forward[counted] = found.distance[counted]
    reverse = transform.scale * surface(transform.inverse().apply(target.points)).distance
    return ScanErrors(reverse, forward, transform)


def aligned(surface: ClosestPoints, points: np.ndarray, initial: Similarity, with_scale: bool) -> Similarity:
    """The motion, or similarity, of a predicted surface onto a scan's points (M, 3), from an initial one: trimmed ICP,
    whose every round fits the nearest points of the surface to the scan's in the scan's unit."""
    transform, before = initial, np.inf
    for _ in range(ROUNDS):
        found = surface(transform.inverse().apply(points))
        distance = transform.scale * found.distance
        use = distance <= np.quantile(distance, TRIM)
        transform = umeyama(found.points[use], points[use], with_scale=with_scale)
        mean = float(distance[use].mean())
        if abs(before - mean) < CONVERGED:
            break
        before = mean
    return transform


def _on_mesh(surface: ScanSurface, landmarks: np.ndarray | None, name: str) -> _Anchor:
    """The fitted face model. ValueError where it does not fit."""
    model = load_face_model()
    known = None if landmarks is None else Landmarks(np.arange(len(landmarks)), landmarks)
    fit = fit_model(surface, known, step=COARSE)
    if not fit.residual <= MAX_RESIDUAL:
        raise ValueError(f"{name}: no face is found in the scan (the face model is {fit.residual:.1f} mm off); turn it "
                         "upright with +z out of the face, or add landmarks.pts")
    vertices = fit.vertices(model)
    return _Anchor(model.landmarks(vertices), encode(vertices, model=model).reshape(-1, 3))


def _on_cloud(points: np.ndarray, landmarks: np.ndarray | None) -> _Anchor:
    """The mean face, brought to the landmarks or, without any, to the points by the surface protocol."""
    model = load_face_model()
    mean = np.asarray(model.mean, np.float64)
    grid, marks = encode(mean, model=model).reshape(-1, 3), model.landmarks(mean)
    place = surface_scores(grid, points).transform if landmarks is None else umeyama(marks[INNER], landmarks[INNER])
    return _Anchor(place.apply(marks), place.apply(grid))
