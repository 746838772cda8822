"""Documented commands of evaluate.py that no other file runs: each once, in process, and what it wrote."""
import csv
import json
import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import evaluate
from Network.commands import compared
from Network.engine.loaded import bundled_models
from tests import aflw_files, tiny_runs


@pytest.fixture(scope="module")
def subjects(tmp_path_factory) -> Path:
    return tiny_runs.write_subjects(tmp_path_factory.mktemp("subjects") / "data")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return tiny_runs.convlstm_run(tmp_path_factory.mktemp("convlstm") / "run")


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """What `compact` can read: 128 px."""
    return tiny_runs.write_shards(tmp_path_factory.mktemp("shards") / "faces")


def table(tmp_path: Path, *words: object) -> tuple[list[str], list[dict[str, str]]]:
    """Run evaluate.py with --results -> the columns and rows of the CSV file; the text and Markdown are there, too."""
    stem = tmp_path / "scores"
    assert evaluate.main([*map(str, words), "--results", str(stem)]) == 0
    assert stem.with_suffix(".md").read_text().startswith("**") and stem.with_suffix(".txt").stat().st_size
    with stem.with_suffix(".csv").open() as file:
        rows = list(csv.reader(file))
    return rows[0], [dict(zip(rows[0], row)) for row in rows[1:]]


def means(tmp_path: Path, *words: object) -> dict[str, dict[str, str]]:
    return {row["metric"]: row for row in table(tmp_path, *words)[1]}


def test_table_2_has_both_checkpoints_on_both_parts(subjects, run, tmp_path):
    columns, rows = table(tmp_path, "--data", subjects, "--model", run, "--table", 2, "--no-surface")
    assert columns == ["data", "metric", "source", "Training Model", "Validation Model"]
    nme = [row for row in rows if row["metric"] == "nme"]
    assert [row["data"] for row in nme] == ["Training Data"] * 2 + ["Testing Data"] * 2
    thesis = next(row for row in nme if row["source"].startswith("thesis"))
    assert float(thesis["Training Model"]) == 0.0034183635
    ours = [row for row in nme if row["source"].startswith("ours")]
    assert all(float(row[name]) > 0 for row in ours for name in columns[3:])
    assert ours[0]["Training Model"] != ours[0]["Validation Model"]         # two checkpoints, two numbers
    assert ours[0]["Training Model"] != ours[1]["Training Model"]           # two parts


def test_the_part_of_the_subjects_and_the_checkpoint_are_those_named(subjects, run, tmp_path, capsys):
    """--subjects, --checkpoint; and the surface protocol, which is on unless it is left out."""
    small = ("--data", subjects, "--model", run, "--no-surface")
    test = means(tmp_path, *small)
    training = means(tmp_path, *small, "--subjects", "training")
    assert f"{run} on {subjects}: training subjects" in capsys.readouterr().out
    assert int(training["nme"]["samples"]) > int(test["nme"]["samples"])
    last = means(tmp_path, *small, "--checkpoint", "last")
    assert last["nme"]["mean"] != test["nme"]["mean"] and last["nme"]["samples"] == test["nme"]["samples"]
    assert test["surface_chamfer"]["mean"] == "" and test["surface_chamfer"]["samples"] == "0"


def test_the_surface_protocol_is_on_by_default(subjects, run, tmp_path):
    found = means(tmp_path, "--data", subjects, "--model", run, "--images", 4)
    forward, back, both = (float(found[f"surface_{name}"]["mean"]) for name in ("forward", "reverse", "chamfer"))
    assert both == pytest.approx((forward + back) / 2) and both > 0
    assert found["surface_chamfer"]["samples"] == found["nme"]["samples"] != "0"


def test_figures_are_drawn_for_each_test_subject(subjects, run, tmp_path):
    means(tmp_path, "--data", subjects, "--model", run, "--no-surface", "--figures", tmp_path / "figures")
    from Dataset.sources.subjects import subjects_of
    names = [subject.name for subject in subjects_of(subjects)["test"]]
    files = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert files == sorted(f"best_validation_test_{name}_{kind}" for name in names
                           for kind in ("strip.png", "error.png", "points.npz"))
    assert cv2.imread(str(tmp_path / "figures" / files[0])).std() > 10
    numbers = np.load(tmp_path / "figures" / files[1])
    assert numbers["prediction"].shape == numbers["truth"].shape == (256, 3)


