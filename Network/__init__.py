"""FROM BATCHES TO PREDICTIONS: models, layers, losses, training, prediction."""
from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from Network.inference.base import Predictor

__version__ = "0.1.0"
#: of Keras: what the environment says, else TensorFlow, whatever the user's keras.json has. Keras reads it when it is
#: imported, which comes after this
BACKEND = os.environ.setdefault("KERAS_BACKEND", "tensorflow")


def from_preset(name: str = "compact", **options: Any) -> Predictor:
    """The Predictor of a bundled network. ValueError for an unknown name or option."""
    from Network.inference import registry
    return registry.from_preset(name, **options)


def from_run(path: str | os.PathLike[str], checkpoint: str = "best_validation", engine: str | None = None,
             **options: Any) -> Predictor:
    """The Predictor of a run folder's checkpoint, a weight folder, a `.keras` or an `.h5` file. ValueError, naming it,
    for anything else. engine: onnxruntime or keras; None: onnxruntime for a weight folder with its model.onnx."""
    from Network.inference import registry
    return registry.from_run(path, checkpoint, engine, **options)
