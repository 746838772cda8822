"""Dense predictions evaluated pixel by pixel, by what a system predicts."""
from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any, Callable, Iterable, Protocol

import numpy as np

from Dataset.io.images import write_image
from Dataset.representations.volume import sigmoid
from Evaluation.reports.depth import depth_table
from Evaluation.reports.iterations import iteration_table
from Evaluation.reports.tables import Table
from Evaluation.reports.uv_maps import maps_table
from Evaluation.reports.volume import volume_table
from Evaluation.views.epoch_images import sample_images


class Dense(Protocol):
    """A `Network.inference.base.Predictor`. maps: uv, depth, volume or None; answers: network inputs (B, S, S, 3) ->
    its dense predictions; heat_landmarks: () -> inputs -> landmarks (B, 68, 2), or None."""

    network: str
    source: Any
    maps: str | None
    answers: Callable[[np.ndarray], np.ndarray]
    heat_landmarks: Callable[[], Callable[[np.ndarray], np.ndarray] | None]


class PixelTargets(Protocol):
    """`Datagenerator.evaluation_data`."""

    iteration_samples_of: Callable[..., Any]
    dense_targets: Callable[..., Any]


def pixel_table(data: PixelTargets, predictor: Any, arguments: Namespace) -> Table:
    """What a command line of `Evaluation.reports.options` asks for: --maps, dense predictions beside a constant
    baseline, or --iterations, coefficients after each pass."""
    title = f"{arguments.model} on {arguments.data}"
    where = arguments.data, predictor.size, arguments.images or 2
    if arguments.iterations:
        run = predictor.run_iterations(arguments.iterations)
        return iteration_table(run, data.iteration_samples_of(*where), title, figures=arguments.figures)
    return dense_table(lambda kind: data.dense_targets(kind, *where, predictor.input_scaling, predictor.layers),
                       predictor, title, arguments.figures)


def dense_table(targets: Callable[[str], Callable[[], Iterable[Any]]], system: Dense, title: str,
                figures: str | None = None) -> Table:
    """The table of a system's dense predictions. targets: uv, depth or volume -> a callable that gives batches of
    inputs and targets, called twice, with `figures` three times. figures: a folder for one image of truth and
    prediction of each of the first images; None: none. ValueError for a system without dense predictions."""
    if system.maps is None:
        raise ValueError(f"--maps is for dense predictions; {system.network} ({system.source}) has none")
    batches = targets(system.maps)
    if figures:
        inputs, truth, *_ = next(iter(batches()))
        truth = {"volume": truth[0]} if system.maps == "volume" else truth
        for name, image in sample_images((inputs, truth), system.answers(inputs)).items():
            write_image(Path(figures) / f"{name}.png", image)
    if system.maps == "uv":
        return maps_table(batches, system.answers, title)
    if system.maps == "depth":
        return depth_table(batches, system.answers, title)
    return volume_table(batches, lambda inputs: sigmoid(system.answers(inputs)), title, system.heat_landmarks())
