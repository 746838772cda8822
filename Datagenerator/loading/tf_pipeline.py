"""Batches through tf.data, whose threads make them; pipeline.py chooses it where Keras runs on TensorFlow.

The images are decoded by OpenCV inside the pipeline, not by `tf.io.decode_jpeg`. With `dct_method="INTEGER_ACCURATE"`
TensorFlow gives the same pixels (tested), but it knows nothing of EXIF, its minimum and maximum cost as much again as
the decoding, and measured side by side it was slower than this (tests/bench/generators.py,
docs/archive/2026-11.md).
"""
from __future__ import annotations

import weakref
from typing import Any, Callable, Iterator

import numpy as np
import tensorflow as tf


class Pipeline:
    """Iterate it for the (x, y) batches of one epoch from `start_batch` on, as float32 tensors; again for them again.

    x and y are what the sequence's `batch` gives; `dataset` is the tf.data.Dataset itself. An unreadable image is the
    ValueError of the sequence, not TensorFlow's InvalidArgumentError around it.
    """

    def __init__(self, dataset: tf.data.Dataset, length: int, errors: dict[int, Exception]) -> None:
        self.dataset, self._length, self._errors = dataset, length, errors

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        return _Batches(self.dataset, self._errors)


class _Batches:
    """One pass over a dataset; frees its threads at its end, when it is dropped, and before Python exits.

    Threads that still call into Python while the interpreter goes down abort the process (exit code 134).
    """

    def __init__(self, dataset: tf.data.Dataset, errors: dict[int, Exception]) -> None:
        errors.clear()
        self._errors = errors
        self._iterators = [iter(dataset)]
        weakref.finalize(self, self._iterators.clear)

    def __iter__(self) -> _Batches:
        return self

    def __next__(self) -> tuple[tf.Tensor, tf.Tensor]:
        if not self._iterators:
            raise StopIteration
        try:
            return next(self._iterators[0])
        except StopIteration:
            self._iterators.clear()
            raise
        except tf.errors.OpError:
            self._iterators.clear()
            if self._errors:
                raise self._errors[min(self._errors)] from None
            raise


def tensorflow_pipeline(load: Callable[[int], tuple[Any, Any]], shapes: tuple[Any, Any], start: int, stop: int,
                        workers: int, prefetch: int) -> Pipeline:
    """load(start), ..., load(stop - 1): (x, y) of these shapes, each an array or a dict of arrays, float32."""
    errors: dict[int, Exception] = {}       # by batch: several can fail at a time
    flat = [shape for part in shapes for shape in (part.values() if isinstance(part, dict) else [part])]

    def flattened(index: np.ndarray) -> list[np.ndarray]:
        try:
            return [array for part, keys in zip(load(int(index)), shapes)
                    for array in ([part[key] for key in keys] if isinstance(keys, dict) else [part])]
        except Exception as error:
            errors[int(index)] = error
            raise

    def batch(index: tf.Tensor) -> tuple[Any, Any]:
        arrays = iter(tf.numpy_function(flattened, [index], [tf.float32] * len(flat), stateful=False))
        return tuple({key: tf.ensure_shape(next(arrays), shape) for key, shape in part.items()}
                     if isinstance(part, dict) else tf.ensure_shape(next(arrays), part) for part in shapes)

    options = tf.data.Options()
    options.deterministic = True
    # nothing here is left to tune, and its thread held up the end of one epoch in five by 2 s (TensorFlow 2.21)
    options.autotune.enabled = False
    # batches are sharded here, by position: TensorFlow must not do it again
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    dataset = tf.data.Dataset.range(start, stop).map(batch, num_parallel_calls=workers, deterministic=True)
    return Pipeline(dataset.prefetch(prefetch).with_options(options), stop - start, errors)
