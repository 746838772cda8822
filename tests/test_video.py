"""Network/video/video.py, process.py, Dataset/io/live_frames.py: networks that know the truth, videos read back, a
camera that is made of a list."""
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Iterable

import numpy as np
import pytest

from Dataset.geometry.smoothing import SmoothingConfig
from Dataset.io.live_frames import Live
from Dataset.io.video_files import VideoFrame, read_video, write_video
from Dataset.synthesis.video import SyntheticVideo, VideoOptions
from Network.video.process import Rows, _Writer, process_video
from Network.video.track import TrackConfig
from Network.video.video import Cut, FaceVideo, Times, VideoConfig, cut_box
from tests.video_stubs import Clock, Oracle, blank, detector

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"width": 160, "height": 120, "head": 0.5}


@pytest.fixture(scope="module")
def context():
    return SyntheticVideo(VideoOptions(frames=1, **SMALL)).context


@pytest.fixture(scope="module")
def talking(context):
    return SyntheticVideo(VideoOptions(frames=40, seed=1, **SMALL), context)


def results(video, network, config=VideoConfig(smoothing="none"), faces=1):
    clock, calls = Clock(blank(video)), []
    runner = FaceVideo(network, config, faces, detector(video, lambda: clock.frame, calls))
    return [runner(frame) for frame in clock], calls


def test_an_oracle_is_followed_to_its_keypoints_and_keeps_its_state(talking):
    network = Oracle(talking)
    found, calls = results(talking, network)
    assert [len(faces) for faces in found] == [1] * 40
    assert len(calls) == 1          # what gives a confidence need not be checked
    assert len(results(talking, Oracle(talking, gives_confidence=False))[1]) == 3
    for n, (face,) in enumerate(found):
        np.testing.assert_allclose(face.keypoints, network.targets(n)[0].keypoints, atol=1e-6)
        np.testing.assert_allclose(face.landmarks, network.targets(n)[0].landmarks, atol=1e-6)
        np.testing.assert_allclose(face.coefficients, network.targets(n)[0].expression)
    assert network.states == [None, *range(1, 41)]          # two looks at the first frame, one at each other
    assert all(0.8 < np.ptp(f[0].answer.keypoints, axis=0).max() < 1.05 for f in found)        # cut as in training


def test_filters_and_tracks_have_the_configs_parameters():
    config = VideoConfig("one-euro", window=5, cutoff=0.7, beta=3.0, detect_every=7, confidence=0.6, remember=1.5)
    assert config.smooth() == SmoothingConfig("one-euro", 5, False, 0.7, 3.0)
    assert config.tracks(2) == TrackConfig(7, 2, 0.6, remember=1.5, box=SmoothingConfig("average", 5, False, 0.7, 3.0))


def test_smoothing_calms_noise(talking, context):
    still = SyntheticVideo(VideoOptions(kind="still", frames=40, seed=1, **SMALL), context)
    shake = {}
    for way in ("none", "average", "one-euro"):
        found, _ = results(still, Oracle(still, noise=0.02), VideoConfig(way, cutoff=1.0, beta=0.0))
        keypoints = np.stack([faces[0].keypoints for faces in found])
        shake[way] = np.abs(np.diff(keypoints[10:], axis=0)).mean()
    assert shake["average"] == pytest.approx(shake["none"] / 2, rel=0.1)        # of independent errors, steps halve
    assert shake["one-euro"] < 0.3 * shake["none"]


def test_two_subjects_and_one_who_leaves_and_comes_back(context):
    video = SyntheticVideo(VideoOptions(frames=150, seed=4, subjects=2, leave=True, width=200, height=100, head=0.6),
                           context)
    network = Oracle(video)
    found, _ = results(video, network, faces=4)
    inside = np.array([network.targets(n)[0].inside for n in range(150)])
    who = [{face.track: int(np.argmin([np.abs(face.keypoints - t.keypoints).max() for t in network.targets(n)]))
            for face in faces} for n, faces in enumerate(found)]
    stays = next(track for track, subject in who[0].items() if subject == 1)
    leaves = next(track for track, subject in who[0].items() if subject == 0)
    assert all(frame.get(stays) == 1 for frame in who)
    assert not any(leaves in frame for frame, fraction in zip(who, inside) if fraction < 0.25)
    back = [frame.get(leaves) for frame, fraction in zip(who[110:], inside[110:]) if fraction > 0.95]
    assert len(back) > 8 and back.count(0) >= len(back) - 3
    begins = [i for i, state in enumerate(network.states) if state is None]
    assert len(begins) == 3                                 # two faces, and the one that came back


def test_the_cut_is_the_square_of_the_frame():
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:20, 30:40] = 200
    cut = cut_box(VideoFrame(3, 0.1, image), np.array([29.6, 10.2, 10.3]), 10)
    np.testing.assert_array_equal(cut.box, (30, 10, 10))
    assert (cut.image == 200).all() and (cut.frame, cut.time) == (3, 0.1)
    assert cut_box(VideoFrame(0, 0, image), np.array([50.0, 5, 5]), 10).image.shape == (10, 10, 3)     # wider than high
    assert cut_box(VideoFrame(0, 0, image), np.array([5.0, 50, 5]), 10) is None
    assert cut_box(VideoFrame(0, 0, image), np.array([60.0, 0, 5]), 10) is None
    assert cut_box(VideoFrame(0, 0, image), np.array([0.0, 0, 1000]), 10) is None


