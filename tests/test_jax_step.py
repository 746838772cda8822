"""The gradient step on JAX against the one on TensorFlow: same state, same batches, same losses, weights and files.

JAX runs in another process, in which tensorflow cannot be imported: this file, run as a script.
"""
import csv
import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.modules["tensorflow"] = None        # every import of it is a ModuleNotFoundError

import keras
import numpy as np
import pytest

import train
from Network import mobile3model
from Network.layers.normalisation import TimeBatchNormalization
from Network.losses.points import keypoint_loss, mean_squared_error
from Network.models import compact
from Network.training import step
from Network.training.checkpoints import Progress, RunFolder
from Network.training.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
COMPACT = compact.Config(image_size=32, encoder_filters=(4, 6, 8, 8), encoder_blocks=(0, 0, 1, 0), pyramid_filters=8,
                         appearance=3, fine_filters=4, refine_filters=5)
#: batch normalisation instead of the preset's groups: its statistics must move
CONVLSTM = dataclasses.replace(mobile3model.QUICK, image_size=32, points=64, batch_norm="merged",
                               lstm_filters=(4, 4, 4), block_filters=(4, 4, 4), link_filters=(4,),
                               decoder_filters=(4, 4, 4, 4), shape_head=2)


def small(_) -> keras.Model:
    """Two inputs, two outputs, statistics between."""
    inputs = {"a": keras.Input((4,), name="a"), "b": keras.Input((3,), name="b")}
    x = keras.layers.Dense(5, activation="tanh", name="hidden")(keras.layers.Concatenate()([inputs["a"], inputs["b"]]))
    x = keras.layers.Flatten()(TimeBatchNormalization(name="norm")(keras.layers.Reshape((1, 1, 1, 5))(x)))
    outputs = {name: keras.layers.Dense(units, dtype="float32", name=name)(x) for name, units in (("c", 2), ("d", 1))}
    return keras.Model(inputs, outputs)


def small_loss(truth, prediction):
    return {key: mean_squared_error(truth[key], prediction[key]) for key in ("c", "d")}


NETWORKS = {"small": (small, None, small_loss), "compact": (compact.build_training, COMPACT, keypoint_loss),
            "convlstm": (mobile3model.build, CONVLSTM, mean_squared_error)}
NAMES = ["small", *(pytest.param(name, marks=pytest.mark.slow) for name in ("compact", "convlstm"))]
UPDATES = 3
pytestmark = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")


def make_step(name: str):
    """A new network, its step and its optimizer. The large epsilon keeps Adam from blowing rounding errors up where a
    gradient is zero but for them (a bias before a softmax)."""
    build, config, loss = NETWORKS[name]
    keras.utils.set_random_seed(3)
    return step.GradientStep(build(config), keras.optimizers.Adam(1e-2, epsilon=1e-2), loss)


def batch(name: str, seed: int):
    """x and y of two subjects with two images each; for `small` of six samples."""
    rng = np.random.default_rng(seed)
    if name == "small":
        return tuple({key: rng.normal(size=(6, width)).astype(np.float32) for key, width in widths.items()}
                     for widths in ({"a": 4, "b": 3}, {"c": 2, "d": 1}))
    x, points = rng.random((2, 2, 32, 32, 3), np.float32), (rng.normal(size=(2, 64, 3)) / 3).astype(np.float32)
    if name == "convlstm":
        return x, points
    return x, {"keypoints": rng.random((2, 2, 256, 2), np.float32),
               "seen": (rng.random((2, 2, 256)) < 0.7).astype(np.float32)}


def update(gradient_step, name: str, number: int) -> float:
    """The 2nd update is of two micro-batches."""
    return gradient_step.train([batch(name, 10 * number + i) for i in range(2 if number == 1 else 1)])


def updates(gradient_step, name: str, folder: Path) -> dict:
    """All updates, the state after each on disk; their losses and those of an evaluation."""
    losses = []
    for number in range(UPDATES):
        losses.append(update(gradient_step, name, number))
        RunFolder(folder / str(number + 1)).save_state(gradient_step.model, gradient_step.optimizer, Progress())
    evaluated = gradient_step.evaluate(*batch(name, 99))
    return {"losses": losses, "evaluated": {key: value.tolist() for key, value in evaluated.items()}}


def last_update(gradient_step, name: str, folder: Path) -> float:
    """The loss of the last update, from the state on disk before it."""
    RunFolder(folder / str(UPDATES - 1)).load_state(gradient_step.model, gradient_step.optimizer)
    return update(gradient_step, name, UPDATES - 1)


def states(folder: Path, number: int) -> dict[str, np.ndarray]:
    with np.load(folder / str(number) / "state.npz") as stored:
        return {key: stored[key] for key in stored.files if key != "progress"}


