"""Losses: (truth, prediction) -> one value per sample, (B,) float32. The paper and its equation stand in the docstring.

One value per sample, so that a step may weigh, mask and average samples as it needs: over replicas and micro-batches
the mean of means is not the mean.
"""

from __future__ import annotations

from typing import Any

from keras import ops


def mean_squared_error(truth: Any, prediction: Any) -> Any:
    """Mean of the squared differences, index by index. Thomassen 2022, equation 8.

    truth, prediction  (B, ...) floats of one shape, here points (B, N, 3) in the unit sphere
    returns            (B,) float32, squared units

    The equation divides the squared *distances* by N; the listing's `keras.losses.MeanSquaredError` divides by 3N,
    coordinates too. This is the listing's, of which the equation's is three times.
    """
    _check(truth, prediction)
    difference = ops.cast(prediction, "float32") - ops.cast(truth, "float32")
    return ops.mean(ops.square(difference), axis=tuple(range(1, len(difference.shape))))


def _check(truth: Any, prediction: Any) -> None:
    """ValueError unless the shapes agree, as far as they are known: broadcasting would hide a mistake."""
    shapes = tuple(truth.shape), tuple(prediction.shape)
    known = len(shapes[0]) == len(shapes[1]) and all(a == b or None in (a, b) for a, b in zip(*shapes))
    if not known or len(shapes[0]) < 2:
        raise ValueError(f"truth and prediction must have one shape (B, ...), got {shapes[0]} and {shapes[1]}")


#: system -> the loss of its paper
LOSSES = {"convlstm": mean_squared_error}
