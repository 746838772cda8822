"""UV maps evaluated pixel by pixel, with the mean map of the same images as the constant baseline."""
from __future__ import annotations

from typing import Callable, Iterable

import numpy as np

from Evaluation.metrics.uv_maps import Batch, mean_map, score_maps
from Evaluation.reports.tables import BASELINE, Table, baseline_rows

DEFINITIONS = {
    "uv_l1": "mean of |du| + |dv| over the true face's pixels, u and v in [0, 1] (the paper's sum / number of pixels)",
    "uv_cells": "mean distance over the true face's pixels, in cells of the 128x128 grid",
    "uv_median": "median of the same",
    "mask_iou": "intersection over union of the face's mask at 0.5",
    "visible_iou": "the same of the visible part of the face",
    "variance": "mean predicted variance (of a Student's t with 4 degrees, twice its squared scale) / mean squared "
                "error of u and v in the face; 1 is calibrated",
    "surprise": "mean of squared error / predicted variance; 1 is calibrated",
    "landmarks": "mean distance, % of the image's side, of the landmarks that both maps show",
    "found": "fraction of the landmarks on the true map that the predicted map shows, too"}


def maps_table(batches: Callable[[], Iterable[Batch]], predict: Callable[[np.ndarray], np.ndarray], title: str
               ) -> Table:
    """`baseline_rows` of the UV metrics.

    batches  called twice, with the same batches each time
    predict  images (B, S, S, 3) -> (B, S, S, C), as `Evaluation.metrics.uv_maps.score_map` takes it
    """
    floor = mean_map(batches())
    ours = score_maps(batches(), predict)
    baseline = score_maps(batches(), lambda images: np.repeat(floor[None], len(images), 0))
    rows = baseline_rows([scores._asdict() for scores in ours], [scores._asdict() for scores in baseline], DEFINITIONS)
    return Table(f"{title}: {len(ours)} images, per pixel", BASELINE, rows,
                 ["constant baseline: for each pixel the mean over the true maps of the evaluated images"])
