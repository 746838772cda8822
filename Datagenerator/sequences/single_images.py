"""What sequences of single images from shards have in common: their length, and which worker makes which image."""
from __future__ import annotations

from typing import Any

import numpy as np

from Datagenerator.loading.epoch import Shard, shard_rows
from Datagenerator.sequences.keypoints import ImageSource
from Dataset.synthesis.shards import Shards


def divided(shards: Shards, validation_subjects: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices in a folder of (training, held out) subjects: the lowest numbers are held out. By number, not by index: a
    folder may grow or lack a shard. ValueError when none are left for either."""
    held = shards.subjects < validation_subjects
    training, held_out = np.flatnonzero(~held), np.flatnonzero(held)
    if not len(training) or not len(held_out):
        raise ValueError(f"{shards.path}: {len(training)} subjects to train on and {len(held_out)} for validation; "
                         f"validation_subjects is {validation_subjects}")
    return training, held_out


class ImageSequence:
    """Of `batch_size` images a batch, each of another subject where there are enough; `pipeline.make_pipeline` makes
    the batches of what derives from it.

    config   with `batch_size` and `batches`; subjects: numbers of those in use
    """

    def __init__(self, shards: ImageSource, subjects: np.ndarray, config: Any, training: bool) -> None:
        self.shards, self.subjects, self.config, self.training = shards, np.asarray(subjects), config, training

    def __len__(self) -> int:
        """Batches of an epoch; for held-out subjects, enough to show each of them about twice."""
        if self.training:
            return self.config.batches
        return max(1, len(self.subjects) * min(2, self.shards.images) // self.config.batch_size)

    def rows(self, index: int, shard: Shard = Shard()) -> range:
        """Positions of a batch's images that this worker makes."""
        return shard_rows(range(self.config.batch_size), shard)

    def check_shard(self, shard: Shard) -> None:
        """ValueError when a batch has no images for a worker."""
        if not self.rows(0, shard):
            raise ValueError(f"a batch of {self.config.batch_size} images is too small for {shard.count} workers "
                             f"x {shard.replicas} replicas")

    def _who(self, rng: np.random.Generator, index: int, each: int) -> tuple[np.ndarray, np.ndarray]:
        """subjects, images (B, each) of a batch: in training drawn, else in turn, each subject's first images first."""
        count = self.config.batch_size
        if self.training:
            subjects = rng.choice(self.subjects, (count, each))
            subjects[:, 0] = rng.choice(self.subjects, count, replace=count > len(self.subjects))
            return subjects, rng.integers(self.shards.images, size=(count, each))
        number = (index * count + np.arange(count))[:, None] + np.arange(each)
        return self.subjects[number % len(self.subjects)], number // len(self.subjects) % self.shards.images
