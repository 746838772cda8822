"""A trained network for phones and other programs:  python -m Network.export.export RUN --format onnx|tflite|savedmodel

Writes one step of the network: one image -> its outputs, or, of `convlstm`, one image and the recurrent states ->
points and the states after the image. `Network/engine/exported.py` documents the file and opens it. Before the file is
published it runs in its own runtime over a sequence of random images and must agree with Keras.
"""
from __future__ import annotations

import argparse
import dataclasses
import hashlib
import logging
import os
import shutil
import statistics
import sys
import tempfile
import time
import uuid
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np

from Dataset.io.atomic import TEMPORARY, write_atomic
from Dataset.io.command import one_line
from Network.engine.exported import (KEY, SAVEDMODEL_JSON, SIGNATURE, TFLITE_JSON, TFLITE_SUM, VERSION, Exported,
                                     Metadata, open_exported)
from Network.engine.loaded import Loaded

TOLERANCE = 1e-4    # of outputs and states; of logits and states whose largest value is above 1, times that value
LOGITS = "volume"   # an output without bounds
IMAGES = 6          # of the sequence that is compared
TIMED = 20          # steps whose median is reported
OPSET = 17          # of ONNX; tf2onnx supports up to 18
PACKAGES = {"onnx": ("onnx", "onnxruntime", "tf2onnx"), "tflite": (), "savedmodel": ()}
NAMES = {"onnx": "step.onnx", "tflite": "step.tflite", "savedmodel": "step_savedmodel"}


class Report(NamedTuple):
    """An export: what was written, its size in bytes, ms of a step (median), largest difference from Keras."""

    path: Path
    size: int
    ms: float
    difference: float


class Step(NamedTuple):
    """A network's single step in Keras, as `Network.models.registry.Network.build_step` makes it, and the metadata of
    its export."""

    model: Any
    metadata: Metadata

    def __call__(self, image: Any, states: Sequence[Any]) -> tuple[dict[str, Any], list[Any]]:
        """Tensors: image (1, S, S, 3) and the states -> outputs by name, the states after it."""
        return run_step(self.model, image, states)


def run_step(model: Any, image: Any, states: Sequence[Any]) -> tuple[dict[str, Any], list[Any]]:
    """One step of a model that `build_step` made."""
    if not states:
        return dict(model(image, training=False)), []
    found = model({"images": image[:, None], "states": list(states)}, training=False)
    return {name: value for name, value in found.items() if name != "states"}, list(found["states"])


def export(run: str | Path, form: str, output: str | Path | None = None, which: str = "best_validation", *,
           tolerance: float = TOLERANCE, seed: int = 0) -> Report:
    """Export a run folder's checkpoint `which`, or a checkpoint file beside its config.json.

    form        "onnx", "tflite", "savedmodel" (a folder)
    output      by default NAMES[form] in the run folder; a file, or a folder that an export made, is replaced
    tolerance, seed  of the comparison with Keras, see `compare`
    ValueError, and nothing is written, when a package is missing, for a network without a single step, for an output
    of another kind, and when the exported file disagrees with Keras.
    """
    if form not in NAMES:
        raise ValueError(f"format must be one of {', '.join(NAMES)}, got {form!r}")
    require_packages(form)
    run = Path(run)
    target = Path(output) if output is not None else (run if run.is_dir() else run.parent) / NAMES[form]
    _check_target(target, form)
    step = load_step(run, which)
    with tempfile.TemporaryDirectory(prefix=f"{KEY}-") as folder:
        made = Path(folder) / NAMES[form]
        _write(step, form, made)
        exported = open_exported(made)
        difference = compare(exported, step, tolerance, np.random.default_rng(seed))
        ms = median_ms(exported, np.random.default_rng(seed))
        _publish(made, target)
    size = sum(p.stat().st_size for p in target.rglob("*") if p.is_file()) if target.is_dir() else target.stat().st_size
    return Report(target, size, ms, difference)


def require_packages(form: str) -> None:
    """ValueError, naming them, where packages are missing that a format needs."""
    missing = [name for name in PACKAGES[form] if find_spec(name) is None]
    if missing:
        raise ValueError(f"--format {form} needs {', '.join(missing)}: pip install 'faces3d[export]'")


def load_step(run: str | Path, which: str = "best_validation") -> Step:
    """`step_of` a run folder's checkpoint. ValueError for a run that cannot be loaded, too."""
    from Network.training.loading import load_model

    return step_of(load_model(run, which))


