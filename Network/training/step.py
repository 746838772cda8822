"""One gradient step of a custom training loop, by the backend that Keras runs on (KERAS_BACKEND).

`GradientStep`, `make_strategy`, `prepare`, `make_optimizer` and `summary_writer` are the same to their users: the same
batches give the same losses, weights and state on disk, and a run started under one backend can be
resumed under the other. Only the random initial weights of a new network depend on the backend.
"""
from __future__ import annotations

import functools
from typing import Any

import keras

from Network.config.flags import from_dict
from Network.losses.points import LOSSES, maps_of_the_face
from Network.models.registry import get_network
from Network.training.batches import Batch, Loss, add_parts, samples
from Network.training.optimizers import make_optimizer
from Network.training.settings import Settings

if keras.backend.backend() == "jax":        # never TensorFlow here: a machine with JAX need not have it
    from Network.training.jax_step import GradientStep, make_strategy, prepare, summary_writer
else:
    from Network.training.tf_step import GradientStep, make_strategy, prepare, summary_writer

__all__ = ["Batch", "GradientStep", "Loss", "add_parts", "make_optimizer", "make_step", "make_strategy", "prepare",
           "samples", "summary_writer"]


def make_step(config: dict[str, Any], model: keras.Model, settings: Settings, strategy: Any) -> Any:
    """The step, with its optimizer, that trains the network of a run's config.json; call it in `strategy.scope()`.

    ValueError where a GAN meets settings that its step does not have.
    """
    network = get_network(config["network"])
    if not network.adversarial:
        configured = CONFIGURED_LOSSES.get(config["network"])
        loss = configured(config["model"]) if configured else LOSSES[config["network"]]
        return GradientStep(model, make_optimizer(settings), loss, jit=settings.jit, strategy=strategy)
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"{config['network']} trains with KERAS_BACKEND=tensorflow only, "
                         f"got {keras.backend.backend()}")
    from Network.training.gan_step import GanStep, make_optimizers
    return GanStep(model, make_optimizers(settings), from_dict(network.config, config["model"]), jit=settings.jit,
                   strategy=strategy)


def _coarse_loss(model: dict[str, Any]) -> Loss:
    """The loss of `coarse` with the built-in face's bases: 17 MB, read when it is wanted."""
    from Dataset.face_model.model import load_face_model
    from Dataset.representations.coefficients import linear
    from Network.losses.coarse import coarse_loss
    return coarse_loss(linear(load_face_model(), "vertices").basis, model["geometry_norm"], model["geometry"],
                       model["pose_weight"])


def _uvnet_loss(model: dict[str, Any]) -> Loss:
    """The loss of `uvnet`, or one of its ablations; a run from before there were some has the paper's."""
    return functools.partial(maps_of_the_face, distance=model.get("distance", "l1"),
                             gradient=model.get("gradient_loss", True))


#: system -> its loss, of one that depends on the model's config
CONFIGURED_LOSSES = {"coarse": _coarse_loss, "uvnet": _uvnet_loss}
