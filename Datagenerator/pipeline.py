"""The batches of `dataset.py` through tf.data: same numbers, same order, made in parallel and ahead of the trainer.

The images are decoded by OpenCV inside the pipeline, not by `tf.io.decode_jpeg`. With `dct_method="INTEGER_ACCURATE"`
TensorFlow gives the same pixels (tested), but it knows nothing of EXIF, its minimum and maximum cost as much again as
the decoding, and measured side by side it was slower than this (tests/bench/generators.py, docs/results.md).
"""
from __future__ import annotations

import os
import weakref
from typing import Iterator

import numpy as np
import tensorflow as tf

from Datagenerator.dataset import SubjectSequence
from Datagenerator.epoch import Shard


class Pipeline:
    """Iterate it for the (X, Y) batches of one epoch from `start_batch` on, as float32 tensors; again for them again.

    X   (B, T, S, S, 3), Y (B, N, 3), as `SubjectSequence` gives them; `dataset` is the tf.data.Dataset itself.
    An unreadable image is the ValueError of `SubjectSequence`, not TensorFlow's InvalidArgumentError around it.
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


def make_pipeline(sequence: SubjectSequence, epoch: int, start_batch: int = 0,
                  shard: Shard | tuple[int, ...] = Shard(), workers: int | None = None, prefetch: int = 2) -> Pipeline:
    """The batches `start_batch`, `start_batch` + 1, ... of an epoch.

    start_batch   where an interrupted epoch goes on; at most the length of the epoch, which gives no batch at all
    shard         (index, count[, replicas]): one worker's equal part of every batch. A batch must divide by
                  count*replicas; a last, smaller one is cut down to that, and left out where nothing remains
    workers       batches made at a time; None: one per CPU core, at most 4
    prefetch      finished batches that wait for the trainer (31 MB each at the thesis's sizes)

    ValueError when an argument is out of its range.
    """
    shard = Shard(*shard)
    if not 0 <= start_batch <= len(sequence):
        raise ValueError(f"start_batch must be from 0 to {len(sequence)}, got {start_batch}")
    if not (shard.count >= 1 and shard.replicas >= 1 and 0 <= shard.index < shard.count):
        raise ValueError(f"a shard is (index, count, replicas) with 0 <= index < count, got {tuple(shard)}")
    config = sequence.config
    if config.batch_size % (shard.count * shard.replicas):
        raise ValueError(f"batch_size must divide by {shard.count} workers x {shard.replicas} replicas, "
                         f"got {config.batch_size}")
    if workers is not None and workers < 1 or prefetch < 0:
        raise ValueError(f"workers must be at least 1 and prefetch at least 0, got {workers} and {prefetch}")
    workers = workers or min(4, _cores())
    stop = len(sequence)
    if stop and not len(sequence.rows(stop - 1, shard)):    # only the last batch can be too small to share
        stop -= 1
    start_batch = min(start_batch, stop)
    errors: dict[int, Exception] = {}       # by batch: several can fail at a time

    def load(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            return sequence.batch(epoch, int(index), shard)
        except Exception as error:
            errors[int(index)] = error
            raise

    def batch(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x, y = tf.numpy_function(load, [index], (tf.float32, tf.float32), stateful=False)
        return (tf.ensure_shape(x, (None, config.images, config.image_size, config.image_size, 3)),
                tf.ensure_shape(y, (None, config.points, 3)))

    options = tf.data.Options()
    options.deterministic = True
    # nothing here is left to tune, and its thread held up the end of one epoch in five by 2 s (TensorFlow 2.21)
    options.autotune.enabled = False
    # batches are sharded here, by position: TensorFlow must not do it again
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    dataset = tf.data.Dataset.range(start_batch, stop).map(batch, num_parallel_calls=workers, deterministic=True)
    return Pipeline(dataset.prefetch(prefetch).with_options(options), stop - start_batch, errors)


def _cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
