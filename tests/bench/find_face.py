"""How often a face in a whole photo is found, at what cost, and what separates crops of it from others:

    OMP_NUM_THREADS=1 python -m tests.bench.find_face MODEL [--images 200] [--seed 202] [--empty 50] [--doubts]

Own renders: one head in a cluttered image of 240 to 640 px, of 0.22 to 0.75 of its height, anywhere in it, yaw up to
60 degrees. A face is found where the 68 landmarks err by less than RIGHT of sqrt(w h). Then as many images of clutter
alone as --empty says, in which there is none. With --doubts, also the score of crops near the face and at random,
re-cropped as a Predictor does; so, on seed 101, FACE and NO_FACE of Network/inference/compact.py and
Network/inference/coarse.py were chosen. MODEL is named as demo.py's.
"""
from __future__ import annotations

import argparse
import contextlib
import time
from typing import Any, Iterator, NamedTuple

import cv2
import numpy as np

from Dataset.geometry.camera import Projection
from Dataset.io.images import Box
from Dataset.io.inputs import NamedImage
from Dataset.rendering.shading import to_bgr8
from Dataset.synthesis.background import backdrop
from Dataset.synthesis.framing import expected_box
from Dataset.synthesis.render_workers import render_context
from Dataset.synthesis.scene import VIEW, RenderContext, View, roughen, sample_view
from Dataset.synthesis.video import DISTANCE, SyntheticVideo, VideoOptions
from Evaluation.reports.landmarks import landmark_error
from Network import from_run
from Network.inference.base import Predictor
from Network.inference.photos import NoFace

RIGHT = 0.08
# yaw, pitch, roll, degrees: largest, and standard deviations of the half that is near the front
LIMITS, FRONTAL = np.array([60.0, 25.0, 30.0]), (25.0, 10.0, 10.0)
HALF_HEAD = 110.0       # mm: the head's middle stays so far from the image's border


class Scene(NamedTuple):
    """image (H, W, 3) uint8 BGR; landmarks (68, 3) float64 px, no depth; box as the detector should give it."""

    image: np.ndarray
    landmarks: np.ndarray
    box: tuple[float, float, float, float]


def scenes(count: int, seed: int, context: RenderContext) -> Iterator[Scene]:
    for number in range(count):
        rng = np.random.default_rng([seed, number, 7])
        height = int(rng.integers(240, 641))
        options = VideoOptions(kind="still", width=int(height * rng.choice([0.75, 1, 1.33])), height=height,
                               seed=seed * 10000 + number, head=rng.uniform(0.22, 0.75), clutter=rng.uniform(0.2, 1))
        video = SyntheticVideo(options, context)
        wide = rng.random() < 0.5
        angles = rng.uniform(-1, 1, 3) * LIMITS if wide else np.clip(rng.normal(0, FRONTAL), -LIMITS, LIMITS)
        view = roughen(sample_view(rng, context.model.sample_expression(rng), angles=angles), rng, 1.0, 0.12)
        camera = video.camera
        room = np.maximum(np.array([camera.width, camera.height]) / 2 * DISTANCE / camera.focal - HALF_HEAD, 0)
        video._motions = [_Still(view, rng.uniform(-1, 1, 2) * room, camera)]
        frame = video.frame(0)
        landmarks = frame.faces[0].landmarks
        unknown = np.full(len(landmarks), np.nan)
        yield Scene(frame.image, np.column_stack([landmarks, unknown]),
                    expected_box(Projection(*landmarks.T, unknown)))


class _Still:
    """A subject who stays as a view has him, at a position (x, y) mm of the video."""

    def __init__(self, view: View, position: np.ndarray, camera: Any) -> None:
        focal = camera.focal * VIEW / max(camera.width, camera.height)
        pose = np.array([*view.pose[:3], *position, 0], np.float32)
        self._view = view._replace(pose=pose, distance=np.float32(DISTANCE), focal=np.float32(focal))

    def view(self, time: float, camera: Any) -> View:
        return self._view


