"""Dataset/io/landmark_files.py: what was written comes back, in a format that others can parse; broken files are
named."""
import json

import numpy as np
import pytest

from Dataset.io.landmark_files import read_landmarks, write_landmarks

POINTS = np.arange(204).reshape(68, 3) / 8 - 5


@pytest.mark.parametrize("name", ["a.pts", "a.json", "B.PTS"])
def test_round_trip_and_same_bytes(tmp_path, name):
    write_landmarks(tmp_path / name, POINTS)
    assert np.array_equal(read_landmarks(tmp_path / name), POINTS)
    first = (tmp_path / name).read_bytes()
    write_landmarks(tmp_path / name, POINTS)
    assert (tmp_path / name).read_bytes() == first and len(list(tmp_path.iterdir())) == 1
    fine = POINTS + np.random.default_rng(0).normal(0, 50, POINTS.shape)
    write_landmarks(tmp_path / name, fine)
    assert np.abs(read_landmarks(tmp_path / name) - fine).max() <= 5.01e-7


def test_pinned_text(tmp_path):
    write_landmarks(tmp_path / "a.pts", POINTS)
    lines = (tmp_path / "a.pts").read_text().splitlines()
    assert lines[:4] == ["version: 1", "n_points: 68", "{", "-5.000000 -4.875000 -4.750000"]
    assert lines[70:] == ["20.125000 20.250000 20.375000", "}"]
    write_landmarks(tmp_path / "a.json", POINTS)
    data = json.loads((tmp_path / "a.json").read_text())
    assert data == {"order": "Multi-PIE 68", "points": POINTS.tolist()}


@pytest.mark.parametrize("name, text, rule", [
    ("a.pts", "", "begins with 'version:'"), ("a.pts", "version: 1\nn_points: 68\n{\n1 2 3\n", "between { and }"),
    ("a.pts", "version: 1\n{\n1 2 3\n}", r"got \(1, 3\)"), ("a.pts", "version: 1\n{\n1 2 x\n}", "could not convert"),
    ("a.json", "{", "is no JSON"), ("a.json", "[]", "must hold a JSON object"),
    ("a.json", '{"points": 3}', "TypeError"),
    ("a.json", '{"points": [[1, 2, 3]]}', r"got \(1, 3\)"), ("a.json", "[" * 100_000, "RecursionError|ValueError"),
    ("a.json", json.dumps({"points": [[1, 2, float("nan")]] * 68}), "finite"),
    ("a.pts", "version: 1\n" + " " * (1 << 20), "at most 1048576 bytes")])
def test_broken_files_are_named(tmp_path, name, text, rule):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"{name}: .*({rule})") as error:
        read_landmarks(tmp_path / name)
    assert "\n" not in str(error.value)


def test_bad_input_writes_nothing(tmp_path):
    for name, points, rule in (("a.txt", POINTS, "kept as .pts or .json, got '.txt'"), ("a", POINTS, "got 'no ending'"),
                               ("a.pts", POINTS[:67], r"from \(68, 3\) finite coordinates, got \(67, 3\)"),
                               ("a.json", POINTS * np.nan, "finite")):
        with pytest.raises(ValueError, match=rule):
            write_landmarks(tmp_path / name, points)
    with pytest.raises(ValueError, match="none.pts: no such file"):
        read_landmarks(tmp_path / "none.pts")
    assert list(tmp_path.iterdir()) == []
