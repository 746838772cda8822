"""Evaluate a model:  python evaluate.py --data FOLDER --model RUN

As in the thesis:  python evaluate.py BATCH IMAGES DATA MODEL [RESULTS]. Subject folders, also --table 2; shards, also
--photos, --curve, --maps, --iterations; --compare: all bundled networks; --aflw2000, --pairs, --scans: real photos.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from Dataset.io.command import one_line
from Dataset.io.inputs import check_inputs
from Evaluation.reports.options import parse
from Evaluation.reports.tables import CHECKPOINTS, Table, layer_table, score_table, thesis_table
from Network import from_run


def load(arguments: argparse.Namespace, checkpoint: str = ""):
    """The Predictor that the command line names."""
    return from_run(arguments.model, checkpoint or arguments.checkpoint, arguments.engine, fusion=arguments.fusion)


def shards_table(arguments: argparse.Namespace) -> Table:
    """Rendered subjects: a table of subjects or photos beside the mean face, a curve, or all networks."""
    from Datagenerator import evaluation_data
    from Datagenerator.source import subject_set
    from Evaluation.reports.compare import compare_on
    from Evaluation.reports.dense import pixel_table
    from Evaluation.reports.subjects import requested_table
    from Network.commands.compared import systems
    if arguments.compare:
        return compare_on(arguments.data, arguments.compare_subjects, lambda margin: systems(
            margin, arguments.model, arguments.checkpoint, arguments.engine), subject_set, arguments.images or 2,
            not arguments.no_surface, tqdm, arguments.strata, arguments.compare_seed)
    predictor = load(arguments)
    if arguments.maps or arguments.iterations:
        return pixel_table(evaluation_data, predictor, arguments)
    return requested_table(subject_set(arguments.data, predictor.size, predictor.points), predictor, arguments, tqdm)


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
        return thesis_table(lambda part, checkpoint: scores(part, load(arguments, checkpoint)),
                            RunFolder(arguments.model).there(CHECKPOINTS), arguments.data)
    one = load(arguments)
    part = part_of(arguments.data, arguments.subjects, one.config)
    return score_table(scores(part, one), f"{arguments.model} on {arguments.data}: {part} subjects")


def evaluate(arguments: argparse.Namespace) -> None:
    """Print the requested table, and write it to --results."""
    check_inputs(filter(None, (arguments.data, arguments.aflw2000, arguments.pairs, arguments.scans)), "folder")
    if arguments.table == 1:
        from Network.inspection.flops import describe
        from Network.training.loading import load_model, thesis_model
        table = layer_table(*describe(load_model(arguments.model).model if arguments.model else thesis_model()))
    elif arguments.aflw2000 or arguments.pairs or arguments.scans:
        from Evaluation.reports.photos import photos_table
        from Network.commands.subject_faces import SubjectFaces
        table = photos_table(load(arguments), SubjectFaces, arguments, tqdm)
    else:
        shards = arguments.compare or arguments.maps or (Path(arguments.data) / "shards.json").is_file()
        table = (shards_table if shards else subjects_table)(arguments)
    written = table.write(arguments.results) if arguments.results else []
    print(table.text(), *(f"wrote {path}" for path in written), sep="\n")


@one_line("evaluate.py")
def main(argv: list[str] | None = None) -> None:
    evaluate(parse(__doc__, argv))


if __name__ == "__main__":
    sys.exit(main())
