"""The `vrn` system: one photograph -> which voxels the face fills, by stacked hourglasses and 2D convolutions alone.

Source: Jackson et al. 2017, "Large pose 3D face reconstruction from a single image via direct volumetric CNN
regression", as the seed reviews it: two stacked hourglasses of residual modules with 256 features, a picture of
192x192 -> a volume of 192x192x200, whose layers are the channels; `guided` by 68 heat maps of landmarks that are
stacked with the picture, or `multitask`, which regresses them beside the volume. Equation (1): Network/vrn_losses.py.

The seed says nothing of stem, depth and head. Here: 7x7 at stride 2, modules and a max-pooling to 48x48 (Newell et al.
2016, 3.1), hourglasses down to 3x3, one doubling with a module, and a transposed convolution (2x2, stride 2) to the
picture's size. Multitask forks after the first hourglass. docs/deviations.md lists all of it.

`vrn-compact` alone begins elsewhere: `places` puts `compact`'s encoder and its 256 places where the stem was, and the
volume is the solid between the face that these tell (Network/dense_face.py) and a back, which the hourglasses say.
"""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from Network.correspondence import FaceFrame
from Network.dense_face import dense_face, on_face, set_templates, what_is_seen
from Network.hourglass import Residual, hourglass
from Network.layers import PACKAGE
from Network.normalisation import BatchNormalization
from Network.places import find_places
from Network.residual import residual_encoder

VARIANTS = ("plain", "guided", "multitask")
LANDMARKS = 68
_FILLED = 0.1           # share of the voxels that a face fills: where a new network begins


@dataclass(frozen=True)
class Config:
    """Every setting of the network; the defaults are the paper's, where the seed has them. ValueError for values that
    make none."""

    variant: str = "plain"                      # guided, multitask: with landmarks
    image_size: int = 192                       # S, pixels, square; a multiple of 4 * 2^depth
    layers: int = 200                           # D
    features: int = 256                         # of the hourglasses' modules
    stem: tuple[int, ...] = (64, 128, 128)      # features of the 7x7 convolution, then of the modules before `features`
    hourglasses: int = 2                        # stacked
    depth: int = 4                              # halvings of an hourglass: 48, 24, 12, 6, 3
    head: tuple[int, ...] = (256,)              # features at each doubling; the last is the output's own
    directions: int = 64                        # in which the face that 256 places tell may differ from the mean face
    places: tuple[int, ...] = ()                # the volume begins as that face (Network/dense_face.py): features at
    #                                             1/8, looks, features at 1/4 and of the second look; no stem then but
    encoder_filters: tuple[int, ...] = (32, 48, 96, 160, 224)       # those of Network/residual.py: features and
    encoder_blocks: tuple[int, ...] = (0, 0, 1, 2, 2)               # blocks at 1/2, 1/4, 1/8 ...
    places_size: int = 0                        # side to which the picture is brought to find them; 0: as it is
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
            least = 0 if field.name in ("encoder_blocks", "places_size") else 1e-9
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, (int, float)) and not isinstance(number, bool) and not number >= least:
                    raise ValueError(f"{field.name} must be positive, got {value!r}")
        if self.image_size % (4 * 2 ** self.depth):
            raise ValueError(f"image_size must be a multiple of {4 * 2 ** self.depth}, got {self.image_size}")
        if not self.stem or len(self.head) > 1:
            raise ValueError(f"stem must have at least one value and head at most one, "
                             f"got {self.stem!r}, {self.head!r}")
        if self.places and (len(self.places) != 4 or len(self.encoder_filters) < 4
                            or len(self.encoder_filters) != len(self.encoder_blocks)
                            or (self.places_size or self.image_size) % 2 ** len(self.encoder_filters)):
            raise ValueError(f"places must be four numbers, beside at least 4 encoder_filters with as many "
                             f"encoder_blocks that halve {self.places_size or self.image_size} px evenly, or none, got "
                             f"{self.places!r}, {self.encoder_filters!r} and {self.encoder_blocks!r}")
        if self.hourglasses < 2 and self.variant == "multitask":
            raise ValueError(f"hourglasses must be at least 2 for multitask, which forks after the first, got "
                             f"{self.hourglasses}")
        for name in ("features", "stem", "head", "landmark_features"):
            value = getattr(self, name)
            if any(number % 2 for number in (value if isinstance(value, tuple) else (value,))):
                raise ValueError(f"{name} must be even, got {value!r}")

    @property
    def heat_size(self) -> int:
        """Side of the heat maps: 48 for 192 pixels."""
        return self.image_size // 4


