"""`convlstm` (Thomassen 2022): points from any number of photos through recurrent states; and any model file without a
config that maps images to points."""
from __future__ import annotations

from typing import Any, Callable, NamedTuple

import numpy as np

from Network.engine.loaded import Loaded
from Network.inference.base import Face, Predictor
from Network.inference.photos import Crop, NoFace, Scored

#: (image (1, S, S, 3) float32, states) -> outputs by name, the states after the image
Step = Callable[[np.ndarray, list[Any]], tuple[dict[str, Any], list[Any]]]


class Points(NamedTuple):
    """points (N, 3); states after the photo, of a model whose states are carried; images: of all photos, of another."""

    points: np.ndarray
    states: list[Any]
    images: list[np.ndarray]


class ConvLSTMPredictor(Predictor):
    """One more photo costs one step. A bare model file, and one of a fixed number of images T, runs on all photos again
    instead, as the listing does: on the photos repeated up to T, or the first T of them."""

    network = "convlstm"
    representation = "points"
    fusion = "recurrent states"

    def __init__(self, loaded: Loaded, **options: Any) -> None:
        super().__init__(loaded, **options)
        self.carries_states = bool(loaded.config) and loaded.images is None
        if self.carries_states:
            self._step, self._initial = _step_of(loaded)
        self._forget()

    def _look(self, crop: Crop) -> Scored[Points]:
        image = self._scaled(crop.image)
        if self.carries_states:
            output, states = self._step(image[None], self._states)
            found = Points(np.asarray(output["points"][0], np.float32), states, [])
        else:
            images = [*self._images, image]
            found = Points(self._predict(np.stack(images)[None])[0], [], images)
        if not np.isfinite(found.points).all():
            raise NoFace(f"{crop.source}: no face: {self.source} predicts points that are not finite")
        return Scored(crop, found)

    def _update(self, answer: Points, crop: Crop) -> Face:
        self._states, self._images = answer.states, answer.images
        return Face(answer.points, crop)

    def _forget(self) -> None:
        self._states = self._initial() if self.carries_states else []
        self._images: list[np.ndarray] = []

    def _predict(self, inputs: np.ndarray) -> np.ndarray:
        if self.loaded.exported is not None:
            return np.stack([self._after(images) for images in inputs])
        count = self.loaded.images
        if count:                           # again from the first, or the first so many
            inputs = np.concatenate([inputs] * -(-count // inputs.shape[1]), axis=1)[:, :count]
        return np.asarray(self.loaded.model(inputs, training=False), np.float32)

    def _after(self, images: np.ndarray) -> np.ndarray:
        """The points (N, 3) after a subject's images (T, S, S, 3), step by step."""
        states = self._initial()
        for image in images:
            output, states = self._step(image[None], states)
        return np.asarray(output["points"][0], np.float32)


def _step_of(loaded: Loaded) -> tuple[Step, Callable[[], list[Any]]]:
    """The network's step, ready, and a function that gives the states before the first image."""
    if loaded.exported is not None:
        return loaded.exported.step, loaded.exported.initial_states
    import dataclasses

    from keras import ops

    from Network.config.flags import from_dict
    from Network.engine.graph import compiled
    from Network.mobile3model import Config, build_step, initial_states
    from Network.training.named_weights import copy_weights
    config = dataclasses.replace(from_dict(Config, loaded.config["model"]), images=1)
    model = build_step(config)
    copy_weights(loaded.model, model)
    run = compiled(lambda images, states: model({"images": images, "states": states}, training=False))

    def step(image: np.ndarray, states: list[Any]) -> tuple[dict[str, Any], list[Any]]:
        output = run(ops.convert_to_tensor(image[:, None]), states)
        return {name: values for name, values in output.items() if name != "states"}, output["states"]
    step(np.zeros((1, loaded.image_size, loaded.image_size, 3), np.float32), initial_states(config, 1))     # traced
    return step, lambda: initial_states(config, 1)
