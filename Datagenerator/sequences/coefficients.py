"""Shards of synthetic subjects -> batches for the `coarse` network: crops, renderings of a wrong estimate, the target.

Endrawis 2018, 3.1.1: of true coefficients x and random ones q, PNCC and normals are rendered from p x + (1 - p) q, p
uniform in [0, 1], so that the network learns to correct what an earlier pass left, and the image is cropped
accordingly: where that perturbed geometry lies (`Dataset.representations.coefficients.crop_at`), as
Network/inference/iterate.py cuts it by the last pass's. The paper does not say what q is, nor whether the pose is
perturbed; here q is another subject with another expression, and the pose is mixed, too, as a detector's box leaves it
open. What a batch holds depends on (seed, epoch, index) alone.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator

import cv2
import numpy as np

from Datagenerator.augmentation.augment import DEFAULT, Sample, augment
from Datagenerator.loading.epoch import Shard
from Datagenerator.sequences.keypoints import ImageSource
from Datagenerator.sequences.single_images import ImageSequence, divided
from Dataset.io.images import crop_resample, minmax
from Dataset.representations.coefficients import (COUNT, EXPRESSION, IDENTITY, POSE, START_POSE, crop_at, encode,
                                                  mean_face, recropped)
from Dataset.representations.pncc import CHANNELS, built_in_unit
from Dataset.seeding import BATCHES, stream
from Dataset.synthesis.shards import Shards

#: standard deviations of a wrong pose at p = 0: yaw, pitch, roll (radians), ln of the scale, position (sides)
POSE_NOISE = np.array([0.35, 0.2, 0.2, 0.1, 0.06, 0.06], np.float32)


WHOLE = (0.0, 0.0, 1.0, 1.0)    # the box of the shards' image, in its sides


@dataclass(frozen=True)
class CoefficientConfig:
    """Settings of the generator. ValueError for a value out of range."""

    batch_size: int = 64
    batches: int = 250              # of an epoch
    validation_subjects: int = 128    # held out: the subjects of the lowest numbers
    image_size: int = 96            # pixels, at most those of the shards
    feedback: bool = True           # renderings of an estimate, and its crop; False: the image alone, as it was cut
    p_min: float = 0.0              # p is uniform in [p_min, 1]: the paper's 0; 6.3 suggests trying 0.5
    start: float = 0.25             # fraction of samples with the first estimate of an iteration: mean face, START_POSE
    mean_q: float = 0.25            # fraction of the others whose q is the mean face: the estimate is the truth, shrunk
    start_pose: float = 0.5         # fraction of the others whose q has START_POSE; else random, near the true pose
    augment: bool = True            # Datagenerator/augmentation/augment.py; what it moves, the true pose follows
    fade_epochs: int = 60           # epochs over which the noise of augmentation fades to zero
    seed: int = 0

    def __post_init__(self) -> None:
        for name, limit in (("batch_size", 4096), ("batches", 10**6), ("validation_subjects", 10**6),
                            ("image_size", 512), ("fade_epochs", 10**6)):
            if not 1 <= getattr(self, name) <= limit:
                raise ValueError(f"{name} must be within 1 to {limit}, got {getattr(self, name)}")
        for name in ("p_min", "start", "mean_q", "start_pose"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be within 0 to 1, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")


class CoefficientSequence(ImageSequence):
    """Batches (x, y) of an epoch; `pipeline.make_pipeline` makes them in parallel and ahead.

    x   (B, S, S, 9) float32 in [0, 1]: image BGR, cropped where the estimate lies and stretched to [0, 1]; PNCC and
        normals of the estimate, as `Dataset.representations.pncc.RenderingUnit` draws them; without `feedback` (B, S,
        S, 3)
    y   (B, 290) float32, `Dataset.representations.coefficients`: the target, whose pose in this crop is the weak
        perspective nearest to what the image's camera did

    subjects: numbers of those in use; training: as the config says, else images are not changed and taken in turn.
    """

    def __init__(self, shards: ImageSource, subjects: np.ndarray, config: CoefficientConfig, training: bool) -> None:
        if config.image_size > shards.size:
            raise ValueError(f"{shards.path}: holds images of {shards.size} px, fewer than image_size "
                             f"{config.image_size}")
        super().__init__(shards, subjects, config, training)
        self._unit = built_in_unit()

    @property
    def shapes(self) -> tuple[tuple, tuple]:
        """Shapes of x and y; None is what varies."""
        size = self.config.image_size
        return (None, size, size, 3 + CHANNELS * self.config.feedback), (None, COUNT)

    def batch(self, epoch: int, index: int, shard: Shard = Shard()) -> tuple[np.ndarray, np.ndarray]:
        """Batch `index` of an epoch, or one worker's part of it. Depends on its arguments alone; thread-safe."""
        count, size, rows = self.config.batch_size, self.config.image_size, self.rows(index, shard)
        rng = stream(self.config.seed, BATCHES, epoch, index)
        subjects = rng.choice(self.subjects, (2, count))        # the subject, and q, who lends occluders
        images = rng.integers(self.shards.images, size=(2, count))
        if self.training:
            subjects[0] = rng.choice(self.subjects, count, replace=count > len(self.subjects))
        else:
            number = index * count + np.arange(count)
            subjects[0], images[0] = self.subjects[number % len(self.subjects)], number // len(self.subjects)
            images[0] %= self.shards.images
        seeds = rng.integers(2**63, size=count)
        subjects, images, seeds = subjects[:, rows], images[:, rows], seeds[rows]
        samples = self._samples(subjects, images, seeds, min(1.0, epoch / self.config.fade_epochs))
        identity, expression = ([self.shards.gather(name, who, *which) for who, which in zip(subjects, indices)]
                                for name, indices in (("identity", ((), ())), ("expression", images[:, None])))
        points = np.stack([sample.points for sample in samples])
        target = encode(identity[0], expression[0], points, self.shards.size, self._unit.model)
        if not self.config.feedback:
            return np.stack([stretched(sample.image, size) for sample in samples]), target
        estimate = np.zeros_like(target)
        estimate[:, IDENTITY], estimate[:, EXPRESSION] = identity[1], expression[1]
        x = np.empty((len(rows), size, size, 3 + CHANNELS), np.float32)
        for i, (seed, sample) in enumerate(zip(seeds, samples)):
            estimate[i] = perturbed(target[i], estimate[i], np.random.default_rng((seed, 1)), self.config)
            box = crop_at(estimate[i])
            target[i], estimate[i] = recropped(target[i], WHOLE, box), recropped(estimate[i], WHOLE, box)
            x[i, ..., :3] = minmax(crop_resample(sample.image, self.shards.size * np.array(box), size))
        self._unit.many(estimate, size, out=x[..., 3:])
        return x, target

    def _samples(self, subjects: np.ndarray, images: np.ndarray, seeds: np.ndarray, progress: float) -> list[Sample]:
        """The shards' images (P, P, 3) uint8, augmented, with where the 16x16 grid lies in them, (256, 2) px."""
        samples = [Sample(*sample) for sample in zip(*(self.shards.gather(name, subjects[0], images[0])
                                                       for name in ("images", "image_points", "visible")))]
        if not (self.config.augment and self.training):
            return samples
        others = self.shards.gather("images", subjects[1], images[1])
        return [augment(sample, np.random.default_rng((seed, 0)), DEFAULT, progress, other)
                for sample, seed, other in zip(samples, seeds, others)]


