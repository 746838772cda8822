"""One gradient step of a custom training loop, by the backend that Keras runs on (KERAS_BACKEND).

`GradientStep`, `make_strategy`, `prepare`, `make_optimizer` and `summary_writer` are the same to their users: the same
batches give the same losses, weights and state on disk, and a run started under one backend can be
resumed under the other. Only the random initial weights of a new network depend on the backend.
"""
from __future__ import annotations

from typing import Any

import keras

from Network.config.flags import from_dict
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
    configured = from_dict(network.config, config["model"])
    if network.loss:
        return GradientStep(model, make_optimizer(settings), network.loss(configured, _vertex_basis), jit=settings.jit,
                            strategy=strategy)
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"{config['network']} trains with KERAS_BACKEND=tensorflow only, "
                         f"got {keras.backend.backend()}")
    from Network.training.gan_step import GanStep, make_optimizers
    return GanStep(model, make_optimizers(settings), configured, jit=settings.jit, strategy=strategy)


def _vertex_basis() -> Any:
    """The built-in face's: 17 MB, read when it is wanted."""
    from Dataset.face_model.model import load_face_model
    from Dataset.representations.coefficients import linear
    return linear(load_face_model(), "vertices").basis
