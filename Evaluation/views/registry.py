"""The views of `demo.py --view`, by system."""
from __future__ import annotations

from importlib import import_module
from typing import Any, Callable, Mapping, NamedTuple, Protocol, Sequence

import numpy as np

from Evaluation.views.base import ViewFile

#: module and class that draw some views, the Predictor's method that gives their input, and the views; imported on
#: demand: naming a view does not import what draws it
DRAWN = (("features", "FeatureViewWriter", "feature_maps", ("features",)),
         ("uv_photos", "ViewWriter", "uv_map",
          ("texture", "inverse", "lines", "points", "swap", "uv", "mask", "visible", "row")),
         ("depth", "DepthViewWriter", "depth_map", ("depth", "cloud", "wireframe", "surface", "strip")),
         ("volume", "VolumeViewWriter", "volume", ("volume", "slices")),
         ("iterations", "CoarseViewWriter", "passes", ("iterations", "detail")))
VIEWS = tuple(view for *_, views in DRAWN for view in views)


class Seen(Protocol):
    """A `Network.inference.base.Predictor` after a photo. views: the views that it supports."""

    network: str
    source: Any
    views: Sequence[str]
    uv_map: Callable[[], Any]
    depth_map: Callable[[], Any]
    volume: Callable[[], np.ndarray]
    passes: Callable[[], np.ndarray]
    feature_maps: Callable[[np.ndarray], Mapping[str, np.ndarray]]


class Viewer(NamedTuple):
    """file: draws the view and writes it; reading: returns the prediction for the last photo."""

    file: ViewFile
    reading: Callable[[], Any]

    def draw(self, whole: np.ndarray, box: tuple[int, int, int, int], photo: np.ndarray) -> None:
        """The view of the last photo: its image (H, W, 3) uint8 BGR, the box (x, y, w, h) that the network saw, and
        that square, finer (P, P, 3)."""
        self.file.draw_in(whole, box, photo, self.reading())


def make_viewer(view: str, system: Seen) -> Viewer:
    """The viewer of a system's photos. ValueError where the system has no such view."""
    if view not in system.views:
        raise ValueError(f"--view {view} is not of {system.network} ({system.source}), which has "
                         f"{', '.join(system.views) or 'none'}")
    module, writer, reading = next(row[:3] for row in DRAWN if view in row[3])
    write = getattr(import_module(f"Evaluation.views.{module}"), writer)
    if reading == "feature_maps":       # of a finer crop than the network's, which the writer hands it
        return Viewer(write(view, system.feature_maps), lambda: None)
    return Viewer(write(view), getattr(system, reading))
