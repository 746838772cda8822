"""Inputs of the scripts: photos, folders of photos, videos, a webcam -> images, one after the other."""
from __future__ import annotations

import logging
import os
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Iterable, Iterator, NamedTuple

import cv2
import numpy as np

from Dataset.io.images import COMPANION, IMAGE_SUFFIXES, MAX_PIXELS, read_image
from Dataset.io.video_files import MAX_FRAMES, opened_capture

log = logging.getLogger(__name__)
VIDEO_ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
WEBCAM = "webcam"
EXAMPLE = "example"         # --example, which is easily typed without its dashes


class NamedImage(NamedTuple):
    """`name` says where it comes from; `image` (H, W, 3) uint8 BGR, upright."""

    name: str
    image: np.ndarray


def read_inputs(inputs: Iterable[str | os.PathLike[str]], frames: int = 8) -> Iterator[NamedImage]:
    """Every photo named or in a named folder (sorted by name), and `frames` frames, evenly spaced, of every video (all
    of one that has fewer) or of about two seconds of the webcam. One image is in memory at a time.

    ValueError, with the file's name, for an input that cannot be read; nothing is skipped silently: what is no photo in
    a folder is counted by its ending in one warning.
    """
    for source in inputs:
        path = Path(source)
        if str(source) == EXAMPLE and not path.exists():
            raise ValueError(f"{source}: no such file; did you mean --{EXAMPLE}?")
        if str(source) == WEBCAM:
            yield from webcam_frames(frames)
        elif path.is_dir():
            for photo in photos_in(path):
                yield NamedImage(str(photo), read_image(photo))
        elif path.suffix.lower() in VIDEO_ENDINGS:
            yield from video_frames(path, frames)
        else:
            yield NamedImage(str(path), read_image(path))


def photos_in(folder: Path) -> list[Path]:
    """The photos of a folder, sorted by name; the other files are counted by their endings in one warning. ValueError
    where there is no photo."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    photos = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(COMPANION)]
    if not photos:
        raise ValueError(f"{folder}: holds no photo ({' '.join(IMAGE_SUFFIXES)})")
    left = Counter(f"{COMPANION}*" if file.name.startswith(COMPANION) else file.suffix.lower() or "without an ending"
                   for file in files if file not in set(photos))
    if left:
        log.warning("%s: left out what is no photo: %s", folder,
                    ", ".join(f"{count} {ending}" for ending, count in sorted(left.items())))
    return photos


def check_inputs(inputs: Iterable[str | os.PathLike[str]], what: str = "file") -> None:
    """ValueError, naming the first of `inputs` that is neither there nor the webcam: before anything is read. what: of
    the message."""
    for source in inputs:
        if str(source) != WEBCAM and not Path(source).exists():
            raise ValueError(f"{source}: no such {what}")


def example_image() -> NamedImage:
    """Astronaut Eileen Collins, a NASA portrait in the public domain, as scikit-image ships it."""
    name, package = "scikit-image's astronaut", find_spec("skimage")
    path = Path(package.origin).parent / "data" / "astronaut.png" if package and package.origin else None
    if path is not None and path.is_file():     # without the import, which takes longer than the face
        return NamedImage(name, read_image(path))
    from skimage import data
    return NamedImage(name, np.ascontiguousarray(data.astronaut()[..., ::-1]))


def video_frames(path: Path, frames: int) -> Iterator[NamedImage]:
    """`frames` frames of a video, evenly spaced. ValueError when it cannot be read or its frames are too large."""
    with opened_capture(path, MAX_PIXELS) as (capture, _, _):
        total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        frames = min(frames, MAX_FRAMES)
        total = total if 0 < total <= MAX_FRAMES else _count(path)     # some containers state no length
        every = frames >= total
        wanted = set() if every else {int(i) for i in np.linspace(0, total - 1, frames)}
        given = 0
        for index in range(frames if every else max(wanted) + 1):
            if not capture.grab():
                break
            if every or index in wanted:
                good, image = capture.retrieve()
                if good:
                    given += 1
                    yield NamedImage(f"{path}#{index}", image)
        if not given:
            raise ValueError(f"{path}: holds no frame that OpenCV can decode")


def _count(path: Path) -> int:
    """The frames of a video, counted, MAX_FRAMES at most."""
    capture, count = cv2.VideoCapture(str(path)), 0
    try:
        while count < MAX_FRAMES and capture.grab():
            count += 1
    finally:
        capture.release()
    return count


def webcam_frames(frames: int, device: int = 0, every: int = 8) -> Iterator[NamedImage]:
    """`frames` frames of a webcam, each `every` frames apart. ValueError when there is no webcam."""
    capture = cv2.VideoCapture(device)
    try:
        if not capture.isOpened():
            raise ValueError(f"webcam {device}: none found, or another program uses it")
        for index in range(frames):
            for _ in range(every - 1):
                capture.grab()
            good, image = capture.read()
            if not good:
                raise ValueError(f"webcam {device}: gave no image")
            yield NamedImage(f"webcam#{index}", image)
    finally:
        capture.release()
