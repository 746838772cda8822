"""Batch normalisation (Ioffe and Szegedy 2015): Keras's with a fused kernel, and over sequences of images."""
from __future__ import annotations

from typing import Any

import keras
from keras import ops

from Network.layers import PACKAGE
from Network.layers.fused import available, batch_normalised


@keras.saving.register_keras_serializable(PACKAGE)
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's own layer over the last axis of (n, h, w, C); in training on a single replica by the fused kernel, where
    the backend has one. The numbers are the same."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """(n, h, w, C) floats -> the same shape and dtype."""
        alone = training and self.trainable and mask is None and not self.synchronized
        if not alone or not available() or len(inputs.shape) != 4 or self.axis != -1:
            return super().call(inputs, training=training, mask=mask)
        y, mean, variance = batch_normalised(
            ops.cast(inputs, self.compute_dtype), ops.convert_to_tensor(self.gamma), ops.convert_to_tensor(self.beta),
            self.epsilon)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return y


@keras.saving.register_keras_serializable(PACKAGE)
class TimeBatchNormalization(keras.layers.Layer):
    """Batch normalisation (Ioffe and Szegedy 2015) of (B, T, H, W, C), as TF 2.4 or as Keras 3 understood it.

    mode       "merged": over all B*T images at once, TF 2.4's result; "per_step": each time step alone and the moving
               statistics move T times per call, Keras 3's TimeDistributed (T must be known)
    unbiased   the moving variance takes n/(n-1) of the batch's variance, as TF's fused kernel (TF 2.4, merged) did;
               Keras 3 does not
    replicas   over how many replicas the statistics are averaged (TensorFlow's strategies); 1: none
    ValueError for an unknown mode, and for "per_step" with T unknown.

    Weights, in Keras's order: gamma, beta, moving_mean, moving_variance, each (C,) float32.
    """

    MODES = ("merged", "per_step")

    def __init__(self, mode: str = "merged", momentum: float = 0.99, epsilon: float = 1e-3, unbiased: bool = True,
                 replicas: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if mode not in self.MODES:
            raise ValueError(f"batch normalisation's mode must be one of {', '.join(self.MODES)}, got {mode!r}")
        self.mode, self.momentum, self.epsilon = mode, momentum, epsilon
        self.unbiased, self.replicas = unbiased, replicas

    def build(self, inputs_shape: tuple) -> None:
        """Make the weights. inputs_shape (B, T, H, W, C)."""
        def weight(name: str, initializer: str, trainable: bool) -> Any:
            return self.add_weight(shape=(inputs_shape[-1],), initializer=initializer, name=name, trainable=trainable,
                                   autocast=False)      # statistics in half precision would be noise

        self.gamma, self.beta = weight("gamma", "ones", True), weight("beta", "zeros", True)
        self.moving_mean = weight("moving_mean", "zeros", False)
        self.moving_variance = weight("moving_variance", "ones", False)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """(B, T, H, W, C) floats -> the same shape and dtype, normalised per channel; computed in float32."""
        x = ops.cast(inputs, "float32")
        if not (training and self.trainable):
            return self._normalise(x, self.moving_mean, self.moving_variance)
        if self.mode == "merged":
            return self._train(x)
        if x.shape[1] is None:
            raise ValueError(f"{self.name}: per_step batch normalisation needs a known number of images, got None")
        return ops.stack([self._train(step) for step in ops.unstack(x, axis=1)], axis=1)

    def _train(self, x: Any) -> Any:
        """Normalise by the batch's own mean and (biased) variance, and move the moving statistics once."""
        axes = tuple(range(len(x.shape) - 1))
        mean, variance = ops.moments(x, axes=axes, synchronized=self.replicas > 1)
        moved = variance
        if self.unbiased:
            n = ops.cast(ops.prod(ops.shape(x)[:-1]), "float32") * self.replicas
            moved = variance * (n / ops.maximum(n - 1.0, 1.0))
        for variable, value in ((self.moving_mean, mean), (self.moving_variance, moved)):
            variable.assign(variable * self.momentum + value * (1.0 - self.momentum))
        return self._normalise(x, mean, variance)

    def _normalise(self, x: Any, mean: Any, variance: Any) -> Any:
        normal = ops.batch_normalization(x, ops.convert_to_tensor(mean), ops.convert_to_tensor(variance), axis=-1,
                                         offset=ops.convert_to_tensor(self.beta),
                                         scale=ops.convert_to_tensor(self.gamma), epsilon=self.epsilon)
        return ops.cast(normal, self.compute_dtype)

    def compute_output_shape(self, inputs_shape: tuple) -> tuple:
        """As the input."""
        return inputs_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("mode", "momentum", "epsilon", "unbiased", "replicas")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
