"""Align, then measure: the thesis's number, what it leaves out, and how samples become one row of a table.

The thesis evaluates (appendix B-6) by a rigid ICP without scale and the mean one-way distance prediction -> ground
truth over the ground truth's bounding-box diagonal. That number rewards collapse, so `evaluate` always gives the
reverse distance, the Chamfer distance, point-to-point where the order corresponds, and the surface protocol beside it.

Left out: the published code drops the first points of the larger cloud before its ICP, which wants equal sizes.
"""
from __future__ import annotations

import math
from typing import Callable, Iterable, NamedTuple

import numpy as np

from Dataset.geometry.transforms import as_points, umeyama
from Evaluation.icp import icp
from Evaluation.metrics.distances import METRICS, bounding_box_diagonal, mse, nearest_distances, point_to_point
from Evaluation.metrics.surface import Crop, surface_scores

MAX_ITERATIONS = 100
TOLERANCE = 1e-4


def apply_homogenous_tform(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A homogeneous matrix (4, 4) applied to points (N, 3) -> (N, 3) float64, under the name that the listing imports
    (B-7). ValueError for other shapes."""
    transform = np.asarray(transform, np.float64)
    if transform.shape != (4, 4):
        raise ValueError(f"transform must be (4, 4), got {transform.shape}")
    return as_points(points) @ transform[:3, :3].T + transform[:3, 3]


class Scores(NamedTuple):
    """The numbers of one pair; NaN is "not measured". The first four are fractions of the ground truth's diagonal,
    the `surface_` ones per cent of it, `mse` in the clouds' unit squared."""

    nme: float
    reverse: float
    chamfer: float
    point_to_point: float
    surface_forward: float
    surface_reverse: float
    surface_chamfer: float
    surface_nearest: float
    mse: float


class Row(NamedTuple):
    """One scored sample."""

    id: str
    scores: Scores


class Results(NamedTuple):
    """What `score_batches` found.

    rows         one per scored sample, in order
    means        name -> mean over the rows that have the number (NaN when none has)
    counts       name -> how many rows have it
    skipped      (id, reason) per sample that could not be scored, in order
    definitions  name -> direction, alignment, normaliser, points, samples scored and skipped
    """

    rows: list[Row]
    means: dict[str, float]
    counts: dict[str, int]
    skipped: list[tuple[str, str]]
    definitions: dict[str, str]


def prediction_evaluator(max_iterations: int = MAX_ITERATIONS, tolerance: float = TOLERANCE,
                         workers: int = -1) -> Callable[[np.ndarray, np.ndarray], float]:
    """The thesis's metric as a callable (predicted (N, 3), ground truth (M, 3)) -> float, a fraction.

    Rigid ICP without scale (at most 100 iterations, tolerance 1e-4), then the mean distance from every predicted point
    to its nearest ground truth point over the ground truth's bounding-box diagonal. The tolerance is absolute: meant
    for clouds in the unit sphere. workers: threads, -1 for all cores (the number is the same). The callable raises
    ValueError for an empty or non-finite cloud, another shape, or a ground truth without extent.
    """
    def evaluator(predicted: np.ndarray, ground_truth: np.ndarray) -> float:
        diagonal = bounding_box_diagonal(ground_truth)
        aligned = icp(predicted, ground_truth, max_iterations, tolerance, workers=workers)
        return float(aligned.distances.mean()) / diagonal
    return evaluator


def evaluate(predicted: np.ndarray, ground_truth: np.ndarray, ordered: bool, surface: bool = True,
             crop: Crop | None = None, starts: str = "upright", whole: np.ndarray | None = None) -> Scores:
    """Every number of one pair: (N, 3) and (M, 3), any sizes, one unit.

    ordered  point i of the prediction is meant to be point i of the ground truth (then N must be M)
    surface  False leaves the slow protocol (about 0.7 s a pair) out: its numbers are NaN
    crop, starts  for the protocol, see Evaluation/metrics/surface.py
    whole    (K, 3): a larger surface of which the ground truth is the part that must be found; what is predicted is
             aligned and compared with all of it, the ground truth with what is predicted

    ValueError as `prediction_evaluator` says, and when `ordered` clouds differ in size.
    """
    predicted, truth = as_points(predicted, "prediction"), as_points(ground_truth, "ground truth")
    diagonal = bounding_box_diagonal(truth)
    if ordered and len(predicted) != len(truth):
        raise ValueError("ordered clouds correspond point by point: want equal sizes, "
                         f"got {len(predicted)} predicted and {len(truth)} true points")
    aligned = icp(predicted, truth if whole is None else whole, MAX_ITERATIONS, TOLERANCE)
    forward = float(aligned.distances.mean()) / diagonal
    back = float(nearest_distances(truth, aligned.transform.apply(predicted)).mean()) / diagonal
    by_index = math.nan
    if ordered:
        by_index = point_to_point(umeyama(predicted, truth, with_scale=False).apply(predicted), truth)
    strict = (math.nan,) * 4
    if surface:
        strict = surface_scores(predicted, truth, crop, starts, whole)[:4]
    loss = mse(predicted, truth) if len(predicted) == len(truth) else math.nan
    return Scores(forward, back, 0.5 * (forward + back), by_index, *strict, loss)


def score_batches(batches: Iterable[tuple], ordered: bool,
                  as_published: bool = False, surface: bool = True, starts: str = "upright") -> Results:
    """Score batches of (predictions (B, N, 3), ground truths (B, M, 3), B ids[, B wholes (K, 3)]).

    as_published  only item 0 of every batch is scored, as the thesis's evaluate.py does (listing B-7); how many were
                  left out so is part of the definitions
    others        as in `evaluate`

    A sample whose prediction or ground truth cannot be measured (not finite, no extent) is counted in `skipped` with
    the reason. ValueError when a batch's parts differ in length, or there is no batch.
    """
    rows: list[Row] = []
    skipped: list[tuple[str, str]] = []
    left_out, sizes, count = 0, set(), 0
    for predictions, targets, ids, *more in batches:
        if not len(predictions) == len(targets) == len(ids):
            raise ValueError("batch: want as many predictions as ground truths and ids, "
                             f"got {len(predictions)}, {len(targets)} and {len(ids)}")
        count += 1
        used = min(1, len(ids)) if as_published else len(ids)
        left_out += len(ids) - used
        wholes = more[0] if more else [None] * len(ids)
        for predicted, truth, name, whole in zip(predictions[:used], targets[:used], ids[:used], wholes):
            try:
                rows.append(Row(str(name), evaluate(predicted, truth, ordered, surface, starts=starts, whole=whole)))
                sizes.add((len(predicted), len(truth)))
            except ValueError as error:
                skipped.append((str(name), str(error)))
    if not count:
        raise ValueError("score: want at least one batch, got none")
    means, counts = {}, {}
    for field in Scores._fields:
        values = np.array([getattr(row.scores, field) for row in rows], np.float64)
        values = values[~np.isnan(values)]
        counts[field] = len(values)
        means[field] = float(values.mean()) if len(values) else math.nan
    scope = _scope(len(rows), skipped, left_out, sizes)
    return Results(rows, means, counts, skipped, {name: f"{text}; {scope}" for name, text in DEFINITIONS.items()})


_RIGID = f"aligned by rigid ICP without scale (at most {MAX_ITERATIONS} iterations, tolerance {TOLERANCE:g})"
_STRICT = ("to the local surface; aligned by similarity (scale, rotation, shift) with symmetric trimmed ICP; mean / "
           "diagonal of the ground truth's bounding box, in %")
#: name -> direction, alignment, normaliser of each of `Scores`
DEFINITIONS = {
    "nme": f"{METRICS['nme'].definition}; {_RIGID}; the thesis's published number, which rewards collapse",
    "reverse": f"{METRICS['reverse'].definition}; {_RIGID}",
    "chamfer": f"{METRICS['chamfer'].definition}; {_RIGID}",
    "point_to_point": f"{METRICS['point_to_point'].definition}; aligned by the best rigid motion over these pairs; "
                      "only where the order corresponds",
    "surface_forward": f"prediction -> ground truth, {_STRICT}",
    "surface_reverse": f"ground truth -> prediction, {_STRICT}",
    "surface_chamfer": "(surface_forward + surface_reverse) / 2, in %",
    "surface_nearest": "as surface_chamfer, to the nearest point instead of the local surface, in %",
    "mse": f"{METRICS['mse'].definition}; not aligned: the training loss",
}


def _range(counts: Iterable[int]) -> str:
    """"7" or "3 to 7"."""
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least} to {most}"


def _scope(scored: int, skipped: list[tuple[str, str]], left_out: int, sizes: set[tuple[int, int]]) -> str:
    points = "{} predicted and {} true points".format(*map(_range, zip(*sizes))) if sizes else "no points"
    text = f"{points}; {scored} samples scored, {len(skipped)} skipped"
    return text + (f", {left_out} left out (item 0 of each batch only, as published)" if left_out else "")
