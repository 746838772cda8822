"""evaluate.py --scans: made scans whose truth is known, the mean face beside it, units, folders of others."""
import csv
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import trimesh
from trimesh.exchange.stl import export_stl

import evaluate
from Dataset.face_model.model import load_face_model
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.transforms import Similarity, rotation_from_euler
from Dataset.io.images import write_image
from Dataset.io.inputs import example_image
from Dataset.io.landmark_files import write_landmarks
from Dataset.io.mesh_io import write_mesh
from Dataset.representations.points import encode, grid_landmarks
from Dataset.sources.scans import read_scan, scan_subjects
from Evaluation.metrics.face_regions import REGIONS, grid_regions
from Evaluation.metrics.scan_errors import scan_errors, scan_target
from Evaluation.reports import scans
from Evaluation.reports.scans import measure, scan_report
from tests.commands import command
from tests.scans import make_scan

MEAN = encode(np.asarray(load_face_model().mean, float)).reshape(-1, 3)


class Found(NamedTuple):
    points: np.ndarray
    sized: bool = True
    missed: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def made():
    return make_scan(1, triangles=12_000, noise=0.02, hair=20)


@pytest.fixture(scope="module")
def target(made):
    """Without landmarks: the face model finds the nose tip and the regions."""
    return scan_target(made.scan)


@pytest.fixture(scope="module")
def truth(made):
    """The made face in the head frame, as a perfect network gives it."""
    return made.grid.reshape(-1, 3)


def turned(points: np.ndarray, scale: float = 1.0) -> np.ndarray:
    return Similarity(scale, rotation_from_euler(20, -10, 15), np.array([40.0, -7, 300])).apply(points)


def write_subject(folder: Path, made, unit: float = 1.0, ending: str = ".ply", landmarks: bool = True) -> Path:
    folder.mkdir(parents=True)
    write_image(folder / "b.jpg", np.zeros((8, 8, 3), np.uint8))
    write_image(folder / "a.jpg", np.zeros((8, 8, 3), np.uint8))
    scan = Mesh(made.scan.vertices * unit, made.scan.triangles)
    if ending == ".stl":
        (folder / "scan.stl").write_bytes(export_stl(trimesh.Trimesh(scan.vertices, scan.triangles, process=False)))
    else:
        write_mesh(folder / f"scan{ending}", scan)
    if landmarks:
        write_landmarks(folder / "landmarks.pts", made.landmarks * unit)
    return folder


def test_the_scan_alone_says_where_the_face_is(made, target):
    assert np.linalg.norm(target.landmarks[17:] - made.landmarks[17:], axis=1).mean() < 2
    nose = made.landmarks[30]
    assert np.linalg.norm(target.crop.nose - nose) < 3 and target.crop.radius == 95
    assert np.linalg.norm(target.points - target.crop.nose, axis=1).max() <= 95.01
    own = grid_landmarks(made.grid)
    for landmark, region in ((30, "nose"), (51, "mouth"), (39, "eyes"), (8, "chin")):
        near = np.argsort(np.linalg.norm(target.points - own[landmark], axis=1))[:5]
        assert {REGIONS[number] for number in target.regions[near]} == {region}, landmark


