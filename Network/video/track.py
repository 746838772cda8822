"""Faces tracked over the frames of a video: the box of the next crop, and the identity of the tracks.

The detector runs only every so many frames, and when a face was lost; in between a face's box comes from where the
network saw the keypoints last (Endrawis 2018, 2.5, takes the last frame's geometry the same way, but runs the
detector in every frame). Boxes jitter, so they are smoothed, as there (3.2).

A box here is (x, y, side): float64 px of the frame, a square that may hang over its edge. Keypoints are (K, 2), x, y.
"""
from __future__ import annotations

import dataclasses
import logging
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np

from Dataset.detection.cascades import MAX_SIDE, STAGES, Detection, detect_faces
from Dataset.detection.detect import COARSE, FINE, PATCH, detect
from Dataset.detection.dlib_detector import dlib_faces, load_dlib
from Dataset.geometry.smoothing import SmoothingConfig
from Network.engine.face_detector import blazeface

log = logging.getLogger(__name__)
MAX_FACES = 16
EXTENT = 0.91                                   # as in Network/inference/photos.py
QUICK_SIDE, RELIABLE = 320, 2                   # px, and stages of the cascades
NEAR_SIDE, AROUND = 120, 0.3                    # px of a search near a face; its margin, of the face's side
SEARCH_EVERY = 3        # frames, while a lost face may come back and others are followed, or one was missed
MIN_SIDE = 16.0       # px: smaller faces are not followed
GREW, MOVED = 2.0, 0.6  # a box that changes by more from frame to frame, in its sides, has lost its face
MIN_IN_FRAME = 0.3        # fraction of a face's keypoints in the frame, below which it has left
SAME = 0.2              # intersection over union of a find and a track from which they are one face
TWICE = 0.6             # of two tracks from which they follow one face
_LIMITS = {"detect_every": (1, 10_000), "faces": (1, MAX_FACES), "confidence": (0, 1), "patience": (1, 1000),
           "remember": (0, 3600)}
#: detect(frame (H, W, 3) uint8 BGR, thorough, near) -> boxes (x, y, w, h) px of the frame, the largest first; near: a
#: box (x, y, side) about a face that is known, so that no more needs to be searched; None: the whole frame
Detector = Callable[[np.ndarray, bool, "np.ndarray | None"], Sequence[Sequence[float]]]


@dataclasses.dataclass(frozen=True)
class TrackConfig:
    """How faces are followed. ValueError for a value out of range."""

    detect_every: int = 15      # frames between two runs of the detector while all faces are followed
    faces: int = 1              # at most
    confidence: float = 0.3     # of a network that gives one: below it the face is lost
    patience: int = 3           # runs of the detector in a row that miss the face, of a network without confidence
    remember: float = 3.0       # s: a face that comes back within them keeps its number
    box: SmoothingConfig = SmoothingConfig("average")

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be within {low:g} to {high:g}, got {getattr(self, name)}")


class Shape(NamedTuple):
    """Height and width of a frame, px."""

    height: int
    width: int


class Track:
    """One face. number: 0, 1, 2 ... in the order of appearance; box: of the next crop; state: of the
    network, None after a loss; age: frames since it was found (again); scored: its network gives a confidence; seen:
    s, of the last frame with it; reason: why it was lost, "" while it is not."""

    def __init__(self, number: int, box: np.ndarray, config: TrackConfig, time: float) -> None:
        self.number, self.box, self.seen = number, box, time
        self.state: Any = None
        self.age = self.misses = 0
        self.reason, self.scored = "", False
        self.smooth = config.box.filter()

    def found(self, box: np.ndarray, time: float) -> None:
        """Begin anew at a box."""
        self.box, self.seen, self.state, self.age, self.misses, self.reason = box, time, None, 0, 0, ""
        self.smooth.reset()


