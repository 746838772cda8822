"""Networks that know the truth of a synthetic video, but for errors: what Network/video/video.py is measured with."""
from __future__ import annotations

from functools import lru_cache
from typing import Sequence

import numpy as np

from Dataset.io.video_files import VideoFrame
from Dataset.synthesis.video import FaceGroundTruth, SyntheticVideo
from Network.video.track import square
from Network.video.video import Cut, FaceAnswer


@lru_cache(maxsize=1024)
def targets(video: SyntheticVideo, frame: int) -> list[FaceGroundTruth]:
    """Of a frame, found once."""
    return video.truth(frame, hidden=False)


def to_crop(keypoints: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """Undoes `Network.video.track.to_frame`: px of the frame -> sides of the crop (..., 2 or 3)."""
    moved = np.array(keypoints, np.float64)
    moved[..., :2] -= np.asarray(box[:2])
    return moved / box[2]


class Oracle:
    """A `FaceNetwork`: of the subjects in the frame the one nearest to the crop's middle, with noise of `noise` sides
    of the crop and, if asked, vertices, coefficients and maps of so many px; no face when none is there."""

    triangles, rendering = None, 0.0

    def __init__(self, video: SyntheticVideo, noise: float = 0.0, size: int = 48, margin: float = 1.3,
                 vertices: bool = False, maps: bool = False, gives_confidence: bool = True) -> None:
        self.video, self.noise, self.size, self.margin, self.maps = video, noise, size, margin, maps
        self.gives_confidence = gives_confidence
        self.triangles = video.context.model.triangles if vertices else None
        self.states: list = []

    def targets(self, frame: int) -> list[FaceGroundTruth]:
        return targets(self.video, frame)

    def __call__(self, cut: Cut, state) -> FaceAnswer:
        self.states.append(state)
        rng = np.random.default_rng([9, cut.frame])
        near = [np.abs(to_crop(face.keypoints, cut.box).mean(0) - 0.5).max() for face in self.targets(cut.frame)]
        face = self.targets(cut.frame)[int(np.argmin(near))]
        confidence = (0.9 if min(near) < 0.35 and face.inside > 0.4 else 0.1) if self.gives_confidence else None
        keypoints = to_crop(face.keypoints, cut.box) + self.noise * rng.standard_normal((256, 2))
        landmarks = to_crop(face.landmarks, cut.box) + self.noise * rng.standard_normal((68, 2))
        vertices = None
        if self.triangles is not None:
            seen = self.video.camera.project(face.vertices)
            scale = self.video.camera.focal / seen.depth.mean()
            vertices = to_crop(np.stack([seen.x, seen.y, -(seen.depth - seen.depth.mean()) * scale], -1), cut.box)
        pose = np.array([*face.pose[:3], self.video.camera.focal / 700, *face.keypoints.mean(0)])
        uv = None
        if self.maps:
            uv = self.video.uv(face, cut.box, self.size).uv
            uv = uv + np.float32(self.noise) * rng.standard_normal(uv.shape, np.float32)
        return FaceAnswer(keypoints, confidence, landmarks, vertices, pose, face.expression, uv, (state or 0) + 1)


def detector(video: SyntheticVideo, frame_of, calls: list | None = None):
    """A detector that sees every face that lies in the image; frame_of() -> the number of the frame."""
    def detect(image: np.ndarray, thorough: bool, near: np.ndarray | None):
        if calls is not None:
            calls.append(thorough)
        found = []
        for face in targets(video, frame_of()):
            if face.inside > 0.9:
                low, high = face.landmarks[17:].min(0), face.landmarks[17:].max(0)
                x, y, side = square((*low, *(high - low)), 1.2)
                found.append((x, y, side, side))
        return sorted(found, key=lambda box: -box[2])
    return detect


def blank(video: SyntheticVideo) -> list[VideoFrame]:
    """The frames of a video without its images, for networks and detectors that do not look."""
    image = np.zeros((video.options.height, video.options.width, 3), np.uint8)
    return [VideoFrame(n, n / video.options.rate, image) for n in range(len(video))]


class Clock:
    """Moments that are remembered: `clock.frame` is the number of the last one given."""

    def __init__(self, moments) -> None:
        self._moments, self.frame = moments, 0

    def __iter__(self):
        for moment in self._moments:
            self.frame = moment.number
            yield moment
