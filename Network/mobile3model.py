"""The `convlstm` network: images of one subject -> an ordered cloud of points.

Source: Thomassen 2022, *3D Face Reconstruction Using Facial Image Sequences*, 4.1, Table 1 and listing B-2; inverted
residuals from Sandler et al. 2018 (MobileNetV2), squeeze and excite from Hu et al. 2019. An encoder of ConvLSTMs and
inverted residuals is recurrent over the images; a decoder of transposed convolutions makes an image of points.
Left out: `last_filters` of the listing, which it computes and never uses. docs/deviations.md lists where the thesis's
text, table and listing disagree; each choice is a field of Config.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from Network.layers.convlstm import RECURRENT_ACTIVATIONS, FusedConvLSTM2D
from Network.layers.normalisation import TimeBatchNormalization
from Network.layers.time import FoldTime, UnfoldTime
from Network.losses.points import mean_squared_error
from Network.models.registry import Network

GROUPS = 8      # of a group normalisation, or the greatest common divisor with the channels


@dataclass(frozen=True)
class Config:
    """Every setting of the network; the defaults are the thesis's. ValueError for values that make no network.

    Encoder: LSTM 1, block 1, the other LSTMs, the other blocks, the linking LSTMs, of which the last gives its last
    output only. Its strides' product is D; the decoder doubles (image_size/D)^2 until it has `points` cells.
    """

    image_size: int = 256                               # pixels, square images; a multiple of D = 32
    images: int | None = None                           # T; None takes any number (the listing fixes 8)
    points: int = 2**14                                 # N, the square of image_size/D * 2^k: 128x128 at 256 pixels
    alpha: float = 1.0                                  # width multiplier of LSTM 1 and the blocks
    squeeze: bool = True                                # squeeze and excite in the blocks
    squeeze_ratio: int = 16
    recurrent_activation: str = "hard_sigmoid_keras2"   # Keras 2.4's; sigmoid (Keras 3's default); hard_sigmoid (3's)
    batch_norm: str = "merged"                          # TF 2.4: all B*T images; per_step: Keras 3; group
    batch_norm_unbiased: bool = True                    # TF 2.4's fused kernel: moving variance from n/(n-1) variance
    batch_norm_momentum: float = 0.99
    batch_norm_replicas: int = 1                        # synchronise the statistics over so many replicas
    decoder_kernel: int = 4                             # the listing's; text and Table 1 say 3
    lstm_filters: tuple[int, ...] = (32, 24, 32, 64, 96)
    lstm_strides: tuple[int, ...] = (2, 2, 2, 2, 1)
    block_filters: tuple[int, ...] = (16, 160, 320)
    block_strides: tuple[int, ...] = (1, 2, 1)
    block_expansion: tuple[int, ...] = (1, 6, 6)
    block_repeats: tuple[int, ...] = (1, 2, 1)          # the listing's; Table 1 shows block 160 once
    link_filters: tuple[int, ...] = (512, 512)
    decoder_filters: tuple[int, ...] = (512, 256, 128, 64, 32, 16, 8)
    decoder_blocks: int = 0     # residual blocks of two 3x3 convolutions after each of these: the deeper one of 6.2.2
    shape_head: int = 0     # rank of a linear map from the last features to all points, added to the decoder's; 0: none
    crop_margin: float = 1.0                            # the detector's box is grown by this before it is cut

    def __post_init__(self) -> None:
        for name, allowed in (("recurrent_activation", tuple(RECURRENT_ACTIVATIONS)),
                              ("batch_norm", (*TimeBatchNormalization.MODES, "group"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if isinstance(value, tuple) and not value:
                raise ValueError(f"{field.name} must not be empty")
            least = 0 if field.name in ("shape_head", "decoder_blocks") else 1e-9
            if any(isinstance(n, (int, float)) and not isinstance(n, bool) and not n >= least for n in numbers):
                raise ValueError(f"{field.name} must be positive, got {value!r}")
        for first, others in (("lstm_filters", ("lstm_strides",)),
                              ("block_filters", ("block_strides", "block_expansion", "block_repeats"))):
            for other in others:
                if len(getattr(self, other)) != len(getattr(self, first)):
                    raise ValueError(f"{other} must have one value for each of {first} {getattr(self, first)!r}, "
                                     f"got {getattr(self, other)!r}")
        self.doublings()

    def doublings(self) -> int:
        """k: how often the decoder doubles the encoder's (image_size/D)^2 cells to reach `points`."""
        reduction = int(np.prod(self.lstm_strides + self.block_strides))
        if self.image_size % reduction:
            raise ValueError(f"image_size must be a multiple of {reduction}, got {self.image_size}")
        side, most = self.image_size // reduction, len(self.decoder_filters) - 1
        for k in range(most + 1):
            if (side * 2**k) ** 2 == self.points:
                return k
        raise ValueError(f"points must be one of {[(side * 2**k) ** 2 for k in range(most + 1)]} at image_size "
                         f"{self.image_size}, got {self.points}")


