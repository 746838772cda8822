"""Epochs around the gradient step: schedule, early stop, two best checkpoints, resume (thesis 4.3, listing B-4).

The state on disk decides: a run that was killed at any moment, even during a save, resumes from its last state and
reaches the losses of an uninterrupted run, because the order of samples depends on (seed, epoch) alone.
"""
from __future__ import annotations

import itertools
import logging
import math
import signal
import time
from dataclasses import dataclass
from typing import Callable, Iterable, Iterator, Protocol, Sequence

import keras
import numpy as np
import tqdm

from Network.training.checkpoints import Progress, RunFolder
from Network.training.processor_time import processor_seconds
from Network.training.settings import TrainConfig
from Network.training.step import Batch, GradientStep, samples

log = logging.getLogger(__name__)


class Loader(Protocol):
    """Where batches come from; the same (epoch, start) always gives the same batches."""

    def __call__(self, epoch: int, start: int) -> Iterable[Batch]: ...


class Stopped(Exception):
    """Training was interrupted by a signal; the state is saved."""


class NotFinite(Exception):
    """A loss or a weight became infinite or NaN; the last good state is untouched."""


def learning_rate(config: TrainConfig, epoch: int, history: Sequence[dict] = ()) -> float:
    """Rate of a 0-based epoch. The listing halves *after* the 11th, 21st, ... epoch.

    Schedule cosine (Loshchilov and Hutter 2017, equation 5, no restarts): half a cosine from the full rate to a
    hundredth of it in the last epoch. Schedule plateau: see `plateau_reached`, which reads the history of the epochs
    before. Schedule drop: `drop_factor` times the rate after `drop_after` epochs (Jackson et al. 2017). Schedule
    exponential: `decay` times the rate after each epoch (Endrawis 2018, 3.1.3, tried it first). Each begins with
    `warmup_epochs` epochs of a rate that rises in even steps.
    """
    rate = config.learning_rate * min(1.0, (epoch + 1) / (config.warmup_epochs + 1))
    if config.schedule == "cosine":
        done = min(1.0, max(0, epoch - config.warmup_epochs) / max(1, config.epochs - 1 - config.warmup_epochs))
        return rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
    if config.schedule == "plateau":
        return rate * (config.plateau_factor if plateau_reached(config, history[:epoch]) else 1.0)
    if config.schedule == "drop":
        return rate * (config.drop_factor if epoch >= config.drop_after else 1.0)
    if config.schedule == "exponential":
        return rate * config.decay ** max(0, epoch - config.warmup_epochs)
    if not config.halve_every:
        return rate
    return rate * 0.5 ** (max(epoch - 1, 0) // config.halve_every)


def plateau_reached(config: TrainConfig, history: Sequence[dict]) -> bool:
    """Whether `plateau_epochs` epochs in a row, anywhere in the history, brought no better validation loss (training
    loss where there is no validation set). From then on Ronkainen 2017, 3.5, goes on slower and steadier, for good.

    The history is all it depends on, so a resumed run takes the same decision.
    """
    best, stale = math.inf, 0
    for row in history:
        losses = (row.get(f"val_{config.choose_by}"), row.get("val_loss"), row["loss"])
        loss = next(value for value in losses if value is not None and not math.isnan(value))
        best, stale = (loss, 0) if loss < best else (best, stale + 1)
        if stale >= config.plateau_epochs:
            return True
    return False


def vary_beta1(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """Adam's beta1 as a variable: a number would stay in the compiled step. It is saved with the optimizer's state.
    ValueError for an optimizer that has none."""
    adam = optimizer.inner_optimizer if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) else optimizer
    if not isinstance(adam, keras.optimizers.Adam):
        raise ValueError(f"schedule plateau changes Adam's beta1, {type(adam).__name__} has none")
    if not isinstance(adam.beta_1, keras.Variable):
        adam.beta_1 = keras.Variable(adam.beta_1, trainable=False, dtype="float32", name="beta_1")
    return adam.beta_1


@dataclass
class Trainer:
    """Trains one run folder. `write` is False on all but the first worker of a distributed run."""

    step: GradientStep
    run: RunFolder
    config: TrainConfig
    training: Loader
    validation: Loader
    steps_per_epoch: int            # batches of one epoch
    on_epoch: Callable[[list[dict]], None] = lambda history: None
    write: bool = True
    progress_bar: bool = True
    started: float | None = None    # processor_seconds() when this process began to work for the run; None: in `fit`

    def fit(self, resume: bool = False) -> list[dict]:
        """Train to the end and return the history, one dict per epoch. Raises Stopped or NotFinite."""
        if self.config.schedule == "plateau":       # before the state is read, of which it is a part
            with self.step.strategy.scope():
                vary_beta1(self.step.optimizer)
        progress = self.run.load_state(self.step.model, self.step.optimizer) if resume else Progress()
        self._already = progress.cpu_seconds - (processor_seconds() if self.started is None else self.started)
        here = np.random.default_rng((progress.epoch, progress.batch)).random()     # identifies the position
        if self.step.agree(here) != here:
            raise ValueError(f"{self.run.path}: the workers find different states: it must be a shared folder")
        if progress.updates == 0:
            self._check_choose_by()
        self._signal = 0
        previous = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            while progress.epoch < self.config.epochs and not self._finished(progress):
                self._epoch(progress)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        return progress.history

    def _check_choose_by(self) -> None:
        """ValueError where the loss has no part that the checkpoint is to be chosen by: seen before the first epoch."""
        name = self.config.choose_by
        if name == "loss":
            return
        for x, y in itertools.islice(self.validation(0, 0), 1):
            parts = self.step.evaluate(x, y)
            if name not in parts:
                raise ValueError(f"choose_by must be one of {', '.join(parts)}, parts of this network's loss, "
                                 f"got {name!r}")

    def _finished(self, progress: Progress) -> bool:
        if progress.stale >= self.config.patience:
            log.info("early stop after epoch %d: no better loss in %d epochs", progress.epoch, self.config.patience)
            return True
        return bool(self.config.max_steps) and progress.updates >= self.config.max_steps

    def _on_signal(self, number: int, frame: object) -> None:
        if self._signal:            # a second Ctrl-C does not wait for the step
            raise KeyboardInterrupt
        self._signal = number

    def _epoch(self, progress: Progress) -> None:
        """One epoch, or the rest of one that was interrupted."""
        self.step.optimizer.learning_rate = learning_rate(self.config, progress.epoch, progress.history)
        if self.config.schedule == "plateau" and plateau_reached(self.config, progress.history):
            vary_beta1(self.step.optimizer).assign(self.config.plateau_beta1)
        started = saved = time.monotonic()
        waited = 0.0
        batches = iter(self.training(progress.epoch, progress.batch))
        with tqdm.tqdm(total=self.steps_per_epoch, initial=progress.batch, desc=f"epoch {progress.epoch + 1}",
                       disable=not self.progress_bar, dynamic_ncols=True) as bar:
            while True:
                before = time.monotonic()
                group = list(itertools.islice(batches, self.config.accumulate))
                waited += time.monotonic() - before
                if not group:
                    break
                loss = self.step.train(group)
                self._check_finite(loss, progress)
                progress.add(loss, sum(samples(x) for x, _ in group), len(group))
                bar.update(len(group))
                bar.set_postfix(loss=f"{progress.loss:.5f}", refresh=False)
                if self._signal:
                    self._save(progress)
                    raise Stopped(signal.Signals(self._signal).name)
                if time.monotonic() - saved > 60 * self.config.checkpoint_minutes:
                    self._save(progress)
                    saved = time.monotonic()
                if self.config.max_steps and progress.updates >= self.config.max_steps:
                    break
        seconds = time.monotonic() - started
        self._close_epoch(progress, seconds, waited)

    def _close_epoch(self, progress: Progress, seconds: float, waited: float) -> None:
        self._check_weights(progress)
        parts = self._validate(progress.epoch)
        total = parts.pop("loss", math.nan)
        chosen = self.step.agree(parts.get(self.config.choose_by, total))
        validation = self.step.agree(total)
        training = self.step.agree(progress.loss)
        progress.cpu_seconds = self._already + processor_seconds()
        progress.history.append({
            "epoch": progress.epoch + 1, "loss": training, "val_loss": validation,
            "learning_rate": learning_rate(self.config, progress.epoch, progress.history), "updates": progress.updates,
            "samples": progress.samples_seen * self.step.workers,
            "seconds": round(seconds, 3), "waiting_share": round(waited / max(seconds, 1e-9), 4),
            "cpu_seconds": round(progress.cpu_seconds, 2),
            **{f"val_{name}": value for name, value in parts.items()}})
        # the thesis's rule: the training checkpoint is considered only where validation did not improve
        if chosen < progress.best_validation:
            progress.best_validation, progress.stale = chosen, 0
            self._save_best("best_validation")
        elif training < progress.best_training:
            progress.best_training, progress.stale = training, 0
            self._save_best("best_training")
        else:
            progress.stale += 1
        progress.next_epoch()
        self._save(progress)        # last: a kill between the best weights and this repeats the epoch
        if self.write:
            self.on_epoch(progress.history)

    def _validate(self, epoch: int) -> dict[str, float]:
        """Mean loss, and its parts, over the samples of the validation set; empty when there is none."""
        totals: dict[str, float] = {}
        count = 0
        for x, y in self.validation(epoch, 0):
            losses = self.step.evaluate(x, y)
            for name, values in losses.items():
                totals[name] = totals.get(name, 0.0) + float(np.sum(values, dtype=np.float64))
            count += len(losses["loss"])
        return {name: total / count for name, total in totals.items()}

    def _check_finite(self, loss: float, progress: Progress) -> None:
        if not math.isfinite(loss):
            raise NotFinite(f"loss is {loss} at epoch {progress.epoch + 1}, batch {progress.batch + 1}")

    def _check_weights(self, progress: Progress) -> None:
        for variable in self.step.model.variables:
            if not np.isfinite(np.asarray(variable.numpy(), np.float64)).all():
                raise NotFinite(f"weight {variable.path} is not finite after epoch {progress.epoch + 1}, "
                                f"batch {progress.batch}")

    def _save(self, progress: Progress) -> None:
        self._check_weights(progress)
        progress.cpu_seconds = self._already + processor_seconds()
        if self.write:
            self.run.save_state(self.step.model, self.step.optimizer, progress)

    def _save_best(self, name: str) -> None:
        if self.write:
            self.run.save_weights(self.step.model, name)


def fixed_epoch(loader: Loader) -> Loader:
    """The same batches after every epoch, so that validation losses of two epochs are comparable."""
    def load(epoch: int, start: int) -> Iterator[Batch]:
        return iter(loader(0, start))
    return load
