"""Blocks of stacked hourglasses (Newell, Yang and Deng 2016, sections 3.1 and 3.2): the residual module, the hourglass.

Left out: intermediate supervision, which the volume networks do not have.
"""
from __future__ import annotations

from typing import Any, Callable

import keras
from keras import layers, ops

from Network.layers import PACKAGE
from Network.layers.fused import available, batch_normalised

EPSILON = 1e-3          # of batch normalisation, Keras's


@keras.saving.register_keras_serializable(PACKAGE)
class Residual(keras.layers.Layer):
    """(B, h, w, C) -> (B, h, w, filters): three times normalisation, ReLU, convolution: 1x1 to half the filters, 3x3,
    1x1 to the filters; plus what came in, through a 1x1 convolution where C is not `filters`.

    remat     in training the values between input and output are computed again for the gradient, not kept
    replicas  over how many replicas the normalisation's statistics are taken
    ValueError for an odd number of filters.

    Weights: for each of the three gamma, beta (trained), moving_mean, moving_variance, float32, and kernel; then the
    shortcut's kernel. One layer, not nine: so the moving statistics are moved once, outside of what is computed twice.
    """

    def __init__(self, filters: int, momentum: float = 0.99, remat: bool = False, replicas: int = 1, **kwargs: Any
                 ) -> None:
        super().__init__(**kwargs)
        if filters < 2 or filters % 2:
            raise ValueError(f"filters must be even and at least 2, got {filters}")
        self.filters, self.momentum, self.remat, self.replicas = filters, momentum, remat, replicas

    def build(self, shape: tuple) -> None:
        """Make the weights. shape (B, h, w, C)."""
        half, channels = self.filters // 2, shape[-1]
        self.norms, self.kernels = [], []
        for number, (side, taken, given) in enumerate(((1, channels, half), (3, half, half), (1, half, self.filters))):
            self.norms.append([self.add_weight(
                shape=(taken,), initializer=initial, trainable=trained, autocast=False, dtype="float32",
                name=f"{name}_{number}") for name, initial, trained in (
                    ("gamma", "ones", True), ("beta", "zeros", True), ("moving_mean", "zeros", False),
                    ("moving_variance", "ones", False))])
            self.kernels.append(self.add_weight(shape=(side, side, taken, given), initializer="he_normal",
                                                autocast=False, name=f"kernel_{number}"))
        if channels != self.filters:
            self.kernels.append(self.add_weight(shape=(1, 1, channels, self.filters), initializer="he_normal",
                                                autocast=False, name="shortcut"))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """As the class says; floats of the compute dtype."""
        training = bool(training) and self.trainable
        normed = [ops.convert_to_tensor(weight) for norm in self.norms for weight in norm]
        kernels = [ops.cast(ops.convert_to_tensor(kernel), self.compute_dtype) for kernel in self.kernels]
        body = _body(training, self.replicas, len(normed))
        y, *batch = (keras.remat(body) if self.remat and training else body)(inputs, *normed, *kernels)
        for (_, _, *moving), found in zip(self.norms, zip(batch[::2], batch[1::2])):
            for variable, value in zip(moving, found):
                variable.assign(variable * self.momentum + ops.stop_gradient(value) * (1.0 - self.momentum))
        return y

    def compute_output_shape(self, shape: tuple) -> tuple:
        """(B, h, w, filters)."""
        return (*shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("filters", "momentum", "remat", "replicas")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _body(training: bool, replicas: int, count: int) -> Callable:
    """The module as a function of tensors alone: (x, `count` of normalisation, kernels) -> (y, mean, variance, mean,
    variance ...), the batch's in training. No variable is touched: it may be run again for the gradient."""
    def body(x: Any, *weights: Any) -> tuple[Any, ...]:
        normed, kernels = weights[:count], weights[count:]
        y, batch = x, []
        for number in range(3):
            y, *found = _normalised(y, *normed[4 * number:4 * number + 4], training, replicas)
            batch += found
            y = ops.conv(ops.relu(y), kernels[number], padding="same")
        shortcut = ops.conv(x, kernels[3], padding="same") if len(kernels) > 3 else x
        return (y + shortcut, *batch)
    return body


def _normalised(x: Any, gamma: Any, beta: Any, mean: Any, variance: Any, training: bool, replicas: int
                ) -> tuple[Any, ...]:
    """x normalised by the batch's statistics, and these (C,) float32; by the moving ones, and nothing, without
    training."""
    if training and replicas == 1 and available():
        return batch_normalised(x, gamma, beta, EPSILON)
    if training:
        mean, variance = ops.moments(ops.cast(x, "float32"), axes=(0, 1, 2), synchronized=replicas > 1)
    scale = gamma * ops.rsqrt(variance + EPSILON)
    if not training:        # one product and one sum in the compute dtype
        return (x * ops.cast(scale, x.dtype) + ops.cast(beta - mean * scale, x.dtype),)
    return ops.cast(ops.cast(x, "float32") * scale + (beta - mean * scale), x.dtype), mean, variance


def hourglass(x: Any, depth: int, residual: Callable[[Any, str], Any], name: str) -> Any:
    """(B, h, w, F) -> the same shape: halved `depth` times and doubled again (nearest), a module on either way at each
    scale, a module beside each. residual(x, name): a module of F filters. h and w must divide by 2^depth."""
    skip = residual(x, f"{name}_skip_{depth}")
    x = residual(layers.MaxPooling2D(2, name=f"{name}_pool_{depth}")(x), f"{name}_down_{depth}")
    x = hourglass(x, depth - 1, residual, name) if depth > 1 else residual(x, f"{name}_bottom")
    x = layers.UpSampling2D(2, name=f"{name}_upsample_{depth}")(residual(x, f"{name}_up_{depth}"))
    return layers.Add(name=f"{name}_add_{depth}")([skip, x])
