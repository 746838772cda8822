"""The `compact` network: the thesis's idea, a memory of ConvLSTMs over photographs, sized for two CPU cores.

Thomassen 2022 for the memory over images and the ordered points; what is new stands between photograph and memory. A
plain residual encoder (He et al. 2016) finds 256 places of the face in each photograph (heat maps, Sun et al. 2018),
and what it finds is carried into the face's own frame: a 16x16 map whose cell is a place on the face, whatever the
pose. There the ConvLSTMs remember, and a linear head turns the memory into an ordered grid. Losses on both ends.
"""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from Network.correspondence import FaceFrame, Triangulation
from Network.grid import interpolation, resample
from Network.layers import FoldTime, UnfoldTime
from Network.memory import MEMORIES, memory_layer, state_shapes
from Network.normalisation import BatchNormalization
from Network.places import PLACES, find_places
from Network.residual import residual_encoder

CONTROL = 32        # side of the grid that the head predicts; the rest is bilinear between its points


@dataclass(frozen=True)
class Config:
    """Every setting of the network. ValueError for values that make no network.

    The encoder halves the image with its first convolution and with the first of each level; the pyramid goes up again
    to 1/8 of the image, where the heat maps are.
    """

    image_size: int = 128                           # pixels, square images; a multiple of 32
    images: int | None = None                       # T; None takes any number
    points: int = 2**14                             # N: 64, 256, 1024, 4096 or 16384, an ordered grid
    encoder_filters: tuple[int, ...] = (32, 48, 96, 160, 224)   # at 1/2, 1/4, 1/8, 1/16, 1/32 of the image
    encoder_blocks: tuple[int, ...] = (0, 0, 1, 2, 2)           # residual blocks of two 3x3 convolutions
    pyramid_filters: int = 96                       # at 1/8 of the image, before the heat maps
    looks: int = 24                                 # channels of appearance carried into the face's frame
    refinements: int = 1                            # second looks, at 1/4 of the image, where the places were found
    fine_filters: int = 48                          # of the features at 1/4
    refine_filters: int = 64                        # of the two convolutions over the face of a second look
    map_filters: int = 64                           # of the two convolutions before the memory, which halve the map
    memory: str = "convlstm"                        # convgru; mean: running mean of the maps, nothing learnt
    memory_filters: tuple[int, ...] = (96,)         # of each recurrent layer
    recurrent_activation: str = "sigmoid"           # of the memory's gates
    triangulate: bool = True                        # the head also gets the places' offsets in space, by least squares
    head_filters: int = 32                          # of what is remembered at each place
    code: int = 256                                 # hidden units of the head
    rank: int = 96                                  # numbers that make a face
    batch_norm_momentum: float = 0.99
    batch_norm_replicas: int = 1                    # synchronise the statistics over so many replicas
    only_places: bool = False                       # end at the places: the first stage of training, no face yet
    crop_margin: float = 1.15                       # the detector's box is grown by this before it is cut

    def __post_init__(self) -> None:
        if self.memory not in MEMORIES:
            raise ValueError(f"memory must be one of {', '.join(MEMORIES)}, got {self.memory!r}")
        if len(self.encoder_filters) != len(self.encoder_blocks) or len(self.encoder_filters) < 4:
            raise ValueError(f"encoder_filters and encoder_blocks must have one value for each of at least 4 levels, "
                             f"got {self.encoder_filters!r} and {self.encoder_blocks!r}")
        if self.image_size % 2 ** len(self.encoder_filters) or self.image_size < 32:
            raise ValueError(f"image_size must be a multiple of {2 ** len(self.encoder_filters)}, "
                             f"got {self.image_size}")
        if self.points not in (64, 256, 1024, 4096, 16384):
            raise ValueError(f"points must be 64, 256, 1024, 4096 or 16384, an ordered grid, got {self.points}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in ("encoder_blocks", "looks", "refinements") else 1e-9
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, (int, float)) and not isinstance(number, bool) and not number >= least:
                    raise ValueError(f"{field.name} must be positive, got {value!r}")


