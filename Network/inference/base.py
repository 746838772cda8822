"""The interface of every system: photos of one subject in, faces out.

    predictor = Network.from_preset("compact")      # or Network.from_run(path)
    face = predictor.add(image)                     # one more photo of the same subject; NoFace keeps nothing
    predictor.face                                  # the last Face
    predictor.reset()                               # the next photo shows another subject

The capabilities of a system are class attributes of its Predictor. No other code compares a network's name.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Mapping, NamedTuple, Sequence

import numpy as np

from Dataset.geometry.pose import Pose, pose_numbers, weak_perspective
from Dataset.io.images import SCALINGS, Box, scaled
from Dataset.io.inputs import NamedImage
from Dataset.representations.points import grid_landmarks, mean_face
from Network.engine.face_detector import BLAZEFACE, make_detect
from Network.engine.loaded import WEIGHTS, Loaded, count_parameters
from Network.inference.photos import (FRONTAL, MAX_PREVIEW, Answer, Crop, NoFace, Scored, best_crop,
                                      checked_photo, crop_faces, square_crop, square_crops)
from Network.inference.readings import DepthReading, UVReading
from Network.inference.texture import TEXTURE, Texture, View, frontal_view, view_of
from Network.layers.grid import resample

if TYPE_CHECKING:
    import keras

    from Network.video.video import FaceNetwork

BATCH = 16              # images that go through a network at a time


class Face(NamedTuple):
    """The estimate after a photo. None: the system does not estimate it.

    points        (N, 3) float32, the subject's neutral face from all photos so far, canonical coordinates, unit sphere
    crop          of the last photo, without the whole photo
    photo_points  (N, 3) float32, the face in the last photo with its expression, as `points`
    keypoints     (256, 2) float32, a 16x16 ordered grid of the face in normalised coordinates of the crop
    landmarks     (68, 2) float32, likewise
    pose          `Dataset.geometry.pose.Pose` of the head in the crop: px are crop sides, lengths mm
    texture       the colours of an ordered face; the next photo adds to it
    score         1 or more: the network sees a face in the crop; 0 or less: none. `crop.detected` is the detector's
    typicality    how far the subject's face is from the mean face, 1 for an average subject of the face model
    radius        mm, of the sphere that is the unit sphere of `points`: the subject's size
    photo_radius  mm, the same of `photo_points`
    expression    (84,) of the face model, in the last photo
    """

    points: np.ndarray
    crop: Crop
    photo_points: np.ndarray | None = None
    keypoints: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    pose: Pose | None = None
    texture: Texture | None = None
    score: float | None = None
    typicality: float | None = None
    radius: float | None = None
    photo_radius: float | None = None
    expression: np.ndarray | None = None

    @property
    def pose_numbers(self) -> np.ndarray | None:
        """(6,) float64, `Dataset.geometry.pose.pose_numbers` of the head in the photo. Where only keypoints are known
        the angles are those of the weak perspective fitted to them; scale and origin are NaN: the face has no mm."""
        if self.pose is not None:
            return self._in_photo(pose_numbers(self.pose, self.crop.box, 1))
        if self.keypoints is None:
            return None
        shape = self.points if self.photo_points is None else self.photo_points
        grid = resample(shape, round(len(self.keypoints) ** 0.5)).astype(np.float64)
        turned = weak_perspective(grid, self.keypoints.astype(np.float64))
        return np.append(self._in_photo(pose_numbers(turned, self.crop.box, 1))[:3], [np.nan] * 3)

    def _in_photo(self, numbers: np.ndarray) -> np.ndarray:
        """The pose of an upright image -> of the photo."""
        roll = (numbers[2] + self.crop.upright.degrees + 180) % 360 - 180
        return np.concatenate([numbers[:2], [roll], numbers[3:4], self.crop.upright.in_photo(numbers[4:])])

    @property
    def in_photo(self) -> np.ndarray | None:
        """(N, 3) float64: the points of the photo's face in px of the photo, y down, and their depth, px towards the
        camera, by the weak perspective fitted to the keypoints. None without keypoints, and for points without order.
        """
        if self.keypoints is None or self.texture is None or not np.isfinite(self.keypoints).all():
            return None
        shape = np.asarray(self.points if self.photo_points is None else self.photo_points, np.float64)
        x, y, width, height = self.crop.box
        pixels = self.crop.upright.in_photo(np.asarray(self.keypoints, np.float64) * (width, height) + (x, y))
        pose = weak_perspective(resample(shape, round(len(pixels) ** 0.5)), pixels)
        return np.column_stack([pose.project(shape), pose.scale * shape @ pose.rotation[2]])

    @property
    def image_landmarks(self) -> np.ndarray | None:
        """(68, 3) float64: the landmarks in px of the photo, and their depth, px towards the camera, by the weak
        perspective fitted to the face's own landmarks. All NaN where any is not finite; None where the system has none.
        """
        if self.landmarks is None:
            return None
        x, y, width, height = self.crop.box
        pixels = np.asarray(self.landmarks, np.float64) * (width, height) + (x, y)
        solid = grid_landmarks(self.points if self.photo_points is None else self.photo_points)
        if not (np.isfinite(pixels).all() and np.isfinite(solid).all()):
            return np.full((len(pixels), 3), np.nan)
        pose = weak_perspective(solid, pixels)
        return np.column_stack([self.crop.upright.in_photo(pixels), pose.scale * solid @ pose.rotation[2]])


class PhotoAnswer(NamedTuple):
    """A photo alone, for evaluation. points: the face in it, an ordered grid (N, 3) float32 with its expression where
    the system knows it, or the points (M, 3) of the surface that the network itself gives; unit sphere. landmarks
    (68, 2) float32 in normalised coordinates, or None. seen: False: no face was found, and points are the mean face."""

    points: np.ndarray
    landmarks: np.ndarray | None
    seen: bool


class Predictor(ABC):
    """One system. loaded: a model and its config; options: those of `OPTIONS`, one Predictor's own each.

    Class attributes, the capabilities:
    network              name in `Network.NETWORKS`
    representation       of the network's output: points, uv, depth, volume, coefficients, keypoints
    fusion               how several photos are combined, for tables
    scaling              default of the input scaling; `input_scaling` is the config's
    has_photo_face, has_landmarks, has_pose, has_expression     what a `Face` holds
    dense                of uv, depth, volume, coefficients: which of `uv_map`, `depth_map`, `volume`, `passes` work
    maps                 of uv, depth, volume: the dense prediction of `answers`; None: none
    views, surfaces      that demo.py can draw and write
    iterated             the network runs several times over a photo
    scores_crops         it tells a crop of a face from one of none
    photo_surface        a photo is evaluated by the network's own surface, not by the fitted face
    follows_video        `follower` works
    shows_layers         feature maps of its layers can be drawn
    """

    network: ClassVar[str]
    representation: ClassVar[str]
    fusion: ClassVar[str]
    scaling: ClassVar[str] = "minmax"
    has_photo_face: ClassVar[bool] = False
    has_landmarks: ClassVar[bool] = False
    has_pose: ClassVar[bool] = False
    has_expression: ClassVar[bool] = False
    dense: ClassVar[tuple[str, ...]] = ()
    maps: ClassVar[str | None] = None
    views: ClassVar[tuple[str, ...]] = ()
    surfaces: ClassVar[tuple[str, ...]] = ("fit",)
    iterated: ClassVar[bool] = False
    scores_crops: ClassVar[bool] = False
    photo_surface: ClassVar[bool] = False
    follows_video: ClassVar[bool] = False
    shows_layers: ClassVar[bool] = False
    OPTIONS: ClassVar[tuple[str, ...]] = ()

    def __init__(self, loaded: Loaded, **options: Any) -> None:
        unknown = sorted(name for name, value in options.items() if value and name not in self.OPTIONS)
        if unknown:
            raise ValueError(f"{unknown[0]} is not for {self.network}; {loaded.source} has "
                             f"{', '.join(self.OPTIONS) or 'no options'}")
        self.loaded, self.source, self.config = loaded, loaded.source, loaded.config
        self.detector = BLAZEFACE       # of `Network.engine.face_detector.DETECTORS`
        self.texture_size = TEXTURE     # texels a side, of the next subject: within `Network.inference.texture.SIDES`
        self.size, self.points, self.ordered = loaded.image_size, loaded.points, loaded.order == "grid"
        self.images = loaded.images
        self.margin = float(self.config.get("model", {}).get("crop_margin", 1.0))
        self.input_scaling = self.config.get("model", {}).get("scaling", self.scaling)
        if self.input_scaling not in SCALINGS:
            raise ValueError(f"scaling must be one of {', '.join(SCALINGS)}, got {self.input_scaling!r}")
        self._clear()

    # --- photos ---------------------------------------------------------------------------------------------------
    def crops(self, photo: NamedImage, *, box: Box | None = None, every_face: bool = False) -> list[Crop]:
        """`photos.crop_faces` as this network wants them. ValueError for what `photos.checked_photo` refuses."""
        return crop_faces(checked_photo(photo, box), self.size, make_detect(self.detector), box=box,
                          every_face=every_face, margin=self.margin, finest=max(MAX_PREVIEW, self.texture_size))

    def add(self, image: Crop | NamedImage | np.ndarray) -> Face:
        """One more photo of the same subject -> the estimate from all photos so far.

        image  a crop of `crops`; or a photo as `Dataset.io.images.as_photo` takes it, (H, W, 3) uint8 BGR or grey, in
               which the largest face is detected. ValueError for anything else; nothing is changed then
        The face is re-cropped where it is off the crop's centre; where the network scores the crop as no face, the
        photo's other faces are tried. NoFace where no face is found, or where the network's output is not finite;
        then nothing is kept of the photo.
        """
        crop, answer, score = best_crop(self._crop_of(image), self._look)
        face = self._update(answer, crop._replace(whole=None, others=()))
        self.face, self.count = face._replace(score=score if self.scores_crops else None,
                                              texture=self._paint(face, answer)), self.count + 1
        return self.face

    def reset(self) -> None:
        """Forget everything: the next photo shows another subject."""
        self._clear()
        self._forget()

    def landmarks_in(self, image: np.ndarray, box: Box | None = None) -> np.ndarray | None:
        """A single photo (H, W, 3) uint8 BGR, and a box in it, None for the detector's -> `Face.image_landmarks`;
        None where no face is found. Resets. ValueError for a system without landmarks."""
        if not self.has_landmarks:
            raise ValueError(f"{self.source}: {self.network} has no landmarks in a photo")
        crops = self.crops(NamedImage("photo", image), box=box)
        self.reset()
        try:
            return self.add(crops[0]).image_landmarks if crops else None
        except NoFace:
            return None

    def subject(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Crops (S, S, 3) uint8 BGR of one subject -> the neutral face (N, 3) float32; the mean face where none shows a
        face. Resets the predictor. ValueError, and nothing is changed, for no crop and for what is no crop."""
        crops = square_crops(images, self.size)
        self.reset()
        for crop in crops:
            try:
                self.add(crop)
            except NoFace:
                continue
        return mean_face(self.points) if self.face is None else self.face.points

    def prefixes(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Crops of one subject -> the faces after one, two, three ... of them (T, N, 3) float32. Resets. ValueError as
        `subject`."""
        crops = square_crops(images, self.size)
        self.reset()
        faces = []
        for crop in crops:
            try:
                self.add(crop)
            except NoFace:
                pass
            faces.append(mean_face(self.points) if self.face is None else self.face.points)
        return np.stack(faces)

    def photo(self, image: np.ndarray) -> PhotoAnswer:
        """A crop (S, S, 3) uint8 BGR alone, for evaluation. Resets the predictor."""
        crop = square_crop(image, self.size)
        self.reset()
        try:
            face = self.add(crop)
        except NoFace:
            return PhotoAnswer(mean_face(self.points), None, False)
        return PhotoAnswer(face.points if face.photo_points is None else face.photo_points, face.landmarks, True)

    def inputs(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Images (S, S, 3) uint8 BGR -> the network's input (B, S, S, 3) float32 in [0, 1]."""
        return np.stack([self._scaled(image) for image in images])

    # --- dense predictions of the last photo ---------------------------------------------------------------------
    def uv_map(self) -> UVReading:
        """The last photo's UV map. ValueError where the system has none."""
        raise ValueError(f"{self.source}: {self.network} has no UV map")

    def depth_map(self) -> DepthReading:
        """The last photo's depth map. ValueError where the system has none."""
        raise ValueError(f"{self.source}: {self.network} has no depth map")

    def volume(self) -> np.ndarray:
        """The last photo's volume (S, S, D) float32 in [0, 1]. ValueError where the system has none."""
        raise ValueError(f"{self.source}: {self.network} has no volume")

    def passes(self) -> np.ndarray:
        """Coefficients (n, 290) float32 of the last photo: of an iterated system the start and each pass. ValueError
        where the system has none."""
        raise ValueError(f"{self.source}: {self.network} has no coefficients")

    @property
    def layers(self) -> int:
        """Of its volumes, where `maps` is volume; else 0."""
        return 0

    def answers(self, inputs: np.ndarray) -> np.ndarray:
        """Network inputs (B, S, S, 3) float32 -> dense predictions (B, S, S, C) float32, where `maps`."""
        raise ValueError(f"{self.source}: {self.network} has no dense prediction")

    def heat_landmarks(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Of a network with heat maps: inputs (B, S, S, 3) -> landmarks (B, 68, 2), normalised; None without."""
        return None

    @classmethod
    def packed(cls, loaded: Loaded) -> keras.Model:
        """The model whose weights a weight folder holds: the predicting one, unless an answer needs more."""
        return loaded.model

    def feature_maps(self, photo: np.ndarray) -> Mapping[str, np.ndarray]:
        """A crop (P, P, 3) uint8 BGR -> layer -> its feature maps (h, w, C), where `shows_layers`."""
        from Network.inspection.feature_maps import feature_maps, layer_names
        model = self.keras_model()
        return feature_maps(model, self._scaled(square_crop(photo, self.size).image), layer_names(model))

    def follower(self) -> FaceNetwork:
        """The network for the frames of a video. ValueError where the system has no keypoints."""
        raise ValueError(f"{self.source}: {self.network} has no keypoints in a frame")

    def run_iterations(self, iterations: int) -> Callable[[np.ndarray, np.ndarray | None], np.ndarray]:
        """(inputs (B, S, S, 3), poses (B, 6) to keep fixed or None) -> coefficients (iterations + 1, B, 290), the start
        first. ValueError where the network is not iterated."""
        raise ValueError(f"{self.source}: {self.network} is not iterated")

    def single_pass(self) -> Callable[[np.ndarray], Any]:
        """Of an iterated network one pass: its whole input (B, S, S, 9) -> coefficients (B, 290). ValueError else."""
        raise ValueError(f"{self.source}: {self.network} is not iterated")

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Network inputs of B subjects' photos (B, T, S, S, 3) float32 -> their neutral faces (B, N, 3) float32.
        ValueError for no images, another shape or dtype, or pixels that are not finite."""
        inputs = np.asarray(inputs)
        if inputs.ndim != 5 or inputs.shape[2:] != (self.size, self.size, 3) or not inputs.size \
                or inputs.dtype.kind != "f" or not np.isfinite(inputs).all():
            finite = inputs.dtype.kind != "f" or np.isfinite(inputs).all()
            raise ValueError(f"{self.source}: takes at least one image of finite pixels, floats (B, T, {self.size}, "
                             f"{self.size}, 3), got {inputs.shape} {inputs.dtype}"
                             + ("" if finite else " with NaN or infinity"))
        return self._predict(np.asarray(inputs, np.float32))

    # --- each system's own ------------------------------------------------------------------------------------------
    @abstractmethod
    def _look(self, crop: Crop) -> Scored[Answer]:
        """The network's output for a crop, re-cropped where needed. Changes no state. May raise NoFace."""

    @abstractmethod
    def _update(self, answer: Answer, crop: Crop) -> Face:
        """Add an output to the state -> the face. NoFace, and the state is unchanged, where it shows none."""

    @abstractmethod
    def _forget(self) -> None:
        """Reset the system's own state."""

    @abstractmethod
    def _predict(self, inputs: np.ndarray) -> np.ndarray:
        """As `predict`, checked."""

    def _visible(self, answer: Any) -> np.ndarray | None:
        """(S, S) bool: the pixels of the crop in which the face is not occluded; None: unknown."""
        return None

    @property
    def parameters(self) -> int:
        """How many numbers its weights have; of a weight folder all that it holds, `multitask`'s landmarks, too."""
        folder = Path(self.loaded.source)
        return count_parameters(folder) if (folder / WEIGHTS).is_file() else self.keras_model().count_params()

    def keras_model(self) -> keras.Model:
        """The network in Keras, which is loaded where onnxruntime runs it: for what needs its layers."""
        if self.loaded.model is None:
            from Network.training.loading import load_model
            self.loaded = self.loaded._replace(model=load_model(self.loaded.source).model)
        return self.loaded.model

    # --- shared -----------------------------------------------------------------------------------------------------
    def _scaled(self, image: np.ndarray) -> np.ndarray:
        """An image (S, S, 3) uint8 -> float32 in [0, 1], as the network takes it."""
        return scaled(image, self.input_scaling)

    def _clear(self) -> None:
        self.face: Face | None = None
        self.count = 0
        self._texture: Texture | None = None

    def _crop_of(self, image: Crop | NamedImage | np.ndarray) -> Crop:
        if isinstance(image, Crop):
            square_crop(image.image, self.size)
            return image
        photo = image if isinstance(image, NamedImage) else NamedImage("photo", image)
        found = self.crops(photo)
        if not found:
            raise NoFace(f"{photo.name}: no face found")
        return found[0]

    def _paint(self, face: Face, answer: Any) -> Texture | None:
        """The texture with the colours of the last photo."""
        if self.ordered:
            self._texture = self._texture or Texture(self.points, self.texture_size)
            seen = _view(face)
            if seen is not None:
                self._texture.add(face.crop.photo, seen, self._visible(answer))
        return self._texture


def _view(face: Face) -> View | None:
    """The view of an ordered face in the crop; None without keypoints, unless the face is known to be frontal."""
    shape = face.points if face.photo_points is None else face.photo_points
    if face.keypoints is not None:
        return view_of(shape, face.keypoints)
    return frontal_view(shape) if face.crop.pass_name in FRONTAL else None


def in_batches(run: Callable[[np.ndarray], Any], inputs: np.ndarray) -> np.ndarray:
    """A network's outputs (B, ...) float32 for inputs (B, ...), BATCH at a time."""
    return np.concatenate([np.asarray(run(inputs[i:i + BATCH]), np.float32) for i in range(0, len(inputs), BATCH)])
