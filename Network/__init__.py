"""FROM BATCHES TO PREDICTIONS: models, layers, losses, training, prediction."""
from __future__ import annotations

from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

#: system -> module with a frozen `Config` dataclass and `build(config) -> keras.Model`. Imported on demand: naming a
#: network must not cost the import of Keras.
NETWORKS = {
    "convlstm": "Network.mobile3model",
    "compact": "Network.compact",
    "uvnet": "Network.uvnet",
    "pix2pix": "Network.pix2pix",
    "vrn": "Network.vrn",
    "coarse": "Network.coarse",
}


def get_network(name: str) -> ModuleType:
    """The module of a system. ValueError for an unknown name."""
    if name not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {name!r}")
    return import_module(NETWORKS[name])
