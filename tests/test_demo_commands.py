"""Documented commands of demo.py that no other file runs: each once, in process, and what it wrote."""
from pathlib import Path

import cv2
import numpy as np
import pytest

import demo
from Dataset.face_model.model import BUILT_IN, VARIABLE, load_face_model
from Dataset.io.images import write_image
from Dataset.io.inputs import example_image
from Dataset.io.mesh_io import read_mesh
from Dataset.io.video_files import video_info
from Dataset.representations.points import encode
from Dataset.synthesis.sidecar import model_hash
from Dataset.synthesis.video import VideoOptions, make_video
from tests import tiny_runs


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return tiny_runs.convlstm_run(tmp_path_factory.mktemp("convlstm") / "run")


@pytest.fixture(scope="module")
def coarse(tmp_path_factory) -> Path:
    return tiny_runs.coarse_run(tmp_path_factory.mktemp("coarse") / "run")


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """Two heads side by side, 6 frames."""
    path = tmp_path_factory.mktemp("video") / "two.avi"
    make_video(path, VideoOptions(frames=6, width=400, height=240, subjects=2, seed=5, yaw=10))
    return path


def demo_writes(folder: Path, *words: object) -> set[str]:
    """Run demo.py -> the names of the files in `folder`."""
    assert demo.main([str(word) for word in words]) == 0
    return {path.name for path in folder.iterdir()}


