"""Shards of synthetic subjects -> batches for `compact`: crops, their keypoints, targets; for
`convlstm`: crops and the truth alone.

A batch holds subjects with T images each, T drawn anew for every batch, and always about as many images, so that its
cost does not depend on T. What a batch holds depends on (seed, epoch, index) alone.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from Datagenerator.augmentation.augment import DEFAULT, Sample, augment
from Datagenerator.loading.epoch import Shard, shard_rows
from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.representations.targets import Targets, targets_on_template
from Dataset.seeding import BATCHES, stream
from Dataset.synthesis.shards import Shards

KEYPOINT_SIDE = 16                     # side of the grid of keypoints


@dataclass(frozen=True)
class ShardConfig:
    """Settings of the generator. ValueError for a value out of range."""

    min_images: int = 1          # T of a batch is drawn evenly from here ...
    max_images: int = 8            # ... to here
    batch_images: int = 64          # images of a batch, all subjects together, at most
    batches: int = 250              # of an epoch
    validation_subjects: int = 128    # held out: the subjects of the lowest numbers
    image_size: int = 128           # pixels; images of a multiple of it are averaged down
    points: int = 2**14             # N of a ground truth
    mirror: bool = True             # half of the subjects left for right
    augment: bool = True            # Datagenerator/augmentation/augment.py
    fade_epochs: int = 60           # epochs over which the noise of augmentation fades to zero
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("min_images", "max_images", "batch_images", "batches", "validation_subjects", "fade_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.min_images <= self.max_images <= self.batch_images:
            raise ValueError(f"min_images <= max_images <= batch_images must hold, got {self.min_images}, "
                             f"{self.max_images}, {self.batch_images}")


@dataclass(frozen=True)
class PointConfig(ShardConfig):
    """Settings of `PointSequence`."""


class ImageSource(Protocol):
    """Where the images are: `Dataset.synthesis.shards.Shards`, `Datagenerator.online.live.LiveSubjects`. path: named in
    messages; images: of each subject; size: px; gather: as `Shards.gather`, thread-safe."""

    path: object
    images: int
    size: int

    def gather(self, name: str, subjects: np.ndarray, images: np.ndarray | None = None) -> np.ndarray: ...


class ShardSequence:
    """Batches (x, y) of an epoch; `pipeline.make_pipeline` makes them in parallel and ahead.

    x   (B, T, S, S, 3) float32, BGR, each image alone stretched to [0, 1]
    y   keypoints (B, T, 256, 2) float32 in normalised coordinates, (0, 0) the top left corner; seen (B, T, 256)
        float32, 1 or 0

    subjects  numbers of the subjects in use; training: as the config says, else no mirroring, no augmentation, and T
              takes
            its values in turn
    """

    def __init__(self, shards: ImageSource, subjects: np.ndarray, config: ShardConfig, targets: Targets, training: bool
                 ) -> None:
        if shards.size % config.image_size:
            raise ValueError(f"{shards.path}: holds images of {shards.size} px, which must be a multiple of "
                             f"image_size {config.image_size}")
        if shards.images < config.max_images:
            raise ValueError(f"{shards.path}: holds {shards.images} images of each subject, "
                             f"max_images is {config.max_images}")
        self.shards, self.subjects, self.config = shards, subjects, config
        self.targets, self.training = targets, training

    def __len__(self) -> int:
        """Batches of an epoch; for held-out subjects, enough to show each of them about twice."""
        return self.config.batches if self.training else max(1, 2 * len(self.subjects) // self._subjects(4))

    def _subjects(self, images: int) -> int:
        return min(len(self.subjects), self.config.batch_images // images)

    @property
    def shapes(self) -> tuple[tuple, dict[str, tuple]]:
        """Shapes of x and y; None is what varies."""
        size, count = self.config.image_size, KEYPOINT_SIDE ** 2
        return (None, None, size, size, 3), {"keypoints": (None, None, count, 2), "seen": (None, None, count)}

    def rows(self, index: int, shard: Shard = Shard()) -> range:
        """Positions of subjects in a batch of the most images: never empty where there are enough of them."""
        return shard_rows(range(self._subjects(self.config.max_images)), shard)

    def check_shard(self, shard: Shard) -> None:
        """ValueError when the smallest batch has no subjects for a worker."""
        if not self.rows(0, shard):
            raise ValueError(f"a batch of {self.config.max_images} images of each subject has "
                             f"{self._subjects(self.config.max_images)} subjects, too few for {shard.count} workers "
                             f"x {shard.replicas} replicas")

    def pool(self, epoch: int, index: int) -> np.ndarray:
        """The subjects that a batch may hold: all in use. `Datagenerator.online.live` moves on from batch to batch."""
        return self.subjects

    def draw(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
        """Numbers of a batch's subjects (B,), of each one's images (B, T), and the generator for the rest."""
        rng = stream(self.config.seed, BATCHES, epoch, index)
        low, high = self.config.min_images, self.config.max_images
        images = int(rng.integers(low, high + 1)) if self.training else low + index % (high + 1 - low)
        subjects = rng.choice(self.pool(epoch, index), self._subjects(images), replace=False)
        chosen = np.stack([rng.choice(self.shards.images, images, replace=False) for _ in subjects])
        return subjects, chosen, rng

    def batch(self, epoch: int, index: int, shard: Shard = Shard()) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Batch `index` of an epoch, or one worker's part of it. Depends on its arguments alone; thread-safe."""
        return self._crops(epoch, index, shard)[:2]

    def _crops(self, epoch: int, index: int, shard: Shard
               ) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """A batch, the numbers of its subjects (B,), and which of them are mirrored (B,) bool."""
        subjects, chosen, rng = self.draw(epoch, index)
        size, (count, images) = self.config.image_size, chosen.shape
        seeds = rng.integers(2**63, size=(count, images))
        mirrored = rng.random(count) < (0.5 if self.training and self.config.mirror else 0.0)
        rows = np.asarray(shard_rows(range(count), shard), np.int64)
        x = np.empty((len(rows), images, size, size, 3), np.float32)
        keypoints = np.empty((len(rows), images, KEYPOINT_SIDE ** 2, 2), np.float32)
        seen = np.empty((len(rows), images, KEYPOINT_SIDE ** 2), np.float32)
        strangers = rng.choice(self.pool(epoch, index), (count, images))    # whose images fill some of the occluders
        subjects, chosen, strangers = subjects[rows], chosen[rows], strangers[rows]
        pixels, points, visible = (self.shards.gather(name, subjects, chosen)
                                   for name in ("images", "image_points", "visible"))
        others = [self.shards.gather("images", row, np.zeros(images, np.int64)) for row in strangers
                  ] if self.training and self.config.augment else []
        progress = min(1.0, epoch / self.config.fade_epochs)
        for i, row in enumerate(rows):
            for j in range(images):
                sample = Sample(pixels[i, j], points[i, j], visible[i, j])
                if mirrored[row]:
                    sample = mirror(sample)
                if self.training and self.config.augment:
                    other = others[i][j]
                    sample = augment(sample, np.random.default_rng(seeds[row, j]), DEFAULT, progress, other)
                small = sample.image
                if len(small) != size:
                    small = cv2.resize(small, (size, size), interpolation=cv2.INTER_AREA)
                cv2.normalize(small, x[i, j], 0.0, 1.0, cv2.NORM_MINMAX, cv2.CV_32F)
                keypoints[i, j] = sample.points / self.shards.size
                seen[i, j] = sample.visible & ((keypoints[i, j] >= 0) & (keypoints[i, j] <= 1)).all(1)
        return x, {"keypoints": keypoints, "seen": seen}, subjects, mirrored[rows]


