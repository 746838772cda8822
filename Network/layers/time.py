"""Time folded into the batch, and back: layers for single images applied to sequences of images."""
from __future__ import annotations

from typing import Any

import keras
from keras import ops

from Network.layers import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class FoldTime(keras.layers.Layer):
    """(B, T, ...) -> (B*T, ...): the layers behind it see all images as one batch, as with TF 2.4's TimeDistributed.

    Keras 3's TimeDistributed loops over time, or over the *batch* where T is unknown while tracing.
    """

    def call(self, inputs: Any) -> Any:
        """(B, T, ...) any dtype -> (B*T, ...) the same values, sample by sample."""
        return ops.reshape(inputs, (-1, *inputs.shape[2:]))

    def compute_output_shape(self, inputs_shape: tuple) -> tuple:
        """B*T where both are known, else None."""
        known = None not in inputs_shape[:2]
        return (inputs_shape[0] * inputs_shape[1] if known else None, *inputs_shape[2:])


@keras.saving.register_keras_serializable(PACKAGE)
class UnfoldTime(keras.layers.Layer):
    """(B*T, ...) and any (B, T, ...) tensor -> (B, T, ...): the inverse of FoldTime; B and T are the second's."""

    def call(self, inputs: Any, like: Any) -> Any:
        """`inputs` (B*T, ...) any dtype, `like` (B, T, ...) -> (B, T, ...)."""
        return ops.reshape(inputs, (*ops.shape(like)[:2], *inputs.shape[1:]))

    def compute_output_shape(self, inputs_shape: tuple, like_shape: tuple) -> tuple:
        """(B, T, ...)."""
        return (*like_shape[:2], *inputs_shape[1:])