def test_regions_are_those_of_the_landmarks():
    regions, side = grid_regions(), 128
    for landmark, region in ((28, "nose"), (30, "nose"), (33, "nose"), (36, "eyes"), (45, "eyes"), (62, "mouth"),
                             (57, "mouth"), (8, "chin"), (2, "cheeks")):
        row, column = np.rint(load_face_model().grid_landmarks[landmark]).astype(int)
        assert REGIONS[regions.reshape(side, side)[row, column]] == region, landmark
    assert REGIONS[regions[side // 2]] == "forehead" and np.bincount(regions).min() > 500


@pytest.mark.parametrize("how", ["rigid", "similarity"])
def test_the_truth_is_recovered_in_any_pose(truth, target, how):
    found = scan_errors(turned(truth), target, how == "similarity")
    assert found.reverse.mean() < 0.25 and np.nanmean(found.forward) < 0.25
    back = found.transform.apply(turned(truth))
    assert np.linalg.norm(back - truth, axis=1).mean() < 1.0
    assert found.transform.scale == (1.0 if how == "rigid" else pytest.approx(1, abs=0.01))


def test_size_counts_when_rigid_only(truth, target):
    rigid, free = (scan_errors(turned(truth, 1.1), target, with_scale) for with_scale in (False, True))
    assert free.reverse.mean() < 0.25 and free.transform.scale == pytest.approx(1 / 1.1, abs=0.01)
    assert rigid.reverse.mean() > 4 * free.reverse.mean() and np.nanmean(rigid.forward) > 4 * np.nanmean(free.forward)


def test_a_bump_is_measured_where_it_is(truth, target):
    """3 mm along the normal at the nose tip: forward there, reverse in its region, nothing elsewhere."""
    nose = grid_landmarks(truth)[30]
    height = 3 * np.exp(-((truth - nose) ** 2).sum(1) / (2 * 6.0 ** 2))
    bumped = truth + height[:, None] * (0, 0, 1)
    plain, found = (scan_errors(face, target, False) for face in (truth, bumped))
    top = int(np.argmin(np.linalg.norm(truth - nose, axis=1)))
    assert 2.0 < found.forward[top] - plain.forward[top] < 3.2
    means = [[one.reverse[target.regions == number].mean() for number in range(len(REGIONS))] for one in (plain, found)]
    more = dict(zip(REGIONS, np.subtract(means[1], means[0])))
    assert more["nose"] > 0.1 and max(abs(more[name]) for name in ("forehead", "chin", "cheeks")) < 0.5 * more["nose"]


def test_what_lies_beyond_the_scan_does_not_count(made, truth, target):
    """Forward leaves out points on the border, reverse those of neck and ears: half a scan is no worse than a whole."""
    nose = made.landmarks[30]
    left = made.scan.vertices[made.scan.triangles].mean(1)[:, 0] > nose[0]
    half = scan_target(Mesh(made.scan.vertices, made.scan.triangles[left]), made.landmarks)
    found = scan_errors(truth, half, False)
    assert 0.2 < np.isfinite(found.forward).mean() < 0.7 * np.isfinite(scan_errors(truth, target, False).forward).mean()
    assert np.nanmean(found.forward) < 0.3


def test_a_cloud_is_a_scan(made, truth):
    """The same vertices without triangles, with landmarks."""
    target = scan_target(Mesh(made.scan.vertices), made.landmarks)
    assert target.surface is None
    found = scan_errors(truth, target, True)
    assert found.reverse.mean() < 0.6 and np.nanmean(found.forward) < 0.6
    assert scan_errors(MEAN, target, True).reverse.mean() > 1.5 * found.reverse.mean()


def test_the_mean_face_stands_beside(target):
    sample = measure("a", target, Found(MEAN + 0))
    for how in ("rigid", "similarity"):
        model, mean = (sample.errors[system, how] for system in ("model", "mean face"))
        np.testing.assert_array_equal(model.reverse, mean.reverse)
    nobody = measure("b", target, None)
    assert nobody.errors["model", "rigid"] is nobody.errors["mean face", "rigid"]


def test_the_report(made, truth, target, tmp_path, monkeypatch):
    """Two subjects with the same scan: a perfect network, and no face in the second one's photos."""
    for name in ("S1", "S2"):
        write_subject(tmp_path / "scans" / name, made, 0.1, ".obj", landmarks=name == "S1")
    asked, prepared, drawn = [], [], {}
    monkeypatch.setattr(scans, "scan_target", lambda *scan: prepared.append(scan) or target)
    monkeypatch.setattr(scans, "plot_heat_maps", lambda rows, path, *text: drawn.update({path.name: rows}))

    def face_from(photos):
        asked.append([path.name for path in photos])
        return Found(truth, sized=False, missed=("b.jpg",)) if photos[0].parent.name == "S1" else None
    found = scan_report(tmp_path / "scans", face_from, "perfect", "cm", figures=tmp_path / "maps")
    assert asked == [["a.jpg", "b.jpg"]] * 2
    for (mesh, marks, name), subject in zip(prepared, ("S1", "S2")):                    # in mm, and by their names
        np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), np.ptp(made.scan.vertices, axis=0), atol=0.01)
        assert name == str(tmp_path / "scans" / subject / "scan.obj") and (marks is None) == (subject == "S2")
    rows = {(row[0], row[1]): dict(zip(found.summary.columns, row)) for row in found.summary.rows}
    assert list(rows) == [(how, way) for how in ("rigid", "similarity") for way in ("reverse", "forward")]
    for row in rows.values():
        assert 0 < row["mean, mm"] < row["mean face: mean"] and row["ratio of means"] == pytest.approx(
            row["mean, mm"] / row["mean face: mean"])
        if row["direction"] == "reverse":       # as many points of both
            assert row["mean, %"] == pytest.approx(100 * row["mean, mm"] / target.diagonal)
    subjects = [dict(zip(found.subjects.columns, row)) for row in found.subjects.rows]
    assert [row["face"] for row in subjects] == ["yes", "no"]
    assert subjects[0]["reverse: ratio"] < 0.5 and subjects[1]["reverse: ratio"] == 1
    assert [row[0] for row in found.regions.rows] == list(REGIONS)
    notes = " ".join(found.summary.notes)
    assert "no face found, the mean face counts: S2" in notes and "photos without a face: b.jpg" in notes
    assert "gives no size: rigid is in the mean face's" in notes
    assert list(drawn) == ["S1.png", "S2.png", "mean.png"]
    for name, maps in drawn.items():
        assert [system for system, _, _ in maps] == ["perfect" if name == "mean.png" else "model", "mean face"]
        ours, floor = (np.nanmean(values) for _, _, values in maps)
        assert ours == floor if name == "S2.png" else ours < floor, name
    assert drawn["S1.png"][0][1].shape == target.points.shape and drawn["mean.png"][0][1].shape == MEAN.shape
    assert np.isnan(drawn["mean.png"][0][2]).any()                  # beyond the crop nothing is known
    shutil.rmtree(tmp_path / "scans" / "S2")
    alone = scan_report(tmp_path / "scans", face_from, "perfect", "cm", each_photo=True, most=1)
    assert [row[0] for row in alone.subjects.rows] == ["S1/a"] and asked[2:] == [["a.jpg"]]
    np.testing.assert_array_equal(alone.subjects.rows[0][3:], found.subjects.rows[0][3:])


