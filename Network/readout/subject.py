"""Photos of one subject -> this photo's face and the subject's neutral face, photo by photo, in closed form."""
from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np

from Dataset.errors import NotFittable
from Dataset.face_model.model import load_face_model
from Dataset.geometry.pose import Pose
from Dataset.representations.coefficients import EXPRESSION, IDENTITY
from Network.readout.canonical import KEYPOINTS, Sums, added, features_of
from Network.readout.estimate import (MAX_TYPICALITY, Estimate, estimate_photo, face_keypoints, given_identity,
                                      landmarks_in_crop)
from Network.readout.gaussian import apply
from Network.readout.model import KeypointModel

log = logging.getLogger(__name__)
UNTRUSTED = 0.1     # of a photo's precision counts where its face alone is not typical


class PhotoEstimate(NamedTuple):
    """The face that a photo shows. identity (200,), expression (84,) float64; rotation (3, 3) head frame -> upright
    camera (x right, y up, z to the camera); scale, crop sides per mm; translation (2,), crop sides, where the head
    frame's origin is seen; landmarks (68, 2) crop sides, (0, 0) the top left corner; typicality of the identity
    (`FaceKeypoints.typicality`), at most 2.5; inliers (256,) bool: the keypoints that were not replaced."""

    identity: np.ndarray
    expression: np.ndarray
    rotation: np.ndarray
    scale: float
    translation: np.ndarray
    landmarks: np.ndarray
    typicality: float
    inliers: np.ndarray

    def vertices(self) -> np.ndarray:
        """(V, 3) float64 mm, head frame: the face model's head with this identity and expression."""
        return load_face_model().shape(self.identity, self.expression)

    def pose(self) -> Pose:
        """The weak perspective, in crop sides."""
        return Pose(self.rotation, self.scale, self.translation)


class SubjectReadout:
    """`add` for each photo, then `subject`. Holds sums, so that its size does not grow with the photos."""

    def __init__(self, model: KeypointModel) -> None:
        self.model, self._face = model, face_keypoints(load_face_model())
        self.reset()

    def reset(self) -> None:
        """Forget the subject."""
        self._sums: Sums | None = None
        self._single = np.zeros(IDENTITY.stop)
        self.count = 0

    def add(self, keypoints: np.ndarray, log_variance: np.ndarray) -> PhotoEstimate:
        """One more photo: keypoints (256, 2) float, crop sides; log_variance (256,) of the network -> the face in it,
        with the identity of all photos so far. NotFittable when they are not finite, ValueError when they are of
        another shape; then nothing is kept of the photo."""
        keypoints, log_variance = np.asarray(keypoints, np.float64), np.asarray(log_variance, np.float64)
        if keypoints.shape != (KEYPOINTS, 2) or log_variance.shape != (KEYPOINTS,):
            raise ValueError(f"a photo has keypoints ({KEYPOINTS}, 2) and log_variance ({KEYPOINTS},), "
                             f"received {keypoints.shape} and {log_variance.shape}")
        if not np.isfinite(keypoints).all() or not np.isfinite(log_variance).all():
            raise NotFittable("keypoints and log_variance must be finite, received NaN or infinity")
        found = self._safe(estimate_photo(self.model, self._face, keypoints, log_variance))
        self._sums = found.sums if self._sums is None else added(self._sums, found.sums)
        self.count += 1
        if self.count == 1:
            self._single = found.coefficients[IDENTITY]
        return self._photo(found)

    def subject(self) -> tuple[np.ndarray, float]:
        """The neutral face of all photos: identity (200,) float64, the posterior mean, and its typicality, at most 2.5.
        Before any photo the mean face and 0."""
        if self.count < 2:
            identity = self._single
        else:
            counts, features = self.model.counts, features_of(self._sums)
            at = float(np.interp(-1 / self.count, -1 / counts, np.arange(len(counts))))     # linear in 1 / photos
            low, high = (apply(self.model.subject[k], features) for k in (int(np.floor(at)), int(np.ceil(at))))
            identity = low + (at - np.floor(at)) * (high - low)
        return self._bounded(identity)

    def _bounded(self, identity: np.ndarray) -> tuple[np.ndarray, float]:
        """The identity, shrunk towards the mean face to MAX_TYPICALITY where it lies beyond, and its typicality."""
        typicality = self._face.typicality(identity)
        if typicality <= MAX_TYPICALITY:
            return identity, typicality
        log.warning("a face %.1f times as far from the mean face as the model's subjects: shrunk to %.1f", typicality,
                    MAX_TYPICALITY)
        return identity * (MAX_TYPICALITY / typicality), MAX_TYPICALITY

    def _safe(self, found: Estimate) -> Estimate:
        """The estimate; of a face that is not typical one with stronger shrinkage, which counts less in the sums."""
        if self._face.typicality(found.coefficients[IDENTITY]) <= MAX_TYPICALITY:
            return found
        identity, _ = self._bounded(found.coefficients[IDENTITY])
        sums = found.sums._replace(precision=UNTRUSTED * found.sums.precision,
                                   weighted=UNTRUSTED * found.sums.weighted)
        expression = given_identity(self.model, found.coefficients, identity, found.yaw)[EXPRESSION]
        return found._replace(coefficients=np.concatenate([identity, expression]), sums=sums)

    def _photo(self, found: Estimate) -> PhotoEstimate:
        identity, typicality = self.subject()
        both = given_identity(self.model, found.coefficients, identity, found.yaw) if self.count > 1 \
            else found.coefficients
        pose = found.pose
        return PhotoEstimate(both[IDENTITY], both[EXPRESSION], pose.rotation, pose.scale, pose.translation,
                             landmarks_in_crop(self._face, both, pose, found.cleaned), typicality, found.inliers)
