"""The command line of evaluate.py."""
from __future__ import annotations

import argparse

POSITIONAL = ("batch_size", "images", "data", "model", "results")
OPTIONS = (("--batch-size", int, 1, "samples of a batch; default 1"),
           ("--images", int, None, "images of a sample; default the run's, else 8"),
           ("--data", str, None, "folder of subject folders, or of shards"),
           ("--orders", int, 20, "of each person's images, for --curve"),
           ("--model", str, None, "run folder, .keras or .h5 file"),
           ("--results", str, None, "write RESULTS.txt, .csv and .md"),
           ("--checkpoint", str, "best_validation", "which weights of a run folder"),
           ("--seed", int, 0, "of the order of images"), ("--figures", str, None, "folder for strips and error maps"))
SWITCHES = (("--curve", "of shards: error against the number of images, beside the mean of single-image faces"),
            ("--photos", "of shards: each of the first --images (default 2) pictures alone, its expression included"),
            ("--as-published", "the generator's slip, item 0 of each batch only"),
            ("--no-surface", "leave the slow surface protocol out"))


def parse(description: str, argv: list[str] | None = None) -> argparse.Namespace:
    """The thesis's order of arguments, and the same by name. Exits with code 2 for anything else."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("thesis_order", nargs="*", metavar="BATCH IMAGES DATA MODEL [RESULTS]")
    for name, kind, default, text in OPTIONS:
        parser.add_argument(name, type=kind, default=default, help=text)
    parser.add_argument("--people", choices=("training", "validation", "test"), default="test")
    for name, text in SWITCHES:
        parser.add_argument(name, action="store_true", help=text)
    parser.add_argument("--table", type=int, choices=(1, 2))
    arguments = parser.parse_args(argv)
    words = arguments.thesis_order
    if len(words) not in (0, 4, 5) or not all(word.isdigit() for word in words[:2]):
        parser.error("in the thesis's order: BATCH IMAGES DATA MODEL [RESULTS], the first two whole numbers")
    for name, word in zip(POSITIONAL, words):
        setattr(arguments, name, int(word) if name in POSITIONAL[:2] else word)
    if arguments.images is not None and arguments.images < 1:
        parser.error(f"--images must be at least 1, got {arguments.images}")
    if arguments.table != 1 and not (arguments.data and arguments.model):
        parser.error("--data and --model are needed")
    return arguments
