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
           ("--aflw2000", str, None, "folder of 300W-LP or AFLW2000-3D: 68 landmarks by yaw, of --model"),
           ("--compare-subjects", int, 64, "rendered for --compare where --data names none; kept in the user's cache"),
           ("--face-model", str, None, "Basel, FLAME or ICT-FaceKit in place of the built-in face (see README)"),
           ("--iterations", int, 0, "on shards: error after each of so many passes of an iterated network"),
           ("--seed", int, 0, "of the order of images"), ("--figures", str, None, "folder for strips and error maps"))
SWITCHES = (("--curve", "of shards: error against the number of images, beside the mean of single-image faces"),
            ("--photos", "of shards: each of the first --images (default 2) pictures alone, its expression included"),
            ("--compare", "every network in the box, and --model, on the same people: two tables and a figure"),
            ("--maps", "of shards: dense predictions for the first --images (default 2) of each"),
            ("--as-published", "the generator's slip, item 0 of each batch only"),
            ("--no-surface", "leave the slow surface protocol out"))


def parse(description: str, argv: list[str] | None = None) -> argparse.Namespace:
    """The thesis's order of arguments, and the same by name. Exits with code 2 for anything else."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("thesis_order", nargs="*", metavar="BATCH IMAGES DATA MODEL [RESULTS]")
    for name, kind, default, text in OPTIONS:
        parser.add_argument(name, type=kind, default=default, help=text)
    parser.add_argument("--subjects", choices=("training", "validation", "test"), default="test")
    for name, text in SWITCHES:
        parser.add_argument(name, action="store_true", help=text)
    parser.add_argument("--table", type=int, choices=(1, 2))
    parser.add_argument("--boxes", choices=("detector", "truth"), default="detector",
                        help="of --aflw2000: who says where the face is; most published numbers have the truth's")
    parser.add_argument("--fusion", choices=("mean", "joint"), help="of coarse on shards: the mean of the photos' "
                        "identities (default), or one face fitted to where the photos' faces lie")
    arguments = parser.parse_args(argv)
    words = arguments.thesis_order
    if len(words) not in (0, 4, 5) or not all(word.isdigit() for word in words[:2]):
        parser.error("in the thesis's order: BATCH IMAGES DATA MODEL [RESULTS], the first two whole numbers")
    for name, word in zip(POSITIONAL, words):
        setattr(arguments, name, int(word) if name in POSITIONAL[:2] else word)
    if arguments.images is not None and arguments.images < 1:
        parser.error(f"--images must be at least 1, got {arguments.images}")
    if arguments.face_model:
        from Dataset.face_model.model import use_face_model
        try:
            use_face_model(arguments.face_model)
        except ValueError as error:
            parser.error(f"--face-model: {error}")
    if arguments.compare_subjects < 2:
        parser.error(f"--compare-subjects must be at least 2, got {arguments.compare_subjects}")
    if arguments.fusion and (arguments.compare or arguments.aflw2000):
        parser.error("--fusion is for the people of --data, not for --compare or --aflw2000")
    if arguments.aflw2000 and not arguments.model:
        parser.error("--aflw2000 needs --model")
    if not (arguments.table == 1 or arguments.compare or arguments.aflw2000 or arguments.data and arguments.model):
        parser.error("--data and --model are needed")
    return arguments
