"""Similarity transforms, rotations, best fits, and the thesis's two normalisations of a point cloud. Pure numpy."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Similarity(NamedTuple):
    """x -> scale * rotation @ x + translation, on column vectors.

    scale        float, not 0 (a rigid motion has 1)
    rotation     (3, 3) float64, proper (determinant +1)
    translation  (3,) float64, in the unit of the space that the transform leads to
    """

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    @classmethod
    def identity(cls) -> Similarity:
        """The transform that leaves everything where it is."""
        return cls(1.0, np.eye(3), np.zeros(3))

    def apply(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) points -> (..., 3) float64."""
        # einsum, not @, here and in umeyama: BLAS starts threads for such thin products, at a loss on a busy machine
        points = np.asarray(points, np.float64)
        return np.einsum("...j,ij->...i", points, self.scale * self.rotation) + self.translation

    def inverse(self) -> Similarity:
        """The transform that undoes this one; ValueError when the scale is 0."""
        if self.scale == 0:
            raise ValueError("a transform with scale 0 has no inverse")
        rotation = self.rotation.T
        return Similarity(1.0 / self.scale, rotation, -(rotation @ self.translation) / self.scale)

    def compose(self, first: Similarity) -> Similarity:
        """The transform that applies `first`, then this one: compose(a, b).apply(x) = a.apply(b.apply(x))."""
        return Similarity(self.scale * first.scale, self.rotation @ first.rotation, self.apply(first.translation))

    def matrix(self) -> np.ndarray:
        """(4, 4) float64 homogeneous matrix."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.scale * self.rotation
        matrix[:3, 3] = self.translation
        return matrix


MAX_COORDINATE = 1e100


def as_points(points: np.ndarray, name: str = "points") -> np.ndarray:
    """(N, 3) float64 view or copy of a cloud; ValueError unless it is (N, 3) with N >= 1, finite throughout, and no
    coordinate is above MAX_COORDINATE, whose square is a number."""
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"{name}: want an (N, 3) array, got shape {points.shape}")
    if len(points) == 0:
        raise ValueError(f"{name}: want at least one point, got none")
    if points.dtype.kind not in "fiu":
        raise ValueError(f"{name}: want numbers, got {points.dtype}")
    points = points.astype(np.float64, copy=False)
    if not np.isfinite(points).all():
        bad = np.count_nonzero(~np.isfinite(points).all(axis=1))
        raise ValueError(f"{name}: want finite coordinates, got NaN or infinity in {bad} of {len(points)} points")
    if np.abs(points).max() > MAX_COORDINATE:
        raise ValueError(f"{name}: want coordinates of at most {MAX_COORDINATE:g}, got {np.abs(points).max():g}")
    return points


def umeyama(source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None,
            with_scale: bool = True) -> Similarity:
    """The similarity that brings `source` nearest to `target` in (weighted) least squares (Umeyama 1991, eq. 40-43).

    source, target  (N, 3), row i of one corresponds to row i of the other
    weights         (N,) not negative, not all 0; None: all equal
    with_scale      False: the best rigid motion (scale 1)

    Never a reflection. Where the points do not determine the solution, one of the best is returned: points on a
    line leave the rotation about it free; when all source points (or all target points) coincide the rotation is the
    identity, and with it the scale is 1 (source) or 0 (target; it has no inverse).
    """
    source, target = as_points(source, "source"), as_points(target, "target")
    if source.shape != target.shape:
        raise ValueError(f"source and target must correspond row by row, got {source.shape} and {target.shape}")
    if weights is None:
        w = np.full(len(source), 1.0 / len(source))
    else:
        w = np.asarray(weights, np.float64)
        if w.shape != (len(source),) or not np.isfinite(w).all() or (w < 0).any() or w.sum() <= 0:
            raise ValueError(f"weights: want {len(source)} values >= 0, not all 0, got shape {w.shape}")
        w = w / w.sum()
    centre_s, centre_t = np.einsum("i,ij->j", w, source), np.einsum("i,ij->j", w, target)
    a, b = source - centre_s, target - centre_t
    variance, sigma = float(np.einsum("i,ij,ij->", w, a, a)), float(np.einsum("i,ij,ij->", w, b, b))
    # rounding leaves a cloud of equal points a variance of about (eps * distance to 0)^2, not exactly 0
    collapsed = [v <= 1e-24 * float(np.abs(x).max()) ** 2 for v, x in ((variance, source), (sigma, target))]
    if any(collapsed):
        scale = 0.0 if with_scale and not collapsed[0] else 1.0
        return Similarity(scale, np.eye(3), centre_t - scale * centre_s)
    rotation, singular = _rotation(np.einsum("ij,ik->jk", b, a * w[:, None]))
    scale = float(singular.sum() / variance) if with_scale else 1.0
    return Similarity(scale, rotation, centre_t - scale * rotation @ centre_s)


def _rotation(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(3, 3) sum of target x source^T -> (proper rotation, (3,) signed singular values)."""
    u, s, vt = np.linalg.svd(covariance)
    if np.linalg.det(u @ vt) < 0:       # turn the least important axis back, instead of mirroring
        u[:, 2] *= -1
        s = s * (1.0, 1.0, -1.0)
    return u @ vt, s


def plane_rotation(angle: float) -> np.ndarray:
    """(2, 2) float64: by `angle` radians, from the first axis towards the second."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def rotation_from_euler(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """(3, 3) rotation R = Rz(roll) Rx(pitch) Ry(yaw) from degrees, as docs/conventions.md defines them.

    Yaw about +y (positive: the subject turns to his left), pitch about +x (positive: the face points down), roll
    about +z (positive: counter-clockwise as the camera sees it).
    """
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def to_unit_sphere(points: np.ndarray) -> tuple[np.ndarray, Similarity]:
    """Centroid to 0, farthest point to distance 1: the thesis's `point_cloud_normalization` (listing B-3).

    (N, 3) of any unit -> (N, 3) float64, and the transform that was used (points -> unit sphere; its inverse undoes
    it). ValueError when the cloud is empty, not finite, or all its points are the same. The input is not changed
    (the listing subtracts in place).
    """
    points = as_points(points)
    centre = points.mean(axis=0)
    radius = float(np.sqrt(((points - centre) ** 2).sum(axis=1).max()))
    if radius <= 1e-12 * max(1e-30, float(np.abs(points).max())):
        raise ValueError(f"points: want at least two different points, got {len(points)} equal ones")
    used = Similarity(1.0 / radius, np.eye(3), -centre / radius)
    return (points - centre) / radius, used


def to_origin(points: np.ndarray) -> tuple[np.ndarray, Similarity]:
    """Smallest x, y and z to 0, scale kept: the listing's second normalisation, `origin_translation` (B-3).

    (N, 3) -> (N, 3) float64, and the transform that was used.
    """
    points = as_points(points)
    low = points.min(axis=0)
    return points - low, Similarity(1.0, np.eye(3), -low)
