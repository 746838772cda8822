"""`compact`, ours: 256 keypoints per photo, a subject's face from all of them, each photo's face and pose; UV map,
depth map and volume by rendering the photo's mesh."""
from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from Dataset.errors import NotFittable
from Dataset.face_model import load_face_model
from Dataset.pose import Pose, pose_numbers
from Network import compact
from Network.engine.graph import compiled
from Network.flags import from_dict
from Network.inference.base import Face, Predictor, grid_of
from Network.inference.joint_readout import JointReadout, PhotoEstimate, SubjectReadout
from Network.inference.photos import Crop, NoFace, Scored, recropped
from Network.inference.readings import DepthReading, Rendering, UVReading
from Network.inference.rendered import coefficients_of, face_triangles, render, rendered_volume
from Network.loading import Loaded
from Network.video import Cut, FaceAnswer

LAYERS = 200            # of the rendered volume
# Mean log-variance of the keypoints (of a coordinate's error, in losses.PLACE_UNIT): a face below the first, none above
# the second. Own renders, 1,186 crops by the detector, at the face and at random, re-cropped up to three times: of the
# 717 whose landmarks then err by less than 8 % it is above 1.5 in one and above 2 in none, of the 468 that lie
# elsewhere (above 12 %) below 1.5 in 2 and below 2 in 7; of 300 squares of pictures without anybody in none. Real
# profiles have 1.1 to 1.6, other photos -1.7 to -0.1.
FACE, NO_FACE = 1.5, 2.0
MAX_FRAMES = 8          # of a video from which the subject's face is made: training has no more photos of a subject


class Found(NamedTuple):
    """What the network says of a crop: points (N, 3), keypoints (256, 2), log_variance (256,) and the states after."""

    points: np.ndarray
    keypoints: np.ndarray
    log_variance: np.ndarray
    states: list[Any]


