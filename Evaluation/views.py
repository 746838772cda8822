"""What `demo.py --view` draws, network by network."""
from __future__ import annotations

from Evaluation import coarse_views, depth_views, uv_pictures

#: network -> its views, and who draws them
DRAWN = {"uvnet": (uv_pictures.VIEWS, uv_pictures.ViewWriter),
         "pix2pix": (depth_views.VIEWS, depth_views.DepthViewWriter),
         "coarse": (coarse_views.VIEWS, coarse_views.CoarseViewWriter)}
VIEWS = tuple(view for views, _ in DRAWN.values() for view in views)


def make_viewer(view: str, network: str | None, source: str
                ) -> uv_pictures.ViewWriter | depth_views.DepthViewWriter | coarse_views.CoarseViewWriter:
    """Who draws a view. ValueError where it is another network's than that of the model `source`, or nobody's."""
    for name, (views, writer) in DRAWN.items():
        if view in views:
            if network != name:
                raise ValueError(f"--view {view} draws what {name} sees; {source} is another network")
            return writer(view)
    raise ValueError(f"view must be one of {', '.join(VIEWS)}, got {view!r}")
