"""UV maps evaluated pixel by pixel, beside the mean map of the same images."""
from __future__ import annotations

from typing import Callable, Iterable

import numpy as np

from Evaluation.metrics.uv_maps import Batch, MapScores, mean_map, score_maps
from Evaluation.reports.tables import Cell, Table

DEFINITIONS = {
    "uv_l1": "mean of |du| + |dv| over the true face's pixels, sides of the atlas (the paper's sum over their number)",
    "uv_cells": "mean distance over the true face's pixels, in cells of the 128x128 grid",
    "uv_median": "median of the same",
    "mask_iou": "intersection over union of the face's mask at 0.5",
    "visible_iou": "the same of the face that nothing hides",
    "variance": "mean predicted variance (of a Student's t with 4 degrees, twice its squared scale) over mean squared "
                "error of u and v in the face; 1 is calibrated",
    "surprise": "mean of squared error over predicted variance; 1 is calibrated",
    "landmarks": "where the map shows the landmarks' places, % of the picture's side, of those that both maps show",
    "found": "share of the landmarks on the true map that the predicted one shows"}


def maps_table(batches: Callable[[], Iterable[Batch]], answers: Callable[[np.ndarray], np.ndarray], title: str
               ) -> Table:
    """A row for each number: the mean over the pictures that have it, that of the mean map, and over how many pictures;
    batches: called twice, the same both times."""
    floor = mean_map(batches())

    ours = score_maps(batches(), answers)
    theirs = score_maps(batches(), lambda images: np.repeat(floor[None], len(images), 0))
    rows: list[list[Cell]] = []
    for i, name in enumerate(MapScores._fields):
        mine, other = (np.array([row[i] for row in table]) for table in (ours, theirs))
        known = np.isfinite(mine)
        if known.any():
            floored = other[np.isfinite(other)]
            rows.append([name, float(mine[known].mean()), float(floored.mean()) if len(floored) else float("nan"),
                         int(known.sum()), DEFINITIONS[name]])
    notes = ["mean map: of each pixel the mean over these very pictures' true maps, the same for every picture"]
    return Table(f"{title}: {len(ours)} pictures, pixel by pixel", ["metric", "model", "mean map", "pictures",
                                                                    "definition"], rows, notes)