COMPACT = Config()
PRESETS = {"compact": COMPACT}
ORDERED = True      # the output is an ordered grid


def build(config: Config) -> keras.Model:
    """images (B, T, H, W, 3) float32 in [0, 1] -> points (B, N, 3) float32, a neutral face in the unit sphere."""
    if config.only_places:
        raise ValueError("a network of only_places gives no points: it is a first stage, to begin another run with")
    images = keras.Input((config.images, config.image_size, config.image_size, 3), name="images")
    return keras.Model(images, _network(config, images)["points"], name="compact")


def build_training(config: Config) -> keras.Model:
    """The same layers with all outputs: {"points": (B, N, 3), "places": (B, T, 256, 2) in image sides, "log_variance":
    (B, T, 256)} and, with refinements, "first_places" (B, T, 256, 2), before them; float32. Its weights are `build`'s,
    in the same order."""
    images = keras.Input((config.images, config.image_size, config.image_size, 3), name="images")
    outputs = _network(config, images)
    return keras.Model(images, outputs, name="compact")


def build_step(config: Config) -> keras.Model:
    """The network with its memory outside: {"images": (B, T, H, W, 3), "states": [...]} -> {"points", "places",
    "log_variance", "states"}. Begin with `initial_states`; T images one by one give what T at once give."""
    images = keras.Input((config.images, config.image_size, config.image_size, 3), name="images")
    states = [keras.Input(shape, name=f"state_{i}", dtype=dtype) for i, (shape, dtype) in enumerate(_shapes(config))]
    outputs = _network(config, images, states)
    outputs.pop("first_places", None)
    return keras.Model({"images": images, "states": states}, outputs, name="compact_step")


def initial_states(config: Config, batch: int) -> list[Any]:
    """The empty memory: zeros (B, ...), one for each state; sums in float32, the rest in the policy's compute dtype."""
    return [ops.zeros((batch, *shape), dtype) for shape, dtype in _shapes(config)]


def set_template(model: keras.Model, mean: np.ndarray) -> None:
    """Let a new network begin at a mean face (N, 3) in the unit sphere, its training people's."""
    for layer in model.layers:          # a first stage has places only
        if layer.name == "points":
            layer.set_template(mean)
        elif layer.name == "face_frame":
            layer.set_template(resample(mean, PLACES))


