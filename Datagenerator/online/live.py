"""Subjects rendered while a network trains: the batches of Datagenerator/sequences/keypoints.py without shards, of ever
new subjects. Datagenerator/online/live_maps.py has those of Datagenerator/sequences/maps.py.

A batch is drawn from a window of subject numbers that moves with (epoch, index), and a subject's bytes depend on (seed,
number) alone, so a batch is the same whichever process renders and however often a run is resumed.
"""
from __future__ import annotations

import dataclasses
import logging
import threading
from collections import OrderedDict, deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Iterable

import numpy as np

from Datagenerator.loading.epoch import Shard
from Datagenerator.sequences.keypoints import ShardConfig, ShardSequence
from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.io.workers import MAX_WORKERS, Workers, cores
from Dataset.representations.targets import targets_on_template
from Dataset.synthesis.render_workers import render_one
from Dataset.synthesis.renders import RenderOptions, layout

TEST_SEED = 9001        # of the subjects that networks are evaluated on (README.md): none of them is trained on
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rendered:
    """Settings of subjects that are rendered on the fly, in addition to the generator's: a base class of
    `LiveConfig`."""

    reuse: int = 8          # batches that each new subject stands in, on average
    window: int = 256       # subjects that a batch is drawn from; twice as many, and the held-out ones, are in memory
    images: int = RenderOptions.images          # of each subject; this and the rest as in Dataset.synthesis.shards
    size: int = RenderOptions.size
    yaw: float = RenderOptions.yaw
    pitch: float = RenderOptions.pitch
    roll: float = RenderOptions.roll
    expression: float = RenderOptions.expression
    margin: float = RenderOptions.margin
    detect: float = RenderOptions.detect
    clutter: float = RenderOptions.clutter
    glasses: float = RenderOptions.glasses
    skins: float = RenderOptions.skins
    texture: str = RenderOptions.texture
    poses: str = RenderOptions.poses
    shift: float = RenderOptions.shift
    open_mouths: float = RenderOptions.open_mouths

    def __post_init__(self) -> None:
        super().__post_init__()
        minimum = self.max_subjects()
        if self.reuse < 1:
            raise ValueError(f"reuse must be at least 1, got {self.reuse}")
        if self.window < minimum:
            raise ValueError(f"window must be at least {minimum}, the subjects of a batch, got {self.window}")
        if self.seed == TEST_SEED:
            raise ValueError(f"seed {TEST_SEED} makes the subjects that networks are evaluated on; take another")
        self.rendering()

    def rendering(self, **changed: Any) -> RenderOptions:
        """What is rendered; the subjects have no end."""
        names = {field.name for field in dataclasses.fields(self)}
        return RenderOptions(**{field.name: getattr(self, field.name) for field in dataclasses.fields(RenderOptions)
                                if field.name in names} | changed)

    def subjects(self, epoch: int, index: int) -> range:
        """The window of a batch: the numbers that may stand in it. It moves as fast as batches use up subjects, divided
        by `reuse`."""
        subjects, batches = self.uses()
        first = self.validation_subjects + (epoch * self.batches + index) * subjects // (batches * self.reuse)
        return range(first, first + self.window)

    def uses(self) -> tuple[int, int]:
        """(subjects, batches): how many stand in so many batches, on average."""
        raise NotImplementedError

    def max_subjects(self) -> int:
        """Of a batch."""
        raise NotImplementedError


