"""Losses of the `vrn` network: (truth, prediction) -> a dict of parts, each one value per sample, (B,) float32.

Jackson et al. 2017, equation (1), whose printed form lacks the minus sign; L2 of the heat maps.
"""
from __future__ import annotations

from typing import Any

import keras
from keras import ops

HEAT_WEIGHT = 0.05      # of the heat maps' part, which is 1 before training, beside the volume's


def volume_and_landmarks(truth: dict[str, Any], prediction: dict[str, Any]) -> dict[str, Any]:
    """The `vrn` network's loss, whatever the variant.

    truth       volume (B, S, S, D), 1 inside the face, 0 outside; heat_maps (B, h, h, 68) in [0, 1], read where the
                network gives some
    prediction  {"volume": logits (B, S, S, D)}, and "heat_maps" (B, h, h, 68) of a network with landmarks

    volume      equation (1): the sigmoid cross-entropy, mean over the voxels (the equation's sum divided by their
                number: the same to RMSProp), in nats
    heat_maps   sum of the squared differences over that of the truth: 1 for a prediction of zeros;
                HEAT_WEIGHT of it
    ValueError where shapes disagree.
    """
    _check(truth["volume"], prediction["volume"], "volume")
    found = {"volume": cross_entropy(truth["volume"], prediction["volume"])}
    if "heat_maps" in prediction:
        _check(truth["heat_maps"], prediction["heat_maps"], "heat_maps")
        true = ops.cast(truth["heat_maps"], "float32")
        miss = ops.sum(ops.square(ops.cast(prediction["heat_maps"], "float32") - true), axis=(1, 2, 3))
        found["heat_maps"] = HEAT_WEIGHT * miss / ops.maximum(ops.sum(ops.square(true), axis=(1, 2, 3)), 1.0)
    return found


def cross_entropy(truth: Any, logits: Any) -> Any:
    """-(y log s(x) + (1 - y) log(1 - s(x))), s the sigmoid, from logits x: softplus(x) - x y, finite for every finite
    x; mean over all axes but the first, (B,) float32. Its gradient, s(x) - y, is written out: one pass over the volume
    instead of one for each operation."""
    truth, logits = ops.cast(truth, "float32"), ops.cast(logits, "float32")
    if keras.backend.backend() == "torch":      # whose custom gradients have another interface
        return _mean(ops.softplus(logits) - logits * truth)
    return ops.custom_gradient(_with_gradient)(truth, logits)


def _with_gradient(truth: Any, logits: Any) -> tuple[Any, Any]:
    def gradient(*upstream: Any) -> tuple[Any, Any]:
        up = upstream[0][0] if isinstance(upstream[0], (tuple, list)) else upstream[0]
        count = 1.0
        for size in logits.shape[1:]:
            count *= size
        factor = ops.reshape(up / count, (-1,) + (1,) * (len(logits.shape) - 1))
        return ops.zeros_like(truth), (ops.sigmoid(logits) - truth) * factor
    return _mean(ops.softplus(logits) - logits * truth), gradient


def _mean(values: Any) -> Any:
    return ops.mean(values, axis=tuple(range(1, len(values.shape))))


def _check(truth: Any, prediction: Any, name: str) -> None:
    """ValueError unless the shapes agree, as far as they are known: broadcasting would hide a mistake."""
    shapes = tuple(truth.shape), tuple(prediction.shape)
    if len(shapes[0]) != len(shapes[1]) or any(a != b and None not in (a, b) for a, b in zip(*shapes)):
        raise ValueError(f"{name}: truth and prediction must have one shape, got {shapes[0]} and {shapes[1]}")
