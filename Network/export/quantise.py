"""The coarse network for phones:  python -m Network.export.quantise RUN --data SHARDS [--pictures 100] [-o coarse]

Writes OUT_float.tflite and OUT_int8.tflite (weights and activations in 8 bits, inputs and outputs float32; Endrawis
2018, 6.4, names quantisation as further work; of a network that finds places its convolutions only, since a camera's
divisions and angles have no sense in 8 bits), and says what the 8 bits cost: the error of both against the truth, on
pictures that did not set the ranges, of a single pass and of the iterated answer, whose every pass sees what the last
one's 8 bits made of the face. Ranges are set by pictures of the shards with the renderings that an iteration sees.
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
from Dataset.io.atomic import write_atomic
from Dataset.io.images import minmax
from Dataset.representations.coefficients import POSE, encode, linear, mean_face
from Dataset.representations.pncc import built_in_unit
from Dataset.synthesis.shards import Shards, open_shards
from Network.config.flags import exit_code
from Network.engine.lite import converter_of, missing_operations, runner
from Network.inference.iterate import Iterated

FORMS = ("float", "int8")
#: what stays float32 of a network that finds places: all but convolutions
FLOAT = ("ADD", "ATAN2", "BATCH_MATMUL", "BROADCAST_TO", "CAST", "CONCATENATION", "DIV", "EXP", "FLOOR",
         "FULLY_CONNECTED", "GATHER", "LESS", "LOG", "LOGISTIC", "MAXIMUM", "MEAN", "MINIMUM", "MUL", "NEG", "PACK",
         "PAD", "RESHAPE", "SELECT", "SLICE", "SOFTMAX", "SQRT", "STRIDED_SLICE", "SUB", "SUM", "TILE", "TRANSPOSE")
TIMED = 30          # passes whose median is told
PASSES = 3          # of the iterated answer, from the mean face


class Inputs(NamedTuple):
    """x (B, S, S, 9) float32, as `Network.models.coarse.build` takes them; truths (B, 290) float32."""

    x: np.ndarray
    targets: np.ndarray


class Errors(NamedTuple):
    """geometry: mean absolute error of the vertices' coordinates, mm; pose: root mean square error of the three angles,
    degrees; apart: of the geometry from the Keras model's, mm."""

    geometry: float
    pose: float
    apart: float

    def __str__(self) -> str:
        return (f"geometry {self.geometry:.4f} mm, angles {self.pose:.3f} degrees off the truth, {self.apart:.5f} mm "
                "off Keras")


class Report(NamedTuple):
    """form: float or int8; size in bytes; ms of a pass (median, one thread); once: of a single pass; iterated: of
    PASSES from the mean face on, without and with the file in them."""

    form: str
    size: int
    ms: float
    once: Errors
    iterated: Errors


def calibration(shards: Shards, size: int, count: int, first: int = 0) -> Inputs:
    """`count` people's pictures from place `first` on, every other with the mean face's renderings and with its
    truth's.
    ValueError where there are not so many."""
    import cv2

    if not 1 <= count <= len(shards) - first:
        raise ValueError(f"{shards.path}: holds {len(shards)} people, asked for {count} from number {first} on")
    who = np.arange(first, first + count)
    which = who % shards.images
    targets = encode(shards.gather("identity", who), shards.gather("expression", who, which),
                    shards.gather("image_points", who, which), shards.size)
    x = np.empty((count, size, size, 9), np.float32)
    for i, image in enumerate(shards.gather("images", who, which)):
        x[i, ..., :3] = minmax(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA))
        x[i, ..., 3:] = built_in_unit()(mean_face() if i % 2 else targets[i], size)
    return Inputs(x, targets)


