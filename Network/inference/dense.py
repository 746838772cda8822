"""Systems with a dense prediction: the face model is fitted to that of each photo, and the fits of a subject's photos
are combined."""
from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic, NamedTuple, Sequence, TypeVar

import numpy as np

from Dataset.errors import NotFittable
from Dataset.geometry.pose import Pose
from Dataset.representations.points import mean_face
from Network.engine.loaded import Loaded
from Network.engine.run import run_of
from Network.inference.base import Face, PhotoAnswer, Predictor, in_batches
from Network.inference.photos import Crop, NoFace, Scored, recropped, square_crops

Reading = TypeVar("Reading")
MAX_PHOTOS = 16         # that are fitted: the newest
FARTHEST = 12.0         # standard deviations from the mean face: an identity beyond that is a failed fit


class Fit(NamedTuple):
    """points (N, 3) float32, the subject's neutral face in the unit sphere; of the last photo, None: unknown:
    photo_points (N, 3) with its expression, keypoints (256, 2) and landmarks (68, 2) in crop sides, pose in crop sides;
    state: from which the next fit goes on."""

    points: np.ndarray
    photo_points: np.ndarray | None = None
    keypoints: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    pose: Pose | None = None
    state: Any = None


class Seen(NamedTuple, Generic[Reading]):
    """A crop's dense prediction (S, S, C), the readings of all photos with this one, and the fit to them."""

    output: np.ndarray
    readings: list[Reading]
    fit: Fit


class DensePredictor(Predictor, Generic[Reading]):
    """`read` each photo's dense prediction, then `fit` them."""

    has_photo_face = True

    def __init__(self, loaded: Loaded, **options: Any) -> None:
        super().__init__(loaded, **options)
        self._run = run_of(loaded)
        self._forget()

    @abstractmethod
    def read(self, output: np.ndarray) -> Reading:
        """A photo's dense prediction (S, S, C) -> the input of the fit. NoFace or NotFittable without a face."""

    @abstractmethod
    def fit(self, readings: Sequence[Reading], state: Any = None) -> Fit:
        """One subject from at least one reading; state: of the fit to all of them but the last."""

    def own_surface(self, output: np.ndarray) -> np.ndarray:
        """Of one with `photo_surface`: points (M, 3) float32 of the dense prediction's own surface, unit sphere.
        NoFace or NotFittable where it shows none."""
        raise ValueError(f"{self.source}: {self.network} has no surface of its own")

    def photo(self, image: np.ndarray) -> PhotoAnswer:
        """As `Predictor.photo`; of one with `photo_surface` without a fit, but for the landmarks."""
        if not self.photo_surface:
            return super().photo(image)
        crops = square_crops([image], self.size)
        self.reset()
        output, landmarks = self._outputs(crops)[0], None
        try:
            points = self.own_surface(output)
        except (NoFace, NotFittable):
            return PhotoAnswer(mean_face(self.points), None, False)
        if self.has_landmarks:
            try:
                landmarks = self.fit([self.read(output)]).landmarks
            except (NoFace, NotFittable):
                pass
        return PhotoAnswer(points, landmarks, True)

    def answers(self, inputs: np.ndarray) -> np.ndarray:
        return in_batches(self._run, np.asarray(inputs, np.float32))

    def subject(self, images: Sequence[np.ndarray]) -> np.ndarray:
        crops = square_crops(images, self.size)
        self.reset()
        return self._subject(self._outputs(crops))

    def prefixes(self, images: Sequence[np.ndarray]) -> np.ndarray:
        crops = square_crops(images, self.size)
        self.reset()
        outputs = self._outputs(crops)
        return np.stack([self._subject(outputs[:t + 1]) for t in range(len(outputs))])

    def _outputs(self, crops: list[Crop]) -> np.ndarray:
        return self.answers(self.inputs([crop.image for crop in crops]))

    def _predict(self, inputs: np.ndarray) -> np.ndarray:
        flat = self.answers(inputs.reshape(-1, *inputs.shape[2:]))
        return np.stack([self._subject(outputs) for outputs in flat.reshape(*inputs.shape[:2], *flat.shape[1:])])

    def _subject(self, outputs: np.ndarray) -> np.ndarray:
        """The neutral face of one subject's dense predictions (T, S, S, C)."""
        readings = []
        for output in outputs:
            try:
                readings.append(self.read(output))
            except (NoFace, NotFittable):
                continue
        return self.fit(readings).points if readings else mean_face(self.points)

    def _look(self, crop: Crop) -> Scored[Seen]:
        return Scored(*recropped(crop, self._see, lambda seen: seen.fit.keypoints))

    def _see(self, crop: Crop) -> Seen:
        output = self.answers(self.inputs([crop.image]))[0]
        try:
            readings = [*self._readings, self.read(output)][-MAX_PHOTOS:]
            state = None if self._fit is None or len(readings) == len(self._readings) else self._fit.state
            return Seen(output, readings, self.fit(readings, state))
        except (NoFace, NotFittable) as error:
            raise NoFace(f"{crop.source}: {_said(error)}") from None

    def _update(self, answer: Seen, crop: Crop) -> Face:
        self._output, self._readings, self._fit, self._image = *answer, crop.image
        fit = answer.fit
        return Face(fit.points, crop, fit.photo_points, fit.keypoints, fit.landmarks, fit.pose)

    def _forget(self) -> None:
        self._output: np.ndarray | None = None
        self._readings: list[Reading] = []
        self._fit: Fit | None = None
        self._image: np.ndarray | None = None

    def _last(self) -> np.ndarray:
        """The last photo's dense prediction. ValueError before the first."""
        if self._output is None:
            raise ValueError(f"{self.source}: no photo was added yet")
        return self._output


def mean_identity(identities: Sequence[np.ndarray]) -> np.ndarray:
    """The mean (n,) of identities fitted to surfaces, of those no longer than FARTHEST; of none 0, the mean face. Fits
    that went well lie between 4 and 7 standard deviations from it (the prior draws them there, subjects lie at 14); one
    that took a cheek in profile for a face has 19 or 27, and would outweigh all the others."""
    plausible = [identity for identity in identities if np.linalg.norm(identity) <= FARTHEST]
    return np.mean(plausible, axis=0) if plausible else np.zeros_like(identities[0])


def _said(error: ValueError) -> str:
    return str(error) if isinstance(error, NoFace) else f"no face: {error}"
