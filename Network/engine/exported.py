"""Exported networks, opened without Keras: one image, and the recurrent states, -> outputs and the states after it.

`Network/export/export.py` writes them. Each holds one step with these names, all float32, batch 1:

    image            (1, S, S, C)    BGR in [0, 1]: the crop of the face, scaled as `Network.inference` does; of
                                     `coarse` with the PNCC and the normals of the current estimate (C = 9)
    state_0, ...     recurrent states; zeros before the first image. `compact` has none
    keypoints        (1, 256, 2)     of `compact`: normalised coordinates
    log_variance     (1, 256)        of `compact`: of a coordinate's error, in units of 0.02 of the image's side
    points           (1, N, 3)       of `convlstm`: the face in the unit sphere
    maps, depth, volume, coefficients    of `uvnet`, `pix2pix`, `vrn`, `coarse`: as the network's module documents them
    next_state_0 ... the states after the image, to be given with the next one

Beside the weights of a bundled network lies its model.onnx, whose weights are stored as float16 where that is exact.

The `Metadata` are JSON under the name faces3d: in ONNX's metadata_props, in a TFLite file's associated file
faces3d.json (the file ends in a zip archive), in a SavedModel's assets.extra/faces3d.json.
An ONNX file is data. TFLite's interpreter trusts the bytes it is given and crashes on damaged ones, so such a file also
has a checksum, which is no signature. A SavedModel is a TensorFlow program. Open those two only from trusted sources.
"""
from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np

from Network.engine.lite import interpreter_class

VERSION = 3
KEY = "faces3d"
TFLITE_JSON = f"{KEY}.json"
TFLITE_SUM = f"{KEY}.sha256"    # hexadecimal, of all bytes before the archive
SAVEDMODEL_JSON = f"assets.extra/{KEY}.json"
SIGNATURE = "serving_default"
MAX_BYTES = 2**31          # of a file
MAX_JSON = 2**16           # bytes of the metadata
MISSING = f"holds no {KEY} metadata, so it was not exported by this program"
ROUNDING = 1e-6            # by which a pixel may leave [0, 1]


@dataclass(frozen=True)
class Metadata:
    """The metadata of an exported file. ValueError for values that describe no exported step."""

    version: int                            # of the layout above
    network: str                            # a name of Network.models.registry.NETWORKS
    preset: str | None
    order: str                              # "grid": the points are an ordered grid of the face; else "random"
    image_size: int                         # S
    outputs: tuple[tuple[str, tuple[int, ...]], ...]    # names and shapes
    states: tuple[tuple[int, ...], ...]     # shapes
    crop_margin: float = 1.0                # the detector's box is grown by this before the crop
    channels: int = 3                       # C of the image
    points: int = 0                         # N of the faces that follow from the outputs; 0: unknown
    config: str | None = None               # SHA-256 (hex) of the config.json that the file belongs to; None: to none
    weights: str | None = None              # the same of the weights.npz that it was made of

    def __post_init__(self) -> None:
        def count(value: Any, most: int) -> bool:
            return type(value) is int and 1 <= value <= most
        names, shapes = [name for name, _ in self.outputs], [*self.states, *(shape for _, shape in self.outputs)]
        if not (count(self.image_size, 2**13) and 1 <= len(names) <= 16 and len(self.states) <= 256
                and all(count(size, 2**20) for shape in shapes for size in shape)
                and all(len(shape) <= 8 and np.prod(shape, dtype=float) <= 2**26 for shape in shapes)
                and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
                and isinstance(self.network, str) and isinstance(self.preset, (str, type(None)))
                and self.order in ("grid", "random") and count(self.channels, 2**8)
                and type(self.points) is int and 0 <= self.points <= 2**20
                and isinstance(self.config, (str, type(None))) and isinstance(self.weights, (str, type(None)))
                and isinstance(self.crop_margin, (int, float)) and 0 < self.crop_margin < 100):
            raise ValueError(f"its {KEY} metadata describe no exported step")

    def shapes(self) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
        """The shape of every input and of every output, by name, in the order of the layout above."""
        side = self.image_size
        states = {f"state_{i}": shape for i, shape in enumerate(self.states)}
        return ({"image": (1, side, side, self.channels), **states},
                {**dict(self.outputs), **{f"next_state_{i}": shape for i, shape in enumerate(self.states)}})

    def tied_to(self, config: str, weights: str) -> Metadata:
        """The same of a file that belongs to a config.json and a weights.npz of these SHA-256."""
        return dataclasses.replace(self, config=config, weights=weights)

    def to_json(self) -> str:
        return json.dumps({**dataclasses.asdict(self), "outputs": dict(self.outputs)})

    @classmethod
    def from_json(cls, text: str | bytes) -> Metadata:
        """ValueError for no JSON, another version, a name that is missing or unknown."""
        values = json.loads(text)
        if not isinstance(values, dict) or "version" not in values:
            raise ValueError(f"its {KEY} metadata name no version")
        if values["version"] != VERSION:
            raise ValueError(f"is of export version {values['version']!r}, this program reads version {VERSION}; "
                             "export the network again")
        names = {field.name for field in dataclasses.fields(cls)}
        outputs, states = values.get("outputs"), values.get("states")
        if set(values) != names or not isinstance(outputs, dict) or not isinstance(states, list) \
                or not all(isinstance(shape, list) for shape in (*states, *outputs.values())):
            raise ValueError(f"its {KEY} metadata describe no exported step")
        return cls(**{**values, "states": tuple(map(tuple, states)),
                      "outputs": tuple((name, tuple(shape)) for name, shape in outputs.items())})


