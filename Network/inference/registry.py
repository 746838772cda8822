"""Which Predictor a network's name stands for, and predictors by name or path."""
from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from Network.config.flags import silence_tensorflow
from Network.engine.loaded import (DEFAULT_MODEL, ENGINES, ONNXRUNTIME, Loaded, bundled_models, has_onnx, load_onnx,
                                   model_path)
from Network.inference.base import Predictor

#: system -> module and class of its Predictor; imported on demand
PREDICTORS = {
    "convlstm": ("Network.inference.convlstm", "ConvLSTMPredictor"),
    "compact": ("Network.inference.compact", "CompactPredictor"),
    "uvnet": ("Network.inference.uvnet", "UVNetPredictor"),
    "pix2pix": ("Network.inference.pix2pix", "Pix2PixPredictor"),
    "vrn": ("Network.inference.vrn", "VRNPredictor"),
    "coarse": ("Network.inference.coarse", "CoarsePredictor"),
}
BARE = "convlstm"       # the system of a model file without a config beside it


def predictor_class(name: str) -> type[Predictor]:
    """The Predictor of a system. ValueError for an unknown name."""
    if not isinstance(name, str) or name not in PREDICTORS:
        raise ValueError(f"network must be one of {', '.join(PREDICTORS)}, got {name!r}")
    module, found = PREDICTORS[name]
    return getattr(import_module(module), found)


def predictor_of(loaded: Loaded, **options: Any) -> Predictor:
    """The Predictor of a loaded model. ValueError for an option that its system does not have."""
    return predictor_class(loaded.config.get("network", BARE))(loaded, **options)


def load(path: str | Path, checkpoint: str = "best_validation", engine: str | None = None) -> Loaded:
    """A run folder's checkpoint, a weight folder, a `.keras` or an `.h5` file, or, where no such path is, the bundled
    network of this name, opened by an engine of ENGINES.

    None: onnxruntime for a weight folder with its model.onnx, as bundled networks have; Keras for all others.
    ValueError, in one line that names the file, for anything else, and for another engine.
    """
    if engine not in (None, *ENGINES):
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"path must be a run folder, a weight folder, a model file or a bundled network's name, got "
                         f"{type(path).__name__}")
    if not os.path.exists(model_path(path)):       # before Keras is imported, which takes seconds
        raise ValueError(f"{path}: no such model file or run folder; bundled are {', '.join(bundled_models())}")
    if engine == ONNXRUNTIME or engine is None and has_onnx(path):
        return load_onnx(path)
    return load_keras(path, checkpoint)


def load_keras(path: str | Path, checkpoint: str = "best_validation") -> Loaded:
    """The same by Keras."""
    silence_tensorflow()
    from Network.training.loading import load_model
    return load_model(path, checkpoint)


def from_run(path: str | Path, checkpoint: str = "best_validation", engine: str | None = None, **options: Any
             ) -> Predictor:
    """The Predictor of what `load` loads.

    options  of the system: `iterations`, `fusion` of coarse. ValueError, naming the file or the option.
    """
    return predictor_of(load(path, checkpoint, engine), **options)


def from_preset(name: str = DEFAULT_MODEL.name, **options: Any) -> Predictor:
    """The Predictor of a bundled network. ValueError for an unknown name, or options as `from_run`."""
    bundled = bundled_models()
    if not isinstance(name, str) or name not in bundled:
        raise ValueError(f"preset must be one of {', '.join(bundled)}, got {name!r}")
    return from_run(bundled[name], **options)