THESIS = Config()
#: The same network, small enough for minutes on two cores: 64 pixels, 32x32 points, and a shape head that starts at the
#: mean of the ordered grid, which transposed convolutions alone learn slowly (docs/archive/2026-11.md). Group
#: normalisation: behind the ConvLSTMs the features vary little about a mean that moves with every update, and moving
#: statistics that lag behind it spoilt the predictions
QUICK = Config(image_size=64, points=1024, batch_norm="group", lstm_filters=(16, 24, 48), lstm_strides=(2, 2, 2),
               block_filters=(16, 48, 64), block_expansion=(1, 4, 4), link_filters=(64,),
               decoder_filters=(64, 64, 48, 32, 16, 8), shape_head=64)
#: The thesis's network without the shape head, for two CPU cores and shards
SMALL = Config(image_size=64, points=1024, batch_norm="group", lstm_filters=(24, 32, 64), lstm_strides=(2, 2, 2),
               block_filters=(24, 64, 96), block_expansion=(1, 4, 4), link_filters=(112,),
               decoder_filters=(112, 112, 96, 64, 32, 16))
PRESETS = {"thesis": THESIS, "quick": QUICK, "convlstm-small": SMALL}


def relu6(x: Any) -> Any:
    """min(max(x, 0), 6): listing B-2's activation, under the name that its evaluate.py imports."""
    return ops.relu6(x)


def build(config: Config) -> keras.Model:
    """The network: images (B, T, H, W, 3) float32 in [0, 1] -> points (B, N, 3) float32 in (-1, 1), unit sphere.

    T is `config.images`; None takes any T >= 1, also one that was not trained with. Weights are in the listing's
    order: `model.set_weights(listing.get_weights())` works.
    """
    images = keras.Input((config.images, config.image_size, config.image_size, 3), name="images")
    return keras.Model(images, _decoder(config, _encoder(config, images)[0]), name="convlstm")


def build_step(config: Config) -> keras.Model:
    """The same network with explicit recurrent states, to continue after earlier images.

    Takes {"images": (B, T, H, W, 3), "states": [h, c of every ConvLSTM, each (B, h, w, F)]} and gives {"points":
    (B, N, 3) float32, "states": likewise}; start with `initial_states`. All of them are tensors: Keras refuses to mix
    them with numpy arrays. T images one by one give what `build`'s model gives for all T at once; its weights have the
    same names (`named_weights.copy_weights`).
    """
    images = keras.Input((config.images, config.image_size, config.image_size, 3), name="images")
    states = [keras.Input(shape, name=f"state_{i}", dtype=keras.config.dtype_policy().compute_dtype)
              for i, shape in enumerate(_state_shapes(config))]
    features, after = _encoder(config, images, states)
    return keras.Model({"images": images, "states": states},
                       {"points": _decoder(config, features), "states": after}, name="convlstm_step")


def initial_states(config: Config, batch: int) -> list[Any]:
    """The states before the first image: h and c of each ConvLSTM, zeros (B, h, w, F) in the current policy's compute
    dtype."""
    dtype = keras.config.dtype_policy().compute_dtype
    return [ops.zeros((batch, *shape), dtype) for shape in _state_shapes(config)]