def child(*words: object, **more) -> subprocess.CompletedProcess:
    """This file as a script under JAX, unoptimised by XLA, which would take longer than the rest."""
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    return subprocess.run([sys.executable, "-W", "error::UserWarning", "-m", "tests.test_jax_step", *map(str, words)],
                          cwd=ROOT, capture_output=True, text=True, timeout=500, env=environment, **more)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """name -> what TensorFlow and JAX made of the same begin: (folder, results of TensorFlow, of JAX), made once."""
    made = {}

    def make(name: str) -> tuple[Path, dict, dict]:
        if name not in made:
            folder, ours = tmp_path_factory.mktemp(name), make_step(name)
            RunFolder(folder / "begin").save_state(ours.model, ours.optimizer, Progress())
            results = updates(ours, name, folder / "tensorflow")
            done = child("steps", name, folder)
            assert done.returncode == 0, done.stderr[-3000:]
            made[name] = folder, results, json.loads(done.stdout.splitlines()[-1])
        return made[name]
    return make


@pytest.mark.parametrize("name", NAMES)
def test_same_losses_and_weights(both, name):
    folder, tensorflow, jax = both(name)
    assert tensorflow["losses"] == pytest.approx(jax["losses"], rel=1e-4)
    assert len(set(tensorflow["losses"])) == UPDATES
    begin = states(folder, "begin")
    moved = 0
    # Adam's first steps have the gradient's sign whatever its size, so where a gradient nearly vanishes, as many do in
    # compact, rounding decides, and after three updates a few per cent of the values have parted. It is compared after
    # the first one: the slots, which show the gradients, as strictly as the others, the weights less so
    for number in (1,) if name == "compact" else (UPDATES - 1, UPDATES):
        wanted, got = states(folder / "tensorflow", number), states(folder / "jax", number)
        assert list(wanted) == list(got) == list(begin)
        for key, value in wanted.items():
            scale = max(1e-3, np.abs(value).max())
            if name == "compact" and value.shape == (256,) and max(np.abs(value).max(), np.abs(got[key]).max()) < 1e-4:
                continue        # the maps' bias and its slots: a softmax does not see it, all of it is rounding
            near = 2e-3 if name == "compact" and key.startswith("model/") else 1e-4
            np.testing.assert_allclose(got[key], value, atol=near * scale, rtol=0, err_msg=f"{name} {key}")
            moved += not np.array_equal(value, begin[key])
    assert moved > (0.5 if name == "compact" else 1) * len(begin)      # most weights, slots and statistics moved
    for key, value in tensorflow["evaluated"].items():
        np.testing.assert_allclose(jax["evaluated"][key], value, rtol=1e-3 if name == "compact" else 1e-4, err_msg=key)
    parts = {"small": {"c", "d"}, "compact": {"keypoints", "likelihood", "first"}, "convlstm": set()}[name]
    assert jax["evaluated"].keys() == {"loss", *parts}


@pytest.mark.parametrize("name", NAMES)
def test_a_run_goes_on_under_the_other_backend(both, name):
    folder, tensorflow, jax = both(name)
    assert jax["resumed"] == pytest.approx(tensorflow["losses"][-1], rel=1e-4)
    assert last_update(make_step(name), name, folder / "jax") == pytest.approx(jax["losses"][-1], rel=1e-4)
    model = NETWORKS[name][0](NETWORKS[name][1])
    model.load_weights(folder / "jax" / str(UPDATES) / "last.keras")
    for value, stored in zip(model.variables, states(folder / "jax", UPDATES).values()):
        np.testing.assert_array_equal(value.numpy(), stored)


def test_half_precision_and_the_variables(both):
    """What only the JAX process can see; the numbers are asserted there and named here."""
    jax = both("small")[2]
    assert jax["deleted"] and jax["read"] and jax["unchanged"]
    for policy, losses in jax["half"].items():
        assert losses[-1] < 0.9 * losses[0], policy
    assert jax["half"]["mixed_bfloat16"][0] == pytest.approx(jax["half"]["mixed_float16"][0], rel=0.05)


@pytest.mark.parametrize("name, message", [
    ("mirrored", "^strategy mirrored needs TensorFlow; under KERAS_BACKEND=jax it must be none$"),
    ("multiworker", "^strategy multiworker needs TensorFlow; under KERAS_BACKEND=jax it must be none$"),
    ("tpu", "^strategy must be one of none, mirrored, multiworker, got 'tpu'$")])
def test_one_device_only(name, message):
    from Network.training import jax_step
    with pytest.raises(ValueError, match=message):
        jax_step.make_strategy(name)
    assert jax_step.make_strategy("none").num_replicas_in_sync == 1


