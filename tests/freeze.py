"""Record the frozen test sets:  python -m tests.freeze TEST_SHARDS TRAINING_SHARDS

Reads shards that were rendered by

    python -m Dataset.shards TEST_SHARDS --subjects 64 --images 8 --size 128 --seed 9001 --buffers uv,visible_mask
    python -m Dataset.shards TRAINING_SHARDS --subjects 6400 --images 8 --size 128 --seed 0 --skins 0.5 \\
        --buffers uv,mask,visible_mask,depth

and writes Dataset/face_model/assets/frozen.json (digests of all frozen subjects) and tests/data/frozen.npz (arrays of a
few, which tell a rounding difference of another kind of CPU from a change). Run it only to begin a new set: a set that
is in use keeps its digests.
"""
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.frozen import RECORD, digests
from Dataset.synthesis.renders import layout
from Dataset.synthesis.shards import VERSION, open_shards
from Dataset.synthesis.sidecar import model_hash

REFERENCE = Path(__file__).parent / "data" / "frozen.npz"
SUBJECTS = {"test": 64, "validation": 128}
KEPT = 2            # images of a reference subject whose arrays are kept
STEP = 8            # of buffers every so many pixels are kept


def reference_subjects(name: str) -> tuple[int, int]:
    """The subjects of a set that the quick test renders: the first and the last."""
    return 0, SUBJECTS[name] - 1


def reference(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is kept of a subject's arrays: the first images whole, their buffers coarsely."""
    kept = {}
    for name, value in arrays.items():
        value = value if name == "identity" else value[:KEPT]
        coarse = name in ("uv", "mask", "visible_mask", "depth")
        kept[name] = value[:, ::STEP, ::STEP] if coarse else value
    return kept


def main(folders: list[str]) -> None:
    record, kept = {}, {}
    for (name, count), folder in zip(SUBJECTS.items(), folders, strict=True):
        shards = open_shards(folder, partial=True)
        options = dataclasses.replace(shards.settings, subjects=count)
        subjects = []
        for number in range(count):
            arrays = {array: shards.gather(array, [number])[0] for array in layout(options)}
            subjects.append(list(digests(arrays, options)))
            if number in reference_subjects(name):
                kept.update({f"{name}/{number}/{array}": value for array, value in reference(arrays).items()})
        record[name] = {"version": VERSION, "model": model_hash(load_face_model()),
                        "options": dataclasses.asdict(options), "subjects": subjects}
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    REFERENCE.parent.mkdir(exist_ok=True)
    np.savez_compressed(REFERENCE, **kept)


if __name__ == "__main__":
    main(sys.argv[1:])