VRN = Config()
#: for two CPU cores: voxels of 2 mm; it finds places as `compact` does and at the same size, with whose weights a
#: training may begin
COMPACT = Config(image_size=96, layers=100, features=32, stem=(16, 20), depth=2, head=(24,), places=(96, 24, 48, 64),
                 places_size=128, directions=48, landmark_features=20)
PRESETS = {"vrn": VRN, "vrn-compact": COMPACT}
ORDERED = False     # the output is a volume, no grid of points


def build(config: Config) -> keras.Model:
    """images (B, S, S, 3) float32 in [0, 1] -> **logits** of the volume (B, S, S, D) float32: their sigmoid is what
    `Dataset.representations.volume` decodes. `multitask` without its landmarks, which the volume does not need."""
    images, outputs = _network(config)
    return keras.Model(images, outputs["volume"], name="vrn")


def build_training(config: Config) -> keras.Model:
    """With all that the loss looks at: {"volume": logits as `build` gives them} and, `guided` and `multitask`,
    "heat_maps" (B, S/4, S/4, 68) float32: about 1 where a landmark is, 0 elsewhere; `read_landmarks` reads them."""
    images, outputs = _network(config)
    return keras.Model(images, outputs, name=f"vrn_{config.variant}")


def inference(model: keras.Model) -> keras.Model:
    """The part of a model of `build_training` that predicts: what `build` gives, with this one's weights."""
    return keras.Model(model.inputs[0], model.get_layer("volume").output, name="vrn")


def _network(config: Config) -> tuple[Any, dict[str, Any]]:
    images = keras.Input((config.image_size, config.image_size, 3), name="images")
    x, outputs = images, {}
    if config.variant == "guided":
        guide = _stem(config, images, config.landmark_features, "guide")
        outputs["heat_maps"] = _heat_maps(config, guide, "guide")
        if not config.places:
            grown = layers.UpSampling2D(4, interpolation="bilinear", name="guide_grown")(outputs["heat_maps"])
            x = layers.Concatenate(name="image_and_guide")([images, grown])
    begun = None
    if config.places:
        x, begun = _between_places(config, x, list(outputs.values()))
    else:
        x = _stem(config, x, config.features, "stem")
    for number in range(config.hourglasses):
        x = _stage(config, x, config.features, f"glass_{number}")
        if number == 0 and config.variant == "multitask":
            fork = _residual(config, config.landmark_features)(x, "marks_in")
            outputs["heat_maps"] = _heat_maps(config, fork, "marks")
    return images, {"volume": _head(config, x, begun), **outputs}


def set_template(model: keras.Model, template: Any) -> None:
    """With `places`: let a new network know the mean face, an ordered grid (N, 3) in the unit sphere."""
    set_templates(model, template)


def volume_of(logits: Any) -> np.ndarray:
    """Logits (...) -> sigmoid values float32 in [0, 1]."""
    return np.asarray(ops.sigmoid(ops.cast(logits, "float32")))


def read_landmarks(heat_maps: np.ndarray) -> np.ndarray:
    """Heat maps (..., h, h, 68) -> places (..., 68, 2) float32 in sides of the crop: the mean of the 3x3 cells about
    each map's highest one, weighted by their values above 0. A map without any is NaN."""
    maps = np.maximum(np.nan_to_num(np.asarray(heat_maps, np.float32)), 0)
    flat = np.moveaxis(maps, -1, -3).reshape(-1, *maps.shape[-3:-1])
    side, found = flat.shape[1], np.full((len(flat), 2), np.nan, np.float32)
    for i, one in enumerate(flat):
        row, column = np.unravel_index(one.argmax(), one.shape)
        if one[row, column] > 0:
            rows, columns = (np.arange(max(at - 1, 0), min(at + 2, side)) for at in (row, column))
            near = one[np.ix_(rows, columns)]
            found[i] = (near.sum(0) @ (columns + 0.5), near.sum(1) @ (rows + 0.5)) / near.sum() / side
    return found.reshape(*maps.shape[:-3], maps.shape[-1], 2)


