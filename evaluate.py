"""Judge a model, as the thesis did and beyond:  python evaluate.py BATCH IMAGES DATA MODEL [RESULTS]

The same by name: --batch-size --images --data --model --results. `--table 1` prints the network's layers; `--table 2`
scores both checkpoints of a run folder on training and testing people, beside the thesis's four numbers; `--figures
FOLDER` draws the strips of figures 24 and 25 and heat maps of the error. Every number is printed with its definition.
"""
from __future__ import annotations

import argparse
import sys
from typing import Iterator

from Network.flags import exit_code

POSITIONAL = ("batch_size", "images", "data", "model", "results")
OPTIONS = (("--batch-size", int, 1, "samples of a batch; default 1"),
           ("--images", int, None, "images of a sample; default the run's, else 8"),
           ("--data", str, None, "folder of subject folders"),
           ("--model", str, None, "run folder, .keras or .h5 file"),
           ("--results", str, None, "write RESULTS.txt, .csv and .md"),
           ("--checkpoint", str, "best_validation", "which weights of a run folder"),
           ("--seed", int, 0, "of the order of images"), ("--figures", str, None, "folder for strips and error maps"))
SWITCHES = (("--as-published", "the generator's slip, item 0 of each batch only"),
            ("--no-surface", "leave the slow surface protocol out"))
CHECKPOINTS = {"train": "best_training", "validation": "best_validation"}
PEOPLE = {"train": "training", "test": "test"}


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
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
    if arguments.table != 1 and not (arguments.data and arguments.model):
        parser.error("--data and --model are needed")
    return arguments


def predictions(arguments: argparse.Namespace, loaded, people: str, ordered: bool) -> Iterator[tuple]:
    """(predictions (B, N, 3), ground truths (B, N, 3), names) of every batch; draws the figures on the way."""
    from Datagenerator.dataset import DataConfig, SubjectSequence
    from Dataset.subjects import subjects_of
    from Evaluation.plots import plot_sample
    trained = loaded.config.get("data", {})
    data = DataConfig(
        images=arguments.images or loaded.images or trained.get("images", 8), batch_size=arguments.batch_size,
        repeats=trained.get("repeats", 5) if arguments.as_published else 1, seed=arguments.seed,
        image_size=loaded.image_size, points=loaded.points, resize=trained.get("resize", False),
        normalisation=trained.get("normalisation", "unit_sphere"), as_published=arguments.as_published)
    split = loaded.config.get("settings", {}).get("split", "train-test")
    sequence, drawn = SubjectSequence(subjects_of(arguments.data, split)[people], data), set()
    for index in range(len(sequence)):
        (images, truths), names = sequence.batch(0, index), sequence.names(0, index)
        clouds = loaded.predict(images)
        for image, cloud, truth, name in zip(images, clouds, truths, names) if arguments.figures else ():
            if name not in drawn:
                plot_sample(image, cloud, truth, f"{arguments.figures}/{loaded.source.stem}_{people}_{name}", ordered)
                drawn.add(name)
        yield clouds, truths, names


def evaluate(arguments: argparse.Namespace) -> None:
    from Evaluation.evaluate_predictions import score_batches
    from Evaluation.tables import about, layer_table, score_table, table2
    from Dataset.subjects import dataset_info
    from Network.checkpoints import RunFolder
    from Network.flops import describe
    from Network.loading import load_model, thesis_model

    def scores(people: str, checkpoint: str):
        loaded = load_model(arguments.model, checkpoint)
        ordered = loaded.order == dataset_info(arguments.data).order == "grid"
        return score_batches(predictions(arguments, loaded, people, ordered), ordered, arguments.as_published,
                             surface=not arguments.no_surface)
    if arguments.table == 1:
        table = layer_table(*describe(load_model(arguments.model).model if arguments.model else thesis_model()))
    elif arguments.table == 2:
        there = RunFolder(arguments.model).there(CHECKPOINTS)
        results = {(data, name): scores(PEOPLE[data], CHECKPOINTS[name]) for data in PEOPLE for name in there}
        table = table2({key: result.means for key, result in results.items()}, arguments.data, *about(results))
    else:
        table = score_table(scores(arguments.people, arguments.checkpoint),
                            f"{arguments.model} on the {arguments.people} people of {arguments.data}")
    written = table.write(arguments.results) if arguments.results else []
    print(table.text(), *(f"wrote {path}" for path in written), sep="\n")


if __name__ == "__main__":
    sys.exit(exit_code("evaluate.py", evaluate, parse()))
