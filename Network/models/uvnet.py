"""The `uvnet` network: an image -> for every pixel the UV coordinates of the face that it shows, and two masks.

Source: Ronkainen 2017, *Dense tracking of human facial geometry*, 3.4, Figure 3.11 and listing A.1; the U-net is
Ronneberger et al. 2015's. Two 5x5 convolutions and a max-pooling a level on the way down, a transposed convolution and
two convolutions on the way up, beside each the pooled tensor of the way down, at last the image itself.

The listing's CNTK defaults hold for every layer, the transposed convolutions too: Glorot's uniform initialisation,
ReLU, zero padding, biases; the last convolution has no activation. Left out: nothing of the listing. Fields of Config
that the listing does not have are off by default: a log-variance of u and v; of the outlook (4.5.1) depth from the same
network, landmarks and head pose, which only the loss reads; and for `uvnet-small` batch normalisation and a stem, a
first convolution of stride 2, from whose resolution the last one leads back by sub-pixels (Shi et al. 2016).
docs/deviations.md lists where text and listing disagree.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import layers, ops

from Network.layers import PACKAGE
from Network.layers.convolution import normalised
from Network.losses.points import MIN_LOG_VARIANCE, maps_of_the_face
from Network.models.registry import Network

_INITIAL_LOG_VARIANCE = -3.0    # a fifth of the atlas's side: the error before training
CHOICES = {"scaling": ("unit", "minmax"), "normalisation": ("none", "batch"),
           "output_initializer": ("glorot_uniform", "zeros"), "activation": ("relu", "elu"),
           "upsampling": ("transposed", "unpooling"), "distance": ("l1", "l2")}


@dataclass(frozen=True)
class Config:
    """Every setting of the network; the defaults are the paper's (listing A.1). ValueError for values that make none.

    The sides halve `levels` times; with a stem once more before.
    """

    image_size: int = 128                           # pixels, square; a multiple of 2^levels, with a stem of twice that
    scaling: str = "unit"                           # of the pixels: over 255; minmax: Dataset.io.images.minmax
    levels: int = 6                                 # 43.7 M parameters, as the paper counts; its text has 7
    first_features: int = 32
    growth: float = 1.75                            # of the features with every level down
    up_growth: float = 1.25                         # features on the way up over those of the same level down
    features: tuple[int, ...] = ()                  # of each level, in place of first_features and growth
    up_features: tuple[int, ...] = ()               # the same on the way up, in place of up_growth
    kernel_sizes: tuple[int, ...] = (5, 5, 5, 5, 5, 3, 1)   # of each level; of more levels the last
    convolutions: int = 2                           # of each level, on the way down and on the way up
    last_convolutions: int = 2                      # after the image has come in, before the output
    stem: int = 0                                   # features of a first convolution that halves the image; 0: none
    normalisation: str = "none"                     # batch: after every convolution, which then has no bias
    output_initializer: str = "glorot_uniform"      # of the last kernels; zeros: see docs/deviations.md
    skips: bool = True                              # False: nothing passes beside the lowest level (ablation of 4.4)
    activation: str = "relu"                        # elu: as good, but slower (3.4)
    upsampling: str = "transposed"                  # unpooling: to where the maximum was, not sharp enough (4.4)
    distance: str = "l1"                            # of the loss; l2: blurred edges and blotches (4.4)
    gradient_loss: bool = True                      # False: without the loss of the maps' gradients (3.5)
    confidence: bool = False                        # two more channels: log-variance of u and of v
    depth: bool = False                             # one more channel: how far behind the face's nearest point
    landmarks: bool = False                         # in training, from the lowest level: the 68 landmarks in the image
    pose: bool = False                              # likewise: the head's rotation
    auxiliary_features: int = 128                   # between the lowest level and these two
    batch_norm_momentum: float = 0.99
    batch_norm_replicas: int = 1                    # synchronise the statistics over so many replicas
    crop_margin: float = 1.15                       # the detector's box is grown by this before it is cut

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if field.name in ("stem", "last_convolutions") and not value >= 0:
                raise ValueError(f"{field.name} must be at least 0, got {value!r}")
            if not isinstance(value, (str, bool)) and field.name not in ("stem", "last_convolutions") \
                    and not all(number > 0 for number in numbers):
                raise ValueError(f"{field.name} must be positive, got {value!r}")
        if not self.kernel_sizes:
            raise ValueError("kernel_sizes must have at least one value, got ()")
        for name in ("features", "up_features"):
            if len(getattr(self, name)) not in (0, self.levels):
                raise ValueError(f"{name} must have one value for each of the {self.levels} levels, or none, "
                                 f"got {getattr(self, name)!r}")
        multiple = 2 ** (self.levels + bool(self.stem))
        if self.image_size % multiple:
            raise ValueError(f"image_size must be a multiple of {multiple}, got {self.image_size}")

    def down(self) -> tuple[int, ...]:
        """Features of each level on the way down: 32, 56, 98, 172, 300, 525 (, 919). Halves are rounded to the even
        number, as in the listing's Python."""
        return self.features or tuple(round(self.first_features * self.growth ** i) for i in range(self.levels))

    def up(self) -> tuple[int, ...]:
        """Features of each level on the way up: 40, 70, 122, 215, 375, 656 (, 1149)."""
        return self.up_features or tuple(round(self.up_growth * i) for i in self.down())

    def kernel_size(self, level: int) -> int:
        """Side of a level's kernels, 0 the finest."""
        return self.kernel_sizes[min(level, len(self.kernel_sizes) - 1)]