FLAGS = ["--quiet", "--precision", "float32",
         "--seed", "5", "--learning-rate", "3e-3", "--halve-every", "0", "--warmup-epochs", "1",
         "--images", "2", "--batch-size", "4", "--accumulate", "2", "--image-size", "32", "--points", "64",
         "--lstm-filters", "4,4,4", "--block-filters", "4,4,4", "--link-filters", "4",
         "--decoder-filters", "4,4,4,4", "--shape-head", "2"]


def losses_of(folder: Path) -> np.ndarray:
    rows = list(csv.DictReader((folder / "history.csv").open()))
    return np.array([[float(row[key]) for key in ("loss", "val_loss", "learning_rate", "updates")] for row in rows])


@pytest.mark.slow
def test_train_goes_on_under_jax_without_tensorflow(tmp_path):
    """Two epochs under TensorFlow; the second one again under JAX, from a copy; and a run that begins under JAX."""
    from tests.test_dataset import write_subjects
    subjects = write_subjects(tmp_path / "subjects", counts=(8,) * 6, size=32, points=64)
    names = [f"P{i:02d}" for i in range(6)]
    split = {"training": names[:4], "validation": names[4:5], "test": names[5:]}
    (subjects / "split.json").write_text(json.dumps(split))
    first, copy, fresh = (tmp_path / name for name in ("first", "copy", "fresh"))
    assert train.main([str(subjects), "--run", str(first), "--epochs", "1", *FLAGS]) == 0
    shutil.copytree(first, copy)
    assert train.main([str(subjects), "--run", str(first), "--epochs", "2", "--resume", *FLAGS]) == 0
    done = child("train", subjects, copy, fresh)
    assert done.returncode == 0, done.stderr[-3000:]
    wanted, got, begun = losses_of(first), losses_of(copy), losses_of(fresh)
    assert wanted.shape == got.shape == (2, 4) and wanted[1, 3] == 4
    np.testing.assert_allclose(got, wanted, rtol=2e-4)
    assert begun.shape == (1, 4) and np.isfinite(begun).all() and (begun[0, 2:] == wanted[0, 2:]).all()
    assert {p.name for p in copy.iterdir()} == {p.name for p in first.iterdir()}
    assert {p.name for p in fresh.iterdir()} >= {"config.json", "state.npz", "best_validation.keras", "last.keras"}
    assert done.stderr.splitlines()[-1] == ("train.py: strategy mirrored needs TensorFlow; under KERAS_BACKEND=jax it "
                                            "must be none")


def child_steps(name: str, folder: Path) -> dict:
    ours = make_step(name)
    RunFolder(folder / "begin").load_state(ours.model, ours.optimizer)
    result = updates(ours, name, folder / "jax")
    result["resumed"] = last_update(ours, name, folder / "tensorflow")
    return result if name != "small" else {**result, **child_variables(ours, name), "half": child_half(name)}


def child_variables(ours, name: str) -> dict[str, bool]:
    """Of an update: are variables held over it unreadable, the step's own new, arrays read before it as they were?"""
    model = ours.model
    kept = model.get_weights()
    copies = [value.copy() for value in kept]
    update(ours, name, 0)
    try:
        model.get_weights()
        deleted = False
    except RuntimeError:
        deleted = True
    return {"deleted": deleted, "read": any((a != b).any() for a, b in zip(ours.model.get_weights(), copies)),
            "unchanged": all((a == b).all() for a, b in zip(kept, copies))}


def child_half(name: str) -> dict[str, list[float]]:
    """Losses in half precision. The rate is set between updates, as the trainer does."""
    losses = {}
    for precision in ("mixed_bfloat16", "mixed_float16"):
        settings = Settings(precision=precision)
        step.prepare(settings)
        ours = step.GradientStep(NETWORKS[name][0](None), step.make_optimizer(settings), NETWORKS[name][2])
        scaled = isinstance(ours.optimizer, keras.optimizers.LossScaleOptimizer)
        assert scaled == (precision == "mixed_float16")
        losses[precision] = []
        for rate in (1e-2, 3e-2):
            ours.optimizer.learning_rate = rate
            losses[precision] += [ours.train([batch(name, 0)]) for _ in range(8)]
    return losses


def child_train(subjects: str, copy: str, fresh: str) -> int:
    code = train.main([subjects, "--run", copy, "--epochs", "2", "--resume", *FLAGS])
    code = code or train.main([subjects, "--run", fresh, "--epochs", "1", *FLAGS])
    refused = train.main([subjects, "--run", f"{fresh}-2", "--strategy", "mirrored", *FLAGS])
    return code or (0 if refused == 2 else 1)


if __name__ == "__main__":
    if sys.argv[1] == "train":
        sys.exit(child_train(*sys.argv[2:]))
    print(json.dumps(child_steps(sys.argv[2], Path(sys.argv[3]))))
