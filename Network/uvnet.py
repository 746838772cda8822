"""The `uvnet` network: a photograph -> for every pixel the place of the face that it shows, and two masks.

Source: Ronkainen 2017, *Deep learning based facial geometry*, 3.4, Figure 3.11 and listing A.1; the U-net is
Ronneberger et al. 2015's. Two 5x5 convolutions and a max-pooling a level on the way down, a transposed convolution and
two convolutions on the way up, beside each the pooled tensor of the way down, at last the image itself.

The listing's CNTK defaults hold for every layer, the transposed convolutions too: Glorot's uniform initialisation,
ReLU, zero padding, biases; the last convolution has no activation. Left out: nothing of the listing. What it does not
have are fields of Config, off by default: a log-variance of u and v; of the outlook (4.5.1) depth from the same
network, landmarks and head pose, which only the loss looks at; and what makes `uvnet-compact` fit two CPU cores: batch
normalisation, a first convolution that halves the image, a residual encoder, numbers of convolutions for each level,
cheaper ways up and skips, and 256 places of the face, found first, between which the map begins. docs/deviations.md
says where text and listing disagree.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from Network.correspondence import FaceFrame
from Network.layers import PACKAGE
from Network.losses import LEAST_LOG_VARIANCE
from Network.normalisation import BatchNormalization
from Network.places import find_places, guide, unit_places
from Network.residual import Convolution, residual_encoder

_DOUBT = -3.0           # log-variance before training: a fifth of the side, the error of one that knows nothing
CHOICES = {"encoder": ("pooled", "residual"), "normalisation": ("none", "batch"), "masks": ("linear", "clipped"),
           "upsampling": ("transposed", "nearest"), "skips": ("concatenate", "add")}
LEAK = 0.05             # slope of clipped masks beyond 0 and 1: one on the wrong side still finds back


@dataclass(frozen=True)
class Config:
    """Every setting of the network; the defaults are the paper's (listing A.1). ValueError for values that make none.

    The sides halve `levels` times; with a stem once more before.
    """

    image_size: int = 128                           # pixels, square; a multiple of 2^levels, with a stem of twice that
    levels: int = 6                                 # 43.7 M parameters, as the paper counts; its text says 7
    first_features: int = 32
    growth: float = 1.75                            # of the features with every level down
    up_growth: float = 1.25                         # features on the way up over those of the same level down
    filters: tuple[int, ...] = (5, 5, 5, 5, 5, 3, 1)    # side of the filters of each level; of more levels the last
    convolutions: tuple[int, ...] = (2,)            # of each level, on the way down; of more levels the last
    up_convolutions: tuple[int, ...] = (2,)         # the same on the way up
    last_convolutions: int = 2                      # after the image has come in, before the output
    features: tuple[int, ...] = ()                  # of each level, in place of first_features and growth
    up_features: tuple[int, ...] = ()               # the same on the way up
    masks: str = "linear"                           # clipped: all but flat beyond 0 and 1, where a pixel is decided
    confidence: bool = False                        # two more channels: log-variance of u and of v
    depth: bool = False                             # one more channel: how far behind the face's nearest place
    landmarks: bool = False                         # in training, from the lowest level: where the 68 lie in the image
    pose: bool = False                              # likewise: how the head is turned
    aside: int = 128                                # features between the lowest level and these two
    encoder: str = "pooled"                         # residual: strided convolutions, then blocks (He et al. 2016)
    blocks: tuple[int, ...] = (0,)                  # residual: of each level, two convolutions each; then the last
    block_features: tuple[int, ...] = ()            # residual: between the two of a block, of each level; (): its own
    stem: int = 0                                   # features of a first convolution that halves the image; 0: none
    normalisation: str = "none"                     # batch: after every convolution, which then has no bias
    upsampling: str = "transposed"                  # convolution; nearest: a 1x1 convolution and repeated pixels
    skips: str = "concatenate"                      # after the level's convolutions; add: before them, by a 1x1 one
    places: tuple[int, ...] = ()                    # residual: the map begins between 256 places (Network/places.py):
    #                                                 features at 1/8, looks, features at 1/4 and of the second look
    batch_norm_momentum: float = 0.99
    batch_norm_replicas: int = 1                    # synchronise the statistics over so many replicas
    crop_margin: float = 1.15                       # the detector's box is grown by this before it is cut

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name.endswith("convolutions") or field.name in ("stem", "blocks") else 1e-9
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, (int, float)) and not isinstance(number, bool) and not number >= least:
                    raise ValueError(f"{field.name} must be positive, got {value!r}")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("filters", "convolutions", "up_convolutions", "blocks"):
            if not getattr(self, name):
                raise ValueError(f"{name} must have at least one value, got ()")
        for name in ("features", "up_features", "block_features"):
            if len(getattr(self, name)) not in (0, self.levels):
                raise ValueError(f"{name} must have one value for each of the {self.levels} levels, or none, "
                                 f"got {getattr(self, name)!r}")
        if self.encoder == "residual" and not self.stem:
            raise ValueError("stem must be at least 1 for a residual encoder, whose first convolution it is, got 0")
        if self.places and (len(self.places) != 4 or self.encoder != "residual" or self.levels < 3):
            raise ValueError(f"places must be four numbers, beside a residual encoder of at least 3 levels, or none, "
                             f"got {self.places!r}, {self.encoder} and {self.levels}")
        multiple = 2 ** (self.levels + bool(self.stem))
        if self.image_size % multiple:
            raise ValueError(f"image_size must be a multiple of {multiple}, got {self.image_size}")

    def down(self) -> tuple[int, ...]:
        """Features of each level on the way down: 32, 56, 98, 172, 300, 525 (, 919). Halves go to the even number, as
        in the listing's Python."""
        return self.features or tuple(round(self.first_features * self.growth ** i) for i in range(self.levels))

    def up(self) -> tuple[int, ...]:
        """Features of each level on the way up: 40, 70, 122, 215, 375, 656 (, 1149)."""
        return self.up_features or tuple(round(self.up_growth * i) for i in self.down())

    def of_level(self, name: str, level: int) -> int:
        """The value of filters, convolutions, up_convolutions or blocks at a level, 0 the finest."""
        values = getattr(self, name)
        return values[min(level, len(values) - 1)]