UVNET = Config()
#: for two CPU cores: the U-net runs at 32 px. Features are multiples of 16, which the fused normalisation wants
SMALL = Config(image_size=64, levels=4, stem=32, features=(48, 64, 96, 112), up_features=(64, 80, 112, 144),
               kernel_sizes=(3,), normalisation="batch", output_initializer="zeros")
PRESETS = {"uvnet": UVNET, "uvnet-small": SMALL}


def build(config: Config) -> keras.Model:
    """images (B, S, S, 3) float32 in [0, 1] -> maps (B, S, S, C) float32: U, V, mask, visible mask; with `depth` it
    follows, 1 at the face's nearest point, as `Dataset.representations.depth` has it; with `confidence` u and v's
    log-variance comes last, at least MIN_LOG_VARIANCE. Everything but the masks is defined inside the mask only. Masks
    are plain numbers, near 0 and 1 after training, not clipped."""
    return predicting_part(build_training(config))


def build_training(config: Config) -> keras.Model:
    """`build`'s model or, with `landmarks` or `pose`, one that gives a dict: "maps" as `build`, "landmarks" (B, 68, 2)
    in normalised coordinates of the image, "pose" (B, 6), the first two rows of the head's rotation in the camera's
    upright frame (Zhou et al. 2019: no angle jumps there)."""
    images = keras.Input((config.image_size, config.image_size, 3), name="images")
    down, up = config.down(), config.up()
    x = _convolution(config, images, config.stem, config.kernel_size(0), "stem", strides=2) if config.stem else images
    skips, pools = [x], []
    for level in range(config.levels):
        for number in range(config.convolutions):
            x = _convolution(config, x, down[level], config.kernel_size(level), f"down_{level}_{number}")
        pools.append([x, layers.MaxPooling2D(2, name=f"pool_{level}")(x)])
        x = pools[-1][1]
        skips.append(x)
    lowest = x
    for level in reversed(range(config.levels)):
        if config.upsampling == "unpooling":
            x = _convolution(config, x, down[level], config.kernel_size(level), f"up_{level}")
            x = Unpooling(name=f"unpool_{level}")([x, *pools[level]])
        else:       # 1x1 kernels cannot fill the doubled image: the listing takes 2x2 there
            x = _convolution(config, x, up[level], max(2, config.kernel_size(level)), f"up_{level}", strides=2,
                             transposed=True)
        for number in range(config.convolutions):
            x = _convolution(config, x, up[level], config.kernel_size(level), f"up_{level}_{number}")
        if config.skips:
            x = layers.Concatenate(name=f"skip_{level}")([x, skips[level]])
    for number in range(config.last_convolutions):
        x = _convolution(config, x, up[0], config.kernel_size(0), f"last_{number}")
    maps = _output(config, x, 4 + config.depth, "maps")
    if config.confidence:
        log_variance = _output(config, x, 2, "log_variance", activation=floored_log_variance,
                               bias_initializer=keras.initializers.Constant(_INITIAL_LOG_VARIANCE))
        maps = layers.Concatenate(name="maps_and_log_variance", dtype="float32")([maps, log_variance])
    outputs = {"maps": maps, **_auxiliary(config, lowest)}
    return keras.Model(images, outputs if len(outputs) > 1 else maps, name="uvnet")


