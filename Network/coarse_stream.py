"""One face from any number of photos by the iterated coarse network: each photo is iterated, their identities are put
together. The paper knows single photos and videos only; how several make one person is ours, in two ways: --together of
demo.py and evaluate.py.
"""
from __future__ import annotations

from typing import Any, Callable, Sequence

import keras
import numpy as np
from keras import ops

from Dataset.correspondences import Correspondences
from Dataset.face_model import BUILT_IN, load_face_model
from Dataset.images import minmax
from Dataset.joint_fit import FitOptions, joint_fit
from Dataset.pose import pose_numbers
from Dataset.representations.coefficients import (COUNT, GRID, IDENTITY, POSE, decode_pose, linear, project,
                                                  recropped)
from Dataset.representations.points import SIZE
from Dataset.sidecar import model_hash
from Dataset.transforms import to_unit_sphere
from Network.calibration import Calibration
from Network.coarse import Config
from Network.colours import Colours
from Network.flags import from_dict
from Network.iterate import Iterated, Iterations, NoAnswer
from Network.lite import one_by_one
from Network.loading import Loaded
from Network.predict import MOST_CUTS, Crop, Look, NoFace, Prediction, cut_again, surest, view
from Network.streaming import FACE as PLACE_FACE, NO_FACE as NO_PLACE, compiled

MOST_PHOTOS = 64        # that are kept: the newest
TOGETHER = ("mean", "joint")
MEAN = TOGETHER[0]
FIT_SIDE, FIT_ERROR = 128, 2.0      # px: side of the crop in which the joint fit sees the places, and their error there
AGAIN = 2               # more passes after a photo was cut again: the face has moved in the crop, not changed
# Of a network without places: how far the second pass, from the mean face on, moves the face, in the crop's sides: a
# face up to the first, none from the second on. Own renders (tests/bench/find_face.py, seed 101), 415 crops by the
# detector, at the face and at random, cut again up to twice: of the 259 whose landmarks then err by less than 10 % at
# most 0.0110, of the 153 that lie elsewhere (above 15 %) at least 0.0122, of 90 % of them more than 0.025 (the first
# weights of `coarse-compact`).
FACE, NO_FACE = 0.0115, 0.02


def iterated_of(loaded: Loaded, iterations: int | None = None, traced: bool = True, video: bool = False) -> Iterated:
    """A loaded coarse network with its rendering unit; iterations: at most so many passes, None: its Config's; traced:
    compiled with the first call, which takes a second; video: for one picture at a time and many of them
    (`Network.lite.one_by_one`), which takes seconds at once. ValueError for a network of another kind, or of another
    face model than this process's: its numbers would shape another face."""
    if loaded.config.get("network") != "coarse":
        raise ValueError(f"{loaded.source}: is no coarse network, which alone is iterated")
    learned = loaded.config.get("face_model") or model_hash(load_face_model(BUILT_IN))     # older runs do not say
    if learned != model_hash(load_face_model()):
        raise ValueError(f"{loaded.source}: its coefficients are of face model {learned[:12]}, this is "
                         f"{model_hash(load_face_model())[:12]}; --face-model must name the one it was trained on")
    config = from_dict(Config, loaded.config["model"])

    def look(images: Any) -> Any:
        return loaded.model(images, training=False)
    run = compiled(look) if traced else look
    return Iterated(one_by_one(loaded.model) if video else lambda images: run(ops.convert_to_tensor(images)),
                    loaded.image_size,
                    iterations or config.iterations, config.tolerance, feedback=config.feedback)


def passes_of(loaded: Loaded, iterations: int) -> Callable[[np.ndarray, np.ndarray | None], Any]:
    """(pictures (B, S, S, 3), poses (B, 6) to hold or None) -> the faces (passes + 1, B, 290), the start first."""
    iterated = iterated_of(loaded)
    return lambda images, poses: iterated.many(images, iterations, poses)


