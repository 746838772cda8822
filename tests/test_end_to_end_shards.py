"""Shards -> train.py -> evaluate.py, of networks that see several images of a subject or iterate over one."""
import csv
import json

import numpy as np
import pytest

import train
from Dataset.synthesis.renders import RenderOptions
from Dataset.synthesis.shards import make_shards
from evaluate import evaluate
from Evaluation.reports.options import parse
from Network.inference.registry import from_run

SMALL = ["--batches", "3", "--validation-subjects", "3", "--epochs", "1", "--quiet", "--image-size", "32"]
CONVLSTM = ["--preset", "convlstm-small", "--points", "64", "--lstm-filters", "4,6", "--lstm-strides", "2,2",
            "--block-filters", "4,8", "--block-strides", "1,2", "--block-expansion", "1,2", "--block-repeats", "1,1",
            "--link-filters", "8", "--decoder-filters", "8,6", "--max-images", "2", "--batch-images", "4"]
COARSE = ["--preset", "coarse-small", "--stem-filters", "8", "--filters", "8,16", "--blocks", "1,1",
          "--batch-size", "4"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    out = tmp_path_factory.mktemp("subjects") / "faces"
    make_shards(out, RenderOptions(subjects=10, images=2, size=64, seed=4, yaw=30, pitch=15, roll=15, detect=0))
    return out


def test_convlstm_from_shards_to_tables_of_any_number_of_images(shards, tmp_path, capsys):
    run = tmp_path / "run"
    assert train.main([str(shards), "--run", str(run), *SMALL, *CONVLSTM]) == 0
    config = json.loads((run / "config.json").read_text())
    assert config["order"] == "grid" and config["model"]["crop_margin"] == 1.15 and config["data"]["max_images"] == 2
    row, = csv.DictReader((run / "history.csv").open())
    assert float(row["val_loss"]) > 0
    loaded = from_run(run)
    assert loaded.images is None and loaded.points == 64
    images = np.random.default_rng(0).random((1, 5, 32, 32, 3), np.float32)
    assert not np.allclose(loaded.predict(images), loaded.predict(images[:, :1]))
    for arguments, words in ((["--images", "1"], "rank_1"), (["--curve", "--orders", "1"], "SEEN IN TRAINING")):
        capsys.readouterr()
        evaluate(parse("", ["--data", str(shards), "--model", str(run), "--no-surface", *arguments]))
        assert words in capsys.readouterr().out


@pytest.mark.parametrize("feedback", [True, False])
def test_coarse_from_shards_to_a_table_of_its_passes(feedback, shards, tmp_path, capsys):
    run, flags = tmp_path / "run", [] if feedback else ["--no-feedback"]
    assert train.main([str(shards), "--run", str(run), *SMALL, *COARSE, *flags]) == 0
    config = json.loads((run / "config.json").read_text())
    assert config["model"]["feedback"] is config["data"]["feedback"] is feedback
    assert from_run(run).loaded.model.input_shape == (None, 32, 32, 9 if feedback else 3)
    assert len(list((run / "epochs" / "0001").iterdir())) == 4
    capsys.readouterr()
    evaluate(parse("", ["--data", str(shards), "--model", str(run), "--iterations", "2", "--images", "1"]))
    assert "aligned, true pose" in capsys.readouterr().out
