"""Subject folders -> train.py -> evaluate.py -> demo.py on unseen subjects: the commands of `make demo`, tiny."""
import csv
import json
import os
import re
import shlex
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import demo
import evaluate
import train
from Dataset.io.mesh_io import read_mesh
from Dataset.sources.subjects import subjects_of
from Dataset.synthesis import subject_folders
from Network.training.loading import load_model
from Network.training.named_weights import weights_hash
from tests import forkserver
from tests.commands import Done, command
from tests.forkserver import DEVNULL, PIPE, Popen, run as script
from tests.test_step import free_ports

MAINS = {"Dataset.synthetic": subject_folders.main, "train.py": train.main, "evaluate.py": evaluate.main,
         "demo.py": demo.main}
#: appended to the commands of `make demo`; of a flag that stands twice the last one counts
TINY_DATA = ("--images", 4, "--yaw", 5, "--pitch", 5, "--roll", 3, "--expression", 0.2, "--seed", 11, "--workers", 1)
TINY_RUN = ("--images", 2, "--halve-every", 8, "--learning-rate", 2e-3, "--seed", 1, "--quiet")


def recipe(target: str, **variables: object) -> list[list[str]]:
    """The words of each Python command of a target of the Makefile, without `python` and `-m`."""
    rules = (forkserver.ROOT / "Makefile").read_text().replace("\\\n", " ")
    lines = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", rules, re.MULTILINE).group(1)
    for name, value in variables.items():
        lines = lines.replace(f"$({name})", str(value))
    return [[word for word in shlex.split(line)[1:] if word != "-m"] for line in lines.splitlines()]


def run_command(words: list[str], *more: object) -> Done:
    done = command(MAINS[words[0]], *words[1:], *more)
    assert done.returncode == 0, done.stderr[-1000:]
    return done


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> list[list[str]]:
    """The commands of `make demo`, one by one, in the order in which the tests run them."""
    commands = recipe("demo", DEMO=tmp_path_factory.mktemp("subjects"))
    assert [words[0] for words in commands] == ["Dataset.synthetic", "train.py", "evaluate.py", "evaluate.py",
                                                "demo.py", "demo.py"]
    return commands


@pytest.fixture(scope="module")
def subjects(chain) -> Path:
    """48 synthetic subjects, 4 frontal 64-pixel images of each: too few to learn from (tests/test_learning.py)."""
    return make_subjects(chain[0], 48)


def make_subjects(words: list[str], count: int) -> Path:
    run_command(words, *TINY_DATA, "--subjects", count)
    return Path(words[1])


@pytest.fixture(scope="module")
def run(chain, subjects) -> Path:
    return train_run(chain[1], 4)


def train_run(words: list[str], epochs: int) -> Path:
    run_command(words, *TINY_RUN, "--epochs", epochs)
    return Path(words[words.index("--run") + 1])


def test_a_warm_start_begins_with_the_other_runs_weights(chain, run, tmp_path):
    """All of them: the shape head's bias, which is a new network's mean face, is the trained one."""
    run_command(chain[1][:2], "--preset", "quick", *TINY_RUN, "--run", tmp_path / "second", "--warm-start", run,
                "--epochs", 1, "--max-steps", 1)
    config = json.loads((tmp_path / "second" / "config.json").read_text())
    assert config["initial_weights"] == weights_hash(load_model(run).model)


def test_run_folder_is_complete(run):
    config = json.loads((run / "config.json").read_text())
    assert config["order"] == "grid" and config["train"]["epochs"] == 4 and config["data"]["images"] == 2
    assert not set(config["subjects"]["training"]) & set(config["subjects"]["validation"] + config["subjects"]["test"])
    history = list(csv.DictReader((run / "history.csv").open()))
    assert len(history) == 4 and (run / "loss.png").stat().st_size > 5000
    assert float(history[-1]["loss"]) < float(history[0]["loss"])


def test_evaluate_in_the_thesis_order_and_by_name(run, subjects, tmp_path):
    done = command(evaluate.main, 4, 2, subjects, run, tmp_path / "scores", "--no-surface")
    assert done.returncode == 0, done.stderr[-1000:]
    rows = {row["metric"]: row for row in csv.DictReader((tmp_path / "scores.csv").open())}
    groups = 2 * len(subjects_of(subjects, "train-test")["test"])         # of two images each
    assert 0.002 < float(rows["nme"]["mean"]) < 0.05 and int(rows["nme"]["samples"]) == groups > 12
    assert "prediction -> nearest ground truth" in rows["nme"]["definition"]
    published = command(evaluate.main, "--batch-size", 4, "--images", 2, "--data", subjects, "--model", run,
                        "--as-published", "--no-surface", "--results", tmp_path / "published")
    assert published.returncode == 0, published.stderr[-1000:]
    rows = {row["metric"]: row for row in csv.DictReader((tmp_path / "published.csv").open())}
    assert int(rows["nme"]["samples"]) == groups // 4       # of each whole batch of 4 item 0


