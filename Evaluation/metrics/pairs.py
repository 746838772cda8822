"""Whether faces made of single photos of one subject agree: rank-1 identification without any ground truth.

Faces are centred, scaled to a root mean square radius of 1 and rotated onto their common mean (generalised Procrustes
analysis, Gower 1975, without scale). The distance of two faces is the mean over points of equal index, in that unit.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from Dataset.geometry.transforms import umeyama

ROUNDS = 3              # of aligning all faces to their mean


class Matches(NamedTuple):
    """Faces a of some subjects against faces b of the same ones. backward: how many of b have their own subject's of a
    nearest, forward: how many of a have their own of b (rank-1; a tie does not count); ratio: the mean distance of own
    pairs over that of all other pairs (genuine/impostor), 1 for a constant face, NaN where all faces are equal."""

    backward: int
    forward: int
    ratio: float


def aligned(faces: np.ndarray) -> np.ndarray:
    """(P, N, 3), ordered points of any unit -> (P, N, 3) float64, each scaled to a root mean square radius of 1 and
    rotated onto the mean of all. ValueError for a face that is not finite or has no extent."""
    faces = np.asarray(faces, np.float64)
    if faces.ndim != 3 or faces.shape[2] != 3 or 0 in faces.shape or not np.isfinite(faces).all():
        raise ValueError(f"faces must be (P, N, 3) and finite, received {faces.shape}")
    faces = np.stack([_unit(face) for face in faces])
    mean = faces[0]
    for _ in range(ROUNDS):
        mean = _unit(np.mean([_rotated(face, mean) for face in faces], axis=0))
    return np.stack([_rotated(face, mean) for face in faces])


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(P, N, 3), (Q, N, 3), aligned -> (P, Q) float64: the mean distance of points of equal index."""
    return np.array([np.linalg.norm(face - second, axis=-1).mean(-1) for face in first])


def matches(first: np.ndarray, second: np.ndarray) -> Matches:
    """Faces (P, N, 3) of P subjects against others of the same subjects (P, N, 3), all aligned. ValueError for fewer
    than two subjects."""
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"two faces of each of at least two subjects are needed, got {len(first)} and {len(second)}")
    table, own = distances(first, second), np.eye(len(first), dtype=bool)
    return Matches(_nearest(table.T), _nearest(table), _ratio(table, own, ~own))


def matches_among(faces: np.ndarray, subjects: np.ndarray) -> tuple[int, float]:
    """Every face against every other: faces (P, N, 3) aligned, subjects (P,) labels -> how many have one of their own
    subject nearest, and the genuine/impostor distance ratio over all pairs."""
    table = distances(faces, faces)
    same = subjects[:, None] == subjects[None]
    other = ~np.eye(len(faces), dtype=bool)
    own = np.where(same & other, table, np.inf).min(axis=1)
    return int((own < np.where(same, np.inf, table).min(axis=1)).sum()), _ratio(table, same & other, ~same)


def _nearest(table: np.ndarray) -> int:
    """How many rows have their smallest distance on the diagonal, and there alone."""
    return int(((table <= np.diag(table)[:, None]).sum(axis=1) == 1).sum())


def _ratio(table: np.ndarray, own: np.ndarray, others: np.ndarray) -> float:
    """NaN where the others' distances are 0 but for rounding."""
    apart = float(table[others].mean()) if others.any() else 0.0
    return float(table[own].mean()) / apart if apart > 1e-12 else float("nan")


def _unit(points: np.ndarray) -> np.ndarray:
    points = points - points.mean(axis=0)
    radius = float(np.sqrt((points ** 2).sum(axis=1).mean()))
    if not radius > 0:
        raise ValueError("a face must have an extent, received equal points")
    return points / radius


def _rotated(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    return umeyama(points, onto, with_scale=False).apply(points)
