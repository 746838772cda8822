"""Subject folders -> train.py -> evaluate.py -> demo.py on unseen people: the main job, small enough for every run."""
import csv
import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from Dataset.io.mesh_io import read_mesh
from Dataset.sources.subjects import subjects_of
from tests.forkserver import DEVNULL, PIPE, Popen, run as script
from tests.test_step import free_ports


@pytest.fixture(scope="module")
def subjects(tmp_path_factory) -> Path:
    """96 synthetic people, 4 frontal 64-pixel pictures of each: too few to learn from (tests/test_learning.py)."""
    return make_subjects(tmp_path_factory.mktemp("subjects") / "data", 96)


def make_subjects(folder: Path, count: int) -> Path:
    done = script("-m", "Dataset.synthetic", folder, "--subjects", count, "--images", 4, "--size", 64, "--points", 1024,
                  "--yaw", 5, "--pitch", 5, "--roll", 3, "--expression", 0.2, "--seed", 11, "--workers", 2)
    assert done.returncode == 0, done.stderr[-1000:]
    return folder


@pytest.fixture(scope="module")
def run(subjects) -> Path:
    return train_run(subjects, 4)


def train_run(subjects: Path, epochs: int) -> Path:
    folder = subjects.parent / "run"
    done = script("train.py", subjects, "--run", folder, "--epochs", epochs, "--images", 2, "--halve-every", 8,
                  "--learning-rate", 2e-3, "--seed", 1, "--deterministic", "--quiet")
    assert done.returncode == 0, done.stderr[-1000:]
    return folder


def test_run_folder_is_complete(run):
    config = json.loads((run / "config.json").read_text())
    assert config["order"] == "grid" and config["train"]["epochs"] == 4 and config["data"]["images"] == 2
    assert not set(config["subjects"]["training"]) & set(config["subjects"]["validation"] + config["subjects"]["test"])
    history = list(csv.DictReader((run / "history.csv").open()))
    assert len(history) == 4 and (run / "loss.png").stat().st_size > 5000
    assert float(history[-1]["loss"]) < float(history[0]["loss"])


def test_evaluate_in_the_thesis_order_and_by_name(run, subjects, tmp_path):
    done = script("evaluate.py", 4, 2, subjects, run, tmp_path / "scores", "--no-surface")
    assert done.returncode == 0, done.stderr[-1000:]
    rows = {row["metric"]: row for row in csv.DictReader((tmp_path / "scores.csv").open())}
    groups = 2 * len(subjects_of(subjects, "train-test")["test"])         # of two pictures each
    assert 0.002 < float(rows["nme"]["mean"]) < 0.05 and int(rows["nme"]["samples"]) == groups > 24
    assert "prediction -> nearest ground truth" in rows["nme"]["definition"]
    published = script("evaluate.py", "--batch-size", 4, "--images", 2, "--data", subjects, "--model", run,
                       "--as-published", "--no-surface", "--results", tmp_path / "published")
    assert published.returncode == 0, published.stderr[-1000:]
    rows = {row["metric"]: row for row in csv.DictReader((tmp_path / "published.csv").open())}
    assert int(rows["nme"]["samples"]) == groups // 4       # of each whole batch of 4 item 0


def test_table_1_counts_the_thesis_parameters():
    done = script("evaluate.py", "--table", 1)
    assert "43,359,947 parameters, 11,424 of them not trainable" in done.stdout
    assert re.search(r"128x128x3 +Reshape .* 16384x3", done.stdout)


def test_demo_makes_a_coloured_mesh_of_a_real_photo(run, tmp_path):
    done = script("demo.py", "--example", "--model", run, "-o", tmp_path / "face.ply")
    assert done.returncode == 0, done.stderr[-1000:]
    assert str(tmp_path / "face.ply") in done.stdout and str(tmp_path / "face.png") in done.stdout
    mesh = read_mesh(tmp_path / "face.ply")
    assert mesh.vertices.shape == (1024, 3) and mesh.triangles.shape == (2 * 31 * 31, 3)
    assert mesh.colours is not None and mesh.colours.std() > 10
    high, wide, deep = np.ptp(mesh.vertices, axis=0)[[1, 0, 2]]
    assert 1.0 < high / wide < 1.8 and 0.3 < deep / wide < 1.1      # a face, not a heap: a mask is higher than wide
    tip = mesh.vertices[mesh.vertices[:, 2].argmax()]
    assert abs(tip[0]) < 0.1 * wide                                 # the nose is in the middle


