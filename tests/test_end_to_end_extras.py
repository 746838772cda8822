"""The outlook's outputs through the whole house: depth, landmarks and pose from shards to a packed network; its maps
evaluated pixel by pixel; what its layers see."""
import csv
import json

import numpy as np
import pytest

import train
from Datagenerator.sequences.maps import everybodys_maps
from Dataset.synthesis.renders import RenderOptions
from Dataset.synthesis.shards import make_shards, open_shards
from Evaluation.reports.uv_maps import maps_table
from Evaluation.views.feature_collage import write_collages
from Network.export import pack
from Network.inference.registry import from_run
from Network.inspection.feature_maps import feature_maps, layer_names

FLAGS = ["--preset", "uvnet-small", "--confidence", "--levels", "3", "--stem", "8", "--features", "8,12,16",
         "--up-features", "8,12,16", "--batch-size", "4", "--batches", "3", "--validation-subjects", "3", "--quiet",
         "--image-size", "32",
         "--depth", "--landmarks", "--pose", "--auxiliary-features", "16"]
EXTRAS = ["--extras", "depth,landmarks,pose"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    out = tmp_path_factory.mktemp("extras") / "faces"
    make_shards(out, RenderOptions(subjects=8, images=2, size=32, seed=4, yaw=30, pitch=15, roll=15, detect=0,
                                   texture="noise", buffers=("uv", "mask", "visible_mask", "depth")))
    return out


def test_from_shards_to_a_packed_network(shards, tmp_path):
    run = tmp_path / "run"
    assert train.main([str(shards), "--run", str(run), "--epochs", "1", *FLAGS, *EXTRAS]) == 0
    row = next(csv.DictReader((run / "history.csv").open()))
    parts = [float(row[f"val_{name}"]) for name in ("uv", "gradient", "mask", "visible_mask", "confidence", "depth",
                                                    "landmarks", "pose")]
    assert min(parts) > 0 and float(row["val_loss"]) == pytest.approx(sum(parts), rel=1e-4)
    config = json.loads((run / "config.json").read_text())
    assert config["data"]["extras"] == ["depth", "landmarks", "pose"] and config["shards"]["texture"] == "noise"
    assert train.main([str(shards), "--run", str(run), "--epochs", "2", "--resume", *FLAGS, *EXTRAS]) == 0
    assert pack.main([str(run), "-o", str(tmp_path / "box")]) == 0
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    whole, packed = from_run(run), from_run(tmp_path / "box")
    assert whole.answers(images).shape == (2, 32, 32, 7)
    assert np.median(np.abs(packed.answers(images) - whole.answers(images))) < 0.01
    subjects = open_shards(shards)
    table = maps_table(lambda: everybodys_maps(subjects, 32, 2), packed.answers, "run")
    assert [line[0] for line in table.rows][:3] == ["uv_l1", "uv_cells", "uv_median"] and table.rows[0][3] == 16
    found = feature_maps(packed.keras_model(), images[0], layer_names(packed.keras_model()))
    assert len(write_collages(tmp_path / "maps", found)) == len(found) > 8
