"""Judge a model, as the thesis did and beyond:  python evaluate.py BATCH IMAGES DATA MODEL [RESULTS]

The same by name: --batch-size --images --data --model --results. `--table 1` prints the network's layers; `--table 2`
scores both checkpoints of a run folder on training and testing people, beside the thesis's four numbers; `--figures
FOLDER` draws strips and error maps. On shards of people: --curve, --photos, --maps, --iterations; `--compare` sets all
networks in the box side by side, `--aflw2000 FOLDER` judges landmarks. Every number is printed with its definition.
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
    from Datagenerator.judged import judged_config
    from Datagenerator.source import subject_samples
    from Evaluation.plots import FirstSamples
    data = judged_config(loaded.config, images=arguments.images or loaded.images, image_size=loaded.image_size,
                         points=loaded.points, batch_size=arguments.batch_size, seed=arguments.seed,
                         as_published=arguments.as_published)
    split, margin = (loaded.config.get(part, {}).get(name, other) for part, name, other in (
        ("settings", "split", "train-test"), ("model", "crop_margin", 1.0)))
    draw = FirstSamples(f"{arguments.figures}/{loaded.source.stem}_{people}", ordered) if arguments.figures else None
    for images, truths, names in subject_samples(arguments.data, people, split, data, margin):
        clouds = loaded.predict(images)
        if draw:
            draw(images, clouds, truths, names)
        yield clouds, truths, names


def judge_pixels(arguments: argparse.Namespace, loaded, title: str) -> Table:
    """--maps and --iterations: what a network says of each pixel, or after each pass, beside who does not look."""
    from Datagenerator import judged
    if arguments.iterations:
        from Evaluation.iterations import iteration_table
        from Network.coarse_stream import passes_of
        samples = judged.iteration_samples_of(arguments.data, loaded.image_size, arguments.images or 2)
        return iteration_table(passes_of(loaded, arguments.iterations), samples, title)
    if loaded.config.get("network") == "vrn":
        from Evaluation.volume_table import volume_table
        from Network.volume_fitted import heat_landmarks, sigmoid
        layers = loaded.model.output_shape[-1]
        return volume_table(judged.volumes_of(arguments.data, loaded.image_size, layers, arguments.images or 2),
                            lambda images: sigmoid(loaded.answers(images[:, None])[:, 0]), title,
                            heat_landmarks(loaded))
    from Evaluation.depth_table import depth_table
    from Evaluation.map_metrics import maps_table
    kinds = {"uvnet": (judged.maps_of, maps_table), "pix2pix": (judged.depths_of, depth_table)}
    if loaded.config.get("network") not in kinds:
        raise ValueError(f"--maps judges what {', '.join(kinds)} and vrn see; {loaded.source} is another network")
    batches, table = kinds[loaded.config["network"]]
    return table(batches(arguments.data, loaded.image_size, arguments.images or 2, loaded.config["model"]["scaling"]),
                 lambda images: loaded.answers(images[:, None])[:, 0], title)


def judge_shards(arguments: argparse.Namespace) -> Table:
    """Synthetic people: a table beside the mean face, of the people or of their photos, the curve, or all networks."""
    from Datagenerator.source import people_of
    from Evaluation.compare import compare_on
    from Evaluation.people import curve_of_people, score_people, score_photos
    from Network.compared import systems
    from Network.in_photo import photo_reader
    from Network.loading import load_model, put_together
    from Network.streaming import make_prefixes
    if arguments.compare:
        return compare_on(arguments.data, arguments.compare_people,
                          lambda margin: systems(margin, arguments.model, arguments.checkpoint), people_of,
                          arguments.images or 2, not arguments.no_surface, tqdm)
    loaded = put_together(load_model(arguments.model, arguments.checkpoint), arguments.together)
    if arguments.maps or arguments.iterations:
        return judge_pixels(arguments, loaded, f"{arguments.model} on {arguments.data}")
    scaling = loaded.config.get("model", {}).get("scaling", "minmax")
    people = people_of(arguments.data, loaded.image_size, loaded.points, scaling)
    seen = people.seed == loaded.config.get("shards", {}).get("seed")
    title = f"{arguments.model} on {arguments.data}" + (" (SEEN IN TRAINING: same seed)" if seen else "")
    if arguments.curve:
        return curve_of_people(people, make_prefixes(loaded), arguments.orders, arguments.seed, title, tqdm)
    if arguments.photos:
        return score_photos(people, photo_reader(loaded), arguments.images or 2, title, not arguments.no_surface, tqdm)
    return score_people(people, loaded.predict, arguments.images or 8, title, not arguments.no_surface, tqdm)


def judge_landmarks(arguments: argparse.Namespace) -> Table:
    """--aflw2000: the field's table of landmarks by yaw."""
    from Evaluation.landmark_table import folder_table
    from Network.landmarker import make_landmarker
    from Network.loading import load_model
    find = make_landmarker(load_model(arguments.model, arguments.checkpoint))
    return folder_table(arguments.aflw2000, find, arguments.model, arguments.boxes, tqdm)


def judge_subjects(arguments: argparse.Namespace) -> Table:
    """Subject folders: the thesis's way, one part of the people or both checkpoints on both parts."""
    from Dataset.subjects import dataset_info
    from Evaluation.evaluate_predictions import score_batches
    from Network.checkpoints import RunFolder
    from Network.loading import load_model

    def scores(people: str, checkpoint: str):
        loaded = load_model(arguments.model, checkpoint)
        ordered = loaded.order == dataset_info(arguments.data).order == "grid"
        return score_batches(predictions(arguments, loaded, people, ordered), ordered, arguments.as_published,
                             surface=not arguments.no_surface)
    if arguments.table != 2:
        return score_table(scores(arguments.people, arguments.checkpoint),
                           f"{arguments.model} on the {arguments.people} people of {arguments.data}")
    there = RunFolder(arguments.model).there(CHECKPOINTS)
    results = {(data, name): scores(PEOPLE[data], CHECKPOINTS[name]) for data in PEOPLE for name in there}
    return table2({key: result.means for key, result in results.items()}, arguments.data, *about(results))


def evaluate(arguments: argparse.Namespace) -> None:
    from Network.flops import describe
    from Network.loading import load_model, thesis_model
    if arguments.table == 1:
        table = layer_table(*describe(load_model(arguments.model).model if arguments.model else thesis_model()))
    elif arguments.aflw2000:
        table = judge_landmarks(arguments)
    elif arguments.compare or arguments.maps or (Path(arguments.data) / "shards.json").is_file():
        table = judge_shards(arguments)
    else:
        table = judge_subjects(arguments)
    written = table.write(arguments.results) if arguments.results else []
    print(table.text(), *(f"wrote {path}" for path in written), sep="\n")


if __name__ == "__main__":
    sys.exit(exit_code("evaluate.py", evaluate, parse(__doc__)))
