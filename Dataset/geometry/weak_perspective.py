"""Weak perspective in closed form: (x, y, z) of the rotated head is projected to scale * (x, -y) + translation."""
from __future__ import annotations

import numpy as np


def fit_weak_perspective(points: np.ndarray, pixels: np.ndarray, weights: np.ndarray
                         ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """N cameras at once, in closed form: an affine camera by least squares, then its nearest scaled rotation (its polar
    factor).

    points (N, K, 3), pixels (N, K, 2), weights (N, K) >= 0, not all 0 -> rotations (N, 3, 3), head frame -> upright
    camera frame (x right, y up, z to the camera), scales (N,) pixels per unit of the points, translations (N, 2).
    The rotation is not determined by coplanar points. Not robust: `Dataset.geometry.pose.weak_perspective` is.
    """
    fraction = weights / weights.sum(-1, keepdims=True)
    centre, middle = (np.einsum("nk,nkc->nc", fraction, x) for x in (points, pixels))
    a, b = points - centre[:, None], (pixels - middle[:, None]) * [1.0, -1.0]
    weighted = a * fraction[..., None]
    normal, right = (np.einsum("nkc,nkd->ncd", weighted, x) for x in (a, b))
    # a draw may be coplanar: a small multiple of its variance keeps the system solvable
    normal += 1e-6 * (np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-9) * np.eye(3)
    affine = np.linalg.solve(normal, right).transpose(0, 2, 1)
    u, s, vt = np.linalg.svd(affine, full_matrices=False)
    rows = u @ vt
    rotation = np.concatenate([rows, np.cross(rows[:, 0], rows[:, 1])[:, None]], 1)
    scale = s.mean(-1)
    shift = np.einsum("nij,nj->ni", rows, centre) * scale[:, None]
    return rotation, scale, middle - shift * [1.0, -1.0]
