"""One photo's keypoints -> identity, expression, pose and landmarks, robust to regions of keypoints that are wrong."""
from __future__ import annotations

import logging
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from Dataset.face_model.model import FaceModel
from Dataset.geometry.pose import Pose
from Dataset.geometry.weak_perspective import fit_weak_perspective
from Dataset.representations.coefficients import EXPRESSION, IDENTITY, SHAPE, linear
from Dataset.representations.points import grid_landmarks
from Network.readout.canonical import (LOG_VARIANCES, UNITS, Observation, Sums, Template, features_of, observe, sums_of,
                                       template_of)
from Network.readout.gaussian import apply
from Network.readout.model import YAWS, KeypointModel
from Network.readout.outliers import clean, noise_variance

log = logging.getLogger(__name__)
MAX_TYPICALITY = 2.5        # the bound of plausible faces: beyond it the estimate is shrunk
NOISES = (0.01, 0.1, 1.0)   # variances, squared units of the offsets (UNITS): a pixel of 128 px is about 0.1
MAX_OUTLIERS = 1 / 3        # of the keypoints: where more are off, all of them are noisy
_MIN_VARIANCE = 0.05      # beside e^log_variance, of a keypoint as the pose sees it


class FaceKeypoints(NamedTuple):
    """Linear maps of coefficients (284,) to points: mean (K, 3) and basis (284, 3 K) mm of keypoints, landmarks."""

    template: Template
    mean: np.ndarray
    basis: np.ndarray
    landmark_mean: np.ndarray
    landmark_basis: np.ndarray
    extent: np.ndarray      # (200,): RMS mm of the keypoints' movement by one unit of each identity coefficient

    def keypoints(self, coefficients: np.ndarray) -> np.ndarray:
        """(284,) -> (K, 3) mm."""
        return self.mean + (coefficients @ self.basis).reshape(-1, 3)

    def landmarks(self, coefficients: np.ndarray) -> np.ndarray:
        """(284,) -> (68, 3) mm."""
        return self.landmark_mean + (coefficients @ self.landmark_basis).reshape(-1, 3)

    def typicality(self, identity: np.ndarray) -> float:
        """How far a neutral face (200,) lies from the mean face: RMS distance of its keypoints, over that of the face
        model's subjects (standard normal coefficients). Subjects have about 1, estimates of them a little less."""
        return float(np.linalg.norm(identity * self.extent) / np.linalg.norm(self.extent))


@lru_cache(maxsize=2)
def face_keypoints(model: FaceModel) -> FaceKeypoints:
    """The maps of a face model."""
    means, bases = [], []
    for what in ("keypoints", "landmarks"):
        flat = linear(model, what)
        means.append(flat.mean.reshape(3, -1).T.astype(np.float64))
        basis = flat.basis.astype(np.float64).reshape(SHAPE.stop, 3, -1).transpose(0, 2, 1)
        bases.append(np.ascontiguousarray(basis.reshape(SHAPE.stop, -1)))
    extent = np.sqrt(np.square(bases[0][IDENTITY]).sum(axis=1) / len(means[0]))
    return FaceKeypoints(template_of(means[0]), means[0], bases[0], means[1], bases[1], extent)


class Estimate(NamedTuple):
    """coefficients (284,), expression within [0, 1] or a little beyond; cleaned (K, 2): the keypoints that count, crop
    sides; pose in crop sides; sums: of the cleaned keypoints; yaw, degrees; inliers (K,) bool; noise: variance of the
    keypoints' independent errors, squared units of the offsets, 0 of most photos."""

    coefficients: np.ndarray
    cleaned: np.ndarray
    pose: Pose
    sums: Sums
    yaw: float
    inliers: np.ndarray
    noise: float


def yaw_of(seen: Observation) -> np.ndarray:
    """Degrees (...), positive towards the subject's left as docs/conventions.md has it."""
    third = np.cross(seen.rows[..., 0, :], seen.rows[..., 1, :])
    return np.degrees(np.arctan2(-third[..., 0], third[..., 2]))


def yaw_weights(yaw: np.ndarray) -> np.ndarray:
    """(...) degrees -> (..., Y): how much the map of each of YAWS counts; they add up to 1."""
    nodes = np.asarray(YAWS)
    hats = [np.interp(yaw, nodes, row) for row in np.eye(len(nodes))]
    return np.stack(hats, -1)


def read_photo(model: KeypointModel, sums: Sums, yaw: float) -> np.ndarray:
    """One photo's sums -> identity and expression (284,), the posterior mean."""
    weights, features = yaw_weights(yaw), features_of(sums)
    return sum(w * apply(found, features) for w, found in zip(weights, model.photo) if w > 0)


def given_identity(model: KeypointModel, coefficients: np.ndarray, identity: np.ndarray, yaw: float) -> np.ndarray:
    """The same (284,) when the identity is known better, from several photos: expression moves with it."""
    weights = yaw_weights(yaw)
    moved = (identity - coefficients[IDENTITY]) @ np.tensordot(weights, model.conditional, 1)
    return np.concatenate([identity, coefficients[EXPRESSION] + moved])


