"""Dataset/io/video_files.py: a video that could not be written is an error, not a file."""
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from Dataset.io import video_files
from Dataset.io.video_files import read_video, video_info, write_video

FRAMES = [np.full((32, 48, 3), 20 * n, np.uint8) for n in range(9)]


@pytest.mark.parametrize("ending", [".mp4", ".avi"])
def test_all_frames_are_there(tmp_path, ending):
    with write_video(tmp_path / f"x{ending}", 48, 32) as write:
        for frame in FRAMES:
            write(frame)
    found = [frame.image.mean() for frame in read_video(tmp_path / f"x{ending}")]
    np.testing.assert_allclose(found, [20 * n for n in range(9)], atol=6)


@pytest.mark.parametrize("rate", [0.5, 5.0, 480.0])
def test_the_rate_is_the_files(tmp_path, rate):
    """Also where it is no camera's: a time lapse, slow motion."""
    with write_video(tmp_path / "x.avi", 48, 32, rate) as write:
        for frame in FRAMES:
            write(frame)
    assert video_info(tmp_path / "x.avi").rate == pytest.approx(rate, rel=0.01)
    times = [frame.time for frame in read_video(tmp_path / "x.avi")]
    np.testing.assert_allclose(times, np.arange(9) / rate, rtol=0.01, atol=1e-3)


def test_a_rate_that_no_video_has_is_measured(tmp_path, monkeypatch):
    """WebM states the unit of its times, 1 ms."""
    with write_video(tmp_path / "x.avi", 48, 32, 12.5) as write:
        for frame in FRAMES:
            write(frame)

    class Odd:
        def __init__(self, name):
            self._capture = cv2.VideoCapture(name)

        def __getattr__(self, name):
            return getattr(self._capture, name)

        def get(self, what):
            return 1000.5 if what == cv2.CAP_PROP_FPS else self._capture.get(what)
    monkeypatch.setattr(video_files, "cv2", SimpleNamespace(**{**vars(cv2), "VideoCapture": Odd}))
    assert video_info(tmp_path / "x.avi").rate == pytest.approx(12.5, rel=0.02)


def test_a_writer_that_is_lost_is_an_error(tmp_path, monkeypatch):
    class Lost(Full):
        def isOpened(self) -> bool:
            return self.count < 3
    monkeypatch.setattr(video_files, "cv2", SimpleNamespace(**{**vars(cv2), "VideoWriter": Lost}))
    with pytest.raises(OSError, match="x.avi: OpenCV lost the video after 3 frames; is the disk full[?]"):
        with write_video(tmp_path / "x.avi", 48, 32) as write:
            for frame in FRAMES:
                write(frame)
    assert not list(tmp_path.iterdir())


class Full:
    """A writer on a disk that is full after four frames: OpenCV's says nothing."""

    def __init__(self, name: str, *settings) -> None:
        self.name, self.count, self.writer = name, 0, cv2.VideoWriter(name, *settings)

    def isOpened(self) -> bool:
        return self.writer.isOpened()

    def write(self, image: np.ndarray) -> None:
        self.count += 1
        if self.count <= 4:
            self.writer.write(image)

    def release(self) -> None:
        self.writer.release()


class Broken(Full):
    """A writer whose file is cut off when it is closed."""

    def release(self) -> None:
        self.writer.release()
        with open(self.name, "r+b") as file:
            file.truncate(64)


@pytest.mark.parametrize("writer, found", [(Full, 4), (Broken, 0)])
@pytest.mark.parametrize("ending", [".mp4", ".avi"])
def test_frames_that_were_not_written_are_an_error(tmp_path, monkeypatch, writer, found, ending):
    monkeypatch.setattr(video_files, "cv2", SimpleNamespace(**{**vars(cv2), "VideoWriter": writer}))
    with pytest.raises(OSError, match=f"x{ending}: only {found} of 9 frames could be written"):
        with write_video(tmp_path / f"x{ending}", 48, 32) as write:
            for frame in FRAMES:
                write(frame)
    assert not list(tmp_path.iterdir())
