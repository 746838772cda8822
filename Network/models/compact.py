"""The `compact` network: 256 keypoints of the face in an image, each with its uncertainty. Ours.

A plain residual encoder (He et al. 2016), a pyramid and heat maps (Sun et al. 2018, "Integral human pose regression")
locate a 16x16 grid of points of the face in each image, hidden points included. Refinement stages correct them in
canonical coordinates (Network/layers/keypoints.py, Network/layers/canonical.py). The face of one or of several images
follows from the keypoints in closed form: Network/readout/. An earlier version had a ConvLSTM over the images and a
learnt head behind them; the closed form has the smaller error without (docs/results.md).
"""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np

from Network.layers.canonical import CanonicalFeatures
from Network.layers.convolution import convolution
from Network.layers.grid import resample
from Network.layers.keypoints import KEYPOINT_SIDE, Found, find_keypoints
from Network.layers.residual import residual_encoder
from Network.layers.time import FoldTime, UnfoldTime
from Network.losses.points import keypoint_loss
from Network.models.registry import Network


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
    appearance: int = 24                            # appearance features of each keypoint
    refinements: int = 1                            # refinement stages, on features at 1/4 of the image
    fine_filters: int = 48                          # of the features at 1/4
    refine_filters: int = 64                        # of the two convolutions of a refinement stage
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


def build(config: Config) -> keras.Model:
    """images (B, T, S, S, 3) float32 in [0, 1] -> {"keypoints": (B, T, 256, 2) in normalised coordinates, (0, 0) the
    image's top left corner; "log_variance": (B, T, 256) of a coordinate's error, in units of `losses.KEYPOINT_UNIT`},
    float32. Each image is processed alone."""
    images = keras.Input((config.images, config.image_size, config.image_size, 3), name="images")
    outputs = _unfolded(config, images)
    outputs.pop("first_keypoints", None)
    return keras.Model(images, outputs, name="compact")


def build_training(config: Config) -> keras.Model:
    """The same layers; with refinements also "first_keypoints" (B, T, 256, 2), before the refinement stages."""
    images = keras.Input((config.images, config.image_size, config.image_size, 3), name="images")
    return keras.Model(images, _unfolded(config, images), name="compact")


def build_step(config: Config) -> keras.Model:
    """The same layers for single images, for export: (B, S, S, 3) -> {"keypoints": (B, 256, 2), "log_variance":
    (B, 256)}."""
    image = keras.Input((config.image_size, config.image_size, 3), name="image")
    found = _keypoints(config, image)
    return keras.Model(image, {"keypoints": found.keypoints, "log_variance": found.log_variance}, name="compact")


def set_template(model: keras.Model, template: np.ndarray) -> None:
    """Set the mean face, an ordered grid (N, 3) in the unit sphere, as the template of the canonical coordinates."""
    for layer in model.layers:          # without refinements there are none
        if isinstance(layer, CanonicalFeatures):
            layer.set_template(resample(template, KEYPOINT_SIDE))


def _unfolded(config: Config, images: Any) -> dict[str, Any]:
    """All outputs for images (B, T, S, S, 3)."""
    found = _keypoints(config, FoldTime(name="fold")(images))
    outputs = {"keypoints": found.keypoints, "log_variance": found.log_variance}
    if config.refinements:
        outputs["first_keypoints"] = found.first
    return {name: UnfoldTime(name=name, dtype="float32")(array, images) for name, array in outputs.items()}


def _keypoints(config: Config, images: Any) -> Found:
    """For images (n, S, S, 3)."""
    convolve = partial(convolution, config)
    levels = residual_encoder(images, config.encoder_filters, config.encoder_blocks, convolve)
    return find_keypoints(levels, convolve, CanonicalFeatures(name="canonical"), pyramid=config.pyramid_filters,
                          appearance=config.appearance, refinements=config.refinements, fine=config.fine_filters,
                          refine=config.refine_filters)


TARGETS = "keypoints"
NETWORK = Network(targets=TARGETS, config=Config, presets=PRESETS, build=build, build_training=build_training,
                  loss=lambda *_: keypoint_loss, set_template=set_template, build_step=build_step)
