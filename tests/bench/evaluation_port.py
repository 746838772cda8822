"""A literal port of the published evaluation (thesis appendix B-6): the slow twin and the baseline of the ratio.

Definition, from the two sources the thesis names: ClayFlannigan/icp and the evaluation of olalium/face-reconstruction.
Nearest neighbours during the ICP are one vectorised query on a tree that is built anew each iteration (as
sklearn.neighbors does there); the error is a Python loop over the points, one KD-tree query and one call of
scipy.spatial.distance.euclidean each. Slow on purpose: nothing here may be made clever.

The published code queries scikit-learn's KDTree. Where that package is installed (this project does not need it) it is
used here too; else scipy's KDTree stands in, which answers a single query about four times as fast.
"""
from __future__ import annotations

import numpy as np
from scipy.spatial import distance

try:
    from sklearn.neighbors import KDTree
except ImportError:
    from scipy.spatial import KDTree

TREE = KDTree.__module__.split(".")[0]      # "sklearn" or "scipy": which one the ratio was measured against


def best_fit_transform(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, 3) and (N, 3) corresponding -> (4, 4) rigid least squares a -> b."""
    centre_a, centre_b = np.mean(a, axis=0), np.mean(b, axis=0)
    u, _, vt = np.linalg.svd(np.dot((a - centre_a).T, b - centre_b))
    rotation = np.dot(vt.T, u.T)
    if np.linalg.det(rotation) < 0:
        vt[2, :] *= -1
        rotation = np.dot(vt.T, u.T)
    matrix = np.identity(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = centre_b - np.dot(rotation, centre_a)
    return matrix


def icp(a: np.ndarray, b: np.ndarray, max_iterations: int = 100, tolerance: float = 1e-4) -> tuple[np.ndarray, int]:
    """(4, 4) motion a -> b and the number of moves."""
    source = np.ones((4, len(a)))
    source[:3] = a.T
    previous = 0.0
    for iteration in range(max_iterations):
        distances, index = (found.ravel() for found in KDTree(b).query(source[:3].T, k=[1] if TREE == "scipy" else 1))
        source = np.dot(best_fit_transform(source[:3].T, b[index]), source)
        mean = np.mean(distances)
        if np.abs(previous - mean) < tolerance:
            break
        previous = mean
    return best_fit_transform(a, source[:3].T), iteration + 1


def nme(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Align (N, 3) to (M, 3), then the mean one-way distance over the truth's bounding-box diagonal."""
    matrix, _ = icp(predicted, truth)
    homogeneous = np.ones((len(predicted), 4))
    homogeneous[:, :3] = predicted
    aligned = np.dot(matrix, homogeneous.T).T[:, :3]
    low, high = np.amin(truth, axis=0), np.amax(truth, axis=0)
    diagonal = np.sqrt((high[0] - low[0]) ** 2 + (high[1] - low[1]) ** 2 + (high[2] - low[2]) ** 2)
    tree = KDTree(truth)
    errors = np.zeros(len(aligned))
    for i, point in enumerate(aligned):
        _, index = tree.query([point], k=1)
        errors[i] = distance.euclidean(point, truth[np.ravel(index)[0]])
    return float(np.mean(errors) / diagonal)
