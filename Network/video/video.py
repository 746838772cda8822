"""A network over the frames of a video or webcam: every face followed, looked at once a frame, smoothed, written down.

Endrawis 2018, 2.5 and 3.2: one pass a frame that begins from the last frame's answer. Which network is no matter here:
it is a callable from a crop and its last state to an answer (`FaceNetwork`; `Predictor.follower` makes them).
"""
from __future__ import annotations

import dataclasses
import time
from contextlib import contextmanager
from typing import Any, Iterator, NamedTuple, Protocol

import numpy as np

from Dataset.geometry.smoothing import WAYS, Filter, SmoothingConfig
from Dataset.io.images import crop_resize
from Dataset.io.video_files import VideoFrame
from Network.video.track import Detector, Track, TrackConfig, Tracker, make_detector, to_frame

STAGES = ("read", "detect", "crop", "render", "network", "smooth", "draw", "write")
_TURNS = (360.0, 360.0, 360.0, 0.0, 0.0, 0.0)       # a pose's angles come round
_DEGREES, _SIGMA = 90.0, 3.0       # units of speed: of angles, and of coefficients


class Cut(NamedTuple):
    """What a network is handed: image (S, S, 3) uint8 BGR; box (x, y, side), the square of the frame that it shows, px;
    frame: number; time, s."""

    image: np.ndarray
    box: np.ndarray
    frame: int
    time: float


class FaceAnswer(NamedTuple):
    """What a network says of one crop; None: nothing.

    keypoints     (256, 2) float, a 16x16 grid of the face in sides of the crop
    confidence    that there is a face, in [0, 1]
    landmarks     (68, 2) float, normalised coordinates of the crop
    vertices      (V, 3) float: x, y in normalised coordinates of the crop, y down, z to the viewer in the same unit
    pose          (6,) float: yaw, pitch, roll in degrees, scale in px of the frame per mm, x, y of the head's origin in
                  px of the frame
    coefficients  (K,) float, identity, then expression
    uv            (S, S, 2) float32, NaN off the face
    state         given with this face's next frame, None for a new face; boxes change from frame to frame
    """

    keypoints: np.ndarray
    confidence: float | None = None
    landmarks: np.ndarray | None = None
    vertices: np.ndarray | None = None
    pose: np.ndarray | None = None
    coefficients: np.ndarray | None = None
    uv: np.ndarray | None = None
    state: Any = None


class FaceNetwork(Protocol):
    """size: side of its crops, px; margin: by which a detector's box is grown; triangles: (F, 3) int of the answers'
    vertices, None where it gives none; rendering: s spent in rendering so far, of a network that renders."""

    size: int
    margin: float
    triangles: np.ndarray | None
    rendering: float

    def __call__(self, cut: Cut, state: Any) -> FaceAnswer: ...


class FaceResult(NamedTuple):
    """A face in a frame, smoothed. track: its number; box (3,) of the crop, px; keypoints (256, 2), landmarks (68, 2)
    px of the frame; vertices (V, 3) px, z to the viewer; pose (6,), coefficients (K,), confidence, as in `FaceAnswer`;
    answer: the network's output."""

    track: int
    box: np.ndarray
    keypoints: np.ndarray
    landmarks: np.ndarray | None
    vertices: np.ndarray | None
    pose: np.ndarray | None
    coefficients: np.ndarray | None
    confidence: float | None
    answer: FaceAnswer


@dataclasses.dataclass(frozen=True)
class VideoConfig:
    """A video or the webcam. ValueError for a value out of range."""

    smoothing: str = "one-euro"     # of the results: none, average (the paper's) or one-euro
    box_smoothing: str = "average"  # of the crops: none, average (the paper's) or one-euro
    window: int = 2                 # average: frames
    cutoff: float = 1.5             # one-euro: Hz at rest; the lower, the calmer
    beta: float = 50.0              # one-euro: Hz of cutoff for a speed of one face a second; the higher, the quicker
    video_detector: str = "blazeface"   # or OpenCV's cascades, or the paper's dlib, if it is installed
    detect_every: int = 15          # frames between two runs of the detector
    first_passes: int = 2           # over a new face in its first frame, each re-cropped by the one before
    confidence: float = 0.3         # of a network that gives one: below it the face is lost
    remember: float = 3.0           # s: a face that comes back within them keeps its number

    def __post_init__(self) -> None:
        if self.box_smoothing not in WAYS:
            raise ValueError(f"box_smoothing must be one of {', '.join(WAYS)}, got {self.box_smoothing!r}")
        if not 1 <= self.first_passes <= 20:
            raise ValueError(f"first_passes must be within 1 to 20, got {self.first_passes}")
        make_detector(self.video_detector)
        self.tracks(1)

    def smooth(self, way: str | None = None) -> SmoothingConfig:
        return SmoothingConfig(self.smoothing if way is None else way, self.window, False, self.cutoff, self.beta)

    def tracks(self, faces: int) -> TrackConfig:
        self.smooth()
        return TrackConfig(self.detect_every, faces, self.confidence, remember=self.remember,
                           box=self.smooth(self.box_smoothing))