def starts(scene: Scene, rng: np.random.Generator) -> Iterator[Box]:
    """A box near the face as the detector scatters, and four anywhere, of 0.4 to 2 times its side."""
    x, y, side, _ = scene.box
    height, width = scene.image.shape[:2]
    grown, off = side * np.exp(rng.normal(0, 0.08)), rng.normal(0, 0.05, 2) * side
    yield tuple(round(v) for v in (x + off[0] + (side - grown) / 2, y + off[1] + (side - grown) / 2, grown, grown))
    for _ in range(4):
        size = min(side * np.exp(rng.uniform(np.log(0.4), np.log(2))), width, height)
        yield tuple(round(v) for v in (rng.uniform(0, width - size), rng.uniform(0, height - size), size, size))


def measure(stream: Predictor, pictures: int, seed: int, doubts: bool) -> None:
    errors, spent, passes, right, wrong, empty = [], [], [], [], [], 0
    look, count = stream._look, [0]

    def counted(crop: Any) -> Any:
        count[0] += 1
        return look(crop)

    def error(crop: Any) -> float:
        stream.reset()
        try:
            return landmark_error(stream.add(crop).image_landmarks, scene.landmarks).flat / 100
        except NoFace:
            return np.inf
    for number, scene in enumerate(scenes(pictures, seed, render_context())):
        stream._look, count[0] = counted, 0
        begun = time.process_time()
        crops = stream.crops(NamedImage("p", scene.image))
        errors.append(error(crops[0]) if crops else np.inf)
        spent.append(time.process_time() - begun)
        passes.append(count[0])
        stream._look = look
        for box in starts(scene, np.random.default_rng([5, number])) if doubts else ():
            crop, = stream.crops(NamedImage("p", scene.image), box=box)
            stream.reset()
            try:
                doubt = 1 - look(crop).score
            except NoFace:
                empty += 1
                continue
            off = error(crop)
            if off < RIGHT or off > 1.5 * RIGHT:
                (right if off < RIGHT else wrong).append(doubt)
    errors, spent, passes = np.array(errors), 1000 * np.array(spent), np.array(passes)
    given = errors[np.isfinite(errors)]
    print(f"{pictures} images of seed {seed}: found {100 * (errors < RIGHT).mean():.1f} %, no face said in "
          f"{np.isinf(errors).sum()}; landmarks of the others {100 * given.mean():.2f} % (median "
          f"{100 * np.median(given):.2f}); processor time {np.median(spent):.0f} ms (median), {spent.mean():.0f} "
          f"(mean); network passes: {(passes == 1).sum()} images with one, mean {passes.mean():.2f}, "
          f"at most {passes.max()}")
    if doubts:
        print(f"doubt (at most 0: a face, from 1: none) of {len(right)} crops at the face, of {len(wrong)} beside it, "
              f"{empty} without an answer:")
        for name, some, shares in (("at the face", right, (50, 90, 99, 99.5, 100)),
                                   ("beside it", wrong, (0, 0.5, 2, 10, 50))):
            if some:
                print(f"  {name}: " + ", ".join(f"{share} %: {value:.2f}" for share, value in
                                                zip(shares, np.percentile(some, shares))))


def without_anybody(stream: Predictor, pictures: int, seed: int) -> None:
    """In how many images of clutter the network sees a face, and what it costs to look everywhere."""
    seen, spent = 0, []
    for number in range(pictures):
        rng = np.random.default_rng([seed, number, 8])
        image = to_bgr8(backdrop(400, rng, rng.uniform(0.1, 1)), 0.2)[:300]
        begun = time.process_time()
        stream.reset()
        crops = stream.crops(NamedImage("p", image.clip(0, 255).astype(np.uint8)))
        with contextlib.suppress(NoFace):
            for crop in crops:
                stream.add(crop)
                seen += 1
        spent.append(1000 * (time.process_time() - begun))
    print(f"{pictures} images of 400x300 px without anybody: a face in {seen}; {np.median(spent):.0f} ms (median)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--seed", type=int, default=202)
    parser.add_argument("--empty", type=int, default=50)
    parser.add_argument("--doubts", action="store_true")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    stream = from_run(arguments.model)
    if arguments.pictures:
        measure(stream, arguments.pictures, arguments.seed, arguments.doubts)
    if arguments.empty:
        without_anybody(stream, arguments.empty, arguments.seed)


if __name__ == "__main__":
    main()
