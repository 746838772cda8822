"""The batches of a sequence: same numbers, same order, made in parallel and ahead of the trainer.

Through tf.data where Keras runs on TensorFlow (tf_pipeline.py), else by plain threads (threads.py): the same bytes.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import keras

from Datagenerator.loading.epoch import Shard
from Dataset.io.workers import cores

if TYPE_CHECKING:
    from Datagenerator.loading.tf_pipeline import Pipeline
    from Datagenerator.loading.threads import ThreadPipeline


class Sequence(Protocol):
    """What a pipeline can be made of: `SubjectSequence`, `ShardSequence`."""

    #: shapes of x and y with None for what varies; either may be a dict of arrays
    shapes: tuple[Any, Any]

    def __len__(self) -> int: ...

    def rows(self, index: int, shard: Shard) -> range: ...

    def batch(self, epoch: int, index: int, shard: Shard) -> tuple[Any, Any]: ...

    def check_shard(self, shard: Shard) -> None:
        """ValueError when batches do not divide among the workers."""


def make_pipeline(sequence: Sequence, epoch: int, start_batch: int = 0, shard: Shard | tuple[int, ...] = Shard(),
                  workers: int | None = None, prefetch: int = 2) -> Pipeline | ThreadPipeline:
    """The batches `start_batch`, `start_batch` + 1, ... of an epoch, float32 tensors or arrays; it has a length.

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
    sequence.check_shard(shard)
    if workers is not None and workers < 1 or prefetch < 0:
        raise ValueError(f"workers must be at least 1 and prefetch at least 0, got {workers} and {prefetch}")
    workers = workers or min(4, cores())
    stop = len(sequence)
    if stop and not len(sequence.rows(stop - 1, shard)):    # only the last batch can be too small to share
        stop -= 1
    start_batch = min(start_batch, stop)

    def load(index: int) -> tuple[Any, Any]:
        return sequence.batch(epoch, index, shard)

    if keras.backend.backend() == "tensorflow":
        from Datagenerator.loading.tf_pipeline import tensorflow_pipeline
        return tensorflow_pipeline(load, sequence.shapes, start_batch, stop, workers, prefetch)
    from Datagenerator.loading.threads import ThreadPipeline
    return ThreadPipeline(load, start_batch, stop, workers, prefetch)
