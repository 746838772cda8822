"""Shards -> train.py in two stages -> Network.export.pack -> Network.readout.fit -> evaluate.py, demo.py: `compact`."""
import csv
import json
import shutil

import numpy as np
import pytest

import demo
import evaluate
import train
from Dataset.io.landmark_files import read_landmarks
from Dataset.io.mesh_io import read_mesh
from Dataset.shards import main as make_shards
from Network.export import pack
from Network.readout import fit
from tests.commands import command

SMALL = ["--encoder-filters", "8,8,12,16", "--encoder-blocks", "0,0,1,1", "--pyramid-filters", "12", "--appearance",
         "4", "--fine-filters", "6", "--refine-filters", "8", "--image-size", "64"]
DATA = ["--batch-images", "8", "--max-images", "3", "--batches", "6", "--validation-subjects", "4", "--epochs", "1",
        "--quiet"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    out = tmp_path_factory.mktemp("compact") / "faces"
    done = command(make_shards, out, "--subjects", 20, "--images", 3, "--size", 64, "--seed", 4, "--workers", 1,
                   "--yaw", 30, "--pitch", 15, "--roll", 15, "--detect", 0, "--margin", 1.2)
    assert done.returncode == 0, done.stderr[-1000:]
    return out


@pytest.fixture(scope="module")
def first(shards):
    """A run of a smaller crop, with which another begins."""
    run = shards.parent / "first"
    done = command(train.main, shards, "--preset", "compact", "--run", run, *SMALL, "--image-size", 32, *DATA)
    assert done.returncode == 0, done.stderr[-1000:]
    return run


@pytest.fixture(scope="module")
def frozen(shards, first):
    """A run with two kinds of layers from the first, of which one is frozen."""
    run = shards.parent / "frozen"
    done = command(train.main, shards, "--preset", "compact", "--run", run, "--warm-start", first, "--transfer",
                   "down_,top", "--freeze", "down_", *SMALL, "--image-size", 32, *DATA, "--batches", 2)
    assert done.returncode == 0, done.stderr[-1000:]
    return run


def test_layers_are_transferred_and_frozen(first, frozen):
    before, after = (dict(np.load(run / "best_validation.npz")) for run in (first, frozen))
    assert before.keys() == after.keys()
    same = {name for name in before if np.array_equal(before[name], after[name])}
    down = {name for name in before if name.startswith("down_")}
    assert len(down) > 5 and down <= same                               # its statistics, too
    assert any(name.startswith("top") for name in before.keys() - same)     # transferred, then trained
    assert len(before.keys() - same) > len(same)


@pytest.fixture(scope="module")
def packed(shards, first):
    """A weight folder, trained in two stages, with its read-out."""
    runs = shards.parent
    second = command(train.main, shards, "--preset", "compact", "--run", runs / "second", "--warm-start", first, *SMALL,
                     *DATA)
    assert second.returncode == 0, second.stderr[-1000:]
    assert "initial weights of" in second.stderr
    done = command(pack.main, runs / "second", "-o", runs / "packed")
    assert done.returncode == 0 and "float16 moves a point by at most" in done.stdout, done.stderr[-1000:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "HELD_OUT", 4)           # of 20 subjects
        done = command(fit.main, runs / "packed", shards)
    assert done.returncode == 0 and "16 subjects" in done.stdout, done.stderr[-1000:]
    return runs / "packed"


def test_the_run_says_what_each_part_of_the_loss_is(shards, packed):
    run = shards.parent / "second"
    row, = csv.DictReader((run / "history.csv").open())
    parts = [float(value) for name, value in row.items() if name.startswith("val_") and name != "val_loss"]
    assert len(parts) == 3 and "val_keypoints" in row
    assert float(row["val_loss"]) == pytest.approx(sum(parts), rel=1e-5)
    config = json.loads((run / "config.json").read_text())
    assert config["order"] == "grid" and config["subjects"] == {"validation": "numbers below 4"}
    assert config["shards"]["seed"] == 4 and config["model"]["crop_margin"] == config["shards"]["margin"] == 1.2


def test_resumed_with_other_subjects_held_out_is_refused(shards, first):
    done = command(train.main, shards, "--preset", "compact", "--run", first, "--resume", "--validation-subjects", 5)
    assert done.returncode == 2 and "was started with validation_subjects = 4, not 5" in done.stderr


def test_a_run_killed_before_its_first_state_still_takes_its_warm_start(shards, frozen, tmp_path):
    """config.json is there, no state: --resume starts anew, from the first run's weights."""
    (tmp_path / "run").mkdir()
    shutil.copy(frozen / "config.json", tmp_path / "run")
    words = [shards, "--preset", "compact", "--run", tmp_path / "run", "--resume", "--quiet"]
    done = command(train.main, *words)
    assert done.returncode == 0 and "initial weights of" in done.stderr, done.stderr[-500:]
    again = command(train.main, *words)
    assert again.returncode == 0 and "initial weights of" not in again.stderr


def test_demo_writes_a_mesh_its_landmarks_and_a_preview(packed, tmp_path):
    done = command(demo.main, "--example", "--model", packed, "-o", tmp_path / "her.obj")
    assert done.returncode == 0, done.stderr[-1000:]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"her.obj", "her.mtl", "her_texture.png", "her_landmarks.pts", "her_pose.json", "her.png"}
    mesh, landmarks = read_mesh(tmp_path / "her.obj"), read_landmarks(tmp_path / "her_landmarks.pts")
    assert mesh.triangles.shape == (2 * 127 * 127, 3) and mesh.uv is not None
    near = np.linalg.norm(mesh.vertices[:, None] - landmarks, axis=2).min(0)
    assert near.max() < 2               # mm, on the face: no farther than a cell of the 128x128 grid
    assert (tmp_path / "her.obj").read_text().startswith("# written by faces3d\n# unit: mm (scale of the mean face)\n")
    assert 150 < np.ptp(mesh.vertices[:, 1]) < 250


