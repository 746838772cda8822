"""The `compact` network: 256 keypoints of the face in a photo, each with its uncertainty. Ours.

A plain residual encoder (He et al. 2016) and heat maps (Sun et al. 2018, "Integral human pose regression") find a 16x16
grid of points of the face in each photo, hidden ones too; a refinement stage looks again where they were found, all of
them seen together in canonical coordinates (Network/layers/keypoints.py, Network/layers/canonical.py). What the keypoints of one or
of several photos say of the face is in closed form: Network/readout/. An earlier version had a ConvLSTM over the photos
and a learnt head behind them; the closed form is nearer to the truth without (docs/measured/readout.md).
"""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers

from Network.layers.canonical import FaceFrame
from Network.layers.convlstm import FoldTime, UnfoldTime
from Network.layers.grid import resample
from Network.layers.keypoints import KEYPOINT_SIDE, find_keypoints
from Network.layers.normalisation import BatchNormalization
from Network.layers.residual import residual_encoder


@dataclass(frozen=True)
class Config:
    """Every setting of the network. ValueError for values that make no network.

    The encoder halves the image with its first convolution and with the first of each level; the pyramid goes up again
    to 1/8 of the image, where the heat maps are.
    """

    image_size: int = 128                           # pixels, square images; a multiple of 32
    images: int | None = None                       # T; None takes any number
    encoder_filters: tuple[int, ...] = (32, 48, 96, 160, 224)   # at 1/2, 1/4, 1/8, 1/16, 1/32 of the image
    encoder_blocks: tuple[int, ...] = (0, 0, 1, 2, 2)           # residual blocks of two 3x3 convolutions
    pyramid_filters: int = 96                       # at 1/8 of the image, before the heat maps
    appearance: int = 24                                 # channels of appearance carried into the face's frame
    refinements: int = 1                            # second looks, at 1/4 of the image, where the places were found
    fine_filters: int = 48                          # of the features at 1/4
    refine_filters: int = 64                        # of the two convolutions over the face of a second look
    batch_norm_momentum: float = 0.99
    batch_norm_replicas: int = 1                    # synchronise the statistics over so many replicas
    crop_margin: float = 1.15                       # the detector's box is grown by this before it is cut

    def __post_init__(self) -> None:
        if len(self.encoder_filters) != len(self.encoder_blocks) or len(self.encoder_filters) < 4:
            raise ValueError(f"encoder_filters and encoder_blocks must have one value for each of at least 4 levels, "
                             f"got {self.encoder_filters!r} and {self.encoder_blocks!r}")
        if self.image_size % 2 ** len(self.encoder_filters) or self.image_size < 32:
            raise ValueError(f"image_size must be a multiple of {2 ** len(self.encoder_filters)}, "
                             f"got {self.image_size}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in ("encoder_blocks", "appearance", "refinements") else 1e-9
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, (int, float)) and not isinstance(number, bool) and not number >= least:
                    raise ValueError(f"{field.name} must be positive, got {value!r}")


COMPACT = Config()
PRESETS = {"compact": COMPACT}
ORDERED = True      # the face that is read off its keypoints is an ordered grid


def build(config: Config) -> keras.Model:
    """images (B, T, H, W, 3) float32 in [0, 1] -> {"places": keypoints (B, T, 256, 2) in image sides, (0, 0) the top
    left corner; "log_variance": (B, T, 256) of a coordinate's error, in units of `losses.PLACE_UNIT`}, float32. Photos
    do not see each other."""
    images = keras.Input((config.images, config.image_size, config.image_size, 3), name="images")
    outputs = _network(config, images)
    outputs.pop("first_places", None)
    return keras.Model(images, outputs, name="compact")


def build_training(config: Config) -> keras.Model:
    """The same layers; with refinements also "first_places" (B, T, 256, 2), before them. Its weights are `build`'s, in
    the same order."""
    images = keras.Input((config.images, config.image_size, config.image_size, 3), name="images")
    return keras.Model(images, _network(config, images), name="compact")


def set_template(model: keras.Model, mean: np.ndarray) -> None:
    """Tell a new network the mean face, an ordered grid (N, 3) in the unit sphere: its canonical coordinates."""
    for layer in model.layers:          # without refinements nothing is in canonical coordinates
        if layer.name == "face_frame":
            layer.set_template(resample(mean, KEYPOINT_SIDE))


def _network(config: Config, images: Any) -> dict[str, Any]:
    """All outputs for images (B, T, H, W, 3)."""
    convolution, face_frame = partial(_conv, config), FaceFrame(name="face_frame")
    levels = residual_encoder(FoldTime(name="fold")(images), config.encoder_filters, config.encoder_blocks, convolution)
    found = find_keypoints(levels, convolution, face_frame, pyramid=config.pyramid_filters, appearance=config.appearance,
                        refinements=config.refinements, fine=config.fine_filters, refine=config.refine_filters)

    def unfold(array: Any, name: str) -> Any:
        return UnfoldTime(name=name, dtype="float32")(array, images)
    outputs = {"first_places": unfold(found.first, "first_places")} if config.refinements else {}
    return {**outputs, "keypoints": unfold(found.keypoints, "keypoints"),
            "log_variance": unfold(found.log_variance, "log_variance")}


def _conv(config: Config, x: Any, filters: int, name: str, stride: int = 1, kernel: int = 3, relu: bool = True) -> Any:
    """Convolution, batch normalisation over all images of the batch, ReLU."""
    x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False,
                      kernel_initializer="he_normal", name=name)(x)
    x = BatchNormalization(momentum=config.batch_norm_momentum, name=f"{name}_norm",
                           synchronized=config.batch_norm_replicas > 1)(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x
