"""FROM BATCHES TO PREDICTIONS: models, layers, losses, training, prediction."""
from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from Network.inference.base import Predictor

__version__ = "0.1.0"

#: system -> module with a frozen `Config` dataclass and `build(config) -> keras.Model`. Imported on demand: naming a
#: network must not cost the import of Keras.
NETWORKS = {
    "convlstm": "Network.mobile3model",
    "compact": "Network.models.compact",
    "uvnet": "Network.models.uvnet",
    "pix2pix": "Network.models.pix2pix",
    "vrn": "Network.models.vrn",
    "coarse": "Network.models.coarse",
}


def get_network(name: str) -> ModuleType:
    """The module of a system. ValueError for an unknown name."""
    if name not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {name!r}")
    return import_module(NETWORKS[name])


def from_preset(name: str = "compact", **options: Any) -> Predictor:
    """The Predictor of a bundled network. ValueError for an unknown name or option."""
    from Network.inference import registry
    return registry.from_preset(name, **options)


def from_run(path: str | os.PathLike[str], checkpoint: str = "best_validation", **options: Any) -> Predictor:
    """The Predictor of a run folder's checkpoint, a weight folder, a `.keras` or an `.h5` file. ValueError, naming it,
    for anything else."""
    from Network.inference import registry
    return registry.from_run(path, checkpoint, **options)
