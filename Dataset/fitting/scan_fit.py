"""Fit the face model to a scan: pose, scale, identity and expression. The first step of a registration.

Gauss-Newton on point-to-plane distances (Chen and Medioni 1992) of points of the ordered grid to the scan's
nearest points, with the model's statistics as a prior (Blanz and Vetter 1999, section 4: coefficients in standard
deviations are penalised by their square), and the distances to landmarks, if given. Pairs are weighted
robustly (Geman and McClure), with a decreasing scale; pairs on the scan's boundary or with different normals are
ignored.
"""
from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.geometry.edges import border_mask
from Dataset.geometry.normals import vertex_normals
from Dataset.geometry.scan_surface import Nearest, ScanSurface
from Dataset.geometry.transforms import Similarity, rotation_from_euler, umeyama
from Dataset.representations.points import SIZE, grid_triangles

STEP = 2                    # every second row and column of the grid is fitted to a scan,
COARSE = 4                  # every fourth to a prediction, which is smoother: about half the time
EXPRESSION_SIGMA = 0.2     # prior of an expression's weight
SCALE_SIGMA = 0.02         # prior of the logarithm of the scale: identity explains most of the size
LANDMARK_SIGMA = 2.0       # mm: accuracy of the landmarks
DATA_SIGMA = 1.0           # mm: of a pair; includes what the model cannot represent
MAX_ANGLE = 50.0            # degrees between the normals of a pair
SCALES = (0.7, 1.4)         # valid range of the landmarks' size, relative to the mean face
HOPELESS = 10.0             # mm: if the scan is farther from the aligned mean face than this, nothing is fitted
# Robust scale (mm), identity components, rounds
SCHEDULE = ((12.0, 0, 3), (8.0, 20, 5), (5.0, 80, 6), (3.0, 200, 8), (2.0, 200, 8))
# Starts without landmarks: yaw, pitch in degrees.
TURNS = ((0, -30), (0, 30), *((yaw, pitch) for yaw in (0, -20, 20) for pitch in (0, -15, 15)))
TIP_FRACTION = 0.002           # of the vertices, the foremost ones: their median is the nose tip


class Landmarks(NamedTuple):
    """Some of the 68 landmarks (Multi-PIE order): index (K,) int64, points (K, 3) float64 mm in the scan's frame."""

    index: np.ndarray
    points: np.ndarray


class Fit(NamedTuple):
    """pose: model frame -> scan frame; identity (200,), expression (84,); residual: mean distance (mm) of the
    fitted grid to the scan where there is some underneath."""

    pose: Similarity
    identity: np.ndarray
    expression: np.ndarray
    residual: float

    def vertices(self, model: FaceModel | None = None) -> np.ndarray:
        """The fitted head (V, 3) float64 mm in the scan's frame."""
        model = load_face_model() if model is None else model
        return self.pose.apply(model.shape(self.identity, self.expression))


class _Bases(NamedTuple):
    """The model at some points of its grid: mean (S, 3), basis (284, S, 3) identity, then expression; triangles over
    them, for normals; solid (S,) bool; the same for the landmarks."""

    mean: np.ndarray
    basis: np.ndarray
    triangles: np.ndarray
    solid: np.ndarray
    landmark_mean: np.ndarray
    landmark_basis: np.ndarray


def fit_model(surface: ScanSurface, landmarks: Landmarks | None = None, model: FaceModel | None = None,
              step: int = STEP, start: Similarity | None = None) -> Fit:
    """Fit pose and coefficients. The scan is in mm with +y up and +z out of the face within some 30 degrees.

    The initial pose is that of the landmarks, if there are at least four, else `start`, if given, else the best of
    several rotations about the foremost points. step: every step-th row and column of the grid is fitted, weighted for
    those in between. If the scan is too far from the face (HOPELESS), the initial pose is returned with its residual.
    """
    model = load_face_model() if model is None else model
    bases = _bases(model, step)
    pose = start_from_landmarks(landmarks, model) if landmarks is not None and len(landmarks.index) > 3 \
        else start or start_from_tip(surface, model)
    count = len(model.identity)
    weights = np.zeros(len(bases.basis), np.float32)
    for sigma, components, rounds in SCHEDULE:
        if components and (residual := _residual(surface, bases, pose, weights)) > HOPELESS:
            return Fit(pose, weights[:count].astype(float), weights[count:].astype(float), residual)
        active = np.concatenate([np.arange(min(components, count)),
                                 np.arange(count, len(weights)) if components else np.arange(0)]).astype(np.int64)
        for _ in range(rounds):
            pose, weights = _round(surface, bases, pose, weights, active, count, sigma, landmarks, (step / STEP) ** 2)
    residual = _residual(surface, bases, pose, weights)
    return Fit(pose, weights[:count].astype(float), weights[count:].astype(float), residual)


