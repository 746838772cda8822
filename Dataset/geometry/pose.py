"""Head pose in a crop: a pinhole camera that looks at the head, and a robust closed-form estimate of the pose.

A point p = rotation @ x of the rotated head is projected to translation + scale * (p_x, -p_y) / (1 - perspective *
p_z): a pinhole camera at 1 / perspective mm from the head's origin (perspective 0: weak perspective).
"""
from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from Dataset.geometry.weak_perspective import fit_weak_perspective

SAMPLES, OF, SCORED = 64, 5, 400        # random draws, points per draw, points that score a draw
ROUNDS = 4                              # iterations of reweighted least squares, from the best draw
_MIN_DEPTH = 0.2                      # smallest depth, as a fraction of the camera's distance


class Pose(NamedTuple):
    """rotation: (3, 3) head frame -> upright camera frame (x right, y up, z to the camera); scale: px per mm at the
    head's origin; translation: (2,) px, the projection of the origin; perspective: >= 0, 1 / mm."""

    rotation: np.ndarray
    scale: float
    translation: np.ndarray
    perspective: float = 0.0

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) mm of the head frame -> (..., 2) float64 px."""
        x, y, z = _turned(self.rotation, points)
        along = self.scale / np.maximum(1 - self.perspective * z, _MIN_DEPTH)
        return np.stack([x * along, -y * along], -1) + self.translation

    def jacobian(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives of the pixels: with respect to the points, (K, 2, 3); and to a rotation vector applied after the
        rotation (3, radians), the logarithm of the scale, the translation and the perspective, (K, 2, 7)."""
        x, y, z = _turned(self.rotation, points)
        depth = np.maximum(1 - self.perspective * z, _MIN_DEPTH)
        along, zero, one = self.scale / depth, np.zeros(len(x)), np.ones(len(x))
        bend = along * self.perspective / depth
        by = np.stack([along, zero, bend * x, zero, -along, -bend * y], -1).reshape(-1, 2, 3)
        # turn x p = -[p] turn
        cross = np.stack([zero, z, -y, -z, zero, x, y, -x, zero], -1).reshape(-1, 3, 3)
        seen = np.stack([x * along, -y * along], -1)[..., None]
        shift = np.stack([one, zero, zero, one], -1).reshape(-1, 2, 2)
        return by @ self.rotation, np.concatenate([by @ cross, seen, shift, seen * (z / depth)[:, None, None]], -1)

    def moved(self, change: np.ndarray, limits: tuple[float, float]) -> Pose:
        """The pose after a change (7,) in the order of `jacobian`, clipped to 0.3 radians and a quarter of the
        scale."""
        angle = np.linalg.norm(change[:3])
        turn = Rotation.from_rotvec(change[:3] * min(1.0, 0.3 / max(angle, 1e-12))).as_matrix()
        return Pose(turn @ self.rotation, self.scale * float(np.exp(np.clip(change[3], -0.25, 0.25))),
                    self.translation + change[4:6], float(np.clip(self.perspective + change[6], *limits)))


def weak_perspective(points: np.ndarray, pixels: np.ndarray, weights: np.ndarray | None = None) -> Pose:
    """The pose (perspective 0) that projects points (K, 3) mm onto pixels (K, 2), K >= 6, with up to 40 % outliers.

    Closed form: an affine camera by least squares, then the nearest scaled rotation (its polar factor). Of 64 draws of
    5 points the one with the least median error (Rousseeuw 1984, least median of squares) is refined by a few
    iterations of reweighted least squares. Deterministic. The pose is not determined if most points are coplanar.
    """
    weights = np.ones(len(points)) if weights is None else weights
    rng = np.random.default_rng(0)
    some = np.flatnonzero(weights)
    if len(some) > SCORED:      # drawn in proportion to the weights
        fraction = np.sqrt(weights[some])
        some = rng.choice(some, SCORED, replace=False, p=fraction / fraction.sum())
    points, pixels, weights = points[some], pixels[some], weights[some]
    draws = rng.integers(len(some), size=(SAMPLES, OF))
    rotations, scales, translations = fit_weak_perspective(points[draws], pixels[draws], np.ones(draws.shape))
    best = int(np.argmin(np.median(_missed(rotations, scales, translations, points, pixels), axis=1)))
    pose = Pose(rotations[best], float(scales[best]), translations[best])
    for _ in range(ROUNDS):
        miss = ((pose.project(points) - pixels) ** 2).sum(-1)
        trust = weights / (1 + miss / (4 * np.median(miss) + 1e-12)) ** 2
        rotations, scales, translations = fit_weak_perspective(points[None], pixels[None], trust[None])
        pose = Pose(rotations[0], float(scales[0]), translations[0])
    return pose


def pose_numbers(pose: Pose, box: Sequence[float], size: float) -> np.ndarray:
    """A pose in pixels of a crop -> (6,) float64 in pixels of the image: yaw, pitch, roll in degrees, R = Rz(roll)
    Rx(pitch) Ry(yaw); scale, px per mm; x, y of the head's origin, px. The crop of `size` px shows box (x, y, side,
    ...) of the image."""
    roll, pitch, yaw = Rotation.from_matrix(pose.rotation).as_euler("ZXY", degrees=True)
    factor = box[2] / size
    return np.array([yaw, pitch, roll, pose.scale * factor, *(np.asarray(pose.translation) * factor + box[:2])])


def _turned(rotation: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, ...]:
    """rotation @ points, coordinate by coordinate: ten times as fast as einsum, and without BLAS's threads."""
    x, y, z = np.moveaxis(np.asarray(points, np.float64), -1, 0)
    return tuple(row[0] * x + row[1] * y + row[2] * z for row in rotation)


def _missed(rotations: np.ndarray, scales: np.ndarray, translations: np.ndarray, points: np.ndarray,
            pixels: np.ndarray) -> np.ndarray:
    """Squared distances (N, K) px^2 between points (K, 3), projected with N weak-perspective poses, and pixels (K,
    2)."""
    x, y, z = points.T
    total = 0.0
    for axis, sign in ((0, 1.0), (1, -1.0)):
        row = (sign * scales[:, None] * rotations[:, axis])[..., None]                          # (N, 3, 1)
        seen = row[:, 0] * x + row[:, 1] * y + row[:, 2] * z + translations[:, axis, None]
        total = total + np.square(seen - pixels[:, axis])
    return total
