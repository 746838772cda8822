"""The coarse network: a crop and renderings of the last guess -> the 290 coefficients of the face in the crop.

Endrawis 2018, 2.4.1 and 3.1.2: "very close to the one proposed for coarse reconstruction" by Richardson et al. 2017, of
the residual blocks of He et al. 2015. Its depth and widths stand in a figure that the text does not give; the defaults
are He's 18 layers. Left out, as the paper left them out: dropout and weight decay. Its outlook names MobileNet: the
trunk of inverted residuals (Sandler et al. 2018). Network/iterate.py runs it again and again.

`coarse-compact` alone ends elsewhere: its head finds 256 places of the face, as `compact` does; the camera that sees
them so gives the pose with which the six numbers begin, and what the places show beside the mean face the other 284.
What the last guess shows at each of these places, where it has another place of the face, says how it errs.
"""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from Network.correspondence import FaceFrame, Sampling
from Network.layers import PACKAGE
from Network.normalisation import BatchNormalization
from Network.dense_face import ROWS, SCALE, Evidence, third_row
from Network.places import PLACES, find_places
from Network.residual import Convolution, residual_encoder

COUNT, CHANNELS = 290, 9        # coefficients; image BGR, PNCC, normals
HEAD = 200.0                    # mm: of the head are as long as the crop where ln(scale) is 0
CHOICES = {"trunk": ("resnet", "mobilenet", "plain"), "block": ("basic", "bottleneck"),
           "head": ("mean", "flatten", "places"),
           "geometry_norm": ("l1", "l2"), "geometry": ("whole", "apart")}
#: how far coefficients of people and their photos scatter: the last layer's numbers are about as large as each other.
#: 200 identity, 84 expression, 3 rotation, 1 scale, 2 translation
SPREAD = (1.0,) * 200 + (0.15,) * 84 + (0.6, 0.3, 0.35, 0.15, 0.08, 0.08)


@dataclass(frozen=True)
class Config:
    """Every setting of the network and its loss. ValueError for values that make no network."""

    image_size: int = 200                           # pixels, square
    trunk: str = "resnet"                           # mobilenet: inverted residuals; plain: Network/residual.py, whose
    #                                                 first of `filters` is the stem; its kernels are its own
    block: str = "basic"                            # of resnet: two 3x3, or bottleneck: 1x1, 3x3, 1x1 to four times
    stem_filters: int = 64
    stem_kernel: int = 7                            # with stride 2
    stem_pool: bool = True                          # 3x3 maximum with stride 2 behind it, as He's
    filters: tuple[int, ...] = (64, 128, 256, 512)  # of each level; the first halves only where nothing was pooled
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    expansion: int = 4                              # of mobilenet: of the channels between
    head: str = "mean"                              # of each feature, as He's; flatten: of each place of each feature;
    #                                                 places: of 256 places (Network/places.py), beside trunk plain
    head_filters: int = 64                          # of flatten: features that are left; of places: over the face
    head_units: int = 128                           # of places: hidden ones; 0: none, linear in where places lie
    guess_at_places: bool = False                   # of places: linear, too, in what the guess shows where they lie
    places: tuple[int, ...] = (96, 24, 48, 64)      # of places: features at 1/8, looks, features at 1/4 and of the
    #                                                 second look
    batch_norm_momentum: float = 0.99
    batch_norm_replicas: int = 1                    # synchronise the statistics over so many replicas
    geometry_norm: str = "l1"                       # 3.1.3: found better than l2
    geometry: str = "whole"                         # apart: of identity and of expression each, which tells them apart
    pose_weight: float = 1.0                        # of the pose's squared error beside the geometry's
    crop_margin: float = 1.15                       # the detector's box is grown by this before it is cut
    iterations: int = 4                             # 2.4.2: "about 3-5"; at most so many
    settled: float = 0.002                          # sides of the crop: a smaller change (RMS) ends the iteration

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
                free = ("pose_weight", "settled", "head_units", *["blocks"] * (self.trunk == "plain"))
                least = 0 if field.name in free else 1e-9
                if isinstance(number, (int, float)) and not isinstance(number, bool) and not number >= least:
                    raise ValueError(f"{field.name} must be positive, got {value!r}")
        if self.head == "places" and (self.trunk != "plain" or len(self.filters) < 4 or len(self.places) != 4
                                      or self.image_size % 2 ** len(self.filters)):
            raise ValueError(f"head places wants trunk plain of at least 4 filters that halve image_size evenly and "
                             f"four numbers, got {self.trunk!r}, {self.filters!r}, {self.image_size}, {self.places!r}")
        if self.image_size < 2 ** (len(self.filters) + 1):
            raise ValueError(f"image_size must be at least {2 ** (len(self.filters) + 1)}, got {self.image_size}")