def test_a_folder_without_a_split_is_evaluated_whole(subjects, run, tmp_path, capsys):
    """The thesis's Testing: all of its subjects, unless the model was trained on subjects of these names."""
    whole = tmp_path / "Testing"
    shutil.copytree(subjects, whole, ignore=shutil.ignore_patterns("split.json"))
    words = ("--data", whole, "--model", run, "--no-surface")
    found = means(tmp_path, *words)
    assert f"{run} on {whole}: all subjects" in capsys.readouterr().out
    assert int(found["nme"]["samples"]) == 20                    # 10 subjects, 4 images, 2 a sample
    assert means(tmp_path, *words, "--subjects", "test")["nme"]["samples"] == "6"
    trained = json.loads((run / "config.json").read_text())
    trained["subjects"] = {"training": [sorted(path.name for path in whole.glob("S*"))[0]]}
    shutil.copytree(run, tmp_path / "seen")
    (tmp_path / "seen" / "config.json").write_text(json.dumps(trained))
    found = means(tmp_path, "--data", whole, "--model", tmp_path / "seen", "--no-surface")
    assert found["nme"]["samples"] == "6"


def test_photos_one_at_a_time_beside_the_mean_face(shards, tmp_path):
    found = means(tmp_path, "--data", shards, "--model", "compact", "--photos", "--images", 1, "--no-surface")
    for name in ("chamfer", "landmarks", "landmarks_seen"):
        model, mean = float(found[name]["model"]), float(found[name]["mean face"])
        assert 0 < model < mean and float(found[name]["ratio"]) == pytest.approx(model / mean), name
    assert found["chamfer"]["samples"] == "2" and float(found["no_face"]["model"]) == 0
    assert float(found["ms_per_photo"]["model"]) > 0 and found["ms_per_photo"]["mean face"] == ""


def test_the_error_after_each_pass(shards, tmp_path):
    run = tiny_runs.coarse_run(tmp_path / "run")
    columns, rows = table(tmp_path, "--data", shards, "--model", run, "--iterations", 2, "--images", 1)
    assert columns == ["passes", "vertices", "aligned", "landmarks", "angle", "vertices, true pose",
                       "aligned, true pose", "change"]
    assert [row["passes"] for row in rows] == ["0", "1", "2"]
    assert rows[0]["change"] == "" and float(rows[1]["change"]) > 0
    assert rows[0]["vertices"] == rows[0]["vertices, true pose"]               # the mean face, whatever its pose
    assert all(float(row[name]) > 0 for row in rows for name in columns[1:7])


def test_landmarks_by_yaw(tmp_path):
    aflw_files.write_folder(tmp_path / "aflw", [5.0, 45.0])
    columns, rows = table(tmp_path, "--aflw2000", tmp_path / "aflw", "--model", "compact", "--boxes", "truth")
    assert columns[1:4] == ["0 to 30", "30 to 60", "60 to 90"]
    flat, solid, photos, missed = rows
    assert 0 < float(flat["0 to 30"]) < 8 and float(solid["all photos"]) > float(flat["all photos"])
    assert photos["all photos"] == "2" and missed["all photos"] == "0" and flat["60 to 90"] == ""


def test_compare_sets_the_bundled_networks_and_a_run_beside_the_mean_face(shards, run, tmp_path, capsys, monkeypatch):
    assert len(compared.bundled_models()) == 6      # two of them here: each takes its seconds
    monkeypatch.setattr(compared, "bundled_models", lambda: {name: path for name, path in bundled_models().items()
                                                             if name in ("compact", "uvnet-small")})
    stem = tmp_path / "all"
    words = ["--compare", "--data", str(shards), "--model", str(run), "--images", "1", "--no-surface", "--strata"]
    assert evaluate.main([*words, "--results", str(stem)]) == 0
    kinds = ("photo", "strata", "subject")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["all.png"] + [f"all_{kind}.{ending}" for kind in kinds for ending in ("csv", "md", "txt")])
    tables = {}
    for kind in ("photo", "subject"):
        with (tmp_path / f"all_{kind}.csv").open() as file:
            tables[kind] = {row["system"]: row for row in csv.DictReader(file)}
        assert list(tables[kind]) == ["mean face", "compact", "uvnet-small", "run"]
        ratio = {name: float(row["ratio to the mean face"]) for name, row in tables[kind].items()}
        assert ratio["mean face"] == 1 and ratio["compact"] < 1
    assert tables["subject"]["compact"]["rank-1"] == "2 of 2"
    assert math.isclose(float(tables["subject"]["mean face"]["genuine/impostor ratio"]), 1)
    printed = capsys.readouterr().out
    with (tmp_path / "all_strata.csv").open() as file:
        strata = list(csv.DictReader(file))
    for attribute in ("yaw", "glasses", "hidden", "skin tone", "age", "sex"):
        counts = [int(row["photos"]) for row in strata if row["attribute"] == attribute and row["system"] == "compact"]
        assert sum(counts) == 2, attribute
    assert "This subject" in printed and "By attribute" in printed and f"wrote {tmp_path / 'all.png'}" in printed
