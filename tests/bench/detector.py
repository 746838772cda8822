"""How many faces each detector finds, at what roll and size, how many it invents, and what an image costs:

    OMP_NUM_THREADS=1 python -m tests.bench.detector [--faces 60] [--seed 202] [--half 1] [--only blazeface,chain]

Faces: the renders of tests/bench/find_face.py, as they are, turned by any angle, and upside down; and heads of 24 to 60
px (the larger side of their landmarks) in 640x480. A face is found where a certain detection lies within 0.4 of the
true box's side of its centre and has 0.6 to 1.7 times its side. Invented: certain detections in the images of a half of
tests/bench/faceless.py; half 0 is for choosing the threshold, 1 for checking it. On half 0 and seed 101
`Dataset.detection.detect.FACE` was chosen. `--photos FOLDER ...` counts the faces in the photos of folders, for the
record: nothing is chosen by it.
"""
from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Sequence

import cv2
import numpy as np

from Dataset.detection import detect as blazeface_module
from Dataset.detection.cascades import Detection, detect_faces
from Dataset.detection.detect import detect
from Dataset.geometry.camera import Projection
from Dataset.io.images import read_image
from Dataset.io.inputs import photos_in
from Dataset.synthesis.framing import expected_box
from Dataset.synthesis.render_workers import render_context
from Dataset.synthesis.scene import RenderContext
from Dataset.synthesis.video import SyntheticVideo, VideoOptions
from Network.engine.face_detector import blazeface
from tests.bench.faceless import images
from tests.bench.find_face import scenes

SMALL = (24.0, 60.0)        # px
Detect = Callable[[np.ndarray], Sequence[Detection]]


class Face(NamedTuple):
    """image (H, W, 3) uint8 BGR; centre (2,) and side, px, of the box that a detector should give; roll: degrees by
    which the image was turned counter-clockwise."""

    image: np.ndarray
    centre: np.ndarray
    side: float
    roll: float = 0.0


def detectors() -> dict[str, Detect]:
    run = blazeface()
    return {"blazeface": lambda image: detect(image, run, every_face=True),
            "chain": lambda image: detect_faces(image, every_stage=True),
            "thesis": lambda image: detect_faces(image, thesis=True)}


def turned(face: Face, degrees: float) -> Face:
    """A face in its image turned counter-clockwise, in a grey frame that holds all of it."""
    height, width = face.image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), degrees, 1)
    sine, cosine = np.abs(matrix[0, 1::-1])
    size = int(np.ceil(height * sine + width * cosine)), int(np.ceil(height * cosine + width * sine))
    matrix[:, 2] += (size[0] / 2 - width / 2, size[1] / 2 - height / 2)
    image = cv2.warpAffine(face.image, matrix, size, borderValue=(90, 90, 90))
    return Face(image, matrix[:, :2] @ (face.centre - 0.5) + matrix[:, 2] + 0.5, face.side, degrees)


def large(count: int, seed: int, context: RenderContext) -> Iterator[Face]:
    for scene in scenes(count, seed, context):
        x, y, side, _ = scene.box
        yield Face(scene.image, np.array([x, y]) + side / 2, side)


def small(count: int, seed: int, context: RenderContext) -> Iterator[Face]:
    """One head of SMALL px in 640x480."""
    for number in range(count):
        rng = np.random.default_rng([seed, number, 12])
        size, options = rng.uniform(*SMALL), {"kind": "still", "seed": seed * 10000 + number, "clutter": 0.6}
        trial = SyntheticVideo(VideoOptions(head=0.2, **options), context).truth(0, hidden=False)[0].landmarks
        head = 0.2 * size / float(np.ptp(trial, axis=0).max())
        frame = SyntheticVideo(VideoOptions(head=head, **options), context).frame(0)
        marks = frame.faces[0].landmarks
        x, y, side, _ = expected_box(Projection(*marks.T, np.full(len(marks), np.nan)))
        yield Face(frame.image, np.array([x, y]) + side / 2, side)


def best(found: Sequence[Detection], face: Face) -> Detection | None:
    """The detection of a face with the highest score; None: it is missed."""
    near = [one for one in found if 0.6 < one.box[2] / face.side < 1.7 and np.abs(
        np.add(one.box[:2], one.box[2] / 2) - face.centre).max() < 0.4 * face.side]
    return max(near, key=lambda one: one.score, default=None)


def recall(title: str, faces: Sequence[Face], ways: dict[str, Detect]) -> None:
    for name, way in ways.items():
        spent, hits, doubtful, scores, off = [], 0, 0, [], []
        for face in faces:
            begun = time.process_time()
            found = way(face.image)
            spent.append(1e3 * (time.process_time() - begun))
            hit = best(found, face)
            hits, doubtful = hits + bool(hit and hit.certain), doubtful + bool(hit and not hit.certain)
            if hit:
                scores.append(hit.score)
                off.append([hit.box[2] / face.side, np.abs(np.add(hit.box[:2], hit.box[2] / 2) - face.centre).max() /
                            face.side])
        sides, centres = np.array(off or [[np.nan] * 2]).T
        print(f"{title}, {name}: found {hits} of {len(faces)}, {doubtful} doubtful; lowest scores "
              f"{', '.join(f'{score:.2f}' for score in sorted(scores)[:4])}; side {np.median(sides):.2f} of the "
              f"expected, centre {np.median(centres):.3f} sides off; {np.median(spent):.0f} ms (median), "
              f"{max(spent):.0f} (most)", flush=True)


def invented(half: int, ways: dict[str, Detect]) -> None:
    for name, way in ways.items():
        scores, wrong = [], 0
        for image in images(half):
            found = way(image)
            wrong += any(one.certain for one in found)
            scores.append(max((one.score for one in found), default=0.0))
        print(f"faceless images, half {half}, {name}: a face in {wrong} of {len(scores)}; highest scores "
              f"{', '.join(f'{score:.2f}' for score in sorted(scores)[-6:])}", flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=60)
    parser.add_argument("--seed", type=int, default=202)
    parser.add_argument("--half", type=int, default=1, choices=(0, 1))
    parser.add_argument("--only", default="blazeface,chain,thesis")
    parser.add_argument("--photos", type=Path, nargs="*", default=())
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    ways = {name: way for name, way in detectors().items() if name in arguments.only.split(",")}
    for folder in arguments.photos:
        photos = [read_image(path) for path in photos_in(folder)]
        for name, way in ways.items():
            counts = [sum(one.certain for one in way(photo)) for photo in photos]
            print(f"{folder.name}, {name}: {sum(counts)} faces, {sum(c > 0 for c in counts)} of {len(counts)} photos",
                  flush=True)
    if arguments.faces:
        print(f"FACE {blazeface_module.FACE}; renders of seed {arguments.seed}")
        context, rng = render_context(), np.random.default_rng(arguments.seed)
        upright = list(large(arguments.faces, arguments.seed, context))
        recall("upright", upright, ways)
        recall("any roll", [turned(face, rng.uniform(-180, 180)) for face in upright], ways)
        recall("upside down", [turned(face, 180) for face in upright], ways)
        recall("24 to 60 px in 640x480", list(small(arguments.faces, arguments.seed, context)), ways)
        invented(arguments.half, ways)


if __name__ == "__main__":
    main()
