"""The command line of evaluate.py."""
from __future__ import annotations

import argparse

from Dataset.seeding import MAX_SEED

POSITIONAL = ("batch_size", "images", "data", "model", "results")
OPTIONS = (("--batch-size", int, 1, "samples per batch of subject folders; default 1"),
           ("--images", int, None, "images per sample, or per subject of shards; default the run's, else 8 (2 with "
                                   "--photos, --maps, --iterations and --compare)"),
           ("--data", str, None, "folder of subject folders, or of shards"),
           ("--orders", int, 20, "random orders of each subject's images, for --curve; default 20"),
           ("--model", str, None, "run folder, .keras or .h5 file, or the name of a bundled network"),
           ("--results", str, None, "write RESULTS.txt, .csv and .md"),
           ("--checkpoint", str, "best_validation", "best_validation (default), best_training or last of a run folder"),
           ("--aflw2000", str, None, "68 landmarks of --model by yaw, on a folder of 300W-LP or AFLW2000-3D"),
           ("--pairs", str, None, "folder of photos named SUBJECT_anything: is a photo's face nearest to its own "
                                  "subject's?"),
           ("--scans", str, None, "folder of subjects, each photos and one scan (.ply .obj .stl .wrl), perhaps with "
                                  "landmarks.pts: errors in mm and %%, beside the mean face's"),
           ("--compare-subjects", int, 64, "subjects that are rendered for --compare without --data; default 64"),
           ("--compare-seed", int, 9001, "of these subjects; default 9001: its first 64 are the frozen test subjects"),
           ("--face-model", str, None, "file of a Basel, FLAME or ICT-FaceKit model, in place of the built-in one"),
           ("--iterations", int, 0, "on shards: error of an iterative network after each of so many passes"),
           ("--seed", int, 0, "of the order of images; default 0"),
           ("--figures", str, None, "folder for figures: of subject folders a strip and an error map per subject; with "
                                    "--maps and --iterations truth and prediction of the first images; of --scans "
                                    "heat maps"))
LIMITS = {"batch_size": (1, 4096), "images": (1, 1000), "orders": (1, 10_000), "compare_subjects": (2, 100_000),
          "compare_seed": (0, MAX_SEED), "iterations": (0, 1000), "seed": (0, MAX_SEED)}
SWITCHES = (("--curve", "on shards: error against the number of images, beside the mean of single-image faces"),
            ("--photos", "on shards: each image alone, with its expression; of --scans: each photo alone"),
            ("--compare", "all bundled networks, and --model, on the same subjects: two tables and a figure"),
            ("--strata", "of --compare: also by yaw, glasses, light, hidden part, skin tone, age, sex and beard"),
            ("--maps", "on shards: dense predictions per pixel or voxel"),
            ("--as-published", "only item 0 of each batch, as the thesis's code does"),
            ("--no-surface", "without the surface protocol, which takes most of the time"))


def parse(description: str, argv: list[str] | None = None) -> argparse.Namespace:
    """Parse a command line, positional as in the thesis or by name. Exits with code 2 for a bad one."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("thesis_order", nargs="*", metavar="BATCH IMAGES DATA MODEL [RESULTS]")
    for name, kind, default, text in OPTIONS:
        parser.add_argument(name, type=kind, default=default, help=text)
    parser.add_argument("--subjects", choices=("training", "validation", "test", "all"),
                        help="part of the subjects in subject folders; default test, or all where the folder names no "
                        "parts and the model was not trained on it")
    for name, text in SWITCHES:
        parser.add_argument(name, action="store_true", help=text)
    parser.add_argument("--table", type=int, choices=(1, 2),
                        help="1: the network's layers; 2: both checkpoints of a run beside the thesis's numbers")
    parser.add_argument("--boxes", choices=("detector", "truth"), default="detector",
                        help="of --aflw2000: box of the detector (default) or of the true landmarks, as in most papers")
    parser.add_argument("--scan-unit", choices=("mm", "cm", "m"), default="mm", help="of the scans' coordinates; "
                        "default mm")
    parser.add_argument("--engine", choices=("onnxruntime", "keras"), help="what runs the network; default onnxruntime "
                        "for bundled and packed networks, keras for run folders")
    parser.add_argument("--fusion", choices=("mean", "joint"), help="of coarse on shards: the mean of the photos' "
                        "identities (default), or one face fitted jointly to all photos")
    arguments = parser.parse_args(argv)
    words = arguments.thesis_order
    if len(words) not in (0, 4, 5) or not all(word.isascii() and word.isdigit() for word in words[:2]):
        parser.error("in the thesis's order: BATCH IMAGES DATA MODEL [RESULTS], the first two whole numbers")
    for name, word in zip(POSITIONAL, words):
        setattr(arguments, name, int(word) if name in POSITIONAL[:2] else word)
    for name, (least, most) in LIMITS.items():
        value = getattr(arguments, name)
        if value is not None and not least <= value <= most:
            parser.error(f"--{name.replace('_', '-')} must be within {least} to {most}, got {value}")
    if arguments.face_model:
        from Dataset.face_model.model import use_face_model
        try:
            use_face_model(arguments.face_model)
        except ValueError as error:
            parser.error(f"--face-model: {error}")
    _check(parser, arguments)
    return arguments


def _check(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Exits with code 2 where one flag needs or excludes another."""
    photos = [name for name in ("aflw2000", "pairs", "scans") if getattr(arguments, name)]
    if len(photos) > 1:
        parser.error(f"--{photos[0]} and --{photos[1]} are two evaluations: run them one after the other")
    if arguments.fusion and (arguments.compare or arguments.aflw2000):
        parser.error("--fusion is for the subjects of --data, not for --compare or --aflw2000")
    if arguments.strata and not arguments.compare:
        parser.error("--strata is of --compare")
    if photos and not arguments.model:
        parser.error(f"--{photos[0]} needs --model")
    if not (arguments.table == 1 or arguments.compare or photos or arguments.data and arguments.model):
        parser.error("--data and --model are needed")