@dataclass(frozen=True)
class LiveConfig(Rendered, ShardConfig):
    """Settings of the generator and of what it renders. ValueError for a value out of range."""

    def uses(self) -> tuple[int, int]:
        """A batch shows batch_images // T subjects, on average over the T that may be drawn."""
        counts = [self.batch_images // images for images in range(self.min_images, self.max_images + 1)]
        return sum(counts), len(counts)

    def max_subjects(self) -> int:
        """Of a batch in which each has the fewest images."""
        return self.batch_images // self.min_images


class LiveSubjects:
    """Subjects rendered by processes when they are asked for or, better, ahead; the part of
    `Dataset.synthesis.shards.Shards` that a ShardSequence or a MapSequence needs. Numbers are positions, and
    there is no last one. Thread-safe.

    settings  of the rendering; its `subjects` is ignored
    held_out  the numbers below stay in memory once they are rendered
    keep      of the others, those who were last asked for stay: so many at most, whatever is asked for
    workers   processes, one thread each
    """

    path = "live"           # in messages, where shards name their folder

    def __init__(self, settings: RenderOptions, held_out: int, keep: int, workers: int) -> None:
        self.settings, self.images, self.size = settings, settings.images, settings.size
        self._layout = layout(settings)
        self.names = tuple(self._layout)
        self._held_out, self._keep = held_out, keep
        self._subjects: OrderedDict[int, Future] = OrderedDict()
        self._held: dict[int, Future] = {}
        self._ahead: deque[int] = deque()
        self._closed = False
        self._under_way, self._limit = 0, 2 * workers        # few: who is asked for waits for these alone
        self._lock = threading.RLock()
        self._workers = Workers(workers)

    def gather(self, name: str, subjects: np.ndarray, images: np.ndarray | None = None) -> np.ndarray:
        """As `Dataset.synthesis.shards.Shards.gather`; waits for subjects who are not rendered yet. WorkerDied (a
        RuntimeError) when a process ends."""
        if name not in self._layout:
            raise ValueError(f"{self.path}: holds {', '.join(self._layout)}, received {name}")
        subjects = np.asarray(subjects, np.int64)
        images = None if images is None else np.asarray(images, np.int64)
        if subjects.size and subjects.min() < 0:
            raise ValueError(f"{self.path}: subjects are 0 and above, received {subjects.min()}")
        if images is not None and images.size and not 0 <= images.min() <= images.max() < self.images:
            raise ValueError(f"{self.path}: images are 0 to {self.images - 1}, "
                             f"received {images.min()} to {images.max()}")
        with self._lock:
            futures = [self._ask(int(number)) for number in subjects]     # all of them, before the first is waited for
        rows = [future.result()[name] for future in futures]
        if images is not None:
            rows = [row[k] for row, k in zip(rows, images)]
        shape, dtype = self._layout[name]
        shape = shape if images is None else images.shape[1:] + shape[1:]
        return np.stack(rows) if rows else np.zeros((0, *shape), dtype)

    def prefetch(self, subjects: Iterable[int]) -> None:
        """Render these in this order while workers are free, in place of those of the last call; returns at once.
        Besides the held-out they must be at most `keep`."""
        with self._lock:
            subjects = list(subjects)
            for number in subjects:
                if number in self._subjects:
                    self._subjects.move_to_end(number)
            self._ahead = deque(number for number in subjects if number not in self._shelf(number))
            self._render_ahead()

    def close(self) -> None:
        """End the processes. A caller that still waits for subjects gets an error."""
        with self._lock:        # no more submits: what is cancelled calls `_done`, which needs the lock
            self._closed = True
            self._ahead.clear()
        self._workers.close()

    def _shelf(self, number: int) -> dict[int, Future]:
        return self._held if number < self._held_out else self._subjects

    def _ask(self, number: int) -> Future:
        if self._closed:
            raise RuntimeError(f"{self.path}: is closed")
        shelf = self._shelf(number)
        if number not in shelf:
            shelf[number] = self._workers.submit(render_one, (number, self.settings))
            self._under_way += 1
            shelf[number].add_done_callback(self._done)
        elif shelf is self._subjects:
            self._subjects.move_to_end(number)
        subject = shelf[number]
        while len(self._subjects) > self._keep:
            self._subjects.popitem(last=False)        # a batch that still needs him holds him itself
        return subject

    def _done(self, subject: Future) -> None:
        with self._lock:
            self._under_way -= 1
            if subject.cancelled() or subject.exception():
                self._ahead.clear()
            self._render_ahead()

    def _render_ahead(self) -> None:
        while self._ahead and self._under_way < self._limit:
            number = self._ahead.popleft()
            if number not in self._shelf(number):
                try:
                    self._ask(number)
                except RuntimeError:        # closed, or Python is about to end
                    self._ahead.clear()


def ahead(window: range, held_out: int) -> list[int]:
    """The subjects to render next: a batch's window, half of the next window, and the held-out subjects."""
    return [*range(window.start, window.stop + len(window) // 2), *range(held_out)]


class LiveSequence(ShardSequence):
    """A ShardSequence whose subjects are a window that moves from batch to batch, rendered ahead of it."""

    def pool(self, epoch: int, index: int) -> np.ndarray:
        return np.asarray(self.config.subjects(epoch, index))

    def batch(self, epoch: int, index: int, shard: Shard = Shard()) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """As `ShardSequence.batch`; requests the rendering of its window, half of the next one, and the held-out
        subjects."""
        window = self.config.subjects(epoch, index)
        self.shards.prefetch(ahead(window, self.config.validation_subjects))
        return super().batch(epoch, index, shard)


def open_subjects(config: Rendered, workers: int | None = None) -> tuple[LiveSubjects, np.ndarray]:
    """(subjects, numbers of the held-out ones); rendering starts at once.

    The subjects held out are those of the lowest numbers, the same as in shards of this seed and these settings.

    workers  processes; None: one per core but one
    """
    settings = config.rendering()
    workers = min(MAX_WORKERS, max(1, cores() - 1)) if workers is None else workers
    keep = 2 * config.window        # the window, half of one ahead, and batches that are made at the same time
    subjects = LiveSubjects(settings, config.validation_subjects, keep, workers)
    held_out = np.arange(config.validation_subjects)
    subjects.prefetch(held_out.tolist())
    size = sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in layout(settings).values())
    log.info("live: %d processes render; at most %d subjects in memory, %.2f GB", workers, keep + len(held_out),
             (keep + len(held_out)) * size / 1e9)
    return subjects, held_out


def open_live(config: LiveConfig, workers: int | None = None, model: FaceModel | None = None
              ) -> tuple[LiveSequence, ShardSequence]:
    """(training, validation), both of one `LiveSubjects`, whose `close` ends the processes."""
    subjects, held_out = open_subjects(config, workers)
    try:
        targets = targets_on_template(config.points, model or load_face_model())
        return (LiveSequence(subjects, np.asarray(config.subjects(0, 0)), config, targets, True),
                ShardSequence(subjects, held_out, config, targets, False))
    except ValueError:
        subjects.close()
        raise
