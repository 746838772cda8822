"""Memories over the images of one person: ConvLSTMs (the thesis), ConvGRUs, or a running mean. Any number of images.

Sources: Shi et al. 2015 (ConvLSTM); Ballas et al. 2016, equations 4 to 7 (ConvGRU). keras.ops only.
"""
from __future__ import annotations

from typing import Any

import keras
from keras import ops

from Network.layers import PACKAGE, RECURRENT_ACTIVATIONS, FusedConvLSTM2D

MEMORIES = ("convlstm", "convgru", "mean")
_STATES = {"convlstm": 2}       # of each recurrent layer; 1 of the other kinds


def state_shapes(kind: str, filters: tuple[int, ...], side: int, channels: int) -> list[tuple[int, ...]]:
    """Shapes without the batch of a memory's states over maps (side, side, channels), in the order they are given."""
    if kind == "mean":
        return [(side, side, channels), (1,)]
    return [(side, side, width) for width in filters for _ in range(_STATES.get(kind, 1))]


def memory_layer(kind: str, filters: tuple[int, ...], activation: str, x: Any,
                 states: list | None) -> tuple[Any, list]:
    """Maps (B, T, h, w, C) -> what is remembered after the last (B, h, w, F), and the states (none if none given)."""
    given, after = iter(states or ()), []
    if kind == "mean":
        x, *after = RunningMean(name="memory")(x, *given)
        return x, after
    for i, width in enumerate(filters):
        last = i + 1 == len(filters)
        if kind == "convgru":
            layer = ConvGRU2D(width, 3, activation, not last, name=f"memory_{i + 1}")
            x, state = layer(x, next(given, None))
            after.append(state)
        else:
            layer = FusedConvLSTM2D(width, 3, 1, activation, not last, return_state=states is not None,
                                    name=f"memory_{i + 1}")
            if states is None:
                x = layer(x)
                continue
            x, h, c = layer(x, initial_state=[next(given), next(given)])
            after += [h, c]
    return x, after


@keras.saving.register_keras_serializable(PACKAGE)
class ConvGRU2D(keras.layers.Layer):
    """Convolutional GRU (Ballas et al. 2016, equations 4 to 7): z, r gates, h' = (1 - z) h + z tanh(W x + U (r h)).

    Takes (B, T, h, w, C) and a state (B, h, w, F), None for zeros; gives (output, state): the output is every step's
    (B, T, h, w, F) with return_sequences, else the last one's (B, h, w, F). Any T >= 1.

    Weights: kernel (k, k, C, 3F) of gates z, r and the candidate, recurrent_kernel (k, k, F, 2F) of the gates,
    candidate_kernel (k, k, F, F), bias (3F,).
    """

    def __init__(self, filters: int, kernel_size: int = 3, recurrent_activation: str = "sigmoid",
                 return_sequences: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if recurrent_activation not in RECURRENT_ACTIVATIONS:
            raise ValueError(f"recurrent_activation must be one of {', '.join(RECURRENT_ACTIVATIONS)}, "
                             f"got {recurrent_activation!r}")
        self.filters, self.kernel_size = filters, kernel_size
        self.recurrent_activation, self.return_sequences = recurrent_activation, return_sequences

    def build(self, sequence_shape: tuple, state_shape: tuple | None = None) -> None:
        """Make the weights. sequence_shape (B, T, h, w, C)."""
        k, f = self.kernel_size, self.filters
        self.kernel = self.add_weight(shape=(k, k, sequence_shape[-1], 3 * f), initializer="glorot_uniform",
                                      name="kernel")
        self.recurrent_kernel = self.add_weight(shape=(k, k, f, 2 * f), initializer="orthogonal",
                                                name="recurrent_kernel")
        self.candidate_kernel = self.add_weight(shape=(k, k, f, f), initializer="orthogonal", name="candidate_kernel")
        self.bias = self.add_weight(shape=(3 * f,), initializer="zeros", name="bias")

    def call(self, sequence: Any, state: Any = None) -> tuple[Any, Any]:
        """As the class says."""
        folded = ops.reshape(sequence, (-1, *sequence.shape[2:]))
        inputs = ops.conv(folded, self.kernel, padding="same") + self.bias
        inputs = ops.reshape(inputs, (*ops.shape(sequence)[:2], *inputs.shape[1:]))
        if state is None:
            state = ops.zeros_like(inputs[:, 0, :, :, :self.filters])
        if sequence.shape[1] is None:       # a loop: T is unknown while tracing
            def body(h: Any, x: Any) -> tuple[Any, Any]:
                h = self._step(x, h)
                return h, h
            state, outputs = ops.scan(body, state, ops.moveaxis(inputs, 1, 0))
            return (ops.moveaxis(outputs, 0, 1) if self.return_sequences else state), state
        outputs = []
        for x in ops.unstack(inputs, axis=1):
            state = self._step(x, state)
            outputs.append(state)
        return (ops.stack(outputs, axis=1) if self.return_sequences else state), state

    def _step(self, x: Any, h: Any) -> Any:
        squash = RECURRENT_ACTIVATIONS[self.recurrent_activation].squash
        x_z, x_r, x_new = ops.split(x, 3, axis=-1)
        h_z, h_r = ops.split(ops.conv(h, self.recurrent_kernel, padding="same"), 2, axis=-1)
        z, r = squash(x_z + h_z), squash(x_r + h_r)
        return h + z * (ops.tanh(x_new + ops.conv(r * h, self.candidate_kernel, padding="same")) - h)

    def compute_output_shape(self, sequence_shape: tuple, state_shape: tuple | None = None) -> tuple:
        """(output, state)."""
        state = (sequence_shape[0], *sequence_shape[2:4], self.filters)
        return ((*sequence_shape[:2], *state[1:]) if self.return_sequences else state), state

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("filters", "kernel_size", "recurrent_activation", "return_sequences")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(PACKAGE)
class RunningMean(keras.layers.Layer):
    """The mean of all maps so far: (B, T, h, w, C) and states (mean (B, h, w, C), count (B, 1)) -> (mean, mean, count).

    Computed in float32: the 1,000th image moves a mean by a thousandth.
    """

    def call(self, sequence: Any, mean: Any = None, count: Any = None) -> tuple[Any, Any, Any]:
        """As the class says; without states it begins with none."""
        sequence = ops.cast(sequence, "float32")
        total = ops.sum(sequence, axis=1)
        seen = ops.cast(ops.shape(sequence)[1], "float32")
        if mean is None:
            mean = total / seen
            return ops.cast(mean, self.compute_dtype), mean, ops.ones_like(total[:, 0, 0, :1]) * seen
        before = ops.cast(count, "float32")
        weight = before[:, :, None, None]
        mean = (ops.cast(mean, "float32") * weight + total) / (weight + seen)
        return ops.cast(mean, self.compute_dtype), mean, before + seen

    def compute_output_shape(self, sequence_shape: tuple, mean_shape: tuple | None = None,
                             count_shape: tuple | None = None) -> tuple:
        """(mean, mean, count)."""
        mean = (sequence_shape[0], *sequence_shape[2:])
        return mean, mean, (sequence_shape[0], 1)