class Tracker:
    """Per frame: `tracks = tracker.begin(image, number, time)`, then for each of them
    `tracker.update(track, keypoints, confidence, time)` with the network's output.

    detect  see `Detector`, DETECTORS; None: BlazeFace. margin: by which its boxes are grown about their centre.
    """

    def __init__(self, config: TrackConfig = TrackConfig(), detect: Detector | None = None, margin: float = 1.0
                 ) -> None:
        self.config, self.margin = config, margin
        self._detect = blazeface_faces if detect is None else detect
        self.reset()

    def reset(self) -> None:
        """Forget all faces."""
        self.tracks: list[Track] = []
        self._lost: list[Track] = []
        self._count, self._due, self._last, self._looked, self.detections = 0, True, -1, -SEARCH_EVERY, 0
        self._shape = Shape(0, 0)

    def begin(self, image: np.ndarray, number: int, time: float) -> list[Track]:
        """The faces to follow in frame `number`, (H, W, 3) uint8 BGR; runs the detector where it is due."""
        self._shape = Shape(*image.shape[:2])
        # a face that was missed once is searched again soon: it has left, or was turned for a few frames
        missed = any(track.misses for track in self.tracks)
        every = min(SEARCH_EVERY, self.config.detect_every) if missed else self.config.detect_every
        waited = self._last < 0 or number - self._last >= every
        if waited or self._due and (not self.tracks or number - self._looked >= SEARCH_EVERY):
            self._looked = number
            self._meet([square(box, self.margin) for box in self._search(image, waited)], time, waited)
            if waited:
                self._last = number
            self._due = self._searching(time)
        self._due = self._due or not self.tracks
        return list(self.tracks)

    def _search(self, image: np.ndarray, waited: bool) -> list[Sequence[float]]:
        """The detector's boxes: of the whole frame while there may be more faces, else near the known faces, to check
        them, unless their network gives a confidence."""
        # a face that the quick search misses may be turned: search thoroughly before it is given up
        thorough = [track.misses + 1 >= self.config.patience for track in self.tracks]
        if len(self.tracks) < self.config.faces:
            self.detections += 1
            return list(self._detect(image, waited and (any(thorough) or not self.tracks), None))
        finds: list[Sequence[float]] = []
        for track, careful in zip(self.tracks, thorough):
            if not track.scored:
                self.detections += 1
                finds += self._detect(image, careful, track.box)
        return finds

    def update(self, track: Track, keypoints: np.ndarray, confidence: float | None, time: float) -> bool:
        """The network's output for a track in this frame: keypoints (K, 2) px of the frame; confidence in [0, 1] or
        None -> whether the face is still there. If so the box is set for the next frame."""
        reason = self._fault(track, keypoints, confidence)
        if reason:
            self.lose(track, reason, time)
            return False
        track.box = track.smooth(box_around(keypoints), time, track.box[2])
        track.age, track.seen = track.age + 1, time
        track.scored = confidence is not None
        return True

    def aim(self, track: Track, keypoints: np.ndarray, confidence: float | None, time: float) -> bool:
        """As `update` for the first pass over a new face, which another pass over the same frame follows: the box is
        set to the face, without smoothing."""
        reason = self._fault(track, keypoints, confidence)
        if reason:
            self.lose(track, reason, time)
            return False
        track.box = box_around(keypoints)
        return True

    def settle(self, time: float) -> None:
        """After a frame: of two tracks on one face the younger is given up."""
        for younger in sorted(self.tracks, key=lambda track: track.age):
            others = [t.box for t in self.tracks if t is not younger]
            if others and overlaps(younger.box[None], np.stack(others)).max() > TWICE:
                self.lose(younger, "follows another's face", time)

    def _fault(self, track: Track, keypoints: np.ndarray, confidence: float | None) -> str:
        if confidence is not None and not confidence >= self.config.confidence:
            return "the network sees no face"
        if not np.isfinite(keypoints).all():
            return "its keypoints are not finite"
        box, (height, width) = box_around(keypoints), self._shape
        if not MIN_SIDE <= box[2] <= 2 * max(height, width):
            return "its size is no face's"
        if ((keypoints >= 0) & (keypoints < (width, height))).all(-1).mean() < MIN_IN_FRAME:
            return "left the image"
        shift = np.abs(box[:2] + box[2] / 2 - track.box[:2] - track.box[2] / 2).max()
        if not (1 / GREW <= box[2] / track.box[2] <= GREW and shift <= MOVED * track.box[2]):
            return "jumped"
        return ""

    def lose(self, track: Track, reason: str, time: float) -> None:
        """Give a face up; it may come back under its number."""
        log.debug("face %d lost at %.2f s: %s", track.number, time, reason)
        track.reason, track.state = reason, None
        self.tracks.remove(track)
        self._lost.append(track)
        self._due = True

    def _searching(self, time: float) -> bool:
        """Whether a lost face may come back any moment."""
        return bool(self._lost) and len(self.tracks) < self.config.faces

    def _meet(self, finds: list[np.ndarray], time: float, checked: bool = True) -> None:
        """Finds and tracks are matched (Kuhn's Hungarian method on their overlaps); what is left over begins. checked:
        a track that no find meets has been missed; else other faces were sought, and it need not have been seen."""
        self._lost = [track for track in self._lost if time - track.seen <= self.config.remember]
        pairs: list[tuple[int, int]] = []
        if finds and self.tracks:
            shared = overlaps(np.stack([track.box for track in self.tracks]), np.stack(finds))
            from scipy.optimize import linear_sum_assignment        # a quarter of a second, which a photo need not wait
            same = shared >= SAME       # as many pairs as can be, then the most overlap
            pairs = [(t, f) for t, f in zip(*linear_sum_assignment(-shared - len(finds) * same)) if same[t, f]]
        met = {t for t, _ in pairs}
        for number, track in reversed(list(enumerate(self.tracks))):
            track.misses = 0 if number in met or track.scored else track.misses + checked
            if track.misses >= self.config.patience:
                self.lose(track, "the detector does not see it", time)
        for find in (finds[f] for f in range(len(finds)) if f not in {f for _, f in pairs}):
            near = [track.box for track in self.tracks]
            if len(self.tracks) >= self.config.faces or near and overlaps(find[None], np.stack(near)).max() >= SAME:
                continue
            self.tracks.append(self._begun(find, time))

    def _begun(self, find: np.ndarray, time: float) -> Track:
        """The lost face that a find may be, the nearest in place and size, else a new one."""
        if self._lost:
            far = [np.abs(find[:2] - t.box[:2]).sum() / find[2] + abs(np.log(find[2] / t.box[2])) for t in self._lost]
            track = self._lost.pop(int(np.argmin(far)))
            track.found(find, time)
            return track
        self._count += 1
        return Track(self._count - 1, find, self.config, time)


