"""`compact`, ours: 256 keypoints per photo, a subject's face from all of them, each photo's face and pose; UV map,
depth map and volume by rendering the photo's mesh."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from Dataset.errors import NotFittable
from Dataset.face_model.model import load_face_model
from Dataset.geometry.pose import Pose, pose_numbers
from Dataset.representations.points import grid_of, mean_face, sized_grid
from Network.engine.loaded import Loaded
from Network.engine.run import run_of
from Network.inference.base import Face, Predictor
from Network.inference.photos import Crop, NoFace, Scored, recropped
from Network.inference.readings import DepthReading, Rendering, UVReading
from Network.inference.rendered import coefficients_of, face_triangles, render, rendered_volume
from Network.readout.mirrored import averaged, mirrored
from Network.readout.model import read_keypoint_model
from Network.readout.subject import PhotoEstimate, SubjectReadout
from Network.video.video import Cut, FaceAnswer

LAYERS = 200            # of the rendered volume
# Mean log-variance of the keypoints (of a coordinate's error, in losses.KEYPOINT_UNIT): a face below the first, none
# above the second. Measured on 1,186 crops of own renders (by the detector, at the face, at random; re-cropped up to
# three times). Of the 717 whose landmarks then err by less than 8 %, one is above 1.5 and none above 2; of the 468 that
# err by more than 12 %, 2 are below 1.5 and 7 below 2; of 300 crops of images without a face, none. Real profiles have
# 1.1 to 1.6, other photos -1.7 to -0.1.
FACE, NO_FACE = 1.5, 2.0


class Found(NamedTuple):
    """The network's output for a crop: keypoints (256, 2) in normalised coordinates, log_variance (256,), float32."""

    keypoints: np.ndarray
    log_variance: np.ndarray


class CompactPredictor(Predictor):
    """The network photo by photo; the face follows from the keypoints of all photos in closed form, so that one more
    photo costs one forward pass. ValueError for a model without its keypoint_model.npz."""

    network = "compact"
    representation = "keypoints"
    fusion = "linear-Gaussian posterior over triangulated keypoints"
    has_photo_face = has_landmarks = has_pose = has_expression = True
    dense = ("uv", "depth", "volume", "coefficients")
    views = ("texture", "inverse", "lines", "points", "swap", "uv", "mask", "visible", "row", "depth", "cloud",
             "wireframe", "surface", "strip", "volume", "slices", "detail")
    surfaces = ("fit", "points", "mesh", "poisson", "watertight", "volume")
    scores_crops = True
    follows_video = True

    def __init__(self, loaded: Loaded, **options: Any) -> None:
        super().__init__(loaded, **options)
        self._run = run_of(loaded)
        self._keypoint_model = read_keypoint_model(loaded.source)
        self._readout = self.new_readout()
        self._forget()

    def new_readout(self) -> SubjectReadout:
        """The read-out of another subject."""
        return SubjectReadout(self._keypoint_model)

    def find_both_ways(self, inputs: np.ndarray, found: Found | None = None) -> Found:
        """A network input (S, S, 3) float32, and what was found in it, if known -> the mean with its mirror image, for
        which the read-out is learnt. NoFace as `find`."""
        return Found(*averaged(*(found or self.find(inputs)), *self.find(mirrored(inputs))))

    def find(self, inputs: np.ndarray) -> Found:
        """A network input (S, S, 3) float32 alone. NoFace where any number is not finite."""
        output = self._run(inputs[None])
        found = Found(output["keypoints"][0], output["log_variance"][0])
        if not all(np.isfinite(values).all() for values in found):
            raise NoFace("no face: the network's output is not finite")
        return found

    def _look(self, crop: Crop) -> Scored[Found]:
        try:
            crop, found = recropped(crop, lambda one: self.find(self._scaled(one.image)), lambda one: one.keypoints)
            found = self.find_both_ways(self._scaled(crop.image), found)
        except NoFace as error:
            raise NoFace(f"{crop.source}: {error}") from None
        return Scored(crop, found, (NO_FACE - float(np.mean(found.log_variance))) / (NO_FACE - FACE))

    def _update(self, answer: Found, crop: Crop) -> Face:
        try:
            estimate = self._readout.add(answer.keypoints, answer.log_variance)
        except NotFittable as error:
            raise NoFace(f"{crop.source}: no face: {error}") from None
        self._estimate, self._image, self._drawn = estimate, crop.image, None
        (identity, typicality), model = self._readout.subject(), load_face_model()
        vertices = model.shape(estimate.identity, estimate.expression)
        subject = sized_grid(model.shape(identity), model, self.points)
        photo = sized_grid(vertices, model, self.points)
        return Face(subject.points, crop, photo.points, answer.keypoints,
                    estimate.landmarks.astype(np.float32), pose_of(estimate), typicality=typicality,
                    radius=subject.radius, photo_radius=photo.radius, expression=estimate.expression)

    def _forget(self) -> None:
        self._readout.reset()
        self._estimate: PhotoEstimate | None = None
        self._image: np.ndarray | None = None
        self._drawn: Rendering | None = None

    def _predict(self, inputs: np.ndarray) -> np.ndarray:
        return np.stack([self._subject(photos) for photos in inputs])

    def _subject(self, photos: np.ndarray) -> np.ndarray:
        """The neutral face of one subject's network inputs (T, S, S, 3)."""
        readout, model, seen = self.new_readout(), load_face_model(), 0
        for photo in photos:
            try:
                readout.add(*self.find_both_ways(photo))
                seen += 1
            except (NoFace, NotFittable):
                continue
        return grid_of(model.shape(readout.subject()[0]), model, self.points) if seen else mean_face(self.points)

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
    """The pose in normalised coordinates of the crop."""
    return Pose(estimate.rotation, estimate.scale, np.asarray(estimate.translation))


class Follower:
    """`Network.video.video.FaceNetwork`: each frame is one more photo of its face; the state is the face's read-out."""

    rendering = 0.0

    def __init__(self, predictor: CompactPredictor) -> None:
        self._predictor, self._model = predictor, load_face_model()
        self.size, self.margin, self.triangles = predictor.size, predictor.margin, face_triangles(self._model)

    def __call__(self, cut: Cut, state: SubjectReadout | None) -> FaceAnswer:
        readout = self._predictor.new_readout() if state is None else state
        try:
            found = self._predictor.find_both_ways(self._predictor.inputs([cut.image])[0])
            estimate = readout.add(*found)
        except (NoFace, NotFittable):
            return FaceAnswer(np.full((256, 2), np.nan), 0.0)
        pose = pose_of(estimate)
        vertices = self._model.shape(estimate.identity, estimate.expression)
        seen = np.column_stack([pose.project(vertices), (vertices @ pose.rotation.T)[:, 2] * pose.scale])
        return FaceAnswer(found.keypoints.astype(np.float64), None, estimate.landmarks, seen,
                          pose_numbers(pose, cut.box, 1), np.concatenate([estimate.identity, estimate.expression]),
                          None, readout)