COARSE = Config()
#: for two CPU cores: it finds places as `compact` does, with whose weights a training may begin: what
#: is new in the input, PNCC and normals, counts for nothing then
COMPACT = Config(image_size=128, trunk="plain", filters=(32, 48, 96, 160, 224), blocks=(0, 0, 1, 2, 2), head="places",
                 head_units=0, guess_at_places=True, geometry="apart")
PRESETS = {"coarse": COARSE, "coarse-compact": COMPACT}
ORDERED = False     # the output is coefficients; Dataset/representations/coefficients.py makes ordered points of them


@keras.saving.register_keras_serializable(PACKAGE)
class Spread(layers.Layer):
    """(B, 290) -> the same times SPREAD, float32."""

    def call(self, inputs: Any) -> Any:
        return ops.cast(inputs, "float32") * ops.convert_to_tensor(SPREAD, "float32")


def build(config: Config) -> keras.Model:
    """(B, S, S, 9) float32 in [0, 1]: image BGR stretched to [0, 1], PNCC, normals as `Dataset.rendering_unit` draws
    them -> coefficients (B, 290) float32, as `Dataset.representations.coefficients` has them. It begins near the mean
    face in the middle of the crop."""
    images = keras.Input((config.image_size, config.image_size, CHANNELS), name="images")
    if config.head == "places":
        return keras.Model(images, _by_places(config, images), name="coarse")
    x = _trunk(config, images)
    if config.head == "flatten":
        x = layers.Flatten(name="flat")(_conv(config, x, config.head_filters, 1, "head"))
    else:
        x = layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(images, _coefficients(x), name="coarse")


def _coefficients(x: Any) -> Any:
    """(B, F) -> (B, 290), near 0 before training."""
    x = layers.Dense(COUNT, kernel_initializer=keras.initializers.RandomNormal(stddev=0.003), dtype="float32",
                     name="coefficients")(x)
    return Spread(name="spread", dtype="float32")(x)


def _convolution(config: Config) -> Convolution:
    """The network's convolution as `residual_encoder` and `find_places` call it."""
    def convolution(x: Any, filters: int, name: str, stride: int = 1, kernel: int = 3, relu: bool = True) -> Any:
        return _conv(config, x, filters, kernel, name, stride, relu)
    return convolution


