"""A video of synthetic subjects with ground truth:  python -m Dataset.synthetic_video OUT.mp4 --kind moving --seed 0

`still`: a head that does not move, with camera noise and slight flicker, so that all motion in a tracker's output is
its error. `moving`: heads turn smoothly, come nearer, talk and blink, and, with --leave, leave the image and come back.
Faces and renderer are those of the training images (Dataset/synthesis/scene.py); the background is static. Frame n
depends only on the options and n, so that frames may be made in any order.

Writes OUT.mp4 (or .avi) and OUT.npz with the truth of every frame and subject.
"""
from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from functools import cached_property
from pathlib import Path
from typing import Iterator, NamedTuple

import cv2
import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.geometry.camera import FLIP, Camera
from Dataset.io.atomic import all_or_none, remove_leftovers_of, write_atomic
from Dataset.io.command import one_line, wrote
from Dataset.io.video_files import MAX_FRAME, MAX_FRAMES, write_video
from Dataset.rendering import shading
from Dataset.representations import uvmap
from Dataset.representations.points import coarse_grid
from Dataset.seeding import MAX_SEED
from Dataset.synthesis.background import backdrop
from Dataset.synthesis.renders import visible
from Dataset.synthesis.scene import VIEW, PosedScene, RenderContext, SceneSubject, View, pose_vertices, sample_view
from Dataset.synthesis.skin import sample_appearance

KINDS = ("still", "moving")
DISTANCE = 700.0        # mm from the camera
_HEAD = 230.0           # mm of a head's height
_GAMMA = 1 / shading.GAMMA
_LIMITS = {"frames": (1, MAX_FRAMES), "rate": (1, 240), "width": (16, 4096), "height": (16, 4096), "subjects": (1, 8),
           "seed": (0, MAX_SEED), "head": (0.05, 1.5), "yaw": (0, 90), "pitch": (0, 60), "roll": (0, 90),
           "expression": (0, 1), "noise": (0, 50), "flicker": (0, 0.5), "clutter": (0, 1)}
_OUT = (0.35, 0.47, 0.63, 0.75)         # fractions of the video: begins to leave, is gone, begins to return, is back
_BLINK = 0.15                           # s


@dataclasses.dataclass(frozen=True)
class VideoOptions:
    """Options of the video. ValueError for a value out of range."""

    kind: str = "moving"        # still or moving
    frames: int = 150
    rate: float = 30.0          # frames a second
    width: int = 640
    height: int = 480
    subjects: int = 1             # side by side
    seed: int = 0
    head: float = 0.5           # height of a head, relative to the image
    yaw: float = 35.0           # largest, degrees
    pitch: float = 12.0         # largest, degrees
    roll: float = 10.0          # largest, degrees
    expression: float = 0.8     # strength, 0 to 1
    noise: float = 2.0          # of the camera, grey levels of 255
    flicker: float = 0.01       # relative standard deviation of the light
    clutter: float = 0.5           # clutter of the background, 0 to 1
    leave: bool = False         # the first subject leaves the image and comes back

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"--kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        for name, (low, high) in _LIMITS.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"--{name} must be within {low} to {high}, got {getattr(self, name)}")
        if self.width * self.height > MAX_FRAME:
            raise ValueError(f"--width x --height must be at most {MAX_FRAME} pixels, got {self.width}x{self.height}")
        if self.leave and self.kind == "still":
            raise ValueError("--leave needs --kind moving")


class FaceGroundTruth(NamedTuple):
    """One subject in one frame. subject: number; pose (6,) float32, as in :class:`Dataset.synthesis.scene.View`;
    expression (84,) float32; vertices (V, 3) float64 mm of the model in the camera's world; keypoints (256, 2),
    landmarks (68, 2) float64 px of the frame (x, y; first pixel's centre 0.5), also off the image and hidden; visible
    (256,) bool: in the image, and not hidden, except perhaps by another subject; inside: fraction of the keypoints in
    the image."""

    subject: int
    pose: np.ndarray
    expression: np.ndarray
    vertices: np.ndarray
    keypoints: np.ndarray
    landmarks: np.ndarray
    visible: np.ndarray
    inside: float


class VideoFrame(NamedTuple):
    """number; time s; image (height, width, 3) uint8 BGR; faces: of every subject, in the order of their numbers."""

    number: int
    time: float
    image: np.ndarray
    faces: list[FaceGroundTruth]