def test_no_output_replaces_an_image(shards, packed, tmp_path):
    """Neither a numbered preview, nor one in a folder of photos."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("her_01.png", "her_02.png"):
        shutil.copy(shards / "sheet.jpg", photos / name)
    before = {path: path.read_bytes() for path in photos.iterdir()}
    for words in ([photos / "her_01.png", photos / "her_02.png", "--each", "-o", photos / "her.ply"],
                  [photos, "-o", photos / "her_02.obj"]):
        done = command(demo.main, *words, "--model", packed, "--box", "0,0,100,100")
        assert done.returncode == 2 and "would overwrite one of the images" in done.stderr
        assert {path: path.read_bytes() for path in photos.iterdir()} == before


def test_evaluate_beside_the_mean_face_and_the_curve(shards, packed, tmp_path):
    done = command(evaluate.main, "--data", shards, "--model", packed, "--images", 2, "--no-surface", "--results",
                   tmp_path / "table")
    assert done.returncode == 0, done.stderr[-1000:]
    rows = {row["metric"]: row for row in csv.DictReader((tmp_path / "table.csv").open())}
    p2p = rows["point_to_point"]
    assert float(p2p["ratio"]) == pytest.approx(float(p2p["model"]) / float(p2p["mean face"]))
    assert p2p["samples"] == "20" and 0.3 < float(p2p["ratio"]) < 3
    assert "SEEN IN TRAINING" in done.stdout
    assert float(rows["nme"]["mean face"]) == pytest.approx(float(rows["chamfer"]["mean face"]), rel=0.2)
    done = command(evaluate.main, "--data", shards, "--model", packed, "--images", 4, "--no-surface")
    assert done.returncode == 2 and "--images must be 1 to 3" in done.stderr
    done = command(evaluate.main, "--data", shards, "--model", packed, "--curve", "--orders", 2, "--results",
                   tmp_path / "curve")
    assert done.returncode == 0, done.stderr[-1000:]
    rows = list(csv.DictReader((tmp_path / "curve.csv").open()))
    assert [row["images"] for row in rows] == ["1", "2", "3"]
    assert float(rows[0]["difference"]) == pytest.approx(0, abs=1e-6)       # one image: nothing to remember
    assert float(rows[1]["low"]) <= float(rows[1]["difference"]) <= float(rows[1]["high"])


def test_shards_and_subject_folders_are_distinguished(shards, tmp_path):
    done = command(train.main, shards, "--preset", "quick", "--repeats", 2, "--run", tmp_path / "r")
    assert done.returncode == 2 and "repeats may be set for subject folders only" in done.stderr
    done = command(train.main, tmp_path, "--preset", "compact", "--run", tmp_path / "r")
    assert done.returncode == 2 and "not a folder of shards" in done.stderr
    assert list(tmp_path.iterdir()) == []
