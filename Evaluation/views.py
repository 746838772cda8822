"""What `demo.py --view` draws, network by network."""
from __future__ import annotations

from typing import Callable, Mapping

import numpy as np

from Evaluation import coarse_views, depth_views, feature_views, uv_pictures
from Evaluation.view_file import ViewFile

#: network -> its views, and who draws them
DRAWN = {"uvnet": (uv_pictures.VIEWS, uv_pictures.ViewWriter),
         "pix2pix": (depth_views.VIEWS, depth_views.DepthViewWriter),
         "coarse": (coarse_views.VIEWS, coarse_views.CoarseViewWriter)}
LAYERED = ("uvnet",)            # networks whose layers can be shown
VIEWS = (*feature_views.VIEWS, *(view for views, _ in DRAWN.values() for view in views))


def make_viewer(view: str, network: str | None, source: str,
                features: Callable[[np.ndarray], Mapping[str, np.ndarray]] | None = None) -> ViewFile:
    """Who draws a view. features: what the network's layers give, as `feature_views.FeatureViewWriter` asks for it.
    ValueError where it is another network's than that of the model `source`, or nobody's."""
    known = {one: ((name,), writer) for name, (views, writer) in DRAWN.items() for one in views}
    known |= {one: (LAYERED, lambda view: feature_views.FeatureViewWriter(view, features))
              for one in feature_views.VIEWS}
    if view not in known:
        raise ValueError(f"view must be one of {', '.join(VIEWS)}, got {view!r}")
    networks, writer = known[view]
    if network not in networks:
        raise ValueError(f"--view {view} draws what {', '.join(networks)} sees; {source} is another network")
    return writer(view)
