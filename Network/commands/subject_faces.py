"""A subject's photo files -> the neutral face in mm, by any Predictor: for evaluation on real subjects."""
from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Sequence

import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.io.images import read_image
from Dataset.io.inputs import NamedImage
from Dataset.representations.points import sized_grid
from Network.inference.base import Predictor
from Network.inference.photos import NoFace


class SubjectFace(NamedTuple):
    """points (N, 3) float64 mm, ordered, head frame; sized: the system knows the size, else it is the mean face's;
    missed: names of the photos without a face."""

    points: np.ndarray
    sized: bool
    missed: list[str]


class SubjectFaces:
    """`faces(photos)`: the face from all photos of one subject, each as users give them, with the detector.

    ValueError for a network whose points are not the ordered grid: they correspond to nothing.
    """

    def __init__(self, predictor: Predictor) -> None:
        if not predictor.ordered:
            raise ValueError(f"{predictor.source}: faces of real subjects are compared point by point, this network's "
                             "points have no order")
        self._predictor = predictor

    def __call__(self, photos: Sequence[Path]) -> SubjectFace | None:
        """None where no photo shows a face. ValueError, naming the file, for one that cannot be read."""
        self._predictor.reset()
        face, missed = None, []
        for path in photos:
            try:
                face = self._predictor.add(NamedImage(str(path), read_image(path)))
            except NoFace:
                missed.append(str(path))
        if face is None:
            return None
        radius = mean_radius() if face.radius is None else face.radius
        return SubjectFace(radius * np.asarray(face.points, np.float64), face.radius is not None, missed)

    def of_photo(self, photo: Path) -> np.ndarray | None:
        """The points (N, 3) of one photo alone, or None."""
        found = self([photo])
        return None if found is None else found.points


@lru_cache(maxsize=1)
def mean_radius() -> float:
    """mm, of the sphere about the mean face that is its unit sphere."""
    model = load_face_model()
    return sized_grid(np.asarray(model.mean, float), model).radius
