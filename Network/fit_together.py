"""The joint fit of `Dataset.joint_fit` for networks that say where the face's places or landmarks lie in a photo, and
not, as `uvnet`, what each pixel shows: `compact`, `coarse`, `vrn`.

    fit = fit_together([stream.add(crop) for crop in crops])    # fit.identity, fit.pose(0), fit.landmarks(0) ...

What it adds is each photo's pose, expression and landmarks. A memory that was trained to make a person of places makes
a better one than this: 0.37 of the mean face's squared error against 0.59 (`compact`, 8 people x 6 photos).
"""
from __future__ import annotations

from typing import Sequence

import numpy as np

from Dataset.correspondences import Correspondences, from_landmarks
from Dataset.face_model import FaceModel, load_face_model
from Dataset.joint_fit import FitOptions, JointFit, joint_fit
from Dataset.representations.points import SIZE
from Network.predict import Prediction

SIDE = 128              # px that a crop is taken to have: the fit's spreads are in pixels of such
ERROR = 1.5             # px there, of a coordinate, of networks that do not say how sure they are


def correspondences_of(face: Prediction, model: FaceModel | None = None) -> Correspondences:
    """Where a stream's answer to a photo says that the face lies in its crop: the places, the landmarks, or both, in px
    of a crop of SIDE px. ValueError, naming the photo, where it says neither."""
    model = model or load_face_model()
    if face.places is None and face.landmarks is None:
        raise ValueError(f"{face.crops[-1].source}: the network does not say where the face's places lie")
    parts = []
    if face.places is not None:
        side = round(len(face.places) ** 0.5)
        steps = (SIZE - 1) * np.arange(side) / (side - 1)
        grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
        sure = np.full(len(grid), ERROR ** -2)
        parts.append(Correspondences(grid, SIDE * np.asarray(face.places, float), sure, SIDE))
    if face.landmarks is not None:
        parts.append(from_landmarks(SIDE * np.asarray(face.landmarks, float), SIDE, np.full(68, ERROR ** -2), model))
    return Correspondences(*(np.concatenate(column) for column in zip(*(part[:3] for part in parts))), SIDE)


def fit_together(faces: Sequence[Prediction], model: FaceModel | None = None, options: FitOptions = FitOptions()
                 ) -> JointFit:
    """One identity, each photo its own pose and expression, from a stream's answers to one person's photos, in their
    order. ValueError for none, or as `correspondences_of`."""
    model = model or load_face_model()
    return joint_fit([correspondences_of(face, model) for face in faces], model, options)