class Runtime(NamedTuple):
    """A file in a program that runs it: shapes by name, and arrays by name -> arrays by name."""

    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    run: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


class Exported(NamedTuple):
    """An opened file: `outputs, states = exported.step(image, states)`, from `exported.initial_states()` on."""

    path: Path
    metadata: Metadata
    runtime: Runtime

    def initial_states(self) -> list[np.ndarray]:
        """The states before the first image: zeros, float32."""
        return [np.zeros(shape, np.float32) for shape in self.metadata.states]

    def step(self, image: np.ndarray, states: Sequence[np.ndarray] = ()
             ) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """image (1, S, S, C) float in [0, 1], states as the last step gave them -> outputs by name, the new states.

        ValueError for an image or a state of another shape, for NaN and for pixels beyond [0, 1].
        """
        within = np.min(image) >= -ROUNDING and np.max(image) <= 1 + ROUNDING
        if not np.issubdtype(np.asarray(image).dtype, np.floating) or not within:
            raise ValueError(f"{self.path}: the image must be floats in [0, 1] without NaN")
        if len(states) != len(self.metadata.states):
            raise ValueError(f"{self.path}: takes {len(self.metadata.states)} states, got {len(states)}")
        feed = {}
        for (name, shape), array in zip(self.runtime.inputs.items(), (image, *states)):
            feed[name] = np.ascontiguousarray(array, np.float32)
            if feed[name].shape != shape:
                raise ValueError(f"{self.path}: {name} must have shape {shape}, got {feed[name].shape}")
        found = self.runtime.run(feed)
        return ({name: found[name] for name, _ in self.metadata.outputs},
                [found[f"next_state_{i}"] for i in range(len(states))])


