"""Dataset/io/video_files.py: a video that could not be written is an error, not a file."""
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from Dataset.io import video_files
from Dataset.io.video_files import read_video, write_video

FRAMES = [np.full((32, 48, 3), 20 * n, np.uint8) for n in range(9)]


@pytest.mark.parametrize("ending", [".mp4", ".avi"])
def test_all_frames_are_there(tmp_path, ending):
    with write_video(tmp_path / f"x{ending}", 48, 32) as write:
        for frame in FRAMES:
            write(frame)
    found = [frame.image.mean() for frame in read_video(tmp_path / f"x{ending}")]
    np.testing.assert_allclose(found, [20 * n for n in range(9)], atol=6)


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