def test_files_of_any_kind_and_unit(made, tmp_path):
    for ending, unit, name in ((".stl", 1.0, "mm"), (".obj", 0.1, "cm"), (".ply", 0.001, "m")):
        (subject,) = scan_subjects(write_subject(tmp_path / ending / "S", made, unit, ending).parent)
        assert [path.name for path in subject.photos] == ["a.jpg", "b.jpg"] and subject.name == "S"
        scan = read_scan(subject, name)
        low, high = scan.mesh.vertices.min(0), scan.mesh.vertices.max(0)
        np.testing.assert_allclose(low, made.scan.vertices.min(0), atol=0.05)
        np.testing.assert_allclose(high, made.scan.vertices.max(0), atol=0.05)
        np.testing.assert_allclose(scan.landmarks, made.landmarks, atol=0.05)


@pytest.mark.parametrize("factor, hint", [(0.001, "a head in m: --scan-unit m"), (0.1, "a head in cm: --scan-unit cm"),
                                          (1000.0, "scale the file")])
def test_other_units_are_said_not_guessed(made, tmp_path, factor, hint):
    (subject,) = scan_subjects(write_subject(tmp_path / "scans" / "S", made, factor).parent)
    with pytest.raises(ValueError, match=f"{hint}$") as error:
        read_scan(subject)
    assert f"{subject.scan}: a scan of a head in mm must have a bounding box" in str(error.value)
    said = float(re.search(r"this has ([-+\d.e]+);", str(error.value))[1])
    assert said == pytest.approx(factor * np.linalg.norm(np.ptp(made.scan.vertices, axis=0)), rel=1e-4)
    with pytest.raises(ValueError, match="must be one of mm, cm, m, got 'inch'"):
        read_scan(subject, "inch")


