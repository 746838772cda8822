"""The `vrn` network: one image -> which voxels the face fills, by stacked hourglasses and 2D convolutions alone.

Source: Jackson et al. 2017, "Large pose 3D face reconstruction from a single image via direct volumetric CNN
regression", as reviewed by Lopez Caceres and Mauricio Condori 2018: two stacked hourglasses of residual modules with
256 features, an image of 192x192 -> a volume of 192x192x200, whose layers are the channels; `guided` by 68 heat maps of
landmarks that are stacked with the image, or `multitask`, which regresses them beside the volume. Equation (1):
Network/losses/volume.py.

The review does not describe stem, depth and head. Here: 7x7 at stride 2, modules and a max-pooling to 48x48 (Newell et
al. 2016, 3.1), hourglasses down to 3x3, one upsampling with a module, and a transposed convolution (2x2, stride 2) to
the image's size. Multitask forks after the first hourglass. Left out: intermediate supervision. docs/deviations.md
lists these choices.
"""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from Network.layers.convolution import convolution, normalised
from Network.layers.hourglass import Residual, hourglass
from Network.losses.volume import volume_and_landmarks
from Network.models.registry import Network

VARIANTS = ("plain", "guided", "multitask")
LANDMARKS = 68
_FILLED = 0.1           # fraction of the voxels that a face fills: what a new network predicts


@dataclass(frozen=True)
class Config:
    """Every setting of the network; the defaults are the paper's, where the review has them. ValueError for values that
    make none."""

    variant: str = "plain"                      # guided, multitask: with landmarks
    image_size: int = 192                       # S, pixels, square; a multiple of 4 * 2^depth
    layers: int = 200                           # D
    features: int = 256                         # of the hourglasses' modules
    stem: tuple[int, ...] = (64, 128, 128)      # features of the 7x7 convolution, then of the modules before `features`
    hourglasses: int = 2                        # stacked
    depth: int = 4                              # halvings of an hourglass: 48, 24, 12, 6, 3
    head: tuple[int, ...] = (256,)              # features at S/2, before the output's transposed convolution
    landmark_features: int = 256                # of the landmarks' hourglass
    remat: bool = False                         # compute modules again for the gradient: less memory, more time
    batch_norm_momentum: float = 0.99
    batch_norm_replicas: int = 1                # synchronise the statistics over so many replicas
    crop_margin: float = 1.15                   # the detector's box is grown by this before it is cut

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {self.variant!r}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, (int, float)) and not isinstance(number, bool) and not number > 0:
                    raise ValueError(f"{field.name} must be positive, got {value!r}")
        if self.image_size % (4 * 2 ** self.depth):
            raise ValueError(f"image_size must be a multiple of {4 * 2 ** self.depth}, got {self.image_size}")
        if not self.stem or len(self.head) > 1:
            raise ValueError(f"stem must have at least one value and head at most one, "
                             f"got {self.stem!r}, {self.head!r}")
        if self.hourglasses < 2 and self.variant == "multitask":
            raise ValueError(f"hourglasses must be at least 2 for multitask, which forks after the first, got "
                             f"{self.hourglasses}")
        for name in ("features", "stem", "head", "landmark_features"):
            value = getattr(self, name)
            if any(number % 2 for number in (value if isinstance(value, tuple) else (value,))):
                raise ValueError(f"{name} must be even, got {value!r}")


VRN = Config()
#: the same network for two CPU cores: voxels of 3 mm, half the features, two halvings (16, 8, 4)
SMALL = Config(image_size=64, layers=64, features=128, stem=(32, 64), depth=2, head=(96,),
               landmark_features=64)
PRESETS = {"vrn": VRN, "vrn-small": SMALL}


def build(config: Config) -> keras.Model:
    """images (B, S, S, 3) float32 in [0, 1] -> **logits** of the volume (B, S, S, D) float32: their sigmoid is what
    `Dataset.representations.volume` decodes. `multitask` without its landmarks, which the volume does not need."""
    images, outputs = _network(config)
    return keras.Model(images, outputs["volume"], name="vrn")