def _stem(config: Config, x: Any, features: int, name: str) -> Any:
    """(B, S, S, C) -> (B, S/4, S/4, features)."""
    first, *between = config.stem
    x = layers.Conv2D(first, 7, strides=2, padding="same", use_bias=False, kernel_initializer="he_normal",
                      name=f"{name}_first")(x)
    x = _relu(config, x, f"{name}_first")
    for number, filters in enumerate((*between, features)):
        if number == min(1, len(between)):
            x = layers.MaxPooling2D(2, name=f"{name}_pool")(x)
        x = _residual(config, filters)(x, f"{name}_{number}")
    return x


def _stage(config: Config, x: Any, features: int, name: str) -> Any:
    """An hourglass, a module, a 1x1 convolution with normalisation and ReLU."""
    residual = _residual(config, features)
    x = residual(hourglass(x, config.depth, residual, name), f"{name}_out")
    x = layers.Conv2D(features, 1, use_bias=False, kernel_initializer="he_normal", name=f"{name}_last")(x)
    return _relu(config, x, f"{name}_last")


def _between_places(config: Config, x: Any, beside: list[Any]) -> tuple[Any, Any]:
    """(B, S, S, 3), and what the hourglasses see beside it, (B, S/4, S/4, C) each -> features (B, S/4, S/4, F), and the
    face that the places tell, as pixels see it: (B, S, S, 2) float32, how far towards the viewer it lies, 0 halfway
    between its nearest and farthest place, and how far beyond it the pixel lies, both in sides of the crop."""
    def convolution(x: Any, filters: int, name: str, stride: int = 1, kernel: int = 3, relu: bool = True) -> Any:
        x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False,
                          kernel_initializer="he_normal", name=name)(x)
        return _normalised(config, x, name, relu)
    pyramid, looks, fine, refine = config.places
    if config.places_size:
        x = layers.Resizing(config.places_size, config.places_size, dtype="float32", name="enlarged")(x)
    levels = residual_encoder(x, config.encoder_filters, config.encoder_blocks, convolution)
    face_frame = FaceFrame(name="face_frame")
    found = find_places(levels, convolution, face_frame, pyramid=pyramid, looks=looks, refinements=1, fine=fine,
                        refine=refine)
    posed = dense_face(found, face_frame, config.directions)
    quarter = config.image_size // 4
    fine = found.fine if found.fine.shape[1] == quarter else \
        layers.Resizing(quarter, quarter, dtype="float32", name="fine_quarter")(found.fine)
    most = (config.layers / 2 - 1) / config.image_size
    begun = Middled(most, name="begun")(posed, what_is_seen(found, posed, quarter, config.image_size))
    pooled = layers.AveragePooling2D(4, dtype="float32", name="begun_4")(begun)
    x = layers.Concatenate(name="fine_begun")([fine, pooled, *beside])
    x = convolution(x, config.features, "guided_1", kernel=1)
    return x, begun


def _head(config: Config, x: Any, begun: Any = None) -> Any:
    """(B, S/4, S/4, F) -> logits (B, S, S, D); the last layer in float32, since its sum over voxels is."""
    for number, filters in enumerate(config.head):
        x = layers.UpSampling2D(2, name=f"head_{number}_double")(x)
        x = _relu(config, _residual(config, filters)(x, f"head_{number}"), f"head_{number}")
    stride = config.image_size // x.shape[1]
    if begun is not None:       # begins with 0: the back is where Slab has it
        x = layers.Conv2DTranspose(1, stride, strides=stride, kernel_initializer="zeros", dtype="float32",
                                   name="thicker")(x)
        return Slab(config.layers, name="volume")(x, begun)
    bias = keras.initializers.Constant(float(np.log(_FILLED / (1 - _FILLED))))
    return layers.Conv2DTranspose(config.layers, stride, strides=stride, bias_initializer=bias, dtype="float32",
                                  name="volume")(x)


