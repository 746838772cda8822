"""How many times as fast as Dataset.synthesis.subject_folders Dataset.synthesis.shards makes a subject; and how often a
Haar cascade finds the face.

    OMP_NUM_THREADS=1 python -m tests.bench.render [--subjects 6] [--images 8] [--size 128] [--rounds 3]
    OMP_NUM_THREADS=1 python -m tests.bench.render --haar 320 [--first 0]

Samples/s of one process, interleaved in one run. The baseline `make_subject` frames every image with the detector
and writes JPEGs and no buffers; shards keep all buffers, the maps (uv, mask, visible_mask) or none. --haar renders N
images, of subjects FIRST and up, with |yaw|, |pitch| < 15 degrees and everything else random but for glasses; and 200
images of clutter without anybody.
"""
from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Iterable, Iterator

import cv2
import numpy as np

from Dataset.detection.cascades import STAGES, Detection, detect_faces
from Dataset.rendering.shading import to_bgr8
from Dataset.synthesis import subject_folders as synthetic
from Dataset.synthesis.background import backdrop
from Dataset.synthesis.framing import expected_box
from Dataset.synthesis.render_workers import render_context
from Dataset.synthesis.renders import BUFFERS, MAPS, RenderOptions, render_subject, sample_angles
from Dataset.synthesis.scene import RenderContext, SceneSubject, roughen, sample_view, view_camera
from Dataset.synthesis.skin import sample_appearance

CLUTTER = 200           # images without a face


def race(subjects: int, images: int, size: int, rounds: int) -> None:
    context = render_context()
    new, maps, bare = (RenderOptions(images=images, size=size, buffers=names) for names in (BUFFERS, MAPS, ()))
    old = synthetic.Options(subjects=subjects, images=images, size=size)
    ways = {"make_subject (baseline)": lambda k, folder: synthetic.make_subject(folder, (k, old)),
            "shards, all buffers": lambda k, folder: render_subject(k, new, context),
            "shards, maps": lambda k, folder: render_subject(k, maps, context),
            "shards, no buffers": lambda k, folder: render_subject(k, bare, context)}
    spent = {name: ([], []) for name in ways}
    for turn in range(-1, rounds):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                wall, processor = time.perf_counter(), time.process_time()
                for subject in range(subjects if turn >= 0 else 1):
                    way(max(turn, 0) * subjects + subject, Path(folder))
                if turn >= 0:
                    spent[name][0].append(time.perf_counter() - wall)
                    spent[name][1].append(time.process_time() - processor)
    count = subjects * images
    base = np.median(spent["make_subject (baseline)"][1])
    for name, (wall, processor) in spent.items():
        print(f"{name:26s} {count / np.median(wall):6.1f} samples/s wall, {count / np.median(processor):6.1f} per "
              f"processor second; ratio of processor time {base / np.median(processor):.2f}")


def haar(count: int, first: int, context: RenderContext) -> None:
    """Fractions found and finds off the face, by the frontal cascade, the chain less its last stage and all of it."""
    ways = {"frontal cascade": lambda image: detect_faces(image, thesis=True),
            "chain less its last stage": lambda image: detect_faces(image, stages=STAGES[:-1]),
            "chain": detect_faces}
    for roll in (15, 45):
        hits, off = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0)
        for image, box in frontal_renders(range(first, first + count), context, roll):
            for name, way in ways.items():
                found = way(image)
                hits[name] += near(found, box)
                off[name] += sum(not near([one], box) for one in found)
        print(f"|roll| < {roll}, {count} renders: " + "; ".join(
            f"{name} {100 * hits[name] / count:.1f} %, {off[name]} off the face" for name in ways))
    spent, seen = {name: [] for name in ways}, dict.fromkeys(ways, 0)
    for number in range(CLUTTER):
        rng = np.random.default_rng([77, number])
        image = to_bgr8(backdrop(640, rng, rng.uniform(0.1, 1)), 0.2)
        for name, way in ways.items():
            begun = time.process_time()
            seen[name] += bool(way(image))
            spent[name].append(time.process_time() - begun)
    print(f"{CLUTTER} images of 640x640 px without a face: " + "; ".join(
        f"{name} sees one in {seen[name]}, {1000 * np.median(spent[name]):.0f} ms" for name in ways))


def frontal_renders(subjects: Iterable[int], context: RenderContext, roll: float, smooth: bool = True
                    ) -> Iterator[tuple[np.ndarray, tuple[float, ...]]]:
    """One image (144, 144, 3) of each subject with |yaw|, |pitch| < 15 degrees, all else but glasses as
    `Dataset.synthesis.shards` draws it, and the box (x, y, w, w) that a detector should give."""
    options = RenderOptions(yaw=15, pitch=15, roll=roll)
    for number in subjects:
        rng = np.random.default_rng([2024, number])
        identity = context.model.sample_identity(rng).astype(np.float32)
        scene_subject = SceneSubject(context, identity, sample_appearance(rng))
        view = sample_view(rng, context.model.sample_expression(rng), angles=sample_angles(rng, options))
        posed = scene_subject.set(roughen(view, rng, options.clutter, 0.0))
        camera = view_camera(view)
        yield posed.render(camera, smooth=smooth), expected_box(camera.project(posed.landmarks()))


def near(found: list[Detection], box: tuple[float, ...]) -> bool:
    """Whether a find's centre lies within a quarter of the expected box's side of its centre."""
    return any(max(abs(d.box[k] + d.box[2] / 2 - box[k] - box[2] / 2) for k in (0, 1)) < 0.25 * box[2] for d in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("subjects", 6), ("images", 8), ("size", 128), ("rounds", 3), ("haar", 0),
                          ("first", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.haar:
        haar(options.haar, options.first, render_context())
    else:
        race(options.subjects, options.images, options.size, options.rounds)


if __name__ == "__main__":
    main()
