"""Losses of the conditional GAN: (B, ...) -> one value per sample, (B,) float32.

Baby et al. 2020, equations 1 to 6. Sigmoid cross-entropy is from logits: against 1 it is softplus(-z), against 0
softplus(z).
"""
from __future__ import annotations

from typing import Any

from keras import ops

from Network.losses.points import _check

BACKGROUND = -1.0           # of the depth map: the farthest


def generator_loss(generated: Any) -> Any:
    """Equation 1, the first term of 4: cross-entropy of the discriminator's logits for generated depth against ones.

    generated  (B, P, P, 1) logits; returns (B,), mean over the patches
    """
    return _mean(ops.softplus(-ops.cast(generated, "float32")))


def discriminator_loss(real: Any, generated: Any) -> Any:
    """Equations 2 and 6: cross-entropy of the logits for real depth against ones plus that for generated against zeros.

    real, generated  (B, P, P, 1) logits; returns (B,), mean over the patches. (pix2pix halves it; to Adam it is one.)
    """
    _check(real, generated)
    return _mean(ops.softplus(-ops.cast(real, "float32"))) + _mean(ops.softplus(ops.cast(generated, "float32")))


def distance(truth: Any, depth: Any, kind: str = "l1", masked: bool = False) -> Any:
    """Equation 5 (l1, mean absolute difference) or the L2 term beside equation 3 (mean squared difference).

    truth, depth  (B, S, S, 1) in [-1, 1]; the truth is -1 where there is no face
    masked        over the pixels of the face alone; 0 for an image without any
    returns       (B,) float32
    """
    _check(truth, depth)
    truth = ops.cast(truth, "float32")
    difference = ops.cast(depth, "float32") - truth
    error = ops.abs(difference) if kind == "l1" else ops.square(difference)
    if not masked:
        return _mean(error)
    face = ops.cast(truth > BACKGROUND, "float32")
    return _mean(error * face) / ops.maximum(_mean(face), 1e-12)


def _mean(values: Any) -> Any:
    return ops.mean(values, axis=tuple(range(1, len(values.shape))))
