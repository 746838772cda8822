"""What is known of a network that can be run, whoever runs it, and the networks that are bundled. No Keras."""
from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from Dataset.io.archives.npz import read_npz
from Dataset.io.json_files import read_json
from Network.config.run_config import MAX_COST, check_training, digest, file_hash, read_config
from Network.engine.exported import Exported, open_exported
from Network.models.registry import NETWORKS

if TYPE_CHECKING:
    import keras

WEIGHTS, ONNX = "weights.npz", "model.onnx"
#: the bundled weights that demo.py uses by default
DEFAULT_MODEL = Path(__file__).parents[1] / "weights" / "compact"
BUNDLED = DEFAULT_MODEL.parent
MAX_HISTORY = 16 * 2**20        # bytes of a history.csv
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
    return path if os.path.exists(path) else bundled_models().get(str(path), path)


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
    that it started from; a run that is packed already has them in its config. Empty where neither is known. ValueError,
    naming the file, for a history or a config that does not say it."""
    folder = loaded.source if loaded.source.is_dir() else loaded.source.parent
    if "training" in loaded.config:
        return check_training(folder / "config.json", loaded.config["training"])
    total = {"samples": 0, "cpu_hours": 0.0}
    initial = loaded.config.get("settings", {}).get("warm_start", "")
    if initial and (Path(initial) / "config.json").is_file():
        before = Path(initial) / "config.json"
        total.update(check_training(before, read_json(before).get("training", {})))
    history = folder / "history.csv"
    if not history.is_file():
        return {}
    samples, seconds = _last_row(history)
    return {"samples": total["samples"] + samples, "cpu_hours": round(total["cpu_hours"] + seconds / 3600, 2)}


def began(config: dict[str, Any]) -> dict[str, Any]:
    """seed and initial_weights (SHA-256) of the new weights that a network's first training began with: of the weight
    folder that a run started from, where it names one, else the run's own; None where they are not known, as of layers
    that were transferred."""
    if isinstance(config.get("began"), dict):       # of a weight folder
        return config["began"]
    settings = config.get("settings") or {}
    start = "" if "training" in config else settings.get("warm_start") or ""        # a weight folder has a name alone
    if start and (settings.get("transfer") or not (Path(start) / "config.json").is_file()):
        return {"seed": None, "initial_weights": None}
    if start:
        return began(read_config(Path(start)))
    return {"seed": settings.get("seed"), "initial_weights": config.get("initial_weights")}


def _last_row(history: Path) -> tuple[int, float]:
    """`samples` and `cpu_seconds` of the last epoch in a history.csv. ValueError, naming it, where it has none."""
    try:
        if history.stat().st_size > MAX_HISTORY:
            raise ValueError(f"may have at most {MAX_HISTORY} bytes")
        with history.open(newline="", encoding="utf-8") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
        missing = [name for name in ("samples", "cpu_seconds") if name not in header]
        if missing or not rows:
            raise ValueError(f"must hold {'the column ' + missing[0] if missing else 'a row for each epoch'}, "
                             "this has none")
        if len(rows[-1]) != len(header):
            raise ValueError(f"every row must have the header's {len(header)} columns, the last has {len(rows[-1])}")
        last = dict(zip(header, rows[-1]))
        samples, seconds = int(last["samples"]), float(last["cpu_seconds"])
        if not (0 <= samples <= MAX_COST and 0 <= seconds <= MAX_COST):
            raise ValueError(f"samples and cpu_seconds must be from 0 to {MAX_COST:g}, received {samples}, {seconds}")
    except (ValueError, OSError, csv.Error) as error:       # UnicodeDecodeError is a ValueError
        text = " ".join(str(getattr(error, "strerror", None) or error).split())[:160]
        raise ValueError(f"{history}: no history of a run that can be read ({text})") from None
    return samples, seconds
