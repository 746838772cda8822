"""How far towards the viewer 256 places of a face lie, and which way its head is turned, from where they are seen.

Scaled orthography: `Network.correspondence.FaceFrame` finds the camera in closed form; the mean face, turned by it, has
the depths with which a depth map (`pix2pix-compact`) or a volume (`vrn-compact`) begins, and the pose with which
coefficients do (`coarse-compact`).
"""
from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from Network.correspondence import FaceFrame
from Network.grid import resample
from Network.layers import PACKAGE
from Network.places import PLACES, Found
from Network.residual import Convolution

FEATURES = 48       # of the convolution over the face that corrects the mean face's depths
ROWS, SCALE = slice(9, 15), slice(15, 16)       # of what FaceFrame gives: the camera's two rows, ln of its scale


def relief(found: Found, face_frame: FaceFrame, convolution: Convolution) -> Any:
    """Places -> how far each lies towards the viewer, (n, 256) float32 in sides of the image, about the mean of all;
    those of the mean face, until what the face shows beside them is learnt."""
    frame = face_frame(found.places, found.log_variance, found.looks)
    x = layers.Reshape((PLACES, PLACES, frame.shape[-1]), name="relief_map")(frame)
    x = convolution(x, FEATURES, "relief")
    by = layers.Conv2D(1, 3, padding="same", kernel_initializer="zeros", dtype="float32", name="relief_by")(x)
    return Relief(name="mean_relief")(frame, by)


def set_templates(model: keras.Model, template: Any) -> None:
    """Let a new network's layers know the mean face, an ordered grid (N, 3) in the unit sphere; N = 0: nothing."""
    for layer in model.layers:
        if isinstance(layer, (FaceFrame, Relief)) and len(template):
            layer.set_template(resample(np.asarray(template), PLACES))


@keras.saving.register_keras_serializable(PACKAGE)
class Relief(keras.layers.Layer):
    """What `FaceFrame` gives (n, 256, 16 + C), and corrections (n, 16, 16, 1) in units of the face's own size -> depths
    (n, 256) float32: the template's, turned, in sides of the image, larger nearer to the viewer. Its one weight, not
    trained, is the template (256, 3), the mean face's places in the unit sphere, centred."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def build(self, frame_shape: tuple, by_shape: tuple) -> None:
        """Make the template, flat until it is set."""
        self.template = self.add_weight(shape=(frame_shape[1], 3), initializer="zeros", trainable=False,
                                        name="template", autocast=False)

    def set_template(self, template: np.ndarray) -> None:
        """template (256, 3): the mean face's places."""
        self.template.assign(np.asarray(template - np.mean(template, axis=0), np.float32))

    def call(self, frame: Any, by: Any) -> Any:
        """As the class says."""
        towards = third_row(frame[:, 0, ROWS])
        depth = ops.matmul(towards, ops.transpose(ops.convert_to_tensor(self.template)))
        by = ops.reshape(ops.cast(by, "float32"), (-1, frame.shape[1]))
        return ops.exp(frame[:, 0, SCALE]) * (depth + by)

    def compute_output_shape(self, frame_shape: tuple, by_shape: tuple) -> tuple:
        """(n, 256)."""
        return frame_shape[:2]


def third_row(rows: Any) -> Any:
    """A camera's two orthonormal rows (n, 6), x to the right and y up -> the third (n, 3), towards the viewer."""
    a, b = rows[:, :3], rows[:, 3:]
    return ops.roll(a, -1, -1) * ops.roll(b, -2, -1) - ops.roll(a, -2, -1) * ops.roll(b, -1, -1)


@keras.saving.register_keras_serializable(PACKAGE)
class HardMask(keras.layers.Layer):
    """Logits -> 1.0 where they are positive, else 0.0, float32; the gradient is the sigmoid's (a straight-through
    estimator, Bengio et al. 2013): a soft mask would make a wall from a depth map's rim to its background."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, logits: Any) -> Any:
        """As the class says."""
        soft = ops.sigmoid(logits)
        return soft + ops.stop_gradient(ops.cast(logits > 0, "float32") - soft)

    def compute_output_shape(self, shape: tuple) -> tuple:
        """The same."""
        return shape
