"""Train a network:  python train.py DATA [--preset quick|thesis|compact|uvnet|...] [--run FOLDER] [--resume] [flags]

DATA: subject folders (python -m Dataset.synthetic, Dataset.bu4dfe; with depth, Dataset.texas3d), shards (python -m
Dataset.shards), for compact also the word live: ever new people are rendered meanwhile. Every
setting is a flag, shown with the network's default; the default preset is quick. A killed run goes on with --resume.
"""
from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from pathlib import Path

from Network import get_network
from Network.flags import add_flags, from_dict, given
from Network.processor_time import processor_seconds
from Network.presets import PRESETS, SHARED, chosen_preset, resolve
from Network.settings import Settings, TrainConfig


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    from Datagenerator.source import DATA_CONFIGS
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_folder", metavar="DATA", help="subject folders, shards, or live")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="quick")
    parser.add_argument("--run", metavar="FOLDER", type=Path, default=Path(f"runs/{chosen_preset(argv)}"))
    parser.add_argument("--resume", action="store_true", help="go on with the run folder, or begin it")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that render for DATA live (cores but one)")
    parser.add_argument("--face-model", metavar="FILE", help="Basel, FLAME or ICT-FaceKit: who was drawn")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    network = PRESETS[chosen_preset(argv)]["network"]       # it decides which flags there are
    sections = {"settings": Settings, "train": TrainConfig, "data": DATA_CONFIGS[network],
                "model": get_network(network).Config}
    for title, config in sections.items():
        add_flags(parser, config, title, skip=SHARED if title == "model" else ("seed",) if title == "data" else ())
    arguments = parser.parse_args(argv)
    arguments.typed = {title: given(arguments, config) for title, config in sections.items()}
    for part, shared in (("data", "seed"), *(("model", name) for name in SHARED)):
        arguments.typed[part].pop(shared, None)     # one flag, one home: the model's sizes follow the data's
    return arguments


def train(arguments: argparse.Namespace) -> str:
    import keras

    from Datagenerator.pipeline import make_pipeline
    from Datagenerator.source import data_config, open_source
    from Dataset.face_model import use_face_model
    from Evaluation.epoch_images import EpochImages, batch_pictures
    from Evaluation.plots import plot_losses
    from Network import step as gradient
    from Network.checkpoints import RunFolder, model_from_config
    from Network.loading import begin_with, freeze
    from Network.training import Trainer, fixed_epoch
    if arguments.face_model:
        use_face_model(arguments.face_model)
    run, config = RunFolder(arguments.run), resolve(arguments.preset, arguments.typed)
    resumed = arguments.resume and (run.path / "config.json").exists()
    config = run.resumed(arguments.typed) if resumed else config
    settings = from_dict(Settings, config["settings"])
    make_data = data_config(config["network"], arguments.data_folder, arguments.typed["data"])
    known = {name: value for name, value in config["data"].items() if hasattr(make_data, name)}     # a preset's, too
    data = from_dict(make_data, {**known, "seed": settings.seed})
    with open_source(arguments.data_folder, settings.split, data, arguments.workers) as source:
        config = run.checked(config, source.about) if resumed else {
            **config, "data": dataclasses.asdict(data), "model": {**config["model"], **source.model}}
        strategy = gradient.prepare(settings)
        config["settings"]["precision"] = keras.config.dtype_policy().name      # what auto is on this machine
        with strategy.scope():
            model = model_from_config(config, strategy.num_replicas_in_sync, training=True)
            begin_with(model, "" if run.has_state() else settings.init, settings.take)
            getattr(get_network(config["network"]), "set_template", lambda *_: None)(model, source.template)
            freeze(model, settings.freeze)
            step = gradient.make_step(config, model, settings, strategy)
        if not resumed and step.worker == 0:
            run.start({**config, **source.about, "data_folder": arguments.data_folder})
        board, look = gradient.summary_writer(run.path), next(iter(make_pipeline(source.validation, 0, 0)))
        predicts = getattr(get_network(config["network"]), "inference", lambda model: model)(model)
        images = EpochImages(run.path, lambda: batch_pictures(look, predicts(look[0], training=False)))
        history = Trainer(
            step, run, from_dict(TrainConfig, config["train"]), steps_per_epoch=len(source.training),
            training=lambda epoch, start: make_pipeline(
                source.training, epoch, start, (step.worker, step.workers, step.local_replicas)),
            validation=fixed_epoch(lambda epoch, start: make_pipeline(source.validation, epoch, start)),
            on_epoch=lambda history: (plot_losses(history, run.path / "loss.png"), board(history[-1]), images(history)),
            write=step.worker == 0, started=arguments.started, progress_bar=not (step.worker or arguments.quiet)).fit(resumed)
    best = min(history, key=lambda row: row["val_loss"])
    return f"{run.path}: {len(history)} epochs; best validation loss {best['val_loss']:.6g} after epoch {best['epoch']}"


def main(argv: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    started = processor_seconds()
    arguments = parse(argv)
    arguments.started = started
    from Network.training import NotFinite, Stopped
    try:
        print(train(arguments))
    except (ValueError, OSError, NotFinite, Stopped) as error:
        more = {NotFinite: "; the last good weights are kept; try a smaller --learning-rate",
                Stopped: f"; saved. Go on:  python train.py {arguments.data_folder} --run {arguments.run} --resume"}
        print(f"train.py: {error}{more.get(type(error), '')}", file=sys.stderr)
        return {NotFinite: 3, Stopped: 130}.get(type(error), 2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