UVNET = Config()
#: for two CPU cores. It finds places as `compact` does, whose blocks of the last level are pruned to half their
#: features (Network/prune.py): whole they would take more than 3 M parameters
COMPACT = Config(levels=4, filters=(3,), encoder="residual", blocks=(0, 1, 2, 2), stem=32, features=(48, 96, 160, 224),
                 block_features=(48, 96, 160, 112), places=(96, 24, 48, 64), up_features=(32, 64, 96, 96),
                 up_convolutions=(1, 2), last_convolutions=0, normalisation="batch", upsampling="nearest", skips="add",
                 masks="clipped", confidence=True)
PRESETS = {"uvnet": UVNET, "uvnet-compact": COMPACT}
ORDERED = False     # the output is a map of the image, no grid of points


def build(config: Config) -> keras.Model:
    """images (B, S, S, 3) float32 in [0, 1] -> maps (B, S, S, C) float32: U, V, mask, occluded mask; with `depth` it
    follows, 1 at the face's nearest place, as `Dataset.representations.depth` has it; with `confidence` u and v's
    log-variance comes last, at least LEAST_LOG_VARIANCE. All but the masks means something inside the mask only. Masks
    are plain numbers that training brings near 0 and 1: nothing clips them."""
    return inference(build_training(config))


def build_training(config: Config) -> keras.Model:
    """`build`'s model, or, with `places`, `landmarks` or `pose`, one that gives a dict: "maps" as `build`, "guide"
    (B, S, S, 2), u and v as the places alone have them, "landmarks" (B, 68, 2) in sides of the image, "pose" (B, 6),
    the first two rows of the head's rotation in the camera's upright frame (Zhou et al. 2019: no angle jumps there)."""
    images = keras.Input((config.image_size, config.image_size, 3), name="images")
    down, up = config.down(), config.up()
    filters = [config.of_level("filters", level) for level in range(config.levels)]
    skips = _encoded(config, images, down, filters)
    x = skips[-1]
    lowest, begun, asides = x, None, {}
    for level in reversed(range(config.levels)):
        if level > 1 and config.places:
            continue
        if level == 1 and config.places:
            x, begun = _between_places(config, skips)
            asides = {"guide": begun}
        else:
            x = _doubled(config, x, up[level], filters[level], f"up_{level}")
            if config.skips == "add":
                side = layers.Conv2D(up[level], 1, name=f"side_{level}")(skips[level])
                x = layers.Add(name=f"skip_{level}")([x, side])
        for number in range(config.of_level("up_convolutions", level)):
            x = _conv(config, x, up[level], filters[level], f"up_{level}_{number}")
        if config.skips == "concatenate":
            x = layers.Concatenate(name=f"skip_{level}")([x, skips[level]])
    for number in range(config.last_convolutions):
        x = _conv(config, x, up[0], filters[0], f"last_{number}")
    maps = _head(config, x, 4 + config.depth, "image_maps")
    if begun is not None:
        maps = AddFirst(name="guided_maps")(maps, begun)
    if config.masks == "clipped":
        maps = ClippedMasks(name="clipped_masks")(maps)
    if config.confidence:
        doubt = _head(config, x, 2, "doubt", activation=floored_log_variance,
                      bias_initializer=keras.initializers.Constant(_DOUBT))
        maps = layers.Concatenate(name="maps_and_doubt", dtype="float32")([maps, doubt])
    outputs = {"maps": maps, **asides, **_aside(config, lowest)}
    return keras.Model(images, outputs if len(outputs) > 1 else maps, name="uvnet")


