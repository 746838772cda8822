"""Dataset/io/live_frames.py: a capture device is released once, and never while it is read."""
import threading
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from Dataset.io import live_frames
from Dataset.io.live_frames import Live, webcam


class Camera:
    """A camera of OpenCV's shape whose reads can be held up; it counts what it is asked for."""

    def __init__(self, opened: bool = True) -> None:
        self.go, self.reading, self.released, self.released_in_a_read = threading.Event(), False, 0, False
        self.opened, self.began = opened, threading.Event()

    def isOpened(self) -> bool:
        return self.opened

    def set(self, setting: int, value: float) -> bool:
        return True

    def read(self) -> tuple[bool, np.ndarray]:
        self.reading = True
        self.began.set()
        self.go.wait(20)
        self.reading = False
        return True, np.zeros((4, 4, 3), np.uint8)

    def release(self) -> None:
        self.released += 1
        self.released_in_a_read |= self.reading


@pytest.fixture
def camera(monkeypatch):
    made = Camera()
    monkeypatch.setattr(live_frames, "cv2", SimpleNamespace(**{**vars(cv2), "VideoCapture": lambda device: made}))
    return made


def test_a_camera_is_released_after_the_read_that_is_under_way(camera, monkeypatch):
    real = threading.Thread.join
    monkeypatch.setattr(threading.Thread, "join", lambda self, timeout=None: real(self, 0.05))      # not 2 s
    with webcam() as live:
        threading.Thread(target=lambda: next(iter(live), None), daemon=True).start()
        assert camera.began.wait(10)
    assert camera.reading and not camera.released       # the body has ended, the read has not
    camera.go.set()
    monkeypatch.undo()
    live._thread.join(10)
    assert camera.released == 1 and not camera.released_in_a_read


def test_a_camera_that_was_read_is_released_once(camera):
    camera.go.set()
    with webcam(limit=3) as live:
        assert [frame.image.shape for frame in live] == [(4, 4, 3)] * 3
    assert camera.released == 1 and not camera.released_in_a_read


def test_a_camera_that_nobody_read_is_released_once(camera):
    with webcam() as live:
        pass
    live.close()
    assert camera.released == 1


def test_no_camera_is_one_line(camera):
    camera.opened = False
    with pytest.raises(ValueError, match="webcam 3: none found, or another program uses it"):
        with webcam(3):
            pass
    assert camera.released == 1


def test_the_end_and_an_error_release_too():
    for answers, error in (([None], None), ([OSError("gone")], OSError)):
        released, given = [], iter(answers)

        def read():
            answer = next(given)
            if isinstance(answer, Exception):
                raise answer
            return answer
        live = Live(read, release=lambda: released.append(1))
        if error:
            with pytest.raises(error, match="gone"):
                list(live)
        else:
            assert list(live) == []
        live.close()
        assert released == [1]
