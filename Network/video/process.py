"""A video in, a video with its faces out, and their numbers beside it: what demo.py does with an --output of .mp4."""
from __future__ import annotations

import logging
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Mapping, NamedTuple

import numpy as np

from Dataset.blas import one_thread
from Dataset.io.atomic import all_or_none, write_atomic
from Dataset.io.inputs import WEBCAM
from Dataset.io.live_frames import RATE, Live, webcam
from Dataset.io.marks import mark
from Dataset.io.video_files import CODECS, MAX_FRAMES, VideoFrame, read_video, video_info, write_video
from Network.video.track import Detector
from Network.video.video import STAGES, FaceNetwork, FaceResult, FaceVideo, VideoConfig

log = logging.getLogger(__name__)
#: draw(frame (H, W, 3) uint8 BGR, faces) -> another such frame; called by one thread other than the caller's
Draw = Callable[[np.ndarray, list[FaceResult]], np.ndarray]


class Report(NamedTuple):
    """frames that were looked at; with_face: of them; faces: tracks; dropped: frames of a camera that came too fast;
    start_up: s until the first frame's faces; seconds: from then to the end; ms: mean time of each stage a frame, those
    of drawing and writing on a thread of their own; detections: runs of the detector; files."""

    frames: int
    with_face: int
    faces: int
    dropped: int
    start_up: float
    seconds: float
    ms: dict[str, float]
    detections: int
    files: tuple[Path, ...]

    @property
    def rate(self) -> float:
        """Frames a second after the first."""
        return (self.frames - 1) / self.seconds if self.seconds > 0 else float("nan")

    def __str__(self) -> str:
        stages = ", ".join(f"{name} {ms:.1f}" for name, ms in self.ms.items())
        subjects = "1 face" if self.faces == 1 else f"{self.faces} faces"
        return (f"{self.frames} frames, {self.with_face} with a face, {subjects}; start-up {self.start_up:.2f} s, then "
                f"{self.rate:.1f} frames/s, {self.dropped} dropped; ms a frame: {stages}; the detector ran "
                f"{self.detections} times")


def process_video(source: str | Path | Live | Iterable[VideoFrame], network: FaceNetwork, out: str | Path,
                  config: VideoConfig = VideoConfig(), *, draw: Draw, faces: int = 1, limit: int = MAX_FRAMES,
                  detect: Detector | None = None, begun: float | None = None,
                  beside: Callable[[Mapping[str, np.ndarray]], Path] | None = None) -> Report:
    """Follow the faces of a video and write it with them drawn (`out`, .mp4 or .avi), and OUT.npz with a row for each
    face in each frame (`Rows`). Ctrl-C ends a camera's video; of a file's nothing is kept.

    source   a video file, "webcam", or frames
    begun    time.perf_counter() when the program began, for the report
    beside   writes one more file of the arrays of `Rows` -> its path
    All files appear when they are whole. ValueError: no such file, no face in any frame, an ending that is none.
    """
    out, begun = Path(out), time.perf_counter() if begun is None else begun
    if out.suffix.lower() not in CODECS:
        raise ValueError(f"{out}: a video must end in {', '.join(CODECS)}")
    if isinstance(source, (str, Path)) and os.path.realpath(source) in map(os.path.realpath,
                                                                           (out, out.with_suffix(".npz"))):
        raise ValueError(f"{out}: is the video that is read; name another --output")
    if not 1 <= limit <= MAX_FRAMES:
        raise ValueError(f"a video may have 1 to {MAX_FRAMES} frames, got {limit}")
    with ExitStack() as stack:
        stack.enter_context(all_or_none(mark))
        # BLAS's second thread would wait for work where the other core draws and writes
        stack.enter_context(one_thread())
        stream, rate = _opened(source, limit, stack)
        live = isinstance(stream, Live)
        video, rows = FaceVideo(network, config, faces, detect), Rows()
        frames = with_face = 0
        started = ended = time.perf_counter()
        writer = None
        try:
            for shown, found in _watched(stream, video, _is_file(source)):
                if writer is None:
                    started = time.perf_counter()
                    writer = stack.enter_context(_Writer(out, shown, rate, draw, video))
                frames, with_face = frames + 1, with_face + bool(found)
                rows.add(shown, found)
                writer.put(shown, found)
                if frames == limit:
                    break
        except KeyboardInterrupt:
            if not live or writer is None:
                raise
        if writer is not None:
            writer.finish()
        ended = time.perf_counter()
        if not with_face:
            raise ValueError(f"{source if isinstance(source, (str, Path)) else 'video'}: no face in any of its "
                             f"{frames} frames")
        ms = {name: 1e3 * video.times.seconds[name] / frames for name in STAGES}
        dropped = stream.dropped if live else 0
        report = Report(frames, with_face, len(set(rows.numbers)), dropped, started - begun, ended - started, ms,
                        video.tracker.detections, (out, out.with_suffix(".npz")))
        rows.write(report.files[1], rate, frames, dropped)
        if beside is not None:
            report = report._replace(files=(*report.files, beside(rows.arrays())))
    return report


