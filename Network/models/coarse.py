"""The coarse network: a crop and renderings of the current estimate -> the 290 coefficients of the face in the crop.

Endrawis 2018, 2.4.1 and 3.1.2: "very close to the one proposed for coarse reconstruction" by Richardson et al. 2017, of
the residual blocks of He et al. 2015. Its depth and widths stand in a figure that the text does not give; the defaults
are He's 18 layers. Off, as the paper left them out: dropout, and weight decay, a setting of the training. Its outlook
names MobileNet: the trunk of inverted residuals (Sandler et al. 2018). Network/inference/iterate.py iterates it.
"""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Callable

import keras
from keras import layers, ops

from Network.layers import PACKAGE
from Network.layers.convolution import convolution, normalised
from Network.losses.coarse import coarse_loss
from Network.models.registry import Network

COUNT = 290                     # coefficients
DROPOUT_SEED = 1
IMAGE, FEEDBACK = 3, 6          # channels: image BGR; PNCC and normals
CHOICES = {"trunk": ("resnet", "mobilenet"), "block": ("basic", "bottleneck"), "head": ("mean", "flatten"),
           "geometry_norm": ("l1", "l2"), "geometry": ("whole", "apart")}
#: standard deviations of the coefficients over subjects and images: the last layer's outputs are about equally large.
#: 200 identity, 84 expression, 3 rotation, 1 scale, 2 translation
SIGMA = (1.0,) * 200 + (0.15,) * 84 + (0.6, 0.3, 0.35, 0.15, 0.08, 0.08)