def test_make_demo_evaluates_the_test_subjects_and_both_checkpoints(chain, run):
    """Its third command with the surface protocol, on few subjects; its fourth on one sample of each batch of 8."""
    run_command(chain[2], "--subjects", "validation")
    stem = Path(chain[2][-1])
    assert {row["metric"] for row in csv.DictReader(stem.with_suffix(".csv").open())} > {"nme", "chamfer"}
    assert stem.with_suffix(".txt").stat().st_size and stem.with_suffix(".md").stat().st_size
    done = run_command(chain[3], "--as-published", "--batch-size", 8)
    assert "Training Model" in done.stdout and "Validation Model" in done.stdout
    assert Path(chain[3][-1]).with_suffix(".csv").stat().st_size


def test_table_1_counts_the_thesis_parameters():
    done = command(evaluate.main, "--table", 1)
    assert "43,359,947 parameters, 11,424 of them not trainable" in done.stdout
    assert re.search(r"128x128x3 +Reshape .* 16384x3", done.stdout)


def test_demo_makes_a_coloured_mesh_of_a_real_photo(chain, run, tmp_path):
    """The last but one command of `make demo`, in a process of its own; the last shows the bundled network's face."""
    assert [words[words.index("-o") + 1] for words in chain[4:]] == ["demo_quick.ply", "demo.ply"]
    assert "--model" in chain[4] and "--model" not in chain[5]
    done = script(*chain[4], "-o", tmp_path / "face.ply")
    assert done.returncode == 0, done.stderr[-1000:]
    assert str(tmp_path / "face.ply") in done.stdout and str(tmp_path / "face.png") in done.stdout
    mesh = read_mesh(tmp_path / "face.ply")
    assert mesh.vertices.shape == (1024, 3) and mesh.triangles.shape == (2 * 31 * 31, 3)
    assert mesh.colours is not None and mesh.colours.std() > 10
    high, wide, deep = np.ptp(mesh.vertices, axis=0)[[1, 0, 2]]
    assert 1.0 < high / wide < 1.8 and 0.3 < deep / wide < 1.1      # a face, not a heap: a mask is higher than wide
    tip = mesh.vertices[mesh.vertices[:, 2].argmax()]
    assert abs(tip[0]) < 0.1 * wide                                 # the nose is in the middle


def test_each_image_gives_a_face(run, subjects, tmp_path):
    images = sorted((subjects / "S000").glob("*.jpg"))[:2]
    done = command(demo.main, *images, "--model", run, "--each", "--box", "0,0,64,64", "-o", tmp_path / "f.ply")
    assert done.returncode == 0, done.stderr[-1000:]
    one, two = (read_mesh(tmp_path / f"f_0{i}.ply").vertices for i in (1, 2))
    assert 0 < np.abs(one - two).max() < 0.5


def test_train_py_killed_and_resumed_gives_the_same_history(subjects, tmp_path):
    """SIGKILL from outside at an arbitrary moment after the first saved state."""
    flags = ["--epochs", 2, "--images", 2, "--max-steps", 20, "--deterministic", "--quiet", "--checkpoint-minutes", 0]
    whole = script("train.py", subjects, "--run", tmp_path / "whole", *flags)
    assert whole.returncode == 0, whole.stderr[-1000:]
    words = ["train.py", subjects, "--run", tmp_path / "killed", *flags]
    process = Popen(*words, stdout=DEVNULL, stderr=DEVNULL)
    deadline = time.monotonic() + 240
    while not (tmp_path / "killed" / "state.npz").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    again = script(*words, "--resume")
    assert again.returncode == 0, again.stderr[-1000:]
    first, second = ([[float(row["loss"]), float(row["val_loss"])] for row in csv.DictReader(path.open())]
                     for path in (tmp_path / "whole" / "history.csv", tmp_path / "killed" / "history.csv"))
    np.testing.assert_allclose(second, first, atol=1e-6)


