"""How steady networks are over a video whose truth is known, with and without smoothing, at rest and in motion:

    python -m tests.bench.stability [--models compact RUN ...] [--noise 0.01] [--frames 150] [--seed 100] [--out DIR]

A synthetic head (Dataset/synthesis/video.py) at rest under camera noise and a flickering lamp, and turning and talking.
One-Euro's cutoff and beta were chosen on seed 100: another --seed is another head, motion, light and noise. Each
network sees each frame once, cropped where its tracks say (Network/video/video.py); its answers are smoothed afterwards
in each way. Models are named as demo.py's, `box` is its default; --noise adds the truth with independent errors of so
many sides of the crop. Lengths in % of the face (Evaluation/metrics/stability.py). For dense predictions a row "map"
says how steady the map itself is under the true points. Tables on standard output, and as CSV in DIR.
"""
from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from Dataset.geometry.smoothing import SmoothingConfig
from Dataset.io.atomic import write_text
from Dataset.synthesis.video import SyntheticVideo, VideoFrame, VideoOptions
from Evaluation.metrics.stability import Stability, measure
from Network.video.video import FaceVideo, VideoConfig
from tests.map_samples import grid_atlas, sample_map
from tests.bench.stability_table import stability_table
from tests.video_stubs import Oracle

WAYS = {"none": SmoothingConfig("none"), "average of 2 (the paper's)": SmoothingConfig("average"),
        "average of 2, recursive": SmoothingConfig("average", recursive=True),
        "average of 5": SmoothingConfig("average", window=5), "one-euro": SmoothingConfig("one-euro")}


def sample(frames: list[VideoFrame], network: Any, config: VideoConfig) -> dict[str, np.ndarray]:
    """Where a network shows the keypoints of each frame (T, 256, 2) px, NaN where it lost the face; the truth; the
    atlas's errors of its map (T, 256, 2), all NaN where it has none; units (T,) px."""
    runner = FaceVideo(network, config)
    rows: dict[str, list[Any]] = {name: [] for name in ("shown", "truth", "visible", "uv", "unit", "time")}
    nothing = np.full((256, 2), np.nan)
    for frame in frames:
        truth = frame.faces[0]
        face = next(iter(runner(frame)), None)
        mapped = face is not None and face.answer.uv is not None
        rows["shown"].append(nothing if face is None else face.keypoints)
        rows["truth"].append(truth.keypoints)
        rows["visible"].append(truth.visible)
        rows["uv"].append(sample_map(face.answer.uv, face.box, truth.keypoints) - grid_atlas() if mapped else nothing)
        rows["unit"].append(np.nan if face is None else face.box[2])
        rows["time"].append(frame.time)
    return {name: np.array(values) for name, values in rows.items()}


def smoothed(rows: dict[str, np.ndarray], way: SmoothingConfig) -> np.ndarray:
    """As Network/video/video.py does it: a filter that begins anew when the face was lost."""
    smoother, out = way.filter(), []
    for keypoints, unit, time in zip(rows["shown"], rows["unit"], rows["time"]):
        if np.isfinite(unit):
            out.append(smoother(keypoints, time, unit))
        else:
            smoother.reset()
            out.append(keypoints)
    return np.array(out)


def numbers(name: str, rows: dict[str, np.ndarray], rate: float, ways: dict[str, SmoothingConfig] = WAYS
            ) -> list[tuple[str, Stability]]:
    known = (rows["truth"], rows["visible"], rate)
    found = [(f"{name}, {way}", measure(smoothed(rows, config), *known)) for way, config in ways.items()]
    if np.isfinite(rows["uv"]).any():
        found.append((f"{name}, map", measure(rows["shown"], *known, uv=rows["uv"])))
    return found


def networks(models: list[str], noise: list[float], video: SyntheticVideo) -> list[tuple[str, Any]]:
    made: list[tuple[str, Any]] = [(f"truth + {100 * sigma:g} %", Oracle(video, sigma)) for sigma in noise]
    if models:
        from Network import from_run
        from Network.engine.loaded import DEFAULT_MODEL
        for model in models:
            made.append((Path(model).name, from_run(DEFAULT_MODEL if model == "box" else model).follower()))
    return made


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["compact"], metavar="MODEL")
    parser.add_argument("--noise", nargs="*", type=float, default=[], metavar="SIDES")
    parser.add_argument("--kinds", nargs="*", choices=("still", "moving"), default=["still", "moving"])
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--box", choices=("none", "average", "one-euro"), default="average", help="smoothing of boxes")
    parser.add_argument("--out", type=Path, metavar="DIR")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING)
    cv2.setNumThreads(1)
    for kind in arguments.kinds:
        width, height = arguments.size
        options = VideoOptions(kind, arguments.frames, width=width, height=height, seed=arguments.seed)
        video, rows = SyntheticVideo(options), []
        frames = list(video)
        for name, network in networks(arguments.models, arguments.noise, video):
            rows += numbers(name, sample(frames, network, VideoConfig("none", arguments.box)), options.rate)
        table = stability_table(rows, f"{kind}: {options.frames} frames of {width}x{height}, seed {options.seed}")
        print(table.markdown(), flush=True)
        if arguments.out:
            write_text(arguments.out / f"stability_{kind}.csv", table.csv())


if __name__ == "__main__":
    main()
