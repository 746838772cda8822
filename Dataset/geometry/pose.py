"""Where a head is in a crop: weak perspective with one term of depth, and its closed-form start, safe from outliers.

A point p = rotation @ x of the turned head is seen at translation + scale * (p_x, -p_y) / (1 - perspective * p_z): the
pinhole of a camera that looks at the head's origin from 1 / perspective mm away (0: weak perspective).
"""
from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from Dataset.geometry.weak_perspective import fit_weak_perspective

SAMPLES, OF, SCORED = 64, 5, 400        # draws, of so many points each, out of at most so many
ROUNDS = 4                              # of reweighted least squares after the best draw
_MIN_DEPTH = 0.2                      # of the camera's distance: what comes nearer is held there


class Pose(NamedTuple):
    """rotation: (3, 3) head frame -> upright camera frame (x right, y up, z to the camera); scale: px per mm at the
    head's origin; translation: (2,) px, where the origin is seen; perspective: >= 0, 1 / mm."""

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
        """How pixels change: with the points, (K, 2, 3); with a turn after the rotation (3, radians), the logarithm of
        the scale, the translation and the perspective, (K, 2, 7)."""
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
        """After a change (7,) in the order of `jacobian`, held to steps of 0.3 radians and a quarter of the scale."""
        angle = np.linalg.norm(change[:3])
        turn = Rotation.from_rotvec(change[:3] * min(1.0, 0.3 / max(angle, 1e-12))).as_matrix()
        return Pose(turn @ self.rotation, self.scale * float(np.exp(np.clip(change[3], -0.25, 0.25))),
                    self.translation + change[4:6], float(np.clip(self.perspective + change[6], *limits)))


def weak_perspective(points: np.ndarray, pixels: np.ndarray, weights: np.ndarray | None = None) -> Pose:
    """The pose (perspective 0) that brings points (K, 3) mm onto pixels (K, 2), K >= 6; right with up to 40 % gross
    outliers.

    Closed form: an affine camera by least squares and its nearest scaled rotation (its polar factor). Of 64 draws of 5
    points the one with the least median error starts a few rounds of reweighted least squares (Rousseeuw 1984, least
    median of squares). Deterministic. Points of which most lie in one plane leave the pose to chance.
    """
    weights = np.ones(len(points)) if weights is None else weights
    rng = np.random.default_rng(0)
    some = np.flatnonzero(weights)
    if len(some) > SCORED:      # what is sure is taken more often, but nothing alone
        share = np.sqrt(weights[some])
        some = rng.choice(some, SCORED, replace=False, p=share / share.sum())
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
    """(6,) float64 of a pose in the px of a crop of `size` px that shows box (x, y, side, ...) of a picture: yaw,
    pitch, roll in degrees, R = Rz(roll) Rx(pitch) Ry(yaw); scale, px of the picture per mm; x, y px of the origin."""
    roll, pitch, yaw = Rotation.from_matrix(pose.rotation).as_euler("ZXY", degrees=True)
    factor = box[2] / size
    return np.array([yaw, pitch, roll, pose.scale * factor, *(np.asarray(pose.translation) * factor + box[:2])])


def _turned(rotation: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, ...]:
    """rotation @ points, coordinate by coordinate: a tenth of einsum's time, and none of BLAS's threads."""
    x, y, z = np.moveaxis(np.asarray(points, np.float64), -1, 0)
    return tuple(row[0] * x + row[1] * y + row[2] * z for row in rotation)


def _missed(rotations: np.ndarray, scales: np.ndarray, translations: np.ndarray, points: np.ndarray,
            pixels: np.ndarray) -> np.ndarray:
    """Squared distances px^2 (N, K) of points (K, 3), seen in N weak-perspective poses, from pixels (K, 2)."""
    x, y, z = points.T
    total = 0.0
    for axis, sign in ((0, 1.0), (1, -1.0)):
        row = (sign * scales[:, None] * rotations[:, axis])[..., None]                          # (N, 3, 1)
        seen = row[:, 0] * x + row[:, 1] * y + row[:, 2] * z + translations[:, axis, None]
        total = total + np.square(seen - pixels[:, axis])
    return total
