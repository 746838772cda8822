"""`demo.py --view features`: the feature maps of each layer for the last photo (Ronkainen 2017, 4.5.2)."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Mapping

import numpy as np

from Evaluation.views.base import ViewFile
from Evaluation.views.feature_collage import collage, collage_files, write_collages

VIEWS = ("features",)


class FeatureViewWriter(ViewFile):
    """NAME_features.png is the collage of the last layer, the output; the folder NAME_features holds those of all
    layers, NN_LAYER.png. ValueError for another view.

    maps_of  the square that the network saw, finer, (P, P, 3) uint8 BGR -> layer -> feature maps (h, w, C), in order
    """

    views = VIEWS

    def __init__(self, view: str, maps_of: Callable[[np.ndarray], Mapping[str, np.ndarray]]) -> None:
        super().__init__(view)
        self._maps_of = maps_of

    def reset(self) -> None:
        super().reset()
        self._layers: Mapping[str, np.ndarray] = {}

    def draw(self, photo: np.ndarray, reading: Any) -> np.ndarray:
        """photo (P, P, 3) uint8 BGR -> the last layer's collage, uint8 BGR; kept for `write`. `reading` is not used."""
        self._layers = self._maps_of(photo)
        last = list(self._layers)[-1]
        self.image = collage(self._layers[last], last)
        return self.image

    def beside(self, path: Path) -> list[Path]:
        """Every layer's collage."""
        return collage_files(self.target(path).with_suffix(""), self._layers)

    def write(self, path: Path) -> Path:
        """The image, and the layers `beside` it -> the image's path. ValueError before there is one."""
        written = super().write(path)
        write_collages(written.with_suffix(""), self._layers)
        return written
