"""Train a network:  python train.py DATA [--preset quick|thesis|compact|uvnet|...] [--run FOLDER] [--resume] [flags]

DATA: subject folders (python -m Dataset.synthetic, Dataset.bu4dfe; with depth Dataset.texas3d), shards (python -m
Dataset.shards), or, for compact, uvnet and pix2pix, the word live: new subjects are rendered during the training. Every
setting is a flag; --help shows the preset's values. A killed run goes on with --resume.
"""
from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from pathlib import Path

from Dataset.io.command import one_line
from Network.commands.train_options import parse
from Network.config.declared import declared
from Network.models.registry import get_network
from Network.training.processor_time import processor_seconds


def train(arguments: argparse.Namespace) -> str:
    import keras

    from Datagenerator.loading.pipeline import make_pipeline
    from Datagenerator.source import data_config, open_source
    from Dataset.face_model.model import use_face_model
    from Evaluation.figures.plots import plot_losses
    from Evaluation.views.epoch_images import EpochImages, sample_images
    from Network.config.flags import from_dict
    from Network.training import step as gradient
    from Network.training.checkpoints import RunFolder, model_from_config, predicting_model
    from Network.training.loading import freeze, warm_start
    from Network.training.presets import resolve
    from Network.training.settings import Settings, TrainConfig
    from Network.training.trainer import Trainer, fixed_epoch
    if arguments.face_model:
        use_face_model(arguments.face_model)
    run, config = RunFolder(arguments.run), resolve(arguments.preset, arguments.typed)
    resumed = arguments.resume and (run.path / "config.json").exists()
    config = run.resumed(arguments.typed) if resumed else config
    settings = from_dict(Settings, config["settings"])
    make_data = data_config(get_network(config["network"]).targets, arguments.data_folder, arguments.typed["data"])
    known = {field.name: config["data"][field.name] for field in dataclasses.fields(make_data)
             if field.name in config["data"]}       # a preset may set what another kind of data has
    data = from_dict(make_data, {**known, "seed": settings.seed})
    network = get_network(config["network"])
    with open_source(arguments.data_folder, settings.split, data, arguments.workers) as source:
        config = run.checked(config, source.about) if resumed else {
            **config, "data": dataclasses.asdict(data), "model": {**config["model"], **source.model}}
        strategy = gradient.prepare(settings)
        config["settings"]["precision"] = keras.config.dtype_policy().name      # what auto is on this machine
        with strategy.scope():
            model = model_from_config(config, strategy.num_replicas_in_sync, training=True)
            network.set_template(model, source.template)
            warm_start(model, "" if run.has_state() else settings.warm_start, settings.transfer)
            freeze(model, settings.freeze)
            step = gradient.make_step(config, model, settings, strategy)
        if not resumed and step.worker == 0:
            run.start({**config, **source.about, "data_folder": arguments.data_folder}, model)
        run.predicting = predicting_model(config)
        board, batch = gradient.summary_writer(run.path), next(iter(make_pipeline(source.validation, 0, 0)))
        predicts = network.predicting_part(model)
        images = EpochImages(run.path, lambda: sample_images(batch, predicts(batch[0], training=False)))
        history = Trainer(
            step, run, from_dict(TrainConfig, config["train"]), steps_per_epoch=len(source.training),
            training=lambda epoch, start: make_pipeline(
                source.training, epoch, start, (step.worker, step.workers, step.local_replicas)),
            validation=fixed_epoch(lambda epoch, start: make_pipeline(source.validation, epoch, start)),
            on_epoch=lambda history: (plot_losses(history, run.path / "loss.png"), board(history[-1]), images(history)),
            write=step.worker == 0, started=arguments.started,
            progress_bar=not (step.worker or arguments.quiet)).fit(resumed)
    best = min(history, key=lambda row: row["val_loss"])
    return f"{run.path}: {len(history)} epochs; best validation loss {best['val_loss']:.6g} after epoch {best['epoch']}"


@one_line("train.py")
def main(argv: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    started = processor_seconds()
    arguments = parse(argv, __doc__ or "", declared("Datagenerator.source")["DATA_CONFIGS"])
    if arguments.data_folder != "live" and not Path(arguments.data_folder).exists():
        raise ValueError(f"{arguments.data_folder}: no such folder")
    arguments.started = started
    from Network.training.trainer import NotFinite, Stopped
    try:
        print(train(arguments))
    except NotFinite as error:
        print(f"train.py: {error}; the last good weights are kept; try a smaller --learning-rate", file=sys.stderr)
        return 3
    except Stopped as error:
        print(f"train.py: {error}; saved. Go on:  python train.py {arguments.data_folder} --run {arguments.run} "
              "--resume", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