def rows(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def test_another_checkpoint_gives_another_face(coarse, tmp_path, capsys):
    faces = {}
    for checkpoint in ("best_validation", "last"):
        path = tmp_path / f"{checkpoint}.ply"
        demo_writes(tmp_path, "--example", "--model", coarse, "--checkpoint", checkpoint, "-o", path)
        faces[checkpoint] = read_mesh(path).vertices
        assert f"wrote {path.resolve()}" in capsys.readouterr().out
    assert np.abs(faces["last"] - faces["best_validation"]).max() > 1e-3
    words = ["--example", "--model", str(coarse), "--checkpoint", "best", "-o", str(tmp_path / "none.ply")]
    assert demo.main(words) == 2
    assert "checkpoint must be one of" in capsys.readouterr().err
    assert not (tmp_path / "none.ply").exists()


def test_a_finer_texture_keeps_finer_detail(tmp_path):
    """--texture-size: texels a side, and a crop that is kept as finely. A face of 900 px with a weave of 8 px."""
    photo = cv2.resize(example_image().image[:300, 100:400], (1600, 1600), interpolation=cv2.INTER_CUBIC)
    weave = 40 * (np.indices(photo.shape[:2]).sum(0) // 4 % 2)[..., None]
    write_image(tmp_path / "woven.png", np.clip(photo.astype(int) + weave, 0, 255).astype(np.uint8))
    contrast = {}
    for size in (256, 1024):
        demo_writes(tmp_path, tmp_path / "woven.png", "-o", tmp_path / f"f{size}.obj", "--texture-size", size)
        texture = cv2.imread(str(tmp_path / f"f{size}_texture.png"))
        assert texture.shape == (size, size, 3)
        middle = cv2.resize(texture, (1024, 1024))[560:640, 250:330].astype(np.float32)
        contrast[size] = float((middle - cv2.GaussianBlur(middle, (0, 0), 6)).std())
    assert contrast[1024] > 2 * contrast[256], contrast


def test_so_many_frames_of_a_video_make_a_face(run, video, tmp_path):
    """--frames 3 --each: a face after each of three frames."""
    names = demo_writes(tmp_path, video, "--model", run, "--frames", 3, "--each", "--box", "20,20,180,200",
                        "-o", tmp_path / "f.ply")
    assert {name for name in names if name.endswith(".ply")} == {"f_01.ply", "f_02.ply", "f_03.ply"}
    first, last = (read_mesh(tmp_path / f"f_0{i}.ply").vertices for i in (1, 3))
    assert np.abs(first - last).max() > 0


def test_iterations_are_drawn_pass_by_pass(coarse, tmp_path):
    names = demo_writes(tmp_path, "--example", "--model", coarse, "--iterations", 2, "-o", tmp_path / "face.ply")
    assert {"face.ply", "face.png", "face_iterations.png"} <= names
    drawn = cv2.imread(str(tmp_path / "face_iterations.png"))
    assert drawn.shape[1] == 1000 and drawn.shape[0] % 220 == 0     # five images a row
    assert drawn.shape[0] >= 3 * 220                        # the start and two passes, and those after a re-crop
    start, one, two = (drawn[220 * i + 20:220 * (i + 1), 800:] for i in range(3))       # the face on the photo
    assert (start != one).any() and (one != two).any()


def test_a_network_of_another_face_model_needs_it_named(tmp_path, monkeypatch, capsys):
    """--face-model: a file of this program with a wider mean, of which a run's answers are the coefficients."""
    arrays, file = dict(np.load(BUILT_IN)), tmp_path / "wide.npz"
    arrays["mean"] = arrays["mean"] * np.float32([1.3, 1, 1])
    np.savez(file, **arrays)
    run = tiny_runs.coarse_run(tmp_path / "run", face_model=model_hash(load_face_model(file)))
    words = ["--example", "--model", str(run), "-o", str(tmp_path / "face.ply")]
    monkeypatch.setenv(VARIABLE, "")                        # restored at the end: the choice is the process's
    assert demo.main(words) == 2
    assert "--face-model must name the one" in capsys.readouterr().err
    demo_writes(tmp_path, *words, "--face-model", file)
    width, height = np.ptp(read_mesh(tmp_path / "face.ply").vertices, axis=0)[:2]
    built_in = np.ptp(encode(np.asarray(load_face_model(BUILT_IN).mean)).reshape(-1, 3), axis=0)
    assert width / height > 1.15 * built_in[0] / built_in[1]


def test_a_video_of_two_with_labels_and_smoothing(video, tmp_path):
    """--faces all gives each head a track; --labels draws boxes; --smoothing average moves the landmarks."""
    found, frames = {}, {}
    for name, words in (("plain", ["--smoothing", "none"]), ("full", ["--smoothing", "average", "--labels"])):
        out = tmp_path / f"{name}.avi"
        names = demo_writes(tmp_path, video, "-o", out, "--faces", "all", *words)
        assert {f"{name}.avi", f"{name}.npz"} <= names and video_info(out).frames == 6
        found[name], frames[name] = rows(tmp_path / f"{name}.npz"), first_frame(out)
    plain, full = found["plain"], found["full"]
    assert len(set(plain["track"])) == 2 and len(plain["frame"]) == 12
    left, right = (plain["landmarks"][plain["track"] == track][..., 0].mean() for track in sorted(set(plain["track"])))
    assert abs(left - right) > 100                          # two heads, side by side
    np.testing.assert_array_equal(plain["frame"], full["frame"])
    assert 0.01 < np.abs(plain["landmarks"] - full["landmarks"]).max() < 20
    changed = np.abs(frames["plain"].astype(int) - frames["full"]).max(-1) > 40
    assert 100 < changed.sum() < 0.2 * changed.size         # lines and numbers


def test_a_video_of_the_largest_face_and_its_first_frames(video, tmp_path):
    demo_writes(tmp_path, video, "-o", tmp_path / "one.avi", "--frames", 2)
    found = rows(tmp_path / "one.npz")
    assert video_info(tmp_path / "one.avi").frames == 2 and list(found["frame"]) == [0, 1]
    assert len(set(found["track"])) == 1


def first_frame(path: Path) -> np.ndarray:
    capture = cv2.VideoCapture(str(path))
    try:
        read, frame = capture.read()
        assert read
        return frame
    finally:
        capture.release()