def estimate_photo(model: KeypointModel, face: FaceKeypoints, keypoints: np.ndarray, log_variance: np.ndarray
                   ) -> Estimate:
    """keypoints (K, 2) crop sides and log_variance (K,), finite -> the estimate.

    Regions that are off what their neighbours predict are replaced by that prediction. Where too many are off, or those
    that are left are rougher than those of faces, the keypoints are taken as noisy: they are replaced by what is
    expected of them, given the noise of greatest likelihood. Where the face is still beyond MAX_TYPICALITY, more noise
    is assumed (NOISES), with a warning.
    """
    keypoints = np.asarray(keypoints, np.float64)
    cleaned, inliers = without_outliers(model, face, keypoints)
    if 1 - inliers.mean() > MAX_OUTLIERS:
        cleaned, inliers = keypoints, np.ones_like(inliers)
    noise = noise_variance(_field(face, cleaned)[0], model.precision)
    found = _estimate(model, face, smoothed(model, face, cleaned, noise), log_variance, inliers, noise)
    far = face.typicality(found.coefficients[IDENTITY])
    for more in NOISES if far > MAX_TYPICALITY else ():
        found = _estimate(model, face, smoothed(model, face, cleaned, noise + more), log_variance, inliers,
                          noise + more)
        if face.typicality(found.coefficients[IDENTITY]) <= MAX_TYPICALITY:
            break
    if far > MAX_TYPICALITY:
        log.warning("a photo's face is %.1f times as far from the mean face as an average subject: its keypoints are "
                    "taken as noisy", far)
    return found


def without_outliers(model: KeypointModel, face: FaceKeypoints, keypoints: np.ndarray
                     ) -> tuple[np.ndarray, np.ndarray]:
    """keypoints (K, 2) -> the same with wrong regions replaced, and which were kept (K,) bool."""
    field, seen = _field(face, keypoints)
    found = clean(field, model.precision)
    return keypoints + _in_crop(found.field - field, seen), found.inliers


def smoothed(model: KeypointModel, face: FaceKeypoints, keypoints: np.ndarray, noise: float) -> np.ndarray:
    """keypoints (K, 2) -> what is expected of them when each coordinate has an error of variance `noise`, in squared
    units of the offsets."""
    if not noise:
        return keypoints
    field, seen = _field(face, keypoints)
    expected = np.linalg.solve(np.eye(len(field)) + noise * model.precision, field)
    return keypoints + _in_crop(expected - field, seen)


def _field(face: FaceKeypoints, keypoints: np.ndarray) -> tuple[np.ndarray, Observation]:
    """keypoints (K, 2) -> their offsets in the image plane (K, 2), y up, units of the offsets, and the observation."""
    seen = observe(keypoints, face.template)
    return seen.offsets @ seen.rows.T, seen


def _in_crop(change: np.ndarray, seen: Observation) -> np.ndarray:
    """A change of offsets as seen (K, 2), y up -> of keypoints, crop sides, y down."""
    return change * (seen.scale / UNITS) * [1.0, -1.0]


def _estimate(model: KeypointModel, face: FaceKeypoints, keypoints: np.ndarray, log_variance: np.ndarray,
              inliers: np.ndarray, noise: float) -> Estimate:
    """The posterior mean of keypoints without outliers, and the pose that shows it where they lie."""
    seen = observe(keypoints, face.template)
    sums, yaw = sums_of(seen, log_variance, noise=noise), float(yaw_of(seen))
    coefficients = read_photo(model, sums, yaw)
    weights = 1 / (_MIN_VARIANCE + np.exp(np.clip(log_variance, *LOG_VARIANCES)))
    pose = fitted_pose(face.keypoints(coefficients), keypoints, weights)
    return Estimate(coefficients, keypoints, pose, sums, yaw, inliers, noise)


def fitted_pose(points: np.ndarray, keypoints: np.ndarray, weights: np.ndarray) -> Pose:
    """The pose that shows points (K, 3) mm at keypoints (K, 2), crop sides, by weighted least squares; weights (K,)."""
    rotation, scale, translation = (found[0] for found in
                                    fit_weak_perspective(points[None], keypoints[None], weights[None]))
    return Pose(rotation, float(scale), translation)


def landmarks_in_crop(face: FaceKeypoints, coefficients: np.ndarray, pose: Pose, cleaned: np.ndarray) -> np.ndarray:
    """(68, 2) float64 crop sides: the face's landmarks as its pose shows them, moved as the keypoints lie beside
    theirs (bilinear on the 16x16 grid: keypoints alone would cut off every curve)."""
    beside = cleaned - pose.project(face.keypoints(coefficients))
    return pose.project(face.landmarks(coefficients)) + grid_landmarks(np.pad(beside, ((0, 0), (0, 1))))[:, :2]
