"""The gradient step on JAX: `stateless_call`, jax.grad and `stateless_apply` in one jitted function, buffers donated.

The same update as Network/training/tf_step.py, which documents it; one process, one device. TensorFlow is never
imported. Between updates the weights live in the step, not in the Keras variables: see `GradientStep.model`.
"""
from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Any, Callable, ContextManager, NamedTuple, Sequence

import jax
import keras
import numpy as np

from Network.training.batches import Batch, Loss, add_parts, samples
from Network.training.precision import resolve_precision
from Network.training.settings import STRATEGIES, Settings

log = logging.getLogger(__name__)


class OneDevice:
    """What `make_strategy` gives here: the part of tf.distribute's interface that scripts use."""

    num_replicas_in_sync = 1

    def scope(self) -> ContextManager:
        """Nothing to do: there is one device."""
        return contextlib.nullcontext()


def make_strategy(name: str) -> OneDevice:
    """`none`. ValueError for another name, and for those that need TensorFlow."""
    if name not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {name!r}")
    if name != "none":
        raise ValueError(f"strategy {name} needs TensorFlow; under KERAS_BACKEND=jax it must be none")
    return OneDevice()


def gpu_has_bfloat16() -> bool | None:
    """Whether JAX's accelerators multiply bfloat16 natively (TPUs; NVIDIA: compute capability 8.0); None on a CPU."""
    if jax.default_backend() == "cpu":
        return None
    return all(device.platform == "tpu" or float(getattr(device, "compute_capability", 0)) >= 8
               for device in jax.local_devices())


def prepare(settings: Settings) -> OneDevice:
    """Set precision, seeds and determinism for this process, and return the strategy.

    Runs on a CPU with a notice. It sets global state of Keras and JAX, so only scripts call it, once, before JAX has
    computed anything (XLA reads its flags then). ValueError for a strategy that JAX does not have here.
    """
    strategy = make_strategy(settings.strategy)
    if settings.deterministic:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
    # float32 is float32: with a GPU's 10-bit mantissas (JAX's default there) the geometry of the keypoints
    # would differ from what TensorFlow on a CPU computes from the same weights. bfloat16 products stay as they are.
    jax.config.update("jax_default_matmul_precision", "float32")
    keras.utils.set_random_seed(settings.seed)
    precision = resolve_precision(settings.precision, gpu_has_bfloat16())
    keras.config.set_dtype_policy(precision)
    logging.getLogger("jax").setLevel(logging.WARNING)      # it reports every kind of device that is not there
    if jax.default_backend() == "cpu":
        log.info("no GPU found: training on the CPU")
    return strategy


def summary_writer(folder: Path) -> Callable[[dict], None]:
    """A function that takes a row of the history and does nothing: TensorBoard's writer is TensorFlow's."""
    return lambda row: None


class State(NamedTuple):
    """Values of all variables in Keras's order: the model's, trained and not trained, and the optimizer's."""

    trained: list[jax.Array]
    kept: list[jax.Array]
    slots: list[jax.Array]


