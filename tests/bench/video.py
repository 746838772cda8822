"""What following, cutting, smoothing, drawing and writing cost a frame, and what the network may take for 30 frames/s:

    OMP_NUM_THREADS=1 python -m tests.bench.video [--frames 90] [--rounds 3] [--model MODEL ...]
    python -m tests.bench.video --rounds 0 --model compact uvnet runs/coarse

A rendered head at 640x480, turning and talking, from an .mp4 file; the network knows the truth and costs next to
nothing, but gives the model's 4,881 vertices. Ways run in turn, frame by frame of one video each, in one run; processor
time of the whole process and its ratio to the first way's: OpenCV's detector in every frame. dlib's, the paper's, is
among the ways where it is installed. --rounds 0: none of this. --model: then once with a network for real (bundled, or
a run folder), end to end, by the clock: start-up, frames/s, and ms of each stage a frame.
"""
from __future__ import annotations

import argparse
import logging
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from Dataset.io.video_files import read_video
from Dataset.rendering.raycast import Scene
from Dataset.synthesis.video import SyntheticVideo, VideoOptions, make_video
from Evaluation.figures.overlay import Drawn, Overlay, Shaded
from Network.inference.rendered import face_triangles
from Network.video.process import process_video
from Network.video.track import Detector, make_detector
from Network.video.video import STAGES, Cut, FaceVideo, VideoConfig
from tests.video_stubs import Oracle


class Way(NamedTuple):
    """config, which names the detector; whole: it looks at the whole frame even where a face is known;
    gives_confidence: the network does, and need not be checked."""

    config: VideoConfig
    whole: bool = False
    gives_confidence: bool = False


WAYS = {"detector in every frame (baseline)": Way(VideoConfig(detect_every=1), True),
        "every frame, near the face": Way(VideoConfig(detect_every=1)),
        "every 15th frame, near the face (default)": Way(VideoConfig()),
        "a network that says how sure it is (default)": Way(VideoConfig(), gives_confidence=True),
        "the same, average for One-Euro": Way(VideoConfig("average"), gives_confidence=True),
        "the same, nothing smoothed": Way(VideoConfig("none", "none"), gives_confidence=True)}
if find_spec("dlib"):
    WAYS |= {"dlib in every frame (the paper's)": Way(VideoConfig(video_detector="dlib", detect_every=1), True),
             "dlib every frame, near the face": Way(VideoConfig(video_detector="dlib", detect_every=1)),
             "dlib every 15th frame, near the face": Way(VideoConfig(video_detector="dlib"))}


class Known(Oracle):
    """The truth of every frame, found beforehand."""

    def __init__(self, video: SyntheticVideo) -> None:
        super().__init__(video, size=96, vertices=True)
        self.triangles = face_triangles(video.context.model)
        for frame in range(len(video)):
            self.targets(frame)

    def __call__(self, cut: Cut, state: Any) -> Any:
        begun = time.process_time()
        answer = super().__call__(cut, state)
        self.seconds += time.process_time() - begun
        return answer


class Stages:
    """`Network.video.video.Times` by processor time."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    def __call__(self, context: str) -> "Stages":
        self._stage = context
        return self

    def __enter__(self) -> None:
        self._begun = time.process_time()

    def __exit__(self, *error: Any) -> None:
        self.seconds[self._stage] += time.process_time() - self._begun


def everywhere(config: VideoConfig) -> Detector:
    """The config's detector, which looks at the whole frame, whatever is known."""
    detect = make_detector(config.video_detector)
    return lambda image, thorough, near: detect(image, thorough, None)


