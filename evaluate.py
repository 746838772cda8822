"""Evaluate a model:  python evaluate.py --data FOLDER --model RUN

As in the thesis:  python evaluate.py BATCH IMAGES DATA MODEL [RESULTS]. On subject folders: one part of the subjects,
or both checkpoints (--table 2). On shards: subjects, --photos, --curve, --maps, --iterations, --compare (all bundled).
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from Dataset.io.command import one_line
from Evaluation.reports.options import parse
from Evaluation.reports.tables import CHECKPOINTS, Table, layer_table, score_table, thesis_table
from Network import from_run


def pixel_table(arguments: argparse.Namespace, predictor, title: str) -> Table:
    """--maps and --iterations: dense predictions beside a constant baseline, or coefficients after each pass."""
    from Datagenerator import evaluation_data
    from Evaluation.reports.dense import dense_table, iteration_table
    where = arguments.data, predictor.size, arguments.images or 2
    if arguments.iterations:
        run = predictor.run_iterations(arguments.iterations)
        return iteration_table(run, evaluation_data.iteration_samples_of(*where), title, figures=arguments.figures)
    return dense_table(lambda kind: evaluation_data.dense_targets(
        kind, *where, predictor.input_scaling, predictor.layers), predictor, title, arguments.figures)


def shards_table(arguments: argparse.Namespace) -> Table:
    """Rendered subjects: a table of subjects or photos beside the mean face, a curve, or all networks."""
    from Datagenerator.source import subject_set
    from Evaluation.reports.compare import compare_on
    from Evaluation.reports.subjects import curve_of_subjects, score_photos, score_subjects
    from Network.commands.compared import systems
    surface, model, which = not arguments.no_surface, arguments.model, arguments.checkpoint
    if arguments.compare:
        return compare_on(arguments.data, arguments.compare_subjects, lambda margin: systems(margin, model, which),
                          subject_set, arguments.images or 2, surface, tqdm)
    predictor, title = from_run(model, which, fusion=arguments.fusion), f"{model} on {arguments.data}"
    if arguments.maps or arguments.iterations:
        return pixel_table(arguments, predictor, title)
    subjects = subject_set(arguments.data, predictor.size, predictor.points)
    title += " (SEEN IN TRAINING: same seed)" if subjects.seed == predictor.config.get("shards", {}).get("seed") else ""
    if arguments.curve:
        return curve_of_subjects(subjects, predictor.prefixes, arguments.orders, arguments.seed, title, tqdm)
    if arguments.photos:
        return score_photos(subjects, predictor.photo, arguments.images or 2, title, surface, tqdm)
    return score_subjects(subjects, predictor.subject, arguments.images or 8, title, surface, tqdm)


def subjects_table(arguments: argparse.Namespace) -> Table:
    """Subject folders, as in the thesis: one part of the subjects, or both checkpoints on both parts."""
    from Datagenerator.evaluation_data import part_of, predictions
    from Dataset.sources.subjects import dataset_info
    from Evaluation.evaluate_predictions import score_batches
    from Evaluation.figures.plots import FirstSamples
    from Network.training.checkpoints import RunFolder

    def scores(subjects: str, one):
        ordered = one.ordered and dataset_info(arguments.data).order == "grid"
        draw = FirstSamples(f"{arguments.figures}/{one.source.stem}_{subjects}", ordered) if arguments.figures else None
        found = predictions(one, arguments.data, subjects, draw, images=arguments.images, seed=arguments.seed,
                            batch_size=arguments.batch_size, as_published=arguments.as_published)
        return score_batches(found, ordered, arguments.as_published, not arguments.no_surface)
    if arguments.table == 2:
        return thesis_table(lambda part, checkpoint: scores(part, from_run(arguments.model, checkpoint)),
                            RunFolder(arguments.model).there(CHECKPOINTS), arguments.data)
    one = from_run(arguments.model, arguments.checkpoint)
    part = part_of(arguments.data, arguments.subjects, one.config)
    return score_table(scores(part, one), f"{arguments.model} on {arguments.data}: {part} subjects")


def evaluate(arguments: argparse.Namespace) -> None:
    """Print the requested table, and write it to --results."""
    if arguments.table == 1:
        from Network.inspection.flops import describe
        from Network.training.loading import load_model, thesis_model
        table = layer_table(*describe(load_model(arguments.model).model if arguments.model else thesis_model()))
    elif arguments.aflw2000:
        from Evaluation.reports.landmarks import folder_table
        find = from_run(arguments.model, arguments.checkpoint).landmarks_in
        table = folder_table(arguments.aflw2000, find, arguments.model, arguments.boxes, tqdm)
    else:
        shards = arguments.compare or arguments.maps or (Path(arguments.data) / "shards.json").is_file()
        table = (shards_table if shards else subjects_table)(arguments)
    written = table.write(arguments.results) if arguments.results else []
    print(table.text(), *(f"wrote {path}" for path in written), sep="\n")


@one_line("evaluate.py")
def main(argv: list[str] | None = None) -> None:
    """Run a command line, None: the process's -> 0, or 2 after one line for bad input."""
    evaluate(parse(__doc__, argv))


if __name__ == "__main__":
    sys.exit(main())
