"""What one more photo costs:  python -m tests.bench.streaming [--model RUN] [--rounds 5]

Streaming (one step) against the listing's way, all images again, at 8 and 32 images, interleaved; then each stage of
`demo.py` on the example photo, scaled to 640 pixels, in milliseconds: reading apart, which depends on the file.
"""
from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Callable

import cv2
import numpy as np
import tensorflow as tf

from Dataset.detection.cascades import detect_faces
from Dataset.io.inputs import NamedImage, example_image
from Network import from_run
from Network.commands.results import face_mesh, write_result
from Network.engine.loaded import DEFAULT_MODEL


def timed(function: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    stream, example = from_run(arguments.model), example_image()
    scale = 640 / max(example.image.shape[:2])
    example = NamedImage(example.name, cv2.resize(example.image, None, fx=scale, fy=scale))
    crop, = stream.crops(example)
    # the listing's way gets the benefit of a compiled graph, too
    again = tf.function(lambda images: stream.keras_model()(images, training=False))
    for count in (8, 32):
        images = tf.convert_to_tensor(stream.inputs([crop.image] * count)[None])
        again(images)
        for _ in range(count):
            stream.add(crop)
        ratios, steps = [], []
        for _ in range(arguments.rounds):
            step = timed(lambda: stream.add(crop))
            whole = timed(lambda: again(images))
            ratios.append(whole / step)
            steps.append(step)
        print(f"image {count:2d}: one step {np.median(steps):.1f} ms; all again {np.median(ratios):.1f} times as long "
              f"(rounds {min(ratios):.1f} to {max(ratios):.1f})")
    stages: dict[str, list[float]] = {}

    def measure(name: str, function: Callable[[], object]) -> None:
        stages.setdefault(name, []).append(timed(function))
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            stream.reset()
            measure("detect (640 px)", lambda: detect_faces(example.image))
            measure("detect (320 px)", lambda: detect_faces(example.image, max_side=320))
            measure("detect and crop", lambda: stream.crops(example))
            measure("network and colours", lambda: stream.add(crop))
            face = stream.add(crop)
            measure("texture", lambda: face_mesh(face))
            for ending in (".ply", ".obj", ".glb"):
                measure(f"write {ending}, mesh and texture included",
                        lambda: write_result(Path(folder) / f"f{ending}", face))
    for name, values in stages.items():
        print(f"{name}: {np.median(values):.1f} ms ({min(values):.1f} to {max(values):.1f})")


if __name__ == "__main__":
    main()