class PointSequence(ShardSequence):
    """The same batches for a network that predicts points (`convlstm`): y is the points (B, N, 3) float32, unit sphere,
    brought onto the template."""

    @property
    def shapes(self) -> tuple[tuple, tuple]:
        """Shapes of x and y; None is what varies."""
        return super().shapes[0], (None, self.config.points, 3)

    def batch(self, epoch: int, index: int, shard: Shard = Shard()) -> tuple[np.ndarray, np.ndarray]:
        """As `ShardSequence.batch`."""
        x, _, subjects, mirrored = self._crops(epoch, index, shard)
        points = self.targets(self.shards.gather("identity", subjects))
        for i in np.flatnonzero(mirrored):
            points[i] = mirror_grid(points[i])
        return x, points


def mirror(sample: Sample) -> Sample:
    """An image left for right; its keypoints keep their meaning: column c of the grid becomes column 15 - c."""
    points = sample.points * (-1, 1) + (sample.image.shape[1], 0)

    def turned(array: np.ndarray) -> np.ndarray:
        return array.reshape(KEYPOINT_SIDE, KEYPOINT_SIDE, -1)[:, ::-1].reshape(array.shape)
    return Sample(np.ascontiguousarray(sample.image[:, ::-1]), turned(points).astype(np.float32),
                  turned(sample.visible))


def mirror_grid(points: np.ndarray) -> np.ndarray:
    """An ordered grid (N, 3) of the face left for right (the grid is symmetric to 0.02 mm on the mean face)."""
    side = round(len(points) ** 0.5)
    return (points.reshape(side, side, 3)[:, ::-1] * np.array([-1, 1, 1], points.dtype)).reshape(-1, 3)


def make_sequences(shards: Shards, config: ShardConfig, model: FaceModel | None = None
                   ) -> tuple[ShardSequence, ShardSequence]:
    """(training, validation): subjects of the lowest numbers are held out. ValueError when too few are left to
    train."""
    # by number, not by position: a folder may grow, or lack a shard, and no subject changes sides
    held = shards.subjects < config.validation_subjects
    training, held_out = np.flatnonzero(~held), np.flatnonzero(held)
    if len(training) < config.batch_images // config.min_images or not len(held_out):
        raise ValueError(f"{shards.path}: {len(training)} subjects to train on and {len(held_out)} for validation "
                         f"are too few for a batch of {config.batch_images // config.min_images}")
    targets = targets_on_template(config.points, model or load_face_model())
    kind = PointSequence if isinstance(config, PointConfig) else ShardSequence
    return kind(shards, training, config, targets, True), kind(shards, held_out, config, targets, False)
