"""Fit one face to the correspondences of any number of photos: one identity; pose, camera distance and expression for
each photo.

Gauss-Newton on the distances in the photos, with the model's statistics as a prior (Blanz and Vetter 1999, section 4;
Wood et al. 2022, "3D face reconstruction with dense landmarks", also fits all photos of a subject at once). The
photos share only the identity, so that the unknowns of each photo are eliminated first (Schur complement): the cost is
linear in the number of photos. Pairs are weighted robustly (Geman and McClure), and errors of neighbours are modelled
as correlated (Dataset/fitting/multi_view_system.py).
"""
from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from Dataset.blas import one_thread
from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.fitting.multi_view_system import NEAREST, OWN, FitOptions, PhotoFit, bases_of
from Dataset.geometry.pose import Pose
from Dataset.representations.correspondences import Correspondences, checked, from_landmarks

__all__ = ["Correspondences", "FitOptions", "JointFit", "from_landmarks", "joint_fit"]

CONVERGED = 0.05          # prior standard deviations: the fit has converged when no coefficient changes by more


class JointFit(NamedTuple):
    """identity (200,) standard deviations, of all photos; expressions (T, 84) weights in [0, 1]; rotations (T, 3, 3),
    scales (T,) px per mm, translations (T, 2) px, perspective (T,) 1 / mm: as in :class:`Dataset.geometry.pose.Pose`;
    residuals (T,): root of the mean squared distance, px of the photo's crop, with the robust weights; kept: for each
    photo (K,) in [0, 1], the robust weight of each pair."""

    identity: np.ndarray
    expressions: np.ndarray
    rotations: np.ndarray
    scales: np.ndarray
    translations: np.ndarray
    perspective: np.ndarray
    residuals: np.ndarray
    kept: tuple[np.ndarray, ...]

    def neutral(self, model: FaceModel | None = None) -> np.ndarray:
        """The subject's face without expression: vertices (V, 3) float64 mm, head frame."""
        return (model or load_face_model()).shape(self.identity)

    def face(self, photo: int, model: FaceModel | None = None) -> np.ndarray:
        """The face in one photo, with its expression: vertices (V, 3) float64 mm, head frame, not rotated."""
        return (model or load_face_model()).shape(self.identity, self.expressions[photo])

    def pose(self, photo: int) -> Pose:
        """The head's pose in one photo."""
        return Pose(self.rotations[photo], float(self.scales[photo]), self.translations[photo],
                    float(self.perspective[photo]))

    def project(self, photo: int, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) mm of the head frame -> (..., 2) float64 px of a photo's crop."""
        return self.pose(photo).project(points)

    def landmarks(self, photo: int, model: FaceModel | None = None) -> np.ndarray:
        """The 68 landmarks (68, 2) in px of a photo's crop, hidden ones too."""
        model = model or load_face_model()
        return self.project(photo, model.landmarks(self.face(photo, model)))


def joint_fit(photos: Sequence[Correspondences], model: FaceModel | None = None, options: FitOptions = FitOptions(),
              start: JointFit | None = None) -> JointFit:
    """Fit the photos of one subject. start: a fit of the first of them, as the initial estimate when a photo was added.

    Deterministic. ValueError, one line: no photo, a photo that `Dataset.representations.correspondences.checked`
    refuses (its index is named, from 0), or a start of more photos than there are.
    """
    if not len(photos):
        raise ValueError("a joint fit needs at least one photo, received none")
    if start is not None and len(start.rotations) > len(photos):
        raise ValueError(f"the start must be a fit of the first photos, received one of {len(start.rotations)} for "
                         f"{len(photos)}")
    photos = [checked(photo, f"photo {number}") for number, photo in enumerate(photos)]
    with one_thread():
        return _fit(photos, model, options, start)


def _fit(photos: list[Correspondences], model: FaceModel | None, options: FitOptions, start: JointFit | None
         ) -> JointFit:
    bases = bases_of(load_face_model() if model is None else model)
    identity = np.zeros(bases.count) if start is None else np.array(start.identity, float)
    known = 0 if start is None else len(start.rotations)
    offsets = bases.offsets(identity, 0)
    states = [PhotoFit(photo, bases, offsets, *((start.pose(t), start.expressions[t]) if t < known else (None, None)))
              for t, photo in enumerate(photos)]
    for number in range(options.iterations):
        systems = [state.system(offsets, options) for state in states]
        moved, change = _step(states, systems, identity, options, number == 0)
        identity[:len(change)] += change
        offsets = bases.offsets(identity, 0)
        if moved < CONVERGED:
            break
    return _result(photos, states, offsets, identity, options)