def _state_shapes(config: Config) -> list[tuple[int, int, int]]:
    """(h, w, F) of every state, two for each ConvLSTM."""
    size, shapes = config.image_size, []
    for i, (filters, stride) in enumerate(zip(_lstm_filters(config), config.lstm_strides)):
        size //= stride * (config.block_strides[0] if i == 1 else 1)    # block 1 stands before the second
        shapes += [(size, size, filters)] * 2
    size = config.image_size // int(np.prod(config.lstm_strides + config.block_strides))
    return shapes + [(size, size, filters) for filters in config.link_filters for _ in range(2)]


def get_keras_model(input_shape: tuple[int | None, int, int, int], N: int = 2**14, alpha: float = 1.0,
                    squeeze: bool = False) -> keras.Model:
    """Listing B-2's function: the thesis's network for (T, H, W, 3) images. ValueError unless H = W and 3 channels.

    43,359,947 parameters at (8, 256, 256, 3), N=2**14, squeeze=True, as the thesis trained it.
    """
    if len(input_shape) != 4 or input_shape[1] != input_shape[2] or input_shape[3] != 3:
        raise ValueError(f"input_shape must be (T, H, W, 3) with H = W, got {tuple(input_shape)}")
    return build(Config(images=input_shape[0], image_size=input_shape[1], points=N, alpha=alpha, squeeze=squeeze))


def _lstm_filters(config: Config) -> tuple[int, ...]:
    """The listing scales the first LSTM only, to a multiple of 8."""
    first = config.lstm_filters[0]
    return (first if config.alpha == 1.0 else _make_divisible(first * config.alpha, 8), *config.lstm_filters[1:])