def step_of(loaded: Loaded) -> Step:
    """A network that Keras runs as one step with its weights. ValueError for one that cannot be exported."""
    import keras

    from Network.config.flags import from_dict
    from Network.models.registry import get_network
    from Network.training.named_weights import copy_weights

    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"export needs Keras on TensorFlow, not on {keras.backend.backend()}")
    if keras.config.dtype_policy().compute_dtype != "float32":
        raise ValueError(f"export needs the policy float32, not {keras.config.dtype_policy().name}")
    if not loaded.config:
        raise ValueError(f"{loaded.source}: has no config.json beside it, which export needs")
    name = loaded.config["network"]
    network = get_network(name)
    config = from_dict(network.config, loaded.config["model"])
    if network.build_step is None:
        whole = network.build(config)
        if len(whole.input_shape) != 4 or not isinstance(whole.output_shape, tuple):
            raise ValueError(f"{loaded.source}: network {name} has no single step to export")
        model = keras.Model(whole.inputs, {network.output: whole.output})
    else:
        config = dataclasses.replace(config, images=1)      # T known: no loop over it in the exported graph
        model = network.build_step(config)
    copy_weights(loaded.model, model)
    states = [np.asarray(state) for state in network.initial_states(config, 1)]
    if any(state.any() for state in states):            # Exported.initial_states gives zeros
        raise ValueError(f"{loaded.source}: the recurrent states of network {name} do not begin with zeros")
    outputs = tuple((key, (1, *value.shape[1:])) for key, value in model.output.items() if key != "states")
    shapes = tuple(tuple(state.shape) for state in states)
    return Step(model, Metadata(VERSION, name, loaded.config.get("preset"), loaded.order, loaded.image_size, outputs,
                                shapes, getattr(config, "crop_margin", 1.0), model.inputs[0].shape[-1], loaded.points))


def compare(exported: Exported, step: Callable, tolerance: float, rng: np.random.Generator) -> float:
    """Largest difference of an output from `step` in Keras over a sequence of random images, each with its own states.

    ValueError for a difference above `tolerance`; that of logits or a state is divided by its largest value, where that
    is above 1.
    """
    from keras import ops

    worst, states = 0.0, exported.initial_states()
    wanted = [ops.convert_to_tensor(state) for state in states]
    for number in range(1, IMAGES + 1):
        image = rng.random(exported.runtime.inputs["image"], dtype=np.float32)
        truth, wanted = step(ops.convert_to_tensor(image), wanted)
        found, states = exported.step(image, states)
        pairs = [(name, found[name], ops.convert_to_numpy(truth[name])) for name in found]
        pairs += [(f"next_state_{index}", state, ops.convert_to_numpy(right))
                  for index, (state, right) in enumerate(zip(states, wanted))]
        for name, value, right in pairs:
            bounded = name in found and name != LOGITS
            difference = np.abs(value - right).max() / (1.0 if bounded else max(1.0, float(np.abs(right).max())))
            if not difference <= tolerance:         # NaN, too
                raise ValueError(f"{exported.path.name}: {name} differs from Keras by {difference:.3g} at image "
                                 f"{number}, more than {tolerance:g}; nothing was written")
            worst = max(worst, float(difference)) if name in found else worst
    return worst


def median_ms(exported: Exported, rng: np.random.Generator) -> float:
    """Milliseconds of a step: the median of TIMED, after three for warm-up."""
    image, states, times = rng.random(exported.runtime.inputs["image"], dtype=np.float32), exported.initial_states(), []
    for _ in range(TIMED + 3):
        start = time.perf_counter()
        _, states = exported.step(image, states)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[3:])


