"""Epochs: schedule, the thesis's checkpoint rule, state on disk, kill and resume."""
import csv
import dataclasses
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from Network.training.checkpoints import Progress, RunFolder
from Network.training.processor_time import processor_seconds
from Network.training.settings import TrainConfig
from Network.training.step import GradientStep
from Network.training.trainer import NotFinite, Stopped, Trainer, fixed_epoch, learning_rate, plateau_reached
from tests import forkserver
from tests.test_step import data, mse, small_model

CONFIG = TrainConfig(epochs=3, learning_rate=1e-2)


def loader(epoch: int, start: int):
    """Five batches of 4 that depend on (epoch) alone, as a SubjectSequence's do."""
    return data(5, 4, seed=100 + epoch)[start:]


def trainer(folder, config=CONFIG, training=loader, **more) -> Trainer:
    model = small_model(True)
    step = GradientStep(model, keras.optimizers.Adam(1e-2), mse)
    return Trainer(step, RunFolder(folder), config, training, fixed_epoch(lambda e, s: data(2, 4, seed=5)[s:]), 5,
                   progress_bar=False, **more)


def test_learning_rate_is_the_listings():
    """Halved after the 11th, 21st, ... epoch: 11 epochs at 1e-4, then 10 at 5e-5."""
    rates = [learning_rate(TrainConfig(), epoch) for epoch in range(32)]
    assert rates[:11] == [1e-4] * 11
    assert rates[11:21] == [5e-5] * 10
    assert rates[21:31] == [2.5e-5] * 10
    assert rates[31] == 1.25e-5
    assert learning_rate(TrainConfig(halve_every=0), 200) == 1e-4


@pytest.mark.parametrize("field, value", [("epochs", 0), ("patience", 0), ("accumulate", 0), ("learning_rate", 0.0)])
def test_bad_settings(field, value):
    with pytest.raises(ValueError, match=field):
        TrainConfig(**{field: value})


PLATEAU = TrainConfig(epochs=5, learning_rate=1e-2, schedule="plateau", plateau_epochs=2)


def test_plateau_is_derived_from_the_history():
    """Ronkainen 2017, 3.5: 1e-4, then, once improvements had tapered off, 1e-5 for good."""
    config = TrainConfig(schedule="plateau", plateau_epochs=2, choose_by="uv")
    uv = [5.0, 4.0, 4.0, 4.5, 1.0, 0.5]                 # epochs 3 and 4 are no better
    history = [{"loss": -float(i), "val_loss": -float(i), "val_uv": value} for i, value in enumerate(uv)]
    rates = [learning_rate(config, epoch, history[:epoch]) for epoch in range(7)]
    np.testing.assert_allclose(rates, [1e-4] * 4 + [1e-5] * 3)
    assert learning_rate(config, 2, history) == 1e-4    # a later history does not change the past
    by_loss = TrainConfig(schedule="plateau", plateau_epochs=2)
    assert not plateau_reached(by_loss, history)        # its loss, total, falls all the way
    blind = [{"loss": value, "val_loss": float("nan")} for value in uv]
    assert plateau_reached(by_loss, blind) and not plateau_reached(by_loss, blind[:3])


def test_plateau_changes_rate_and_beta1_and_resumes_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr("Network.training.trainer.plateau_reached", lambda config, history: len(history) >= 2)
    whole = trainer(tmp_path / "whole", PLATEAU)
    history = whole.fit()
    np.testing.assert_allclose([row["learning_rate"] for row in history], [1e-2] * 2 + [1e-3] * 3)
    assert float(whole.step.optimizer.beta_1) == pytest.approx(0.99)
    other = trainer(tmp_path / "other", dataclasses.replace(PLATEAU, plateau_beta1=0.9)).fit()
    np.testing.assert_allclose(losses_of(other)[:2], losses_of(history)[:2], atol=1e-7)
    assert np.abs(losses_of(other)[2:] - losses_of(history)[2:]).max() > 1e-4   # the compiled step took the new beta1
    for stop in (2, 3):                                 # before the fall, and after it
        part = tmp_path / str(stop)
        trainer(part, dataclasses.replace(PLATEAU, epochs=stop)).fit()
        np.testing.assert_allclose(losses_of(trainer(part, PLATEAU).fit(resume=True)), losses_of(history), atol=1e-7)