def _residual(surface: ScanSurface, bases: _Bases, pose: Similarity, weights: np.ndarray) -> float:
    found = surface.nearest(pose.apply(_shape(bases, weights)))
    under = bases.solid & ~found.boundary
    return float(found.distance[under].mean()) if under.any() else float("inf")


def start_from_landmarks(landmarks: Landmarks, model: FaceModel) -> Similarity:
    """The similarity that brings the mean face's landmarks to the scan's. ValueError when the scale is impossible."""
    mean = model.landmarks(model.mean)[landmarks.index]
    scale = umeyama(mean, landmarks.points).scale
    if not SCALES[0] <= scale <= SCALES[1]:
        raise ValueError(f"landmarks must be a face's, in mm: their size is {scale:.2f} times the mean face's, "
                         f"{SCALES[0]} to {SCALES[1]} is possible")
    return umeyama(mean, landmarks.points)


def start_from_tip(surface: ScanSurface, model: FaceModel) -> Similarity:
    """The best of several initial poses: the rotated mean face, its nose tip at the foremost points of the scan in that
    view, then some iterations of rigid ICP; the best has the least mean distance to the scan."""
    bases = _bases(model)
    every = bases.solid.copy()
    every[np.arange(len(every)) % 5 != 0] = False
    tip = model.landmarks(model.mean)[30]
    best, best_error = Similarity.identity(), np.inf
    for yaw, pitch in TURNS:
        rotation = rotation_from_euler(yaw, pitch)
        ahead = np.einsum("ij,j->i", surface.vertices, rotation[:, 2])
        foremost = surface.vertices[np.argsort(ahead, kind="stable")[-max(1, round(TIP_FRACTION * len(ahead))):]]
        pose = Similarity(1.0, rotation, np.median(foremost, 0) - rotation @ tip)
        for sigma in (20.0, 15.0, 12.0, 10.0, 8.0, 8.0, 6.0, 6.0):
            points = pose.apply(bases.mean[every])
            found = surface.nearest(points)
            fraction = np.where(found.boundary, 0.05, 1.0) / (1 + (found.distance / sigma)**2)**2
            pose = umeyama(points, found.points, fraction + 1e-9, with_scale=False).compose(pose)
        error = np.minimum(surface.nearest(pose.apply(bases.mean[every])).distance, 15.0).mean()
        if error < best_error - 1e-6:
            best, best_error = pose, error
    return best