def identity_of(faces: Sequence[np.ndarray], together: str = "mean", calibration: Calibration | None = None
                ) -> np.ndarray:
    """One person's identity (200,) float64 from the faces (290,) of at least one photo.

    mean: of the photos' identities, each by how much of the face it shows, (1 + cos yaw) / 2, or who is to be expected
    behind that by the calibration. joint: one face fitted to where the photos' faces lie in their crops
    (Dataset/joint_fit.py), whose prior knows the model's statistics. ValueError for no face or another word.
    """
    if together not in TOGETHER or not len(faces):
        raise ValueError(f"together must be one of {', '.join(TOGETHER)}, of at least one face, got {together!r} and "
                         f"{len(faces)}")
    if together == "mean":
        weights = [0.5 + 0.5 * np.cos(np.clip(face[POSE][0], -np.pi, np.pi)) + 1e-3 for face in faces]
        mean = np.average([face[IDENTITY] for face in faces], axis=0, weights=weights)
        return mean if calibration is None else calibration.expected(mean, len(faces))
    return joint_fit([places_of(face) for face in faces], load_face_model(), FitOptions(perspective=False)).identity


def places_of(face: np.ndarray) -> Correspondences:
    """Where a face (290,) lies in its crop: the 16x16 grid and the 68 landmarks, all equally sure."""
    model = load_face_model()
    steps = (SIZE - 1) * np.arange(GRID) / (GRID - 1)
    grid = np.concatenate([np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2),
                           np.asarray(model.grid_landmarks, float)])
    pixels = np.concatenate([project(face, what, FIT_SIDE, model) for what in ("places", "landmarks")])
    return Correspondences(grid, pixels, np.full(len(grid), FIT_ERROR ** -2), FIT_SIDE)


def grid_of(face: np.ndarray) -> np.ndarray:
    """A face (290,) as an ordered grid (16384, 3) float32 in the unit sphere."""
    return to_unit_sphere(linear(load_face_model(), "grid")(face).T.astype(np.float64))[0].astype(np.float32)


def neutral(identity: np.ndarray) -> np.ndarray:
    """The same of an identity (200,), without expression."""
    face = np.zeros(POSE.stop, np.float32)
    face[IDENTITY] = identity
    return grid_of(face)


class CoarseStream:
    """`Network.streaming.Stream`. Holds the faces of the newest MOST_PHOTOS photos, 290 numbers each.

    iterations, together: as `iterated_of` and `identity_of`; None: the config's, else the mean. last: the passes over
    the newest photo, those before it was cut again as they lie in the new crop.
    """

    def __init__(self, loaded: Loaded, iterations: int | None = None, together: str | None = None) -> None:
        self.loaded, self.iterated = loaded, iterated_of(loaded, iterations)
        self.together = together or loaded.config.get("together", MEAN)
        self._doubt = doubt_at_places(loaded)
        self.reset()
        size = loaded.image_size
        self.iterated.run(np.zeros((size, size, 3), np.float32))        # traced now, not with the first photo

    def reset(self) -> None:
        """Forget everything: the next photo is another person's first."""
        self.last: Iterations | None = None
        self.pose: np.ndarray | None = None         # `pose_numbers` of the last photo's head
        self._faces: list[np.ndarray] = []
        self._colours = Colours(self.loaded.points)
        self.count = 0

    def add(self, crop: Crop) -> Prediction:
        """The face from this crop and all before it; the crop is cut again where the face lies off its place, and the
        picture's other places are looked at where the network sees no face there. NoFace, and nothing is kept of the
        crop, where it sees none anywhere, or says what is not finite."""
        crop, _, found = surest(crop, self._look)
        self.last, face = found, found.face
        self.pose = pose_numbers(decode_pose(face[POSE], 1), crop.box, 1)
        self._faces, self.count = [*self._faces, face][-MOST_PHOTOS:], self.count + 1
        crop = crop._replace(whole=None, others=None)
        in_photo, places = grid_of(face), project(face).astype(np.float32)
        seen = view(in_photo, crop, places)
        if seen is not None:
            self._colours.add(crop.photo, seen)
        return Prediction(self._neutral(), [crop], places, self._colours, in_photo,
                          project(face, "landmarks").astype(np.float32))

    def _neutral(self) -> np.ndarray:
        return neutral(identity_of(self._faces, self.together, self.loaded.calibration))

    def _look(self, crop: Crop) -> Look:
        """As `surest` asks for it: the passes over a crop."""
        try:
            found = self.iterated.run(minmax(crop.image))
            changes = found.changes
            for _ in range(MOST_CUTS):
                better = cut_again(crop, project(found.face))
                if better is None:
                    break
                passes = Iterated(self.iterated.predict, self.iterated.size, AGAIN, self.iterated.tolerance,
                                  feedback=self.iterated.feedback)
                before = np.stack([recropped(face, crop.box, better.box) for face in found.faces])
                more = passes.run(minmax(better.image), before[-1])
                found = Iterations(np.concatenate([before, more.faces[1:]]),
                                   np.concatenate([found.changes, more.changes]), more.converged)
                crop, changes = better, None
            if self._doubt:
                return Look(crop, self._doubt(self.iterated.inputs(minmax(crop.image)[None], found.face[None])), found)
            if changes is None:         # passes that begin with a face move it less, wherever they end
                changes = self.iterated.run(minmax(crop.image)).changes
        except NoAnswer as error:
            raise NoFace(f"{crop.source}: {error}") from None
        # of one pass alone nobody knows whether it says the same again
        doubt = np.log(max(changes[1], 1e-9) / FACE) / np.log(NO_FACE / FACE) if len(changes) > 1 else 0.0
        return Look(crop, float(doubt), found)