class SyntheticVideo:
    """`for frame in SyntheticVideo(options)`, or `video.frame(n)`.

    identities (subjects, 200) float32; camera: of the frames; context: a
    :class:`Dataset.synthesis.scene.RenderContext`, made if it is not given (takes a second).
    """

    def __init__(self, options: VideoOptions, context: RenderContext | None = None) -> None:
        self.options = o = options
        self.context = RenderContext(load_face_model(), 1) if context is None else context
        model = self.context.model
        focal = o.head * o.height * DISTANCE / _HEAD
        self.camera = Camera(o.width, o.height, focal, (o.width / 2, o.height / 2), FLIP.copy(),
                             np.array([0.0, 0.0, DISTANCE]))
        rngs = [np.random.default_rng([o.seed, subject, 0]) for subject in range(o.subjects)]
        self.identities = np.stack([model.sample_identity(rng) for rng in rngs]).astype(np.float32)
        self._appearances = [sample_appearance(rng) for rng in rngs]
        self._actors: dict[int, SceneSubject] = {}
        self._motions = [_Motion(o, subject, model.expression_names) for subject in range(o.subjects)]
        self._still: tuple[np.ndarray, list[FaceGroundTruth]] | None = None

    def __len__(self) -> int:
        return self.options.frames

    def __iter__(self) -> Iterator[VideoFrame]:
        return (self.frame(number) for number in range(len(self)))

    def frame(self, number: int) -> VideoFrame:
        """Frame `number` with its truth. IndexError beyond the last."""
        if not 0 <= number < len(self):
            raise IndexError(f"a video of {len(self)} frames has no frame {number}")
        o = self.options
        if o.kind == "still":
            if self._still is None:
                self._still = self._scene(0.0)
            rendered, faces = self._still
        else:
            rendered, faces = self._scene(number / o.rate)
        rng = np.random.default_rng([o.seed, number, 5])
        light = np.float32((1 + o.flicker * np.clip(rng.standard_normal(), -3, 3)) ** _GAMMA)
        image = rendered * light
        if o.noise:
            image += np.float32(o.noise) * rng.standard_normal(rendered.shape, np.float32)
        return VideoFrame(number, number / o.rate, np.clip(np.rint(image), 0, 255).astype(np.uint8), faces)

    def truth(self, number: int, hidden: bool = True) -> list[FaceGroundTruth]:
        """The ground truth of a frame without rendering it. hidden: test which keypoints are hidden; else all in the
        image count as visible, which takes a tenth of the time."""
        time = 0.0 if self.options.kind == "still" else number / self.options.rate
        if hidden:
            return [self._seen(subject, posed.view, posed.vertices, posed)
                    for subject, posed in self._posed_scenes(time)]
        views = [motion.view(time, self.camera) for motion in self._motions]
        model = self.context.model
        return [self._seen(subject, view, pose_vertices(model.shape(identity, view.expression), view.pose))
                for subject, (view, identity) in enumerate(zip(views, self.identities))]

    def uv(self, face: FaceGroundTruth, box: tuple[float, float, float], size: int) -> uvmap.UVMap:
        """The true UV map of a crop: box x, y, side in px of the frame; size of the crop, px."""
        x, y, side = box
        return uvmap.encode(face.vertices, self.camera.crop((x, y, side, side), size), None, self.context.model,
                            threads=1)

    @cached_property
    def background(self) -> np.ndarray:
        """(height, width, 3) float32 linear BGR."""
        o, side = self.options, max(self.options.width, self.options.height)
        whole = backdrop(side, np.random.default_rng([o.seed, 4]), o.clutter)
        top, left = (side - o.height) // 2, (side - o.width) // 2
        return np.ascontiguousarray(whole[top:top + o.height, left:left + o.width])

    def _posed_scenes(self, time: float) -> list[tuple[int, PosedScene]]:
        return [(subject, self._scene_subject(subject).set(motion.view(time, self.camera)))
                for subject, motion in enumerate(self._motions)]

    def _scene_subject(self, subject: int) -> SceneSubject:
        if subject not in self._actors:
            self._actors[subject] = SceneSubject(self.context, self.identities[subject], self._appearances[subject])
        return self._actors[subject]

    def _scene(self, time: float) -> tuple[np.ndarray, list[FaceGroundTruth]]:
        """The image (height, width, 3) float32 in [0, 255] without noise, and the truth."""
        image = shading.to_bgr8(self.background).astype(np.float32)
        scenes = self._posed_scenes(time)
        for _, posed in sorted(scenes, key=lambda item: float(item[1].view.pose[5])):        # the farthest first
            self._draw(image, posed)
        return image, [self._seen(subject, posed.view, posed.vertices, posed) for subject, posed in scenes]

    def _draw(self, image: np.ndarray, posed: PosedScene) -> None:
        """Draw a subject onto the image, in place; only the part that it covers is rendered."""
        seen = self.camera.project(posed.vertices)
        edges = [np.nanmin(seen.x) - 2, np.nanmin(seen.y) - 2, np.nanmax(seen.x) + 2, np.nanmax(seen.y) + 2]
        limits = [self.camera.width, self.camera.height] * 2
        left, top, right, bottom = (int(np.clip(edge, 0, limit)) for edge, limit in zip(edges, limits))
        if right - left < 2 or bottom - top < 2:
            return
        x, y = self.camera.centre
        camera = self.camera._replace(width=right - left, height=bottom - top, centre=(x - left, y - top))
        # at edges the subject is blended with the background, at the resolution of the posed scene's image
        square = cv2.warpAffine(image, _to_view(self.camera), (VIEW, VIEW), borderMode=cv2.BORDER_REPLICATE)
        posed.backdrop = (square / 255) ** shading.GAMMA
        hits = posed.scene.cast(camera)
        drawn = posed.render(camera, hits=hits)
        covered = cv2.dilate((hits.triangle >= 0).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        image[top:bottom, left:right][covered] = drawn[covered]

    def _seen(self, subject: int, view: View, vertices: np.ndarray, posed: PosedScene | None = None) -> FaceGroundTruth:
        """vertices: the model's first; posed: None to ignore occlusion."""
        model = self.context.model
        vertices = vertices[:len(model.mean)]
        points = coarse_grid(model) @ vertices
        keypoints, landmarks = (np.stack(self.camera.project(x)[:2], -1) for x in (points, model.landmarks(vertices)))
        inside = ((keypoints >= 0) & (keypoints < (self.camera.width, self.camera.height))).all(-1)
        seen = inside if posed is None else inside & visible(posed.scene, self.camera, points)
        return FaceGroundTruth(subject, view.pose, view.expression, vertices, keypoints, landmarks, seen,
                               float(inside.mean()))


class _Motion:
    """The motion of one subject: smooth random functions of time, drawn from (seed, subject)."""

    def __init__(self, options: VideoOptions, subject: int, names: tuple[str, ...]) -> None:
        self._options, self._subject, self._names = options, subject, names
        rng = np.random.default_rng([options.seed, subject, 1])
        still = sample_view(rng, np.zeros(len(names)), angles=np.zeros(3))
        level = float(shading.LUMINANCE @ (still.light_colour + 0.282095 * still.light_ambient[0]))
        self._view = still._replace(contrast=np.float32(0), grain=np.float32(0), gain=np.ones(3, np.float32),
                                    light_colour=still.light_colour / np.float32(level),
                                    light_ambient=still.light_ambient / np.float32(level))
        self._waves = [_Wave(rng, rate) for rate in (0.5, 0.4, 0.4, 0.4, 0.35, 0.3, 3.0, 1.2, 0.3, 0.4)]
        self._rest = rng.uniform(-1, 1, 6)
        self._blinks = np.cumsum(rng.uniform(1.5, 5.0, 4096))

    def view(self, time: float, camera: Camera) -> View:
        """The subject at a time, s."""
        o = self._options
        limits = np.array([o.yaw, o.pitch, o.roll])
        half = camera.width / 2 * DISTANCE / camera.focal       # mm of the image's half width at the head
        home = half * (2 * (self._subject + 0.5) / o.subjects - 1)
        apart = half / o.subjects
        expression = np.zeros(len(self._names))
        if o.kind == "still":
            angles, shift = 0.3 * limits * self._rest[:3], np.array([home, 0, 0])
        else:
            turn = [wave(time) for wave in self._waves]
            angles = limits * turn[:3]
            shift = np.array([home + 0.25 * apart * turn[3], 25 * turn[4], 70 * turn[5] - 60 * self._subject])
            out = half + _HEAD if o.subjects == 1 else -half - _HEAD         # away from the others
            shift[0] += self._gone(time) * (out - home)
            expression = o.expression * self._speech(time, *turn[6:])
        pose = np.array([*angles, *shift], np.float32)
        # the detector's image of the view contains the whole frame: see SyntheticVideo._draw
        return self._view._replace(pose=pose, expression=expression.astype(np.float32), distance=np.float32(DISTANCE),
                                   focal=np.float32(camera.focal * VIEW / max(camera.width, camera.height)),
                                   torso=np.float32(0.3 * angles[0]))

    def _gone(self, time: float) -> float:
        """0: at its place, 1: out of the image."""
        if not self._options.leave or self._subject:
            return 0.0
        fraction = time * self._options.rate / self._options.frames
        return float(np.interp(fraction, _OUT, (0, 1, 1, 0)))

    def _speech(self, time: float, syllable: float, mouth: float, smile: float, brow: float) -> np.ndarray:
        """Weights (84,): the jaw follows syllables, lips are rounded or stretched, lids blink."""
        lids = max(0.0, 1 - np.abs(self._blinks - time).min() / _BLINK)
        weights = {"jawOpen": 0.35 * max(0.0, syllable + 0.3), "mouthFunnel": 0.5 * max(0.0, mouth),
                   "mouthStretchLeft": 0.4 * max(0.0, -mouth), "mouthStretchRight": 0.4 * max(0.0, -mouth),
                   "mouthSmileLeft": 0.6 * max(0.0, smile), "mouthSmileRight": 0.6 * max(0.0, smile),
                   "browInnerUp": 0.6 * max(0.0, brow), "eyeBlinkLeft": lids, "eyeBlinkRight": lids}
        return np.array([weights.get(name, 0.0) for name in self._names])


class _Wave:
    """A smooth signal in [-1, 1]: three sines of up to `rate` Hz."""

    def __init__(self, rng: np.random.Generator, rate: float) -> None:
        self._rates, self._phases = rate * rng.uniform(0.35, 1, 3), rng.uniform(0, 2 * np.pi, 3)

    def __call__(self, time: float) -> float:
        return float(np.sin(2 * np.pi * self._rates * time + self._phases) @ (0.5, 0.3, 0.2))


def _to_view(camera: Camera) -> np.ndarray:
    """(2, 3): pixels of a frame to those of the small square image that contains it, with aligned centres, in OpenCV's
    pixels."""
    scale = VIEW / max(camera.width, camera.height)
    half = np.array([camera.width, camera.height]) / 2
    return np.column_stack([scale * np.eye(2), VIEW / 2 - scale * half + 0.5 * scale - 0.5])


def ground_truth_arrays(frames: list[list[FaceGroundTruth]]) -> dict[str, np.ndarray]:
    """The truth of T frames of P subjects as arrays: pose (T, P, 6), expression (T, P, 84), keypoints (T, P, 256, 2),
    landmarks (T, P, 68, 2) float32; visible (T, P, 256) bool; inside (T, P) float32."""
    names = ("pose", "expression", "keypoints", "landmarks", "visible", "inside")
    arrays = {name: np.array([[getattr(face, name) for face in faces] for faces in frames]) for name in names}
    return {name: array if array.dtype == bool else array.astype(np.float32) for name, array in arrays.items()}


def make_video(out: str | Path, options: VideoOptions, progress=iter) -> tuple[Path, Path]:
    """Write a video and, beside it, OUT.npz: `ground_truth_arrays`, time (T,) s, identity (P, 200). -> both paths. Both
    files appear at the end, or none of them."""
    out, targets = Path(out), []
    beside = out.with_suffix(".npz")
    video = SyntheticVideo(options)
    for path in (out, beside):
        remove_leftovers_of(path)
    with all_or_none():
        with write_video(out, options.width, options.height, options.rate) as write:
            for frame in progress(video):
                write(frame.image)
                targets.append(frame.faces)
        arrays = {**ground_truth_arrays(targets), "time": np.arange(len(video)) / options.rate,
                  "identity": video.identities}
        write_atomic(beside, lambda path: np.savez_compressed(path, **arrays))
    return out, beside


@one_line("Dataset.synthetic_video")
def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 2 and one line for bad input."""
    from tqdm import tqdm

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m Dataset.synthetic_video", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", type=Path, help=".mp4 or .avi")
    for field in dataclasses.fields(VideoOptions):
        kind = {"type": type(field.default)} if field.default is not False else {"action": "store_true"}
        parser.add_argument(f"--{field.name}", default=field.default, **kind, help="default %(default)s")
    arguments = vars(parser.parse_args(argv))
    files = make_video(arguments.pop("out"), VideoOptions(**arguments),
                       lambda frames: tqdm(frames, unit="frame", disable=None))
    print(wrote(files), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
