"""The part of one photo in a joint fit (Dataset/fitting/multi_view.py): its residuals and normal equations.

The errors of a network are a smooth field over the face, not independent for each pixel. So the pairs are averaged in
cells of the grid, and the errors of cells are correlated, with covariance exp(-distance / correlation) (generalised
least squares). Independent noise averages out with the number of pairs, the smooth field does not: 5,000 pixels have
the weight of a few dozen measurements.
"""
from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.linalg import solve_triangular

from Dataset.face_model.model import FaceModel
from Dataset.geometry.bilinear import bilinear_matrix
from Dataset.geometry.pose import Pose, weak_perspective
from Dataset.representations.correspondences import Correspondences
from Dataset.representations.points import SIZE

LATTICE = 48            # side of the grid on which the bases are kept; bilinear between its points
CELLS = 16              # side of the cells in which pairs are gathered
UNIT = 128.0            # px: every crop is scaled to this side internally
NEAREST = 250.0         # mm: smallest distance of a camera from the head's origin
OWN = 7                 # unknowns of a photo's pose; the last of them is the perspective
_LIMITS = {"components": (0, 1000), "identity_sigma": (1e-2, 100), "expression_sigma": (1e-3, 10),
           "distance": (NEAREST, 1e5), "distance_sigma": (1e-3, 10), "noise_floor": (0.01, 100),
           "correlation": (0, 1e3), "correlated": (0, 0.99), "robust": (0.1, np.inf), "iterations": (1, 100)}


@dataclasses.dataclass(frozen=True)
class FitOptions:
    """components: of the identity that are fitted, at most the model's; identity_sigma: their prior, standard
    deviations; expression: whether to fit expressions, else all are neutral; expression_sigma: prior of a weight;
    perspective: whether to fit the camera distance, else weak perspective; distance, distance_sigma: its prior, mm, and
    the relative standard deviation of its inverse; noise_floor: px of a 128 px crop, smallest error of a cell, for any
    number of pairs; correlation: correlation length of the errors, in steps of the 128x128 grid, 0 for independent
    ones; correlated: the correlated fraction of a pair's variance; robust: scale of the weights in standard deviations
    of a pair, inf for none; iterations: Gauss-Newton steps at most. ValueError for a value out of range."""

    components: int = 200
    identity_sigma: float = 1.0
    expression: bool = True
    expression_sigma: float = 0.2
    perspective: bool = True
    distance: float = 800.0
    distance_sigma: float = 0.5
    noise_floor: float = 0.3
    correlation: float = 40.0
    correlated: float = 0.9
    robust: float = 3.0
    iterations: int = 4

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be within {low:g} to {high:g}, got {getattr(self, name)}")


class Bases(NamedTuple):
    """mean (128, 128, 3) float64 mm; basis (48 * 48, 3, N) float32 at the lattice, identity first; count of those."""

    mean: np.ndarray
    basis: np.ndarray
    count: int

    def offsets(self, weights: np.ndarray, first: int) -> np.ndarray:
        """(48 * 48, 3) float32 mm: the offsets by the coefficients from ``first`` on, at the lattice."""
        columns = self.basis.reshape(-1, self.basis.shape[2])[:, first:first + len(weights)]
        return (columns @ weights.astype(np.float32)).reshape(-1, 3)


@lru_cache(maxsize=2)
def bases_of(model: FaceModel) -> Bases:
    """A model's bases, made once."""
    steps = np.linspace(0, SIZE - 1, LATTICE)
    positions = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
    matrix = bilinear_matrix(positions, SIZE) @ model.grid_matrix
    both = np.concatenate([model.identity, model.expression])
    flat = both.transpose(1, 2, 0).reshape(len(model.mean), -1)
    basis = np.ascontiguousarray((matrix @ flat).reshape(LATTICE ** 2, 3, -1), np.float32)
    mean = (model.grid_matrix @ model.mean.astype(np.float32)).astype(float)
    return Bases(mean.reshape(SIZE, SIZE, 3), basis, len(model.identity))


def _on_lattice(positions: np.ndarray, side: int) -> sparse.csr_matrix:
    """(K, side * side): a grid of ``side`` over the face, sampled at positions (K, 2), rows and columns of the
    128x128."""
    return bilinear_matrix(positions * ((side - 1) / (SIZE - 1)), side)