def test_each_picture_gives_a_face(run, subjects, tmp_path):
    pictures = sorted((subjects / "S000").glob("*.jpg"))[:2]
    done = script("demo.py", *pictures, "--model", run, "--each", "--box", "0,0,64,64", "-o", tmp_path / "f.ply")
    assert done.returncode == 0, done.stderr[-1000:]
    one, two = (read_mesh(tmp_path / f"f_0{i}.ply").vertices for i in (1, 2))
    assert 0 < np.abs(one - two).max() < 0.5


def test_train_py_killed_and_resumed_gives_the_same_history(subjects, tmp_path):
    """SIGKILL from outside at an arbitrary moment of the second epoch."""
    flags = ["--epochs", 3, "--images", 2, "--max-steps", 20, "--deterministic", "--quiet", "--checkpoint-minutes", 0]
    whole = script("train.py", subjects, "--run", tmp_path / "whole", *flags)
    assert whole.returncode == 0, whole.stderr[-1000:]
    words = ["train.py", subjects, "--run", tmp_path / "killed", *flags]
    process = Popen(*words, stdout=DEVNULL, stderr=DEVNULL)
    while not (tmp_path / "killed" / "state.npz").exists():
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.5)
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
    (("train.py", "{subjects}", "--run", "{run}", "--resume", "--learning-rate", "1"), "was begun with learning_rate"),
    (("evaluate.py", "1", "2", "nowhere", "{run}"), "evaluate.py: nowhere: no such folder"),
    (("evaluate.py", "1", "x", "a", "b"), "the first two whole numbers"),
    (("evaluate.py", "--data", "{subjects}", "--model", "nowhere"), "nowhere: no such model file or run folder"),
    (("evaluate.py", "--data", "{subjects}", "--model", "{run}", "--images", "99"), "99 images"),
    (("demo.py", "nowhere.jpg", "--model", "{run}"), "nowhere.jpg: no such file"),
    (("demo.py", "{noface}", "--model", "{run}"), "grey.png: no face found"),
    (("demo.py", "{empty}", "--model", "{run}"), "empty.jpg: is empty"),
    (("demo.py", "{noface}", "--model", "{empty}"), "a model is a run folder, a .keras or an .h5 file"),
    (("demo.py", "{noface}", "--model", "{run}", "--box", "900,900,5,5"), "does not lie on the picture"),
    (("demo.py", "{noface}", "--model", "{run}", "-o", "x.stl"), "must end in .ply, .obj, .glb"),
    (("demo.py", "{noface}", "--model", "{run}", "-o", "{tmp}/grey.ply"), "would overwrite one of the pictures"),
    (("evaluate.py", "--data", "{subjects}", "--model", "nowhere", "--table", "2"), "nowhere: is no run folder"),
    (("demo.py",), "name a photo, a folder, a video or webcam")])
def test_bad_input_is_one_clear_line_and_leaves_nothing(words, message, run, subjects, tmp_path):
    import cv2
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((80, 80), 128, np.uint8))
    (tmp_path / "empty.jpg").write_bytes(b"")
    places = {"tmp": tmp_path,
              "run": run, "subjects": subjects, "noface": tmp_path / "grey.png", "empty": tmp_path / "empty.jpg"}
    words = [word.format(**places) for word in words]
    if words[0] == "demo.py" and "-o" not in words:
        words += ["-o", str(tmp_path / "out.ply")]
    if words[0] == "train.py" and "--run" not in words:
        words += ["--run", str(tmp_path / "new")]
    before = sorted(tmp_path.iterdir())
    done = script(*words)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith(words[0] + ":")]
    assert len(lines) == 1 and message in lines[0], done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.iterdir()) == before
