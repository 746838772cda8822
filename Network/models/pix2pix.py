"""The `pix2pix` system: one image -> a depth map, by a conditional GAN.

Baby et al. 2020, "Face depth estimation and 3-D reconstruction", sections III and IV; what they leave open is taken
from Isola et al. 2017, "Image-to-image translation with conditional adversarial networks" (pix2pix), 3.2, 3.3 and 6.1.
Network/losses/gan.py has the losses, Network/training/gan_step.py the update. Left out here: the jitter, of the data
(Datagenerator/augmentation/pair_jitter.py), and the way from depth to a surface, which is the representation's.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from Network.layers import PACKAGE
from Network.layers.normalisation import BatchNormalization
from Network.models.registry import Network

CHOICES = {"scaling": ("unit", "minmax"), "encoder_activation": ("relu", "leaky_relu"), "distance": ("l1", "l2")}
SLOPE = 0.2                 # of the leaky ReLUs
KERNEL = 4                  # of every convolution


@dataclass(frozen=True)
class Config:
    """Every setting of the two networks and their loss. ValueError for values that make no network.

    The generator halves the image with each convolution of `filters` and doubles it again with as many transposed
    ones; the discriminator halves it with all but the last of `discriminator_filters`.
    """

    image_size: int = 256                           # pixels, square images; a multiple of 2^levels
    scaling: str = "unit"                           # of the pixels: over 255; minmax: Dataset.io.images.minmax
    filters: tuple[int, ...] = (64, 128, 256, 512, 512, 512, 512, 512)      # of the generator's levels, downwards
    encoder_activation: str = "relu"                # the paper's; leaky_relu is pix2pix's own
    dropout: float = 0.5                            # behind the first `dropout_levels` transposed convolutions
    dropout_levels: int = 3
    bottleneck_norm: bool = True                    # False: none at the lowest level, where an image has one value
    noise_channels: int = 0                         # of Gaussian noise z beside the image; 0: dropout is all the noise
    inference_as_published: bool = False    # as in training: dropout and z drawn, statistics of the batch itself
    discriminator_filters: tuple[int, ...] = (64, 128, 256, 512)            # 70x70 patches
    batch_norm_momentum: float = 0.99
    batch_norm_replicas: int = 1                    # 1 only; every Config has the field
    noise_seed: int = 0                             # of dropout and z
    distance: str = "l1"                            # l2: the mean of the squared differences
    distance_weight: float = 100.0                  # lambda
    adversarial_weight: float = 1.0                 # 0: the distance alone, the discriminator is not trained
    masked: bool = False                            # the distance over the face alone, not over the background too
    crop_margin: float = 1.15                       # the detector's box is grown by this before it is cut

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("filters", "discriminator_filters"):
            value = getattr(self, name)
            if len(value) < 2 or not all(number >= 1 for number in value):
                raise ValueError(f"{name} must be at least two positive numbers, got {value!r}")
        if self.image_size < 32 or self.image_size % 2 ** len(self.filters):
            raise ValueError(f"image_size must be at least 32 and a multiple of {2 ** len(self.filters)}, 2 to the "
                             f"number of filters, got {self.image_size}")
        if self.patches() < 1:
            raise ValueError(f"discriminator_filters must be fewer at image_size {self.image_size}, "
                             f"got {self.discriminator_filters!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout!r}")
        for name in ("dropout_levels", "noise_channels", "distance_weight", "adversarial_weight", "noise_seed"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)!r}")
        for name in ("batch_norm_momentum", "crop_margin"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")
        if self.batch_norm_replicas != 1:
            raise ValueError(f"pix2pix trains on one device (strategy none), got {self.batch_norm_replicas} replicas")

    def patches(self) -> int:
        """Side of the discriminator's output: 30 for 256 pixels and four filters."""
        side = self.image_size
        for _ in self.discriminator_filters[:-1]:
            side = -(-side // 2)
        return side - 2


PIX2PIX = Config()
#: The same for two CPU cores. No dropout: batch normalisation behind dropout expects in inference a variance that is
#: not there. Filters are multiples of 16, which the fused normalisation wants
SMALL = Config(image_size=64, filters=(64, 96, 96, 96, 96, 96), dropout=0.0,
               discriminator_filters=(16, 32, 64, 128))
PRESETS = {"pix2pix": PIX2PIX, "pix2pix-small": SMALL}


def build(config: Config) -> keras.Model:
    """The generator: images (B, S, S, 3) float32 in [0, 1] -> depth (B, S, S, 1) float32 in [-1, 1].

    The same images give the same depth, but for `inference_as_published`, where dropout and z are drawn anew for each
    call and an image's depth depends on the other images of its batch.
    """
    always = config.inference_as_published
    images = keras.Input((config.image_size, config.image_size, 3), name="images")
    x = layers.Rescaling(2.0, offset=-1.0, name="scaled")(images)
    if config.noise_channels:
        x = WithNoise(config.noise_channels, always, seed=config.noise_seed, name="with_noise")(x)
    skips, last = _encoded(config, x, always), len(config.filters) - 1
    x = skips[-1]
    for count, level in enumerate(range(last - 1, -1, -1)):
        x = layers.Conv2DTranspose(config.filters[level], KERNEL, strides=2, padding="same", use_bias=False,
                                   kernel_initializer=_initial(), name=f"up_{level}")(x)
        x = _norm(config, f"up_{level}_norm", always)(x)
        if count < config.dropout_levels and config.dropout:
            x = Dropout(config.dropout, always, seed=config.noise_seed + 1 + count, name=f"up_{level}_dropout")(x)
        x = layers.ReLU(name=f"up_{level}_relu")(x)
        x = layers.Concatenate(name=f"up_{level}_skip")([x, skips[level]])
    # in float32: a step of bfloat16 near 1 is 1/256 of half the range of depth
    x = layers.Conv2DTranspose(1, KERNEL, strides=2, padding="same", kernel_initializer=_initial(), activation="tanh",
                               dtype="float32", name="depth")(x)
    return keras.Model(images, x, name="generator")


def _encoded(config: Config, x: Any, always: bool) -> list[Any]:
    """What each level of the way down gives, the finest first."""
    slope = SLOPE if config.encoder_activation == "leaky_relu" else 0.0
    tensors, last = [], len(config.filters) - 1
    for level, filters in enumerate(config.filters):
        x = _convolution(filters, f"down_{level}", strides=2)(x)
        if level and (level < last or config.bottleneck_norm):
            x = _norm(config, f"down_{level}_norm", always)(x)
        x = layers.ReLU(negative_slope=slope, name=f"down_{level}_relu")(x)
        tensors.append(x)
    return tensors


def build_discriminator(config: Config) -> keras.Model:
    """The PatchGAN: {"images": (B, S, S, 3) in [0, 1], "depth": (B, S, S, 1) in [-1, 1]} -> logits (B, P, P, 1)
    float32, positive where a patch of the depth looks real; P is `config.patches()`."""
    size = config.image_size
    images, depth = keras.Input((size, size, 3), name="images"), keras.Input((size, size, 1), name="depth")
    x = layers.Rescaling(2.0, offset=-1.0, name="scaled")(images)
    x = layers.Concatenate(name="pair")([x, depth])
    last = len(config.discriminator_filters) - 1
    for level, filters in enumerate(config.discriminator_filters):
        if level == last:           # stride 1 without "same": 32 -> 31 -> 30
            x = layers.ZeroPadding2D(name=f"patch_{level}_padding")(x)
        x = _convolution(filters, f"patch_{level}", strides=2 if level < last else 1,
                         padding="same" if level < last else "valid")(x)
        if level:
            x = _norm(config, f"patch_{level}_norm")(x)
        x = layers.LeakyReLU(negative_slope=SLOPE, name=f"patch_{level}_relu")(x)
    x = layers.ZeroPadding2D(name="logits_padding")(x)
    x = layers.Conv2D(1, KERNEL, kernel_initializer=_initial(), dtype="float32", name="logits")(x)
    return keras.Model({"images": images, "depth": depth}, x, name="discriminator")


def build_training(config: Config) -> keras.Model:
    """Both networks in one model, as its layers "generator" and "discriminator":

    {"images": (B, S, S, 3) in [0, 1], "depth": (B, S, S, 1), the truth in [-1, 1]} ->
    {"depth": (B, S, S, 1), the generator's; "real", "generated": (B, P, P, 1), the logits for either}, all float32.
    """
    size = config.image_size
    images, depth = keras.Input((size, size, 3), name="images"), keras.Input((size, size, 1), name="depth")
    generator, discriminator = build(config), build_discriminator(config)
    made = generator(images)
    return keras.Model({"images": images, "depth": depth},
                       {"depth": made, "real": discriminator({"images": images, "depth": depth}),
                        "generated": discriminator({"images": images, "depth": made})}, name="pix2pix")


def predicting_part(model: keras.Model) -> keras.Model:
    """The generator in a model of `build_training`: what `build` gives, with this one's weights."""
    return model.get_layer("generator")


def data_settings(config: Config) -> dict[str, Any]:
    """Settings of the generator without which the network cannot be trained."""
    return {"scaling": config.scaling}


def _convolution(filters: int, name: str, **options: Any) -> layers.Conv2D:
    return layers.Conv2D(filters, KERNEL, use_bias=False, kernel_initializer=_initial(), name=name,
                         **{"padding": "same", **options})


def _initial() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=0.02)     # Isola et al., 6.2


