"""Layers that find places of the face in an image, and bring what they find into the face's own frame.

Heat maps and their expectation: Sun et al. 2018, "Integral human pose regression", equation 2. Scaled orthography by
the affine camera of least squares, made orthogonal by its polar factor. keras.ops only, products with constants and
closed forms, so that every backend runs and exports them.
"""
from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from Network.layers.convlstm import PACKAGE
from Network.losses.points import KEYPOINT_UNIT

MARGIN = 0.125      # heat maps reach so far beyond the image's border, in image sides
_TINY = 1e-6
_ENLARGED = 20.0    # people differ by about 0.03 of the unit sphere: to a size that layers like


@keras.saving.register_keras_serializable(PACKAGE)
class Correspondences(keras.layers.Layer):
    """Heat maps -> where each of K places lies, how sure that is, and what the image looks like there.

    Takes maps (n, h, w, K), logits, and features (n, h, w, 1 + C); gives, all float32,
    places (n, K, 2): x, y in image sides, (0, 0) the image's top left corner, within -MARGIN and 1 + MARGIN;
    log_variance (n, K): of a coordinate's error, in units of `losses.PLACE_UNIT`;
    looks (n, K, C).
    The last two are the features' mean under each heat map, and for the first of them a bias of each place.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def build(self, maps_shape: tuple, features_shape: tuple) -> None:
        """The cells' centres (h * w, 2), a constant, and the bias."""
        self.doubt = self.add_weight(shape=(maps_shape[-1],), initializer="zeros", name="doubt")
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
        # a doubt is read where the heat is, and does not move it
        doubt = ops.matmul(ops.stop_gradient(heat), features[..., :1])[..., 0]
        return keypoints, ops.clip(doubt + self.doubt, -8.0, 6.0), appearance

    def compute_output_shape(self, maps_shape: tuple, features_shape: tuple) -> tuple:
        """((n, K, 2), (n, K), (n, K, C))."""
        first = (maps_shape[0], maps_shape[-1])
        return (*first, 2), first, (*first, features_shape[-1] - 1)


@keras.saving.register_keras_serializable(PACKAGE)
class Sampling(keras.layers.Layer):
    """Features (n, h, w, C) at places (n, K, 2) in image sides -> (n, K, C) float32, bilinear between the four nearest
    cells; beyond the outermost cells' centres, the outermost. What is sampled moves the places, too: bilinear is
    differentiable in them."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, features: Any, keypoints: Any) -> Any:
        """As the class says."""
        height, width, channels = features.shape[1:]
        cells = keypoints * np.array([width, height], np.float32) - 0.5
        cells = ops.clip(cells, 0.0, np.array([width - 1.001, height - 1.001], np.float32))
        low = ops.floor(cells)
        share, low = cells - low, ops.cast(low, "int32")
        flat = ops.reshape(features, (-1, channels))
        first = ops.arange(ops.shape(keypoints)[0], dtype="int32")[:, None] * (height * width)
        total = 0.0
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            index = first + (low[..., 1] + down) * width + low[..., 0] + right
            across, along = (share[..., i] if far else 1.0 - share[..., i] for i, far in enumerate((right, down)))
            total = total + (across * along)[..., None] * ops.take(flat, index, axis=0)
        return total

    def compute_output_shape(self, features_shape: tuple, keypoints_shape: tuple) -> tuple:
        """(n, K, C)."""
        return (*keypoints_shape[:2], features_shape[-1])


@keras.saving.register_keras_serializable(PACKAGE)
class Correction(keras.layers.Layer):
    """places (n, K, 2), log_variance (n, K), looks (n, K, C) and corrections (n, s, s, 3 + C) with s * s = K -> the
    same, corrected, float32: places by `losses.PLACE_UNIT` of the image's side for 1."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, keypoints: Any, log_variance: Any, appearance: Any, corrections: Any) -> tuple[Any, Any, Any]:
        """As the class says."""
        by = ops.reshape(corrections, (-1, keypoints.shape[1], corrections.shape[-1]))
        return (keypoints + KEYPOINT_UNIT * by[..., :2], ops.clip(log_variance + by[..., 2], -8.0, 6.0),
                appearance + by[..., 3:])

    def compute_output_shape(self, keypoints_shape: tuple, log_variance_shape: tuple, appearance_shape: tuple,
                             corrections_shape: tuple) -> tuple:
        """The first three shapes."""
        return keypoints_shape, log_variance_shape, appearance_shape


