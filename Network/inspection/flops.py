"""Size and cost of a network, from the built model: FLOPs per forward pass, Thomassen 2022's Table 1.

FLOPs: a multiplication and an addition are two operations; convolutions and products only, as profilers count them
(biases, normalisation, activations and gates are left out). A ConvLSTM's recurrent convolution counts in every time
step, also the first, whose state is zero: so the listing computes, and so the thesis's network has 55.7 GFLOP per
forward pass of 8 images. `executed=True` leaves the first out, as `FusedConvLSTM2D` does: 51.6 GFLOP.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from Network.layers.convlstm import FusedConvLSTM2D


class Row(NamedTuple):
    """A row of Table 1: shapes as text, (T, W, H, C) or (W, H, C) without the batch; "-" where it does not apply."""

    input: str
    layer: str
    time_distributed: str
    kernel: str
    stride: str
    output: str


def flops(model: keras.Model, images: int = 8, executed: bool = False) -> int:
    """Operations of one forward pass of one sample of `images` images. ValueError for a layer of unknown cost."""
    return 2 * sum(_multiplications(layer, images, executed) for layer in model.layers)


def _multiplications(layer: keras.layers.Layer, images: int, executed: bool) -> int:
    """Multiplications of a layer for one sample. All but the ConvLSTMs and the decoder run once an image."""
    if isinstance(layer, FusedConvLSTM2D):
        steps = images - 1 if executed and not layer.return_state else images
        height, width = _first(layer.output).shape[-3:-1]
        return height * width * (images * int(np.prod(layer.kernel.shape)) +
                                 steps * int(np.prod(layer.recurrent_kernel.shape)))
    if isinstance(layer, layers.Conv2DTranspose):
        return int(np.prod(layer.input.shape[1:3]) * np.prod(layer.kernel.shape))
    if layer.name in ("shape_code", "shape_basis"):
        return int(np.prod(layer.kernel.shape))
    if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)):
        times = 1 if layer.name.startswith("decoder_") else images
        return times * int(np.prod(layer.output.shape[1:-1]) * np.prod(layer.kernel.shape))
    if layer.weights and not layer.name.endswith("_norm"):
        raise ValueError(f"cannot count the operations of layer {layer.name}, a {type(layer).__name__}")
    return 0


def table1(model: keras.Model, images: int = 8) -> list[Row]:
    """Thomassen 2022, Table 1, of a network of `mobile3model.build`: one row a ConvLSTM, a block, a decoder layer.

    A block's row holds all its repeats; the input column is what the layer is given, which the thesis's is not.
    ValueError for a model without the blocks' names.
    """
    rows, block = [], ""
    if not any(layer.name.endswith("_depthwise") for layer in model.layers):
        raise ValueError(f"Table 1 describes the convlstm network, got a model named {model.name!r}")
    for layer in model.layers:
        if isinstance(layer, FusedConvLSTM2D):
            rows.append(_row(layer, "ConvLSTM2D", "-", layer.kernel_size, layer.strides, images))
        elif isinstance(layer, layers.Conv2DTranspose):
            rows.append(_row(layer, "Transposed Convolution", "-", layer.kernel_size[0], layer.strides[0], images))
        elif isinstance(layer, layers.Reshape):
            rows.append(_row(layer, "Reshape", "-", "-", "-", images))
        elif match := re.match(r"(block_\d+)_(\d+)_", layer.name):
            if match[1] != block:       # its first layer folds time, its depthwise convolution has kernel and stride
                block = match[1]
                depthwise = model.get_layer(f"{block}_1_depthwise")
                rows.append(_row(layer, "Inverted Residual", "Y", depthwise.kernel_size[0], depthwise.strides[0],
                                 images))
            repeats = "" if match[2] == "1" else f" x{match[2]}"
            rows[-1] = rows[-1]._replace(layer=f"Inverted Residual{repeats}",
                                         output=_shape(layer.output.shape, images))
    return rows


def _first(tensors: Any) -> Any:
    """A ConvLSTM's sequence, not its states."""
    return keras.tree.flatten(tensors)[0]


def _row(layer: keras.layers.Layer, name: str, timed: str, kernel: Any, stride: Any, images: int) -> Row:
    given, gives = _first(layer.input), _first(layer.output)
    return Row(_shape(given.shape, images), name, timed, str(kernel), str(stride), _shape(gives.shape, images))


def _shape(shape: tuple[int | None, ...], images: int) -> str:
    """(B, T, H, W, C) -> "TxWxHxC" (squares: the order does not show); an unknown T is written as `images`."""
    return "x".join(str(images if size is None else size) for size in shape[1:])


def describe(model: keras.Model, images: int = 8) -> tuple[list[Row], list[str], list[str]]:
    """(rows of Table 1, column heads, notes: parameters and FLOPs) for a table."""
    frozen = sum(int(np.prod(w.shape)) for w in model.non_trainable_weights)
    notes = [f"{model.count_params():,} parameters, {frozen:,} of them not trainable",
             f"{flops(model, images) / 1e9:.1f} GFLOP per forward pass of {images} images, as the listing computes; "
             f"{flops(model, images, executed=True) / 1e9:.1f} as this network does"]
    return table1(model, images), ["Input", "Layer", "Time Distributed", "Kernel", "Stride", "Output"], notes
