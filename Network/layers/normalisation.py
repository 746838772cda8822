"""Keras's batch normalisation, by TensorFlow's fused kernel where that is the backend."""
from __future__ import annotations

from typing import Any

import keras
from keras import ops

from Network.layers.convlstm import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's own over the last axis of (n, h, w, C), by TensorFlow's fused kernel where there is one: the same numbers
    sooner on CPUs (tests/bench/normalisation.py), if C is a multiple of 16. Elsewhere, in inference and
    over replicas it is Keras's code."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """(n, h, w, C) floats -> the same shape and dtype."""
        alone = training and self.trainable and mask is None and not self.synchronized
        if not alone or keras.backend.backend() != "tensorflow" or len(inputs.shape) != 4 or self.axis != -1:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf
        x = tf.cast(inputs, self.compute_dtype)
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=ops.convert_to_tensor(self.gamma), offset=ops.convert_to_tensor(self.beta), mean=[],
            variance=[], epsilon=self.epsilon, is_training=True)
        count = tf.cast(tf.reduce_prod(tf.shape(x)[:3]), tf.float32)
        variance *= (count - 1.0) / count                       # the kernel's is that of a sample, Keras's is not
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + tf.stop_gradient(batch) * (1.0 - self.momentum))
        return y
