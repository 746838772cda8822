"""The run folder: weights, resolved config, history, versions, and the state that a run is resumed from.

    config.json             network, preset, every setting, versions of the packages, shape of the data
    history.csv             one row per epoch; derived from the state, written anew each time
    best_validation.npz     the thesis's model.h5: all weights, by name, of the best validation loss
    best_validation.keras   the same as a Keras model that predicts, without what only training needs
    best_training.npz, .keras   the thesis's trainmodel.h5: the best training loss
    last.keras              the predicting model of the last state
    state.npz               weights and optimizer by name, progress: all that --resume reads
    loss.png                Figure 22

Weights are matched by name (Network/training/named_weights.py). Untrusted files: a `.keras` file is opened for its
weights, which are read into our own model; without a config.json beside it, Keras's safe mode reads it. A `.h5` file
is read through h5py as arrays; the config in it, which can hold code, is never read.
"""
from __future__ import annotations

import csv
import dataclasses
import io
import json
import platform
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np

from Dataset.io.archives.npz import read_npz
from Dataset.io.atomic import atomic_path, remove_leftovers, write_text
from Dataset.io.json_files import parse_json
from Network.config.flags import from_dict
from Network.config.limits import check_cost
from Network.config.run_config import read_config
from Network.models.registry import get_network
from Network.training.named_weights import (copy_weights, fill, fill_model, named_slots, named_variables, named_weights,
                                            weights_hash)
from Network.training.settings import Settings, TrainConfig

MAX_STATE = 1 << 34     # bytes that a checkpoint may unpack to
CHECKPOINTS = ("best_validation", "best_training", "last")
MAY_CHANGE = ("epochs", "patience", "checkpoint_minutes")     # by a resumed run
LATER = ("face_model",)     # of the data's description: older runs lack it and can be resumed
PACKAGES = ("tensorflow", "jax", "keras", "numpy", "opencv-python", "open3d")


_KINDS = {"int": int, "float": (int, float), "list[dict]": list}        # of the fields of Progress


