"""One face from any number of photos, one photo at a time: the memory's states are carried, nothing is run again."""
from __future__ import annotations

import dataclasses
from typing import Any, Callable, Protocol

import keras
import numpy as np
from keras import ops

from Dataset.images import minmax
from Network import get_network
from Network.colours import Colours
from Network.flags import from_dict
from Network.loading import Loaded, per_pixel
from Network.predict import MOST_CUTS, Crop, Look, Prediction, cut_again, reconstruct, surest, view

# Mean log-variance of `compact`'s places (of a coordinate's error, in losses.PLACE_UNIT): a face up to the first, none
# from the second on. Own renders, 1,186 crops by the detector, at the face and at random, cut again up to three times:
# of the 717 whose landmarks then err by less than 8 % it is above 1.5 in one and above 2 in none, of the 468 that lie
# elsewhere (above 12 %) below 1.5 in 2 and below 2 in 7; of 300 squares of pictures without anybody in none. Real
# profiles have 1.1 to 1.6, other photos -1.7 to -0.1.
FACE, NO_FACE = 1.5, 2.0


class Stream(Protocol):
    """`face = stream.add(crop)`: the face after all crops since the last `reset`."""

    count: int

    def add(self, crop: Crop) -> Prediction: ...

    def reset(self) -> None: ...


def streams(loaded: Loaded) -> bool:
    """Whether a model's network is known, and has a single step whose states can be carried."""
    name = loaded.config.get("network")
    return bool(name) and hasattr(get_network(name), "build_step") and loaded.images is None


def make_stream(loaded: Loaded, iterations: int = 0) -> Stream:
    """A Reconstructor; for a network that answers per pixel a FitStream; for coarse a CoarseStream, of at most
    so many iterations (0: its own); for a bare model file, or one of a fixed number of images, a Rerun."""
    if loaded.config.get("network") == "coarse":
        from Network.coarse_stream import CoarseStream
        return CoarseStream(loaded, iterations or None)
    if iterations:
        raise ValueError(f"--iterations is for coarse; {loaded.source} is another network")
    if per_pixel(loaded.config):
        from Network.fit_stream import FitStream
        return FitStream(loaded)
    return Reconstructor(loaded) if streams(loaded) else Rerun(loaded)


def compiled(step: Callable) -> Callable:
    """A graph under TensorFlow, whose eager calls cost more than a small network's arithmetic; as it is elsewhere."""
    if keras.backend.backend() != "tensorflow":
        return step
    import tensorflow as tf
    return tf.function(step)


class Graph:
    """A model whose calls are such a graph, in the model's place. The first call with so many pictures is slower: it
    traces."""

    def __init__(self, model: Any) -> None:
        self._run = compiled(lambda images: model(images, training=False))

    def __call__(self, images: np.ndarray, training: bool = False) -> Any:
        return self._run(ops.convert_to_tensor(images))


class Reconstructor:
    """One more crop costs one step, whatever came before; equals the network on all images at once, to rounding.

    Holds the states and one coat of colour, so that its memory does not grow. ValueError for a model that does not
    stream (`streams`).
    """

    def __init__(self, loaded: Loaded) -> None:
        if not streams(loaded):
            raise ValueError(f"{loaded.source}: cannot go on photo by photo; a run folder whose network takes any "
                             "number of images can")
        self.loaded, self._network = loaded, get_network(loaded.config["network"])
        self._config = dataclasses.replace(from_dict(self._network.Config, loaded.config["model"]), images=1)
        model = self._network.build_step(self._config)
        model.set_weights(loaded.model.get_weights())
        self._step = compiled(lambda images, states: model({"images": images, "states": states}, training=False))
        self.reset()
        size = loaded.image_size            # traced now, not with the first photo
        self._step(ops.zeros((1, 1, size, size, 3)), self._states)

    def reset(self) -> None:
        """Forget everything: the next photo is another person's first."""
        self._states: list[Any] = self._network.initial_states(self._config, 1)
        self._colours = Colours(self.loaded.points) if self.loaded.order == "grid" else None
        self.count = 0

    def add(self, crop: Crop) -> Prediction:
        """The face from this crop and all before it; the crop is cut again first where the network sees the face off
        its place, and the picture's other places are looked at where it sees none there. NoFace where it sees none
        anywhere, ValueError when the face is not finite: then nothing is kept of the crop."""
        crop, _, output = surest(crop, self._look)
        points = np.asarray(output["points"][0], np.float32)
        if not np.isfinite(points).all():
            raise ValueError(f"{crop.source}: makes {self.loaded.source} predict points that are not finite")
        self._states, self.count = output["states"], self.count + 1
        places = np.asarray(output["places"][0, 0], np.float32) if "places" in output else None
        crop = crop._replace(whole=None, others=None)        # whoever keeps faces need not keep pictures
        if self._colours is None:
            return Prediction(points, [crop], places)
        seen = view(points, crop, places)
        if seen is not None:
            self._colours.add(crop.photo, seen)
        return Prediction(points, [crop], places, self._colours)

    def _look(self, crop: Crop) -> Look:
        output = self._run(crop)
        if "places" not in output:
            return Look(crop, 0.0, output)
        for _ in range(MOST_CUTS):
            better = cut_again(crop, np.asarray(output["places"][0, 0]))
            if better is None:
                break
            crop, output = better, self._run(better)
        doubt = float(np.mean(output["log_variance"][0, 0]))
        return Look(crop, (doubt - FACE) / (NO_FACE - FACE), output)

    def _run(self, crop: Crop) -> dict[str, Any]:
        return self._step(ops.convert_to_tensor(minmax(crop.image)[None, None]), self._states)


def make_prefixes(loaded: Loaded) -> Callable[[np.ndarray], np.ndarray]:
    """(B, T, S, S, 3) float32 in [0, 1] -> (B, T, N, 3) float32: [:, t] is the face from the first t + 1 images.

    ValueError for a model that does not stream (`streams`).
    """
    if per_pixel(loaded.config):
        from Network.fit_stream import FitPrefixes
        return FitPrefixes(loaded)
    if loaded.config.get("network") == "coarse":
        from Network.coarse_stream import CoarsePrefixes
        return CoarsePrefixes(loaded)
    return Prefixes(loaded)


class Prefixes:
    """The faces after one image, two, three ...: what a curve over the number of images is made of.

    ValueError for a model that does not stream (`streams`).
    """

    def __init__(self, loaded: Loaded) -> None:
        one = Reconstructor(loaded)
        self._network, self._config, self._step = one._network, one._config, one._step

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """(B, T, S, S, 3) float32 in [0, 1] -> (B, T, N, 3) float32: [:, t] is the face from the first t + 1 images."""
        states, faces = self._network.initial_states(self._config, len(images)), []
        for t in range(images.shape[1]):
            output = self._step(ops.convert_to_tensor(images[:, t:t + 1]), states)
            states = output["states"]
            faces.append(np.asarray(output["points"], np.float32))
        return np.stack(faces, axis=1)


class Rerun:
    """The listing's way: all crops are kept and run again for each new one."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._crops: list[Crop] = []
        self.count = 0

    def add(self, crop: Crop) -> Prediction:
        """The face from all crops; of a model with a fixed number of images, from the first so many."""
        self._crops.append(crop._replace(whole=None, others=None))
        self.count += 1
        return reconstruct(self.loaded, self._crops)