def build_training(config: Config) -> keras.Model:
    """With all outputs that the loss reads: {"volume": logits as `build` gives them} and, `guided` and `multitask`,
    "heat_maps" (B, S/4, S/4, 68) float32: about 1 where a landmark is, 0 elsewhere, which
    `Network.inference.readings.read_landmarks` reads."""
    images, outputs = _network(config)
    return keras.Model(images, outputs, name=f"vrn_{config.variant}")


def predicting_part(model: keras.Model) -> keras.Model:
    """The part of a model of `build_training` that predicts: what `build` gives, with this one's weights."""
    return keras.Model(model.inputs[0], model.get_layer("volume").output, name="vrn")


def _network(config: Config) -> tuple[Any, dict[str, Any]]:
    images = keras.Input((config.image_size, config.image_size, 3), name="images")
    x, outputs = images, {}
    if config.variant == "guided":
        guide = _stem(config, images, config.landmark_features, "guide")
        outputs["heat_maps"] = _heat_maps(config, guide, "guide")
        grown = layers.UpSampling2D(4, interpolation="bilinear", name="guide_upsample")(outputs["heat_maps"])
        x = layers.Concatenate(name="image_and_guide")([images, grown])
    x = _stem(config, x, config.features, "stem")
    for number in range(config.hourglasses):
        x = _stage(config, x, config.features, f"hourglass_{number}")
        if number == 0 and config.variant == "multitask":
            fork = _residual(config, config.landmark_features)(x, "landmarks_in")
            outputs["heat_maps"] = _heat_maps(config, fork, "landmarks")
    return images, {"volume": _head(config, x), **outputs}


def _stem(config: Config, x: Any, features: int, name: str) -> Any:
    """(B, S, S, C) -> (B, S/4, S/4, features)."""
    first, *between = config.stem
    x = convolution(config, x, first, f"{name}_first", stride=2, kernel=7)
    for number, filters in enumerate((*between, features)):
        if number == min(1, len(between)):
            x = layers.MaxPooling2D(2, name=f"{name}_pool")(x)
        x = _residual(config, filters)(x, f"{name}_{number}")
    return x


def _stage(config: Config, x: Any, features: int, name: str) -> Any:
    """An hourglass, a module, a 1x1 convolution with normalisation and ReLU."""
    residual = _residual(config, features)
    x = residual(hourglass(x, config.depth, residual, name), f"{name}_out")
    return convolution(config, x, features, f"{name}_last", kernel=1)


def _head(config: Config, x: Any) -> Any:
    """(B, S/4, S/4, F) -> logits (B, S, S, D); the last layer in float32, since its sum over voxels is."""
    for number, filters in enumerate(config.head):
        x = layers.UpSampling2D(2, name=f"head_{number}_upsample")(x)
        x = normalised(config, _residual(config, filters)(x, f"head_{number}"), f"head_{number}")
    stride = config.image_size // x.shape[1]
    bias = keras.initializers.Constant(float(np.log(_FILLED / (1 - _FILLED))))
    return layers.Conv2DTranspose(config.layers, stride, strides=stride, bias_initializer=bias, dtype="float32",
                                  name="volume")(x)


def _heat_maps(config: Config, x: Any, name: str) -> Any:
    """One hourglass -> (B, S/4, S/4, 68) float32, plain numbers: L2 brings them near 0 and 1."""
    x = _stage(config, x, config.landmark_features, f"{name}_hourglass")
    small = keras.initializers.RandomNormal(stddev=1e-3)        # larger initial maps are first unlearnt
    return layers.Conv2D(LANDMARKS, 1, kernel_initializer=small, dtype="float32", name=f"{name}_maps")(x)


def _residual(config: Config, filters: int) -> Any:
    """A function (x, name) -> a module's output."""
    def residual(x: Any, name: str) -> Any:
        return Residual(filters, config.batch_norm_momentum, config.remat, config.batch_norm_replicas, name=name)(x)
    return residual


TARGETS = "volume"
NETWORK = Network(targets=TARGETS, config=Config, presets=PRESETS, build=build, build_training=build_training,
                  loss=lambda *_: volume_and_landmarks,
                  predicting_part=predicting_part, output="volume")
