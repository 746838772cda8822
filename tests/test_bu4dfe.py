"""Dataset/bu4dfe*.py on a raw-shaped folder of rendered subjects: crops, ground truths, report, restart, refusals."""
import csv
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial import cKDTree

from Dataset.detection.cascades import detect_as_published
from Dataset.io.atomic import folder_lock
from Dataset.io.images import read_image
from Dataset.io.mesh_io import read_mesh
from Dataset.io.workers import WorkerDied
from Dataset.sources import bu4dfe_subject
from Dataset.sources.bu4dfe import convert_all, main
from Dataset.sources.bu4dfe_raw import read_neutral
from Dataset.sources.bu4dfe_subject import EXPRESSIONS, Options, WrongAxes, check_axes, motion
from Dataset.sources.subjects import dataset_info, list_subjects, read_points, read_split
from Dataset.sources.validate import validate
from Evaluation.evaluate_predictions import prediction_evaluator
from tests.forkserver import PIPE, Popen
from tests.raw_bu4dfe import shared_raw, write_wrl

OPTIONS = Options(points=512, size=64)
FLAGS = ["--points", "512", "--size", "64"]


@pytest.fixture
def raw(tmp_path):
    """A RAW of our own to damage: two subjects, two expressions; the other folders are missing."""
    for name in ("F001", "M001"):
        for expression in ("Angry", "Sad"):
            shutil.copytree(shared_raw() / name / expression, tmp_path / "RAW" / name / expression)
    return tmp_path / "RAW"


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    out = tmp_path_factory.mktemp("converted") / "OUT"
    return out, convert_all(shared_raw(), out, OPTIONS)


