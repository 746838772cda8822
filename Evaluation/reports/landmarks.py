"""68 landmarks in photos against the ground truth, by yaw: the usual table of face alignment.

NME of Zhu et al. 2016, "Face Alignment Across Large Poses", section 5: the mean distance over the 68 landmarks, divided
by sqrt(w h) of the true landmarks' bounding box, in %. In 3D the depth counts as well, relative to its own mean, since
a photo does not determine the distance of the face. Bins by the absolute yaw: up to 30, up to 60, and beyond; then the
mean and the standard deviation over the three bins, so that the many frontal photos do not dominate.
"""
from __future__ import annotations

import math
from pathlib import Path
from typing import Callable, NamedTuple, Sequence

import numpy as np

from Dataset.sources.aflw2000 import Photo, read_photos
from Evaluation.metrics.landmarks import box_size, landmark_nme
from Evaluation.reports.tables import Cell, Table

BINS = ((0.0, 30.0), (30.0, 60.0), (60.0, 90.0))        # degrees; a larger yaw is in the last bin
BOXES = ("detector", "truth")
GROWN = 1.35            # the true box's larger side, times this, is about a detector's box

#: a photo (H, W, 3) uint8 BGR and the face's box x, y, w, h, or None -> landmarks (68, 2) or (68, 3) px, or None
Landmarker = Callable[[np.ndarray, "tuple[int, int, int, int] | None"], "np.ndarray | None"]


class LandmarkError(NamedTuple):
    """Of one photo, in %: in two dimensions, and in three, NaN where the network or the file has no depth."""

    flat: float
    solid: float


def landmark_error(found: np.ndarray, truth: np.ndarray) -> LandmarkError:
    """Landmarks (68, 2) or (68, 3) px against the true ones (68, 3), whose depth may be NaN. ValueError for other
    shapes, and for landmarks that are not finite."""
    found, truth = np.asarray(found, np.float64), np.asarray(truth, np.float64)
    if truth.shape != (68, 3) or found.shape not in ((68, 2), (68, 3)) or not np.isfinite(found).all():
        raise ValueError(f"landmarks must be finite, (68, 2) or (68, 3), against (68, 3), received {found.shape} and "
                         f"{truth.shape}")
    flat, solid = landmark_nme(found, truth), math.nan
    if found.shape[1] == 3 and np.isfinite(truth).all():
        deep = (found[:, 2] - found[:, 2].mean()) - (truth[:, 2] - truth[:, 2].mean())
        apart = np.column_stack([found[:, :2] - truth[:, :2], deep])
        solid = 100 * float(np.linalg.norm(apart, axis=1).mean()) / box_size(truth)
    return LandmarkError(flat, solid)


def bin_of(yaw: float) -> int:
    """The number of a yaw's bin; degrees of either sign."""
    return int(np.searchsorted([high for _, high in BINS[:-1]], abs(yaw), side="left"))


def square_box(photo: Photo) -> tuple[int, int, int, int]:
    """A square about a photo's true landmarks, as a detector might give it: x, y, w, h in whole pixels."""
    x, y, width, height = photo.box
    side = GROWN * max(width, height)
    return round(x + width / 2 - side / 2), round(y + height / 2 - 0.55 * side), round(side), round(side)


def folder_table(folder: str | Path, landmarker: Landmarker, name: str, boxes: str = "detector",
                 progress: Callable = lambda photos, total: photos) -> Table:
    """`landmark_table` of a folder of 300W-LP or AFLW2000-3D. ValueError, naming file and rule, when it is none."""
    return landmark_table(read_photos(folder), landmarker, f"{name} on {folder}", boxes, progress)


def landmark_table(photos: Sequence[Photo], landmarker: Landmarker, title: str, boxes: str = "detector",
                   progress: Callable = lambda photos, total: photos) -> Table:
    """NME in 2D and 3D per bin, how many photos each bin has, and in how many of them no face was found.

    boxes  "detector": the landmarker detects the face; "truth": it is given the box, as for most published numbers
    A photo without a detected face, or with landmarks that are not finite, counts as missed and is in no mean.
    ValueError for no photo, or other `boxes`.
    """
    if not photos or boxes not in BOXES:
        raise ValueError(f"at least one photo is needed, and boxes of {' or '.join(BOXES)}, got {len(photos)} and "
                         f"{boxes!r}")
    errors: list[list[LandmarkError]] = [[] for _ in BINS]
    missed = [0] * len(BINS)
    for photo in progress(photos, total=len(photos)):
        found = landmarker(photo.image(), square_box(photo) if boxes == "truth" else None)
        if found is None or not np.isfinite(found).all():
            missed[bin_of(photo.yaw)] += 1
        else:
            errors[bin_of(photo.yaw)].append(landmark_error(found, photo.landmarks))
    rows: list[list[Cell]] = [[name, *_means([[getattr(e, field) for e in some] for some in errors])]
                              for name, field in (("NME 2D", "flat"), ("NME 3D", "solid"))]
    totals = [len(some) + lost for some, lost in zip(errors, missed)]
    rows += [["photos", *totals, None, None, sum(totals)], ["missed", *missed, None, None, sum(missed)]]
    where = "as detected" if boxes == "detector" else "in a box around the true landmarks"
    return Table(f"{title}: {len(photos)} photos, the face {where}",
                 ["", *(f"{low:g} to {high:g}" for low, high in BINS), "mean of bins", "std of bins", "all photos"],
                 rows, ["NME: mean distance of the 68 landmarks / sqrt(w h) of the true ones' bounding box, in %; 3D: "
                        "with depth, each from its own mean; '-': the network or the files have no depth",
                        "bins by the absolute yaw in degrees, the last with all beyond; missed photos are in no "
                        "mean"], digits=2)


def _means(bins: Sequence[Sequence[float]]) -> list[float]:
    """Mean of each bin, the bins' mean and standard deviation, the mean of all; NaN for what has no number."""
    values = [np.array(some, float) for some in bins]
    values = [some[~np.isnan(some)] for some in values]
    means = [float(some.mean()) if len(some) else math.nan for some in values]
    known = [mean for mean in means if not math.isnan(mean)]
    every = np.concatenate(values)
    return [*means, float(np.mean(known)) if known else math.nan, float(np.std(known)) if known else math.nan,
            float(every.mean()) if len(every) else math.nan]