class PhotoFit:
    """One photo in a crop of UNIT px: its pairs (those with a weight), and pose (Pose) and expression (84,) so far.

    unit: UNIT px per px of the photo; used (K,): the pairs' numbers; miss (K, 2): px between a pair's pixel and the
    projected point of the face, and kept (K,) in [0, 1], the robust weight, both set by `update`.
    """

    def __init__(self, photo: Correspondences, bases: Bases, offsets: np.ndarray, pose: Pose | None,
                 expression: np.ndarray | None) -> None:
        self.used = np.flatnonzero(photo.weights)
        grid, self.unit = photo.grid[self.used], UNIT / photo.size
        self.pixels, self.weights = photo.pixels[self.used] * self.unit, photo.weights[self.used] / self.unit ** 2
        self._means = bilinear_matrix(grid, SIZE) @ bases.mean.reshape(-1, 3)
        self._sigma = _on_lattice(grid, LATTICE)
        cell = np.minimum(grid * (CELLS / SIZE), CELLS - 1).astype(int)
        occupied, self._cells = np.unique(cell[:, 0] * CELLS + cell[:, 1], return_inverse=True)
        starts = np.arange(len(self.used) + 1)
        gather = sparse.csr_matrix((self.weights, self._cells, starts), (len(self.used), len(occupied))).T
        gather = sparse.diags(1 / np.asarray(gather.sum(1)).ravel()) @ gather
        # bases and positions of the cells: the mean of their pairs
        self._rows = ((gather @ self._sigma) @ bases.basis.reshape(LATTICE ** 2, -1)).reshape(len(occupied), 3, -1)
        positions = gather @ grid
        self._apart = np.linalg.norm(positions[:, None] - positions, axis=-1)
        self._bases = bases
        if pose is None:
            pose = weak_perspective(self._means + self._sigma @ offsets, self.pixels, self.weights)
        else:
            pose = pose._replace(scale=pose.scale * self.unit, translation=pose.translation * self.unit)
        self.pose = pose
        self.expression = np.zeros(bases.basis.shape[2] - bases.count) if expression is None else expression.copy()

    def update(self, offsets: np.ndarray, options: FitOptions) -> tuple[np.ndarray, float]:
        """Evaluate the face with these offsets of the identity -> its points (K, 3) at the pairs, and the factor >= 1
        by which the variances exceed the given ones. Sets `miss` and `kept`."""
        if self.expression.any():
            offsets = offsets + self._bases.offsets(self.expression, self._bases.count)
        points = self._means + self._sigma @ offsets
        self.miss = self.pixels - self.pose.project(points)
        squared = (self.miss ** 2).sum(-1) / (1 / self.weights + options.noise_floor ** 2)
        # of two coordinates of variance 1 the median is 2 log 2
        factor = max(1.0, float(np.median(squared)) / (2 * np.log(2)))
        self.kept = 1 / (1 + squared / (factor * options.robust ** 2)) ** 2
        return points, factor

    def system(self, offsets: np.ndarray, options: FitOptions) -> tuple[np.ndarray, np.ndarray]:
        """Normal equations (M, M), (M,) over a step of identity (n), pose (7) and expression (84), with the prior of
        the last two."""
        points, factor = self.update(offsets, options)
        trust, count = self.weights * self.kept, len(self._rows)
        n = min(options.components, self._bases.count)

        def summed(values: np.ndarray) -> np.ndarray:
            return np.bincount(self._cells, values, count)
        total = summed(trust)
        miss, positions = (np.stack([summed(trust * column) / total for column in values.T], 1)
                           for values in (self.miss, points))
        # with the robust weights, so that outliers are ignored: variance of a cell's pairs, and their residuals
        variance, left = total / summed(trust * self.weights), summed(trust * self.kept) / total
        fraction = options.correlated if options.correlation else 0.0
        alike = fraction * np.exp(-self._apart / max(options.correlation, 1e-9))
        covariance = alike * np.sqrt(np.outer(variance, variance))
        alone = (1 - fraction) / total + fraction * variance * (1 / left - 1)
        covariance[np.diag_indices(count)] += alone + options.noise_floor ** 2
        by_point, by_pose = self.pose.jacobian(positions)
        rows = by_point.astype(np.float32) @ self._rows             # (C, 2, N)
        rows = np.concatenate([rows[..., :n], by_pose.astype(np.float32), rows[..., self._bases.count:],
                               miss.astype(np.float32)[..., None]], -1)
        lower = np.linalg.cholesky(covariance * factor).astype(np.float32)
        white = solve_triangular(lower, rows.reshape(count, -1), lower=True, check_finite=False)
        white = white.reshape(2 * count, -1)
        both = (white.T @ white).astype(float)
        matrix, right = both[:-1, :-1].copy(), both[:-1, -1].copy()
        inverse = 1 / options.distance
        prior = np.concatenate([np.full(OWN - 1, 1e-9), [(options.distance_sigma * inverse) ** -2],
                                np.full(len(self.expression), options.expression_sigma ** -2)])
        right[n:] -= prior * np.concatenate([np.zeros(OWN - 1), [self.pose.perspective - inverse], self.expression])
        own = np.arange(n, len(matrix))
        matrix[own, own] += prior
        return matrix, right