class GradientStep:
    """Trains and evaluates a model on batches; tf_step.GradientStep's interface.

    model      a built keras model; `model(x, training=...)` -> (B, ...) float32, or a dict of such
    optimizer  a keras optimizer; with float16 a keras LossScaleOptimizer
    loss       one value per sample, written in keras.ops
    jit        taken for the interface's sake: JAX always compiles by XLA, once for every shape of a batch
    strategy   from `make_strategy`
    """

    worker, workers, local_replicas = 0, 1, 1

    def __init__(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, loss: Loss, *, jit: bool = False,
                 strategy: OneDevice | None = None) -> None:
        self._model, self._optimizer, self.loss = model, optimizer, loss
        self.strategy = strategy or OneDevice()
        self._state: State | None = None            # None: the Keras variables hold the values
        self._totals: list[jax.Array] | None = None
        if not optimizer.built:
            optimizer.build(model.trainable_variables)

        def gradients(state: State, x: Any, y: Any, count: Any) -> tuple[State, list[jax.Array], jax.Array]:
            def scaled_part(trained: list[jax.Array]) -> tuple[jax.Array, tuple[jax.Array, list[jax.Array]]]:
                prediction, kept = model.stateless_call(trained, state.kept, x, training=True)
                part = keras.ops.sum(add_parts(loss(y, prediction))) / count
                with keras.StatelessScope(list(zip(optimizer.variables, state.slots))):
                    return optimizer.scale_loss(part), (part, kept)
            grads, (part, kept) = jax.grad(scaled_part, has_aux=True)(state.trained)
            return state._replace(kept=kept), grads, part

        def applied(state: State, grads: list[jax.Array]) -> State:
            trained, slots = optimizer.stateless_apply(state.slots, grads, state.trained)
            return State(trained, state.kept, slots)

        def update(state: State, x: Any, y: Any, count: Any) -> tuple[State, jax.Array]:
            state, grads, part = gradients(state, x, y, count)
            return applied(state, grads), part

        def accumulate(state: State, totals: list[jax.Array], x: Any, y: Any, count: Any
                       ) -> tuple[State, list[jax.Array], jax.Array]:
            state, grads, part = gradients(state, x, y, count)
            return state, [total + grad for total, grad in zip(totals, grads)], part

        def apply(state: State, totals: list[jax.Array]) -> tuple[State, list[jax.Array]]:
            return applied(state, totals), [jax.numpy.zeros_like(total) for total in totals]

        def evaluate(state: State, x: Any, y: Any) -> dict[str, jax.Array]:
            prediction, _ = model.stateless_call(state.trained, state.kept, x, training=False)
            parts = loss(y, prediction)
            return {"loss": add_parts(parts), **(parts if isinstance(parts, dict) else {})}

        # donated: the new values reuse the buffers of the old ones
        self._update = jax.jit(update, donate_argnums=0)
        self._accumulate = jax.jit(accumulate, donate_argnums=(0, 1))
        self._apply = jax.jit(apply, donate_argnums=(0, 1))
        self._evaluate = jax.jit(evaluate)

    @property
    def model(self) -> keras.Model:
        """The model with the values of the last update. Ask for it anew after every `train`: the arrays that its
        variables held are gone then ("Array has been deleted")."""
        self.sync()
        return self._model

    @property
    def optimizer(self) -> keras.optimizers.Optimizer:
        """The optimizer with the values of the last update; as `model`."""
        self.sync()
        return self._optimizer

    def sync(self) -> None:
        """Write all values back to the Keras variables, which may then be read, saved and assigned to."""
        if self._state is not None:
            for variables, values in zip(self._variables(), self._state):
                for variable, value in zip(variables, values):
                    variable.assign(value)
            self._state = None

    def _variables(self) -> tuple[list, list, list]:
        return self._model.trainable_variables, self._model.non_trainable_variables, self._optimizer.variables

    def _taken(self) -> State:
        """The values, from the Keras variables where those hold them."""
        if self._state is None:
            self._state = State(*([variable.value for variable in variables] for variables in self._variables()))
        return self._state

    def train(self, batches: Sequence[Batch]) -> float:
        """One update from one or more micro-batches (x, y).

        Returns the mean loss over all samples of the update, from before the update.
        """
        count = np.float32(sum(samples(x) for x, _ in batches))
        state = self._taken()
        if len(batches) == 1:
            self._state, part = self._update(state, *_arrays(batches[0]), count)
            return float(part)
        if self._totals is None:            # made once, on the first update that needs them
            self._totals = [jax.numpy.zeros_like(value) for value in state.trained]
        total = 0.0
        for batch in batches:
            self._state, self._totals, part = self._accumulate(self._state, self._totals, *_arrays(batch), count)
            total += float(part)
        self._state, self._totals = self._apply(self._state, self._totals)
        return total

    def evaluate(self, x: Any, y: Any) -> dict[str, np.ndarray]:
        """Losses (B,) float32 without training, "loss" and its parts."""
        losses = self._evaluate(self._taken(), *_arrays((x, y)))
        return {name: np.asarray(value) for name, value in losses.items()}

    def agree(self, value: float) -> float:
        """The number itself: there is one worker."""
        return value


def _arrays(batch: Any) -> Any:
    """A batch's arrays as NumPy's, whatever made them."""
    return jax.tree_util.tree_map(np.asarray, tuple(batch))