def blazeface_faces(image: np.ndarray, thorough: bool, near: np.ndarray | None = None) -> list[Sequence[float]]:
    """BlazeFace on the shrunk frame; thorough: also small faces. Near a face: its surroundings, shrunk to 128 px."""
    run, sides = blazeface(), (PATCH,) if near is not None else (COARSE, FINE) if thorough else (COARSE,)
    return _about(image, near, lambda part: [one for one in detect(part, run, True, sides) if one.certain])


def cascade_faces(image: np.ndarray, thorough: bool, near: np.ndarray | None = None) -> list[Sequence[float]]:
    """OpenCV's cascades on an image shrunk to 320 px: the reliable stages, or, thorough, the whole chain. Near a face:
    its surroundings shrunk to 120 px."""
    side = QUICK_SIDE if near is None else NEAR_SIDE

    def search(part: np.ndarray) -> list[Detection]:
        found = detect_faces(part, max_side=side, stages=STAGES[:RELIABLE], every_stage=near is None)
        return found or (detect_faces(part, max_side=side, stages=STAGES[RELIABLE:]) if thorough else [])
    return _about(image, near, search)


def dlib_boxes(image: np.ndarray, thorough: bool, near: np.ndarray | None = None) -> list[Sequence[float]]:
    """dlib's detector (Dataset/detection/dlib_detector.py) on an image shrunk to 640 px; it finds no face below 80 px.
    thorough: on the doubled image. Near a face: on its surroundings, shrunk to 240 px."""
    side = MAX_SIDE if near is None else 2 * NEAR_SIDE
    return _about(image, near, lambda part: dlib_faces(part, side, int(thorough)))


def _about(image: np.ndarray, near: np.ndarray | None, search: Callable[[np.ndarray], list[Detection]]
           ) -> list[Sequence[float]]:
    """What `search` finds in an image, or in the surroundings of `near`, as boxes of the whole."""
    left = top = 0
    if near is not None:
        height, width = image.shape[:2]
        low, high = near[:2] - AROUND * near[2], near[:2] + (1 + AROUND) * near[2]
        (left, top), (right, bottom) = (np.rint(np.clip(v, 0, (width, height))).astype(int) for v in (low, high))
        if min(right - left, bottom - top) < MIN_SIDE:
            return []
        image = np.ascontiguousarray(image[top:bottom, left:right])
    return [(x + left, y + top, w, h) for x, y, w, h in (find.box for find in search(image))]


def make_detector(name: str) -> Detector:
    """One of DETECTORS by name. ValueError for another, or one whose package is not installed."""
    if name not in DETECTORS:
        raise ValueError(f"video_detector must be one of {', '.join(DETECTORS)}, got {name!r}")
    if name == "blazeface":
        blazeface()             # now, not in the middle of a video
    if name == "dlib":
        load_dlib()
    return DETECTORS[name]


DETECTORS: dict[str, Detector] = {"blazeface": blazeface_faces, "cascades": cascade_faces, "dlib": dlib_boxes}


def square(box: Sequence[float], margin: float = 1.0) -> np.ndarray:
    """(x, y, w, h) -> the square about its centre, `margin` times its larger side: (x, y, side)."""
    x, y, w, h = (float(v) for v in box)
    side = margin * max(w, h)
    return np.array([x + (w - side) / 2, y + (h - side) / 2, side])


def box_around(keypoints: np.ndarray) -> np.ndarray:
    """The box in which keypoints (K, 2) lie as in most crops of the training (`Network.inference.photos.recrop`)."""
    low, high = keypoints.min(0), keypoints.max(0)
    side = float((high - low).max()) / EXTENT
    return np.array([*((low + high) / 2 - side / 2), side])


def to_frame(keypoints: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """Sides of a crop (..., 2 or 3) -> px of the frame; a third coordinate, depth, is scaled alike."""
    scaled = np.asarray(keypoints, np.float64) * box[2]
    scaled[..., :2] += np.asarray(box[:2])
    return scaled


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (N, 3) and (M, 3): (N, M) in [0, 1]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum((a[:, :2] + a[:, 2:])[:, None], (b[:, :2] + b[:, 2:])[None])
    common = np.clip(high - low, 0, None).prod(-1)
    return common / (a[:, None, 2] ** 2 + b[None, :, 2] ** 2 - common)
