"""A subject's face, and each photo's, from keypoints, by the joint fit of Dataset/fitting/multi_view.py."""
from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.fitting.multi_view import FitOptions, JointFit, joint_fit
from Dataset.representations.correspondences import Correspondences
from Dataset.representations.points import SIZE

MAX_PHOTOS = 16         # that are fitted at once: the newest
SIDE = 128              # px that a crop is taken to have: the fit's spreads are in pixels of such
UNIT = 0.02             # crop sides: log-variances are of errors in this unit (`Network.losses.points.PLACE_UNIT`)
FIT = FitOptions(components=80, iterations=3)


class PhotoEstimate(NamedTuple):
    """One photo's face. identity (200,) standard deviations; expression (84,) weights; rotation (3, 3), head to the
    upright camera frame; scale: crop sides per mm; translation (2,): where the head's origin is seen, crop sides;
    landmarks (68, 2), crop sides; typicality: length of the identity over that of an average subject's."""

    identity: np.ndarray
    expression: np.ndarray
    rotation: np.ndarray
    scale: float
    translation: np.ndarray
    landmarks: np.ndarray
    typicality: float


class Readout(Protocol):
    """One subject's photos: `add` one photo's keypoints (256, 2) in crop sides and their log-variances (256,) -> this
    photo's face; `subject`: identity (200,) and typicality from all of them; `reset`: forget them."""

    def add(self, keypoints: np.ndarray, log_variance: np.ndarray) -> PhotoEstimate: ...

    def subject(self) -> tuple[np.ndarray, float]: ...

    def reset(self) -> None: ...


class JointReadout:
    """A `Readout`. NotFittable, and nothing is kept, for keypoints that show no face."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the photos."""
        self._photos: list[Correspondences] = []
        self._fit: JointFit | None = None

    def add(self, keypoints: np.ndarray, log_variance: np.ndarray) -> PhotoEstimate:
        """As the protocol."""
        model = load_face_model()
        photos = [*self._photos, correspondences_of(keypoints, log_variance)][-MAX_PHOTOS:]
        fit = joint_fit(photos, model, FIT, None if len(photos) == len(self._photos) else self._fit)
        self._photos, self._fit, last = photos, fit, len(photos) - 1
        return PhotoEstimate(fit.identity, fit.expressions[last], fit.rotations[last], float(fit.scales[last]) / SIDE,
                             fit.translations[last] / SIDE, (fit.landmarks(last, model) / SIDE).astype(np.float32),
                             typicality(fit.identity))

    def subject(self) -> tuple[np.ndarray, float]:
        """As the protocol; the mean face before the first photo."""
        identity = np.zeros(len(load_face_model().identity)) if self._fit is None else self._fit.identity
        return identity, typicality(identity)


def typicality(identity: np.ndarray) -> float:
    """Length of an identity (n,) over the expected one of the model's own subjects, sqrt(n)."""
    return float(np.linalg.norm(identity) / np.sqrt(len(identity)))


def correspondences_of(keypoints: np.ndarray, log_variance: np.ndarray) -> Correspondences:
    """Keypoints (n * n, 2) in crop sides and log-variances (n * n,) of an ordered n x n grid, for a joint fit."""
    side = round(len(keypoints) ** 0.5)
    steps = (SIZE - 1) * np.arange(side) / (side - 1)
    grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
    weights = np.exp(-np.asarray(log_variance, float)) / (UNIT * SIDE) ** 2
    return Correspondences(grid, SIDE * np.asarray(keypoints, float), weights, SIDE)