def test_a_face_that_the_network_denies_is_none(talking):
    class Blind(Oracle):
        def __call__(self, cut: Cut, state):
            return super().__call__(cut, state)._replace(confidence=0.2)
    found, calls = results(talking, Blind(talking))
    assert not any(found) and len(calls) == 40              # the detector is asked again and again


def mark(frame, faces):
    out = frame.copy()
    for face in faces:
        x, y = np.rint(face.keypoints.mean(0)).astype(int)
        out[y - 5:y + 6, x - 5:x + 6] = (0, 0, 255)
    return out


def test_a_video_and_its_numbers(tmp_path, talking):
    clock, network = Clock(blank(talking)), Oracle(talking)
    report = process_video(clock, network, tmp_path / "new" / "out.mp4", VideoConfig("none"), draw=mark, limit=12,
                           detect=detector(talking, lambda: clock.frame))
    assert (report.frames, report.with_face, report.faces, report.dropped) == (12, 12, 1, 0)
    assert [p.name for p in report.files] == ["out.mp4", "out.npz"]
    assert sorted((tmp_path / "new").iterdir()) == list(report.files)
    frames = list(read_video(report.files[0]))
    assert len(frames) == 12
    x, y = np.rint(network.targets(7)[0].keypoints.mean(0)).astype(int)
    blue, _, red = frames[7].image[y, x].astype(int)
    assert red > 150 and blue < 80
    with np.load(report.files[1], allow_pickle=False) as numbers:
        np.testing.assert_array_equal(numbers["frame"], range(12))
        assert (numbers["track"] == 0).all() and numbers["frames"] == 12
        np.testing.assert_allclose(numbers["pose"][5, :3], network.targets(5)[0].pose[:3], atol=1e-4)
        np.testing.assert_allclose(numbers["landmarks"][5], network.targets(5)[0].landmarks, atol=1e-3)
        assert numbers["coefficients"].shape == (12, 84) and np.isfinite(numbers["box"]).all()
    assert "12 frames, 12 with a face, 1 face; start-up" in str(report)


def test_numbers_of_networks_that_say_little():
    arrays = Rows().arrays()
    assert arrays["pose"].shape == (0, 6) and arrays["coefficients"].shape == (0, 0)


def test_from_file_to_file_with_the_real_detector(tmp_path, context):
    video = SyntheticVideo(VideoOptions(frames=6, seed=1, kind="still", width=320, height=240, head=0.7), context)
    with write_video(tmp_path / "in.avi", 320, 240, 15) as write:
        for n in range(6):
            write(video.frame(n).image)
    with pytest.raises(ValueError, match="in.avi: is the video that is read"):
        process_video(tmp_path / "in.avi", Oracle(video), tmp_path / "in.avi", draw=mark)
    report = process_video(tmp_path / "in.avi", Oracle(video), tmp_path / "out.avi", VideoConfig("none"), draw=mark)
    assert report.with_face == 6 and report.detections == 1
    assert report.ms["detect"] > 0 and report.ms["write"] > 0


@pytest.mark.parametrize("times, shown", [
    ((0, 1, 2, 3), (0, 1, 2, 3)),
    ((0, 1, 4, 5), (0, 1, 1, 1, 2, 3)),             # one comes late: the one before stays
    ((0, 0.9, 1.2, 2.1, 3), (0, 1, 3, 4)),          # two at once: the first
    ((7, 8, 10), (0, 1, 1, 2))])                    # time begins with the first frame
def test_frames_follow_their_times(tmp_path, times, shown):
    images = [np.full((32, 48, 3), 40 * n, np.uint8) for n in range(len(times))]
    frames = [VideoFrame(n, time / 25, image) for n, (time, image) in enumerate(zip(times, images))]
    watched = SimpleNamespace(times=Times())
    with _Writer(tmp_path / "x.avi", frames[0], 25.0, lambda image, faces: image, watched) as writer:
        for frame in frames:
            writer.put(frame, [])
        writer.finish()
    found = [round(float(frame.image.mean()) / 40) for frame in read_video(tmp_path / "x.avi")]
    assert found == list(shown)


def test_a_time_that_no_video_has_is_an_error(tmp_path):
    first, odd = (VideoFrame(n, time, np.zeros((32, 48, 3), np.uint8)) for n, time in enumerate((0.0, 1e9)))
    with pytest.raises(ValueError, match="x.avi: a frame at 1000000000 s is beyond the 216000 frames"):
        watched = SimpleNamespace(times=Times())
        with _Writer(tmp_path / "x.avi", first, 25.0, lambda image, faces: image, watched) as out:
            for frame in (first, odd):
                out.put(frame, [])
            out.finish()
    assert not list(tmp_path.iterdir())


