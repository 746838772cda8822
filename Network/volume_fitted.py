"""The `vrn` network's volumes -> one person's face: what it says of each photo, fitted; the mean of the identities."""
from __future__ import annotations

from typing import Any, Callable, NamedTuple, Sequence

import keras
import numpy as np

from Dataset.face_model import load_face_model
from Dataset.mesh import Mesh
from Dataset.renders import coarse_grid
from Dataset.representations.depth import surface_points
from Dataset.representations.volume import decode, front_depth, guess_frame
from Dataset.transforms import to_unit_sphere
from Dataset.volume_fit import LEAST, fit_volume
from Network.checkpoints import RunFolder, model_from_config
from Network.fitted import CLOUD, Fitter, Person, grid_of, mean_identity
from Network.loading import Loaded
from Network.predict import NoFace
from Network.vrn import read_landmarks


class Reading(NamedTuple):
    """One photo's: identity (200,); face (V, 3) float64 mm, head frame, with its expression; places (256, 2) and
    landmarks (68, 2) float32 in the crop's sides."""

    identity: np.ndarray
    face: np.ndarray
    places: np.ndarray
    landmarks: np.ndarray


class VolumeFitter(Fitter):
    """`vrn`: a fit to each photo's volume, the mean of their identities."""

    def read(self, output: np.ndarray) -> Reading:
        """A photo's logits (S, S, D). NoFace where the network fills next to nothing."""
        values, model = sigmoid(output), load_face_model()
        try:
            fit = fit_volume(values, model=model)
        except ValueError as error:
            raise NoFace(f"no face: {error}") from None
        size, seen = len(values), fit.vertices[:, :2]
        return Reading(fit.identity, model.shape(fit.identity, fit.expression),
                       (coarse_grid(model) @ seen / size).astype(np.float32),
                       (model.landmarks(fit.vertices)[:, :2] / size).astype(np.float32))

    def identity(self, photos: Sequence[Reading], state: Any = None) -> tuple[np.ndarray, None]:
        """The mean of the fitted identities (n,), as `mean_identity` takes it; no state."""
        return mean_identity([photo.identity for photo in photos]), None

    def fit(self, photos: Sequence[Reading], state: Any = None) -> Person:
        """One person from the readings of at least one photo."""
        model, last = load_face_model(), photos[-1]
        return Person(self.neutral(self.identity(photos)[0], len(photos), model), grid_of(last.face, model),
                      last.places, last.landmarks)


def visible_points(output: np.ndarray, count: int = CLOUD) -> np.ndarray:
    """What a photo's logits (S, S, D) say is seen of the face: points (count, 3) float32, even over the volume's front
    surface, unit sphere. NoFace where there is none. No model takes part: this is the network's own answer."""
    values = sigmoid(output)
    frame = guess_frame(values.shape[0], values.shape[2])
    if np.count_nonzero(values > 0.5) < LEAST * values.size:
        raise NoFace("no face: the network fills next to nothing")
    cloud = surface_points(front_depth(values, frame), frame.camera, count, np.random.default_rng(0))
    return to_unit_sphere(cloud)[0].astype(np.float32)


def surface_of(output: np.ndarray, image: np.ndarray | None = None) -> Mesh:
    """The volume's whole surface as the paper shows it: marching cubes of the sigmoid, coloured by the photo (S, S, 3)
    uint8 BGR; head frame's axes (x right, y up, z to the viewer), pixels, the middle of the volume at the origin.
    NoFace where there is none."""
    values = sigmoid(output)
    try:
        mesh = decode(values, image)
    except ValueError as error:
        raise NoFace(f"no face: {error}") from None
    middle = np.array([values.shape[1], values.shape[0], values.shape[2]]) / 2
    return mesh._replace(vertices=(mesh.vertices - middle) * [1.0, -1.0, -1.0])


def heat_landmarks(loaded: Loaded) -> Callable[[np.ndarray], np.ndarray] | None:
    """What the heat maps of a `guided` or `multitask` network say: pictures (B, S, S, 3) float32 in [0, 1] -> landmarks
    (B, 68, 2) float32 in their sides, NaN where a map is empty. None for one without: `plain`, and `multitask` out of a
    weight folder, which keeps the volume's part alone."""
    variant = loaded.config.get("model", {}).get("variant")
    if variant == "guided":         # the volume's part has them, too: it is guided by them
        maps = keras.Model(loaded.model.inputs[0], loaded.model.get_layer("guide_maps").output)
    elif variant == "multitask" and loaded.source.suffix == ".keras":
        whole = model_from_config(loaded.config, training=True)
        RunFolder(loaded.source.parent).load_weights(whole, loaded.source.stem)
        maps = keras.Model(whole.inputs[0], whole.output["heat_maps"])
    else:
        return None
    return lambda images: read_landmarks(np.asarray(maps(np.asarray(images, np.float32), training=False)))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), float32, without overflow; NaN, of a broken network, is outside."""
    x = np.nan_to_num(np.asarray(logits, np.float32), nan=-100.0, posinf=100.0, neginf=-100.0)
    return 0.5 * (1 + np.tanh(0.5 * x))
