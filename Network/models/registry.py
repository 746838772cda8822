"""The networks by name, and what each network's module states about itself."""
from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Callable, Mapping

if TYPE_CHECKING:       # so that --help does not wait for it
    import keras

#: system -> module that defines its `Config`, `PRESETS` and `TARGETS` and states the rest as `NETWORK`. Imported on
#: demand: naming a network does not import its layers.
NETWORKS = {
    "convlstm": "Network.mobile3model",
    "compact": "Network.models.compact",
    "uvnet": "Network.models.uvnet",
    "pix2pix": "Network.models.pix2pix",
    "vrn": "Network.models.vrn",
    "coarse": "Network.models.coarse",
}


def _whole(model: keras.Model) -> keras.Model:
    return model


def _no_settings(config: Any) -> dict[str, Any]:
    return {}


def _no_template(model: keras.Model, template: Any) -> None:
    """The network holds no mean face."""


def _no_states(config: Any, batch: int) -> list[Any]:
    return []


@dataclass(frozen=True, kw_only=True)
class Network:
    """What training, prediction and export need to know of a network. The defaults are those of a network without the
    feature.

    targets         what it is trained on: a key of `Datagenerator.source.DATA_CONFIGS`
    config          frozen dataclass with every setting of the network
    presets         name of a preset of `Network.training.presets` -> config
    build           config -> the model that predicts
    build_training  config -> the model that is trained: `build`'s weights under the same names, and perhaps more
                    outputs, which only the loss needs
    predicting_part model of `build_training` -> the part of it that predicts, with the same weights
    loss            (config, basis) -> the loss of `build_training`'s outputs (`Network/losses`); None: the network is
                    adversarial. basis: () -> the face model's vertices as a linear function of coefficients
    set_template    (model, template): initialises a new model with the mean face of the training data, before those of
                    another run are loaded, whose own template then stays: their kernels were trained with it
                    (`Datagenerator.source.Source.template`)
    data_settings   config -> settings of the data generator that the network cannot be trained without
    adversarial     whether it trains as the layers "generator" and "discriminator" of one model
    output          name of the output in an exported file, of a network without `build_step`
    build_step      config -> a model of a single image, with the names and weights of `build`, for export; None:
                    `build` takes single images and has one output. Without states it takes images (B, S, S, C) and
                    gives a dict of outputs; with states it takes {"images": (B, 1, S, S, 3), "states": list} and gives
                    the outputs and "states"
    initial_states  (config, batch) -> the states before the first image, zeros
    """

    targets: str
    config: type
    presets: Mapping[str, Any]
    build: Callable[[Any], keras.Model]
    build_training: Callable[[Any], keras.Model]
    predicting_part: Callable[[keras.Model], keras.Model] = _whole
    loss: Callable[[Any, Callable[[], Any]], Callable[[Any, Any], Any]] | None = None
    set_template: Callable[[keras.Model, Any], None] = _no_template
    data_settings: Callable[[Any], dict[str, Any]] = _no_settings
    adversarial: bool = False
    output: str = "output"
    build_step: Callable[[Any], keras.Model] | None = None
    initial_states: Callable[[Any, int], list[Any]] = _no_states


def get_network(name: str) -> Network:
    """What the module of a system states. ValueError for an unknown name."""
    if name not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {name!r}")
    network = import_module(NETWORKS[name]).NETWORK
    _ignore_keras_json()
    return network


def _ignore_keras_json() -> None:
    """The networks are written for Keras's defaults; a user's keras.json may say something else for other programs. Its
    backend is ignored, too: `Network.BACKEND`."""
    from keras import config
    if config.image_data_format() != "channels_last":
        config.set_image_data_format("channels_last")
    if config.floatx() != "float32":
        config.set_floatx("float32")
    if config.epsilon() != 1e-7:
        config.set_epsilon(1e-7)