def data_settings(config: Config) -> dict[str, Any]:
    """Settings of the generator without which the network cannot be trained."""
    extras = tuple(name for name in ("depth", "landmarks", "pose") if getattr(config, name))
    return {"extras": extras} if extras else {}


def inference(model: keras.Model) -> keras.Model:
    """Of a model of `build_training` the part that `build` gives, with this one's weights."""
    if not isinstance(model.output, dict):
        return model
    return keras.Model(model.input, model.output["maps"], name="uvnet")


def set_template(model: keras.Model, template: Any) -> None:
    """With `places`: let a new network know the mean face, an ordered grid (N, 3) of any size."""
    for layer in model.layers:
        if layer.name == "face_frame" and len(template):
            layer.set_template(unit_places(template)[0])


@keras.saving.register_keras_serializable(PACKAGE)
def floored_log_variance(x: Any) -> Any:
    """log(e^x + e^LEAST_LOG_VARIANCE): smooth, so that one pixel that is too sure cannot break a training."""
    return LEAST_LOG_VARIANCE + ops.softplus(x - LEAST_LOG_VARIANCE)


@keras.saving.register_keras_serializable(PACKAGE)
class AddFirst(keras.layers.Layer):
    """Maps (..., C) float32 with `first` (..., K), K <= C, added to their first channels."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, maps: Any, first: Any) -> Any:
        """As the class says."""
        count = first.shape[-1]
        return ops.concatenate([maps[..., :count] + first, maps[..., count:]], axis=-1)

    def compute_output_shape(self, maps_shape: tuple, first_shape: tuple) -> tuple:
        """The first shape."""
        return maps_shape


@keras.saving.register_keras_serializable(PACKAGE)
class ClippedMasks(keras.layers.Layer):
    """Maps (..., C) float32 whose third and fourth channel, the masks, are all but flat, LEAK, beyond 0 and 1. A sum of
    absolute errors pulls at every pixel of a linear mask, however right it is: of 16384, most of all that is learnt
    from; at a clipped one it pulls where the mask is not yet decided."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, maps: Any) -> Any:
        """As the class says."""
        masks = maps[..., 2:4]
        within = ops.clip(masks, 0.0, 1.0)
        return ops.concatenate([maps[..., :2], within + LEAK * (masks - within), maps[..., 4:]], axis=-1)

    def compute_output_shape(self, maps_shape: tuple) -> tuple:
        """The same."""
        return maps_shape


def _encoded(config: Config, images: Any, down: tuple[int, ...], filters: list[int]) -> list[Any]:
    """The way down: what goes into each level, the finest first, and what the last one gives."""
    if config.encoder == "residual":
        blocks = [config.of_level("blocks", level) for level in range(config.levels)]
        within = (config.stem, *config.block_features) if config.block_features else ()
        return residual_encoder(images, (config.stem, *down), (0, *blocks), _convolution(config), within)
    x = _conv(config, images, config.stem, 5, "stem", strides=2) if config.stem else images
    tensors = [x]
    for level in range(config.levels):
        for number in range(config.of_level("convolutions", level)):
            x = _conv(config, x, down[level], filters[level], f"down_{level}_{number}")
        x = layers.MaxPooling2D(2, name=f"pool_{level}")(x)
        tensors.append(x)
    return tensors


def _between_places(config: Config, levels: list[Any]) -> tuple[Any, Any]:
    """The way up to 1/4 of the image by way of the places -> features there, and u and v between the places
    (n, S, S, 2) float32."""
    pyramid, looks, fine, refine = config.places
    found = find_places(levels, _convolution(config), FaceFrame(name="face_frame"), pyramid=pyramid, looks=looks,
                        refinements=1, fine=fine, refine=refine)
    uv, x = guide(found, found.fine.shape[1], [found.fine])
    return x, layers.UpSampling2D(4, interpolation="bilinear", dtype="float32", name="guide")(uv)


def _convolution(config: Config) -> Convolution:
    """The network's convolution as `residual_encoder` and `find_places` call it."""
    def convolution(x: Any, filters: int, name: str, stride: int = 1, kernel: int = 3, relu: bool = True) -> Any:
        return _conv(config, x, filters, kernel, name, strides=stride, activation=relu)
    return convolution


