"""Weights small enough for the box:  python -m Network.pack RUN [-o FOLDER] [--checkpoint best_validation]

Writes FOLDER/config.json and FOLDER/weights.npz, the weights of a run's checkpoint as float16, and says what the
rounding costs: how far predictions for the same random pictures lie apart. `Network.loading.load_model` reads FOLDER.
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from Dataset.atomic import atomic_path, write_text
from Network.checkpoints import CHECKPOINTS, model_from_config
from Network.flags import exit_code
from Network.loading import WEIGHTS, WEIGHTS_VERSION, Loaded, load_model

KEPT = ("network", "preset", "model", "order", "train", "settings", "versions")   # of a run's config.json
LARGEST = 16 * 2**20    # bytes


def pack(loaded: Loaded, folder: Path) -> float:
    """Write a loaded run as a weight folder -> largest distance (unit sphere) that float16 moves any predicted point.

    ValueError when the model comes without a config, or float16 cannot hold a weight.
    """
    if not loaded.config:
        raise ValueError(f"{loaded.source}: has no config.json beside it; pack a run folder")
    exact = loaded.model.get_weights()
    with np.errstate(over="ignore"):        # an overflow is found, and named, below
        half = [w.astype(np.float16) for w in exact]
    if not all(np.isfinite(w).all() for w in half):
        raise ValueError(f"{loaded.source}: holds a weight that float16 cannot hold")
    error = rounding_error(loaded, half)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / WEIGHTS) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, version=np.array(WEIGHTS_VERSION), **{f"{i:04d}": w for i, w in enumerate(half)})
        if file.tell() > LARGEST:
            raise ValueError(f"{loaded.source}: takes {file.tell()} bytes, at most {LARGEST} belong in the box")
    kept = {name: loaded.config[name] for name in KEPT if name in loaded.config}
    write_text(folder / "config.json", json.dumps(kept, indent=1) + "\n")
    return error


def rounding_error(loaded: Loaded, half: list[np.ndarray]) -> float:
    """Largest distance between points predicted with exact and with rounded weights, over eight random pictures."""
    images = np.random.default_rng(0).random((2, 4, loaded.image_size, loaded.image_size, 3), np.float32)
    before = loaded.predict(images)
    rounded = model_from_config(loaded.config)
    rounded.set_weights([w.astype(np.float32) for w in half])
    after = np.asarray(rounded(images, training=False), np.float32)
    return float(np.linalg.norm(after - before, axis=-1).max())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m Network.pack", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("-o", "--output", metavar="FOLDER", type=Path, default=Path("Network/weights/compact"))
    parser.add_argument("--checkpoint", choices=CHECKPOINTS, default="best_validation")

    def work(arguments: argparse.Namespace) -> None:
        error = pack(load_model(arguments.run, arguments.checkpoint), arguments.output)
        size = (arguments.output / WEIGHTS).stat().st_size
        print(f"{arguments.output / WEIGHTS}: {size / 2**20:.2f} MiB; float16 moves a point by at most {error:.2e}")
    return exit_code("python -m Network.pack", work, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