class CompactPredictor(Predictor):
    """The network photo by photo, its recurrent states carried: one more photo costs one step."""

    network = "compact"
    representation = "keypoints"
    fusion = "recurrent states"
    has_photo_face = has_landmarks = has_pose = True
    dense = ("uv", "depth", "volume", "coefficients")
    views = ("texture", "inverse", "lines", "points", "swap", "depth", "cloud", "wireframe", "surface", "strip",
             "detail")
    surfaces = ("fit", "points", "mesh", "poisson", "watertight", "volume")
    finds_faces_itself = True
    follows_video = True

    def __init__(self, loaded: Loaded, **options: Any) -> None:
        super().__init__(loaded, **options)
        self._config = dataclasses.replace(from_dict(compact.Config, loaded.config["model"]), images=1)
        model = compact.build_step(self._config)
        model.set_weights(loaded.model.get_weights())
        self._step = compiled(lambda images, states: model({"images": images, "states": states}, training=False))
        self._readout: SubjectReadout = JointReadout()
        self._forget()
        self._step(ops.zeros((1, 1, self.size, self.size, 3)), self._states)    # traced now, not with the first photo

    def find(self, image: np.ndarray, states: list[Any] | None = None) -> Found:
        """A crop (S, S, 3) uint8 BGR, seen after the photos that `states` hold, None: this predictor's. NoFace where
        any number is not finite."""
        output = self._step(ops.convert_to_tensor(self._scaled(image)[None, None]),
                            self._states if states is None else states)
        found = Found(*(np.asarray(output[name], np.float32)[0] for name in ("points", "places", "log_variance")),
                      output["states"])
        found = found._replace(keypoints=found.keypoints[0], log_variance=found.log_variance[0])
        if not all(np.isfinite(values).all() for values in found[:3]):
            raise NoFace("no face: the network's answer is not finite")
        return found

    def initial_states(self) -> list[Any]:
        """The states before the first photo."""
        return compact.initial_states(self._config, 1)

    def _look(self, crop: Crop) -> Scored[Found]:
        try:
            crop, found = recropped(crop, lambda one: self.find(one.image), lambda one: one.keypoints)
        except NoFace as error:
            raise NoFace(f"{crop.source}: {error}") from None
        return Scored(crop, found, (NO_FACE - float(np.mean(found.log_variance))) / (NO_FACE - FACE))

    def _update(self, answer: Found, crop: Crop) -> Face:
        try:
            estimate = self._readout.add(answer.keypoints, answer.log_variance)
        except NotFittable as error:
            raise NoFace(f"{crop.source}: no face: {error}") from None
        self._states, self._estimate, self._image, self._drawn = answer.states, estimate, crop.image, None
        vertices = load_face_model().shape(estimate.identity, estimate.expression)
        return Face(answer.points, crop, grid_of(vertices, load_face_model(), self.points), answer.keypoints,
                    estimate.landmarks, pose_of(estimate), typicality=self._readout.subject()[1])

    def _forget(self) -> None:
        self._states = self.initial_states()
        self._readout.reset()
        self._estimate: PhotoEstimate | None = None
        self._image: np.ndarray | None = None
        self._drawn: Rendering | None = None

    def _predict(self, inputs: np.ndarray) -> np.ndarray:
        return np.asarray(self.loaded.model(inputs, training=False), np.float32)

    def rendering(self) -> Rendering:
        """The last photo's face rendered over its crop. ValueError before the first photo."""
        estimate = self._last()
        if self._drawn is None:
            vertices = load_face_model().shape(estimate.identity, estimate.expression)
            self._drawn = render(vertices, pose_of(estimate), self._image)
        return self._drawn

    def uv_map(self) -> UVReading:
        return self.rendering().uv

    def depth_map(self) -> DepthReading:
        return self.rendering().depth

    def volume(self) -> np.ndarray:
        estimate = self._last()
        vertices = load_face_model().shape(estimate.identity, estimate.expression)
        return rendered_volume(vertices, pose_of(estimate), self.size, LAYERS).astype(np.float32)

    def passes(self) -> np.ndarray:
        estimate = self._last()
        return coefficients_of(estimate.identity, estimate.expression, pose_of(estimate))[None]

    def follower(self) -> "Follower":
        return Follower(self)

    def _last(self) -> PhotoEstimate:
        if self._estimate is None:
            raise ValueError(f"{self.source}: no photo was added yet")
        return self._estimate


def pose_of(estimate: PhotoEstimate) -> Pose:
    """The pose in sides of the crop."""
    return Pose(estimate.rotation, estimate.scale, np.asarray(estimate.translation))


class Track(NamedTuple):
    """One face of a video: the states and readout of its photos so far, and their number."""

    states: list[Any]
    readout: SubjectReadout
    frames: int


class Follower:
    """`Network.video.FaceNetwork`: the first MAX_FRAMES frames make the subject's face, then each frame is seen as the
    next one of those."""

    def __init__(self, predictor: CompactPredictor) -> None:
        self._predictor, self._model = predictor, load_face_model()
        self.size, self.margin, self.triangles = predictor.size, predictor.margin, face_triangles(self._model)

    def __call__(self, cut: Cut, state: Track | None) -> FaceAnswer:
        state = state or Track(self._predictor.initial_states(), JointReadout(), 0)
        try:
            found = self._predictor.find(cut.image, state.states)
            estimate = state.readout.add(found.keypoints, found.log_variance)
        except (NoFace, NotFittable):
            return FaceAnswer(np.full((256, 2), np.nan), 0.0)
        pose = pose_of(estimate)
        vertices = self._model.shape(estimate.identity, estimate.expression)
        seen = np.column_stack([pose.project(vertices), (vertices @ pose.rotation.T)[:, 2] * pose.scale])
        states = found.states if state.frames < MAX_FRAMES else state.states
        return FaceAnswer(found.keypoints.astype(np.float64), None, estimate.landmarks, seen,
                          pose_numbers(pose, cut.box, 1), np.concatenate([estimate.identity, estimate.expression]),
                          None, Track(states, state.readout, state.frames + 1))