class Rows:
    """The faces of all frames as arrays, N rows in the order of time: frame, track (N,) int32; time (N,) float64 s; box
    (N, 3) px, confidence (N,), landmarks (N, 68, 2) px, pose (N, 6), coefficients (N, K) float32, as in
    `Network.video.video.FaceResult`; what a network does not say is NaN, or of width 0."""

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []

    @property
    def numbers(self) -> list[int]:
        """Of the tracks, row by row."""
        return [row[1] for row in self._rows]

    def add(self, frame: VideoFrame, faces: list[FaceResult]) -> None:
        for face in faces:
            kept = [None if value is None else np.asarray(value, np.float32)
                    for value in (face.landmarks, face.pose, face.coefficients)]
            self._rows.append((frame.number, face.track, frame.time, face.box,
                               np.nan if face.confidence is None else face.confidence, *kept))

    def arrays(self) -> dict[str, np.ndarray]:
        columns = list(zip(*self._rows)) if self._rows else [()] * 8
        count = len(self._rows)
        widest = max((len(row) for row in columns[7] if row is not None), default=0)
        named = {"frame": np.array(columns[0], np.int32), "track": np.array(columns[1], np.int32),
                 "time": np.array(columns[2], np.float64),
                 "box": np.array(columns[3], np.float32).reshape(count, 3),
                 "confidence": np.array(columns[4], np.float32)}
        for name, values, shape in zip(("landmarks", "pose", "coefficients"), columns[5:], ((68, 2), (6,), (widest,))):
            filled = np.full((count, *shape), np.nan, np.float32)
            for row, value in enumerate(values):
                if value is not None:
                    filled[row] = value
            named[name] = filled
        return named

    def write(self, path: Path, rate: float, frames: int, dropped: int) -> None:
        """As .npz, with `rate`, `frames` and `dropped` of the video."""
        arrays = {**self.arrays(), "rate": np.float64(rate), "frames": np.int64(frames), "dropped": np.int64(dropped)}
        write_atomic(path, lambda temporary: np.savez_compressed(temporary, **arrays))


def _opened(source: Any, limit: int, stack: ExitStack) -> tuple[Iterable[VideoFrame], float]:
    """Frames, and how many a second the video shall have."""
    if isinstance(source, Live):
        stack.callback(source.close)
        return source, RATE
    if str(source) == WEBCAM:
        return stack.enter_context(webcam(limit=limit)), RATE
    if isinstance(source, (str, Path)):
        return read_video(source, limit), video_info(source).rate
    return source, RATE


def _is_file(source: Any) -> bool:
    return isinstance(source, (str, Path)) and str(source) != WEBCAM


def _watched(frames: Iterable[VideoFrame], video: FaceVideo, ahead: bool
             ) -> Iterator[tuple[VideoFrame, list[FaceResult]]]:
    """ahead: read the next frame while this one is looked at, as befits a file: a camera's next one is not there yet,
    and would be an old one by then."""
    source = iter(frames)
    with ThreadPoolExecutor(1, "read") as reader:
        following = reader.submit(next, source, None) if ahead else None
        while True:
            with video.times("read"):
                frame = next(source, None) if following is None else following.result()
            if frame is None:
                return
            if ahead:
                following = reader.submit(next, source, None)
            yield frame, video(frame)


class _Writer:
    """Draws and writes on a thread of its own, one frame behind. Frames follow their times: where one comes late, the
    one before it is shown until then; of two within one frame of the video the first is. So the video runs in real
    time, whatever the rate of a camera, and also where a file's rate varies."""

    def __init__(self, out: Path, first: VideoFrame, rate: float, draw: Draw, video: FaceVideo) -> None:
        height, width = first.image.shape[:2]
        self._file = write_video(out, width, height, rate)
        self._path, self._rate, self._draw, self._times = out, rate, draw, video.times
        self._pool = ThreadPoolExecutor(1, "video")
        self._last: Future | None = None
        self._count, self._begun, self._shown = 0, first.time, None

    def __enter__(self) -> _Writer:
        self._write = self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        self._pool.shutdown()
        return self._file.__exit__(*error)

    def put(self, frame: VideoFrame, faces: list[FaceResult]) -> None:
        self.finish()
        self._last = self._pool.submit(self._one, frame, faces)

    def finish(self) -> None:
        """Wait for what is under way; what it raised is raised here."""
        if self._last is not None:
            last, self._last = self._last, None
            last.result()

    def _one(self, frame: VideoFrame, faces: list[FaceResult]) -> None:
        with self._times("draw"):
            image = self._draw(frame.image, faces)
        number = round((frame.time - self._begun) * self._rate)
        if number >= MAX_FRAMES:
            raise ValueError(f"{self._path}: a frame at {frame.time:.0f} s is beyond the {MAX_FRAMES} frames that a "
                             "video may have")
        with self._times("write"):
            while self._count < number:
                self._write(self._shown)
                self._count += 1
            if self._count == number:
                self._write(image)
                self._count += 1
        self._shown = image
