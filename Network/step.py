"""One gradient step of a custom training loop, by the backend that Keras runs on (KERAS_BACKEND).

`GradientStep`, `make_strategy`, `prepare`, `make_optimizer` and `summary_writer` are the same to their users: the same
batches give the same losses, weights and state on disk, and a run begun under one backend goes on under the other.
Only the random weights with which a new network begins are each backend's own.
"""
from __future__ import annotations

import keras

from Network.batches import Batch, Loss, add_parts, samples

if keras.backend.backend() == "jax":        # never TensorFlow here: a machine with JAX need not have it
    from Network.jax_step import GradientStep, make_optimizer, make_strategy, prepare, summary_writer
else:
    from Network.tf_step import GradientStep, make_optimizer, make_strategy, prepare, summary_writer

__all__ = ["Batch", "GradientStep", "Loss", "add_parts", "make_optimizer", "make_strategy", "prepare", "samples",
           "summary_writer"]