def _make_divisible(value: float, divisor: int) -> int:
    """The multiple of `divisor` nearest to `value`, at least one, and never more than 10 % below (Sandler 2018)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def _encoder(config: Config, x: Any, states: list | None = None) -> tuple[Any, list]:
    """(B, T, H, W, 3) -> features (B, h, w, F) after the last image, and all states after it (if states are given)."""
    given, after = iter(states or ()), []

    def lstm(x: Any, filters: int, stride: int, sequences: bool = True) -> Any:
        layer = FusedConvLSTM2D(filters, 3, stride, config.recurrent_activation, sequences,
                                return_state=states is not None, name=f"lstm_{len(after) // 2 + 1}")
        if states is None:
            after.extend((None, None))
            return layer(x)
        x, h, c = layer(x, initial_state=[next(given), next(given)])
        after.extend((h, c))
        return x

    filters = _lstm_filters(config)
    x = _block(config, 0, lstm(x, filters[0], config.lstm_strides[0]))
    for width, stride in zip(filters[1:], config.lstm_strides[1:]):
        x = lstm(x, width, stride)
    for index in range(1, len(config.block_filters)):
        x = _block(config, index, x)
    for i, width in enumerate(config.link_filters):
        x = lstm(x, width, 1, sequences=i + 1 < len(config.link_filters))
    return x, after


def _block(config: Config, index: int, x: Any) -> Any:
    """Inverted residual block `index`, (B, T, H, W, C) -> (B, T, h, w, F): its repeats add their input (n of 2018)."""
    for repeat in range(config.block_repeats[index]):
        name = f"block_{index + 1}_{repeat + 1}"
        stride = config.block_strides[index] if repeat == 0 else 1
        y = _bottleneck(config, index, x, stride, name)
        x = layers.Add(name=f"{name}_add")([y, x]) if repeat else y
    return x


def _bottleneck(config: Config, index: int, x: Any, stride: int, name: str) -> Any:
    """Expand 1x1, depthwise 3x3, squeeze and excite, project 1x1 with no activation; the listing's `_bottleneck`.

    Activations are ReLU6. The squeeze's Dense layers have no bias and start as He et al. 2015.
    """
    expanded = x.shape[-1] * config.block_expansion[index]

    def normalised(folded: Any, part: str) -> Any:
        if config.batch_norm == "group":
            groups = math.gcd(GROUPS, folded.shape[-1])
            normal = layers.GroupNormalization(groups, epsilon=1e-6, dtype="float32", name=f"{name}_{part}_norm")
            return UnfoldTime(name=f"{name}_{part}_unfold")(normal(folded), x)
        unfolded = UnfoldTime(name=f"{name}_{part}_unfold")(folded, x)
        return TimeBatchNormalization(
            config.batch_norm, config.batch_norm_momentum, unbiased=config.batch_norm_unbiased,
            replicas=config.batch_norm_replicas, name=f"{name}_{part}_norm")(unfolded)

    def folded(unfolded: Any, part: str) -> Any:
        return FoldTime(name=f"{name}_{part}_fold")(unfolded)

    y = layers.Conv2D(expanded, 1, padding="same", name=f"{name}_expand")(folded(x, "input"))
    y = layers.ReLU(6.0, name=f"{name}_expand_relu6")(folded(normalised(y, "expand"), "expand"))
    y = layers.DepthwiseConv2D(3, strides=stride, padding="same", name=f"{name}_depthwise")(y)
    y = layers.ReLU(6.0, name=f"{name}_depthwise_relu6")(folded(normalised(y, "depthwise"), "depthwise"))
    if config.squeeze:
        dense = {"kernel_initializer": "he_normal", "use_bias": False}
        weight = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(y)
        weight = layers.Dense(max(1, expanded // config.squeeze_ratio), activation="relu",
                              name=f"{name}_squeeze_dense", **dense)(weight)
        weight = layers.Dense(expanded, activation="sigmoid", name=f"{name}_excite_dense", **dense)(weight)
        y = layers.Multiply(name=f"{name}_excite")([y, weight])
    y = layers.Conv2D(int(config.block_filters[index] * config.alpha), 1, padding="same", name=f"{name}_project")(y)
    return normalised(y, "project")


def _decoder(config: Config, x: Any) -> Any:
    """Features (B, h, w, F) -> points (B, N, 3) float32. The last layers stay float32 under mixed precision."""
    doublings, features = config.doublings(), x
    for i, filters in enumerate(config.decoder_filters):
        x = layers.Conv2DTranspose(filters, config.decoder_kernel, strides=2 if 1 <= i <= doublings else 1,
                                   padding="same", activation="relu", name=f"decoder_{i + 1}")(x)
        for block in range(config.decoder_blocks):      # initially the identity: the second convolution is zero
            name = f"decoder_{i + 1}_block_{block + 1}"
            y = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"{name}_1")(x)
            y = layers.Conv2D(filters, 3, padding="same", kernel_initializer="zeros", name=f"{name}_2")(y)
            x = layers.ReLU(name=name)(layers.Add(name=f"{name}_add")([x, y]))
    x = layers.Conv2DTranspose(3, config.decoder_kernel, padding="same", activation="tanh", dtype="float32",
                               name=f"decoder_{len(config.decoder_filters) + 1}")(x)
    x = layers.Reshape((config.points, 3), dtype="float32", name="points")(x)
    if not config.shape_head:
        return x
    return layers.Add(dtype="float32", name="shaped_points")([x, _shape_head(config, features)])


def _shape_head(config: Config, features: Any) -> Any:
    """Features (B, h, w, F) -> offsets (B, N, 3) float32: a code, a linear basis, and the template as its bias."""
    code = layers.Dense(config.shape_head, name="shape_code")(layers.Flatten(name="shape_flat")(features))
    small = keras.initializers.RandomNormal(stddev=0.002)       # initially the template
    offsets = layers.Dense(3 * config.points, kernel_initializer=small, dtype="float32", name="shape_basis")(code)
    return layers.Reshape((config.points, 3), dtype="float32", name="shape_offsets")(offsets)


def set_template(model: keras.Model, mean: np.ndarray) -> None:
    """Initialise the shape head, where there is one, with the mean face (N, 3) of the training subjects."""
    if any(layer.name == "shape_basis" for layer in model.layers):
        bias = model.get_layer("shape_basis").bias
        if mean.size != bias.shape[0]:
            raise ValueError(f"the template must have {bias.shape[0] // 3} points, got {mean.shape}")
        bias.assign(mean.reshape(-1))


TARGETS = "points"
NETWORK = Network(targets=TARGETS, config=Config, presets=PRESETS, build=build, build_training=build,
                  loss=lambda *_: mean_squared_error, set_template=set_template, build_step=build_step,
                  initial_states=initial_states)
