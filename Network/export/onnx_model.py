"""The ONNX beside the weights of a bundled network:  python -m Network.export.onnx_model FOLDER

Writes FOLDER/model.onnx of a weight folder's config.json and weights.npz (`Network/export/pack.py`, which writes it,
too). onnxruntime runs it without Keras; `Network/engine/exported.py` documents the layout. It is the graph: kernels lie
in weights.npz alone, as float16, and the graph says where (ONNX's external data); they are computed with in float32.
The file is tied to both others by their SHA-256 and, before it is published, compared with Keras on random images.
"""
from __future__ import annotations

import argparse
import hashlib
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from Dataset.io.archives.npz import positions
from Dataset.io.atomic import write_atomic
from Dataset.io.command import one_line
from Network.config.run_config import digest
from Network.engine.exported import open_exported
from Network.engine.loaded import ONNX, WEIGHTS, Loaded
from Network.export.export import TOLERANCE, compare, freeze, onnx_of, require_packages, step_of

FEW = 1024      # values: smaller arrays stay as they are


def model_onnx(loaded: Loaded, config: str, weights: bytes) -> bytes:
    """The ONNX file of a network that Keras runs, to lie beside its weights.npz. config: SHA-256 (hex) of the
    config.json that it is tied to; weights: the bytes of weights.npz.

    ValueError when a package is missing, for a network that cannot be exported, and when the file disagrees with Keras.
    """
    require_packages("onnx")
    step = step_of(loaded)
    step = step._replace(metadata=step.metadata.tied_to(config, hashlib.sha256(weights).hexdigest()))
    graph = freeze(step)
    kernels = take_kernels(graph)       # a converter that sees them folds a normalisation in, beyond what float16 holds
    try:
        model = onnx_of(graph, step.metadata, tuple(kernels))
    except Exception as error:      # the converter raises types of its own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"network {step.metadata.network} cannot be exported as onnx: {reason}") from error
    put_kernels(model, kernels, weights)
    data = model.SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / ONNX
        made.write_bytes(data)
        made.with_name(WEIGHTS).write_bytes(weights)
        compare(open_exported(made), step, TOLERANCE, np.random.default_rng(0))
    return data


def take_kernels(graph: Any) -> dict[str, np.ndarray]:
    """Make inputs of a TensorFlow GraphDef's large constants that float16 holds exactly, in place -> their values by
    name, float16."""
    import tensorflow as tf

    taken = {}
    for node in graph.node:
        if node.op != "Const" or node.attr["dtype"].type != tf.float32.as_datatype_enum:
            continue
        values = tf.make_ndarray(node.attr["value"].tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size >= FEW and np.array_equal(half.astype(np.float32), values):
            taken[node.name] = half
            node.op = "Placeholder"
            del node.attr["value"]
            node.attr["shape"].shape.CopyFrom(tf.TensorShape(values.shape).as_proto())
    return taken


def put_kernels(model: Any, kernels: dict[str, np.ndarray], weights: bytes) -> None:
    """Give an ONNX ModelProto, in place, what `take_kernels` took: float16 constants in place of the inputs, each with
    a cast to float32, which onnxruntime does once, when it opens the file. What weights.npz, of these bytes, holds
    uncompressed is not stored again."""
    from onnx import TensorProto, helper, numpy_helper

    with np.load(io.BytesIO(weights)) as stored:
        places = {(stored[name].shape, stored[name].tobytes()): place for name, place in positions(weights).items()}
    inputs = [value for value in model.graph.input if value.name not in kernels]
    nodes = [helper.make_node("Cast", [f"{name}/half"], [name], f"{name}/cast", to=TensorProto.FLOAT)
             for name in kernels] + list(model.graph.node)
    for name, half in kernels.items():
        tensor, place = numpy_helper.from_array(half, f"{name}/half"), places.get((half.shape, half.tobytes()))
        if place is not None:
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", WEIGHTS), ("offset", place), ("length", half.nbytes)):
                tensor.external_data.add(key=key, value=str(value))
        model.graph.initializer.append(tensor)
    for field, values in ((model.graph.input, inputs), (model.graph.node, nodes)):
        values = [type(value).FromString(value.SerializeToString()) for value in values]    # del clears them
        del field[:]
        field.extend(values)


def write_onnx(folder: Path) -> Path:
    """FOLDER/model.onnx of a weight folder -> its path. ValueError as `model_onnx`, and for no such folder."""
    from Network.training.loading import load_model

    config, weights = folder / "config.json", folder / WEIGHTS
    if not (config.is_file() and weights.is_file()):
        raise ValueError(f"{folder}: holds no config.json and {WEIGHTS}; python -m Network.export.pack makes them")
    data = model_onnx(load_model(folder), digest(config.read_text()), weights.read_bytes())
    write_atomic(folder / ONNX, lambda temporary: temporary.write_bytes(data))
    return folder / ONNX


@one_line("python -m Network.export.onnx_model")
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m Network.export.onnx_model", description=__doc__,
                                     allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    path = write_onnx(parser.parse_args(argv).folder)
    print(f"wrote {path}: {path.stat().st_size / 2**20:.2f} MiB, within {TOLERANCE:g} of Keras")
    return 0


if __name__ == "__main__":
    sys.exit(main())
