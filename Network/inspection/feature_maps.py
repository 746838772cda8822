"""What the layers of a network give for one photo (Ronkainen 2017, 4.5.2: "create image collages using the output of
different convolutional layers"); `Evaluation/views/feature_collage.py` draws it."""
from __future__ import annotations

from typing import Sequence

import keras
import numpy as np


MAX_LAYERS = 64
MAX_VALUES = 1 << 26           # of all feature maps together: 256 MB


def layer_names(model: keras.Model, beginnings: Sequence[str] = ()) -> list[str]:
    """Names of a model's layers whose output is feature maps (B, h, w, C), in their order: those whose name begins with
    one of `beginnings`; () is all convolutions. ValueError for a beginning that names none, and for more than
    MAX_LAYERS."""
    maps = [layer for layer in model.layers if len(getattr(layer.output, "shape", ())) == 4
            and not isinstance(layer, keras.layers.InputLayer)]
    for beginning in beginnings:
        if not any(layer.name.startswith(beginning) for layer in maps):
            raise ValueError(f"no layer with feature maps has a name that begins with {beginning!r}; there are "
                             f"{', '.join(layer.name for layer in maps)[:400]}")
    names = [layer.name for layer in maps if (
        layer.name.startswith(tuple(beginnings)) if beginnings else
        isinstance(layer, (keras.layers.Conv2D, keras.layers.Conv2DTranspose)))]
    if not names:
        raise ValueError("the network has no layer with feature maps (B, h, w, C)")
    if len(names) > MAX_LAYERS:
        raise ValueError(f"{len(names)} layers are more than {MAX_LAYERS}; name fewer")
    return names


def feature_maps(model: keras.Model, image: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Name -> feature maps (h, w, C) float32 of one image (S, S, 3) float32 in [0, 1]. ValueError for an unknown layer,
    one without feature maps, and for more than MAX_VALUES in all."""
    known = {layer.name: layer for layer in model.layers}
    unknown = [name for name in names if len(getattr(getattr(known.get(name), "output", None), "shape", ())) != 4]
    if unknown or not names:
        raise ValueError(f"layers with feature maps are needed, got {', '.join(unknown) or 'none'}")
    outputs = [known[name].output for name in names]
    if sum(int(np.prod([n or 1 for n in output.shape])) for output in outputs) > MAX_VALUES:
        raise ValueError(f"the feature maps have more than {MAX_VALUES} values; name fewer layers")
    found = keras.Model(model.input, outputs)(np.asarray(image, np.float32)[None], training=False)
    found = found if isinstance(found, (list, tuple)) else [found]
    return {name: np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(maps, "float32")))[0]
            for name, maps in zip(names, found)}