def freeze(step: Step) -> Any:
    """The step as a TensorFlow GraphDef with its weights as constants, in and out by the names of the metadata.

    A custom gradient leaves an attribute on its nodes, which a reader would look up. Exported networks are not trained,
    so these attributes are removed.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    inputs, outputs = step.metadata.shapes()
    states = [name for name in inputs if name != "image"]

    def call(**given: Any) -> dict[str, Any]:
        found, after = step(given["image"], [given[name] for name in states])
        found |= {f"next_state_{i}": state for i, state in enumerate(after)}
        return {name: tf.identity(found[name], name=name) for name in outputs}

    specs = {name: tf.TensorSpec(shape, tf.float32, name=name) for name, shape in inputs.items()}
    graph = convert_variables_to_constants_v2(tf.function(call).get_concrete_function(**specs)).graph.as_graph_def()
    for node in graph.node:
        node.attr.pop("_gradient_op_type", None)
    return graph


def _write(step: Step, form: str, path: Path) -> None:
    """Write the step at `path`. ValueError, in one line, when a converter fails."""
    writers: dict[str, Callable[[Any, Metadata, Path], None]] = {
        "onnx": _write_onnx, "tflite": _write_tflite, "savedmodel": _write_savedmodel}
    graph = freeze(step)
    try:
        writers[form](graph, step.metadata, path)
    except Exception as error:      # each converter raises types of its own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"network {step.metadata.network} cannot be exported as {form}: {reason}") from error


def _write_onnx(graph: Any, metadata: Metadata, path: Path) -> None:
    path.write_bytes(onnx_of(graph, metadata).SerializeToString())


def onnx_of(graph: Any, metadata: Metadata, more: Sequence[str] = ()) -> Any:
    """A frozen GraphDef as an ONNX ModelProto with its metadata. more: names of further inputs of the graph."""
    import onnx
    import tf2onnx

    inputs, outputs = ([f"{name}:0" for name in names] for names in metadata.shapes())
    inputs += [f"{name}:0" for name in more]
    model, _ = tf2onnx.convert.from_graph_def(graph, name=metadata.network, input_names=inputs, output_names=outputs,
                                              opset=OPSET, tensors_to_rename={n: n[:-2] for n in inputs + outputs})
    onnx.helper.set_model_props(model, {KEY: metadata.to_json()})
    onnx.checker.check_model(model)
    return model


def _write_tflite(graph: Any, metadata: Metadata, path: Path) -> None:
    import tensorflow as tf

    folder = path.with_suffix("")
    _write_savedmodel(graph, metadata, folder)      # for the names, which the converter takes from a signature only
    content = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[SIGNATURE]).convert()
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a") as archive:     # how TFLite keeps associated files
        archive.writestr(zipfile.ZipInfo(TFLITE_JSON), metadata.to_json())
        archive.writestr(zipfile.ZipInfo(TFLITE_SUM), hashlib.sha256(content).hexdigest())


def _write_savedmodel(graph: Any, metadata: Metadata, path: Path) -> None:
    import tensorflow as tf

    inputs, outputs = metadata.shapes()
    imported = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    tensor = imported.graph.get_tensor_by_name
    step = imported.prune([tensor(f"{name}:0") for name in inputs], {name: tensor(f"{name}:0") for name in outputs})
    module = tf.Module()
    module.step = step
    tf.saved_model.save(module, str(path), signatures={SIGNATURE: step})
    file = path / SAVEDMODEL_JSON
    file.parent.mkdir(exist_ok=True)
    file.write_text(metadata.to_json(), encoding="utf-8")


def _check_target(target: Path, form: str) -> None:
    """ValueError for an output that must not be written over."""
    if form == "savedmodel":
        if target.exists() and not (target / SAVEDMODEL_JSON).is_file():
            raise ValueError(f"{target}: exists and is no exported SavedModel; name another --output")
    elif target.suffix != f".{form}" or target.is_dir():
        raise ValueError(f"{target}: --output must be a file that ends in .{form}")


def _publish(made: Path, target: Path) -> None:
    """Copy what was made beside the target, then rename it. A folder that is replaced is moved aside first."""
    if made.is_file():
        write_atomic(target, lambda temporary: shutil.copyfile(made, temporary))
        return
    target = Path(os.path.realpath(target))         # a link to a folder stays a link
    target.parent.mkdir(parents=True, exist_ok=True)
    new, old = (target.parent / f"{TEMPORARY}{uuid.uuid4().hex[:12]}-{target.name}" for _ in range(2))
    try:
        shutil.copytree(made, new)
        if target.exists():
            os.rename(target, old)
        os.rename(new, target)
    except BaseException:
        if old.exists() and not target.exists():
            os.rename(old, target)
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m Network.export.export", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="run folder, or a checkpoint in one")
    parser.add_argument("--format", required=True, choices=tuple(NAMES))
    parser.add_argument("-o", "--output", metavar="FILE", help="default: step.onnx, step.tflite or step_savedmodel/ "
                        "in the run folder")
    parser.add_argument("--checkpoint", default="best_validation", help="which weights of a run folder")
    return parser.parse_args(argv)


@one_line("Network.export.export")
def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 2 and one line for bad input and for a file that differs from Keras."""
    logging.basicConfig(level=logging.WARNING, format="Network.export.export: %(message)s")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for name in ("tensorflow", "absl", "tf2onnx"):      # warnings about their own deprecated interfaces
        logging.getLogger(name).setLevel(logging.ERROR)
    arguments = parse(argv)
    report = export(arguments.run, arguments.format, arguments.output, arguments.checkpoint)
    print(f"wrote {report.path}: {report.size / 1e6:.2f} MB, {report.ms:.2f} ms a step (median of {TIMED}), "
          f"within {report.difference:.1e} of Keras over {IMAGES} images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
