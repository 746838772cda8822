"""demo.py with an --output of .mp4 or .avi: what the command line refuses, and a video from end to end."""
import numpy as np
import pytest

from Dataset.io.video_files import video_info
from Dataset.synthesis.video import VideoOptions, make_video
from Evaluation.views.registry import VIEWS
from Evaluation.web.serve import ServeConfig
from Network.commands.demo_options import draws_video, parse
from tests import forkserver


@pytest.mark.parametrize("words, message", [
    (["a.mp4", "b.mp4", "-o", "out.mp4"], "takes one video, or webcam"),
    (["--example", "-o", "out.avi"], "takes one video, or webcam"), (["--serve", "-o", "out.avi"], "takes one video"),
    (["a.mp4", "-o", "out.mp4", "--each"], "--each is for a face"),
    (["a.mp4", "-o", "out.mp4", "--box", "1,1,9,9"], "--box is for a face"),
    (["a.mp4", "-o", "out.mp4", "--texture-size", "512"], "--texture-size is for a face"),
    (["a.jpg", "--texture-size", "2048"], "--texture-size must be within 32 to 1024, got 2048"),
    (["a.jpg", "--texture-size", "0"], "--texture-size must be within 32 to 1024, got 0"),
    (["a.mp4", "-o", "out.mp4", "--view", "swap"], "--view swap is for a face; into a video --view lines, points"),
    (["a.mp4", "-o", "out.mp4", "--view", "lines", "--labels"], "--labels are drawn beside"),
    (["a.mp4", "-o", "out.mp4", "--surface", "poisson"], "--surface is for a face"),
    (["a.mp4", "-o", "out.ply", "--detect-every", "3"], "--detect-every belongs to an --output of .mp4 or .avi"),
    (["a.mp4", "-o", "out.ply", "--labels"], "--labels belongs to"),
    (["a.mp4", "-o", "out.mp4", "--smoothing", "much"], "smoothing must be one of"),
    (["a.mp4", "-o", "out.mp4", "--video-detector", "hog"],
     "video_detector must be one of blazeface, cascades, dlib, got 'hog'"),
    (["a.mp4", "-o", "out.ply", "--video-detector", "dlib"], "--video-detector belongs to an --output of .mp4 or .avi"),
    (["a.mp4", "-o", "out.mov"], "--output must end in .ply, .obj, .glb, .mp4, .avi")])
def test_refuses(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse("", ServeConfig, VIEWS, words)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_settings_of_a_video():
    words = parse("", ServeConfig, VIEWS, ["a.mp4", "-o", "o.MP4", "--smoothing", "average", "--detect-every", "5"])
    assert draws_video(words)
    assert (words.video.smoothing, words.video.detect_every, words.frames) == ("average", 5, None)
    assert not draws_video(parse("", ServeConfig, VIEWS, ["a.mp4"]))


def test_a_video_through_demo(tmp_path):
    """A made head through the bundled weights: a video as long as the video, a row of numbers for each frame."""
    video, out = tmp_path / "in.avi", tmp_path / "out.avi"
    make_video(video, VideoOptions(frames=10, width=320, height=240, seed=5))
    ran = forkserver.run("demo.py", video, "-o", out, "--smoothing", "none", timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert f"wrote {out.resolve()}" in ran.stdout and video_info(out).frames == 10
    with np.load(out.with_suffix(".npz"), allow_pickle=False) as rows:
        assert sorted(rows["frame"]) == list(range(10)) and np.isfinite(rows["landmarks"]).all()
