"""Training images as memory-mapped shards:  python -m Dataset.shards OUT --subjects 8000 --images 8 --size 128

Renders subjects of the built-in face (see Dataset/synthesis/renders.py) into

    OUT/shards.json                 version, settings, hash of the face model, complete
    OUT/shard_00000/<name>.npy      16 subjects each: (P, ...) arrays as `Dataset.synthesis.renders.layout` lists them
    OUT/manifest.json               of each shard its subjects and the SHA-256 of its arrays, and versions
    OUT/sheet.jpg                   images of the first subjects, to look at

After a kill the same command continues with the missing shards (Dataset/io/work_folder.py). The bytes do not depend on
--workers. On several machines with one file system: the same command with --part 1/200, --part 2/200 ..., in any order,
also twice; then --finalise. More --subjects let a whole set of full shards grow.
"""
from __future__ import annotations

import argparse
import logging
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

from Dataset.face_model.model import use_face_model
from Dataset.io.command import one_line
from Dataset.io.flags import add_fields, fields_of
from Dataset.synthesis.renders import BUFFERS, POSES, TEXTURES, RenderOptions
from Dataset.synthesis.shards import finalise, make_part, make_shards, part_of, shard_count


def parse(argv: list[str] | None) -> tuple[argparse.Namespace, dict[str, Any]]:
    parser = argparse.ArgumentParser(prog="python -m Dataset.shards", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", type=Path)
    parser.add_argument("--workers", type=int, default=1, metavar="N")
    parser.add_argument("--part", metavar="K/N", help="only the K-th of N equal parts, 1 to N: for one of several "
                        "machines")
    parser.add_argument("--shards", metavar="A:B", help="only shards A to B - 1, likewise")
    parser.add_argument("--finalise", action="store_true", help="make a whole set of the parts that OUT holds")
    parser.add_argument("--face-model", metavar="FILE", help="Basel, FLAME or ICT-FaceKit instead of the built-in face")
    helps = {"subjects": "subjects", "images": "images of each", "size": "side of the crops, pixels",
             "seed": "of everything", "yaw": "largest, degrees", "pitch": "largest, degrees",
             "roll": "largest, degrees", "expression": "strength, 0 to 1", "margin": "growth of the detector's box",
             "detect": "fraction of images that the detector frames", "clutter": "fraction with a cluttered background",
             "glasses": "fraction with glasses", "skins": "fraction of the subjects with photographed skin",
             "texture": f"of everything: {', '.join(TEXTURES)}", "poses": f"{', '.join(POSES)}: half near the front, "
             "or normal with 99.9 per cent within the angles", "shift": "of the frame, normal: 99.9 per cent within "
             "this fraction of its side", "open_mouths": "fraction of the images; -1: as expressions are drawn"}
    add_fields(parser, RenderOptions, helps)
    parser.add_argument("--buffers", default="", help=f"comma-separated, of {','.join(BUFFERS)} (default none)")
    arguments = parser.parse_args(argv)
    options = fields_of(RenderOptions, arguments)
    options["buffers"] = tuple(name for name in arguments.buffers.split(",") if name)
    return arguments, options


def _numbers(part: str | None, shards: str | None, options: RenderOptions) -> range | None:
    """Which shards --part or --shards name; None for neither. ValueError for what names none."""
    if part is None and shards is None:
        return None
    if part is not None and shards is not None:
        raise ValueError("--part and --shards say the same in two ways; give one")
    found = re.fullmatch(r"(\d{1,7})/(\d{1,7})" if part is not None else r"(\d{1,7}):(\d{1,7})", part or shards or "")
    if not found:
        raise ValueError(f"--part must be K/N, as 17/200, got {part!r}" if part is not None else
                         f"--shards must be A:B, as 0:40, got {shards!r}")
    first, second = map(int, found.groups())
    if part is not None:
        return part_of(first, second, options)
    if not first < second <= shard_count(options):
        raise ValueError(f"--shards must be within 0:{shard_count(options)}, got {shards}")
    return range(first, second)


@one_line("Dataset.shards", resumable=True)
def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 2 and one line for bad input."""
    from tqdm import tqdm

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments, options = parse(argv)
    use_face_model(arguments.face_model)
    if arguments.finalise:
        print(f"{arguments.out}: {finalise(arguments.out)} subjects")
        return 0
    rendering, bar = RenderOptions(**options), partial(tqdm, unit="shard", disable=None)
    numbers = _numbers(arguments.part, arguments.shards, rendering)
    if numbers is not None:
        made = make_part(arguments.out, rendering, numbers, arguments.workers, bar)
        print(f"{arguments.out}: shards {numbers.start} to {numbers.stop - 1}, {made} of them made now")
        return 0
    make_shards(arguments.out, rendering, arguments.workers, bar)
    print(f"{arguments.out}: {options['subjects']} subjects, {options['subjects'] * options['images']} images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
