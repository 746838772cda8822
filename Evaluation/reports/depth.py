"""Depth maps judged pixel by pixel, beside the mean map of the same pictures."""
from __future__ import annotations

from typing import Any, Callable, Iterable

import numpy as np

from Dataset.representations.depth import DISTANCE, RANGE, DepthRange, decode_depth
from Evaluation.metrics.depth import DEPTH_METRICS, depth_scores
from Evaluation.reports.tables import Cell, Table

#: images (B, S, S, 3), {"depth": (B, S, S, 1) in [-1, 1], "side": mm that a picture shows from side to side, if known}
Batch = tuple[np.ndarray, dict[str, Any]]
ALIGNMENT = "offset"        # a crop does not tell how far away the face is


def mean_depth(batches: Iterable[Batch]) -> np.ndarray:
    """What a network that does not look could say (S, S) float64 mm: of each pixel the mean depth of the pictures that
    have one there, NaN where most have none. ValueError for no pictures."""
    total: np.ndarray | None = None
    shown, count = np.zeros(()), 0
    for _, maps in batches:
        depth = np.stack([decode_depth(values, _limits(maps)) for values in maps["depth"]]).astype(np.float64)
        known, count = np.isfinite(depth), count + len(depth)
        total = np.where(known, depth, 0).sum(0) + (0 if total is None else total)
        shown = known.sum(0) + shown
    if total is None:
        raise ValueError("no pictures to take a mean depth of")
    return np.where(2 * shown >= count, total / np.maximum(shown, 1), np.nan)


def depth_table(batches: Callable[[], Iterable[Batch]], answers: Callable[[np.ndarray], np.ndarray], title: str
                ) -> Table:
    """A row for each metric of `DEPTH_METRICS`: the mean over the pictures that have it, that of the mean map, and over
    how many pictures. batches: called twice, the same both times; answers: images (B, S, S, 3) -> (B, S, S, 1) in
    [-1, 1]. Where batches do not say what a picture shows, the unit is the millimetre of a face of usual size."""
    floor, ours, theirs = mean_depth(batches()), [], []
    for images, maps in batches():
        for output, values in zip(answers(images), maps["depth"]):
            truth = decode_depth(values, _limits(maps))
            ours.append(depth_scores(decode_depth(np.asarray(output, np.float32), _limits(maps)), truth, ALIGNMENT))
            theirs.append(depth_scores(floor, truth, ALIGNMENT))
    rows: list[list[Cell]] = []
    for name, metric in DEPTH_METRICS.items():
        mine, other = (np.array([scores[name] for scores in table]) for table in (ours, theirs))
        known = np.isfinite(mine)
        means = [float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else float("nan")
                 for values in (mine, other)]
        rows.append([name, *means, int(known.sum()), metric.definition.replace("the maps' unit", "mm")])
    notes = ["depths of one picture are compared after a shift along the view, the median difference",
             "mean map: of each pixel the mean over these very pictures' true maps, the same for every picture"]
    return Table(f"{title}: {len(ours)} pictures, pixel by pixel, mm", ["metric", "model", "mean map", "pictures",
                                                                        "definition"], rows, notes)


def _limits(maps: dict[str, Any]) -> DepthRange:
    """A value's range is one side of its picture (Dataset/representations/depth.py)."""
    return DepthRange(DISTANCE, DISTANCE + maps.get("side", RANGE))
