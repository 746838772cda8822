"""The gradient step on TensorFlow: GradientTape inside tf.function. Network/training/step.py chooses it.

Thesis, listing B-4, took the same step eagerly. What is added: gradient accumulation, float16 loss scaling,
XLA as a flag, and replicas. Under tf.distribute Keras *sums* gradients over replicas, so every loss is divided by
the sample count of the whole update, over micro-batches and replicas alike: one update is the same update,
however it is cut up (but for BatchNormalization, whose statistics are those of a micro-batch).
"""
from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any, Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from Network.training.batches import Batch, Loss, add_parts, samples
from Network.training.precision import resolve_precision
from Network.training.settings import STRATEGIES, Settings

log = logging.getLogger(__name__)


def make_strategy(name: str) -> tf.distribute.Strategy:
    """`none` (the default strategy), `mirrored` (this machine's GPUs) or `multiworker` (TF_CONFIG names the workers).

    ValueError for another name. A multi-worker strategy must be made before TensorFlow runs anything else.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name == "multiworker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {name!r}")


def gpu_has_bfloat16() -> bool | None:
    """Whether all GPUs multiply bfloat16 natively (NVIDIA: compute capability 8.0); None where there is no GPU."""
    found = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
             for gpu in tf.config.list_physical_devices("GPU")]
    return all(capability >= (8, 0) for capability in found) if found else None


def prepare(settings: Settings) -> tf.distribute.Strategy:
    """Set precision, seeds, determinism and GPU memory for this process, and return the strategy.

    Runs on a CPU with a notice. It sets global state of Keras and TensorFlow, so only scripts call it, once.
    ValueError where Keras runs on a backend that has no step.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"training needs KERAS_BACKEND tensorflow or jax, got {keras.backend.backend()}")
    strategy = make_strategy(settings.strategy)     # first: a multi-worker strategy must be made before anything runs
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:                        # the strategy has initialised the device already
            pass
    if not gpus:
        log.info("no GPU found: training on the CPU")
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(settings.seed)
    precision = resolve_precision(settings.precision, gpu_has_bfloat16())
    keras.config.set_dtype_policy(precision)
    return strategy


def summary_writer(folder: Path) -> Callable[[dict], None]:
    """A function that writes a row of the history for TensorBoard; it does nothing without TensorBoard."""
    if importlib.util.find_spec("tensorboard") is None:
        return lambda row: None
    writer = tf.summary.create_file_writer(str(folder / "tensorboard"))

    def write(row: dict) -> None:
        with writer.as_default(step=row["epoch"]):
            for name in ("loss", "val_loss", "learning_rate"):
                tf.summary.scalar(name, row[name])
        writer.flush()
    return write