@pytest.mark.parametrize("change, message", [
    ({"plateau_epochs": 0}, "plateau_epochs must be at least 1"), ({"plateau_factor": 0.0}, "plateau_factor in"),
    ({"plateau_beta1": 1.0}, "plateau_beta1 in"),
    ({"schedule": "plateau", "patience": 5}, "patience must be more than plateau_epochs, 5")])
def test_bad_plateau(change, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**change)


def test_a_plateau_needs_adam(tmp_path):
    run = trainer(tmp_path, PLATEAU)
    run.step.optimizer = keras.optimizers.SGD()
    with pytest.raises(ValueError, match="changes Adam's beta1, SGD has none"):
        run.fit()


def test_choose_by_must_be_a_part_of_the_loss(tmp_path):
    def parts(truth, prediction):
        return {"uv": mse(truth, prediction), "mask": mse(truth, prediction)}
    run = trainer(tmp_path, dataclasses.replace(CONFIG, choose_by="uw"))
    run.step = GradientStep(run.step.model, keras.optimizers.Adam(1e-2), parts)
    before = run.step.model.get_weights()
    with pytest.raises(ValueError, match="^choose_by must be one of loss, uv, mask, parts of .*, got 'uw'$"):
        run.fit()
    for a, b in zip(before, run.step.model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_cosine_and_warm_up_epoch_by_epoch():
    """0.01 + 0.99 * (1 + cos(pi * k / 4)) / 2 for k = 0 .. 4, after two epochs at a third and two thirds."""
    config = TrainConfig(epochs=7, learning_rate=1.0, schedule="cosine", warmup_epochs=2)
    rates = [learning_rate(config, epoch) for epoch in range(7)]
    expected = [1 / 3, 2 / 3, 1.0, 0.855017856687341, 0.505, 0.154982143312659, 0.01]
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    halved = TrainConfig(learning_rate=1.0, warmup_epochs=1, halve_every=2)
    np.testing.assert_allclose([learning_rate(halved, epoch) for epoch in range(6)], [0.5, 1, 1, 0.5, 0.5, 0.25])


class ScriptedStep:
    """Plays given losses, so that the rule alone is tested."""

    workers = 1

    def __init__(self, training, validation):
        self.model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        self.optimizer = keras.optimizers.SGD()
        self.optimizer.build(self.model.trainable_variables)
        self.training, self.validation = iter(training), iter(validation)

    def train(self, batches):
        return next(self.training)

    def evaluate(self, x, y):
        return {"loss": np.array([next(self.validation)])}

    def agree(self, value):
        return value


def listing_rule(training, validation, patience):
    """The listing's if/elif/else, word for word in its logic. Returns what was saved, epoch by epoch, to the stop."""
    best_loss = best_train = float("inf")
    counter, saved = 0, []
    for t, v in zip(training, validation):
        if v < best_loss:
            best_loss, counter = v, 0
            saved.append("best_validation")
        elif t < best_train:
            best_train, counter = t, 0
            saved.append("best_training")
        else:
            counter += 1
            saved.append(None)
            if counter >= patience:
                break
    return saved


@pytest.mark.parametrize("seed", range(4))
def test_checkpoint_rule_is_the_listings(tmp_path, seed, monkeypatch):
    rng = np.random.default_rng(seed)
    training, validation = rng.random(40), rng.random(40)
    expected = listing_rule(training, validation, 4)
    saved = []
    monkeypatch.setattr(RunFolder, "save_weights", lambda self, model, name: saved.append(name))

    def one(epoch, start):
        return [(np.zeros((1, 1)), np.zeros((1, 1)))]
    run = Trainer(ScriptedStep(training, validation), RunFolder(tmp_path), TrainConfig(epochs=40, patience=4),
                  one, one, 1, progress_bar=False)
    history = run.fit()
    assert [s for s in saved if s != "last"] == [s for s in expected if s]
    assert len(history) == len(expected)


def read_history(folder) -> list[dict]:
    return list(csv.DictReader((Path(folder) / "history.csv").open()))


def test_history_and_files(tmp_path):
    history = trainer(tmp_path).fit()
    assert [row["epoch"] for row in history] == [1, 2, 3] and [row["updates"] for row in history] == [5, 10, 15]
    assert [float(row["loss"]) for row in read_history(tmp_path)] == [row["loss"] for row in history]
    assert (tmp_path / "best_validation.keras").exists() and (tmp_path / "last.keras").exists()
    best = keras.models.load_model(tmp_path / "best_validation.keras", compile=False)
    losses = GradientStep(best, keras.optimizers.Adam(), mse)
    validation = np.mean([losses.evaluate(x, y)["loss"] for x, y in data(2, 4, seed=5)])
    assert validation == pytest.approx(min(row["val_loss"] for row in history), rel=1e-6)


def burn(seconds: float) -> None:
    """Keep this process busy for `seconds` of its processor time."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_samples_and_processor_time_add_up_over_resumes(tmp_path):
    """5 batches of 4 an epoch; the first process spends 0.3 s before it is stopped in the second epoch."""
    def stopped(epoch, start):
        for i, batch in enumerate(loader(epoch, start)):
            burn(0.05 if epoch == 0 else 0.0)
            if (epoch, i) == (1, 2):
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch
    with pytest.raises(Stopped):
        trainer(tmp_path, training=stopped).fit()
    first = float(read_history(tmp_path)[-1]["cpu_seconds"])
    burn(0.3)                   # between two processes: not the run's
    before = time.process_time()
    rows = trainer(tmp_path).fit(resume=True)
    spent = time.process_time() - before
    assert [row["samples"] for row in rows] == [20, 40, 60]
    times = [row["cpu_seconds"] for row in rows]
    assert times == sorted(times) and times[0] == first >= 0.25
    state = trainer(tmp_path)
    total = state.run.load_state(state.step.model, state.step.optimizer).cpu_seconds
    assert times[-1] == pytest.approx(total, abs=0.2) and times[-1] - first < spent + 0.5


def test_processor_time_counts_running_and_ended_workers():
    before = processor_seconds()
    context = multiprocessing.get_context("fork")
    ended = context.Process(target=burn, args=(0.2,))
    ended.start()
    ended.join()
    assert processor_seconds() - before >= 0.2
    before = processor_seconds()
    own = time.process_time()
    running = context.Process(target=burn, args=(60,))
    running.start()
    try:
        deadline = time.monotonic() + 30
        while processor_seconds() - before - (time.process_time() - own) < 0.2:     # of the worker alone
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        running.kill()
        running.join()


def test_a_history_whose_first_rows_have_fewer_columns(tmp_path):
    RunFolder(tmp_path).write_history([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "samples": 8}])
    assert (tmp_path / "history.csv").read_text() == "epoch,loss,samples\n1,2.0,\n2,1.0,8\n"


def test_accumulated_updates_are_counted(tmp_path):
    history = trainer(tmp_path, TrainConfig(epochs=1, accumulate=2)).fit()
    assert history[0]["updates"] == 3           # 5 batches in groups of 2, 2 and 1


def test_max_steps(tmp_path):
    assert trainer(tmp_path, TrainConfig(epochs=9, max_steps=7)).fit()[-1]["updates"] == 7


def losses_of(history) -> np.ndarray:
    return np.array([[float(row["loss"]), float(row["val_loss"])] for row in history])


@pytest.mark.parametrize("at", [1, 3, 7])
def test_ctrl_c_saves_and_resume_gives_the_same_losses(tmp_path, at):
    whole = trainer(tmp_path / "whole").fit()
    seen = []

    def interrupted(epoch, start):
        for batch in loader(epoch, start):
            seen.append(1)
            if len(seen) == at:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch
    part = tmp_path / "part"
    with pytest.raises(Stopped, match="SIGINT"):
        trainer(part, training=interrupted).fit()
    np.testing.assert_allclose(losses_of(trainer(part).fit(resume=True)), losses_of(whole), atol=1e-6)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(tmp_path):
    def poisoned(epoch, start):
        batches = loader(epoch, start)
        if epoch == 1:
            batches[2][0][0, 0] = np.nan
        return batches
    with pytest.raises(NotFinite, match="loss is nan at epoch 2, batch 3"):
        trainer(tmp_path, training=poisoned).fit()
    for name in ("best_validation", "last"):
        model = keras.models.load_model(tmp_path / f"{name}.keras", compile=False)
        assert all(np.isfinite(w).all() for w in model.get_weights())
    state = trainer(tmp_path)
    assert state.run.load_state(state.step.model, state.step.optimizer).epoch == 1


def test_state_of_another_model_is_refused(tmp_path):
    run = trainer(tmp_path)
    run.run.save_state(run.step.model, run.step.optimizer, Progress())
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="state.npz: does not fit this network: lacks"):
        RunFolder(tmp_path).load_state(other, keras.optimizers.SGD())


def test_half_a_state_is_refused(tmp_path):
    run = trainer(tmp_path)
    run.run.save_state(run.step.model, run.step.optimizer, Progress())
    state = tmp_path / "state.npz"
    state.write_bytes(state.read_bytes()[:500])
    with pytest.raises(ValueError, match="state.npz: holds no state of this program"):
        run.run.load_state(run.step.model, run.step.optimizer)


def test_a_run_folder_is_not_taken_twice(tmp_path):
    RunFolder(tmp_path).start({"network": "convlstm"})
    assert "tensorflow" in json.loads((tmp_path / "config.json").read_text())["versions"]
    with pytest.raises(ValueError, match="holds a run already"):
        RunFolder(tmp_path).start({})


KILLED = """
import os, signal, sys
import numpy as np, tensorflow as tf, keras
tf.config.experimental.enable_op_determinism()
from tests.test_training import CONFIG, trainer
from Network.training.checkpoints import RunFolder
folder, moment, resume = sys.argv[1], sys.argv[2], sys.argv[3] == "resume"
calls = {"n": 0}
def die():
    os.kill(os.getpid(), signal.SIGKILL)
savez, weights = np.savez, RunFolder.save_weights
def half_state(file, **arrays):
    calls["n"] += moment == "in_state"
    if moment == "in_state" and calls["n"] == 2:
        file.write(b"PK half a state"); file.flush(); die()
    savez(file, **arrays)
def half_weights(self, model, name):
    weights(self, model, name)
    if moment == "after_best" and name != "last":
        calls["n"] += 1
        if calls["n"] == 2:
            die()
if not resume:
    np.savez, RunFolder.save_weights = half_state, half_weights
run = trainer(folder)
if not resume and moment == "in_epoch":
    train = run.step.train
    def dying(batches):
        calls["n"] += 1
        if calls["n"] == 8:
            die()
        return train(batches)
    run.step.train = dying
if not resume: run.run.start({"network": "test", "model": {}})
run.fit(resume=resume)
"""


@pytest.mark.parametrize("moment", ["in_state", "after_best", "in_epoch"])
def test_sigkill_and_resume_give_the_losses_of_an_uninterrupted_run(tmp_path, moment):
    folder = tmp_path / "run"

    def start(mode):
        return forkserver.run("-c", KILLED, folder, moment, mode)
    killed = start("first")
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-1500:]
    assert keras.models.load_model(folder / "best_validation.keras", compile=False) is not None
    resumed = start("resume")
    assert resumed.returncode == 0, resumed.stderr[-1500:]
    assert not [p for p in folder.iterdir() if p.name.startswith(".tmp-")]
    whole = trainer(tmp_path / "whole").fit()
    np.testing.assert_allclose(losses_of(read_history(folder)), losses_of(whole), atol=1e-6)
