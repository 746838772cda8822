"""Keypoints of a photo in canonical coordinates, and those of several photos triangulated. numpy only.

The camera is scaled orthography: the affine camera of least squares that sees the mean face as the keypoints lie, made
orthogonal by its polar factor (as `Network.layers.canonical.FaceFrame`, whose numbers these are). What keypoints lie
beside the mean face so seen is turned back into the head frame; a photo has no information along its line of sight.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

KEYPOINTS = 256
CAMERA = 7              # numbers: two orthonormal rows (6), ln of the scale
UNITS = 20.0            # offsets are in twentieths of the mean face's radius, about 5 mm: subjects differ by about 1
#: chosen on synthetic validation subjects: of the precision e^-log_variance that the network states, as much counts.
#: The rest stands for the offsets' own variance and for errors that the keypoints of a photo have in common
CONFIDENCE = 0.3
LOG_VARIANCES = (-8.0, 6.0)     # those of `Network.layers.heat_maps`, which this room cannot import: it has no Keras


class Template(NamedTuple):
    """The mean face's keypoints. points (K, 3) float64, about their middle, the farthest at distance 1; middle (3,) and
    radius, mm of the head frame; solver (K, 3): pixels^T @ solver is the affine camera of least squares."""

    points: np.ndarray
    middle: np.ndarray
    radius: float
    solver: np.ndarray


class Observation(NamedTuple):
    """Photos in canonical coordinates, any leading axes. offsets (..., K, 3) in units of radius / UNITS, each across
    its photo's line of sight; rows (..., 2, 3) of the camera, x right and y up; scale (...): crop sides per radius."""

    offsets: np.ndarray
    rows: np.ndarray
    scale: np.ndarray


class Sums(NamedTuple):
    """What photos of one subject add up to. precision (..., K, 3, 3), weighted (..., K, 3), camera (..., 7): sum over
    the photos; photos: how many."""

    precision: np.ndarray
    weighted: np.ndarray
    camera: np.ndarray
    photos: int


def template_of(keypoints: np.ndarray) -> Template:
    """keypoints (K, 3) mm, head frame, of the mean face. ValueError where they are flat or not finite."""
    keypoints = np.asarray(keypoints, np.float64)
    if keypoints.ndim != 2 or keypoints.shape[1] != 3 or not np.isfinite(keypoints).all() \
            or np.linalg.matrix_rank(keypoints - keypoints.mean(0)) < 3:
        raise ValueError(f"a template must be finite points (K, 3) not in one plane, received {keypoints.shape}")
    middle = keypoints.mean(axis=0)
    radius = float(np.linalg.norm(keypoints - middle, axis=1).max())
    points = (keypoints - middle) / radius
    return Template(points, middle, radius, points @ np.linalg.inv(points.T @ points))


def observe(keypoints: np.ndarray, template: Template) -> Observation:
    """keypoints (..., K, 2) float, crop sides, y down -> the photos in canonical coordinates. Keypoints that all lie in
    one spot give a scale of almost 0 and offsets without meaning.

    Not by `fit_weak_perspective`: the template is always the same, so that least squares is one product for all.
    """
    up = np.asarray(keypoints, np.float64) * [1.0, -1.0]
    centred = up - up.mean(axis=-2, keepdims=True)
    affine = np.swapaxes(centred, -1, -2) @ template.solver                     # (..., 2, 3)
    left, values, right = np.linalg.svd(affine, full_matrices=False)
    rows, scale = left @ right, np.maximum(values.mean(axis=-1), 1e-6)
    beside = UNITS * (centred / scale[..., None, None] - template.points @ np.swapaxes(rows, -1, -2))
    return Observation(beside @ rows, rows, scale)


def sums_of(seen: Observation, log_variance: np.ndarray, confidence: float = CONFIDENCE, noise: float = 0.0) -> Sums:
    """One photo each (no axis of photos), log_variance (..., K) in the network's unit -> its sums.

    noise: variance of an independent error of each coordinate beside the network's, squared units of the offsets."""
    weight = confidence * np.exp(-np.clip(np.asarray(log_variance, np.float64), *LOG_VARIANCES))
    weight = weight / (1 + noise * weight)
    across = np.swapaxes(seen.rows, -1, -2) @ seen.rows                         # onto the image plane
    camera = np.concatenate([seen.rows.reshape(*seen.rows.shape[:-2], 6), np.log(seen.scale)[..., None]], -1)
    return Sums(weight[..., None, None] * across[..., None, :, :], weight[..., None] * seen.offsets, camera, 1)


def added(first: Sums, second: Sums) -> Sums:
    """The photos of both."""
    return Sums(*(a + b for a, b in zip(first, second)))


def features_of(sums: Sums) -> np.ndarray:
    """Features of all photos together: (..., 3 K + 7) float64, the triangulated offsets and the mean camera.

    A keypoint's offset is the mean of its normal posterior: 0 with variance 1 before any photo, and each photo sees it
    across its line of sight with the precision of `sums_of`.
    """
    offsets = np.linalg.solve(sums.precision + np.eye(3), sums.weighted[..., None])[..., 0]
    return np.concatenate([offsets.reshape(*offsets.shape[:-2], -1), sums.camera / sums.photos], -1)
