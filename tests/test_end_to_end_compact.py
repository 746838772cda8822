"""Shards -> train.py in two stages -> Network.export.pack -> evaluate.py and demo.py: the road to the weights in the box."""
import csv
import json
import shutil

import numpy as np
import pytest

from Dataset.io.landmark_files import read_landmarks
from Dataset.io.mesh_io import read_mesh
from tests.forkserver import run as script

SMALL = ["--encoder-filters", "8,8,12,16", "--encoder-blocks", "0,0,1,1", "--pyramid-filters", "12", "--map-filters",
         "8", "--memory-filters", "6", "--head-filters", "4", "--code", "16", "--rank", "8", "--appearance", "4",
         "--fine-filters", "6", "--refine-filters", "8"]
DATA = ["--batch-images", "8", "--max-images", "3", "--batches", "6", "--validation-subjects", "4", "--points", "1024",
        "--quiet"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    out = tmp_path_factory.mktemp("compact") / "faces"
    done = script("-m", "Dataset.shards", out, "--subjects", 20, "--images", 3, "--size", 64, "--seed", 4, "--workers", 1,
                  "--yaw", 30, "--pitch", 15, "--roll", 15, "--detect", 0, "--margin", 1.2)
    assert done.returncode == 0, done.stderr[-1000:]
    return out


@pytest.fixture(scope="module")
def box(shards):
    """A weight folder, trained in two stages."""
    runs = shards.parent
    first = script("train.py", shards, "--preset", "compact", "--run", runs / "keypoints", "--only-keypoints", "--image-size",
                   32, "--epochs", 1, *SMALL, *DATA)
    assert first.returncode == 0, first.stderr[-1000:]
    second = script("train.py", shards, "--preset", "compact", "--run", runs / "all", "--warm-start", runs / "keypoints",
                    "--image-size", 64, "--epochs", 1, *SMALL, *DATA)
    assert second.returncode == 0, second.stderr[-1000:]
    assert "began with its weights" in second.stderr
    packed = script("-m", "Network.export.pack", runs / "all", "-o", runs / "box")
    assert packed.returncode == 0 and "float16 moves a point by at most" in packed.stdout, packed.stderr[-1000:]
    return runs / "box"


def test_the_run_says_what_each_part_of_the_loss_is(box):
    rows = list(csv.DictReader((box.parent / "all" / "history.csv").open()))
    parts = [float(rows[0][f"val_{name}"]) for name in ("keypoints", "doubt", "first", "shape")]
    assert float(rows[0]["val_loss"]) == pytest.approx(sum(parts), rel=1e-5)
    first = list(csv.DictReader((box.parent / "keypoints" / "history.csv").open()))[0]
    assert "val_shape" not in first and "val_places" in first
    config = json.loads((box.parent / "all" / "config.json").read_text())
    assert config["order"] == "grid" and config["subjects"] == {"validation": "numbers below 4"}
    assert config["shards"]["seed"] == 4 and config["model"]["crop_margin"] == config["shards"]["margin"] == 1.2


def test_resumed_with_other_people_held_out_is_refused(shards, box):
    done = script("train.py", shards, "--preset", "compact", "--run", box.parent / "all", "--resume",
                  "--validation-subjects", 5)
    assert done.returncode == 2 and "was started with validation_people = 4, not 5" in done.stderr


def test_a_run_killed_before_its_first_state_still_begins_with_its_init(shards, box, tmp_path):
    """config.json is there, no state: --resume begins again, from the first stage's weights."""
    (tmp_path / "run").mkdir()
    shutil.copy(box.parent / "all" / "config.json", tmp_path / "run")
    done = script("train.py", shards, "--preset", "compact", "--run", tmp_path / "run", "--resume", "--quiet")
    assert done.returncode == 0 and "began with its weights" in done.stderr, done.stderr[-500:]
    again = script("train.py", shards, "--preset", "compact", "--run", tmp_path / "run", "--resume", "--quiet")
    assert again.returncode == 0 and "began with its weights" not in again.stderr


def test_demo_writes_a_mesh_its_landmarks_and_a_preview(box, tmp_path):
    done = script("demo.py", "--example", "--model", box, "-o", tmp_path / "her.obj")
    assert done.returncode == 0, done.stderr[-1000:]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"her.obj", "her.mtl", "her_texture.png", "her_landmarks.pts", "her_pose.json", "her.png"}
    mesh, landmarks = read_mesh(tmp_path / "her.obj"), read_landmarks(tmp_path / "her_landmarks.pts")
    assert mesh.triangles.shape == (2 * 31 * 31, 3) and mesh.uv is not None
    near = np.linalg.norm(mesh.vertices[:, None] - landmarks, axis=2).min(0)
    assert near.max() < 0.08            # on the face: no farther than a cell of the 32x32 grid


def test_no_output_replaces_a_picture(shards, box, tmp_path):
    """Neither a numbered preview, nor one in a folder of photos."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("her_01.png", "her_02.png"):
        shutil.copy(shards / "sheet.jpg", photos / name)
    before = {path: path.read_bytes() for path in photos.iterdir()}
    for words in ([photos / "her_01.png", photos / "her_02.png", "--each", "-o", photos / "her.ply"],
                  [photos, "-o", photos / "her_02.obj"]):
        done = script("demo.py", *words, "--model", box, "--box", "0,0,100,100")
        assert done.returncode == 2 and "would overwrite one of the pictures" in done.stderr
        assert {path: path.read_bytes() for path in photos.iterdir()} == before


def test_evaluate_beside_the_mean_face_and_the_curve(shards, box, tmp_path):
    done = script("evaluate.py", "--data", shards, "--model", box, "--images", 2, "--no-surface", "--results",
                  tmp_path / "table")
    assert done.returncode == 0, done.stderr[-1000:]
    rows = {row["metric"]: row for row in csv.DictReader((tmp_path / "table.csv").open())}
    p2p = rows["point_to_point"]
    assert float(p2p["ratio"]) == pytest.approx(float(p2p["model"]) / float(p2p["mean face"]))
    assert p2p["samples"] == "20" and 0.3 < float(p2p["ratio"]) < 3
    assert "SEEN IN TRAINING" in done.stdout
    assert float(rows["nme"]["mean face"]) == pytest.approx(float(rows["chamfer"]["mean face"]), rel=0.2)
    done = script("evaluate.py", "--data", shards, "--model", box, "--images", 4, "--no-surface")
    assert done.returncode == 2 and "--images must be 1 to 3" in done.stderr
    done = script("evaluate.py", "--data", shards, "--model", box, "--curve", "--orders", 2, "--results",
                  tmp_path / "curve")
    assert done.returncode == 0, done.stderr[-1000:]
    rows = list(csv.DictReader((tmp_path / "curve.csv").open()))
    assert [row["images"] for row in rows] == ["1", "2", "3"]
    assert float(rows[0]["difference"]) == pytest.approx(0, abs=1e-6)       # one image: nothing to remember
    assert float(rows[1]["low"]) <= float(rows[1]["difference"]) <= float(rows[1]["high"])


def test_shards_and_subject_folders_are_told_apart(shards, tmp_path):
    done = script("train.py", shards, "--preset", "quick", "--run", tmp_path / "r")
    assert done.returncode == 2 and "holds shards, this preset trains on subject folders" in done.stderr
    done = script("train.py", tmp_path, "--preset", "compact", "--run", tmp_path / "r")
    assert done.returncode == 2 and "not a folder of shards" in done.stderr
    assert list(tmp_path.iterdir()) == []
