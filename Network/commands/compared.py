"""Every bundled network, as `evaluate.py --compare` evaluates them: the same images for all."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from Network.engine.loaded import bundled_models, model_path, trained
from Network.inference.base import PhotoAnswer, Predictor
from Network.inference.registry import from_run


class System(NamedTuple):
    """A network that is compared. factor: size of its crops over that of the images (a ratio of margins).
    """

    name: str
    predictor: Predictor
    factor: float

    @property
    def points(self) -> int:
        return self.predictor.points

    @property
    def parameters(self) -> int:
        return self.predictor.parameters

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return file_bytes(self.predictor.source)

    @property
    def training(self) -> dict[str, float]:
        """Samples and cpu_hours of its training, as far as known (Network/export/pack.py)."""
        return trained(self.predictor.loaded)

    @property
    def fusion(self) -> str:
        """How the photos of a subject become one face."""
        return self.predictor.fusion

    @property
    def seed(self) -> int | None:
        """Of the subjects that it was trained on; None: unknown."""
        return self.predictor.config.get("shards", {}).get("seed")

    @property
    def side(self) -> int:
        """Of its own input, px."""
        return self.predictor.size

    @property
    def config(self) -> dict[str, Any]:
        return self.predictor.config

    def read(self, image: np.ndarray) -> PhotoAnswer:
        """An image (S, S, 3) uint8 BGR, of any side -> the face in it, its landmarks in the image's normalised
        coordinates or None, and whether a face is found."""
        answer = self.predictor.photo(resized(image, self.side, self.factor))
        if answer.landmarks is None:
            return answer
        return answer._replace(landmarks=0.5 + (answer.landmarks - 0.5) * self.factor)

    def subject(self, images: np.ndarray) -> np.ndarray:
        """Images (T, S, S, 3) uint8 BGR of one subject -> the neutral face (N, 3), unit sphere."""
        return self.predictor.subject([resized(image, self.side, self.factor) for image in images])


def systems(margin: float, more: str | Path | None = None, checkpoint: str = "best_validation",
            engine: str | None = None) -> list[System]:
    """The bundled networks, then a run folder or model file, if one is named, with its `checkpoint`, by an engine of
    `Network.engine.loaded.ENGINES`; margin: of the
    images' box, which one that was trained with another sees cut or widened. ValueError, naming the file, for one
    that cannot be loaded."""
    found = dict(bundled_models())
    if more is not None and model_path(more) not in found.values():
        name = Path(os.path.realpath(more)).name
        found[name if name not in found else f"{name} (named)"] = Path(more)
    predictors = {name: from_run(path, checkpoint, engine) for name, path in found.items()}
    return [System(name, predictor, predictor.margin / margin) for name, predictor in predictors.items()]


def resized(image: np.ndarray, side: int, factor: float = 1.0) -> np.ndarray:
    """An image (S, S, 3) uint8 as a network of another input sees it, (side, side, 3) uint8: `factor` times as much
    about its middle, the border repeated where it has no more."""
    size = len(image)
    boundary = round(size * (factor - 1) / 2)
    if boundary > 0:
        image = cv2.copyMakeBorder(image, boundary, boundary, boundary, boundary, cv2.BORDER_REPLICATE)
    elif boundary < 0:
        image = image[-boundary:boundary, -boundary:boundary]
    if len(image) != side:
        way = cv2.INTER_AREA if len(image) > side else cv2.INTER_LINEAR
        image = cv2.resize(np.ascontiguousarray(image), (side, side), interpolation=way)
    return np.ascontiguousarray(image)


def file_bytes(source: Path) -> int:
    """Of a model file, or of all files of a weight folder."""
    if source.is_file():
        return source.stat().st_size
    return sum(path.stat().st_size for path in source.glob("*") if path.is_file())