def _round(surface: ScanSurface, bases: _Bases, pose: Similarity, weights: np.ndarray, active: np.ndarray, count: int,
           sigma: float, landmarks: Landmarks | None, each: float = 1.0) -> tuple[Similarity, np.ndarray]:
    """One Gauss-Newton step over (turn, shift, log scale, coefficients) -> new pose and coefficients. each: the weight
    of one pair, in pairs."""
    points = pose.apply(_shape(bases, weights))
    found = surface.nearest(points)
    fraction = pair_weights(points, vertex_normals(points, bases.triangles), found, sigma) * bases.solid
    rows = np.flatnonzero(fraction)
    centre = pose.translation
    arm, normal = points[rows] - centre, found.normals[rows]
    # d(point) = turn x arm + shift + grow * arm + scale R (basis . change)
    body = pose.scale * np.einsum("ij,ni->nj", pose.rotation, normal).astype(np.float32)
    jacobian = np.concatenate([
        np.cross(arm, normal), normal, np.einsum("ni,ni->n", arm, normal)[:, None],
        sum(bases.basis[active][:, rows, c].T * body[:, c:c + 1] for c in range(3))], axis=1).astype(np.float32)
    gap = np.einsum("ni,ni->n", normal, found.points[rows] - points[rows]).astype(np.float32)
    # The increment is solved for; the prior is on the sum.
    current = np.concatenate([np.zeros(6), [np.log(pose.scale)], weights[active]])
    prior = np.concatenate([np.full(6, 1e-6), [SCALE_SIGMA**-2],
                            np.where(active < count, 1.0, EXPRESSION_SIGMA**-2)])
    scaled = jacobian * (fraction[rows, None] * (each / DATA_SIGMA**2)).astype(np.float32)
    system = (scaled.T @ jacobian).astype(float) + np.diag(prior)
    right = (scaled.T @ gap).astype(float) - prior * current
    if landmarks is not None and len(landmarks.index):
        position = pose.apply(_landmarks(bases, weights)[landmarks.index])
        arm = position - centre
        turn = np.cross(np.eye(3)[None], arm[:, None])          # (K, turn axis, 3)
        move = np.einsum("akc,dc->kda", bases.landmark_basis[active][:, landmarks.index], pose.scale * pose.rotation)
        full = np.concatenate([turn.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (len(arm), 3, 3)),
                               arm[:, :, None], move], axis=2).reshape(-1, len(current))
        miss = (landmarks.points - position)
        trust = np.repeat(1 / (1 + ((miss**2).sum(1) / (3 * LANDMARK_SIGMA)**2))**2, 3) / LANDMARK_SIGMA**2
        system += full.T @ (full * trust[:, None])
        right += full.T @ (miss.ravel() * trust)
    change = np.linalg.solve(system, right)
    weights = weights.copy()
    weights[active] += change[7:].astype(np.float32)
    weights[count:] = np.clip(weights[count:], 0.0, 1.0)
    angle = np.linalg.norm(change[:3])
    turned = _rotation_vector(change[:3] * min(1.0, 0.3 / max(angle, 1e-12)))
    grown = float(np.clip(np.exp(change[6]), 0.9, 1.1))
    return Similarity(pose.scale * grown, turned @ pose.rotation, centre + change[3:6]), weights


def pair_weights(points: np.ndarray, normals: np.ndarray, found: Nearest, sigma: float) -> np.ndarray:
    """The weight of each pair of a point and its nearest one, (N,) in [0, 1]: 0 on the boundary, beyond three times
    `sigma` (mm), and where the normals differ by more than MAX_ANGLE."""
    agree = np.einsum("ni,ni->n", normals, found.normals) > np.cos(np.radians(MAX_ANGLE))
    near = found.distance < 3 * sigma
    return (agree & near & ~found.boundary) / (1 + (found.distance / sigma)**2)**2


def _shape(bases: _Bases, weights: np.ndarray) -> np.ndarray:
    return bases.mean + np.einsum("k,ksc->sc", weights, bases.basis)


def _landmarks(bases: _Bases, weights: np.ndarray) -> np.ndarray:
    return bases.landmark_mean + np.einsum("k,ksc->sc", weights, bases.landmark_basis)


def _rotation_vector(vector: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) about `vector` by its length in radians."""
    return Rotation.from_rotvec(vector).as_matrix()


@lru_cache(maxsize=4)
def _bases(model: FaceModel, step: int = STEP) -> _Bases:
    steps = np.arange(0, SIZE, step)
    chosen = (steps[:, None] * SIZE + steps).ravel()
    matrix = model.grid_matrix[chosen]
    both = np.concatenate([model.identity, model.expression])
    flat = both.transpose(1, 0, 2).reshape(len(model.mean), -1)
    basis = np.ascontiguousarray((matrix @ flat).reshape(len(chosen), len(both), 3).transpose(1, 0, 2))
    corners = np.einsum("kljc,lj->klc", both[:, model.landmark_vertices].astype(float), model.landmark_weights)
    return _Bases((matrix @ model.mean).astype(float), basis.astype(np.float32), grid_triangles(len(steps)),
                  grid_is_skin(model).ravel()[chosen], model.landmarks(model.mean), corners)


@lru_cache(maxsize=2)
def grid_is_skin(model: FaceModel) -> np.ndarray:
    """(128, 128) bool: False on the strips that close eyes and mouth, where a scan has another surface."""
    skin = model.subdivided_triangles[model.region("skin", subdivided=True)]
    border = border_mask(skin, max(skin.max(), model.grid_vertices.max()) + 1)
    used = model.grid_weights > 1e-6
    return ~(border[model.grid_vertices] | ~used).all(-1)
