"""The views of `demo.py --view`, by system."""
from __future__ import annotations

from typing import Any, Callable, Mapping, NamedTuple, Protocol, Sequence

import numpy as np

from Evaluation.views import (depth as depth_views, features as feature_views, iterations as coarse_views,
                              uv_photos as uv_views, volume as volume_views)
from Evaluation.views.base import ViewFile

VIEWS = (*feature_views.VIEWS, *uv_views.VIEWS, *depth_views.VIEWS, *volume_views.VIEWS, *coarse_views.VIEWS)


class Seen(Protocol):
    """A `Network.inference.base.Predictor` after a photo. views: the views that it supports."""

    network: str
    source: Any
    views: Sequence[str]
    uv_map: Callable[[], uv_views.Maps]
    depth_map: Callable[[], depth_views.Reading]
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
    if view in feature_views.VIEWS:
        return Viewer(feature_views.FeatureViewWriter(view, system.feature_maps), lambda: None)
    if view in uv_views.VIEWS:
        return Viewer(uv_views.ViewWriter(view), system.uv_map)
    if view in depth_views.VIEWS:
        return Viewer(depth_views.DepthViewWriter(view), system.depth_map)
    if view in volume_views.VIEWS:
        return Viewer(volume_views.VolumeViewWriter(view), system.volume)
    return Viewer(coarse_views.CoarseViewWriter(view), system.passes)
