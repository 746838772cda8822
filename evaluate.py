"""Evaluate a model, as the thesis did and beyond:  python evaluate.py BATCH IMAGES DATA MODEL [RESULTS]

The same by name: --batch-size --images --data --model --results. `--table 1` prints the network's layers; `--table 2`
scores both checkpoints of a run folder on training and testing subjects, beside the thesis's four numbers; `--figures
FOLDER` draws strips and error maps. On shards: --curve, --photos, --maps, --iterations; `--compare` sets all bundled
networks side by side, `--aflw2000 FOLDER` evaluates landmarks. Every number is printed with its definition.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from Evaluation.options import parse
from Evaluation.tables import Table, about, layer_table, score_table, table2
from Network.flags import exit_code

CHECKPOINTS = {"train": "best_training", "validation": "best_validation"}
PEOPLE = {"train": "training", "test": "test"}


def dense_table(arguments: argparse.Namespace, predictor, title: str) -> Table:
    """--maps and --iterations: dense predictions, or the coefficients after each pass, beside a constant baseline."""
    from Datagenerator import judged
    images, size = arguments.images or 2, predictor.size
    if arguments.iterations:
        from Evaluation.iterations import iteration_table
        return iteration_table(predictor.run_iterations(arguments.iterations),
                               judged.iteration_samples_of(arguments.data, size, images), title)
    from Evaluation.dense_tables import TABLES
    truths = {"uv": judged.maps_of, "depth": judged.depths_of, "volume": judged.volumes_of}
    if predictor.maps is None:
        raise ValueError(f"--maps is for dense predictions ({', '.join(truths)}); {predictor.network} "
                         f"({predictor.source}) has none")
    shape = (predictor.loaded.model.output_shape[-1],) if predictor.maps == "volume" else ()
    return TABLES[predictor.maps](truths[predictor.maps](arguments.data, size, *shape, images), predictor, title)


def shards_table(arguments: argparse.Namespace) -> Table:
    """Synthetic subjects: a table beside the mean face, of subjects or their photos, the curve, or all networks."""
    from Datagenerator.source import people_of
    from Evaluation.compare import compare_on
    from Evaluation.people import curve_of_people, score_people, score_photos
    from Network.compared import systems
    from Network.inference.registry import from_run
    surface = not arguments.no_surface
    if arguments.compare:
        return compare_on(arguments.data, arguments.compare_people,
                          lambda margin: systems(margin, arguments.model, arguments.checkpoint), people_of,
                          arguments.images or 2, surface, tqdm)
    predictor = from_run(arguments.model, arguments.checkpoint, fusion=arguments.fusion)
    title = f"{arguments.model} on {arguments.data}"
    if arguments.maps or arguments.iterations:
        return dense_table(arguments, predictor, title)
    people = people_of(arguments.data, predictor.size, predictor.points)
    title += " (SEEN IN TRAINING: same seed)" if people.seed == predictor.config.get("shards", {}).get("seed") else ""
    if arguments.curve:
        return curve_of_people(people, predictor.prefixes, arguments.orders, arguments.seed, title, tqdm)
    if arguments.photos:
        return score_photos(people, predictor.photo, arguments.images or 2, title, surface, tqdm)
    return score_people(people, predictor.subject, arguments.images or 8, title, surface, tqdm)


def subjects_table(arguments: argparse.Namespace) -> Table:
    """Subject folders: the thesis's way, one part of the subjects or both checkpoints on both parts."""
    from Datagenerator.judged import predictions
    from Dataset.subjects import dataset_info
    from Evaluation.evaluate_predictions import score_batches
    from Evaluation.plots import FirstSamples
    from Network.checkpoints import RunFolder
    from Network.inference.registry import from_run

    def scores(people: str, checkpoint: str):
        predictor = from_run(arguments.model, checkpoint)
        ordered = predictor.ordered and dataset_info(arguments.data).order == "grid"
        name = f"{arguments.figures}/{predictor.source.stem}_{people}"
        return score_batches(predictions(predictor, arguments, people, FirstSamples(name, ordered) if arguments.figures
                                         else None), ordered, arguments.as_published, surface=not arguments.no_surface)
    if arguments.table != 2:
        return score_table(scores(arguments.people, arguments.checkpoint),
                           f"{arguments.model} on the {arguments.people} people of {arguments.data}")
    there = RunFolder(arguments.model).there(CHECKPOINTS)
    results = {(data, name): scores(PEOPLE[data], CHECKPOINTS[name]) for data in PEOPLE for name in there}
    return table2({key: result.means for key, result in results.items()}, arguments.data, *about(results))


def table_of(arguments: argparse.Namespace) -> Table:
    """The table that was asked for."""
    if arguments.table == 1:
        from Network.flops import describe
        from Network.loading import load_model, thesis_model
        return layer_table(*describe(load_model(arguments.model).model if arguments.model else thesis_model()))
    if arguments.aflw2000:
        from Evaluation.landmark_table import folder_table
        from Network.inference.registry import from_run
        find = from_run(arguments.model, arguments.checkpoint).landmarks_in
        return folder_table(arguments.aflw2000, find, arguments.model, arguments.boxes, tqdm)
    shards = arguments.compare or arguments.maps or (Path(arguments.data) / "shards.json").is_file()
    return (shards_table if shards else subjects_table)(arguments)


def evaluate(arguments: argparse.Namespace) -> None:
    """Print the table, and write it where a place is named."""
    table = table_of(arguments)
    written = table.write(arguments.results) if arguments.results else []
    print(table.text(), *(f"wrote {path}" for path in written), sep="\n")


def main(argv: list[str] | None = None) -> int:
    """Run a command line; None: the process's. -> 0, or SystemExit with code 2 and one line for bad input."""
    return exit_code("evaluate.py", evaluate, parse(__doc__, argv))


if __name__ == "__main__":
    sys.exit(main())
