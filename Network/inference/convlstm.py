"""`convlstm` (Thomassen 2022): points from any number of photos through recurrent states; and any model file without a
config that maps images to points."""
from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from Network.config.flags import from_dict
from Network.engine.graph import compiled
from Network.inference.base import Face, Predictor
from Network.inference.photos import Crop, NoFace, Scored
from Network.mobile3model import Config, build_step, initial_states
from Network.training.named_weights import copy_weights
from Network.training.loading import Loaded


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
            self._config = dataclasses.replace(from_dict(Config, loaded.config["model"]), images=1)
            model = build_step(self._config)
            copy_weights(loaded.model, model)
            self._step = compiled(lambda images, states: model({"images": images, "states": states}, training=False))
        self._forget()
        if self.carries_states:             # traced here, not with the first image
            self._step(ops.zeros((1, 1, self.size, self.size, 3)), self._states)

    def _look(self, crop: Crop) -> Scored[Points]:
        image = self._scaled(crop.image)
        if self.carries_states:
            output = self._step(ops.convert_to_tensor(image[None, None]), self._states)
            found = Points(np.asarray(output["points"][0], np.float32), output["states"], [])
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
        self._states = initial_states(self._config, 1) if self.carries_states else []
        self._images: list[np.ndarray] = []

    def _predict(self, inputs: np.ndarray) -> np.ndarray:
        count = self.loaded.images
        if count:                           # again from the first, or the first so many
            inputs = np.concatenate([inputs] * -(-count // inputs.shape[1]), axis=1)[:, :count]
        return np.asarray(self.loaded.model(inputs, training=False), np.float32)