class Times:
    """Seconds of each of STAGES, summed."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - started


class FaceVideo:
    """`results = video(moment)`, frame by frame, in order.

    faces: tracked at most; detect: see `Network.video.track.Detector`, None: the config's. ValueError for a frame that
    is no image.
    """

    def __init__(self, network: FaceNetwork, config: VideoConfig = VideoConfig(), faces: int = 1,
                 detect: Detector | None = None, times: Times | None = None) -> None:
        self.network, self.config, self.times = network, config, times or Times()
        self.tracker = Tracker(config.tracks(faces), detect or make_detector(config.video_detector), network.margin)
        self._filters: dict[int, tuple[int, dict[str, Filter]]] = {}

    def __call__(self, frame: VideoFrame) -> list[FaceResult]:
        image = frame.image
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"frame {frame.number}: must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
        with self.times("detect"):
            tracks = self.tracker.begin(image, frame.number, frame.time)
        results = []
        for track in tracks:
            result = self._result(track, frame)
            if result is not None:
                results.append(result)
        self.tracker.settle(frame.time)
        self._filters = {n: kept for n, kept in self._filters.items() if n in {t.number for t in self.tracker.tracks}}
        followed = {track.number for track in self.tracker.tracks}
        return [result for result in results if result.track in followed]

    def _result(self, track: Track, frame: VideoFrame) -> FaceResult | None:
        """One track in one frame; None when its face is lost."""
        passes = 1 if track.age else self.config.first_passes
        for number in range(passes):
            with self.times("crop"):
                cut = cut_box(frame, track.box, self.network.size)
            if cut is None:
                self.tracker.lose(track, "left the image", frame.time)
                return None
            answer = self._answer(cut, track.state)
            keypoints = to_frame(answer.keypoints, cut.box)
            if number + 1 < passes:         # re-cropped by the next pass
                there = self.tracker.aim(track, keypoints, answer.confidence, frame.time)
            else:
                there = self.tracker.update(track, keypoints, answer.confidence, frame.time)
            if not there:
                return None
            track.state = answer.state
        with self.times("smooth"):
            return self._smoothed(track, cut, answer, keypoints, frame.time)

    def _answer(self, cut: Cut, state: Any) -> FaceAnswer:
        """The network's output; the time that it renders is counted apart."""
        before = self.network.rendering
        with self.times("network"):
            answer = self.network(cut, state)
        spent = self.network.rendering - before
        self.times.seconds["render"] += spent
        self.times.seconds["network"] -= spent
        return answer

    def _smoothed(self, track: Track, cut: Cut, answer: FaceAnswer, keypoints: np.ndarray, now: float) -> FaceResult:
        unit = float(cut.box[2])
        since, filters = self._filters.get(track.number, (0, {}))
        if track.age <= since or not filters:         # lost and found again
            filters = {}
        values = {"keypoints": (keypoints, unit), "pose": (answer.pose, (_DEGREES,) * 3 + (0.01 * unit, unit, unit)),
                  "coefficients": (answer.coefficients, _SIGMA)}
        values |= {name: (None if getattr(answer, name) is None else to_frame(getattr(answer, name), cut.box), unit)
                   for name in ("landmarks", "vertices")}
        smooth: dict[str, Any] = {}
        for name, (value, scale) in values.items():
            if value is not None:
                if name not in filters:
                    filters[name] = self.config.smooth().filter(_TURNS if name == "pose" else None)
                value = filters[name](value, now, np.asarray(scale))
            smooth[name] = value
        self._filters[track.number] = (track.age, filters)
        return FaceResult(track.number, cut.box, confidence=answer.confidence, answer=answer, **smooth)


def cut_box(frame: VideoFrame, box: np.ndarray, size: int) -> Cut | None:
    """The square cut out of a frame, to whole pixels, border repeated; None when it misses the frame."""
    x, y, side = round(float(box[0])), round(float(box[1])), max(1, round(float(box[2])))
    height, width = frame.image.shape[:2]
    if x >= width or y >= height or x + side <= 0 or y + side <= 0 or side > 4 * max(width, height):
        return None
    image = crop_resize(frame.image, (x, y, side, side), size, "area")
    return Cut(image, np.array([x, y, side], np.float64), frame.number, frame.time)