def doubt_at_places(loaded: Loaded) -> Callable[[np.ndarray], float] | None:
    """Of a network that finds places: its input (1, S, S, 9) -> how much it doubts that there is a face, by the mean of
    the places' log-variances and `Network.streaming`'s bounds, 0 a face, 1 none. None for another network."""
    if not any(layer.name == "again_0" for layer in getattr(loaded.model, "layers", ())):
        return None
    part = keras.Model(loaded.model.input, loaded.model.get_layer("again_0").output[1])
    run = compiled(lambda images: part(images, training=False))
    run(np.zeros((1, *loaded.model.input_shape[1:]), np.float32))           # traced now
    return lambda images: (float(np.mean(run(ops.convert_to_tensor(images)))) - PLACE_FACE) / (NO_PLACE - PLACE_FACE)


def photo_faces(iterated: Iterated, images: np.ndarray, passes: int | None = None) -> np.ndarray:
    """(B, T, S, S, 3) float32 in [0, 1] -> each photo's coefficients (B, T, 290), after so many passes; NaN of a photo
    of which the network says what is not finite."""
    def last(some: np.ndarray) -> np.ndarray:
        try:
            return iterated.many(some, passes)[-1]
        except NoAnswer:                # of one of them: the others have theirs
            return np.concatenate([last(one[None]) for one in some]) if len(some) > 1 else np.full((1, COUNT), np.nan)
    flat = np.reshape(images, (-1, *np.shape(images)[2:]))
    found = [last(flat[i:i + 16]) for i in range(0, len(flat), 16)]
    return np.concatenate(found).reshape(*np.shape(images)[:2], -1).astype(np.float32)


def person_of(faces: np.ndarray, together: str = "mean", calibration: Calibration | None = None) -> np.ndarray:
    """One person's neutral face (16384, 3) from the faces (T, 290) of photos: of those that are finite; the mean face
    of none."""
    known = [face for face in faces if np.isfinite(face).all()]
    return neutral(identity_of(known, together, calibration) if known else np.zeros(IDENTITY.stop, np.float32))


def faces_of_people(iterated: Iterated, images: np.ndarray, together: str = "mean",
                    calibration: Calibration | None = None) -> np.ndarray:
    """B people's photos (B, T, S, S, 3) -> their neutral faces (B, 16384, 3) float32 in the unit sphere."""
    return np.stack([person_of(faces, together, calibration) for faces in photo_faces(iterated, images)])


class CoarsePrefixes:
    """The faces after one image, two, three ...: `Network.streaming.Prefixes` for the coarse network."""

    def __init__(self, loaded: Loaded, together: str | None = None) -> None:
        self._iterated, self._together = iterated_of(loaded), together or loaded.config.get("together", MEAN)
        self._calibration = loaded.calibration

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """(B, T, S, S, 3) float32 in [0, 1] -> (B, T, N, 3) float32: [:, t] is the face from the first t + 1 images."""
        faces = photo_faces(self._iterated, images)
        return np.stack([np.stack([person_of(person[:t + 1], self._together, self._calibration)
                                   for t in range(len(person))])
                         for person in faces])


def photo_reader(loaded: Loaded) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]:
    """A picture (S, S, 3) float32 in [0, 1] -> the face in it, an ordered grid (N, 3) float32 with its expression, unit
    sphere, and its landmarks (68, 2) float32 in the picture's sides; the mean face and None where the network says what
    is not finite."""
    iterated = iterated_of(loaded)

    def read(image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        try:
            face: Any = iterated.run(image).face
        except NoAnswer:
            return neutral(np.zeros(IDENTITY.stop, np.float32)), None
        return grid_of(face), project(face, "landmarks").astype(np.float32)
    return read
