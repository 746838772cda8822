"""Shards with buffers, or photos with depth -> train.py -> Network.export.pack -> evaluate.py: dense predictions."""
import csv
import json

import numpy as np
import pytest

import train
from Dataset.synthesis.renders import RenderOptions
from Dataset.synthesis.shards import make_shards
from Network.export import pack
from Network.inference.registry import from_run
from tests.forkserver import run as script
from tests.texas3d_files import write_pair

UVNET = ["--preset", "uvnet-small", "--levels", "2", "--stem", "8", "--features", "8,12", "--up-features", "8,12",
         "--batch-size", "4", "--batches", "3", "--validation-subjects", "3", "--quiet", "--image-size", "64",
         "--confidence"]
PIX2PIX = ["--preset", "pix2pix-small", "--image-size", "32", "--filters", "4,8,8,8", "--discriminator-filters", "4,8",
           "--batch-size", "4", "--quiet"]

VRN = ["--preset", "vrn-small", "--image-size", "32", "--layers", "36", "--features", "8", "--stem", "4,8", "--head",
       "8", "--landmark-features", "8", "--batch-size", "4", "--batches", "3", "--validation-subjects", "3", "--quiet",
       "--depth", "1"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    out = tmp_path_factory.mktemp("maps") / "faces"
    make_shards(out, RenderOptions(subjects=10, images=2, size=64, seed=4, yaw=30, pitch=15, roll=15, detect=0,
                                   buffers=("uv", "mask", "visible_mask", "depth")))
    return out


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two subjects to evaluate on: equation (2) aligns noise, the answer of an untrained network, for a long time."""
    out = tmp_path_factory.mktemp("two") / "faces"
    make_shards(out, RenderOptions(subjects=2, images=1, size=64, seed=5, yaw=30, pitch=15, roll=15, detect=0))
    return out


def rows_of(run):
    return list(csv.DictReader((run / "history.csv").open()))


def test_uvnet_from_shards_to_a_table(shards, tmp_path):
    run = tmp_path / "run"
    assert train.main([str(shards), "--run", str(run), "--epochs", "1", *UVNET]) == 0
    parts = [float(rows_of(run)[0][f"val_{name}"]) for name in ("uv", "gradient", "mask", "visible_mask", "confidence")]
    assert float(rows_of(run)[0]["val_loss"]) == pytest.approx(sum(parts), rel=1e-4)
    config = json.loads((run / "config.json").read_text())
    assert config["network"] == "uvnet" and config["order"] == "grid" and config["shards"]["seed"] == 4
    assert [p.name for p in sorted((run / "epochs" / "0001").iterdir())] == [f"sample {i}.jpg" for i in (1, 2, 3, 4)]
    assert train.main([str(shards), "--run", str(run), "--epochs", "2", "--resume", *UVNET]) == 0
    assert len(rows_of(run)) == 2
    assert pack.main([str(run), "-o", str(tmp_path / "box")]) == 0
    images = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    whole, packed = from_run(run), from_run(tmp_path / "box")
    found, wanted = packed.answers(images), whole.answers(images)
    assert np.median(np.abs(found - wanted)) < 0.01 and np.abs(found - wanted).mean() < 0.03     # of values up to 4
    assert whole.points == packed.points == 128 ** 2 and whole.ordered and whole.images is None
    done = script("evaluate.py", "--data", shards, "--model", tmp_path / "box", "--images", 2, "--no-surface")
    assert done.returncode == 0, done.stderr[-1000:]
    assert "rank_1" in done.stdout and "SEEN IN TRAINING" in done.stdout


def test_pix2pix_from_shards_and_from_photos_with_depth(shards, tmp_path):
    run = tmp_path / "run"
    of_shards = [*PIX2PIX, "--batches", "3", "--validation-subjects", "3"]
    assert train.main([str(shards), "--run", str(run), "--epochs", "1", *of_shards]) == 0
    assert float(rows_of(run)[0]["val_l1"]) > 0
    answers = from_run(run).answers(np.zeros((2, 32, 32, 3), np.float32))
    assert answers.shape == (2, 32, 32, 1) and np.abs(answers).max() <= 1
    for subject in range(12):
        write_pair(tmp_path / "texas", subject)
    done = script("-m", "Dataset.texas3d", tmp_path / "texas", tmp_path / "pairs", "--size", 32)
    assert done.returncode == 0, done.stderr[-1000:]
    assert train.main([str(tmp_path / "pairs"), "--run", str(tmp_path / "two"), "--epochs", "1", *PIX2PIX]) == 0
    assert json.loads((tmp_path / "two" / "config.json").read_text())["subjects"]["training"]


@pytest.mark.parametrize("variant", [pytest.param("plain", marks=pytest.mark.slow), "guided",
                                     pytest.param("multitask", marks=pytest.mark.slow)])
def test_vrn_from_shards_to_tables(variant, shards, two, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "rounding_error", lambda *_: 0.0)     # a fit to noise, as it sees after a few steps
    run = tmp_path / "run"
    assert train.main([str(shards), "--run", str(run), "--epochs", "1", "--variant", variant, *VRN]) == 0
    row, = rows_of(run)
    parts = [float(row[f"val_{name}"]) for name in ("volume", "heat_maps") if f"val_{name}" in row]
    assert len(parts) == (1 if variant == "plain" else 2)
    assert float(row["val_loss"]) == pytest.approx(sum(parts), rel=1e-4)
    assert len(list((run / "epochs" / "0001").iterdir())) == 4
    if variant == "multitask":
        assert train.main([str(shards), "--run", str(run), "--epochs", "2", "--resume", *VRN]) == 0
        assert len(rows_of(run)) == 2
    assert pack.main([str(run), "-o", str(tmp_path / "box")]) == 0
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    whole, packed = from_run(run), from_run(tmp_path / "box")
    assert packed.answers(images).shape == (2, 32, 32, 36)
    found, wanted = packed.answers(images).ravel(), whole.answers(images).ravel()      # logits, to half precision
    assert np.corrcoef(found, wanted)[0, 1] > 0.995     # 0.9986 after one epoch of `guided` on a machine with AVX2 only
    marks = [predictor.heat_landmarks() for predictor in (whole, packed)]
    assert [mark is None for mark in marks] == [variant == "plain"] * 2
    if variant != "plain":
        moved = np.abs(np.subtract(*(mark(images) for mark in marks)))
        known = np.isfinite(moved)                      # NaN: no landmark
        assert known.mean() > 0.5
        assert np.mean(moved[known] < 0.01) > 0.9       # a maximum of noise may jump when weights are rounded
    if variant == "plain":
        done = script("evaluate.py", "--data", two, "--model", tmp_path / "box", "--images", 1, "--maps")
        assert done.returncode == 0, done.stderr[-1000:]
        assert "equation (2)" in done.stdout and "iou" in done.stdout


def test_bad_data(shards, tmp_path, capsys):
    write_pair(tmp_path / "texas", 0)
    for data, flags, message in (
            (shards, [*PIX2PIX, "--batches", "3", "--validation-subjects", "10"], "0 subjects to train on"),
            (tmp_path / "texas", [*PIX2PIX, "--batches", "3"], "batches may be set for shards only"),
            (shards, [*UVNET, "--reuse", "2"], "reuse may be set for DATA live only"),
            (tmp_path / "texas", UVNET, "not a folder of shards")):
        assert train.main([str(data), "--run", str(tmp_path / "run"), "--epochs", "1", *flags]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
        assert not (tmp_path / "run").exists()
