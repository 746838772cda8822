"""A layer for clouds of ordered points."""
from __future__ import annotations

from typing import Any

import keras

from Network.layers import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class PointBias(keras.layers.Layer):
    """(B, N, 3) -> (B, N, 3): the input times `scale`, plus a bias (N, 3) of each point and coordinate, where a
    convolution's is the same for all points. The bias is initially zero."""

    def __init__(self, scale: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def build(self, points_shape: tuple) -> None:
        """points_shape (B, N, 3), N known."""
        self.bias = self.add_weight(shape=points_shape[1:], initializer="zeros", name="bias")

    def call(self, points: Any) -> Any:
        """(B, N, 3) floats."""
        return points * self.scale + self.bias

    def compute_output_shape(self, points_shape: tuple) -> tuple:
        """As the input."""
        return points_shape

    def get_config(self) -> dict[str, Any]:
        """What `from_config` takes."""
        return {**super().get_config(), "scale": self.scale}