def perturbed(truth: np.ndarray, other: np.ndarray, rng: np.random.Generator, config: CoefficientConfig) -> np.ndarray:
    """The estimate that is rendered, (290,) float32: p truth + (1 - p) q, of the truth (290,) and another face (290,)
    as q, whose pose does not count."""
    if rng.random() < config.start:
        return mean_face()
    q = mean_face() if rng.random() < config.mean_q else other.copy()
    if rng.random() < config.start_pose:
        q[POSE] = START_POSE
    else:
        q[POSE] = truth[POSE] + rng.normal(0, POSE_NOISE).astype(np.float32)
    p = np.float32(rng.uniform(config.p_min, 1))
    return p * truth + (1 - p) * q


def iteration_samples(shards: Shards, size: int, subjects: int, images: int = 2, batch: int = 16
                      ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The first `images` of the first `subjects`, unchanged: batches of images (B, S, S, 3) float32, each stretched
    to [0, 1], and their targets (B, 290). ValueError where there are not so many, or where they are smaller than
    `size`."""
    if not (1 <= subjects <= len(shards) and 1 <= images <= shards.images and size <= shards.size):
        raise ValueError(f"{shards.path}: holds {len(shards)} subjects with {shards.images} images of {shards.size} px "
                         f"each, asked for {subjects} with {images} of {size} px")
    pairs = np.stack(np.meshgrid(np.arange(subjects), np.arange(images), indexing="ij"), -1).reshape(-1, 2)
    for start in range(0, len(pairs), batch):
        who, which = pairs[start:start + batch].T
        images = np.stack([stretched(image, size) for image in shards.gather("images", who, which)])
        yield images, encode(shards.gather("identity", who), shards.gather("expression", who, which),
                             shards.gather("image_points", who, which), shards.size)


def stretched(image: np.ndarray, size: int) -> np.ndarray:
    """An image (P, P, 3) uint8 as the network gets it: (size, size, 3) float32, stretched to [0, 1]."""
    if len(image) != size:
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.normalize(image, None, 0.0, 1.0, cv2.NORM_MINMAX, cv2.CV_32F)


def make_coefficient_sequences(shards: Shards, config: CoefficientConfig
                               ) -> tuple[CoefficientSequence, CoefficientSequence]:
    """(training, validation): subjects of the lowest numbers are held out. ValueError when none are left for either."""
    training, held_out = divided(shards, config.validation_subjects)
    return CoefficientSequence(shards, training, config, True), CoefficientSequence(shards, held_out, config, False)
