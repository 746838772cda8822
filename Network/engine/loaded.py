"""What is known of a network that can be run, whoever runs it, and the networks that are bundled. No Keras."""
from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from Dataset.io.archives.npz import read_npz
from Dataset.io.json_files import read_json
from Network.config.run_config import digest, file_hash, read_config
from Network.engine.exported import Exported, open_exported
from Network.models.registry import NETWORKS

if TYPE_CHECKING:
    import keras

WEIGHTS, ONNX = "weights.npz", "model.onnx"
#: the bundled weights that demo.py uses by default
DEFAULT_MODEL = Path(__file__).parents[1] / "weights" / "compact"
BUNDLED = DEFAULT_MODEL.parent
ONNXRUNTIME, KERAS = ENGINES = ("onnxruntime", "keras")


class Loaded(NamedTuple):
    """A network and what is known of it. `config` is {} for a bare file; `points` is N of its faces (B, N, 3);
    `image_size` the side of its square input; `images` its number of images, None for any number;
    `order` "grid" when the points are an ordered grid of the face, else "random". `exported`: the network opened by
    onnxruntime, and `model` None; where it is None, Keras runs `model`."""

    model: keras.Model | None
    config: dict[str, Any]
    source: Path
    points: int
    image_size: int
    images: int | None
    order: str
    exported: Exported | None = None

    def with_model(self, model: keras.Model) -> Loaded:
        """The same with another model of the same config, run by Keras."""
        return self._replace(model=model, exported=None)


def bundled_models() -> dict[str, Path]:
    """Name -> weight folder of every bundled network, the default one first."""
    found = {}
    for config in sorted(BUNDLED.glob("*/config.json"), key=lambda path: (path.parent != DEFAULT_MODEL, path)):
        if json.loads(config.read_text()).get("network") in NETWORKS:
            found[config.parent.name] = config.parent
    return found


def model_path(path: str | Path) -> Path:
    """The path itself, or, where it does not exist, the folder of the bundled model of this name."""
    path = Path(path)
    return path if path.exists() else bundled_models().get(str(path), path)


def has_onnx(path: str | Path) -> bool:
    """Whether onnxruntime can run what is at `path`, or the bundled model of this name: a weight folder with its
    model.onnx."""
    return all((model_path(path) / name).is_file() for name in ("config.json", WEIGHTS, ONNX))


def count_parameters(folder: Path) -> int:
    """How many numbers the weights of a weight folder have. ValueError for one that cannot be read."""
    arrays = read_npz(folder / WEIGHTS, what="weights of this program")
    return sum(array.size for name, array in arrays.items() if name not in ("version", "config"))


def load_onnx(path: str | Path) -> Loaded:
    """A weight folder, or the bundled model of this name, opened by onnxruntime. ValueError, naming the file, for a
    folder without model.onnx, and for one that belongs to other weights or another config.json than those beside it."""
    folder = model_path(path)
    if not has_onnx(folder):
        raise ValueError(f"{folder}: holds no {ONNX}, which --engine {ONNXRUNTIME} needs; bundled networks have one, "
                         "and  python -m Network.export.pack  makes one of a run folder")
    config, exported = read_config(folder), open_exported(folder / ONNX)
    metadata = exported.metadata
    if metadata.network != config["network"] or metadata.config != digest((folder / "config.json").read_text()):
        raise ValueError(f"{folder / ONNX}: belongs to another config.json than the one beside it")
    if metadata.weights != file_hash(folder / WEIGHTS):
        raise ValueError(f"{folder / ONNX}: was made of other weights than {WEIGHTS} beside it; run  "
                         f"python -m Network.export.onnx_model {folder}")
    return Loaded(None, config, folder, metadata.points, metadata.image_size, None, metadata.order, exported)


def trained(loaded: Loaded) -> dict[str, float]:
    """What the weights have cost: samples seen and cpu_hours, of the run (its history.csv) and of the weight folder
    that it started from; a run that is packed already has them in its config. Empty where neither is known."""
    if "training" in loaded.config:
        return loaded.config["training"]
    total = {"samples": 0, "cpu_hours": 0.0}
    initial = loaded.config.get("settings", {}).get("warm_start", "")
    if initial and (Path(initial) / "config.json").is_file():
        total.update(read_json(Path(initial) / "config.json").get("training", {}))
    history = (loaded.source if loaded.source.is_dir() else loaded.source.parent) / "history.csv"
    if not history.is_file():
        return {}
    with history.open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    return {"samples": total["samples"] + int(last["samples"]),
            "cpu_hours": round(total["cpu_hours"] + float(last["cpu_seconds"]) / 3600, 2)}