def open_exported(path: str | Path) -> Exported:
    """Open what `Network.export.export` wrote: an `.onnx` or `.tflite` file, or a SavedModel's folder.

    ValueError, in one line that names the file, for anything else, for a file of another version, for one whose inputs
    and outputs disagree with its metadata, and when the package that runs it is not installed.
    """
    path = Path(path)
    readers = {".onnx": _read_onnx, ".tflite": _read_tflite}
    if path.is_dir():
        reader = _read_savedmodel
    elif not path.is_file():
        raise ValueError(f"{path}: no such exported file or folder")
    elif path.suffix in readers:
        reader = readers[path.suffix]
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path}: is larger than {MAX_BYTES} bytes")
    else:
        raise ValueError(f"{path}: an exported network is an .onnx file, a .tflite file or a SavedModel's folder")
    try:
        metadata, runtime = reader(path)
    except ImportError as error:
        raise ValueError(f"{path}: {error.name} is not installed; pip install 'faces3d[export]'") from None
    except Exception as error:      # each runtime raises types of its own for a broken file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path}: cannot be opened: {reason}") from None
    inputs, outputs = metadata.shapes()
    if runtime.inputs != inputs or runtime.outputs != outputs:
        raise ValueError(f"{path}: its inputs and outputs disagree with its metadata")
    # in the layout's order, whatever the runtime's own
    return Exported(path, metadata, runtime._replace(inputs=inputs, outputs=outputs))


def _read_onnx(path: Path) -> tuple[Metadata, Runtime]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # a second thread would wait in a busy loop between images, and these networks are small
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"],
                                           enable_fallback=False)       # which would print, and try the same again
    text = session.get_modelmeta().custom_metadata_map.get(KEY)
    if text is None or len(text) > MAX_JSON:
        raise ValueError(MISSING)
    metadata = Metadata.from_json(text)
    inputs, outputs = ({v.name: _floats(v.shape, v.type == "tensor(float)") for v in values}
                       for values in (session.get_inputs(), session.get_outputs()))
    names = list(outputs)
    return metadata, Runtime(inputs, outputs, lambda feed: dict(zip(names, session.run(names, feed))))


def _read_tflite(path: Path) -> tuple[Metadata, Runtime]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [archive.getinfo(name) for name in (TFLITE_JSON, TFLITE_SUM)]
            if any(member.file_size > MAX_JSON for member in members):
                raise ValueError(f"its {KEY} metadata are too large")
            text, checksum = (archive.read(member) for member in members)
            end = min(member.header_offset for member in archive.infolist())
    except (zipfile.BadZipFile, KeyError):
        raise ValueError(MISSING) from None
    metadata = Metadata.from_json(text)
    content = path.read_bytes()[:end]
    if hashlib.sha256(content).hexdigest() != checksum.decode("ascii", "replace"):
        raise ValueError("is damaged: its checksum is another")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)        # TensorFlow 2.20 announces that its interpreter will go
        interpreter = interpreter_class()(model_content=content)
    runner = interpreter.get_signature_runner(SIGNATURE)
    inputs, outputs = ({name: _floats(value["shape"], value["dtype"] == np.float32) for name, value in values.items()}
                       for values in (runner.get_input_details(), runner.get_output_details()))
    return metadata, Runtime(inputs, outputs, lambda feed: runner(**feed))


def _read_savedmodel(path: Path) -> tuple[Metadata, Runtime]:
    import tensorflow as tf

    file = path / SAVEDMODEL_JSON
    if not file.is_file() or file.stat().st_size > MAX_JSON:
        raise ValueError(MISSING)
    metadata = Metadata.from_json(file.read_bytes())
    model = tf.saved_model.load(str(path))
    step = model.signatures[SIGNATURE]
    inputs, outputs = ({name: _floats(value.shape, value.dtype == tf.float32) for name, value in values.items()}
                       for values in (step.structured_input_signature[1], step.structured_outputs))

    def run(feed: dict[str, np.ndarray], keep: Any = model) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in step(**{k: tf.constant(v) for k, v in feed.items()}).items()}
    return metadata, Runtime(inputs, outputs, run)


def _floats(shape: Any, is_float: bool) -> tuple[int, ...]:
    """A shape of float32; () for another type, which no input or output has."""
    return tuple(shape) if is_float else ()
