"""Subject folders -> batches: the thesis's generator (Thomassen 2022, 4.2.2 and listing B-3).

A sample is T images of one subject and that subject's one ground truth. Left out: nothing. What differs from the
listing, and the fields that bring it back, is in docs/deviations.md.
"""
from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Sequence

import cv2
import keras
import numpy as np

from Datagenerator.loading.buffers import BufferPool
from Datagenerator.loading.epoch import Groups, Shard, batch_count, batch_rows, epoch_groups, group_count, shard_rows
from Datagenerator.loading.image_store import CACHES, ImageStore
from Dataset.geometry.transforms import to_origin, to_unit_sphere
from Dataset.sources.subjects import Subject, list_subjects, read_points

log = logging.getLogger(__name__)

NORMALISATIONS = ("unit_sphere", "origin")
LAST_BATCH = ("keep", "drop")


@dataclass(frozen=True)
class DataConfig:
    """Settings of the generator; the defaults are the thesis's (4.3 and listings B-3 and B-4)."""

    images: int = 8                         # T, images of one sample
    batch_size: int = 5                     # B, samples of a batch, over all workers
    repeats: int = 5                        # times a subject's images are shuffled and cut; 1 in the released code
    normalisation: str = "unit_sphere"      # of the ground truth; origin: smallest x, y and z at 0, still millimetres
    image_size: int = 256                   # pixels, square images
    points: int = 2**14                     # N, points of a ground truth
    seed: int = 0
    as_published: bool = False              # the listing's index slip: an epoch sees floor(S/B) + B - 1 of S groups
    last_batch: str = "keep"                # drop: an incomplete last batch is left out (the listing)
    resize: bool = False                    # scale images of another size instead of refusing them
    cache: str = "auto"                     # keep decoded images in memory: uint8, none, auto (where they fit)
    cache_limit: int | None = None          # bytes; none: a third of the free memory

    def __post_init__(self) -> None:
        for name in ("images", "batch_size", "repeats", "image_size", "points"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        for name, values in (("normalisation", NORMALISATIONS), ("last_batch", LAST_BATCH), ("cache", CACHES)):
            if getattr(self, name) not in values:
                raise ValueError(f"{name} must be one of {', '.join(values)}, got {getattr(self, name)!r}")


class SubjectSequence(keras.utils.Sequence):
    """Batches of (X, Y) from subject folders, for `fit` or a loop; `pipeline.make_pipeline` is the fast way to them.

    X   (B, T, S, S, 3) float32, BGR, each image alone stretched to [0, 1]
    Y   (B, N, 3) float32, the ground truth of each sample's subject: in the unit sphere, or in mm from its corner

    source   a folder of subject folders, or a list of `Dataset.sources.subjects.Subject`
    names    only these subjects, in this order (a split); None: all of them

    `subjects` are the subjects in use, `skipped` the names of those with fewer than T images (the listing drops them
    silently; a warning is logged here). Items are those of `epoch`; `set_epoch` chooses it, in `fit` by
    `keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: sequence.set_epoch(epoch))`.

    ValueError, one line: no subjects, an unknown name, no subject with T images, fewer groups than the batch needs, a
    ground truth of another number of points; when a batch is read, an image that is broken or of another size.
    """

    def __init__(self, source: str | os.PathLike[str] | Iterable[Subject], config: DataConfig = DataConfig(),
                 names: Sequence[str] | None = None, **workers: int) -> None:
        super().__init__(**workers)
        self.config, self.epoch = config, 0
        subjects, where = _subjects(source, names)
        self.subjects = [subject for subject in subjects if len(subject.images) >= config.images]
        self.skipped = tuple(subject.name for subject in subjects if len(subject.images) < config.images)
        if not self.subjects:
            limit = max(len(subject.images) for subject in subjects)
            raise ValueError(f"{where}: a sample takes {config.images} images of one subject, the most that any of "
                             f"{len(subjects)} subjects has is {limit}")
        if self.skipped:
            log.warning("%s: %d of %d subjects have fewer than %d images and are left out: %s", where,
                        len(self.skipped), len(subjects), config.images, ", ".join(self.skipped))
        self._counts = tuple(len(subject.images) for subject in self.subjects)
        self._first = np.concatenate([[0], np.cumsum(self._counts)])
        self._groups = group_count(self._counts, config.images, config.repeats)
        if len(self) == 0:
            raise ValueError(f"{where}: a batch takes {config.batch_size} samples, an epoch has {self._groups}")
        self._store = ImageStore([path for subject in self.subjects for path in subject.images], config.image_size,
                                 config.resize, config.cache, config.cache_limit)
        self._buffers = BufferPool(config.batch_size * config.images * config.image_size**2 * 3)
        self._targets = np.stack([_ground_truth(subject.ground_truth, config) for subject in self.subjects])

    @property
    def cached(self) -> bool:
        """Whether decoded images are kept in memory."""
        return self._store.cached

    def __len__(self) -> int:
        """Batches of an epoch."""
        drop = self.config.as_published or self.config.last_batch == "drop"
        return batch_count(self._groups, self.config.batch_size, drop)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.batch(self.epoch, index)

    def mean_target(self) -> np.ndarray:
        """The mean of the subjects' ground targets (N, 3) float32: a face where their order is one, else a heap."""
        return self._targets.mean(axis=0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that indexing gives. `batch` names the epoch itself and is for loops with threads."""
        if epoch < 0:
            raise ValueError(f"epoch must be at least 0, got {epoch}")
        self.epoch = epoch

    def groups(self, epoch: int) -> Groups:
        """All groups of an epoch in their order: indices into `subjects` and into each one's `images`."""
        return epoch_groups(self._counts, self.config.images, self.config.repeats, self.config.seed, epoch)

    def rows(self, index: int, shard: Shard = Shard()) -> range:
        """Positions in `groups(epoch)` that stand in batch `index` (in one worker's part of it). IndexError beyond."""
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of an epoch of {len(self)}")
        return shard_rows(batch_rows(self._groups, self.config.batch_size, index, self.config.as_published), shard)

    @property
    def shapes(self) -> tuple[tuple[int | None, ...], tuple[int | None, ...]]:
        """Shapes of X and Y; None is the number of samples."""
        config = self.config
        return (None, config.images, config.image_size, config.image_size, 3), (None, config.points, 3)

    def check_shard(self, shard: Shard) -> None:
        """ValueError when a batch does not divide among the workers and their replicas."""
        if self.config.batch_size % (shard.count * shard.replicas):
            raise ValueError(f"batch_size must divide by {shard.count} workers x {shard.replicas} replicas, "
                             f"got {self.config.batch_size}")

    def names(self, epoch: int, index: int, shard: Shard = Shard()) -> list[str]:
        """The name of each sample's subject in a batch."""
        chosen = self.groups(epoch).subjects[np.asarray(self.rows(index, shard), np.int64)]
        return [self.subjects[subject].name for subject in chosen]

    def batch(self, epoch: int, index: int, shard: Shard = Shard()) -> tuple[np.ndarray, np.ndarray]:
        """Batch `index` of an epoch, or one worker's part of it. Depends on its arguments alone; thread-safe."""
        rows, groups, size = self.rows(index, shard), self.groups(epoch), self.config.image_size
        images = self._buffers.empty((len(rows), self.config.images, size, size, 3))
        for sample, row in enumerate(rows):
            first = self._first[groups.subjects[row]]
            for step, image in enumerate(groups.images[row]):
                _minmax(self._store[first + image], images[sample, step])
        return images, self._targets[groups.subjects[np.asarray(rows, np.int64)]]


class LSTMDataset_V3(SubjectSequence):
    """The listing's generator (B-3) under its name and with its arguments: (X, Y) of `SubjectSequence`.

    path        a folder of subject folders
    images      T; batch_size B; an incomplete last batch is left out
    norm        targets in the unit sphere, else in mm from their corner
    N           points of a ground truth
    Left out: the slip in its index, which `DataConfig.as_published` has.
    """

    def __init__(self, path: str | os.PathLike[str], images: int = 5, batch_size: int = 1, norm: bool = True,
                 N: int = 27508) -> None:
        super().__init__(path, DataConfig(images=images, batch_size=batch_size, points=N, last_batch="drop",
                                          normalisation="unit_sphere" if norm else "origin"))

    def on_epoch_end(self) -> None:
        """The next epoch: other images of each subject together, in another order."""
        self.set_epoch(self.epoch + 1)


LSTMDataSet_V3 = LSTMDataset_V3         # as listings B-4 and B-7 spell it


def _minmax(image: np.ndarray, out: np.ndarray) -> None:
    """`Dataset.io.images.minmax` into a row of a batch, bit for bit, without two copies of the image on the way."""
    cv2.normalize(image, out, 0.0, 1.0, cv2.NORM_MINMAX, cv2.CV_32F)


def _subjects(source: str | os.PathLike[str] | Iterable[Subject], names: Sequence[str] | None
              ) -> tuple[list[Subject], str]:
    """The chosen subjects, and the name of their source for error messages."""
    if isinstance(source, (str, os.PathLike)):
        subjects, where = list_subjects(Path(source)), str(source)
    else:
        subjects = list(source)
        where = str(Path(subjects[0].ground_truth).parent.parent) if subjects else "dataset"
    if names is not None:
        known = {subject.name: subject for subject in subjects}
        missing = [name for name in names if name not in known]
        if missing:
            raise ValueError(f"{where}: no subject {', '.join(missing[:5])}; it has {len(known)} subjects"
                             + (f", {min(known)} to {max(known)}" if known else ""))
        subjects = [known[name] for name in names]
    if not subjects:
        raise ValueError(f"{where}: at least one subject is needed, got none")
    return subjects, where


def _ground_truth(path: Path, config: DataConfig) -> np.ndarray:
    """(N, 3) float32, normalised in float64 as published."""
    points = np.asarray(read_points(path), np.float64)
    if len(points) != config.points:
        raise ValueError(f"{path}: a ground truth must have {config.points} points (points), this has {len(points)}: "
                         f"make the folders with --points {config.points}, or read them with --points {len(points)}")
    normalise = to_unit_sphere if config.normalisation == "unit_sphere" else to_origin
    try:
        return normalise(points)[0].astype(np.float32)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
