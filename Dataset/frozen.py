"""The frozen test sets: subjects whose images and targets never change, so that results remain comparable.

    python -m Dataset.frozen FOLDER     which set a folder of shards holds, and whether its bytes are the frozen ones

Dataset/face_model/assets/frozen.json holds, for each set, its rendering options and two SHA-256 digests per subject:
one of the images, one of all other arrays. `python -m tests.freeze` wrote it. tests/test_frozen.py renders the subjects
anew.
"""
from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from Dataset.synthesis.renders import RenderOptions, layout
from Dataset.synthesis.shards import Shards, open_shards

RECORD = Path(__file__).parent / "face_model" / "assets" / "frozen.json"
#: arrays that were renamed after the sets had been frozen -> their names in the digests
HASHED_NAMES = {"visible_mask": "occluded"}


class Digests(NamedTuple):
    """SHA-256 (hex) of one subject's images and of its other arrays."""

    images: str
    targets: str


class FrozenSet(NamedTuple):
    """version: of the generator (`Dataset.synthesis.shards.VERSION`); model: hash of the face model
    (`Dataset.synthesis.sidecar.model_hash`); options: of the rendering, whose `subjects` is the number of frozen
    subjects; subjects: their digests, subject 0 first."""

    name: str
    version: int
    model: str
    options: RenderOptions
    subjects: list[Digests]


def frozen_sets(path: Path = RECORD) -> dict[str, FrozenSet]:
    """The recorded sets by name: `test` (seed 9001) and `validation` (the first subjects of the training set)."""
    record = json.loads(path.read_text(encoding="utf-8"))
    return {name: FrozenSet(name, entry["version"], entry["model"],
                            RenderOptions(**{**entry["options"], "buffers": tuple(entry["options"]["buffers"])}),
                            [Digests(*pair) for pair in entry["subjects"]]) for name, entry in record.items()}


def digests(arrays: dict[str, np.ndarray], options: RenderOptions) -> Digests:
    """The digests of one subject's arrays, as `Dataset.synthesis.renders.render_subject` gives them. Arrays that the
    options do not ask for are ignored. ValueError for an array of another shape or dtype than
    `Dataset.synthesis.renders.layout` says.
    """
    sums = {"images": hashlib.sha256(), "truths": hashlib.sha256()}
    for name, (shape, dtype) in layout(options).items():
        value = np.asarray(arrays[name])
        if value.shape != shape or value.dtype != dtype:
            raise ValueError(f"{name}: must be {shape} {dtype}, received {value.shape} {value.dtype}")
        part = sums["images" if name == "images" else "truths"]
        part.update(HASHED_NAMES.get(name, name).encode())
        part.update(value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes())
    return Digests(*(part.hexdigest() for part in sums.values()))


def matching_set(shards: Shards) -> FrozenSet:
    """The frozen set with the options of a folder of shards, which may have more subjects and buffers. ValueError for
    none."""
    for frozen in frozen_sets().values():
        wanted, have = frozen.options, shards.settings
        same = dataclasses.replace(have, subjects=wanted.subjects, buffers=wanted.buffers)
        if same == wanted and set(wanted.buffers) <= set(have.buffers) and len(shards) >= wanted.subjects:
            return frozen
    raise ValueError(f"{shards.path}: must have the options of a frozen test set ({', '.join(frozen_sets())}), "
                     f"received seed {shards.settings.seed}, {len(shards)} subjects of {shards.images} images, "
                     f"{shards.size} px, buffers {','.join(shards.settings.buffers) or 'none'}")


def changed_subjects(shards: Shards, frozen: FrozenSet | None = None) -> list[int]:
    """Numbers of the frozen subjects whose images or targets in a folder of shards are not the recorded ones; empty
    when all are. frozen: None for the one that matches. ValueError as `matching_set`."""
    frozen = frozen or matching_set(shards)
    changed = []
    for number, recorded in enumerate(frozen.subjects):
        arrays = {name: shards.gather(name, [number])[0] for name in layout(frozen.options)}
        if digests(arrays, frozen.options) != recorded:
            changed.append(number)
    return changed


def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 0 when all bytes are the frozen ones, 1 when some are not, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m Dataset.frozen", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    arguments = parser.parse_args(argv)
    try:
        shards = open_shards(arguments.folder, partial=True)
        frozen = matching_set(shards)
        changed = changed_subjects(shards, frozen)
    except (ValueError, OSError) as error:
        print(f"Dataset.frozen: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.folder}: {len(frozen.subjects) - len(changed)} of {len(frozen.subjects)} subjects of the "
          f"{frozen.name} set have the frozen bytes" + (f"; changed: {' '.join(map(str, changed[:20]))}" if changed else
                                                        ""))
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
