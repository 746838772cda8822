"""config.json of a run or weight folder, and the digests that tie files to each other. No Keras."""
from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from Dataset.io.json_files import read_json


MAX_COST = 1e18     # samples, cpu_hours; beyond it is no training


def read_config(folder: Path) -> dict[str, Any]:
    """The resolved settings of a run. ValueError when there is no readable config.json."""
    path = folder / "config.json"
    if not path.exists():
        raise ValueError(f"{folder}: is no run folder: config.json is missing")
    config = read_json(path)
    parts = [config.get(part, {}) for part in ("model", "settings", "train", "data")]
    if not isinstance(config.get("network"), str) or "model" not in config \
            or not all(isinstance(part, dict) for part in parts):
        raise ValueError(f"{path}: is no config of this program: it must name a network and hold its model")
    if not all(isinstance(config.get(name, {}), dict) for name in ("shards", "subjects")) \
            or not isinstance(config.get("order", ""), str):
        raise ValueError(f"{path}: is no config of this program: shards and subjects must be objects, order text")
    if not isinstance(config.get("settings", {}).get("warm_start", ""), (str, type(None))):
        raise ValueError(f"{path}: is no config of this program: warm_start of its settings must be text")
    check_training(path, config.get("training", {}))
    return config


def check_training(path: Path, training: Any) -> dict[str, float]:
    """`training` of the config.json at `path`, what the weights have cost: {}, or an object of `samples` and
    `cpu_hours`, numbers from 0 to MAX_COST. ValueError for anything else."""
    sound = isinstance(training, dict) and set(training) in (set(), {"samples", "cpu_hours"}) and all(
        type(value) in (int, float) and 0 <= value <= MAX_COST for value in training.values())
    if not sound or type(training.get("samples", 0)) is not int:
        raise ValueError(f"{path}: training must be an object of samples, a whole number, and cpu_hours, a number, "
                         f"both from 0 to {MAX_COST:g}")
    return training


def digest(text: str) -> str:
    """SHA-256 (hex) of a config.json, which ties weights to it."""
    return hashlib.sha256(text.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file. ValueError, naming it, where there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