@dataclass
class Progress:
    """Where a run stands. `batch` counts loader batches done in the current (0-based) epoch."""

    epoch: int = 0
    batch: int = 0
    updates: int = 0
    loss_sum: float = 0.0
    samples: int = 0            # of the current epoch
    samples_seen: int = 0       # by one worker, in all updates so far
    cpu_seconds: float = 0.0    # processor time so far, of all processes that trained this run
    best_validation: float = float("inf")
    best_training: float = float("inf")
    stale: int = 0
    history: list[dict] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """Mean training loss of the current epoch so far; NaN before the first batch."""
        return self.loss_sum / self.samples if self.samples else float("nan")

    def check(self) -> None:
        """TypeError for a value of another type than its field's, or a history without its columns."""
        for each in dataclasses.fields(self):
            value, kind = getattr(self, each.name), _KINDS[str(each.type)]
            if not isinstance(value, kind) or isinstance(value, bool) or kind is int and value < 0:
                raise TypeError(f"{each.name} must be of type {each.type}, received {str(value)[:40]!r}")
        for row in self.history:
            if not isinstance(row, dict) or not all(isinstance(v, (int, float, type(None))) for v in row.values()):
                raise TypeError("the history must be a list of rows of numbers")
            missing = [name for name in ("epoch", "loss", "val_loss") if not isinstance(row.get(name), (int, float))]
            if missing:
                raise TypeError(f"each row of the history must have {', '.join(missing)}")

    def add(self, loss: float, samples: int, batches: int) -> None:
        self.loss_sum += loss * samples
        self.samples += samples
        self.samples_seen += samples
        self.batch += batches
        self.updates += 1

    def next_epoch(self) -> None:
        self.epoch, self.batch, self.loss_sum, self.samples = self.epoch + 1, 0, 0.0, 0


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _variables(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """Every variable of the state by the name that it has on disk."""
    return {**{f"model/{name}": variable for name, variable in named_variables(model).items()},
            **{f"optimizer/{name}": variable for name, variable in named_slots(model, optimizer).items()}}


class RunFolder:
    """One run on disk. Nothing is created before the first write.

    predicting  the model that is saved as `.keras`, filled by name from the trained one; None: the trained one itself
    """

    def __init__(self, path: str | Path, predicting: keras.Model | None = None) -> None:
        self.path, self.predicting = Path(path), predicting

    def start(self, config: dict[str, Any], model: keras.Model | None = None) -> None:
        """Start a run: write config.json, with the hash of the model's initial weights. ValueError when the folder
        already holds a run."""
        if (self.path / "config.json").exists():
            raise ValueError(f"{self.path}: holds a run already; go on with --resume, or name another --run folder")
        more = {"versions": versions()} | ({} if model is None else {"initial_weights": weights_hash(model)})
        write_text(self.path / "config.json", json.dumps({**config, **more}, indent=1) + "\n")

    def config(self) -> dict[str, Any]:
        """The resolved settings. ValueError when there is no readable config.json."""
        config = read_config(self.path)
        try:
            from_dict(get_network(config["network"]).config, config["model"])
        except ValueError as error:
            raise ValueError(f"{self.path / 'config.json'}: {error}") from None
        return config

    def resumed(self, typed: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """The config of a run that is resumed. Settings that decide when to stop may be changed on the command line.

        ValueError when something else that was typed differs from the run's own config.
        """
        old = self.config()
        try:
            from_dict(Settings, old["settings"]), from_dict(TrainConfig, old["train"])
            if not isinstance(old.get("data"), dict) or not isinstance(old.get("preset"), str):
                raise ValueError("must hold data and a preset")
        except KeyError as error:
            raise ValueError(f"{self.path / 'config.json'}: lacks {error}") from None
        except ValueError as error:
            raise ValueError(f"{self.path / 'config.json'}: {error}") from None
        for part, values in typed.items():
            for name, value in values.items():
                if part == "train" and name in MAY_CHANGE:
                    old[part][name] = value
                elif (part, name, value) == ("settings", "precision", "auto"):
                    continue                        # resolved when the run began
                elif old[part].get(name) != json.loads(json.dumps(value)):
                    raise ValueError(f"{self.path}: was started with {name} = {old[part].get(name)!r}, not {value!r}; "
                                     f"a resumed run can change {', '.join(MAY_CHANGE)} only")
        return old

    def checked(self, config: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """`config`, if it was started on this data; else ValueError: another split would train on held-out subjects.

        data    the description of the data folder in config.json: "order", "subjects"; entries in LATER may be missing
        """
        for name, value in data.items():
            if (name in config or name not in LATER) and config.get(name) != json.loads(json.dumps(value)):
                raise ValueError(f"{self.path}: was started on data with other {name}; resume with the same folder")
        return config

    def there(self, names: dict[str, str]) -> list[str]:
        """Those of `names` (short name -> checkpoint) whose file exists. ValueError for no run, or none of them."""
        self.config()
        found = [name for name, checkpoint in names.items() if (self.path / f"{checkpoint}.keras").exists()]
        if not found:
            raise ValueError(f"{self.path}: holds none of {', '.join(names.values())} yet")
        return found

    def save_weights(self, model: keras.Model, name: str) -> Path:
        """Write `<name>.npz`, all weights by name, and `<name>.keras`, each aside and renamed -> the latter's path."""
        with atomic_path(self.path / f"{name}.npz") as temporary, open(temporary, "wb") as file:
            np.savez(file, **{key: np.asarray(v.numpy()) for key, v in named_weights(model).items()})
        return self._save_predicting(model, name)

    def _save_predicting(self, model: keras.Model, name: str) -> Path:
        path = self.path / f"{name}.keras"
        if self.predicting is not None:
            copy_weights(model, self.predicting)
        with atomic_path(path) as temporary:
            (self.predicting or model).save(temporary)
        return path

    def _weights_of(self, name: str) -> Path:
        return self.path / ("state.npz" if name == "last" else f"{name}.npz")

    def has_weights(self, name: str) -> bool:
        """Whether checkpoint `name` has a file of weights by name."""
        return self._weights_of(name).is_file()

    def load_weights(self, model: keras.Model, name: str) -> None:
        """Fill a model, by name, from checkpoint `name`, which may hold more. ValueError when it can't be read, or
        lacks a weight."""
        path = self._weights_of(name)
        arrays = {key.removeprefix("model/"): array
                  for key, array in read_npz(path, MAX_STATE, "weights of this program").items()
                  if name != "last" or key.startswith("model/")}
        fill_model(model, arrays, str(path))

    def save_state(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, progress: Progress) -> None:
        """Write last.keras, state.npz, history.csv, each atomically; state.npz alone decides where a run resumes."""
        remove_leftovers(self.path)
        self._save_predicting(model, "last")
        arrays = {key: np.asarray(v.numpy()) for key, v in _variables(model, optimizer).items()}
        arrays["progress"] = np.array(json.dumps(dataclasses.asdict(progress)))
        with atomic_path(self.path / "state.npz") as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
        self.write_history(progress.history)

    def has_state(self) -> bool:
        """Whether there is a state to resume from: a run that was killed before its first state starts again."""
        return (self.path / "state.npz").exists()

    def load_state(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Progress:
        """Fill the model and the optimizer and return where the run stands. ValueError when they do not fit."""
        path = self.path / "state.npz"
        if not path.exists():       # killed before the first state: starts again, from the same seed
            read_config(self.path)
            return Progress()
        variables = _variables(model, optimizer)
        arrays = read_npz(path, MAX_STATE, "state of this program")
        try:
            progress = Progress(**parse_json(str(arrays.pop("progress")), f"{path}: progress"))
            progress.check()
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: holds no state of this program ({error})") from None
        fill(variables, arrays, str(path))
        self.write_history(progress.history)
        return progress

    def write_history(self, history: list[dict]) -> None:
        """history.csv: one row per finished epoch."""
        if history:
            text = io.StringIO()
            columns = dict.fromkeys(name for row in history for name in row)    # older rows may have fewer
            table = csv.DictWriter(text, fieldnames=list(columns), lineterminator="\n")
            table.writeheader()
            table.writerows(history)
            write_text(self.path / "history.csv", text.getvalue())


def model_from_config(config: dict[str, Any], replicas: int = 1, training: bool = False) -> keras.Model:
    """A new model of a run's config.json. ValueError for an unknown network or setting.

    replicas  over how many BatchNormalization shares its statistics while it trains
    training  with the outputs that only the loss reads, where the network has some; the weights are the same
    """
    try:
        network = get_network(config["network"])
        model = from_dict(network.config, config["model"])
        build = network.build_training if training else network.build
        check_cost(build, model, network.presets.values())
        return build(dataclasses.replace(model, batch_norm_replicas=replicas))
    except (ValueError, MemoryError):
        raise
    except Exception as error:      # Keras and TensorFlow have types of their own for sizes that make no network
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"config.json: not a config of this program: {reason}") from error


def predicting_model(config: dict[str, Any]) -> keras.Model:
    """`model_from_config` in float32, whatever this process trains in: what a run folder keeps for prediction."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        return model_from_config(config)
    finally:
        keras.config.set_dtype_policy(policy)