def worker_of(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """(index of this worker process, number of worker processes)."""
    resolver = strategy.cluster_resolver
    several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    if not several or resolver is None or not resolver.task_type:
        return 0, 1
    spec = resolver.cluster_spec().as_dict()
    chiefs, workers = len(spec.get("chief", [])), len(spec.get("worker", []))
    index = resolver.task_id + (chiefs if resolver.task_type == "worker" else 0)
    return index, chiefs + workers


class GradientStep:
    """Trains and evaluates a model on batches.

    model      built inside `strategy.scope()`; `model(x, training=...)` -> (B, ...) float32
    optimizer  a keras optimizer, made inside the same scope; with float16 a keras LossScaleOptimizer
    loss       one value per sample
    jit        compile the step by XLA. For GPUs: on CPUs it compiled for minutes and ran slower
                    (docs/archive/2026-11.md)
    strategy   from `make_strategy`
    """

    def __init__(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, loss: Loss, *, jit: bool = False,
                 strategy: tf.distribute.Strategy | None = None) -> None:
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.strategy = strategy or tf.distribute.get_strategy()
        self.worker, self.workers = worker_of(self.strategy)
        self.local_replicas = max(1, self.strategy.num_replicas_in_sync // self.workers)
        self._accumulators: list[tf.Variable] | None = None
        with self.strategy.scope():
            if not optimizer.built:
                optimizer.build(model.trainable_variables)

        def gradients(x: Any, y: Any, count: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
            with tf.GradientTape() as tape:
                part = tf.reduce_sum(add_parts(self.loss(y, self.model(x, training=True)))) / count
                scaled = self.optimizer.scale_loss(part)
            return tape.gradient(scaled, self.model.trainable_variables), part

        def update(x: Any, y: Any, count: tf.Tensor) -> tf.Tensor:
            grads, part = gradients(x, y, count)
            self.optimizer.apply(grads, self.model.trainable_variables)
            return part

        def accumulate(x: Any, y: Any, count: tf.Tensor) -> tf.Tensor:
            grads, part = gradients(x, y, count)
            for total, grad in zip(self._accumulators or (), grads):
                total.assign_add(grad)
            return part

        def apply() -> None:
            grads = [total.read_value() for total in self._accumulators or ()]
            self.optimizer.apply(grads, self.model.trainable_variables)
            for total in self._accumulators or ():
                total.assign(tf.zeros_like(total))

        # no reduce_retracing: an unknown number of images would cost the ConvLSTMs their fast gradient
        compiled = {"jit_compile": jit or None}
        self._update = tf.function(self._replicated(update), **compiled)
        self._accumulate = tf.function(self._replicated(accumulate), **compiled)
        self._apply = tf.function(self._replicated(apply))
        self._evaluate = tf.function(lambda x, y: self.loss(y, self.model(x, training=False)), **compiled)

    def _replicated(self, function: Callable) -> Callable:
        """Run on every replica and add up what they return; the plain function where there is one replica."""
        if self.strategy.num_replicas_in_sync == 1:
            return function

        def run(*args):
            result = self.strategy.run(function, args=args)
            return None if result is None else self.strategy.reduce(tf.distribute.ReduceOp.SUM, result, axis=None)
        return run

    def _split(self, batch: Any) -> Any:
        """This worker's part of a batch, every array cut into equal slices for its replicas."""
        if self.local_replicas == 1:
            return tf.nest.map_structure(tf.convert_to_tensor, batch)
        if samples(batch) % self.local_replicas:
            raise ValueError(f"a batch must divide by the {self.local_replicas} replicas, got {samples(batch)} samples")

        def distributed(array: Any) -> Any:
            parts = np.split(np.asarray(array), self.local_replicas)
            return self.strategy.experimental_distribute_values_from_function(
                lambda context: tf.convert_to_tensor(parts[context.replica_id_in_sync_group % self.local_replicas]))
        return tf.nest.map_structure(distributed, batch)

    def train(self, batches: Sequence[Batch]) -> float:
        """One update from one or more micro-batches (x, y), this worker's part.

        Returns the mean loss over all samples of the update, over all workers, from before the update.
        """
        count = tf.constant(sum(samples(x) for x, _ in batches) * self.workers, tf.float32)
        if len(batches) == 1:
            return float(self._update(*map(self._split, batches[0]), count))
        if self._accumulators is None:      # made once, on the first update that needs them
            with self.strategy.scope():
                self._accumulators = [tf.Variable(
                    tf.zeros(v.shape, v.dtype), trainable=False, synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.SUM) for v in self.model.trainable_variables]
        total = sum(float(self._accumulate(*map(self._split, batch), count)) for batch in batches)
        self._apply()
        return total

    def evaluate(self, x: Any, y: Any) -> dict[str, np.ndarray]:
        """Losses (B,) float32 without training, "loss" and its parts; every worker evaluates all it is given."""
        parts = self._evaluate(*tf.nest.map_structure(tf.convert_to_tensor, (x, y)))
        named = parts if isinstance(parts, dict) else {}
        return {name: np.asarray(value) for name, value in {"loss": add_parts(parts), **named}.items()}

    def agree(self, value: float) -> float:
        """The mean of a number over all workers, so that each takes the same decision from it."""
        if self.workers == 1:
            return value
        per_replica = self.strategy.run(lambda: tf.constant(value, tf.float64))
        return float(self.strategy.reduce(tf.distribute.ReduceOp.MEAN, per_replica, axis=None))
