"""Carry a run through a renaming of layers:  python -m Network.training.convert_run RUN -o OUT [--names NAMES.json]

NAMES.json maps old names to new ones: of layers ("down_0": "encoder_0", with all their weights) or of single weights
("down_0/kernel": "encoder_0/kernel"). OUT is a copy of the run folder whose weights, optimizer's slots and checkpoints
have the new names; it goes on with --resume. A run from before weights were stored by name gets this program's names
first. Only for trainings under way while names change; to be deleted afterwards.
"""
from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any, Iterable, Mapping

import numpy as np

from Dataset.io.atomic import atomic_path
from Dataset.io.command import one_line
from Dataset.io.json_files import read_json
from Dataset.io.npz_files import read_npz
from Network.config.flags import from_dict
from Network.training.checkpoints import MAX_STATE, RunFolder, model_from_config, predicting_model
from Network.training.named_weights import fill, named_slots, named_variables, named_weights
from Network.training.settings import Settings, TrainConfig

BEST = ("best_validation", "best_training")
PARTS = ("model/", "optimizer/")        # of a state's keys


def renamed(keys: Iterable[str], names: Mapping[str, str]) -> dict[str, str]:
    """Old key -> new key: a name is that of the whole key, or the longest that ends before one of its slashes.

    ValueError when two keys get one name.
    """
    found = {}
    for key in keys:
        part = next((part for part in PARTS if key.startswith(part)), "")
        words = key.removeprefix(part).split("/")
        prefixes = ["/".join(words[:count]) for count in range(len(words), 0, -1)]
        old = next((prefix for prefix in prefixes if prefix in names), None)
        rest = key.removeprefix(part) if old is None else names[old] + key.removeprefix(part)[len(old):]
        found[key] = part + rest
    if len(set(found.values())) != len(found):
        twice = next(new for new in found.values() if list(found.values()).count(new) > 1)
        raise ValueError(f"names must stay different: two weights would be named {twice!r}")
    return found


def convert_run(folder: Path, output: Path, names: Mapping[str, str]) -> None:
    """Write the run folder `folder` with other names as `output`.

    The network in config.json must be one that this program builds, with the new names (with the old ones, where
    `names` is empty): the checkpoints for prediction are made anew from it, which finds every name that was forgotten.
    ValueError for a name that the run does not have, for one that this program's network does not have, for a folder
    that exists.
    """
    if output.exists():
        raise ValueError(f"{output}: exists; name a new folder")
    config = RunFolder(folder).config()
    files = _named_files(folder, config)
    known = {prefix for arrays in files.values() for key in arrays for prefix in _prefixes(key)}
    unknown = sorted(set(names) - known)
    if unknown:
        raise ValueError(f"{folder}: has no weight or layer named {', '.join(unknown)}")
    predicting = predicting_model(config)
    shutil.copytree(folder, output, ignore=shutil.ignore_patterns("*.npz", "*.keras"))
    for name, arrays in files.items():
        new = {key: arrays[old] for old, key in renamed(arrays, names).items()}
        with atomic_path(output / f"{name}.npz") as temporary, open(temporary, "wb") as file:
            np.savez(file, **new)
        checkpoint = "last" if name == "state" else name
        RunFolder(output).load_weights(predicting, checkpoint)
        predicting.save(output / f"{checkpoint}.keras")


def _prefixes(key: str) -> list[str]:
    words = key.removeprefix("model/").split("/")
    return ["/".join(words[:count]) for count in range(1, len(words) + 1)]


def _named_files(folder: Path, config: dict[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """Name of the file -> its arrays by name. ValueError for a run without a state."""
    if not (folder / "state.npz").is_file():
        raise ValueError(f"{folder}: holds no state.npz yet")
    files = {name: read_npz(folder / f"{name}.npz", MAX_STATE) for name in ("state", *BEST)
             if (folder / f"{name}.npz").is_file()}
    return _by_name(folder, config, files["state"]) if "model/0000" in files["state"] else files


def _by_name(folder: Path, config: dict[str, Any], state: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """The same of a run whose state is in the order of this program's variables and whose checkpoints are training
    models."""
    from Network.training.step import make_step, prepare
    from Network.training.trainer import vary_beta1
    settings = from_dict(Settings, config["settings"])
    model = model_from_config(config, training=True)
    step = make_step(config, model, settings, prepare(settings))
    if from_dict(TrainConfig, config["train"]).schedule == "plateau":
        vary_beta1(step.optimizer)
    ordered = {"model": model.variables, "optimizer": step.optimizer.variables}
    named = {"model": named_variables(model), "optimizer": named_slots(model, step.optimizer)}
    new = {"progress": state["progress"]}
    for part, variables in ordered.items():
        place = {id(variable): f"{part}/{index:04d}" for index, variable in enumerate(variables)}
        new.update({f"{part}/{name}": state[place[id(variable)]] for name, variable in named[part].items()})
    if len(new) != len(state):
        raise ValueError(f"{folder}: holds {len(state)} arrays, this program's state has {len(new)}")
    files = {"state": new}
    for name in BEST:
        if (folder / f"{name}.keras").is_file():
            model.load_weights(folder / f"{name}.keras")
            files[name] = {key: np.asarray(weight) for key, weight in named_weights(model).items()}
    fill(named["model"], {key.removeprefix("model/"): array for key, array in new.items()
                          if key.startswith("model/")}, str(folder))
    return files


@one_line("Network.training.convert_run")
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m Network.training.convert_run", description=__doc__,
                                     allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True)
    parser.add_argument("--names", metavar="NAMES.json", type=Path, help="old name -> new name; default: none changes")
    arguments = parser.parse_args(argv)
    names = read_json(arguments.names) if arguments.names else {}
    if not all(isinstance(new, str) for new in names.values()):
        raise ValueError(f"{arguments.names}: must map old names to new ones")
    convert_run(arguments.run, arguments.output, names)
    print(f"{arguments.output}: goes on with --resume")
    return 0


if __name__ == "__main__":
    sys.exit(main())
