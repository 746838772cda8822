"""Dataset/sources/own_scans.py: own photos with one scan a subject become subject folders."""
import csv
import json

import numpy as np
import pytest

from Dataset.face_model.model import load_face_model
from Dataset.geometry.mesh import Mesh
from Dataset.io.images import image_size, write_image
from Dataset.io.inputs import example_image
from Dataset.io.mesh_io import read_points, write_mesh, write_points
from Dataset.sources.own_scans import main
from Dataset.sources.subjects import dataset_info, list_subjects, read_split


@pytest.fixture(scope="module")
def photo():
    return example_image().image


def subject(folder, photo, ending, name="A"):
    """A subject: two photos with a face, one without, a textured scan with stray vertices."""
    folder = folder / name
    for number in (1, 2):
        write_image(folder / f"{number}.jpg", photo)
    write_image(folder / "wall.png", np.full((200, 200, 3), 90, np.uint8))
    model = load_face_model()
    stray = np.array([[900.0, 0, 0]])
    mesh = Mesh(np.concatenate([model.mean, stray]), model.triangles,
                np.concatenate([np.zeros((len(model.mean), 2)), [[0.0, 0.0]]]))
    if ending == ".obj":
        write_mesh(folder / "scan.obj", mesh, texture=photo[:64, :64])
    else:
        write_mesh(folder / f"scan{ending}", mesh._replace(uv=None))


def test_photos_and_scans_become_subject_folders(tmp_path, photo, capsys):
    subject(tmp_path / "in", photo, ".ply", "A")
    subject(tmp_path / "in", photo, ".obj", "B")
    (tmp_path / "in" / "C").mkdir()
    write_image(tmp_path / "in" / "C" / "1.jpg", photo)
    out = tmp_path / "out"
    words = [str(tmp_path / "in"), str(out), "--points", "500", "--size", "64", "--seed", "2"]
    assert main(words) == 0
    subjects = list_subjects(out)
    assert [s.name for s in subjects] == ["A", "B"]
    for one in subjects:
        assert [path.name for path in one.images] == ["1.jpg", "2.jpg"] and image_size(one.images[0]) == (64, 64)
        points = read_points(one.ground_truth)
        assert points.shape == (500, 3) and points[:, 0].max() < 200        # the stray vertex is no part of a triangle
    info = dataset_info(out)
    assert info.complete and info.points == 500 and info.order == "random" and info.source == "scans"
    assert sorted(read_split(out).training + read_split(out).test) == ["A", "B"]
    rows = list(csv.DictReader((out / "report.csv").open()))
    assert [(row["subject"], row["file"]) for row in rows] == [("A", "wall.png"), ("B", "wall.png"), ("C", "")]
    assert "exactly one" in rows[2]["reason"]           # and the .obj's texture is not among the photos
    # it goes on: what is damaged and what was skipped is made, from the same draws
    before = (out / "A" / "A.ply").read_bytes()
    (out / "A" / "1.jpg").unlink()
    subject(tmp_path / "in", photo, ".ply", "C")
    assert main(words) == 0
    assert (out / "A" / "A.ply").read_bytes() == before and (out / "A" / "1.jpg").exists()
    assert [s.name for s in list_subjects(out)] == ["A", "B", "C"]
    assert len(list(csv.DictReader((out / "report.csv").open()))) == 3      # a wall each
    capsys.readouterr()
    assert main([*words[:2], "--points", "501", "--size", "64", "--seed", "2"]) == 2
    assert "points" in capsys.readouterr().err


def test_a_cloud_gives_its_own_points(tmp_path, photo):
    cloud = np.random.default_rng(0).normal(0, 30, (300, 3))
    for name in ("A", "B"):
        write_image(tmp_path / "in" / name / "1.jpg", photo)
        write_points(tmp_path / "in" / name / "scan.ply", cloud)
    assert main([str(tmp_path / "in"), str(tmp_path / "out"), "--points", "200", "--detector", "chain"]) == 0
    found = [read_points(tmp_path / "out" / name / f"{name}.ply") for name in ("A", "B")]
    assert all((np.abs(points[:, None] - cloud).sum(-1).min(1) < 1e-3).all() for points in found)
    assert not np.array_equal(*found) and len(np.unique(found[0], axis=0)) == 200


@pytest.mark.parametrize("words, rule", [
    (["nowhere"], "no such folder"), (["empty"], "a folder for each subject"),
    (["faceless"], "no subject could be converted")])
def test_bad_input_is_one_line(words, rule, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    write_image(tmp_path / "faceless" / "A" / "1.jpg", np.full((100, 100, 3), 90, np.uint8))
    write_points(tmp_path / "faceless" / "A" / "scan.ply", np.random.default_rng(0).normal(size=(50, 3)))
    assert main([str(tmp_path / words[0]), str(tmp_path / "out"), "--points", "40"]) == 2
    error = capsys.readouterr().err
    assert rule in error and error.count("\n") == 1
    if rule.startswith("no subject"):
        reasons = (tmp_path / "out" / "report.csv").read_text()
        assert "no photo with a face" in reasons
        assert not json.loads((tmp_path / "out" / "dataset.json").read_text())["complete"]


def test_too_few_points_are_named(tmp_path, photo):
    write_image(tmp_path / "in" / "A" / "1.jpg", photo)
    write_points(tmp_path / "in" / "A" / "scan.ply", np.eye(3))
    assert main([str(tmp_path / "in"), str(tmp_path / "out"), "--points", "40"]) == 2
    assert "at least 40 points" in (tmp_path / "out" / "report.csv").read_text()
