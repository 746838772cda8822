"""The coarse network for phones:  python -m Network.export.quantise RUN --data SHARDS [--images 100] [-o coarse]

Writes OUT_float.tflite and OUT_int8.tflite (weights and activations in 8 bits, inputs and outputs float32; Endrawis
2018, 6.4, names quantisation as further work) and reports the error of both against the targets, for a single pass and
for the iteration, in which each pass depends on the rounding of the one before. The ranges are set by images of the
shards with the renderings that an iteration meets; the errors are measured on other images.
"""
from __future__ import annotations

import argparse
import logging
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterable, NamedTuple

import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.io.atomic import all_or_none, write_atomic
from Dataset.io.command import one_line
from Dataset.io.images import minmax
from Dataset.representations.coefficients import POSE, encode, linear, mean_face
from Dataset.representations.pncc import built_in_unit
from Dataset.synthesis.shards import Shards, open_shards
from Network.engine.lite import converter_of, missing_operations, runner
from Network.inference.iterate import Iterated

FORMS = ("float", "int8")
MAX_IMAGES = 10_000
TIMED = 30          # passes whose median is reported
PASSES = 3          # of the iteration, from the mean face


class Inputs(NamedTuple):
    """x (B, S, S, 9) float32, as `Network.models.coarse.build` takes them; targets (B, 290) float32."""

    x: np.ndarray
    targets: np.ndarray


class Errors(NamedTuple):
    """geometry: mean absolute error of the vertices' coordinates, mm; pose: root mean square error of the three angles,
    degrees; from_keras: of the geometry from the Keras model's, mm."""

    geometry: float
    pose: float
    from_keras: float

    def __str__(self) -> str:
        return (f"geometry {self.geometry:.4f} mm, angles {self.pose:.3f} degrees from the target, "
                f"{self.from_keras:.5f} mm from Keras")


class Report(NamedTuple):
    """form: float or int8; size in bytes; ms of a pass (median, one thread); once: errors of a single pass; iterated:
    of PASSES from the mean face."""

    form: str
    size: int
    ms: float
    once: Errors
    iterated: Errors


def calibration(shards: Shards, size: int, count: int, first: int = 0) -> Inputs:
    """An image of each of `count` subjects from number `first` on, with the renderings of its target and of the mean
    face by turns. ValueError where there are not so many."""
    import cv2

    if not 1 <= count <= len(shards) - first:
        raise ValueError(f"{shards.path}: holds {len(shards)} subjects, got {count} from number {first} on")
    subjects = np.arange(first, first + count)
    which = subjects % shards.images
    targets = encode(shards.gather("identity", subjects), shards.gather("expression", subjects, which),
                     shards.gather("image_points", subjects, which), shards.size)
    x = np.empty((count, size, size, 9), np.float32)
    for i, image in enumerate(shards.gather("images", subjects, which)):
        x[i, ..., :3] = minmax(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA))
        x[i, ..., 3:] = built_in_unit()(mean_face() if i % 2 else targets[i], size)
    return Inputs(x, targets)


def convert(model: Any, form: str, samples: Iterable[np.ndarray] = ()) -> bytes:
    """A coarse network as a TFLite file, batch 1; samples: inputs (S, S, 9) that set the ranges of int8. ValueError for
    another form, int8 without samples, or a network with an operation that TFLite does not have."""
    import tensorflow as tf

    samples = list(samples)
    if form not in FORMS or form == "int8" and not samples:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, int8 with samples, got {form!r} with {len(samples)}")
    converter = converter_of(model)
    if form == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([sample[None].astype(np.float32)] for sample in samples)
    with missing_operations():
        return converter.convert()


def iterated_faces(predict: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """After PASSES from the mean face, image by image: predict (1, S, S, 9) -> (1, 290); x (B, S, S, 9), of which only
    the images are used -> (B, 290) float32."""
    iterated = Iterated(predict, x.shape[1], PASSES)
    return np.concatenate([iterated.many(one[None, ..., :3])[-1] for one in x])


def measured(form: str, content: bytes, inputs: Inputs, by_keras: tuple[np.ndarray, np.ndarray]) -> Report:
    """One file's size, time and errors on inputs; by_keras: the Keras model's outputs for them, and its
    `iterated_faces`, (B, 290) each."""
    run, times, found = runner(content), [], []
    for x in inputs.x:
        start = time.perf_counter()
        found.append(run(x[None])[0])
        times.append(time.perf_counter() - start)
    return Report(form, len(content), 1e3 * statistics.median(times[-TIMED:]),
                  errors_of(np.stack(found), inputs.targets, by_keras[0]),
                  errors_of(iterated_faces(run, inputs.x), inputs.targets, by_keras[1]))


def errors_of(faces: np.ndarray, targets: np.ndarray, by_keras: np.ndarray) -> Errors:
    """Of faces (B, 290) against the true ones and the Keras model's."""
    shape = linear(load_face_model(), "vertices")

    def geometry(other: np.ndarray) -> float:
        return float(np.abs(shape(faces) - shape(other)).mean())
    rotations = faces[:, POSE][:, :3] - targets[:, POSE][:, :3]
    return Errors(geometry(targets), float(np.degrees(np.sqrt((rotations ** 2).mean()))), geometry(by_keras))


def quantise(run: str | Path, data: str | Path, output: str | Path = "coarse", images: int = 100) -> list[Report]:
    """Write both files and measure them on as many other images. ValueError for another network, or too few images."""
    import keras

    from Network.inference.registry import from_run
    predictor = from_run(run, engine="keras")
    loaded, predict = predictor.loaded, predictor.single_pass()
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"quantise needs KERAS_BACKEND=tensorflow, got {keras.backend.backend()}")
    shards = open_shards(data, partial=True)
    ranges, test = (calibration(shards, loaded.image_size, images, first) for first in (images, 0))
    answers = (np.concatenate([np.asarray(predict(x[None])) for x in test.x]), iterated_faces(predict, test.x))
    reports = []
    with all_or_none():
        for form in FORMS:
            content = convert(loaded.model, form, ranges.x)
            target = Path(f"{output}_{form}.tflite")
            write_atomic(target, lambda part, content=content: Path(part).write_bytes(content))
            reports.append(measured(form, content, test, answers))
    return reports


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m Network.export.quantise", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="run folder or weight folder of a coarse network")
    parser.add_argument("--data", metavar="SHARDS", required=True)
    parser.add_argument("--images", type=int, default=100, help="that set the ranges, and as many for the errors")
    parser.add_argument("-o", "--output", default="coarse", help="beginning of the files' names")
    return parser.parse_args(argv)


@one_line("Network.export.quantise")
def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 2 and one line for bad input."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = parse(argv)
    if not 1 <= arguments.images <= MAX_IMAGES:
        raise ValueError(f"--images must be within 1 to {MAX_IMAGES}, got {arguments.images}")
    for report in quantise(arguments.run, arguments.data, arguments.output, arguments.images):
        print(f"{arguments.output}_{report.form}.tflite: {report.size / 1e6:.2f} MB, {report.ms:.2f} ms a pass on one "
              f"thread; one pass: {report.once}; {PASSES} passes: {report.iterated}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
