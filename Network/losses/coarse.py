"""The coarse network's loss (Endrawis 2018, 3.1.3): a distance between geometries, not between coefficients, since the
bases of identity and expression are not orthogonal to each other; and the squared error of the pose.
"""
from __future__ import annotations

from typing import Any, Callable

import numpy as np
from keras import ops

IDENTITY, EXPRESSION = 200, 84
#: an error that counts as 1: three angles in radians, ln of the scale, two positions in normalised coordinates
POSE_UNITS = (0.1, 0.1, 0.1, 0.05, 0.02, 0.02)


def coarse_loss(basis: np.ndarray, norm: str = "l1", geometry: str = "whole", pose_weight: float = 1.0) -> Callable:
    """The loss of `build`'s output: (truth, prediction), both (B, 290) -> its parts, (B,) float32, that add up.

    basis     (284, 3 V) float32 mm: [A_id | A_exp] transposed, a row a coefficient
    norm      l1: mean absolute difference of the vertices' coordinates, mm; l2, the seed of it (Richardson et al.
              2017): the mean squared one, mm^2
    geometry  whole: || [A_id | A_exp] (x - x^) ||, "geometry"; apart: || A_id ... || and || A_exp ... ||, "identity"
              and "expression": what one explains with the other costs, too
    pose      mean squared error of the six numbers, each in POSE_UNITS, times pose_weight

    ValueError for a basis of another shape, other words, or shapes that disagree.
    """
    basis = np.asarray(basis, np.float32)
    if basis.ndim != 2 or len(basis) != IDENTITY + EXPRESSION:
        raise ValueError(f"basis must be ({IDENTITY + EXPRESSION}, 3 V), got {basis.shape}")
    if norm not in ("l1", "l2") or geometry not in ("whole", "apart"):
        raise ValueError(f"norm must be l1 or l2 and geometry whole or apart, got {norm!r} and {geometry!r}")
    parts = {"geometry": slice(0, IDENTITY + EXPRESSION)} if geometry == "whole" else {
        "identity": slice(0, IDENTITY), "expression": slice(IDENTITY, IDENTITY + EXPRESSION)}
    bases = {name: np.ascontiguousarray(basis[part]) for name, part in parts.items()}
    units = np.array(POSE_UNITS, np.float32)

    def loss(truth: Any, prediction: Any) -> dict[str, Any]:
        for array in (truth, prediction):
            if len(array.shape) != 2 or array.shape[-1] != IDENTITY + EXPRESSION + len(POSE_UNITS):
                raise ValueError(f"truth and prediction must be (B, 290), got {tuple(truth.shape)} and "
                                 f"{tuple(prediction.shape)}")
        error = ops.cast(prediction, "float32") - ops.cast(truth, "float32")
        found = {}
        for name, part in parts.items():
            apart = ops.matmul(error[:, part], ops.convert_to_tensor(bases[name]))
            found[name] = ops.mean(ops.abs(apart) if norm == "l1" else ops.square(apart), axis=-1)
        found["pose"] = pose_weight * ops.mean(ops.square(error[:, -len(POSE_UNITS):] / units), axis=-1)
        return found
    return loss
