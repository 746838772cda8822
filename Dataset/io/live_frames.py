"""Live frames: the newest frame of a camera is given; frames that arrived meanwhile are dropped and counted."""
from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import Callable, Iterator

import cv2
import numpy as np

from Dataset.io.video_files import MAX_FRAMES, VideoFrame

RATE = 30.0         # asked of a camera, frames a second


class Live:
    """An iterator over the newest frames, which a thread reads in the background.

    read     returns the next image (H, W, 3) uint8 BGR, None at the end; it may block. Its errors are raised by the
             iterator
    most     frames to give at most
    release  called once by the reading thread after the last read: releasing a capture device during a read crashes

    `dropped` counts the frames that were skipped so far. `close()` ends the thread.
    """

    def __init__(self, read: Callable[[], np.ndarray | None], limit: int = MAX_FRAMES,
                 release: Callable[[], None] = lambda: None) -> None:
        self._read, self._limit, self._release = read, limit, release
        self._condition = threading.Condition()
        self._newest: VideoFrame | None = None
        self._error: BaseException | None = None
        self._done, self.dropped = False, 0
        self._thread = threading.Thread(target=self._run, daemon=True, name="camera")

    def __iter__(self) -> Iterator[VideoFrame]:
        self._thread.start()
        given = 0
        while given < self._limit:
            with self._condition:
                self._condition.wait_for(lambda: self._newest is not None or self._done)
                frame, self._newest = self._newest, None
                if frame is None:
                    if self._error is not None:
                        raise self._error
                    return
            given += 1
            yield frame

    def close(self) -> None:
        """Stop reading. Waits up to 2 s for a pending read; the device is released when it returns."""
        with self._condition:
            self._done, started = True, self._thread.ident is not None
        if started:
            self._thread.join(2.0)
        else:
            self._release()
            self._release = lambda: None        # of a second `close`

    def _run(self) -> None:
        begun, number = time.monotonic(), 0
        try:
            while not self._done:
                image = self._read()
                if image is None:
                    break
                with self._condition:
                    self.dropped += self._newest is not None
                    self._newest = VideoFrame(number, time.monotonic() - begun, image)
                    self._condition.notify_all()
                number += 1
        except BaseException as error:      # raised again by the iterator
            self._error = error
        finally:
            self._release()
            with self._condition:
                self._done = True
                self._condition.notify_all()


@contextmanager
def webcam(device: int = 0, width: int = 640, height: int = 480, limit: int = MAX_FRAMES) -> Iterator[Live]:
    """`with webcam() as live`. ValueError when there is none, or it gives no image."""
    capture = cv2.VideoCapture(device)
    if not capture.isOpened():
        capture.release()
        raise ValueError(f"webcam {device}: none found, or another program uses it")
    for setting, value in ((cv2.CAP_PROP_FRAME_WIDTH, width), (cv2.CAP_PROP_FRAME_HEIGHT, height),
                           (cv2.CAP_PROP_FPS, RATE)):
        capture.set(setting, value)

    def read() -> np.ndarray:
        good, image = capture.read()
        if not good:
            raise ValueError(f"webcam {device}: gave no image")
        return image
    live = Live(read, limit, capture.release)
    try:
        yield live
    finally:
        live.close()
