"""Layers that locate keypoints in an image: soft-argmax of heat maps, bilinear sampling at keypoints, corrections.

Soft-argmax: Sun et al. 2018, "Integral human pose regression", equation 2. keras.ops only, so that every backend runs
and exports the layers.
"""
from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from Network.layers import PACKAGE
from Network.losses.points import KEYPOINT_UNIT

MARGIN = 0.125                  # heat maps extend so far beyond the image's border, normalised coordinates
LOG_VARIANCES = (-8.0, 6.0)     # the log-variance of a keypoint is clipped to this range


@keras.saving.register_keras_serializable(PACKAGE)
class SoftArgmax(keras.layers.Layer):
    """Heat maps -> K keypoints with their log-variance and appearance features.

    Takes maps (n, h, w, K), logits, and features (n, h, w, 1 + C). Gives, all float32,
    keypoints (n, K, 2): x, y in normalised coordinates, (0, 0) the image's top left corner, in [-MARGIN, 1 + MARGIN];
    log_variance (n, K): of a coordinate's error, in units of `losses.KEYPOINT_UNIT`, clipped to LOG_VARIANCES;
    appearance (n, K, C).
    The last two are means of the features weighted by each softmax map; the log-variance has a bias for each keypoint.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def build(self, maps_shape: tuple, features_shape: tuple) -> None:
        """Make the bias and the constant centres of the cells (h * w, 2)."""
        self.log_variance_bias = self.add_weight(shape=(maps_shape[-1],), initializer="zeros", name="log_variance_bias")
        height, width = maps_shape[1:3]
        x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
        cells = np.stack([x, y], -1).reshape(-1, 2) * (1 + 2 * MARGIN) - MARGIN
        self.cells = cells.astype(np.float32)

    def call(self, maps: Any, features: Any) -> tuple[Any, Any, Any]:
        """As the class says."""
        height, width, count = maps.shape[1:]
        flat = ops.transpose(ops.reshape(maps, (-1, height * width, count)), (0, 2, 1))
        heat = ops.softmax(flat, axis=-1)                                       # (n, K, h w)
        keypoints = ops.matmul(heat, self.cells)
        features = ops.reshape(features, (-1, height * width, features.shape[-1]))
        appearance = ops.matmul(heat, features[..., 1:])
        # the gradient of the log-variance does not move the heat maps
        log_variance = ops.matmul(ops.stop_gradient(heat), features[..., :1])[..., 0]
        return keypoints, ops.clip(log_variance + self.log_variance_bias, *LOG_VARIANCES), appearance

    def compute_output_shape(self, maps_shape: tuple, features_shape: tuple) -> tuple:
        """((n, K, 2), (n, K), (n, K, C))."""
        first = (maps_shape[0], maps_shape[-1])
        return (*first, 2), first, (*first, features_shape[-1] - 1)


@keras.saving.register_keras_serializable(PACKAGE)
class BilinearSampling(keras.layers.Layer):
    """Features (n, h, w, C) at keypoints (n, K, 2) in normalised coordinates -> (n, K, C) float32.

    Bilinear between the four nearest cell centres, constant beyond the outermost; differentiable in the keypoints.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, features: Any, keypoints: Any) -> Any:
        """As the class says."""
        height, width, channels = features.shape[1:]
        cells = keypoints * np.array([width, height], np.float32) - 0.5
        cells = ops.clip(cells, 0.0, np.array([width - 1.001, height - 1.001], np.float32))
        low = ops.floor(cells)
        fraction, low = cells - low, ops.cast(low, "int32")
        flat = ops.reshape(features, (-1, channels))
        first = ops.arange(ops.shape(keypoints)[0], dtype="int32")[:, None] * (height * width)
        total = 0.0
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            index = first + (low[..., 1] + down) * width + low[..., 0] + right
            across, along = (fraction[..., i] if far else 1.0 - fraction[..., i] for i, far in enumerate((right, down)))
            total = total + (across * along)[..., None] * ops.take(flat, index, axis=0)
        return total

    def compute_output_shape(self, features_shape: tuple, keypoints_shape: tuple) -> tuple:
        """(n, K, C)."""
        return (*keypoints_shape[:2], features_shape[-1])


@keras.saving.register_keras_serializable(PACKAGE)
class KeypointCorrection(keras.layers.Layer):
    """keypoints (n, K, 2), log_variance (n, K), appearance (n, K, C) and corrections (n, s, s, 3 + C) with s * s = K ->
    the first three with the corrections added, float32. A correction of 1 moves a keypoint by `losses.KEYPOINT_UNIT`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, keypoints: Any, log_variance: Any, appearance: Any, corrections: Any) -> tuple[Any, Any, Any]:
        """As the class says."""
        flat = ops.reshape(corrections, (-1, keypoints.shape[1], corrections.shape[-1]))
        return (keypoints + KEYPOINT_UNIT * flat[..., :2], ops.clip(log_variance + flat[..., 2], *LOG_VARIANCES),
                appearance + flat[..., 3:])

    def compute_output_shape(self, keypoints_shape: tuple, log_variance_shape: tuple, appearance_shape: tuple,
                             corrections_shape: tuple) -> tuple:
        """The first three shapes."""
        return keypoints_shape, log_variance_shape, appearance_shape