def _heat_maps(config: Config, x: Any, name: str) -> Any:
    """One hourglass -> (B, S/4, S/4, 68) float32, plain numbers: L2 brings them near 0 and 1."""
    x = _stage(config, x, config.landmark_features, f"{name}_glass")
    small = keras.initializers.RandomNormal(stddev=1e-3)        # else all it learns at first is to be quiet
    return layers.Conv2D(LANDMARKS, 1, kernel_initializer=small, dtype="float32", name=f"{name}_maps")(x)


def _residual(config: Config, filters: int) -> Any:
    """A function (x, name) -> a module's output."""
    def residual(x: Any, name: str) -> Any:
        return Residual(filters, config.batch_norm_momentum, config.remat, config.batch_norm_replicas, name=name)(x)
    return residual


def _relu(config: Config, x: Any, name: str) -> Any:
    return _normalised(config, x, name, True)


def _normalised(config: Config, x: Any, name: str, relu: bool) -> Any:
    x = BatchNormalization(momentum=config.batch_norm_momentum, name=f"{name}_norm",
                           synchronized=config.batch_norm_replicas > 1)(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


@keras.saving.register_keras_serializable(PACKAGE)
class Middled(keras.layers.Layer):
    """A face's grid as it lies (n, G, G, 3) and what pixels see of it (n, s, s, 2), of Network/dense_face.py -> the
    same (n, s, s, 2) float32, but its depth is 0 halfway between the grid's nearest and farthest place, or nearer,
    where the nearest place would be more than `most` sides from there: of a face too deep for the volume, in a photo
    from an arm's length, what lies in the back is cut off, not the front."""

    def __init__(self, most: float, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.most = most

    def call(self, posed: Any, seen: Any) -> Any:
        """As the class says."""
        depth = posed[..., 2:]
        nearest = ops.max(depth, axis=(1, 2), keepdims=True)
        middle = ops.maximum(0.5 * (nearest + ops.min(depth, axis=(1, 2), keepdims=True)), nearest - self.most)
        return ops.concatenate([seen[..., :1] - middle, seen[..., 1:]], axis=-1)

    def compute_output_shape(self, posed_shape: tuple, seen_shape: tuple) -> tuple:
        """(n, s, s, 2)."""
        return seen_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "most": self.most}


@keras.saving.register_keras_serializable(PACKAGE)
class Slab(keras.layers.Layer):
    """What a volume is between its front and its back: how much thicker the face is than THICK (n, S, S, 1), in tenths
    of the crop's side, and a surface (n, S, S, 2), in sides of the crop towards the viewer off the middle plane, and
    how far beyond it a pixel lies -> logits (n, S, S, D) float32.

    A voxel's logit is the least of three: `on_face` of its pixel, and how many layers it lies behind the front and
    before the back. A layer is as long as a pixel is wide. Neither the mask nor single voxels are learnt: after as many
    pictures as two cores show in half an hour they were worse than what the places tell (docs/results.md).
    """

    THICK = 0.18        # of the crop's side: from the front to the back, mean over pictures and pixels
    UNIT = 0.1

    def __init__(self, count: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.count = count

    def call(self, thicker: Any, surface: Any) -> Any:
        """As the class says."""
        side, layer = thicker.shape[1], np.arange(self.count, dtype=np.float32) + 0.5
        front = self.count / 2 - side * surface[..., :1]
        back = front + side * (self.THICK + self.UNIT * thicker)
        return ops.minimum(on_face(surface[..., 1:]), ops.minimum(layer - front, back - layer))

    def compute_output_shape(self, thicker_shape: tuple, surface_shape: tuple) -> tuple:
        """(n, S, S, D)."""
        return (*thicker_shape[:-1], self.count)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "count": self.count}