def _norm(config: Config, name: str, always: bool = False) -> layers.Layer:
    return BatchNorm(always, momentum=config.batch_norm_momentum, name=name)


@keras.saving.register_keras_serializable(PACKAGE)
class BatchNorm(BatchNormalization):
    """Batch normalisation; with `always`, inference too takes the statistics of its batch and keeps none."""

    def __init__(self, always: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.always = always

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """(B, h, w, C) floats -> the same shape and dtype."""
        if training or not self.always:
            return super().call(inputs, training=training, mask=mask)
        x = ops.cast(inputs, "float32")
        mean, variance = ops.moments(x, axes=(0, 1, 2))
        x = (x - mean) * ops.rsqrt(variance + self.epsilon) * self.gamma + self.beta
        return ops.cast(x, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "always": self.always}


@keras.saving.register_keras_serializable(PACKAGE)
class Dropout(layers.Dropout):
    """Keras's dropout; with `always` in inference too. (A model's `training=False` overrules a layer's own True.)"""

    def __init__(self, rate: float, always: bool = False, **kwargs: Any) -> None:
        super().__init__(rate, **kwargs)
        self.always = always

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Any floats -> the same shape and dtype."""
        return super().call(inputs, training=training or self.always)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "always": self.always}


@keras.saving.register_keras_serializable(PACKAGE)
class WithNoise(layers.Layer):
    """Images (B, h, w, C) -> (B, h, w, C + channels): standard Gaussian noise z beside them.

    Drawn in training, with `always` also in inference; else z is 0, its mean.
    """

    def __init__(self, channels: int, always: bool = False, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels, self.always, self.seed = channels, always, seed
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool | None = None) -> Any:
        """As the class says."""
        shape = (*ops.shape(images)[:-1], self.channels)
        z = keras.random.normal(shape, dtype=images.dtype, seed=self.generator) if training or self.always \
            else ops.zeros(shape, images.dtype)
        return ops.concatenate([images, z], axis=-1)

    def compute_output_shape(self, shape: tuple) -> tuple:
        """(B, h, w, C + channels)."""
        return (*shape[:-1], shape[-1] + self.channels)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "channels": self.channels, "always": self.always, "seed": self.seed}


TARGETS = "depth"
NETWORK = Network(targets=TARGETS, config=Config, presets=PRESETS, build=build, build_training=build_training,
                  predicting_part=predicting_part, data_settings=data_settings, adversarial=True, output="depth")
