"""The thesis's network and training step, ported as literally as Keras 3 allows: the baseline of our ratios.

Source: Thomassen 2022, appendix B-2 (network) and B-4 (training loop). Three things differ from the print: the ops
of `keras.backend` that Keras 3 dropped are called by their new names, `Add()(x, inputs)` (which cannot run) became
`Add()([x, inputs])`, and three settings that a newer Keras changed silently can be chosen. Left as it was: every
layer, its order, `TimeDistributed`, Keras's own `ConvLSTM2D`, and the eager step.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import layers, ops


def hard_sigmoid_keras2(x):
    """Keras 2's recurrent activation, on its own so that the baseline shares no code with what it is compared with."""
    return ops.clip(x * 0.2 + 0.5, 0.0, 1.0)


class MergedTime(layers.Wrapper):
    """TF 2.4's `TimeDistributed`: the wrapped layer sees all B*T images as one batch."""

    def call(self, inputs, training=None):
        """(B, T, H, W, C) -> (B, T, ...) of the wrapped layer, called once."""
        merged = ops.reshape(inputs, (-1, *inputs.shape[2:]))
        kwargs = {"training": training} if isinstance(self.layer, layers.BatchNormalization) else {}
        out = self.layer(merged, **kwargs)
        return ops.reshape(out, (-1, inputs.shape[1], *out.shape[1:]))

    def build(self, input_shape):
        """Build the wrapped layer on one image's shape."""
        super().build((None, *input_shape[2:]))

    def compute_output_shape(self, input_shape):
        """(B, T, ...) with the wrapped layer's own output behind it."""
        out = self.layer.compute_output_shape((None, *input_shape[2:]))
        return (*input_shape[:2], *out[1:])


def _squeeze_excite(tensor, timed, ratio):
    filters = tensor.shape[-1]
    se = timed(layers.GlobalAveragePooling2D())(tensor)
    se = timed(layers.Reshape((1, 1, filters)))(se)
    se = timed(layers.Dense(
        filters // ratio, activation="relu", kernel_initializer="he_normal", use_bias=False))(se)
    se = timed(layers.Dense(
        filters, activation="sigmoid", kernel_initializer="he_normal", use_bias=False))(se)
    return layers.multiply([tensor, se])


def _conv_block(inputs, filters, kernel, strides, timed):
    x = timed(layers.Conv2D(filters, kernel, padding="same", strides=strides))(inputs)
    x = timed(layers.BatchNormalization())(x)
    return timed(layers.Activation(ops.relu6))(x)


def _bottleneck(inputs, filters, kernel, t, alpha, s, squeeze, timed, r=False):
    x = _conv_block(inputs, inputs.shape[-1] * t, (1, 1), (1, 1), timed)
    x = timed(layers.DepthwiseConv2D(kernel, strides=(s, s), depth_multiplier=1, padding="same"))(x)
    x = timed(layers.BatchNormalization())(x)
    x = timed(layers.Activation(ops.relu6))(x)
    if squeeze:
        x = _squeeze_excite(x, timed, ratio=squeeze)
    x = timed(layers.Conv2D(int(filters * alpha), (1, 1), strides=(1, 1), padding="same"))(x)
    x = timed(layers.BatchNormalization())(x)
    return layers.Add()([x, inputs]) if r else x


def _inverted_residual_block(inputs, filters, kernel, t, alpha, strides, n, squeeze, timed):
    x = _bottleneck(inputs, filters, kernel, t, alpha, strides, squeeze, timed)
    for _ in range(1, n):
        x = _bottleneck(x, filters, kernel, t, alpha, 1, squeeze, timed, True)
    return x


def _decoder(x, divide):
    for filters, strides in ((512, 1), (256, 2), (128, 2), (64, 2), (32, 2), (16, 1), (8, 1)):
        x = layers.Conv2DTranspose(filters // divide, 4, strides=strides, padding="same", activation="relu")(x)
    return layers.Conv2DTranspose(3, 4, strides=1, padding="same", activation="tanh", dtype="float32")(x)


def _make_divisible(v, divisor):
    new_v = max(divisor, int(v + divisor / 2) // divisor * divisor)
    return new_v + divisor if new_v < 0.9 * v else new_v


def get_keras_model(input_shape, N: int = 2**14, alpha: float = 1.0, squeeze: bool = False,
                    recurrent_activation: str | Callable = hard_sigmoid_keras2,
                    merged: bool = False, divide: int = 1) -> keras.Model:
    """Listing B-2's model: (B, T, H, W, 3) float32 -> (B, N, 3) float32 in (-1, 1).

    `merged=False` is what Keras 3 makes of the listing (each time step alone); `merged=True` is what TF 2.4 made.
    `divide` divides every number of filters, for tests in seconds; 1 is the listing.
    """
    timed = MergedTime if merged else layers.TimeDistributed

    def lstm(filters, strides, sequences=True):
        return layers.ConvLSTM2D(filters, kernel_size=(3, 3), strides=strides, padding="same",
                                 return_sequences=sequences, recurrent_activation=recurrent_activation)

    squeeze = 16 // divide if squeeze else 0        # from here on the ratio, 0 for none
    inputs = layers.Input(shape=input_shape)
    x = lstm(_make_divisible(32 // divide * alpha, 8), (2, 2))(inputs)
    x = _inverted_residual_block(x, 16 // divide, (3, 3), 1, alpha, 1, 1, squeeze, timed)
    x = lstm(24 // divide, (2, 2))(x)
    x = lstm(32 // divide, (2, 2))(x)
    x = lstm(64 // divide, (2, 2))(x)
    x = lstm(96 // divide, (1, 1))(x)
    x = _inverted_residual_block(x, 160 // divide, (3, 3), 6, alpha, 2, 2, squeeze, timed)
    x = _inverted_residual_block(x, 320 // divide, (3, 3), 6, alpha, 1, 1, squeeze, timed)
    x = lstm(512 // divide, (1, 1))(x)
    x = lstm(512 // divide, (1, 1), sequences=False)(x)
    return keras.Model(inputs, layers.Reshape((N, 3), dtype="float32")(_decoder(x, divide)))


def eager_step(model: keras.Model, optimizer, images: np.ndarray, points: np.ndarray) -> float:
    """Listing B-4's training step, eager: the loss before the update. images (B, T, H, W, 3), points (B, N, 3)."""
    import tensorflow as tf

    loss = keras.losses.MeanSquaredError()
    with tf.GradientTape() as tape:
        value = loss(points, model(images, training=True))
    gradients = tape.gradient(value, model.trainable_weights)
    optimizer.apply_gradients(zip(gradients, model.trainable_weights))
    return float(value)