def convert(model: Any, form: str, samples: Iterable[np.ndarray] = (), convolutions: bool = False) -> bytes:
    """A coarse network as a TFLite file, batch 1; samples: (S, S, 9) pictures that set the ranges of int8;
    convolutions: they alone are int8. ValueError for another form, int8 without samples, or a network with an operation
    that TFLite does not have."""
    import tensorflow as tf

    samples = list(samples)
    if form not in FORMS or form == "int8" and not samples:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, int8 with samples, got {form!r} with {len(samples)}")
    converter = converter_of(model)
    if form == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([sample[None].astype(np.float32)] for sample in samples)
    with missing_operations():
        if form == "int8" and convolutions:
            options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(FLOAT))
            return tf.lite.experimental.QuantizationDebugger(
                converter=converter, debug_dataset=converter.representative_dataset, debug_options=options
            ).get_nondebug_quantized_model()
        return converter.convert()


def iterated_faces(predict: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """After PASSES from the mean face, picture by picture: predict (1, S, S, 9) -> (1, 290); x (B, S, S, 9), of which
    the pictures count -> (B, 290) float32."""
    iterated = Iterated(predict, x.shape[1], PASSES)
    return np.concatenate([iterated.many(one[None, ..., :3])[-1] for one in x])


def judge(form: str, content: bytes, inputs: Inputs, keras_says: tuple[np.ndarray, np.ndarray]) -> Report:
    """One file's size, time and errors on inputs; keras_says: the Keras model's answers to them, and its
    `iterated_faces`, (B, 290) each."""
    run, times, found = runner(content), [], []
    for x in inputs.x:
        start = time.perf_counter()
        found.append(run(x[None])[0])
        times.append(time.perf_counter() - start)
    return Report(form, len(content), 1e3 * statistics.median(times[-TIMED:]),
                  errors_of(np.stack(found), inputs.targets, keras_says[0]),
                  errors_of(iterated_faces(run, inputs.x), inputs.targets, keras_says[1]))


def errors_of(faces: np.ndarray, targets: np.ndarray, keras_says: np.ndarray) -> Errors:
    """Of faces (B, 290) against the true ones and the Keras model's."""
    shape = linear(load_face_model(), "vertices")

    def geometry(other: np.ndarray) -> float:
        return float(np.abs(shape(faces) - shape(other)).mean())
    turns = faces[:, POSE][:, :3] - targets[:, POSE][:, :3]
    return Errors(geometry(targets), float(np.degrees(np.sqrt((turns ** 2).mean()))), geometry(keras_says))


def quantise(run: str | Path, data: str | Path, output: str | Path = "coarse", pictures: int = 100) -> list[Report]:
    """Write both files, judge them on as many other pictures. ValueError for another network, or too few pictures."""
    import keras

    from Network.inference.registry import from_run
    predictor = from_run(run)
    loaded, predict = predictor.loaded, predictor.single_pass()
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"quantise needs KERAS_BACKEND=tensorflow, got {keras.backend.backend()}")
    shards = open_shards(data, partial=True)
    ranges, test = (calibration(shards, loaded.image_size, pictures, first) for first in (pictures, 0))
    answers = (np.concatenate([np.asarray(predict(x[None])) for x in test.x]), iterated_faces(predict, test.x))
    reports = []
    for form in FORMS:
        content = convert(loaded.model, form, ranges.x, loaded.config["model"].get("head") == "keypoints")
        target = Path(f"{output}_{form}.tflite")
        write_atomic(target, lambda part, content=content: Path(part).write_bytes(content))
        reports.append(judge(form, content, test, answers))
    return reports


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m Network.export.quantise", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="run folder or weight folder of a coarse network")
    parser.add_argument("--data", metavar="SHARDS", required=True)
    parser.add_argument("--pictures", type=int, default=100, help="that set the ranges, and as many that judge")
    parser.add_argument("-o", "--output", default="coarse", help="beginning of the files' names")
    return parser.parse_args(argv)


def main(arguments: argparse.Namespace) -> None:
    for report in quantise(arguments.run, arguments.data, arguments.output, arguments.pictures):
        print(f"{arguments.output}_{report.form}.tflite: {report.size / 1e6:.2f} MB, {report.ms:.2f} ms a pass on one "
              f"thread; one pass: {report.once}; {PASSES} passes: {report.iterated}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(exit_code("Network.export.quantise", main, parse()))
