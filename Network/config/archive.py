"""`.keras` files, which are zip archives: checked before Keras opens them.

Keras builds what config.json describes and fills it from model.weights.h5. So the sizes in the zip's directory and in
the HDF5 file, the classes that the config names and the weights of the network that it describes are bounded first.
"""
from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import keras

from Dataset.io.archives.hdf5 import check_hdf5
from Dataset.io.archives.zips import check_zip, read_entry
from Dataset.io.json_files import parse_json
from Network.config.limits import MAX_OUTPUTS, MAX_PARAMETERS, cost_of

MAX_BYTES = 1 << 32             # of all entries
MAX_CONFIG = 4 << 20            # bytes
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
OWN = "faces3d>"                # registered names of this program's layers
#: layers that run code, read files or hold tables of words: no network for images has them
REFUSED = ("Lambda", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer", "StringLookup", "IntegerLookup",
           "TextVectorization", "HashedCrossing", "Hashing", "Pipeline")
_PLAIN = ("keras.initializers", "keras.regularizers", "keras.constraints")
_MODELS = ("Functional", "Sequential", "Model")


def check_archive(path: Path, alone: bool) -> None:
    """ValueError, naming the file: no such archive, entries beyond the three of a network, sizes beyond MAX_BYTES or
    beyond what the file has; of one that is read `alone`, without a config.json of this program beside it, also classes
    other than Keras's own layers and this program's, and a network above the limits of `Network.config.limits` or with
    more weights than the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            check_zip(archive, MAX_BYTES)
            names = set(archive.namelist())
            if names != {CONFIG, METADATA, WEIGHTS}:
                raise ValueError(f"must hold {CONFIG}, {METADATA} and {WEIGHTS}, received {', '.join(sorted(names))}"
                                 [:160])
            check_hdf5(io.BytesIO(read_entry(archive, WEIGHTS, MAX_BYTES)), MAX_BYTES, WEIGHTS)
            if alone:
                text = read_entry(archive, CONFIG, MAX_CONFIG).decode("utf-8")
                _check_config(parse_json(text, CONFIG), archive.getinfo(WEIGHTS).file_size)
    except MemoryError:
        raise
    except Exception as error:      # zipfile, zlib and Keras have types of their own for what is damaged
        raise ValueError(f"{path}: is no model of this project: {' '.join(str(error).split())[:300]}") from None


def _check_config(config: dict[str, Any], weights: int) -> None:
    """weights: bytes of their file."""
    config = {**config, "compile_config": None}     # not read: nothing is trained
    _check_classes(config)
    parameters, outputs = cost_of(lambda: keras.saving.deserialize_keras_object(config, safe_mode=True))
    if outputs > MAX_OUTPUTS or parameters > MAX_PARAMETERS:
        raise ValueError(f"a network may have at most {MAX_PARAMETERS} parameters and {MAX_OUTPUTS} numbers between "
                         f"its layers, this one would have {parameters} and {outputs}")
    if 2 * parameters > weights:        # float16 at least
        raise ValueError(f"describes {parameters} parameters, its weights have {weights} bytes")


def _check_classes(value: Any) -> None:
    """ValueError for an object of a class that no network needs."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if "class_name" in part and not _is_known(part):
                raise ValueError(f"names {str(part.get('module'))[:40]}.{str(part['class_name'])[:40]}, which is not "
                                 "read")
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _is_known(part: dict[str, Any]) -> bool:
    module, name, registered = (str(part.get(key) or "") for key in ("module", "class_name", "registered_name"))
    if name == "function":              # an activation, by name
        config = str(part.get("config"))
        return config.startswith(OWN) or config.isidentifier() and hasattr(keras.activations, config)
    return (name == "__keras_tensor__" or registered.startswith(OWN)
            or module == "keras.layers" and name not in REFUSED
            or module in _PLAIN or (module, name) == ("keras", "DTypePolicy")
            or module.split(".")[0] == "keras" and name in _MODELS)
