"""Which Predictor a network's name stands for, and predictors by name or path."""
from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from Network.inference.base import Predictor
from Network.training.loading import DEFAULT_MODEL, Loaded, bundled_models, load_model

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
    if name not in PREDICTORS:
        raise ValueError(f"network must be one of {', '.join(PREDICTORS)}, got {name!r}")
    module, found = PREDICTORS[name]
    return getattr(import_module(module), found)


def predictor_of(loaded: Loaded, **options: Any) -> Predictor:
    """The Predictor of a loaded model. ValueError for an option that its system does not have."""
    return predictor_class(loaded.config.get("network", BARE))(loaded, **options)


def from_run(path: str | Path, checkpoint: str = "best_validation", **options: Any) -> Predictor:
    """The Predictor of a run folder's checkpoint, a weight folder, a `.keras` or an `.h5` file, or, where no such path
    is, of the bundled network of this name.

    options  of the system: `iterations`, `fusion` of coarse. ValueError, naming the file or the option.
    """
    return predictor_of(load_model(path, checkpoint), **options)


def from_preset(name: str = DEFAULT_MODEL.name, **options: Any) -> Predictor:
    """The Predictor of a bundled network. ValueError for an unknown name, or options as `from_run`."""
    bundled = bundled_models()
    if name not in bundled:
        raise ValueError(f"preset must be one of {', '.join(bundled)}, got {name!r}")
    return from_run(bundled[name], **options)