@pytest.mark.slow        # tests/test_step.py has the step of two workers
def test_two_workers_train_as_one(subjects, tmp_path):
    """train.py in two local workers: the single process's losses, one run folder, written by the first worker."""
    flags = ["train.py", subjects, "--epochs", 2, "--images", 2, "--batch-size", 16, "--batch-norm", "merged",
             "--last-batch", "drop", "--precision", "float32", "--quiet"]
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    workers = [Popen(
        *flags, "--run", tmp_path / "two", "--strategy", "multiworker", stdout=DEVNULL, stderr=PIPE,
        env={**os.environ, "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})})
        for i in range(2)]
    for worker in workers:
        _, text = worker.communicate(timeout=300)
        assert worker.returncode == 0, text[-1500:]
    one = script(*flags, "--run", tmp_path / "one")
    assert one.returncode == 0, one.stderr[-1000:]
    first, second = ([[float(row["loss"]), float(row["val_loss"])] for row in csv.DictReader(path.open())]
                     for path in (tmp_path / "one" / "history.csv", tmp_path / "two" / "history.csv"))
    np.testing.assert_allclose(second, first, rtol=2e-2)
    np.testing.assert_allclose(second[0][0], first[0][0], rtol=2e-3)


@pytest.mark.parametrize("words, message", [
    (("train.py", "nowhere"), "train.py: nowhere: no such folder"),
    (("train.py", "{subjects}", "--batch-size", "0"), "batch_size must be at least 1, got 0"),
    (("train.py", "{subjects}", "--points", "256"), "points"),
    (("train.py", "{subjects}", "--bath-size", "2"), "unrecognized arguments: --bath-size 2"),
    (("train.py", "{subjects}", "--run", "{run}"), "holds a run already"),
    (("train.py", "{subjects}", "--run", "{run}", "--resume", "--learning-rate", "1"),
     "was started with learning_rate"),
    (("evaluate.py", "1", "2", "nowhere", "{run}"), "evaluate.py: nowhere: no such folder"),
    (("evaluate.py", "1", "x", "a", "b"), "the first two whole numbers"),
    (("evaluate.py", "--data", "{subjects}", "--model", "nowhere"), "nowhere: no such model file or run folder"),
    (("evaluate.py", "--data", "{subjects}", "--model", "{run}", "--images", "99"), "99 images"),
    (("demo.py", "nowhere.jpg", "--model", "{run}"), "nowhere.jpg: no such file"),
    (("demo.py", "{noface}", "--model", "{run}"), "grey.png: no face found"),
    (("demo.py", "{empty}", "--model", "{run}"), "empty.jpg: is empty"),
    (("demo.py", "{noface}", "--model", "{empty}"), "a model is a run folder, a .keras or an .h5 file"),
    (("demo.py", "{noface}", "--model", "{run}", "--box", "900,900,5,5"), "does not lie on the photo"),
    (("demo.py", "{noface}", "--model", "{run}", "-o", "x.stl"), "must end in .ply, .obj, .glb"),
    (("demo.py", "{noface}", "--model", "{run}", "-o", "{tmp}/grey.ply"), "would overwrite one of the images"),
    (("evaluate.py", "--data", "{subjects}", "--model", "nowhere", "--table", "2"), "nowhere: is no run folder"),
    (("demo.py",), "name a photo, a folder, a video or webcam")])
def test_bad_input_is_one_clear_line_and_leaves_nothing(words, message, run, subjects, tmp_path):
    import cv2
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((80, 80), 128, np.uint8))
    (tmp_path / "empty.jpg").write_bytes(b"")
    paths = {"tmp": tmp_path, "run": run, "subjects": subjects, "noface": tmp_path / "grey.png",
             "empty": tmp_path / "empty.jpg"}
    words = [word.format(**paths) for word in words]
    if words[0] == "demo.py" and "-o" not in words:
        words += ["-o", str(tmp_path / "out.ply")]
    if words[0] == "train.py" and "--run" not in words:
        words += ["--run", str(tmp_path / "new")]
    before = sorted(tmp_path.iterdir())
    done = command({"train.py": train, "evaluate.py": evaluate, "demo.py": demo}[words[0]].main, *words[1:])
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith(words[0] + ":")]
    assert len(lines) == 1 and message in lines[0], done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_bad_input_of_a_process_is_one_line_and_no_traceback(tmp_path):
    for words in (("train.py", "nowhere", "--run", tmp_path / "run"), ("evaluate.py", "1", "2", "nowhere", "nowhere"),
                  ("demo.py", "nowhere.jpg", "-o", tmp_path / "out.ply")):
        done = script(*words)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith(f"{words[0]}: nowhere"), done.stderr
    assert list(tmp_path.iterdir()) == []
