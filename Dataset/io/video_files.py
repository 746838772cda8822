"""Video files through OpenCV: read frame by frame, written atomically, bounded in size and number of frames."""
from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

import cv2
import numpy as np

from Dataset.io.archives.regular import check_regular
from Dataset.io.atomic import atomic_path

log = logging.getLogger(__name__)
CODECS = {".mp4": "mp4v", ".avi": "MJPG"}       # OpenCV's wheels bring encoders for these
_EBML = b"\x1a\x45\xdf\xa3"                       # of Matroska and WebM
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")        # ISO base media and QuickTime
MAX_FRAME = 4096 * 2304                         # px
MAX_FRAMES = 216_000                            # two hours at 30 a second
RATES = (0.1, 1000.0)                           # frames a second that a video may have
LIKELY = (1.0, 240.0)                           # a rate beyond is checked: WebM often states the unit of its times
MEASURED = 100                                  # frames by whose times a rate is checked


class VideoFrame(NamedTuple):
    """A frame of a video: number from 0; time, s, which grows; image (H, W, 3) uint8 BGR."""

    number: int
    time: float
    image: np.ndarray


class VideoInfo(NamedTuple):
    """width, height px; rate, frames a second, as the file states it, or, where that is unlikely, as its frames' times
    have it (30 where neither says); frames, 0 where it does not say."""

    width: int
    height: int
    rate: float
    frames: int


def video_info(path: str | os.PathLike[str]) -> VideoInfo:
    """The properties that a file states. ValueError if it is no video, or its frames are too large."""
    with _opened(path) as (_, info):
        return info


def read_video(path: str | os.PathLike[str], limit: int = MAX_FRAMES) -> Iterator[VideoFrame]:
    """Every frame, at most `most`, one in memory at a time. ValueError, naming the file, when it is no video, holds no
    frame, or frames that are too large."""
    with _opened(path) as (capture, info):
        last, number = -1.0, 0
        while number < limit:
            good, image = capture.read()
            if not good:
                break
            time = capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
            if not time > last:         # the first frame's 0 passes; some containers know no times
                time = max(number / info.rate, last + 0.5 / info.rate)
            yield VideoFrame(number, time, image)
            last, number = time, number + 1
        if number == 0:
            raise ValueError(f"{path}: holds no frame that OpenCV can decode")
        if number == limit and capture.grab():
            log.warning("%s: only its first %d frames are read", path, limit)


@contextmanager
def write_video(path: str | os.PathLike[str], width: int, height: int, rate: float = 30.0
                ) -> Iterator[Callable[[np.ndarray], None]]:
    """`with write_video(path, 640, 480) as write: write(image)`: images (height, width, 3) uint8 BGR. The file appears
    under its name when the body ends, and not at all when it raises or the process is killed.

    ValueError for another ending than .mp4 or .avi, a size that is none, a rate outside RATES, another image, and a
    body that wrote none. OSError where the file does not hold all frames at the end: OpenCV's writer does not say that
    a disk is full.
    """
    path = Path(path)
    codec = CODECS.get(path.suffix.lower())
    if codec is None:
        raise ValueError(f"{path}: a video must end in {', '.join(CODECS)}")
    if not (2 <= width and 2 <= height and width * height <= MAX_FRAME and RATES[0] <= rate <= RATES[1]):
        raise ValueError(f"{path}: a video has frames of 2x2 to {MAX_FRAME} pixels, {RATES[0]:g} to {RATES[1]:g} a "
                         f"second, got {width}x{height} and {rate:g}")
    written = 0
    with atomic_path(path) as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter_fourcc(*codec), float(rate), (int(width), int(height)))
        if not writer.isOpened():
            raise OSError(f"{path}: OpenCV cannot write {codec} video here")

        def write(image: np.ndarray) -> None:
            nonlocal written
            if image.shape != (height, width, 3) or image.dtype != np.uint8:
                raise ValueError(f"{path}: its frames are ({height}, {width}, 3) uint8, got {image.shape} "
                                 f"{image.dtype}")
            if not writer.isOpened():
                raise OSError(f"{path}: OpenCV lost the video after {written} frames; is the disk full?")
            writer.write(image)
            written += 1
        try:
            yield write
        finally:
            writer.release()
        if not written:
            raise ValueError(f"{path}: no frame was written")
        _check_written(path, temporary, written)


def _check_written(path: Path, file: Path, count: int) -> None:
    """OSError unless `file`, which is to become `path`, says that it holds `count` frames."""
    capture = cv2.VideoCapture(str(file))
    try:
        found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    finally:
        capture.release()
    if found != count:
        raise OSError(f"{path}: only {found} of {count} frames could be written; is the disk full?")


def _measured_rate(path: Path) -> float:
    """Frames a second by the median distance of the first frames; 30 where the file has no times."""
    capture, times = cv2.VideoCapture(str(path)), []
    try:
        while len(times) < MEASURED and capture.grab():
            times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3)
    finally:
        capture.release()
    apart = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    return 1 / apart if apart > 0 and RATES[0] <= 1 / apart <= RATES[1] else 30.0


def check_container(path: str | os.PathLike[str]) -> None:
    """ValueError unless a file begins as an MP4 or QuickTime, AVI, Matroska or WebM file does. FFmpeg would take what
    its content says: a list of other files, a playlist, a still image."""
    check_regular(path)
    with open(path, "rb") as file:
        head = file.read(12)
    if not (head[4:8] in _BOXES or head[:4] == b"RIFF" and head[8:] == b"AVI " or head[:4] == _EBML):
        raise ValueError(f"{Path(path)}: must be an MP4, MOV, AVI, MKV or WebM video, by its first bytes it is none")


@contextmanager
def opened_capture(path: str | os.PathLike[str], largest: float) -> Iterator[tuple[cv2.VideoCapture, int, int]]:
    """A video's reader, and the width and height of its frames, px. ValueError for a file that is missing or no video,
    and for frames of more than `largest` pixels."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    check_container(path)
    capture = cv2.VideoCapture(str(path))
    try:
        width, height = (int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if not capture.isOpened() or width < 1 or height < 1:
            raise ValueError(f"{path}: is no video that OpenCV can read")
        if width * height > largest:
            raise ValueError(f"{path}: frames of {width}x{height} pixels are more than {largest / 1e6:.3g} megapixels")
        yield capture, width, height
    finally:
        capture.release()


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[cv2.VideoCapture, VideoInfo]]:
    with opened_capture(path, MAX_FRAME) as (capture, width, height):
        rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        rate = rate if LIKELY[0] <= rate <= LIKELY[1] else _measured_rate(Path(path))
        yield capture, VideoInfo(width, height, float(rate), int(count) if 0 < count < 1e9 else 0)