@keras.saving.register_keras_serializable(PACKAGE)
class FaceFrame(keras.layers.Layer):
    """Where places lie -> how they differ from the template seen by the camera that explains them best.

    Takes [places (n, K, 2) in image sides, log_variance (n, K), looks (n, K, C)]; gives (n, K, 16 + C) float32:
    residual in twentieths of the unit sphere (2), the same turned back into the head frame (3), that weighted by how
    sure it is (3), the weight (1), the camera's two rows (6), its scale (1), looks (C). The camera is scaled
    orthography: s * (2, 3) orthonormal rows, from the affine camera of least squares by its polar factor.

    Its one weight, not trained, is the template (K, 3): the mean face's places in the unit sphere, centred.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def build(self, keypoints_shape: tuple, log_variance_shape: tuple, appearance_shape: tuple) -> None:
        """Make the template and the matrix of its least squares (K, 3)."""
        count = keypoints_shape[1]

        def sphere(shape: tuple, dtype: Any = None) -> Any:       # any template that is not flat, until there is one
            angle = np.arange(count) * 2.4
            height = np.linspace(-0.9, 0.9, count)
            ring = np.sqrt(1 - height ** 2)
            return ops.convert_to_tensor(np.stack([ring * np.cos(angle), ring * np.sin(angle), height], -1), dtype)

        self.template = self.add_weight(shape=(count, 3), initializer=sphere, trainable=False, name="template",
                                        autocast=False)
        self.solver = self.add_weight(shape=(count, 3), initializer=lambda shape, dtype=None: ops.convert_to_tensor(
            _solver(np.asarray(sphere(shape, "float32"))), dtype), trainable=False, name="solver", autocast=False)

    def set_template(self, template: np.ndarray) -> None:
        """template (K, 3): the mean face's places."""
        centred = np.asarray(template, np.float64) - np.mean(template, axis=0, dtype=np.float64)
        self.template.assign(centred.astype(np.float32))
        self.solver.assign(_solver(centred))

    def call(self, keypoints: Any, log_variance: Any, appearance: Any) -> Any:
        """As the class says."""
        template, solver = ops.convert_to_tensor(self.template), ops.convert_to_tensor(self.solver)
        flipped = keypoints * np.array([1.0, -1.0], np.float32)                       # y up, as the head's
        centred = flipped - ops.mean(flipped, axis=1, keepdims=True)
        affine = ops.matmul(ops.transpose(centred, (0, 2, 1)), solver)             # (n, 2, 3)
        rows, scale = _orthonormal(affine)
        residual = centred / scale - ops.matmul(template, ops.transpose(rows, (0, 2, 1)))
        residual = ops.clip(_ENLARGED * residual, -6.0, 6.0)
        turned = ops.matmul(residual, rows)
        sure = ops.sigmoid(-log_variance)[..., None]
        camera = ops.concatenate([ops.reshape(rows, (-1, 6)), ops.clip(ops.log(scale[..., 0] + _TINY), -4.0, 4.0)], -1)
        camera = ops.broadcast_to(camera[:, None], (ops.shape(keypoints)[0], keypoints.shape[1], 7))
        return ops.concatenate([residual, turned, turned * sure, sure, camera, appearance], axis=-1)

    def compute_output_shape(self, keypoints_shape: tuple, log_variance_shape: tuple, appearance_shape: tuple) -> tuple:
        """(n, K, 16 + C)."""
        return (*keypoints_shape[:2], 16 + appearance_shape[-1])


def _solver(template: np.ndarray) -> np.ndarray:
    """(K, 3): places^T @ solver is the affine camera (2, 3) of least squares for a centred template (K, 3)."""
    return (template @ np.linalg.inv(template.T @ template)).astype(np.float32)


def _orthonormal(affine: Any) -> tuple[Any, Any]:
    """Affine cameras (n, 2, 3) -> nearest orthonormal rows (n, 2, 3), scales (n, 1, 1): sqrt(A A^T) in closed form.

    For a 2x2 positive matrix M, sqrt(M) = (M + sqrt(det M) I) / sqrt(trace M + 2 sqrt(det M)). A camera that has
    collapsed (an untrained network sees every place in one spot) gives rows near zero, not infinity.
    """
    a = ops.sum(affine[:, 0] * affine[:, 0], -1) + _TINY
    b = ops.sum(affine[:, 0] * affine[:, 1], -1)
    d = ops.sum(affine[:, 1] * affine[:, 1], -1) + _TINY
    root = ops.sqrt(ops.maximum(a * d - b * b, 1e-12))
    trace = ops.sqrt(a + d + 2.0 * root)                    # of sqrt(M): the sum of the singular values
    # inverse of sqrt(M): its adjugate over its determinant, which is `root`
    p, q, r = (d + root) / (trace * root), -b / (trace * root), (a + root) / (trace * root)
    first = p[:, None] * affine[:, 0] + q[:, None] * affine[:, 1]
    second = q[:, None] * affine[:, 0] + r[:, None] * affine[:, 1]
    return ops.stack([first, second], axis=1), ops.maximum(0.5 * trace, 0.05)[:, None, None]
