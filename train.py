"""Train a network on subject folders:  python train.py DATA [--preset thesis|quick] [--run FOLDER] [--resume] [flags]

DATA is a folder of subject folders (python -m Dataset.synthetic, python -m Dataset.bu4dfe). Every setting of the
network, the data and the loop is a flag; the preset gives the rest. A run that was killed goes on with --resume.
"""
from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from pathlib import Path

from Network.flags import add_flags, from_dict, given
from Network.presets import PRESETS, SHARED, resolve
from Network.settings import Settings, TrainConfig


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    from Datagenerator.dataset import DataConfig
    from Network.mobile3model import Config
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_folder", metavar="DATA", help="folder of subject folders")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="quick")
    parser.add_argument("--run", metavar="FOLDER", help="run folder; default runs/<preset>")
    parser.add_argument("--resume", action="store_true", help="go on with the run folder, or begin it")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    sections = {"settings": Settings, "train": TrainConfig, "data": DataConfig, "model": Config}
    for title, config in sections.items():
        add_flags(parser, config, title, skip=SHARED if title == "model" else ("seed",) if title == "data" else ())
    arguments = parser.parse_args(argv)
    arguments.typed = {title: given(arguments, config) for title, config in sections.items()}
    return arguments


def configure(arguments: argparse.Namespace) -> tuple[dict, bool]:
    """The run's full config, and whether it is an old run that goes on."""
    from Network.checkpoints import RunFolder
    run = RunFolder(arguments.run)
    config = resolve(arguments.preset, arguments.typed)
    resumed = arguments.resume and (run.path / "config.json").exists()
    if resumed:
        config = run.resumed(config, {k: v for part in arguments.typed.values() for k, v in part.items()})
    return config, resumed


def train(arguments: argparse.Namespace) -> None:
    config, resumed = configure(arguments)
    settings = from_dict(Settings, config["settings"])
    from Network import step as gradient                # TensorFlow is imported after bad flags were refused
    strategy = gradient.prepare(settings)
    from Datagenerator.dataset import DataConfig, SubjectSequence
    from Datagenerator.pipeline import make_pipeline
    from Evaluation.plots import plot_losses
    from Dataset.subjects import dataset_info, subjects_of
    from Network.checkpoints import RunFolder, model_from_config
    from Network.losses import LOSSES
    from Network.training import Trainer, fixed_epoch
    worker, workers = gradient.worker_of(strategy)
    data = from_dict(DataConfig, {**config["data"], "seed": settings.seed})
    people = subjects_of(arguments.data_folder, settings.split)
    training = SubjectSequence(people["training"], data)
    held_out = SubjectSequence(people["validation"], dataclasses.replace(data, seed=settings.seed + 1))
    with strategy.scope():
        model = model_from_config(config)
        optimizer = gradient.make_optimizer(settings)
    run = RunFolder(arguments.run)
    if not resumed and worker == 0:
        run.start({**config, "order": dataset_info(arguments.data_folder).order, "data_folder": arguments.data_folder,
                   "people": {name: [s.name for s in group] for name, group in people.items()}})
    board = gradient.summary_writer(run.path) if worker == 0 else None

    def on_epoch(history: list[dict]) -> None:
        plot_losses(history, run.path / "loss.png")
        board and board(history[-1])
    trainer = Trainer(
        gradient.GradientStep(model, optimizer, LOSSES[config["network"]], jit=settings.jit, strategy=strategy),
        run, from_dict(TrainConfig, config["train"]),
        training=lambda epoch, start: make_pipeline(training, epoch, start, shard=(worker, workers)),
        validation=fixed_epoch(lambda epoch, start: make_pipeline(held_out, epoch, start)),
        steps_per_epoch=len(training), on_epoch=on_epoch if worker == 0 else lambda history: None,
        write=worker == 0, progress_bar=worker == 0 and not arguments.quiet)
    history = trainer.fit(resume=resumed)
    best = min(history, key=lambda row: row["val_loss"])
    print(f"{run.path}: {len(history)} epochs; best validation loss {best['val_loss']:.6f} after epoch {best['epoch']}")


def main(argv: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = parse(argv)
    from Network.training import NotFinite, Stopped
    arguments.run = Path(arguments.run or f"runs/{arguments.preset}")
    again = f"python train.py {arguments.data_folder} --run {arguments.run} --resume"
    try:
        train(arguments)
    except ValueError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    except NotFinite as error:
        print(f"train.py: {error}; the last good weights are {arguments.run}/last.keras; try a smaller --learning-rate",
              file=sys.stderr)
        return 3
    except Stopped as error:
        print(f"train.py: stopped by {error}; saved. Go on with:  {again}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
