"""Ridge regression from its normal equations, as `Network.solve` uses it for every network."""
from __future__ import annotations

import numpy as np


def ridge_solution(inputs: np.ndarray, outputs: np.ndarray, ridge: float) -> np.ndarray:
    """(F, C) float64: the map of least squares whose normal equations are X^T X = inputs (F, F) and X^T Y = outputs
    (F, C). Every feature but the last, the constant, is pulled to zero in proportion to its own mean square."""
    return np.linalg.solve(pulled(inputs, ridge), outputs)


def pulled(inputs: np.ndarray, ridge: float) -> np.ndarray:
    """X^T X (F, F) with that pull on its diagonal."""
    penalty = ridge * np.diag(inputs) + 1e-9 * np.trace(inputs) / len(inputs)
    penalty[-1] = 0.0
    return inputs + np.diag(penalty)