def test_without_a_face_nothing_is_written(tmp_path, talking):
    with pytest.raises(ValueError, match="video: no face in any of its 40 frames"):
        process_video(blank(talking), Oracle(talking), tmp_path / "out.mp4", draw=mark, detect=lambda *_: [])
    with pytest.raises(ValueError, match="out.gif: a video must end in .mp4, .avi"):
        process_video(blank(talking), Oracle(talking), tmp_path / "out.gif", draw=mark)
    with pytest.raises(ValueError, match="gone.mp4: no such file"):
        process_video(tmp_path / "gone.mp4", Oracle(talking), tmp_path / "out.mp4", draw=mark)
    assert not list(tmp_path.iterdir())


def test_what_drawing_raises_ends_the_video(tmp_path, talking):
    clock = Clock(blank(talking))

    def broken(frame, faces):
        raise OSError("no paint")
    with pytest.raises(OSError, match="no paint"):
        process_video(clock, Oracle(talking), tmp_path / "out.mp4", draw=broken,
                      detect=detector(talking, lambda: clock.frame))
    assert not list(tmp_path.iterdir())


def test_a_camera_gives_its_newest_frame_and_counts_the_others():
    ready, taken = threading.Event(), threading.Event()
    images = iter([np.full((2, 2, 3), n, np.uint8) for n in range(10)])

    def read():
        image = next(images, None)
        if image is not None and image[0, 0, 0] == 5:
            ready.set()                 # 0 to 4 are there, nobody took them
            taken.wait(5)
        return image
    live = Live(read)
    source = iter(live)
    threading.Thread(target=lambda: ready.wait(5)).start()
    live._thread.start()
    assert ready.wait(5)
    live._thread, alive = threading.Thread(target=lambda: None), live._thread     # started already
    first = next(source)
    assert (first.number, live.dropped) == (4, 4)
    taken.set()
    alive.join(5)
    last = next(source)
    assert (last.number, live.dropped) == (9, 8) and list(source) == []
    assert last.time > first.time


def test_what_a_camera_raises_is_raised():
    def read():
        raise ValueError("webcam 0: gave no image")
    with pytest.raises(ValueError, match="gave no image"):
        list(Live(read))


def paced(frames: Iterable[VideoFrame], limit: int = 1000) -> Live:
    """The frames of a file at their time stamps, as a camera would give them."""
    source, begun = iter(frames), time.monotonic()

    def read() -> np.ndarray | None:
        frame = next(source, None)
        if frame is None:
            return None
        time.sleep(max(0.0, begun + frame.time - time.monotonic()))
        return frame.image
    return Live(read, limit)


def test_a_slow_network_drops_frames_of_a_camera_but_none_of_a_file(tmp_path, context):
    video = SyntheticVideo(VideoOptions(frames=30, rate=100.0, kind="still", seed=1, **SMALL), context)

    class Slow(Oracle):
        def __call__(self, cut, state):
            time.sleep(0.03)
            return super().__call__(cut._replace(frame=0), state)
    for source, dropped in ((blank(video), False), (paced(blank(video)), True)):
        report = process_video(source, Slow(video), tmp_path / "out.mp4", VideoConfig("none"), draw=mark,
                               detect=detector(video, lambda: 0))
        assert (report.dropped > 0) == dropped and report.frames + report.dropped == 30


def test_a_killed_video_leaves_no_half_file(tmp_path):
    code = ("import sys, numpy as np\nfrom Network.video.process import process_video\n"
            "from Network.video.video import FaceAnswer\n"
            "from Dataset.io.video_files import VideoFrame\nfrom types import SimpleNamespace\n"
            "class Same:\n    size, margin, triangles, rendering = 8, 1.0, None, 0.0\n"
            "    def __call__(self, cut, state):\n"
            "        steps = np.linspace(0.1, 0.9, 16)\n"
            "        return FaceAnswer(np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2), 0.9)\n"
            "def frames():\n"
            "    for n in range(100000):\n        n == 30 and print('going', flush=True)\n"
            "        yield VideoFrame(n, n / 30, np.zeros((120, 160, 3), np.uint8))\n"
            "process_video(frames(), Same(), sys.argv[1], draw=lambda f, _: f, detect=lambda *_: [(40, 30, 60, 60)])\n")
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out.mp4")], cwd=ROOT, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"going\n"
    time.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    assert child.wait(60) == -signal.SIGKILL
    names = [p.name for p in tmp_path.iterdir()]
    assert len(names) == 1 and names[0].startswith(".tmp-")


def test_bad_settings():
    with pytest.raises(ValueError, match="smoothing must be one of none, average, one-euro, got 'kalman'"):
        VideoConfig("kalman")
    with pytest.raises(ValueError, match="box_smoothing must be one of"):
        VideoConfig(box_smoothing="x")
    with pytest.raises(ValueError, match="first_passes must be within 1 to 20, got 0"):
        VideoConfig(first_passes=0)
    with pytest.raises(ValueError, match=r"frame 7: must be \(H, W, 3\) uint8, got \(4, 4\) uint8"):
        network = SimpleNamespace(size=8, margin=1.0, triangles=None, rendering=0.0)
        FaceVideo(network)(VideoFrame(7, 0.0, np.zeros((4, 4), np.uint8)))