def test_textures_of_the_scan_are_no_photos(made, tmp_path):
    folder = write_subject(tmp_path / "scans" / "S", made, 1.0, ".obj")
    for name in ("scan.jpg", "skin 1.png"):
        write_image(folder / name, np.zeros((8, 8, 3), np.uint8))
    (folder / "scan.mtl").write_text("newmtl a\nmap_Kd -s 1 1 1 unused.png\nmap_Kd textures\\skin 1.png\n")
    assert [path.name for path in scan_subjects(folder.parent)[0].photos] == ["a.jpg", "b.jpg"]


def test_bad_folders_are_one_line(made, tmp_path):
    good = write_subject(tmp_path / "good" / "S", made)

    def check(rule: str, name: str, change) -> None:
        folder = tmp_path / name / "S"
        shutil.copytree(good, folder)
        change(folder)
        with pytest.raises(ValueError, match=re.escape(rule)) as error:
            read_scan(scan_subjects(tmp_path / name)[0])
        assert "\n" not in str(error.value) and str(tmp_path / name) in str(error.value)
    check("must hold one scan (.ply .obj .stl .wrl), found none", "none", lambda f: (f / "scan.ply").unlink())
    check("found other.obj, scan.ply", "two", lambda f: (f / "other.obj").write_text("v 0 0 0"))
    check("must hold photos", "blind", lambda f: [path.unlink() for path in f.glob("*.jpg")])
    check("found landmarks.json, landmarks.pts", "marks", lambda f: (f / "landmarks.json").write_text("[]"))
    check("must hold (68, 3) finite coordinates", "short",
          lambda f: (f / "landmarks.pts").write_text("version: 1\n{\n1 2 3\n}\n"))
    check("landmarks must be in the scan's frame and unit", "moved",
          lambda f: write_landmarks(f / "landmarks.pts", made.landmarks + 500))
    check("cut off", "cut", lambda f: (f / "scan.ply").write_bytes((f / "scan.ply").read_bytes()[:-9]))
    for folder in (tmp_path / "nowhere", tmp_path / "good" / "S"):
        with pytest.raises(ValueError, match="must be a folder of subjects"):
            scan_subjects(folder)


def test_a_scan_that_is_no_face_is_refused():
    ball = trimesh.creation.icosphere(3, 100.0)
    with pytest.raises(ValueError, match="^ball.ply: no face is found in the scan .* add landmarks.pts"):
        scan_target(Mesh(np.asarray(ball.vertices), np.asarray(ball.faces)), name="ball.ply")
    flat = Mesh(np.zeros((9, 3)), np.array([[0, 1, 2]]))
    with pytest.raises(ValueError, match="^flat.ply: a scan must have triangles with an area"):
        scan_target(flat, name="flat.ply")
    with pytest.raises(ValueError, match="^far.ply: must show a face about the nose tip"):
        scan_target(Mesh(np.random.default_rng(0).normal(0, 30, (500, 3)) + 900),
                    load_face_model().landmarks(load_face_model().mean), "far.ply")


def test_the_command(made, tmp_path):
    """compact on a photo of one subject and the scan of another: finite numbers, all files, one line when it is bad."""
    folder = write_subject(tmp_path / "scans" / "S", made, 1.0, ".stl")
    for name in ("a.jpg", "b.jpg"):
        write_image(folder / name, np.ascontiguousarray(example_image().image[:240, 110:350]))
    words = ["--scans", tmp_path / "scans", "--model", "compact", "--results", tmp_path / "out", "--images", 1]
    done = command(evaluate.main, *words)
    assert done.returncode == 0 and "compact on" in done.stdout and "1 photos" in done.stdout
    for stem in ("out", "out_regions", "out_subjects"):
        assert all((tmp_path / f"{stem}{ending}").is_file() for ending in (".txt", ".csv", ".md"))
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(0 < float(row["mean, mm"]) < 15 for row in rows) and "gives no size" not in done.stdout
    done = command(evaluate.main, *words, "--scan-unit", "m", "--results", tmp_path / "no")
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and "a head in mm" in done.stderr
    assert not list(tmp_path.glob("no*"))
