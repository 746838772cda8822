"""`vrn` (Jackson et al. 2017): volumes; the model is fitted to each photo's volume, the identities are averaged."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Sequence

import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.fitting.volume_fit import MIN_INSIDE, fit_volume
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.transforms import to_unit_sphere
from Dataset.representations.depth import surface_points
from Dataset.representations.points import grid_of
from Dataset.representations.volume import decode, estimate_frame, front_depth, sigmoid
from Dataset.synthesis.renders import coarse_grid
from Network.engine.loaded import WEIGHTS, Loaded
from Network.inference.dense import DensePredictor, Fit, mean_identity
from Network.inference.photos import NoFace
from Network.inference.pix2pix import CLOUD
from Network.inference.readings import read_landmarks

if TYPE_CHECKING:
    import keras


class VolumeFitted(NamedTuple):
    """A photo's fit: identity (200,); face (V, 3) float64 mm, head frame, with its expression; keypoints (256, 2) and
    landmarks (68, 2) float32 in crop sides."""

    identity: np.ndarray
    face: np.ndarray
    keypoints: np.ndarray
    landmarks: np.ndarray


class VRNPredictor(DensePredictor[VolumeFitted]):
    """Volumes -> a fit to each."""

    network = "vrn"
    representation = "volume"
    fusion = "mean of the fits to each volume"
    has_landmarks = True
    dense = ("volume",)
    maps = "volume"
    views = ("volume", "slices")
    surfaces = ("fit", "volume")
    photo_surface = True

    def read(self, output: np.ndarray) -> VolumeFitted:
        """A photo's logits (S, S, D). NotFittable where the network fills next to nothing."""
        values, model = sigmoid(output), load_face_model()
        fit = fit_volume(values, model=model)
        size, seen = len(values), fit.vertices[:, :2]
        return VolumeFitted(fit.identity, model.shape(fit.identity, fit.expression),
                            (coarse_grid(model) @ seen / size).astype(np.float32),
                            (model.landmarks(fit.vertices)[:, :2] / size).astype(np.float32))

    def fit(self, readings: Sequence[VolumeFitted], state: Any = None) -> Fit:
        model, last = load_face_model(), readings[-1]
        identity = mean_identity([reading.identity for reading in readings])
        return Fit(grid_of(model.shape(identity), model), grid_of(last.face, model), last.keypoints, last.landmarks)

    @property
    def layers(self) -> int:
        if self.loaded.exported is not None:
            return dict(self.loaded.exported.metadata.outputs)["volume"][-1]
        return self.loaded.model.output_shape[-1]

    def volume(self) -> np.ndarray:
        return sigmoid(self._last())

    def own_surface(self, output: np.ndarray) -> np.ndarray:
        return visible_points(output)

    def heat_landmarks(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Of the variants `guided` and `multitask`; None for a model of `multitask` that holds the volume's part alone.
        """
        variant = self.config.get("model", {}).get("variant")
        if variant not in ("guided", "multitask"):
            return None
        import keras
        if variant == "guided":         # in the volume's part, too
            model = self.keras_model()
            maps = keras.Model(model.inputs[0], model.get_layer("guide_maps").output)
        elif variant == "multitask" and (whole := whole_model(self.loaded)) is not None:
            maps = keras.Model(whole.inputs[0], whole.output["heat_maps"])
        else:
            return None
        return lambda images: read_landmarks(np.asarray(maps(np.asarray(images, np.float32), training=False)))

    @classmethod
    def packed(cls, loaded: Loaded) -> keras.Model:
        """Of `multitask` the model with its landmarks, where the run has them."""
        whole = whole_model(loaded) if loaded.config.get("model", {}).get("variant") == "multitask" else None
        return loaded.model if whole is None else whole


def whole_model(loaded: Loaded) -> keras.Model | None:
    """The model with all outputs, of a run's checkpoint or a weight folder; None where its weights are not kept."""
    from Network.training.checkpoints import RunFolder, model_from_config
    from Network.training.loading import read_weights
    whole, source = model_from_config(loaded.config, training=True), loaded.source
    run = RunFolder(source.parent)
    if source.is_file() and run.has_weights(source.stem):
        run.load_weights(whole, source.stem)
        return whole
    return whole if (source / WEIGHTS).is_file() and read_weights(source / WEIGHTS, whole, True) else None


def visible_points(output: np.ndarray, count: int = CLOUD) -> np.ndarray:
    """Points (count, 3) float32, even over the front surface of logits (S, S, D), unit sphere: the network's own
    answer, without a model. NoFace where it fills next to nothing."""
    values = sigmoid(output)
    frame = estimate_frame(values.shape[0], values.shape[2])
    if np.count_nonzero(values > 0.5) < MIN_INSIDE * values.size:
        raise NoFace("no face: the network fills next to nothing")
    cloud = surface_points(front_depth(values, frame), frame.camera, count, np.random.default_rng(0))
    return to_unit_sphere(cloud)[0].astype(np.float32)


def surface_of(values: np.ndarray, image: np.ndarray | None = None) -> Mesh:
    """The whole surface of a volume (S, S, D) in [0, 1] as the paper shows it: marching cubes, coloured by the photo
    (S, S, 3) uint8 BGR; head frame's axes (x right, y up, z to the viewer), pixels, the middle of the volume at the
    origin. NotFittable where there is none."""
    mesh = decode(values, image)
    middle = np.array([values.shape[1], values.shape[0], values.shape[2]]) / 2
    return mesh._replace(vertices=(mesh.vertices - middle) * [1.0, -1.0, -1.0])