def _by_places(config: Config, images: Any) -> Any:
    """(B, S, S, 9) -> (B, 290) by way of the places of the face."""
    convolution, (pyramid, looks, fine, refine) = _convolution(config), config.places
    levels = residual_encoder(images, config.filters, config.blocks, convolution)
    face_frame = FaceFrame(name="face_frame")
    found = find_places(levels, convolution, face_frame, pyramid=pyramid, looks=looks, refinements=1, fine=fine,
                        refine=refine)
    frame = face_frame(found.places, found.log_variance, found.looks)
    seen = [Evidence(name="evidence")(frame)]       # identity is nearly a linear map away from how the places lie
    if config.guess_at_places:
        seen.append(Misfit(name="misfit")(images, found.places))
    if config.head_units:
        x = layers.Reshape((PLACES, PLACES, frame.shape[-1]), name="head_map")(frame)
        x = convolution(x, config.head_filters, "head_1")
        x = convolution(x, config.head_filters // 2, "head_2", stride=2)
        x = layers.Flatten(name="head_flat")(x)
        seen.append(layers.Dense(config.head_units, activation="relu", name="head_3")(x))
    x = layers.Concatenate(name="head_seen", dtype="float32")(seen) if len(seen) > 1 else seen[0]
    return layers.Add(name="begun")([_coefficients(x), CameraPose(name="camera_pose")(frame, found.places)])


def _trunk(config: Config, x: Any) -> Any:
    """(B, S, S, 9) -> the features of the last level."""
    if config.trunk == "plain":
        return residual_encoder(x, config.filters, config.blocks, _convolution(config))[-1]
    x = _conv(config, x, config.stem_filters, config.stem_kernel, "stem", strides=2)
    if config.stem_pool:
        x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    make = _inverted if config.trunk == "mobilenet" else {"basic": _basic, "bottleneck": _bottleneck}[config.block]
    for level, (filters, blocks) in enumerate(zip(config.filters, config.blocks)):
        for block in range(blocks):
            halved = block == 0 and (level > 0 or not config.stem_pool)
            x = make(config, x, filters, 2 if halved else 1, f"block_{level}_{block}")
    return x


def set_template(model: keras.Model, template: Any) -> None:
    """With head `places`: let a new network know the mean face's 256 places, mm of the head frame, and their PNCC:
    (256, 6)."""
    places, code = np.split(np.asarray(template, np.float64), [3], axis=1)
    for layer in model.layers:
        if isinstance(layer, CameraPose):
            layer.set_template(places)
        elif isinstance(layer, FaceFrame):
            centred = places - np.mean(places, axis=0)
            layer.set_template(centred / np.linalg.norm(centred, axis=1).max())
        elif isinstance(layer, Misfit):
            layer.code.assign(code.astype(np.float32))


@keras.saving.register_keras_serializable(PACKAGE)
class Misfit(layers.Layer):
    """The network's input (n, S, S, 9) and where K places are found (n, K, 2), in sides of the crop -> (n, 3 K)
    float32: which place of the face the guess shows there beside the one it is, as PNCC, by WIDE; 0 where the guess is
    right. What is far off tells less and less, and beyond WIDE, or where the guess shows no face, nothing: a first
    guess must not drown a later one (a biweight, Beaton and Tukey 1974).

    Its one weight, not trained: the places' own PNCC (K, 3).
    """

    WIDE = 0.1          # of the head's bounding box: about 2 cm

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self._sampling = Sampling(name="sampling")

    def build(self, images_shape: tuple, places_shape: tuple) -> None:
        """The middle of the head, until there is a face."""
        self.code = self.add_weight(shape=(places_shape[1], 3), initializer=keras.initializers.Constant(0.5),
                                    trainable=False, name="code", autocast=False)

    def call(self, images: Any, places: Any) -> Any:
        """As the class says."""
        code = ops.cast(images[..., 3:6], "float32")
        on = ops.cast(ops.max(images[..., 3:], axis=-1, keepdims=True) > 0, "float32")
        sampled = self._sampling(ops.concatenate([code, on], axis=-1), places)
        off = (sampled[..., :3] - self.code) / self.WIDE
        near = ops.square(ops.relu(1.0 - ops.sum(ops.square(off), axis=-1, keepdims=True)))
        whole = ops.cast(sampled[..., 3:] > 0.999, "float32")
        return ops.reshape(off * near * whole, (-1, 3 * places.shape[1]))

    def compute_output_shape(self, images_shape: tuple, places_shape: tuple) -> tuple:
        """(n, 3 K)."""
        return (images_shape[0], 3 * places_shape[1])


@keras.saving.register_keras_serializable(PACKAGE)
class CameraPose(layers.Layer):
    """What FaceFrame gives (n, K, 16 + C) and places (n, K, 2) in sides of the crop -> (n, 290) float32: the pose of
    its camera as `Dataset.representations.coefficients` writes it, in closed form, behind 284 zeros.

    Its one weight, not trained: centre and radius (4,) of the mean face's places, mm of the head frame.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def build(self, frame_shape: tuple, places_shape: tuple) -> None:
        """A ball of HEAD / 2 about the origin, until there is a face."""
        self.ball = self.add_weight(shape=(4,), initializer=lambda shape, dtype=None: ops.convert_to_tensor(
            [0.0, 0.0, 0.0, HEAD / 2], dtype), trainable=False, name="ball", autocast=False)

    def set_template(self, places: np.ndarray) -> None:
        """places (256, 3) mm, head frame."""
        centre = places.mean(0)
        self.ball.assign(np.array([*centre, np.linalg.norm(places - centre, axis=1).max()], np.float32))

    def call(self, frame: Any, places: Any) -> Any:
        """As the class says."""
        rows, ball = frame[:, 0, ROWS], ops.convert_to_tensor(self.ball)
        third, log_scale = third_row(rows), frame[:, 0, SCALE] - ops.log(ball[3:])      # sides per mm
        yaw = ops.arctan2(-third[:, 0], third[:, 2])
        sine = ops.clip(third[:, 1], -0.999, 0.999)
        pitch = ops.arctan2(sine, ops.sqrt(1.0 - sine * sine))      # TFLite knows no arcsine
        roll = ops.arctan2(-rows[:, 1], rows[:, 4])
        shift = ops.exp(log_scale) * ops.matmul(ops.reshape(rows, (-1, 2, 3)), ball[:3, None])[..., 0]
        seen = ops.mean(places, axis=1) + shift * np.array([-1.0, 1.0], np.float32) - 0.5
        pose = ops.concatenate([ops.stack([yaw, pitch, roll], -1), log_scale + np.log(HEAD), seen], axis=-1)
        return ops.pad(pose, ((0, 0), (COUNT - 6, 0)))

    def compute_output_shape(self, frame_shape: tuple, places_shape: tuple) -> tuple:
        """(n, 290)."""
        return (frame_shape[0], COUNT)


def _conv(config: Config, x: Any, filters: int, kernel: int, name: str, strides: int = 1, relu: bool = True) -> Any:
    """Convolution, batch normalisation, ReLU."""
    x = layers.Conv2D(filters, kernel, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal",
                      name=name)(x)
    return _normalised(config, x, name, relu)


def _normalised(config: Config, x: Any, name: str, relu: bool) -> Any:
    x = BatchNormalization(momentum=config.batch_norm_momentum, name=f"{name}_norm",
                           synchronized=config.batch_norm_replicas > 1)(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _basic(config: Config, x: Any, filters: int, strides: int, name: str) -> Any:
    """He et al. 2015, figure 5, left."""
    y = _conv(config, x, filters, 3, f"{name}_1", strides)
    y = _conv(config, y, filters, 3, f"{name}_2", relu=False)
    return _added(config, x, y, filters, strides, name)


def _bottleneck(config: Config, x: Any, filters: int, strides: int, name: str) -> Any:
    """He et al. 2015, figure 5, right; the stride in its first convolution, as there."""
    y = _conv(config, x, filters, 1, f"{name}_1", strides)
    y = _conv(config, y, filters, 3, f"{name}_2")
    y = _conv(config, y, 4 * filters, 1, f"{name}_3", relu=False)
    return _added(config, x, y, 4 * filters, strides, name)


def _added(config: Config, x: Any, y: Any, filters: int, strides: int, name: str) -> Any:
    if strides > 1 or x.shape[-1] != filters:
        x = _conv(config, x, filters, 1, f"{name}_side", strides, relu=False)
    return layers.ReLU(name=name)(layers.Add(name=f"{name}_add")([x, y]))


def _inverted(config: Config, x: Any, filters: int, strides: int, name: str) -> Any:
    """Sandler et al. 2018, figure 4d, with ReLU in place of ReLU6."""
    y = _conv(config, x, config.expansion * x.shape[-1], 1, f"{name}_wide")
    y = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False, depthwise_initializer="he_normal",
                               name=f"{name}_depth")(y)
    y = _normalised(config, y, f"{name}_depth", True)
    y = _conv(config, y, filters, 1, f"{name}_narrow", relu=False)
    return layers.Add(name=f"{name}_add")([x, y]) if strides == 1 and x.shape[-1] == filters else y