def _shapes(config: Config) -> list[tuple[tuple[int, ...], str]]:
    """(shape, dtype) of every state: the memory's, then the triangulation's."""
    compute = keras.config.dtype_policy().compute_dtype
    shapes = state_shapes(config.memory, config.memory_filters, PLACES // 2, config.map_filters)
    sums = [((PLACES ** 2, 6), "float32"), ((PLACES ** 2, 3), "float32")] if config.triangulate else []
    return [(shape, compute) for shape in shapes] + sums


@keras.saving.register_keras_serializable("faces3d")
class GridPoints(keras.layers.Layer):
    """A code (B, R) -> an ordered grid (B, N, 3) float32: the template plus a linear basis of smooth offsets.

    The basis (R, CONTROL * CONTROL * 3) lives on a coarser grid; between its points offsets are bilinear. The template
    (N, 3) is not trained.
    """

    def __init__(self, points: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.points, self.side = points, round(points ** 0.5)
        self.control = min(CONTROL, self.side)
        self._finer = interpolation(self.control, self.side).astype(np.float32)

    def build(self, code_shape: tuple) -> None:
        """Make basis and template."""
        self.basis = self.add_weight(shape=(code_shape[-1], self.control ** 2 * 3), name="basis",
                                     initializer=keras.initializers.RandomNormal(stddev=0.01))
        self.template = self.add_weight(shape=(self.points, 3), initializer="zeros", trainable=False, name="template")

    def set_template(self, mean: np.ndarray) -> None:
        """mean (N, 3); ValueError for another number of points."""
        if np.shape(mean) != (self.points, 3):
            raise ValueError(f"the template must have {self.points} points, got {np.shape(mean)}")
        self.template.assign(np.asarray(mean, np.float32))

    def call(self, code: Any) -> Any:
        """(B, R) -> (B, N, 3)."""
        offsets = ops.matmul(code, ops.convert_to_tensor(self.basis))
        if self.control < self.side:
            offsets = ops.reshape(offsets, (-1, self.control, self.control * 3))
            rows = ops.matmul(self._finer, offsets)                                     # (B, side, control * 3)
            rows = ops.reshape(rows, (-1, self.control, 3))                             # (B * side, control, 3)
            offsets = ops.matmul(self._finer, rows)                                     # (B * side, side, 3)
        return ops.reshape(offsets, (-1, self.points, 3)) + ops.convert_to_tensor(self.template)

    def compute_output_shape(self, code_shape: tuple) -> tuple:
        """(B, N, 3)."""
        return (code_shape[0], self.points, 3)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "points": self.points}


def _network(config: Config, images: Any, states: list | None = None) -> dict[str, Any]:
    """All outputs for images (B, T, H, W, 3); with states, also the states after the last image."""
    convolution, face_frame = partial(_conv, config), FaceFrame(name="face_frame")
    levels = residual_encoder(FoldTime(name="fold")(images), config.encoder_filters, config.encoder_blocks, convolution)
    found = find_places(levels, convolution, face_frame, pyramid=config.pyramid_filters, looks=config.looks,
                        refinements=config.refinements, fine=config.fine_filters, refine=config.refine_filters)

    def unfold(array: Any, name: str) -> Any:
        return UnfoldTime(name=name, dtype="float32")(array, images)
    outputs = {"first_places": unfold(found.first, "first_places")} if config.refinements else {}
    outputs |= {"places": unfold(found.places, "places"), "log_variance": unfold(found.log_variance, "log_variance")}
    if config.only_places:
        return outputs
    frame = face_frame(found.places, found.log_variance, found.looks)
    x = layers.Reshape((PLACES, PLACES, frame.shape[-1]), name="face_map")(frame)
    x = layers.Conv2D(config.map_filters, 3, padding="same", activation="relu", name="map_1")(x)
    x = layers.Conv2D(config.map_filters, 3, strides=2, padding="same", activation="relu", name="map_2")(x)
    x = UnfoldTime(name="unfold")(x, images)
    sums = states[-2:] if states is not None and config.triangulate else []
    remembered = None if states is None else states[:len(states) - len(sums)]
    x, after = memory_layer(config.memory, config.memory_filters, config.recurrent_activation, x, remembered)
    x = layers.Conv2D(config.head_filters, 1, activation="relu", name="head_1")(x)
    x = layers.Flatten(name="head_flat")(x)
    if config.triangulate:
        offsets, normal, right = Triangulation(name="triangulation")(
            unfold(frame, "frames"), outputs["log_variance"], *sums)
        after = [*after, normal, right]
        offsets = layers.Flatten(name="offsets", dtype="float32")(offsets)
        x = layers.Concatenate(name="remembered")([x, offsets])
    x = layers.Dense(config.code, activation="relu", name="head_2")(x)
    code = layers.Dense(config.rank, dtype="float32", name="code")(x)
    if config.triangulate:      # offsets are nearly a linear map away from the face
        linear = layers.Dense(config.rank, use_bias=False, kernel_initializer="zeros", dtype="float32",
                              name="linear_code")(offsets)
        code = layers.Add(name="codes")([code, linear])
    outputs["points"] = GridPoints(config.points, name="points")(code)
    return outputs if states is None else {**outputs, "states": after}


def _conv(config: Config, x: Any, filters: int, name: str, stride: int = 1, kernel: int = 3, relu: bool = True) -> Any:
    """Convolution, batch normalisation over all images of the batch, ReLU."""
    x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False,
                      kernel_initializer="he_normal", name=name)(x)
    x = BatchNormalization(momentum=config.batch_norm_momentum, name=f"{name}_norm",
                           synchronized=config.batch_norm_replicas > 1)(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x