def digest(out):
    """Every file of a finished OUT -> hash of its bytes."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def report(out):
    with open(out / "report.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_subject_folders_of_everybody(converted):
    out, rows = converted
    subjects = list_subjects(out)
    assert [s.name for s in subjects] == ["F001", "F002", "M001"]
    assert [p.name for p in subjects[0].images] == [f"{e}_{i:03d}.jpg" for e in EXPRESSIONS for i in range(3)]
    assert validate(out) == (3, 54, 512, [])
    info = dataset_info(out)
    assert (info.source, info.points, info.order, info.image_size, info.units) == ("bu4dfe", 512, "random", 64, "mm")
    split = read_split(out)
    assert sorted(split.training + split.validation + split.test) == ["F001", "F002", "M001"]
    assert [row.status for row in rows] == ["neutral"] * 3 + ["missing"]
    assert "98 of 101 subjects" in rows[-1].detail and "F002" not in rows[-1].detail.split()
    assert [list(row) for row in rows] == [list(row.values()) for row in report(out)]
    assert read_image(out / "neutral.jpg").shape == (128, 384, 3)


def test_crops_are_the_thesis_s(converted):
    """Listing B-1.3 on the same images: find_faces(img)[0], plain cv2.resize; JPEG in between."""
    for name in ("Angry_000", "Happy_002"):
        image = read_image(shared_raw() / "F001" / f"{name.replace('_', '/')}.jpg")
        x, y, w, h = detect_as_published(image)[0].box
        expected = cv2.imencode(".jpg", cv2.resize(image[y:y + h, x:x + w], (64, 64)))[1]
        written = read_image(converted[0] / "F001" / f"{name}.jpg")
        assert np.array_equal(written, cv2.imdecode(expected, cv2.IMREAD_COLOR))


def test_ground_truth_is_the_neutral_scan_without_strays(converted):
    for subject, row in zip(list_subjects(converted[0]), converted[1]):
        assert row.frame in ("000", "001") and row.detail.startswith("lowest motion")      # the still, neutral ones
        points = read_points(subject.ground_truth)
        scan = read_mesh(shared_raw() / subject.name / row.expression / f"{row.frame}.wrl")
        assert (scan.vertices[:, 2] == 400).any() and points[:, 2].max() < 200
        used = scan.vertices[np.unique(scan.triangles)]
        assert cKDTree(used).query(points)[0].max() < 8         # mm: within a triangle's size of a vertex
        assert np.abs(points.mean(0) - used.mean(0)).max() < 20


def test_from_wrl_to_nme(converted):
    """The loader's ground truths in the thesis's metric: a subject is nearer to himself, drawn anew, than to
    others."""
    targets = [read_points(subject.ground_truth) for subject in list_subjects(converted[0])]
    row = converted[1][0]
    path = shared_raw() / row.subject / row.expression / f"{row.frame}.wrl"
    box = detect_as_published(read_image(path.with_suffix(".jpg")))[0].box
    again = bu4dfe_subject.ground_truth(path, box, Options(points=4096), np.random.default_rng(7))
    measure = prediction_evaluator()
    same, *others = (measure(again, truth) for truth in targets)
    assert measure(targets[0], targets[0]) < 1e-12 and 0 < same < 0.02
    assert all(same < other for other in others)


def test_crop_mm_keeps_what_is_near_the_nose(tmp_path):
    options = Options(points=512, size=32, crop_mm=60)
    rows = convert_all(shared_raw(), tmp_path / "OUT", options, exclude=("F002", "M001"))
    points = read_points(tmp_path / "OUT" / "F001" / "F001.ply")
    scan = read_mesh(shared_raw() / "F001" / rows[0].expression / f"{rows[0].frame}.wrl")
    used = scan.vertices[np.unique(scan.triangles)]
    tip = used[used[:, 2].argmax()]
    distance = np.linalg.norm(points - tip, axis=1)
    assert 55 < distance.max() < 65 and np.linalg.norm(used - tip, axis=1).max() > 90
    assert not (tmp_path / "OUT" / "split.json").exists()       # one subject


def test_workers_and_restart_do_not_show_in_the_bytes(converted, tmp_path):
    out = tmp_path / "OUT"
    convert_all(shared_raw(), out, OPTIONS, workers=2)
    assert digest(out) == digest(converted[0])
    shutil.rmtree(out / "F002")                 # killed before F002 was renamed
    (out / "M001" / "Sad_001.jpg").unlink()     # below a mark that names it
    (out / ".work" / "F002").mkdir(parents=True)
    (out / ".work" / "F002" / "Angry_000.jpg").write_bytes(b"half")
    untouched = (out / "F001" / "F001.ply").stat().st_mtime_ns
    seen = []

    def progress(results, total):
        for name in results:
            seen.append((name, total))
            yield name
    convert_all(shared_raw(), out, OPTIONS, progress=progress)
    assert digest(out) == digest(converted[0])
    assert seen == [("F002", 2), ("M001", 2)] and (out / "F001" / "F001.ply").stat().st_mtime_ns == untouched


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL and SIGINT")
@pytest.mark.parametrize("how, code", [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_stopped_in_the_middle_it_goes_on(converted, tmp_path, how, code):
    out = tmp_path / "OUT"
    process = Popen("-m", "Dataset.bu4dfe", shared_raw(), out, *FLAGS, stderr=PIPE)
    deadline = time.monotonic() + 240
    while not (out / "F001" / "F001.ply").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(how)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == code
    if how == signal.SIGINT:
        assert error.strip().splitlines()[-1] == "Dataset.bu4dfe: stopped; the same command goes on"
    with pytest.raises(ValueError, match="conversion is unfinished"):
        list_subjects(out)
    (out / ".tmp-0123456789ab-split.json").write_text("half")       # killed before the rename
    convert_all(shared_raw(), out, OPTIONS)
    assert digest(out) == digest(converted[0])


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.timeout(120)
def test_a_killed_worker_is_an_error_and_the_same_call_goes_on(converted, tmp_path):
    out = tmp_path / "OUT"

    def kill_after_the_first(results, total):
        for name in results:
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGKILL)
            yield name
    with pytest.raises(WorkerDied, match="a worker process ended with code -9"):
        convert_all(shared_raw(), out, OPTIONS, workers=2, progress=kill_after_the_first)
    assert not multiprocessing.active_children()
    convert_all(shared_raw(), out, OPTIONS)
    assert digest(out) == digest(converted[0])


def test_two_processes_do_not_write_into_one_folder(converted, tmp_path, capsys):
    out = shutil.copytree(converted[0], tmp_path / "OUT")
    shutil.rmtree(out / "F002")
    before = digest(out)
    with folder_lock(out):
        assert main([str(shared_raw()), str(out), *FLAGS]) == 2
    assert "another process is writing here" in capsys.readouterr().err and digest(out) == before


def test_other_settings_are_refused(converted, tmp_path, capsys):
    out = tmp_path / "OUT"
    shutil.copytree(converted[0], out)
    for flags, rule in ((["--points", "256"], "points 512, now it is 256"), (["--sampling", "fps"], "sampling 'unif"),
                        (["--seed", "1"], "seed 0, now"), (["--exclude", "F001"], "exclude "),
                        (["--size", "32"], "image_size 64"), (["--seed", str(2**32)], "within 0 to 4294967295")):
        assert main([str(shared_raw()), str(out), *FLAGS, *flags]) == 2
        error = capsys.readouterr().err
        assert rule in error and error.count("\n") == 1, error
    assert digest(out) == digest(converted[0])


def test_what_cannot_be_read_is_reported_and_skipped(raw, tmp_path):
    angry = raw / "F001" / "Angry"
    (angry / "000.jpg").write_bytes(b"")
    cv2.imwrite(str(angry / "001.jpg"), np.full((268, 200, 3), 90, np.uint8))
    for path in raw.glob("M001/*/*.wrl"):
        path.write_text("#VRML V2.0 utf8\n")
    (raw / "F001" / "Sad" / "000.wrl").unlink()
    (raw / "F001" / "Sad" / "001.wrl").write_text("#VRML V2.0 utf8\nShape {")
    (raw / "M002").mkdir()
    rows = convert_all(raw, tmp_path / "OUT", OPTIONS)
    assert [s.name for s in list_subjects(tmp_path / "OUT")] == ["F001"]
    assert len(list_subjects(tmp_path / "OUT")[0].images) == 4      # Angry 002, Sad 000 to 002
    skipped = {(r.subject, r.expression, r.frame): r.detail for r in rows if r.status == "skipped"}
    assert "000.jpg: is empty" in skipped["F001", "Angry", "000"] and "no face" in skipped["F001", "Angry", "001"]
    assert skipped["F001", "Disgust", ""] == "no such folder, or no frames in it"
    assert "000.wrl: no such file" in skipped["F001", "Sad", "000"] and "VRML" in skipped["F001", "Sad", "001"]
    assert skipped["M001", "", ""] == "no readable scan of any neutral frame"
    assert skipped["M002", "", ""] == "no frame with a face"
    assert [(r.subject, r.status) for r in rows if r.status == "neutral"] == [("F001", "neutral")]
    shutil.copytree(shared_raw() / "M001" / "Angry", raw / "M001" / "Angry", dirs_exist_ok=True)
    convert_all(raw, tmp_path / "OUT", OPTIONS)     # the archive was mended: skipped subjects are tried again
    assert [s.name for s in list_subjects(tmp_path / "OUT")] == ["F001", "M001"]


def test_nobody_left_is_an_error_and_nothing_to_train_on(raw, tmp_path):
    for path in raw.glob("*/*/*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="OUT: no subject could be converted; .*report.csv says why"):
        convert_all(raw, tmp_path / "OUT", OPTIONS)
    assert sum(row["status"] == "skipped" for row in report(tmp_path / "OUT")) == 12 + 8 + 2
    with pytest.raises(ValueError, match="unfinished"):
        list_subjects(tmp_path / "OUT")


def test_neutral_csv_decides(raw, tmp_path):
    table = tmp_path / "neutral.csv"
    table.write_text("\ufeffsubject,expression,frame\nF001,Sad,2\nM058,Sad,000\n")
    rows = convert_all(raw, tmp_path / "OUT", OPTIONS, read_neutral(table))
    chosen = {r.subject: (r.expression, r.frame, r.detail[:6]) for r in rows if r.status == "neutral"}
    assert chosen["F001"] == ("Sad", "002", "chosen") and chosen["M001"][2] == "lowest"
    with pytest.raises(ValueError, match="begun with neutral_csv"):
        convert_all(raw, tmp_path / "OUT", OPTIONS)


@pytest.mark.parametrize("text, rule", [
    ("subject,expression\nF001,Sad\n", "line 2: must be subject,expression,frame"),
    ("subject,expression,frame\nF001,Bored,1\n", "line 2: .* got F001,Bored,1"),
    ("subject,expression,frame\nF001,Sad,1\nF001,Sad,2\n", "line 3: .* F001 is there again"),
    ("subject,expression,frame\n", "has no row")])
def test_bad_neutral_csv_is_named(tmp_path, text, rule):
    (tmp_path / "n.csv").write_text(text)
    with pytest.raises(ValueError, match=f"n.csv.*{rule}"):
        read_neutral(tmp_path / "n.csv")


def test_bad_input_is_one_line_and_exit_code_2(raw, tmp_path, capsys):
    (tmp_path / "n.csv").write_text("subject,expression,frame\nF001,Sad,77\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    (tmp_path / "empty").mkdir()
    out = str(tmp_path / "OUT")
    for argv, rule in (([str(tmp_path / "none"), out], "there is no such folder"),
                       ([str(tmp_path / "full"), out], "must hold subject folders F001 ... M043, it has thesis.tex"),
                       ([str(tmp_path / "empty"), out], "it has nothing"),
                       ([str(raw), str(tmp_path / "full")], "must be new, empty, or begun by this program"),
                       ([str(raw), out, "--points", "0"], "--points must be within 1 to 1048576, got 0"),
                       ([str(raw), out, "--crop-mm", "nan"], "--crop-mm must be within 0 to 1000000.0, got nan"),
                       ([str(raw), out, "--workers", "0"], "--workers must be within 1 to 256, got 0"),
                       ([str(raw), out, "--exclude", "F009"], "F009 is not there"),
                       ([str(raw), out, "--neutral", str(tmp_path / "m.csv")], "m.csv: the CSV .* cannot be read"),
                       ([str(raw), out, "--neutral", str(tmp_path / "n.csv")], "77.wrl: the CSV .* names it")):
        assert main([*argv, *FLAGS] if "--points" not in argv else argv) == 2
        error = capsys.readouterr().err
        assert error.startswith("Dataset.bu4dfe: ") and error.count("\n") == 1
        assert re.search(rule, error), error
    assert not Path(out).exists()


@pytest.mark.parametrize("change, rule", [
    (lambda v, t: (v * (-1, 1, 1), t), "texture u must grow with vertex x .* correlation is -"),
    (lambda v, t: (v * (1, -1, 1), t), "texture v must grow with vertex y"),
    (lambda v, t: (v[:, [1, 0, 2]], t), "texture u must grow with vertex x"),
    (lambda v, t: (v * (1, 1, -1), t), "the foremost points must be the nose tip"),
    (lambda v, t: (v, t + (0.3, 0)), "the foremost points must be the nose tip"),
])
def test_other_axes_stop_the_conversion(raw, tmp_path, change, rule):
    for path in raw.glob("M001/*/*.wrl"):
        scan = read_mesh(path)
        keep = np.unique(scan.triangles)
        write_wrl(path, *change(scan.vertices[keep], scan.uv[keep]), np.searchsorted(keep, scan.triangles))
    with pytest.raises(WrongAxes, match=rf"M001/\w+/\d+.wrl: {rule}"):
        convert_all(raw, tmp_path / "OUT", OPTIONS)
    assert (tmp_path / "OUT" / "F001" / "F001.ply").exists()        # what was done stays done
    convert_all(raw, tmp_path / "OUT2", OPTIONS, exclude=("M001",))


def test_a_scan_without_texture_stops_too(raw):
    path = raw / "F001" / "Sad" / "000.wrl"
    scan = read_mesh(path)
    with pytest.raises(WrongAxes, match="must have texCoord and texCoordIndex"):
        check_axes(path, scan._replace(uv=None), (0, 0, 9, 9), (9, 9))


def test_motion_of_a_video():
    """Grey levels 0 0 0 0 1 1 1 with steps 0 0 0 1 0 0: mean over the (up to 6) steps around each frame."""
    video = [np.full((2, 2), level, float) for level in (0, 0, 0, 0, 1, 1, 1)]
    assert np.allclose(motion(video), [0, 1 / 4, 1 / 5, 1 / 6, 1 / 5, 1 / 4, 1 / 3])
    assert motion(video[:1]).tolist() == [np.inf] and motion([]).shape == (0,)


def test_candidates_come_from_the_beginning_of_each_video():
    frame = bu4dfe_subject.Frame
    frames = [frame("Angry", f"{i:03d}", (0, 0, 1, 1), m) for i, m in enumerate([0.3, 0.2, 0.0])] \
        + [frame("Sad", f"{i:03d}", (0, 0, 1, 1), m) for i, m in enumerate([0.2, 0.1, 0.5])]
    best = [(f.expression, f.number) for f in bu4dfe_subject._candidates(frames, Options(neutral_window=2), None)]
    assert best == [("Sad", "001"), ("Angry", "001"), ("Sad", "000"), ("Angry", "000")]
    assert bu4dfe_subject._candidates(frames, Options(neutral_window=0), None)[0].number == "002"
    assert [f.number for f in bu4dfe_subject._candidates(frames, Options(), ("Sad", "2"))] == ["002"]


def test_settings_are_in_the_dataset_file(converted):
    data = json.loads((converted[0] / "dataset.json").read_text())
    assert data["settings"] == {"sampling": "uniform", "crop_mm": 0.0, "detector": "thesis", "neutral_window": 10,
                                "neutral_csv": "", "exclude": []}
    assert not list(converted[0].glob(".work*"))
