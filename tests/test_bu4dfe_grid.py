"""`python -m Dataset.bu4dfe RAW OUT --order grid`: ordered ground truths, landmarks, the report, refusals."""
import csv
import json
import shutil

import numpy as np
import pytest

from Dataset.face_model.model import load_face_model
from Dataset.geometry.mesh import clean
from Dataset.geometry.scan_surface import ScanSurface
from Dataset.io.mesh_io import read_mesh
from Dataset.representations.points import coarser, encode
from Dataset.sources.bu4dfe import convert_all, main
from Dataset.sources.bu4dfe_grid import ordered_truth
from Dataset.sources.bu4dfe_subject import Options
from Dataset.sources.subjects import dataset_info, list_subjects, read_points
from Dataset.sources.validate import validate
from tests.raw_bu4dfe import write_raw, write_wrl

FLAGS = ["--order", "grid", "--size", "64", "--points", "4096"]
OPTIONS = Options(points=4096, size=64, order="grid")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Two subjects, one video of two neutral frames; F001's scans have landmarks, M001's have none."""
    folder = tmp_path_factory.mktemp("grid") / "RAW"
    write_raw(folder, ("F001", "M001"), frames=2, seed=3, subdivided=True, expressions=("Sad",), marked=("F001",))
    return folder


@pytest.fixture(scope="module")
def converted(raw, tmp_path_factory):
    out = tmp_path_factory.mktemp("grid") / "OUT"
    return out, convert_all(raw, out, OPTIONS)


def true_grid(index, size=64):
    """How tests/raw_bu4dfe.py made subject `index`."""
    model = load_face_model()
    return encode(model.shape(0.6 * model.sample_identity(np.random.default_rng([3, index]))), size)


def test_the_ground_truths_are_ordered_grids(converted, raw):
    out, _ = converted
    info = dataset_info(out)
    assert (info.order, info.grid, info.points, info.units) == ("grid", 64, 4096, "mm")
    assert validate(out) == (2, 4, 4096, [])
    for index, subject in enumerate(list_subjects(out)):
        grid = read_points(subject.ground_truth).reshape(64, 64, 3)
        # Positions, not only a surface: a point is where this point of this subject's face is, in the scan's own frame.
        error = np.linalg.norm(grid - true_grid(index), axis=2).mean()
        assert error < 1.0 and error < 0.5 * np.linalg.norm(true_grid(1 - index) - true_grid(index), axis=2).mean()
        scan = clean(read_mesh(raw / subject.name / "Sad" / "000.wrl"))
        found = ScanSurface(scan).nearest(grid.reshape(-1, 3))
        assert found.distance[~found.boundary].mean() < 0.1


def test_the_report_says_how_well_each_fits(converted):
    out, rows = converted
    summary = json.loads((out / "registration.json").read_text())
    assert sorted(summary) == ["bad", "limits", "mean", "subjects"] and summary["bad"] == []
    first, second = summary["subjects"]["F001"], summary["subjects"]["M001"]
    assert first["scan"] in ("Sad/000.wrl", "Sad/001.wrl") and (first["landmarks"], second["landmarks"]) == (46, 0)
    assert first["landmarks_mean"] < 3.0 and second["landmarks_mean"] is None
    for subject in (first, second):
        assert subject["surface_mean"] <= 0.1 and subject["surface_p95"] < 0.5 and 0.6 < subject["covered"] < 0.95
        assert subject["faults"] == []
    assert np.isclose(summary["mean"]["surface_mean"], (first["surface_mean"] + second["surface_mean"]) / 2, atol=1e-6)
    assert json.loads((out / "F001" / "registration.json").read_text()) == first
    assert [(r.subject, r.status) for r in rows if r.frame] == [("F001", "neutral"), ("M001", "neutral")]


def test_a_restart_does_not_show_in_the_bytes(converted, raw, tmp_path):
    shutil.copytree(converted[0], tmp_path / "OUT")
    shutil.rmtree(tmp_path / "OUT" / "M001")         # killed before M001 was renamed
    convert_all(raw, tmp_path / "OUT", OPTIONS)
    same_bytes(tmp_path / "OUT", converted[0])


@pytest.mark.slow
def test_nor_do_workers(converted, raw, tmp_path):
    convert_all(raw, tmp_path / "OUT", OPTIONS, workers=2)
    same_bytes(tmp_path / "OUT", converted[0])


def same_bytes(out, other):
    for name in ("M001/M001.ply", "M001/registration.json", "registration.json", "report.csv", "dataset.json"):
        assert (out / name).read_bytes() == (other / name).read_bytes(), name


def test_bad_fits_are_listed_by_name(raw, tmp_path, capsys):
    """Of M001 all on his left is cut away."""
    shutil.copytree(raw / "M001", tmp_path / "RAW" / "M001")
    for path in (tmp_path / "RAW" / "M001" / "Sad").glob("*.wrl"):
        scan = clean(read_mesh(path))
        keep = scan.triangles[scan.vertices[scan.triangles].mean(1)[:, 0] < 8]
        write_wrl(path, scan.vertices, scan.uv, keep)
    assert main([str(tmp_path / "RAW"), str(tmp_path / "OUT"), *FLAGS]) == 0
    said = capsys.readouterr().out
    assert "scans registered: 1; surface error mean 0.0" in said and "bad fits: 1; M001 (covered 0." in said
    assert json.loads((tmp_path / "OUT" / "registration.json").read_text())["bad"] == ["M001"]
    with open(tmp_path / "OUT" / "report.csv", newline="") as file:
        bad = [row for row in csv.DictReader(file) if row["status"] == "bad fit"]
    assert [row["subject"] for row in bad] == ["M001"] and "covered" in bad[0]["detail"]


def test_a_broken_landmark_file_passes_to_the_next_scan(raw, tmp_path):
    shutil.copytree(raw / "F001", tmp_path / "RAW" / "F001")
    video = tmp_path / "RAW" / "F001" / "Sad"
    rows = [line.split() for line in (video / "000.bnd").read_text().splitlines()]
    (video / "000.bnd").write_text("".join(" ".join(row) + "\n" for row in rows[:80]))
    (video / "001.bnd").write_text("".join(f"{i} {x} {y} {float(z) + 90}\n" for i, x, y, z in rows))
    with pytest.raises(ValueError, match="no subject could be converted"):
        convert_all(tmp_path / "RAW", tmp_path / "OUT", OPTIONS)
    with open(tmp_path / "OUT" / "report.csv", newline="") as file:
        details = {row["frame"]: row["detail"] for row in csv.DictReader(file) if row["status"] == "skipped"}
    assert "000.bnd: a landmark file must have 83 rows" in details["000"]
    assert "001.bnd: landmarks must lie on 001.wrl, half of them are more than" in details["001"]


def test_a_scan_that_is_no_face_names_its_file(tmp_path):
    import open3d as o3d
    ball = o3d.geometry.TriangleMesh.create_sphere(80.0, 50)
    from Dataset.geometry.mesh import Mesh
    with pytest.raises(ValueError, match="^.*Sad/000.wrl: must be a scan of a face in mm"):
        ordered_truth(tmp_path / "Sad" / "000.wrl", Mesh(np.asarray(ball.vertices), np.asarray(ball.triangles)), 16384)


@pytest.mark.parametrize("size", [8, 32, 128])
def test_coarser_grids_are_those_of_the_model(size):
    vertices = load_face_model().shape(np.ones(20))
    assert np.abs(coarser(encode(vertices), size) - encode(vertices, size)).max() < 1e-9


def test_flags_that_do_not_go_together(raw, tmp_path, capsys):
    out = str(tmp_path / "OUT")
    for flags, rule in ((["--sampling", "fps"], "do nothing with --order grid"), (["--crop-mm", "95"], "do nothing"),
                        (["--points", "5000"], "must be 64, 256, 1024, 4096 or 16384, got 5000")):
        assert main([str(raw), out, "--order", "grid", *flags]) == 2
        error = capsys.readouterr().err
        assert rule in error and error.count("\n") == 1
    with pytest.raises(ValueError, match="--order must be random or grid, got 'alphabetic'"):
        Options(order="alphabetic")


def test_the_order_cannot_change_on_the_way(converted, raw, capsys):
    assert main([str(raw), str(converted[0]), "--size", "64", "--points", "4096"]) == 2
    assert "OUT was begun with grid 64, now it is 0" in capsys.readouterr().err