def _step(states: list[PhotoFit], systems: list[tuple[np.ndarray, np.ndarray]], identity: np.ndarray,
          options: FitOptions, first: bool) -> tuple[float, np.ndarray]:
    """One Gauss-Newton step; updates the unknowns of the photos -> largest change in prior standard deviations, change
    of the identity (n,).

    Expression weights that would leave [0, 1] are fixed at its border (an active set, which is empty at the first step,
    when the poses are still inaccurate).
    """
    n = min(options.components, len(identity))
    held = [_at_border(state.expression, right[n + OWN:]) if options.expression and not first else
            np.full(len(state.expression), not options.expression) for state, (_, right) in zip(states, systems)]
    for _ in range(3):
        change, moves = _solve(systems, held, identity[:n], options)
        wanted = [state.expression + move[OWN:] for state, move in zip(states, moves)]
        outside = [(new < -1e-9) | (new > 1 + 1e-9) for new in wanted]
        if not any(out.any() for out in outside):
            break
        held = [hold | out for hold, out in zip(held, outside)]
    moved = float(np.abs(change).max(initial=0)) / options.identity_sigma
    for state, move, new in zip(states, moves, wanted):
        state.pose = state.pose.moved(move[:OWN], (0.0, 1 / NEAREST))
        new = np.clip(new, 0, 1)
        moved = max(moved, float(np.abs(new - state.expression).max(initial=0)) / options.expression_sigma)
        state.expression = new
    return moved, change


def _at_border(weights: np.ndarray, downhill: np.ndarray) -> np.ndarray:
    """(84,) bool: at 0 or 1, with a descent direction out of the interval."""
    return ((weights <= 0) & (downhill <= 0)) | ((weights >= 1) & (downhill >= 0))


def _solve(systems: list[tuple[np.ndarray, np.ndarray]], held: list[np.ndarray], identity: np.ndarray,
           options: FitOptions) -> tuple[np.ndarray, list[np.ndarray]]:
    """Steps of the identity (n,) and of each photo's unknowns (91,), 0 where they are fixed."""
    n, prior = len(identity), options.identity_sigma ** -2
    matrix, right, eliminated = prior * np.eye(n), -prior * identity, []
    for (system, side), hold in zip(systems, held):
        free = np.concatenate([np.ones(OWN - 1, bool), [options.perspective], ~hold])
        own = n + np.flatnonzero(free)
        across = system[own, :n]
        both = cho_solve(cho_factor(system[np.ix_(own, own)], check_finite=False),
                         np.concatenate([across, side[own, None]], 1), check_finite=False)
        matrix += system[:n, :n] - across.T @ both[:, :n]
        right += side[:n] - across.T @ both[:, n]
        eliminated.append((own - n, both))
    change = cho_solve(cho_factor(matrix, check_finite=False), right, check_finite=False) if n else np.zeros(0)
    moves = []
    for (own, both), (_, side) in zip(eliminated, systems):
        moves.append(np.zeros(len(side) - n))
        moves[-1][own] = both[:, n] - both[:, :n] @ change
    return change, moves


def _result(photos: Sequence[Correspondences], states: list[PhotoFit], offsets: np.ndarray, identity: np.ndarray,
            options: FitOptions) -> JointFit:
    residuals, kept = [], []
    for photo, state in zip(photos, states):
        state.update(offsets, options)
        trust = state.weights * state.kept
        residuals.append(np.sqrt((trust * (state.miss ** 2).sum(-1)).sum() / trust.sum()) / state.unit)
        kept.append(np.zeros(len(photo.weights)))
        kept[-1][state.used] = state.kept
    poses, units = [state.pose for state in states], np.array([state.unit for state in states])
    return JointFit(identity, np.stack([state.expression for state in states]), np.stack([p.rotation for p in poses]),
                    np.array([p.scale for p in poses]) / units,
                    np.stack([p.translation for p in poses]) / units[:, None],
                    np.array([p.perspective for p in poses]), np.array(residuals), tuple(kept))
