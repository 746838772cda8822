"""Judge a model, as the thesis did and beyond:  python evaluate.py BATCH IMAGES DATA MODEL [RESULTS]

The same by name: --batch-size --images --data --model --results. `--table 1` prints the network's layers; `--table 2`
scores both checkpoints of a run folder on training and testing people, beside the thesis's four numbers; `--figures
FOLDER` draws the strips of figures 24 and 25 and heat maps of the error. Every number is printed with its definition.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Iterator

from tqdm import tqdm

from Evaluation.options import parse
from Evaluation.tables import Table, about, layer_table, score_table, table2
from Network.flags import exit_code

CHECKPOINTS = {"train": "best_training", "validation": "best_validation"}
PEOPLE = {"train": "training", "test": "test"}


def predictions(arguments: argparse.Namespace, loaded, people: str, ordered: bool) -> Iterator[tuple]:
    """(predictions (B, N, 3), ground truths (B, N, 3), names) of every batch; draws the figures on the way."""
    from Datagenerator.dataset import DataConfig
    from Datagenerator.source import subject_samples
    from Evaluation.plots import FirstSamples
    trained, margin = loaded.config.get("data", {}), loaded.config.get("model", {}).get("crop_margin", 1.0)
    data = DataConfig(
        images=arguments.images or loaded.images or trained.get("images", 8), batch_size=arguments.batch_size,
        repeats=trained.get("repeats", 5) if arguments.as_published else 1, seed=arguments.seed,
        image_size=loaded.image_size, points=loaded.points, resize=trained.get("resize", margin != 1),
        normalisation=trained.get("normalisation", "unit_sphere"), as_published=arguments.as_published)
    split = loaded.config.get("settings", {}).get("split", "train-test")
    draw = FirstSamples(f"{arguments.figures}/{loaded.source.stem}_{people}", ordered) if arguments.figures else None
    for images, truths, names in subject_samples(arguments.data, people, split, data, margin):
        clouds = loaded.predict(images)
        if draw:
            draw(images, clouds, truths, names)
        yield clouds, truths, names


def judge_shards(arguments: argparse.Namespace, loaded) -> Table:
    """Synthetic people in shards: a table beside the mean face, of the people or of their photos, or the curve."""
    from Datagenerator.source import people_of
    from Evaluation.people import curve_of_people, score_people, score_photos
    from Network.streaming import make_prefixes
    people = people_of(arguments.data, loaded.image_size, loaded.points)
    seen = people.seed == loaded.config.get("shards", {}).get("seed")
    title = f"{arguments.model} on {arguments.data}" + (" (SEEN IN TRAINING: same seed)" if seen else "")
    if arguments.curve:
        return curve_of_people(people, make_prefixes(loaded), arguments.orders, arguments.seed, title, tqdm)
    if arguments.photos:
        return score_photos(people, loaded.in_photo, arguments.images or 2, title, not arguments.no_surface, tqdm)
    return score_people(people, loaded.predict, arguments.images or 8, title, not arguments.no_surface, tqdm)


def evaluate(arguments: argparse.Namespace) -> None:
    from Evaluation.evaluate_predictions import score_batches
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
    elif (Path(arguments.data) / "shards.json").is_file():
        table = judge_shards(arguments, load_model(arguments.model, arguments.checkpoint))
    else:
        table = score_table(scores(arguments.people, arguments.checkpoint),
                            f"{arguments.model} on the {arguments.people} people of {arguments.data}")
    written = table.write(arguments.results) if arguments.results else []
    print(table.text(), *(f"wrote {path}" for path in written), sep="\n")


if __name__ == "__main__":
    sys.exit(exit_code("evaluate.py", evaluate, parse(__doc__)))