def data_settings(config: Config) -> dict[str, Any]:
    """Settings of the generator without which the network cannot be trained."""
    extras = tuple(name for name in ("depth", "landmarks", "pose") if getattr(config, name))
    return {"scaling": config.scaling, **({"extras": extras} if extras else {})}


def predicting_part(model: keras.Model) -> keras.Model:
    """Of a model of `build_training` the part that `build` gives, with this one's weights."""
    if not isinstance(model.output, dict):
        return model
    return keras.Model(model.input, model.output["maps"], name="uvnet")


@keras.saving.register_keras_serializable(PACKAGE)
class Unpooling(layers.Layer):
    """[x (B, h, w, C), what a 2x2 maximum was taken of (B, 2h, 2w, C), the maxima (B, h, w, C)] -> (B, 2h, 2w, C): x
    where the maximum was, 0 elsewhere; at every one of equal maxima."""

    def call(self, inputs: Any) -> Any:
        x, before, maxima = inputs

        def doubled(values: Any) -> Any:
            return ops.repeat(ops.repeat(values, 2, axis=1), 2, axis=2)
        return doubled(x) * ops.cast(before == doubled(maxima), x.dtype)


@keras.saving.register_keras_serializable(PACKAGE)
def floored_log_variance(x: Any) -> Any:
    """log(e^x + e^MIN_LOG_VARIANCE): smooth, so that one overconfident pixel cannot break a training."""
    return MIN_LOG_VARIANCE + ops.softplus(x - MIN_LOG_VARIANCE)


def _convolution(config: Config, x: Any, features: int, kernel_size: int, name: str, strides: int = 1,
                 transposed: bool = False) -> Any:
    """Convolution (or its transpose), batch normalisation where there is one, activation."""
    layer = layers.Conv2DTranspose if transposed else layers.Conv2D
    batch_norm = config.normalisation == "batch"
    x = layer(features, kernel_size, strides=strides, padding="same", use_bias=not batch_norm,
              activation=None if batch_norm else config.activation,
              kernel_initializer="he_normal" if batch_norm else "glorot_uniform", name=name)(x)
    return normalised(config, x, name, config.activation) if batch_norm else x


def _output(config: Config, x: Any, channels: int, name: str, **options: Any) -> Any:
    """The last convolution, float32 under mixed precision. After a stem it gives every channel four times: each of its
    pixels becomes four."""
    count = 4 * channels if config.stem else channels
    x = layers.Conv2D(count, config.kernel_size(0), padding="same", dtype="float32", name=name,
                      kernel_initializer=config.output_initializer, **options)(x)
    if not config.stem:
        return x
    rows, columns = x.shape[1:3]
    x = layers.Reshape((rows, columns, 2, 2 * channels), dtype="float32", name=f"{name}_quads")(x)
    x = layers.Permute((1, 3, 2, 4), dtype="float32", name=f"{name}_rows")(x)
    return layers.Reshape((2 * rows, 2 * columns, channels), dtype="float32", name=f"{name}_image")(x)


def _auxiliary(config: Config, x: Any) -> dict[str, Any]:
    """The outputs that are no maps, from the lowest level's features."""
    sizes = {name: shape for name, shape in (("landmarks", (68, 2)), ("pose", (2, 3))) if getattr(config, name)}
    if not sizes:
        return {}
    x = layers.Flatten(name="auxiliary_flat")(x)
    x = layers.Dense(config.auxiliary_features, activation="relu", name="auxiliary")(x)
    found = {name: layers.Dense(rows * columns, dtype="float32", name=f"auxiliary_{name}",
                                bias_initializer=keras.initializers.Constant(0.5 if name == "landmarks" else 0.0))(x)
             for name, (rows, columns) in sizes.items()}
    if "landmarks" in found:
        found["landmarks"] = layers.Reshape((68, 2), dtype="float32", name="landmark_points")(found["landmarks"])
    return found


def loss(config: Config, _: Any) -> Any:
    """The paper's loss of the maps, or one of its ablations."""
    return partial(maps_of_the_face, distance=config.distance, gradient=config.gradient_loss)


TARGETS = "maps"
NETWORK = Network(targets=TARGETS, config=Config, presets=PRESETS, build=build, build_training=build_training,
                  loss=loss, predicting_part=predicting_part, data_settings=data_settings, output="maps")
