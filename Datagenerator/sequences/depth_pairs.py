"""Images with depth images (Dataset/sources/depth_pairs.py) -> batches for `pix2pix`, jittered as in the paper."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from Datagenerator.augmentation.pair_jitter import ENLARGED, pair_jitter
from Datagenerator.loading.epoch import Shard, batch_count, batch_rows, shard_rows
from Dataset.io.images import SCALINGS, scaled
from Dataset.representations.depth import from_image
from Dataset.seeding import BATCHES, ORDER, stream
from Dataset.sources.depth_pairs import Pair, pairs, read_pair


@dataclass(frozen=True)
class PairConfig:
    """Settings of the generator. ValueError for a value out of range."""

    batch_size: int = 1         # pix2pix's (Isola et al. 2017, 6.2); the paper gives none
    image_size: int = 256       # pixels; the images must have it
    jitter: bool = True         # enlarge by 286 / 256 and crop (Baby et al. 2020, IV.F)
    mirror: bool = True         # half of the samples left for right
    scaling: str = "unit"       # of the pixels, Dataset.io.images.scaled; the network's
    seed: int = 0

    def __post_init__(self) -> None:
        for name, minimum in (("batch_size", 1), ("image_size", 1), ("seed", 0)):
            if getattr(self, name) < minimum:
                raise ValueError(f"{name} must be at least {minimum}, got {getattr(self, name)}")
        if self.scaling not in SCALINGS:
            raise ValueError(f"scaling must be one of {', '.join(SCALINGS)}, got {self.scaling!r}")


class PairSequence:
    """Batches (x, y) of an epoch, each pair once; `pipeline.make_pipeline` makes them in parallel and ahead.

    x   (B, S, S, 3) float32, BGR, in [0, 1] by `Dataset.io.images.scaled`
    y   depth (B, S, S, 1) float32 in [-1, 1]: `Dataset.representations.depth`, 1 nearest, -1 no depth; its range is one
        side of the image where the pairs know their millimetres (`Pair.depth_range`)

    training: shuffled, jittered and mirrored as the config says, else as they are, in their order. What a batch holds
    depends on (seed, epoch, index) alone. ValueError when there is no pair.
    """

    def __init__(self, chosen: Sequence[Pair], config: PairConfig, training: bool) -> None:
        if not chosen:
            raise ValueError("a sequence of pairs needs at least one, got none")
        self.pairs, self.config, self.training = tuple(chosen), config, training

    def __len__(self) -> int:
        return batch_count(len(self.pairs), self.config.batch_size)

    @property
    def shapes(self) -> tuple[tuple, dict[str, tuple]]:
        """Shapes of x and y; None is what varies."""
        size = self.config.image_size
        return (None, size, size, 3), {"depth": (None, size, size, 1)}

    def rows(self, index: int, shard: Shard = Shard()) -> range:
        """Positions of an epoch's pairs in a batch, or in one worker's part of it."""
        return shard_rows(batch_rows(len(self.pairs), self.config.batch_size, index), shard)

    def check_shard(self, shard: Shard) -> None:
        """ValueError when batches do not divide among the workers."""
        if self.config.batch_size % (shard.count * shard.replicas):
            raise ValueError(f"batch_size {self.config.batch_size} must be a multiple of {shard.count} workers "
                             f"x {shard.replicas} replicas")

    def order(self, epoch: int) -> np.ndarray:
        """Numbers of the pairs in the order of an epoch, (P,) int64."""
        if not self.training:
            return np.arange(len(self.pairs))
        return stream(self.config.seed, ORDER, epoch).permutation(len(self.pairs))

    def batch(self, epoch: int, index: int, shard: Shard = Shard()) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Batch `index` of an epoch, or one worker's part of it. Depends on its arguments alone; thread-safe."""
        order, rows, size = self.order(epoch), self.rows(index, shard), self.config.image_size
        x = np.empty((len(rows), size, size, 3), np.float32)
        depth = np.empty((len(rows), size, size, 1), np.float32)
        enlarged = ENLARGED if self.training and self.config.jitter else 1.0
        for i, row in enumerate(rows):
            pair = self.pairs[order[row]]
            image, levels = read_pair(pair)
            if image.shape[:2] != (size, size):
                raise ValueError(f"{pair.image}: an image must be {size}x{size} pixels (image_size), this is "
                                 f"{image.shape[1]}x{image.shape[0]}")
            if self.training:
                rng = stream(self.config.seed, BATCHES, epoch, row)
                image, levels = pair_jitter(image, levels, rng=rng, mirror=self.config.mirror, enlarged=enlarged)
            x[i] = scaled(image, self.config.scaling)
            # deeper, in sides of what is shown
            depth[i] = from_image(levels, pair.depth_range and pair.depth_range * enlarged)
        return x, {"depth": depth}


def pair_sequences(folder: str, config: PairConfig, split: str | None = None) -> tuple[PairSequence, PairSequence]:
    """(training, validation) of a folder with depth images; split: of `Dataset.sources.depth_pairs.SPLITS`, None: the
    folder's own."""
    return (PairSequence(pairs(folder, "training", split), config, True),
            PairSequence(pairs(folder, "validation", split), config, False))
