"""Training targets: the grids of subjects without scale, position and rotation, which an image does not determine."""
from __future__ import annotations

import numpy as np

from Dataset.face_model.model import FaceModel
from Dataset.geometry.transforms import to_unit_sphere, umeyama
from Dataset.representations.points import encode

TEMPLATE_SUBJECTS = 200           # whose mean is the template


class Targets:
    """Identity coefficients -> ordered grids brought onto a template: (P, N, 3) float32 in the unit sphere.

    Scale (the thesis's unit sphere), position and rotation are removed by the similarity that aligns each face with the
    template.
    """

    def __init__(self, model: FaceModel, points: int, template: np.ndarray | None = None) -> None:
        side = round(points ** 0.5)
        self.mean = encode(model.mean, side, model).reshape(-1).astype(np.float32)
        self.basis = np.stack([encode(direction, side, model).reshape(-1) for direction in model.identity]
                              ).astype(np.float32)
        self.template = template

    def raw(self, identity: np.ndarray) -> np.ndarray:
        """(P, 200) -> (P, N, 3) float32, mm: encoding is linear, so one product does it."""
        return (self.mean + np.asarray(identity, np.float32) @ self.basis).reshape(len(identity), -1, 3)

    def make_template(self, identity: np.ndarray) -> np.ndarray:
        """The mean of subjects (P, 200) in the unit sphere, itself in the unit sphere: (N, 3) float32; kept."""
        scaled = np.mean([to_unit_sphere(points)[0] for points in self.raw(identity)], axis=0)
        self.template = to_unit_sphere(scaled)[0].astype(np.float32)
        return self.template

    def __call__(self, identity: np.ndarray) -> np.ndarray:
        """(P, 200) -> (P, N, 3) float32. Needs a template."""
        return np.stack([umeyama(points[::self._step], self.template[::self._step]).apply(points)
                         for points in self.raw(identity)]).astype(np.float32)

    @property
    def _step(self) -> int:
        return max(1, len(self.template) // 1024 | 1)       # an odd step: not one column of the grid


def targets_on_template(points: int, model: FaceModel) -> Targets:
    """Targets of N points, with the mean of random subjects of the face model as the template: the same for every
    run."""
    targets = Targets(model, points)
    targets.make_template(np.random.default_rng(0).standard_normal((TEMPLATE_SUBJECTS, len(model.identity))))
    return targets
