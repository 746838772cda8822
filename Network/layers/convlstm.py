"""A fused ConvLSTM2D: Shi et al. 2015, in the form of `keras.layers.ConvLSTM2D`, with its weights and fewer operations.

Left out of `keras.layers.ConvLSTM2D`: dropout, dilation, masks, `go_backwards`, channels first; no network here uses
them. keras and keras.ops only, so that every backend runs it.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from Network.layers import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
def hard_sigmoid_keras2(x: Any) -> Any:
    """clip(0.2 x + 0.5, 0, 1), Keras 2's recurrent activation. Keras 3's `hard_sigmoid` has slope 1/6."""
    return ops.clip(x * 0.2 + 0.5, 0.0, 1.0)


class Activation(NamedTuple):
    """A recurrent activation, and the derivative of its input as a function (output, derivative of output)."""

    squash: Callable[[Any], Any]
    back: Callable[[Any, Any], Any]


#: recurrent activations by the names that a Config holds; the first is the thesis's (Keras 2.4's default)
RECURRENT_ACTIVATIONS = {
    "hard_sigmoid_keras2": Activation(hard_sigmoid_keras2, lambda s, d: _inside(s, d * 0.2)),
    "sigmoid": Activation(keras.activations.sigmoid, lambda s, d: d * s * (1.0 - s)),
    "hard_sigmoid": Activation(keras.activations.hard_sigmoid, lambda s, d: _inside(s, d * (1.0 / 6.0))),
}


def _inside(s: Any, d: Any) -> Any:
    """`d` where a hard sigmoid is not at its ends, else 0."""
    return ops.where(ops.logical_and(s > 0.0, s < 1.0), d, ops.zeros_like(d))


class _Step(NamedTuple):
    """The values of one ConvLSTM step, each (B, h, w, F): gates, tanh(c), states."""

    i: Any
    f: Any
    new: Any
    o: Any
    bent: Any
    c: Any
    h: Any


def _kernel_gradient(inputs: list, upstream: list, kernel: Any) -> Any:
    """Gradient of the kernel (k, k, C, F), k odd, over several `conv(x, kernel, padding="same")`: k products in all.

    inputs (B, h, w, C) and upstream (B, h, w, F) of each convolution.
    """
    k, (height, width, channels) = kernel.shape[0], inputs[0].shape[1:]
    x = ops.pad(ops.concatenate(inputs, axis=0), ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))
    flat = ops.reshape(ops.concatenate(upstream, axis=0), (-1, kernel.shape[-1]))
    rows = []
    for i in range(k):
        patches = ops.concatenate([x[:, i:i + height, j:j + width] for j in range(k)], axis=-1)
        rows.append(ops.matmul(ops.transpose(ops.reshape(patches, (-1, k * channels))), flat))
    return ops.reshape(ops.stack(rows), kernel.shape)


@keras.saving.register_keras_serializable(PACKAGE)
class FusedConvLSTM2D(keras.layers.Layer):
    """`keras.layers.ConvLSTM2D` (padding same, channels last), with the same weights, bit for bit, in fewer operations.

    One input convolution makes all four gates of all time steps, one recurrent convolution the four gates of a step;
    the first step of a sequence has none, since its state is zero. Any T >= 1; T unknown while tracing is a loop.

    filters            F, channels of the output and of either state
    strides            of the input convolution; the recurrent one has stride 1
    recurrent_activation  a key of RECURRENT_ACTIVATIONS
    return_sequences   (B, T, h, w, F), else the last step's (B, h, w, F)
    return_state       also the states after the last step: (output, h, c), each state (B, h, w, F)
    ValueError for an unknown recurrent activation, an even kernel_size, inputs of unknown size but for B and T.

    Weights, in Keras's order, gates i, f, c, o along the last axis: kernel (k, k, C, 4F), recurrent_kernel
    (k, k, F, 4F), bias (4F,). No subclass of ConvLSTM2D: its nested cell would break `.weights.h5` by name.
    """

    def __init__(self, filters: int, kernel_size: int = 3, strides: int = 1,
                 recurrent_activation: str = "hard_sigmoid_keras2", return_sequences: bool = False,
                 return_state: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if recurrent_activation not in RECURRENT_ACTIVATIONS:
            raise ValueError(f"recurrent_activation must be one of {', '.join(RECURRENT_ACTIVATIONS)}, "
                             f"got {recurrent_activation!r}")
        if kernel_size < 1 or kernel_size % 2 == 0:     # an even kernel turned round needs another padding
            raise ValueError(f"kernel_size must be odd and positive, got {kernel_size}")
        self.filters, self.kernel_size, self.strides = filters, kernel_size, strides
        self.recurrent_activation = recurrent_activation
        self.return_sequences, self.return_state = return_sequences, return_state

    def build(self, sequence_shape: tuple) -> None:
        """Make the weights. sequence_shape (B, T, H, W, C)."""
        if len(sequence_shape) != 5 or None in sequence_shape[2:]:
            raise ValueError(f"{self.name}: takes (B, T, H, W, C) with H, W, C known, got {tuple(sequence_shape)}")
        k, gates = self.kernel_size, 4 * self.filters
        self.kernel = self.add_weight(
            shape=(k, k, sequence_shape[-1], gates), initializer="glorot_uniform", name="kernel")
        self.recurrent_kernel = self.add_weight(
            shape=(k, k, self.filters, gates), initializer="orthogonal", name="recurrent_kernel")

        def forget_gate_open(shape: tuple, dtype: Any = None) -> Any:
            """Ones for the forget gate, zeros else (Jozefowicz et al. 2015), Keras's default."""
            return ops.repeat(ops.convert_to_tensor([0, 1, 0, 0], dtype=dtype), self.filters)

        self.bias = self.add_weight(shape=(gates,), initializer=forget_gate_open, name="bias")

    def call(self, sequence: Any, initial_state: Any = None) -> Any:
        """(B, T, H, W, C) floats, and (h, c) each (B, h, w, F) to go on from -> as the class says.

        A sequence cut anywhere, the states of one part handed to the next, gives the output of the whole.
        """
        folded = ops.reshape(sequence, (-1, *sequence.shape[2:]))
        gates = ops.conv(folded, self.kernel, strides=self.strides, padding="same") + self.bias
        gates = ops.reshape(gates, (*ops.shape(sequence)[:2], *gates.shape[1:]))
        # reshaped to the shape it has: a plain tensor on every backend, since custom gradients take no variables
        kernel = ops.reshape(self.recurrent_kernel, self.recurrent_kernel.shape)
        state = tuple(initial_state or ())
        if sequence.shape[1] is None:
            output, c = self._loop(gates, kernel, *state)
        elif keras.backend.backend() == "torch":        # whose custom gradients know one output only
            output, c = self._unrolled(gates, kernel, *state)[:2]
        else:
            output, c = ops.custom_gradient(self._with_gradient)(gates, kernel, *state)
        if not self.return_state:
            return output
        return output, (output[:, -1] if self.return_sequences else output), c

    def _unrolled(self, gates: Any, kernel: Any, *state: Any) -> tuple[Any, Any, list]:
        """gates (B, T, h, w, 4F), T known; state () for zero or (h, c) -> output, last c, the steps' inner values."""
        h, c = state or (None, None)
        steps = []
        for z in ops.unstack(gates, axis=1):        # not gates[:, t], whose gradient is T full-size arrays
            step = self._step(z, h, c, kernel)
            h, c = step.h, step.c
            steps.append(step)
        return (ops.stack([s.h for s in steps], axis=1) if self.return_sequences else h), c, steps

    def _loop(self, gates: Any, kernel: Any, *state: Any) -> tuple[Any, Any]:
        """The same where T is unknown while tracing. Zero states go through the recurrent convolution: it adds 0."""
        if not state:
            zeros = ops.zeros_like(gates[:, 0, :, :, :self.filters])
            state = (zeros, zeros)

        def body(carry: tuple, z: Any) -> tuple:
            step = self._step(z, *carry, kernel)
            return (step.h, step.c), (step.h, step.c)       # Keras's scan wants outputs shaped as the carry

        (h, c), (outputs, _) = ops.scan(body, state, ops.moveaxis(gates, 1, 0))
        return (ops.moveaxis(outputs, 0, 1) if self.return_sequences else h), c

    def _step(self, z: Any, h: Any, c: Any, kernel: Any) -> _Step:
        """One time step: z (B, h, w, 4F), the input's part of the gates; states (B, h, w, F), None for zero."""
        squash = RECURRENT_ACTIVATIONS[self.recurrent_activation].squash
        if h is not None:
            z = z + ops.conv(h, kernel, padding="same")
        i, f, new, o = ops.split(z, 4, axis=-1)
        i, f, new, o = squash(i), squash(f), ops.tanh(new), squash(o)
        c = i * new if c is None else f * c + i * new
        bent = ops.tanh(c)
        return _Step(i, f, new, o, bent, c, o * bent)

    def _with_gradient(self, gates: Any, kernel: Any, *state: Any) -> tuple[tuple[Any, Any], Callable]:
        """`_unrolled` and its gradient by hand, back through time.

        Automatic differentiation gives the same numbers, slower: its input gradients turn the kernel round in every
        step (once here), its kernel gradient is one small product per step (all steps at once here), and it keeps
        every intermediate of the gates. At 8x8 pixels and 512 filters the first two are most of the step's time.
        """
        output, c, steps = self._unrolled(gates, kernel, *state)
        h_0, c_0 = state or (None, None)

        def gradient(*upstream: Any) -> tuple:
            d_output, d_c = upstream if len(upstream) == 2 else upstream[0]     # JAX hands over one pair
            later = ops.unstack(d_output, axis=1) if self.return_sequences else [None] * (len(steps) - 1) + [d_output]
            turned = ops.transpose(ops.flip(ops.flip(kernel, axis=0), axis=1), (0, 1, 3, 2))
            d_z, d_h = [], None
            for t in reversed(range(len(steps))):
                d_h = later[t] if d_h is None else d_h if later[t] is None else d_h + later[t]
                z, d_c = self._back(steps[t], steps[t - 1].c if t else c_0, d_h, d_c)
                d_z.insert(0, z)
                if t or state:
                    d_h = ops.conv(z, turned, padding="same")
            before = ([h_0] if state else []) + [step.h for step in steps[:-1]]
            d_kernel = _kernel_gradient(before, d_z[-len(before):], kernel) if before else ops.zeros_like(kernel)
            return (ops.stack(d_z, axis=1), d_kernel, *((d_h, d_c) if state else ()))

        return (output, c), gradient

    def _back(self, step: _Step, before: Any, d_h: Any, d_c: Any) -> tuple[Any, Any]:
        """Derivatives of a step's h and c -> those of its z (B, h, w, 4F) and of the c before it (`before`)."""
        back = RECURRENT_ACTIVATIONS[self.recurrent_activation].back
        d_c = d_c + d_h * step.o * (1.0 - ops.square(step.bent))
        forget = ops.zeros_like(d_c) if before is None else back(step.f, d_c * before)
        parts = [back(step.i, d_c * step.new), forget, d_c * step.i * (1.0 - ops.square(step.new)),
                 back(step.o, d_h * step.bent)]
        return ops.concatenate(parts, axis=-1), d_c * step.f

    def compute_output_shape(self, sequence_shape: tuple, initial_state_shape: Any = None) -> Any:
        """(B, T, h, w, F) or (B, h, w, F); with states, a tuple of three."""
        height, width = (-(-size // self.strides) for size in sequence_shape[2:4])
        state = (sequence_shape[0], height, width, self.filters)
        output = (*sequence_shape[:2], *state[1:]) if self.return_sequences else state
        return (output, state, state) if self.return_state else output

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("filters", "kernel_size", "strides", "recurrent_activation", "return_sequences", "return_state")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