def race(path: Path, network: Known, rounds: int) -> None:
    spent = {way: [] for way in WAYS}
    overlay = Overlay(network.triangles)
    for turn in range(rounds):
        for way, (config, whole, gives_confidence) in WAYS.items():
            times, network.gives_confidence, network.seconds = Stages(), gives_confidence, 0.0
            runner = FaceVideo(network, config, 1, everywhere(config) if whole else None, times)
            source, frames = iter(read_video(path)), 0
            writer = cv2.VideoWriter(str(path.with_name("out.mp4")), cv2.VideoWriter_fourcc(*"mp4v"), 30, (640, 480))
            while True:
                with times("read"):
                    frame = next(source, None)
                if frame is None:
                    break
                faces, frames = runner(frame), frames + 1
                with times("draw"):
                    image = overlay(frame.image, faces)
                with times("write"):
                    writer.write(image)
            writer.release()
            times.seconds["network"] -= network.seconds         # the oracle's own
            spent[way].append([1e3 * times.seconds[context] / frames for context in STAGES])
    base = min(np.sum(times) for times in spent[next(iter(WAYS))])
    print("ms of processor time a frame | " + " | ".join(STAGES) + " | all | of the baseline")
    for way, times in spent.items():
        best = times[int(np.argmin(np.sum(times, 1)))]
        cells = [f"{ms:.2f}" for ms in (*best, np.sum(best), np.sum(best) / base)]
        print(" | ".join([way, *cells]))


def paint_by_rays(triangles: np.ndarray) -> Any:
    """The same shading by Open3D's ray caster, whose tree is built anew for each frame."""
    around = Shaded(triangles)

    def paint(vertices: np.ndarray, size: int) -> Drawn:
        from Dataset.geometry.normals import vertex_normals
        low, high = vertices[around._used, :2].min(0) - 1, vertices[around._used, :2].max(0) + 1
        side = float((high - low).max())
        shade = np.clip(vertex_normals(vertices * (1, -1, 1), triangles) @ (-0.25, 0.45, 0.86), 0, 1)
        steps = (np.arange(size) + 0.5) / size * side
        rays = np.stack([*np.meshgrid(low[0] + steps, low[1] + steps), np.full((size, size), 1e4)], -1)
        hits = Scene(vertices, triangles, 1).cast_rays(rays, np.broadcast_to([0.0, 0, -1], rays.shape))
        seen = hits.triangle >= 0
        image = np.zeros((size, size), np.float32)
        image[seen] = (shade[triangles[hits.triangle[seen]]] * hits.barycentric[seen]).sum(-1)
        return Drawn(image, seen.astype(np.float32), float(low[0]), float(low[1]), side)
    return paint


def painters(video: SyntheticVideo, network: Known, rounds: int = 15) -> None:
    frame = video.frame(0)
    runner = FaceVideo(network, VideoConfig("none"))
    faces = runner(frame)
    ways = {"Open3D's rays (baseline)": Overlay(network.triangles, paint=paint_by_rays(network.triangles)),
            "Dataset/rendering/rasterise.py (default)": Overlay(network.triangles)}
    spent: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, overlay in ways.items():
            begun = time.process_time()
            overlay(frame.image, faces)
            spent[way].append(1e3 * (time.process_time() - begun))
    base = np.median(spent[next(iter(ways))])
    for way, ms in spent.items():
        print(f"overlay by {way}: {np.median(ms):.2f} ms of processor time, {np.median(ms) / base:.2f} of the baseline")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=90)
    parser.add_argument("--rounds", type=int, default=3, help="of the race; 0: only --model")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--model", nargs="*", default=[], metavar="MODEL")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING)
    cv2.setNumThreads(1)
    options = VideoOptions(frames=arguments.frames, seed=arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        path, _ = make_video(Path(folder) / "in.mp4", options)
        if arguments.rounds:
            video = SyntheticVideo(options)
            network = Known(video)
            race(path, network, arguments.rounds)
            painters(video, network)
        cv2.setNumThreads(-1)
        for model in arguments.model:
            from Network import from_run
            from Network.engine.loaded import DEFAULT_MODEL
            begun = time.perf_counter()
            real = from_run(DEFAULT_MODEL if model == "box" else model).follower()
            report = process_video(path, real, Path(folder) / "video.mp4", draw=Overlay(real.triangles), begun=begun)
            print(f"{Path(model).name}: {report}")


if __name__ == "__main__":
    main()