def _conv(config: Config, x: Any, features: int, side: int, name: str, strides: int = 1,
          transposed: bool = False, activation: bool = True) -> Any:
    """Convolution (or its transpose), batch normalisation where there is one, ReLU unless not wanted."""
    layer = layers.Conv2DTranspose if transposed else layers.Conv2D
    normalised = config.normalisation == "batch"
    x = layer(features, side, strides=strides, padding="same", use_bias=not normalised,
              activation="relu" if activation and not normalised else None,
              kernel_initializer="he_normal" if normalised else "glorot_uniform", name=name)(x)
    if not normalised:
        return x
    x = BatchNormalization(momentum=config.batch_norm_momentum, name=f"{name}_norm",
                           synchronized=config.batch_norm_replicas > 1)(x)
    return layers.ReLU(name=f"{name}_relu")(x) if activation else x


def _doubled(config: Config, x: Any, features: int, side: int, name: str) -> Any:
    """(n, h, w, C) -> (n, 2h, 2w, features)."""
    if config.upsampling == "nearest":
        return layers.UpSampling2D(2, name=name)(layers.Conv2D(features, 1, name=f"{name}_before")(x))
    # 1x1 filters cannot fill the doubled image: the listing takes 2x2 there
    return _conv(config, x, features, max(2, side), name, strides=2, transposed=True)


def _head(config: Config, x: Any, channels: int, name: str, activation: Any = None, **more: Any) -> Any:
    """The last convolution, float32 under mixed precision. After a stem it is 1x1 and gives every channel four times:
    each of its pixels becomes four."""
    more |= {"padding": "same", "dtype": "float32", "name": name, "kernel_initializer": _first_kernel(config)}
    if not config.stem:
        return layers.Conv2D(channels, config.of_level("filters", 0), activation=activation, **more)(x)
    x = layers.Conv2D(4 * channels, 1, activation=activation, **more)(x)
    rows, columns = x.shape[1:3]
    x = layers.Reshape((rows, columns, 2, 2 * channels), dtype="float32", name=f"{name}_quads")(x)
    x = layers.Permute((1, 3, 2, 4), dtype="float32", name=f"{name}_rows")(x)
    return layers.Reshape((2 * rows, 2 * columns, channels), dtype="float32", name=f"{name}_image")(x)


def _first_kernel(config: Config) -> str:
    """Of the layers that give the maps. Behind batch normalisation they begin with 0: sums of absolute errors make a
    network that cannot shrink its features put all their variance into a few pixels, where an error costs no more, and
    the others stay empty. Random kernels had it do so within 500 updates (docs/results.md)."""
    return "zeros" if config.normalisation == "batch" else "glorot_uniform"


def _aside(config: Config, x: Any) -> dict[str, Any]:
    """What is not of pixels, from the lowest level's features."""
    sizes = {name: shape for name, shape in (("landmarks", (68, 2)), ("pose", (2, 3))) if getattr(config, name)}
    if not sizes:
        return {}
    x = layers.Dense(config.aside, activation="relu", name="aside")(layers.Flatten(name="aside_flat")(x))
    found = {name: layers.Dense(rows * columns, dtype="float32", name=f"aside_{name}",
                                bias_initializer=keras.initializers.Constant(0.5 if name == "landmarks" else 0.0))(x)
             for name, (rows, columns) in sizes.items()}
    if "landmarks" in found:
        found["landmarks"] = layers.Reshape((68, 2), dtype="float32", name="aside_places")(found["landmarks"])
    return found


class Maps(NamedTuple):
    """What a network says of one photograph, at the size of its input."""

    uv: np.ndarray                      # (S, S, 2) float32, places in the atlas; NaN where mask is False
    mask: np.ndarray                    # (S, S) bool: the face, whatever stands in front of it
    occluded: np.ndarray                # (S, S) bool: the face where nothing stands in front of it
    log_variance: np.ndarray | None     # (S, S, 2) float32 of u and v; NaN where mask is False; None without
    depth: np.ndarray | None = None     # (S, S) float32 as `build` says, at most 1; likewise


def read_maps(output: np.ndarray, threshold: float = 0.5) -> Maps:
    """One sample (S, S, 4 to 7) of `build`'s output as masks and numbers; a photo without a face gives an empty mask.

    threshold   mask values above it are the face. ValueError for another shape. NaN or infinite outputs are no face.
    """
    output = np.asarray(output, np.float32)
    if output.ndim != 3 or output.shape[-1] not in (4, 5, 6, 7):
        raise ValueError(f"maps must have shape (S, S, 4) or (S, S, 5 to 7), got {output.shape}")
    mask = (output[..., 2] > threshold) & np.isfinite(output).all(-1)

    def inside(values: np.ndarray) -> np.ndarray:
        return np.where(mask[..., None], values, np.float32(np.nan))
    channels = output.shape[-1]
    return Maps(inside(np.clip(output[..., :2], 0, 1)), mask, mask & (output[..., 3] > threshold),
                inside(output[..., -2:]) if channels >= 6 else None,
                inside(np.minimum(output[..., 4:5], 1))[..., 0] if channels % 2 else None)
