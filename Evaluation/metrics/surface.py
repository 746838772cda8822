"""Surface distances after a similarity: the strict protocol, which neither a collapsed nor a partial cloud can cheat.

Alignment: scale, rotation and translation (no reflection) by a symmetric trimmed ICP. It uses nearest neighbours in
both directions, without the worst 5 % of each, at equal weights; many starts on few points, then the best few on more.
Distance: to the *local surface* of the other cloud, along its local normal, plus the tangential distance beyond its
local point spacing. Two samplings of one surface score near 0, and a hole costs its size. Forward is prediction ->
ground truth, reverse is ground truth -> prediction, Chamfer their mean, all in % of the ground truth's bounding-box
diagonal.

The trimming after Chetverikov et al. 2002 (trimmed ICP). A collapsed or tiny prediction has a large reverse distance.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from Dataset.geometry.nearest import NearestTracker
from Dataset.geometry.normals import plane_normals
from Dataset.geometry.transforms import Similarity, as_points, rotation_from_euler, umeyama

TRIM = 0.95             # fraction of the matches of each direction that the fit uses
SCALES = (0.33, 6.0)    # bounds of the scale, relative to the ratio of the clouds' sizes
STARTS = ("upright", "all")
#: (points of the ground truth, iterations, candidates kept): coarse to fine
STAGES = ((60, 0, 200), (80, 2, 24), (150, 6, 3), (400, 15, 1))
FINE = ((1500, 60), (5000, 40))
FEW = 6                 # iterations: with more, neighbours are tracked instead of looked up


class Crop(NamedTuple):
    """The part of the ground truth's space that was scanned; predicted points outside it do not count forward.

    nose     (3,) the nose tip, in the ground truth's frame and unit
    radius   of the sphere around it
    y_limits (low, high) relative to the nose tip's y
    """

    nose: np.ndarray
    radius: float
    y_limits: tuple[float, float] = (-np.inf, np.inf)

    def inside(self, points: np.ndarray, grow: float = 1.0) -> np.ndarray:
        """(N, 3) -> (N,) bool; `grow` enlarges the crop about the nose tip."""
        offset = points - np.asarray(self.nose, np.float64)
        low, high = self.y_limits
        return ((offset ** 2).sum(axis=1) <= (grow * self.radius) ** 2 * 1.0002) \
            & (offset[:, 1] >= grow * low * 1.0001) & (offset[:, 1] <= grow * high * 1.0001)


class SurfaceScores(NamedTuple):
    """All but the last two in % of the ground truth's bounding-box diagonal.

    forward    mean surface distance prediction -> ground truth (alone it rewards collapse)
    reverse    mean surface distance ground truth -> prediction (holes cost)
    chamfer    (forward + reverse) / 2: the number to compare
    nearest    the same mean with plain nearest-neighbour distances
    kept       fraction of the predicted points inside the crop (1.0 without one)
    transform  Similarity, prediction -> ground truth
    """

    forward: float
    reverse: float
    chamfer: float
    nearest: float
    kept: float
    transform: Similarity


def surface_scores(predicted: np.ndarray, truth: np.ndarray, crop: Crop | None = None, starts: str = "upright",
                   whole: np.ndarray | None = None) -> SurfaceScores:
    """Align (N, 3) to (M, 3) and measure surface distances both ways.

    whole   (K, 3): a larger surface of which `truth` is the part that must be found. Alignment and forward distance
            then use all of it, so that correct points outside the part do not count as errors
    starts  "upright": the prediction is upright and its yaw within 60 degrees of the truth's (all networks here);
            "all": any rotation, tried where no upright one fits well (several times slower)

    Deterministic. ValueError for an empty or non-finite cloud, a ground truth without extent, an unknown `starts`.
    """
    predicted, truth = as_points(predicted, "prediction"), as_points(truth, "ground truth")
    if starts not in STARTS:
        raise ValueError(f"starts: want one of {', '.join(STARTS)}, got {starts!r}")
    diagonal = float(np.linalg.norm(np.ptp(truth, axis=0)))
    if not diagonal > 0:
        raise ValueError(f"ground truth: want a cloud with an extent, got {len(truth)} equal points")
    whole = truth if whole is None else as_points(whole, "the whole ground truth")
    transform = _Fit(predicted, truth, whole, crop, diagonal).run(starts == "all")
    aligned = transform.apply(predicted)
    inside, near = aligned, aligned
    kept = 1.0
    if crop is not None:
        mask = crop.inside(aligned)
        if mask.sum() >= max(3, 0.02 * len(aligned)):
            inside = aligned[mask]
        wider = crop.inside(aligned, 1.3)
        near = aligned[wider] if wider.sum() > 2 else aligned
        kept = len(inside) / len(aligned)
    forward, forward_plain = surface_distances(inside, whole)
    reverse, reverse_plain = surface_distances(truth, near)
    percent = 100.0 / diagonal
    f, r = float(forward.mean()) * percent, float(reverse.mean()) * percent
    plain = 0.5 * float(forward_plain.mean() + reverse_plain.mean()) * percent
    return SurfaceScores(f, r, 0.5 * (f + r), plain, kept, transform)


def surface_distances(points: np.ndarray, surface: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From each of (N, 3) points to the surface that (M, 3) samples: (N,) surface and (N,) nearest-neighbour distances.

    The normal at a sample is the least axis of its 12 nearest samples, its spacing the distance to the 6th; the
    smallest of the distances to the 3 nearest samples' tangent discs counts. Fewer than 6 samples are no surface: plain
    distances then.
    """
    tree = cKDTree(surface)
    k = min(12, len(surface))
    if k < 6:
        plain = tree.query(points)[0]
        return plain, plain
    plain, index = tree.query(points, 3)
    used, place = np.unique(index, return_inverse=True)     # samples that are nearest to no point are not needed
    distance, neighbours = tree.query(surface[used], k)
    offset = points[:, None] - surface[index]
    along = np.abs(np.einsum("nki,nki->nk", offset, plane_normals(surface, neighbours)[place.reshape(index.shape)]))
    across = np.sqrt(np.clip(plain ** 2 - along ** 2, 0, None))
    beyond = np.clip(across - distance[place, min(6, k - 1)].reshape(index.shape), 0, None)
    return np.sqrt(along ** 2 + beyond ** 2).min(axis=1), plain[:, 0]