@dataclass(frozen=True)
class Config:
    """Every setting of the network and its loss. ValueError for values that make no network."""

    image_size: int = 200                           # pixels, square
    feedback: bool = True                           # the input has the current estimate's PNCC and normals; False: the
    #                                                 image alone and a single pass, the ablation of the iteration
    trunk: str = "resnet"                           # mobilenet: inverted residuals
    block: str = "basic"                            # of resnet: two 3x3, or bottleneck: 1x1, 3x3, 1x1 to four times
    stem_filters: int = 64
    stem_kernel: int = 7                            # with stride 2
    stem_pool: bool = True                          # 3x3 maximum with stride 2 behind it, as He's
    filters: tuple[int, ...] = (64, 128, 256, 512)  # of each level; the first halves only where nothing was pooled
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    expansion: int = 4                              # of mobilenet: of the channels between
    head: str = "mean"                              # over each feature map, as He's; flatten: every cell of every map
    head_filters: int = 64                          # of flatten: feature maps that are left
    dropout: float = 0.0                            # before the coefficients; 3.1.3 tried it and left it out
    batch_norm_momentum: float = 0.99
    batch_norm_replicas: int = 1                    # synchronise the statistics over so many replicas
    geometry_norm: str = "l1"                       # 3.1.3: found better than l2
    geometry: str = "whole"                         # apart: errors of identity and of expression separately
    pose_weight: float = 1.0                        # of the pose's squared error beside the geometry's
    crop_margin: float = 1.15                       # the detector's box is grown by this before it is cut
    iterations: int = 4                             # 2.4.2: "about 3-5"; at most so many
    tolerance: float = 0.002                        # sides of the crop: a smaller change (RMS) ends the iteration

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if len(self.filters) != len(self.blocks) or not self.filters:
            raise ValueError(f"filters and blocks must have one value for each level, got {self.filters!r} and "
                             f"{self.blocks!r}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for number in value if isinstance(value, tuple) else (value,):
                least = 0 if field.name in ("pose_weight", "tolerance", "dropout") else 1e-9
                if isinstance(number, (int, float)) and not isinstance(number, bool) and not number >= least:
                    raise ValueError(f"{field.name} must be positive, got {value!r}")
        if self.dropout >= 1:
            raise ValueError(f"dropout must be below 1, got {self.dropout!r}")
        if self.image_size < 2 ** (len(self.filters) + 1):
            raise ValueError(f"image_size must be at least {2 ** (len(self.filters) + 1)}, got {self.image_size}")


COARSE = Config()
#: the same network for two CPU cores: half the width, less on top
SMALL = Config(image_size=128, stem_filters=32, filters=(32, 64, 112, 192))
PRESETS = {"coarse": COARSE, "coarse-small": SMALL}


@keras.saving.register_keras_serializable(PACKAGE)
class SigmaScale(layers.Layer):
    """(B, 290) -> the same times SIGMA, float32."""

    def call(self, inputs: Any) -> Any:
        return ops.cast(inputs, "float32") * ops.convert_to_tensor(SIGMA, "float32")


def build(config: Config) -> keras.Model:
    """(B, S, S, 9) float32 in [0, 1], or (B, S, S, 3) without `feedback`, -> coefficients (B, 290) float32 as in
    `Dataset.representations.coefficients`. Channels: image BGR stretched to [0, 1], PNCC and normals as drawn by
    `Dataset.representations.pncc`. A new network predicts about the mean face in the middle of the crop."""
    channels = IMAGE + FEEDBACK * config.feedback
    images = keras.Input((config.image_size, config.image_size, channels), name="images")
    x = _trunk(config, images)
    if config.head == "flatten":
        x = layers.Flatten(name="head_flat")(convolution(config, x, config.head_filters, "head", kernel=1))
    else:
        x = layers.GlobalAveragePooling2D(name="head_mean")(x)
    if config.dropout:
        x = layers.Dropout(config.dropout, seed=DROPOUT_SEED, name="dropout")(x)
    x = layers.Dense(COUNT, kernel_initializer=keras.initializers.RandomNormal(stddev=0.003), dtype="float32",
                     name="coefficients")(x)
    return keras.Model(images, SigmaScale(name="sigma_scale", dtype="float32")(x), name="coarse")


def _trunk(config: Config, x: Any) -> Any:
    """(B, S, S, C) -> the features of the last level."""
    x = convolution(config, x, config.stem_filters, "stem", stride=2, kernel=config.stem_kernel)
    if config.stem_pool:
        x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    make = _inverted if config.trunk == "mobilenet" else {"basic": _basic, "bottleneck": _bottleneck}[config.block]
    for level, (filters, blocks) in enumerate(zip(config.filters, config.blocks)):
        for block in range(blocks):
            halved = block == 0 and (level > 0 or not config.stem_pool)
            x = make(config, x, filters, 2 if halved else 1, f"block_{level}_{block}")
    return x


def _basic(config: Config, x: Any, filters: int, strides: int, name: str) -> Any:
    """He et al. 2015, figure 5, left."""
    y = convolution(config, x, filters, f"{name}_1", strides)
    y = convolution(config, y, filters, f"{name}_2", relu=False)
    return _added(config, x, y, filters, strides, name)


def _bottleneck(config: Config, x: Any, filters: int, strides: int, name: str) -> Any:
    """He et al. 2015, figure 5, right; the stride in its first convolution, as there."""
    y = convolution(config, x, filters, f"{name}_1", strides, kernel=1)
    y = convolution(config, y, filters, f"{name}_2")
    y = convolution(config, y, 4 * filters, f"{name}_3", kernel=1, relu=False)
    return _added(config, x, y, 4 * filters, strides, name)


def _added(config: Config, x: Any, y: Any, filters: int, strides: int, name: str) -> Any:
    if strides > 1 or x.shape[-1] != filters:
        x = convolution(config, x, filters, f"{name}_shortcut", strides, kernel=1, relu=False)
    return layers.ReLU(name=name)(layers.Add(name=f"{name}_add")([x, y]))


def _inverted(config: Config, x: Any, filters: int, strides: int, name: str) -> Any:
    """Sandler et al. 2018, figure 4d, with ReLU in place of ReLU6."""
    y = convolution(config, x, config.expansion * x.shape[-1], f"{name}_expand", kernel=1)
    y = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False, depthwise_initializer="he_normal",
                               name=f"{name}_depthwise")(y)
    y = normalised(config, y, f"{name}_depthwise")
    y = convolution(config, y, filters, f"{name}_project", kernel=1, relu=False)
    return layers.Add(name=f"{name}_add")([x, y]) if strides == 1 and x.shape[-1] == filters else y


def loss(config: Config, basis: Callable[[], Any]) -> Any:
    """The paper's loss with the face model's basis."""
    return coarse_loss(basis(), config.geometry_norm, config.geometry, config.pose_weight)


TARGETS = "coefficients"
NETWORK = Network(targets=TARGETS, config=Config, presets=PRESETS, build=build, build_training=build,
                  loss=loss, output="coefficients")
