"""The flags of train.py, with the values of the chosen preset; read off the source, so that --help takes no second."""
from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from Dataset.io.json_files import read_json
from Network.config.declared import declared, explained
from Network.config.flags import add_flags, given
from Network.models.registry import NETWORKS

DEFAULT_PRESET = "quick"
#: of all fields those that most runs set; the others are advanced
COMMON = ("epochs", "learning_rate", "precision", "seed", "warm_start", "batch_size", "batch_images", "batches",
          "validation_subjects", "augment", "image_size")


def chosen_preset(argv: list[str] | None) -> str:
    """The preset of a command line; where it goes on with a run, the run's own.

    ValueError for another one than that run's. An unknown preset ends the program, as argparse does.
    """
    presets = declared("Network.training.presets")["PRESETS"]
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", choices=sorted(presets))
    first.add_argument("--run", type=Path)
    first.add_argument("--resume", action="store_true")
    known = first.parse_known_args(argv)[0]
    preset = known.preset or DEFAULT_PRESET
    config = (known.run or Path(f"runs/{preset}")) / "config.json"
    if not (known.resume and config.is_file()):
        return preset
    try:
        own = read_json(config)["preset"]
    except (ValueError, KeyError):      # the error is reported where it is read
        return preset
    if known.preset and known.preset != own:
        raise ValueError(f"{config.parent}: was started with --preset {own}, not {known.preset}; --resume goes on with "
                         "its own")
    return own if isinstance(own, str) and own in presets else preset


def _elsewhere(flag: str, data_configs: dict[str, type]) -> str:
    """Which presets have a flag that the chosen one has not; "" where none has."""
    name = flag.partition("=")[0].removeprefix("--").removeprefix("no-").replace("-", "_")
    presets = declared("Network.training.presets")["PRESETS"]
    having = sorted(preset for preset, parts in presets.items() if any(
        name in {field.name for field in dataclasses.fields(config)}
        for module in (declared(NETWORKS[parts["network"]]),)
        for config in (module["Config"], data_configs[module["TARGETS"]])))
    return f"; --preset {', '.join(having)} {'has' if len(having) == 1 else 'have'} it" if having else ""


def parse(argv: list[str] | None, description: str, data_configs: dict[str, type]) -> argparse.Namespace:
    """train.py's command line. `typed` of the result: part ("settings", "train", "data", "model") -> the fields that
    were typed. `data_configs`: a network's TARGETS -> dataclass of the generator's settings, as `declared` gives it."""
    preset = chosen_preset(argv)
    settings, module = declared("Network.training.settings"), declared("Network.training.presets")
    presets, shared = module["PRESETS"], module["SHARED"]
    network = presets[preset]["network"]            # it decides which flags there are
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog=f"Values shown are those of --preset {preset}.")
    parser.add_argument("data_folder", metavar="DATA", help="subject folders, shards, or live")
    parser.add_argument("--preset", choices=sorted(presets), default=preset, help=f"default {DEFAULT_PRESET}; one of "
                        + ", ".join(sorted(presets)), metavar="PRESET")
    parser.add_argument("--run", metavar="FOLDER", type=Path, default=Path(f"runs/{preset}"),
                        help="default runs/PRESET")
    parser.add_argument("--resume", action="store_true", help="resume the run in the folder, or start it")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that render for DATA live (cores but one)")
    parser.add_argument("--face-model", metavar="FILE", help="Basel, FLAME or ICT-FaceKit: of the rendered subjects")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    model = declared(NETWORKS[network])
    sections = {"settings": settings["Settings"], "train": settings["TrainConfig"],
                "data": data_configs[model["TARGETS"]], "model": model["Config"]}
    hidden = {"model": shared, "data": ("seed",)}   # one flag, one home: the model's sizes follow the data's
    for advanced in (False, True):
        for title, config in sections.items():
            names = [field.name for field in dataclasses.fields(config)
                     if (field.name not in COMMON) == advanced and field.name not in hidden.get(title, ())]
            values = {**vars(model["PRESETS"][preset] if title == "model" else config()), **presets[preset][title]}
            if names:
                add_flags(parser, config, f"{title}, advanced" if advanced else title, only=names, values=values,
                          notes=explained(config))
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}" + _elsewhere(unknown[0], data_configs))
    arguments.typed = {title: {name: value for name, value in given(arguments, config).items()
                               if name not in hidden.get(title, ())} for title, config in sections.items()}
    return arguments