class _Fit:
    """The search for the best similarity of one pair. Points have a fixed random order: the first n are a sample."""

    def __init__(self, predicted: np.ndarray, truth: np.ndarray, whole: np.ndarray, crop: Crop | None,
                 diagonal: float):
        rng = np.random.default_rng(1)
        self.p, self.g = predicted[rng.permutation(len(predicted))], truth[rng.permutation(len(truth))]
        self.w = self.g if whole is truth else whole[rng.permutation(len(whole))]
        self.crop, self.diagonal = crop, diagonal
        self.nose = truth[truth[:, 2].argmax()] if crop is None else np.asarray(crop.nose, np.float64)
        self.limits = (0.0, np.inf)
        self._trees: dict[int, tuple[cKDTree, cKDTree, np.ndarray]] = {}

    def run(self, everywhere: bool) -> Similarity:
        centre_p, centre_g = self.p.mean(axis=0), self.g.mean(axis=0)
        sigma_p, sigma_g = (float(np.sqrt(((x - c) ** 2).sum(axis=1).mean()))
                            for x, c in ((self.p, centre_p), (self.g, centre_g)))
        if sigma_p <= 1e-12 * max(1.0, float(np.abs(centre_p).max())):      # one point: put it on the nose tip
            return Similarity(1.0, np.eye(3), self.nose - centre_p)
        ratio = sigma_g / sigma_p
        self.limits = (SCALES[0] * ratio, SCALES[1] * ratio)
        here = Similarity.identity()
        extra = [here] if self.limits[0] <= 1 <= self.limits[1] else []
        best = self.search(self.starts(upright_rotations(), ratio, centre_p, centre_g) + extra)
        if everywhere and best[0] > 0.012 * self.diagonal:
            best = min(best, self.search(self.starts(all_rotations(), ratio, centre_p, centre_g)), key=lambda x: x[0])
        return min((self.refine(here, FINE[-1][0], 0), best), key=lambda x: x[0])[1]

    def starts(self, rotations: np.ndarray, ratio: float, centre_p: np.ndarray,
               centre_g: np.ndarray) -> list[Similarity]:
        """For each rotation: centre on centre, and the foremost predicted point on the nose tip at four scales."""
        outwards = (self.nose - centre_g) / max(1e-30, float(np.linalg.norm(self.nose - centre_g)))
        found = []
        for rotation in rotations:
            found.append(Similarity(ratio, rotation, centre_g - ratio * rotation @ centre_p))
            foremost = self.p[(self.p @ (rotation.T @ outwards)).argmax()]
            for scale in ratio * np.array([1.0, 1.35, 2.0, 2.8]):
                found.append(Similarity(scale, rotation, self.nose - scale * rotation @ foremost))
        return found

    def search(self, candidates: list[Similarity]) -> tuple[float, Similarity]:
        for n, iterations, keep in STAGES:
            ranked = sorted((self.refine(c, n, iterations) for c in candidates), key=lambda x: x[0])
            candidates = []
            for _, found in ranked:
                # in late stages one of each basin: otherwise all candidates would be of the best basin
                if iterations < 6 or not any(_alike(found, other) for other in candidates):
                    candidates.append(found)
                if len(candidates) == keep:
                    break
        best = (np.inf, candidates[0])
        for n, iterations in FINE:
            best = min((self.refine(c, n, iterations) for c in candidates), key=lambda x: x[0])
            candidates = [best[1]]
        return best

    def refine(self, transform: Similarity, n: int, iterations: int) -> tuple[float, Similarity]:
        """Symmetric trimmed ICP on n points of the truth and (for small n: 5 times) as many of the prediction."""
        if n not in self._trees:
            p = self.p[:n * (5 if n < 1000 else 1)]
            dense = round(n * len(self.w) / len(self.g))        # as densely as the part
            self._trees[n] = cKDTree(self.w[:dense]), cKDTree(p), p
        tree_w, tree_p, p = self._trees[n]
        g = self.g[:n]
        error = np.inf
        # of many iterations most move the points a little only
        to_p, to_w = ((NearestTracker(tree.data, 1, tree) for tree in (tree_p, tree_w)) if iterations > FEW else
                      (tree_p, tree_w))
        for k in range(iterations + 1):
            moved = transform.apply(p)
            inside = np.ones(len(p), bool) if self.crop is None else self.crop.inside(moved)
            # the truth is brought into the prediction's frame, so that its tree is built once
            back, back_index = to_p.query(transform.inverse().apply(g))
            back = back * transform.scale
            enough = inside.sum() >= max(8, 0.02 * len(p))
            if enough:
                there, there_index = (found[inside] for found in to_w.query(moved))
            error = 0.5 * (back.mean() + (there.mean() if enough else self.crop.radius if self.crop else np.inf))
            if k == iterations:
                break
            use = back <= np.quantile(back, TRIM)
            source, target, weights = [p[back_index[use]]], [g[use]], [np.full(use.sum(), 1.0 / use.sum())]
            if enough:
                use = there <= np.quantile(there, TRIM)
                source.append(p[inside][use])
                target.append(tree_w.data[there_index[use]])
                weights.append(np.full(use.sum(), 1.0 / use.sum()))
            fitted = self.fit(np.concatenate(source), np.concatenate(target), np.concatenate(weights))
            converged = k > 3 and abs(fitted.scale - transform.scale) < 1e-5 * transform.scale \
                and np.abs(fitted.rotation - transform.rotation).max() < 1e-5
            transform = fitted
            if converged:
                break
        return float(error), transform

    def fit(self, source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> Similarity:
        """Weighted least squares with the scale kept within its limits."""
        found = umeyama(source, target, weights)
        scale = float(np.clip(found.scale, *self.limits))
        w = weights / weights.sum()
        return Similarity(scale, found.rotation, w @ target - scale * found.rotation @ (w @ source))


def upright_rotations() -> np.ndarray:
    """(7, 3, 3): yaws from -60 to 60 degrees."""
    return np.stack([rotation_from_euler(yaw=yaw) for yaw in range(-60, 61, 20)])


def all_rotations() -> np.ndarray:
    """(348, 3, 3): the upright yaws, the same upside down, from behind and both, and 320 spread evenly over SO(3).

    The even spread is a super-Fibonacci spiral (Alexa 2022, "Super-Fibonacci Spirals: Fast, Low-Discrepancy Sampling
    of SO(3)").
    """
    upright = upright_rotations()
    over, behind = rotation_from_euler(pitch=180.0), rotation_from_euler(yaw=180.0)
    count = 320
    i = np.arange(count) + 0.5
    r, q = np.sqrt(i / count), np.sqrt(1 - i / count)
    a, b = 2 * np.pi * i / np.sqrt(2.0), 2 * np.pi * i / 1.533751168755204288118041
    spiral = Rotation.from_quat(np.stack([r * np.sin(a), r * np.cos(a), q * np.sin(b), q * np.cos(b)], 1)).as_matrix()
    return np.concatenate([upright, upright @ over, upright @ behind, upright @ over @ behind, spiral])


def _alike(a: Similarity, b: Similarity) -> bool:
    """Within about 10 degrees and 10 % of scale."""
    return np.trace(a.rotation.T @ b.rotation) >= 2.97 and abs(np.log(a.scale / b.scale)) <= 0.1
