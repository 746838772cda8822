"""Depth maps evaluated pixel by pixel, with the mean map of the same images as the constant baseline."""
from __future__ import annotations

from typing import Any, Callable, Iterable

import numpy as np

from Dataset.representations.depth import DISTANCE, RANGE, DepthRange, decode_depth
from Evaluation.metrics.depth import DEPTH_METRICS, depth_scores, mae_of_face
from Evaluation.reports.tables import BASELINE, Table, baseline_rows

#: images (B, S, S, 3), {"depth": (B, S, S, 1) in [-1, 1], "side": width of the image in mm, if known}
Batch = tuple[np.ndarray, dict[str, Any]]
ALIGNMENT = "offset"        # a crop does not determine the distance of the face
FACE = "mae_of_face"        # the row without alignment


def mean_depth(batches: Iterable[Batch]) -> np.ndarray:
    """The constant baseline (S, S) float64 mm: for each pixel the mean depth of the images that have one there, NaN
    where most have none. ValueError for no images."""
    total: np.ndarray | None = None
    shown, count = np.zeros(()), 0
    for _, maps in batches:
        depth = np.stack([decode_depth(values, _limits(maps)) for values in maps["depth"]]).astype(np.float64)
        known, count = np.isfinite(depth), count + len(depth)
        total = np.where(known, depth, 0).sum(0) + (0 if total is None else total)
        shown = known.sum(0) + shown
    if total is None:
        raise ValueError("a mean depth needs at least one image, got none")
    return np.where(2 * shown >= count, total / np.maximum(shown, 1), np.nan)


def depth_table(batches: Callable[[], Iterable[Batch]], predict: Callable[[np.ndarray], np.ndarray], title: str
                ) -> Table:
    """`baseline_rows` of `DEPTH_METRICS`, in mm; of a face of average size where the batches have no "side".

    batches  called twice, with the same batches each time
    predict  images (B, S, S, 3) -> (B, S, S, 1) in [-1, 1]
    """
    floor, ours, baseline = mean_depth(batches()), [], []
    for images, maps in batches():
        limits = _limits(maps)
        for output, values in zip(predict(images), maps["depth"]):
            truth = decode_depth(values, limits)
            for depth, scores in ((decode_depth(np.asarray(output, np.float32), limits), ours), (floor, baseline)):
                scores.append({**depth_scores(depth, truth, ALIGNMENT), FACE: mae_of_face(depth, truth, limits.far)})
    definitions = {name: metric.definition for name, metric in DEPTH_METRICS.items()}
    definitions[FACE] = ("mean |predicted - true depth| over all pixels of the true face, nothing removed; the far end "
                         "of the range where none is predicted")
    rows = baseline_rows(ours, baseline, definitions)
    return Table(f"{title}: {len(ours)} images, per pixel, mm", BASELINE, rows,
                 [f"but for {FACE} the depths of an image are compared after a shift along the view by the median "
                  "difference",
                  "constant baseline: for each pixel the mean over the true maps of the evaluated images"])


def _limits(maps: dict[str, Any]) -> DepthRange:
    """The range of a map is as deep as its image is wide (Dataset/representations/depth.py)."""
    return DepthRange(DISTANCE, DISTANCE + maps.get("side", RANGE))
