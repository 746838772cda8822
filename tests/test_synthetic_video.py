"""Dataset/synthesis/video.py: the truth of a frame is what its image shows; Dataset/io/video_files.py reads it back."""
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from Dataset.face_model.model import load_face_model
from Dataset.io.video_files import read_video, video_info, write_video
from Dataset.rendering import shading
from Dataset.representations.points import SIZE
from Dataset.representations.uvmap import grid_positions
from Dataset.synthesis.renders import coarse_grid
from Dataset.synthesis.scene import RenderContext, pose_vertices
from Dataset.synthesis.video import SyntheticVideo, VideoOptions, main, make_video, ground_truth_arrays

SMALL = {"width": 160, "height": 120, "head": 0.7, "frames": 20, "rate": 10.0}
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def context():
    return RenderContext(load_face_model(), 1)


@pytest.fixture(scope="module")
def moving(context):
    return SyntheticVideo(VideoOptions(noise=0.0, flicker=0.0, leave=True, seed=3, **SMALL), context)


def test_truth_is_the_projection_of_subject_expression_and_pose(moving):
    face = moving.truth(4)[0]
    model = load_face_model()
    head = pose_vertices(model.shape(moving.identities[0], face.expression), face.pose)
    seen = moving.camera.project(coarse_grid(model) @ head)
    np.testing.assert_allclose(face.keypoints, np.stack([seen.x, seen.y], -1), atol=1e-3)
    marks = moving.camera.project(model.landmarks(head))
    np.testing.assert_allclose(face.landmarks, np.stack([marks.x, marks.y], -1), atol=1e-3)
    quick = moving.truth(4, hidden=False)[0]
    np.testing.assert_allclose(quick.keypoints, face.keypoints, atol=1e-6)
    assert quick.visible.all() and quick.inside == 1
    assert face.inside == 1 and 0.4 < face.visible.mean() < 0.95


def test_the_image_shows_the_subject_there_and_the_background_elsewhere(moving):
    frame = moving.frame(4)
    empty = shading.to_bgr8(moving.background)
    other = (frame.image != empty).any(-1)
    face = frame.faces[0]
    x, y = np.floor(face.keypoints[face.visible]).astype(int).T
    assert other[y, x].mean() > 0.97
    assert 0.1 < other.mean() < 0.9
    gone = moving.frame(11)
    assert gone.faces[0].inside == 0 and not gone.faces[0].visible.any()


def test_landmarks_lie_on_eyes_and_mouth(moving):
    """The white and the iris differ from the skin around them more than the cheek does from itself."""
    frame = moving.frame(0)
    grey = cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY).astype(float)
    marks = frame.faces[0].landmarks

    def contrast(centre):
        x, y = np.rint(centre).astype(int)
        return grey[y - 3:y + 4, x - 4:x + 5].std()
    eyes = [contrast(marks[36:42].mean(0)), contrast(marks[42:48].mean(0))]
    cheek = contrast((marks[31] + marks[48]) / 2 + (marks[48] - marks[54]) * 0.15)
    assert min(eyes) > 2 * cheek


def test_frames_come_in_any_order_and_seeds_differ(moving, context):
    first = SyntheticVideo(moving.options, context).frame(6)
    np.testing.assert_array_equal(first.image, moving.frame(6).image)
    np.testing.assert_array_equal(first.faces[0].keypoints, moving.truth(6)[0].keypoints)
    other = SyntheticVideo(VideoOptions(seed=4, **SMALL), context).truth(6)[0]
    assert np.abs(other.keypoints - first.faces[0].keypoints).max() > 3
    with pytest.raises(IndexError, match="a video of 20 frames has no frame 20"):
        moving.frame(20)


def test_still_is_still_but_for_noise_and_light(context):
    video = SyntheticVideo(VideoOptions(kind="still", noise=2.0, flicker=0.0, seed=1, clutter=0.0, **SMALL), context)
    a, b = video.frame(0), video.frame(9)
    np.testing.assert_array_equal(a.faces[0].keypoints, b.faces[0].keypoints)
    difference = a.image.astype(float) - b.image
    assert difference.std() == pytest.approx(2 * 2 ** 0.5, rel=0.05)
    assert abs(difference.mean()) < 0.05
    lit = SyntheticVideo(VideoOptions(kind="still", noise=0.0, flicker=0.05, seed=1, clutter=0.0, **SMALL), context)
    means = np.array([lit.frame(n).image.mean() for n in range(12)])
    assert means.std() / means.mean() == pytest.approx(0.05 / 2.2, rel=0.6)         # flicker in linear light


