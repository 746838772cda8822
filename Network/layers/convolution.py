"""Convolution, batch normalisation, ReLU: the block of which most encoders here are made (Ioffe and Szegedy 2015)."""
from __future__ import annotations

from typing import Any, Protocol

from keras import layers

from Network.layers.normalisation import BatchNormalization


class Normalised(Protocol):
    """Of a network's Config: momentum of the moving statistics, and over how many replicas a batch is spread."""

    batch_norm_momentum: float
    batch_norm_replicas: int


def convolution(config: Normalised, x: Any, filters: int, name: str, stride: int = 1, kernel: int = 3,
                relu: bool = True) -> Any:
    """(n, h, w, C) -> (n, h / stride, w / stride, filters), without a bias, normalised over the batch."""
    x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False, kernel_initializer="he_normal",
                      name=name)(x)
    return normalised(config, x, name, "relu" if relu else None)


def normalised(config: Normalised, x: Any, name: str, activation: str | None = "relu") -> Any:
    """Batch normalisation NAME_norm and, where there is one, the activation (relu, elu) NAME_relu or NAME_elu."""
    x = BatchNormalization(momentum=config.batch_norm_momentum, name=f"{name}_norm",
                           synchronized=config.batch_norm_replicas > 1)(x)
    made = {"relu": layers.ReLU, "elu": layers.ELU}
    return made[activation](name=f"{name}_{activation}")(x) if activation else x
