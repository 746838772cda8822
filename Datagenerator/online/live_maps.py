"""Subjects rendered while a network of dense predictions trains: the batches of Datagenerator/sequences/maps.py without
shards."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from Datagenerator.loading.epoch import Shard
from Datagenerator.online.live import Rendered, ahead, open_subjects
from Datagenerator.sequences.maps import DepthConfig, Draw, MapConfig, MapSequence
from Dataset.synthesis.renders import RenderOptions


@dataclass(frozen=True)
class LiveMapConfig(Rendered, MapConfig):
    """Settings of the generator and of what it renders, with the buffers that the target needs. ValueError for a value
    out of range. `reuse` counts the batches that show a subject; he lends occluders shapes and colours in more."""

    size: int = 0           # 0: image_size

    def rendering(self, **changed: Any) -> RenderOptions:
        """What is rendered; the subjects have no end."""
        return super().rendering(size=self.size or self.image_size, buffers=self.needed(), **changed)

    def uses(self) -> tuple[int, int]:
        """A batch shows batch_size subjects, each in one image."""
        return self.batch_size, 1

    def max_subjects(self) -> int:
        """Of a batch, those who are shown."""
        return self.batch_size


@dataclass(frozen=True)
class LiveDepthConfig(DepthConfig, LiveMapConfig):
    """`LiveMapConfig` with the defaults of `DepthConfig`; few subjects: a batch is one image, which is large."""

    window: int = 64


class LiveMapSequence(MapSequence):
    """A MapSequence whose subjects are a window that moves from batch to batch, rendered ahead of it."""

    def draw(self, epoch: int, index: int) -> Draw:
        """As `MapSequence.draw`, of the window's subjects."""
        drawn = super().draw(epoch, index)      # of positions in the window
        return drawn._replace(subjects=drawn.subjects + self.config.subjects(epoch, index).start)

    def batch(self, epoch: int, index: int, shard: Shard = Shard()) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """As `MapSequence.batch`; requests the rendering of its window, half of the next one, and the held-out
        subjects."""
        self.shards.prefetch(ahead(self.config.subjects(epoch, index), self.config.validation_subjects))
        others = self.config.augment or self.config.faces_in_image > 1
        needed = self.draw(epoch, index).subjects[np.asarray(self.rows(index, shard), np.int64), :None if others else 1]
        self.shards.gather("identity", np.unique(needed))       # asked for together, not one after the other
        return super().batch(epoch, index, shard)


def open_live_maps(config: LiveMapConfig, workers: int | None = None) -> tuple[LiveMapSequence, MapSequence]:
    """(training, validation), both of one `LiveSubjects`, whose `close` ends the processes."""
    subjects, held_out = open_subjects(config, workers)
    try:
        return (LiveMapSequence(subjects, np.arange(config.window), config, True),
                MapSequence(subjects, held_out, config, False))
    except ValueError:
        subjects.close()
        raise