def test_moving_is_smooth_and_the_first_subject_comes_back(context):
    options = VideoOptions(**{**SMALL, "frames": 60, "rate": 30.0}, subjects=2, leave=True, seed=5)
    video = SyntheticVideo(options, context)
    targets = [video.truth(n) for n in range(0, 60, 3)]
    arrays = ground_truth_arrays(targets)
    assert arrays["keypoints"].shape == (20, 2, 256, 2) and arrays["visible"].dtype == bool
    inside = arrays["inside"][:, 0]
    assert inside[0] == 1 and inside[-1] == 1 and (inside == 0).sum() >= 2
    assert (arrays["inside"][:, 1] > 0.9).all()
    other = arrays["landmarks"][:, 1].mean(1)
    steps = np.linalg.norm(np.diff(other, axis=0), axis=1)
    assert 0.05 < steps.max() < 6
    assert arrays["expression"].max() > 0.1 and arrays["expression"].max() <= 1
    left, right = (arrays["landmarks"][0, subject, :, 0].mean() for subject in (0, 1))
    assert right - left > 40


def test_uv_of_a_crop_says_which_point_a_pixel_shows(moving):
    face = moving.truth(4)[0]
    low, high = face.keypoints.min(0), face.keypoints.max(0)
    side = float((high - low).max()) * 1.1
    box = (*((low + high) / 2 - side / 2), side)
    maps = moving.uv(face, box, 96)
    wanted = np.stack(np.divmod(np.arange(256), 16), -1) * (SIZE - 1) / 15
    x, y = np.floor((face.keypoints - box[:2]) / side * 96).astype(int).T
    inner = face.visible & ((wanted > 10) & (wanted < 110)).all(1)
    found = grid_positions(maps.uv[y, x])[inner]
    known = np.isfinite(found).all(1)
    assert known.mean() > 0.9
    assert np.median(np.abs(found[known] - wanted[inner][known])) < 1.2         # a pixel is 1.4 steps of the grid


def test_a_video_file_and_its_truth(tmp_path, moving, monkeypatch):
    options = VideoOptions(**{**SMALL, "frames": 4}, seed=3, noise=0.0, flicker=0.0)
    out, beside = make_video(tmp_path / "a" / "v.mp4", options)
    info = video_info(out)
    assert (info.width, info.height, info.rate, info.frames) == (160, 120, 10.0, 4)
    moments = list(read_video(out))
    assert [m.number for m in moments] == [0, 1, 2, 3]
    np.testing.assert_allclose([m.time for m in moments], [0, 0.1, 0.2, 0.3], atol=1e-3)
    video = SyntheticVideo(options, moving.context)
    assert np.abs(moments[2].image.astype(float) - video.frame(2).image).mean() < 4
    with np.load(beside, allow_pickle=False) as truth:
        np.testing.assert_allclose(truth["landmarks"][2, 0], video.truth(2)[0].landmarks, atol=1e-3)
        assert truth["identity"].shape == (1, 200)
    assert sorted(p.name for p in out.parent.iterdir()) == ["v.mp4", "v.npz"]
    assert len(list(read_video(out, limit=2))) == 2


def test_bad_options_end_in_one_line(tmp_path, capsys):
    for words, line in ((["--kind", "run"], "--kind must be one of still, moving"),
                        (["--subjects", "9"], "--subjects must be within 1 to 8, got 9"),
                        (["--kind", "still", "--leave"], "--leave needs --kind moving")):
        assert main([str(tmp_path / "x.mp4"), *words]) == 2
        assert line in capsys.readouterr().err
    assert main([str(tmp_path / "x.gif"), "--frames", "1", "--width", "16", "--height", "16"]) == 2
    assert "x.gif: a video must end in .mp4, .avi" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_video_files_refuse_what_is_none(tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"no video at all")
    for path, line in ((tmp_path / "no.mp4", "must be an MP4, MOV, AVI,"), (tmp_path / "gone.mp4", "no such")):
        with pytest.raises(ValueError, match=line):
            list(read_video(path))
    with pytest.raises(ValueError, match=r"its frames are \(32, 32, 3\) uint8, got \(32, 30, 3\)"):
        with write_video(tmp_path / "x.avi", 32, 32) as write:
            write(np.zeros((32, 30, 3), np.uint8))
    with pytest.raises(ValueError, match="no frame was written"):
        with write_video(tmp_path / "x.avi", 32, 32):
            pass
    with pytest.raises(ValueError, match="0.1 to 1000 a second, got 32x32 and 0.05"):
        with write_video(tmp_path / "x.avi", 32, 32, 0.05):
            pass
    assert [p.name for p in tmp_path.iterdir()] == ["no.mp4"]


def test_a_killed_writer_leaves_no_half_video(tmp_path):
    code = ("import sys, time, numpy as np\nfrom Dataset.io.video_files import write_video\n"
            "with write_video(sys.argv[1], 64, 64) as write:\n"
            "    for n in range(10**6):\n        write(np.full((64, 64, 3), n % 255, np.uint8))\n"
            "        n == 30 and print('going', flush=True)\n        time.sleep(0.001)\n")
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "v.mp4")], cwd=ROOT, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"going\n"
    time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    assert child.wait(60) == -signal.SIGKILL
    left = [p.name for p in tmp_path.iterdir()]
    assert left and all(name.startswith(".tmp-") for name in left)
