"""The canonical coordinates of a face: keypoints of an image against a template under the camera that fits them best.

Scaled orthography by the affine camera of least squares, made orthogonal by its polar factor. keras.ops only, products
with constants and closed forms, so that every backend runs and exports it.
"""
from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from Network.layers import PACKAGE

_TINY = 1e-6
_SCALE = 20.0       # of the offsets: faces differ by about 0.03 of the unit sphere


@keras.saving.register_keras_serializable(PACKAGE)
class CanonicalFeatures(keras.layers.Layer):
    """Keypoints of an image -> their offsets from a template in canonical coordinates, and the camera that sees it.

    Takes keypoints (n, K, 2) in normalised coordinates, log_variance (n, K), appearance (n, K, C); gives
    (n, K, 16 + C) float32: the offset as the camera sees it, in twentieths of the unit sphere (2), the same rotated
    back into canonical coordinates (3), that multiplied by the keypoint's weight (3), the weight (1), the camera's two
    rows (6), its log-scale (1), appearance (C). The camera is scaled orthography: s times (2, 3) orthonormal rows, from
    the affine camera of least squares by its polar factor.

    Weights, not trained: template (K, 3), the mean face's keypoints in the unit sphere, centred; solver (K, 3), which
    follows from it.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def build(self, keypoints_shape: tuple, log_variance_shape: tuple, appearance_shape: tuple) -> None:
        """Make the template and the matrix of its least squares, (K, 3) each."""
        count = keypoints_shape[1]

        def sphere(shape: tuple, dtype: Any = None) -> Any:       # any solid template, until `set_template`
            angle = np.arange(count) * 2.4
            height = np.linspace(-0.9, 0.9, count)
            ring = np.sqrt(1 - height ** 2)
            return ops.convert_to_tensor(np.stack([ring * np.cos(angle), ring * np.sin(angle), height], -1), dtype)

        self.template = self.add_weight(shape=(count, 3), initializer=sphere, trainable=False, name="template",
                                        autocast=False)
        self.solver = self.add_weight(shape=(count, 3), initializer=lambda shape, dtype=None: ops.convert_to_tensor(
            _solver(np.asarray(sphere(shape, "float32"))), dtype), trainable=False, name="solver", autocast=False)

    def set_template(self, template: np.ndarray) -> None:
        """template (K, 3): the mean face's keypoints, unit sphere; it is centred here."""
        centred = np.asarray(template, np.float64) - np.mean(template, axis=0, dtype=np.float64)
        self.template.assign(centred.astype(np.float32))
        self.solver.assign(_solver(centred))

    def call(self, keypoints: Any, log_variance: Any, appearance: Any) -> Any:
        """As the class says."""
        template, solver = ops.convert_to_tensor(self.template), ops.convert_to_tensor(self.solver)
        flipped = keypoints * np.array([1.0, -1.0], np.float32)                       # y up
        centred = flipped - ops.mean(flipped, axis=1, keepdims=True)
        affine = ops.matmul(ops.transpose(centred, (0, 2, 1)), solver)             # (n, 2, 3)
        rows, scale = _orthonormal(affine)
        offset = centred / scale - ops.matmul(template, ops.transpose(rows, (0, 2, 1)))
        offset = ops.clip(_SCALE * offset, -6.0, 6.0)
        rotated = ops.matmul(offset, rows)
        weight = ops.sigmoid(-log_variance)[..., None]
        camera = ops.concatenate([ops.reshape(rows, (-1, 6)), ops.clip(ops.log(scale[..., 0] + _TINY), -4.0, 4.0)], -1)
        camera = ops.broadcast_to(camera[:, None], (ops.shape(keypoints)[0], keypoints.shape[1], 7))
        return ops.concatenate([offset, rotated, rotated * weight, weight, camera, appearance], axis=-1)

    def compute_output_shape(self, keypoints_shape: tuple, log_variance_shape: tuple, appearance_shape: tuple) -> tuple:
        """(n, K, 16 + C)."""
        return (*keypoints_shape[:2], 16 + appearance_shape[-1])


def _solver(template: np.ndarray) -> np.ndarray:
    """(K, 3): keypoints^T @ solver is the affine camera (2, 3) of least squares for a centred template (K, 3)."""
    return (template @ np.linalg.inv(template.T @ template)).astype(np.float32)


def _orthonormal(affine: Any) -> tuple[Any, Any]:
    """Affine cameras (n, 2, 3) -> nearest orthonormal rows (n, 2, 3), scales (n, 1, 1): sqrt(A A^T) in closed form.

    For a 2x2 positive matrix M, sqrt(M) = (M + sqrt(det M) I) / sqrt(trace M + 2 sqrt(det M)). The camera of
    keypoints that all coincide, as an untrained network has them, gives rows near zero, not infinity.
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
