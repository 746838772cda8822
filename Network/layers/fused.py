"""The one place of the layers that names a backend: TensorFlow's fused kernel of batch normalisation.

It gives Keras's numbers sooner on CPUs (tests/bench/normalisation.py) where the channels are a multiple of 16.
"""
from __future__ import annotations

from typing import Any

import keras


def available() -> bool:
    """Whether Keras runs on TensorFlow, which has the kernel."""
    return keras.backend.backend() == "tensorflow"


def batch_normalised(x: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """(n, h, w, C) normalised by its own statistics over the first three axes; gamma and beta (C,) float32.

    Returns the result, in the dtype of x, and the batch's mean and biased variance, (C,) float32 without gradient:
    the kernel's own variance is the unbiased one, Keras's is not.
    """
    import tensorflow as tf
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(x=x, scale=gamma, offset=beta, mean=[], variance=[],
                                                        epsilon=epsilon, is_training=True)
    count = tf.cast(tf.reduce_prod(tf.shape(x)[:3]), tf.float32)
    return y, tf.stop_gradient(mean), tf.stop_gradient(variance * ((count - 1.0) / count))
