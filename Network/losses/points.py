"""Losses: (truth, prediction) -> one value per sample, (B,) float32. The paper and its equation stand in the docstring.

A loss of several parts is a dict of them, which add up. One value per sample, so that a step may weigh, mask and
samples as it needs: over replicas and micro-batches the mean of means is not the mean.
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


KEYPOINT_UNIT = 0.02        # normalised coordinates: the size of an error that counts as 1
_KNEE = 0.25                # in KEYPOINT_UNIT: smaller errors count squared, larger ones linearly; half a pixel of 128
_FIRST = 0.5                # weight of the keypoints before the refinement stages
_HIDDEN = 0.5               # weight of a keypoint that the image does not show
_LIKELIHOOD = 0.1           # weight of the likelihood


def keypoint_loss(truth: dict[str, Any], prediction: dict[str, Any]) -> dict[str, Any]:
    """The `compact` network's loss, in parts (B,) float32 that add up.

    truth       keypoints (B, T, K, 2) in normalised coordinates; seen (B, T, K), 1 or 0
    prediction  keypoints (B, T, K, 2); log_variance (B, T, K), of a coordinate's error in KEYPOINT_UNIT;
                first_keypoints (B, T, K, 2) of a network with refinement stages

    keypoints   mean pseudo-Huber distance of the coordinates in KEYPOINT_UNIT (Charbonnier et al. 1994); a hidden
                keypoint has the weight _HIDDEN
    first       the same of first_keypoints, times _FIRST
    likelihood  negative log-likelihood of the keypoints' errors as Gaussian (Wood et al. 2022, equation 1), times
                _LIKELIHOOD. Its gradient reaches the log-variance only: through the keypoints it would reward large
                errors at difficult points
    ValueError where shapes disagree.
    """
    _check(truth["keypoints"], prediction["keypoints"])
    weight = _HIDDEN + (1.0 - _HIDDEN) * truth["seen"]

    def distance(error: Any) -> Any:
        huber = _KNEE * ops.sum(ops.sqrt(1.0 + ops.square(error / _KNEE)) - 1.0, axis=-1)
        return ops.mean(weight * huber, axis=(1, 2)) / ops.mean(weight, axis=(1, 2))
    error = (prediction["keypoints"] - truth["keypoints"]) / KEYPOINT_UNIT                       # (B, T, K, 2)
    squared = ops.stop_gradient(ops.mean(ops.square(error), axis=-1))
    likelihood = prediction["log_variance"] + squared * ops.exp(-prediction["log_variance"])
    parts = {"keypoints": distance(error), "likelihood": _LIKELIHOOD * ops.mean(likelihood, axis=(1, 2))}
    if "first_keypoints" in prediction:
        _check(truth["keypoints"], prediction["first_keypoints"])
        first = (prediction["first_keypoints"] - truth["keypoints"]) / KEYPOINT_UNIT
        parts["first"] = _FIRST * distance(first)
    return parts


MIN_LOG_VARIANCE = -14.0      # of u and v: a standard deviation of 0.0009 of the atlas's side, a ninth of a cell
_FREEDOM = 4.0                  # of Student's t: few degrees, so that errors far out do not drive the training
_CONFIDENCE = 0.01              # weight of a map's likelihood: its sum stays beside the paper's parts
_DEPTH_MAP = 0.5                # of depth, whose range on a face is about that of u and v
_LANDMARKS, _POSE = 10.0, 20.0  # of 136 and 6 numbers, beside sums over some 6000 pixels of 128x128


def maps_of_the_face(truth: dict[str, Any], prediction: Any, distance: str = "l1", gradient: bool = True
                     ) -> dict[str, Any]:
    """The `uvnet` network's loss, Ronkainen 2017, 3.5 and listing A.2: sums over the image, (B,) float32, that add up.

    truth       uv (B, S, S, 2), atlas, 0 outside the mask; mask, visible_mask, eroded (B, S, S, 1), 1 or 0; where they
                are
                predicted, depth (B, S, S, 1) in [-1, 1], -1 where unknown, landmarks (B, 68, 2), pose (B, 6)
    prediction  (B, S, S, 4): u, v, mask, visible mask; or (B, S, S, 5) with depth, (B, S, S, 6) with the log-variance
                of u and v, (B, S, S, 7) with both, in this order; or a dict with these "maps", "landmarks", "pose"

    distance    l2: squared differences of the paper's four parts, in place of absolute ones (ablation of 4.4)
    gradient    False: without that part (ablation of 3.5)

    uv        sum of the absolute differences of u and v in the true mask: the listing's evaluation metric
    mask, visible_mask  the same of the masks, as they come: no sigmoid
    gradient  the same of the four images of u and v's differences to the next pixel, right and below, in the eroded
              mask; not those of the masked map, which jump at its border
    confidence  negative log likelihood of u and v's errors as Student's t in the true mask, from 0 up, _CONFIDENCE of
              it, where there is a log-variance, its squared scale; it does not move u and v. Not the paper's
    depth     sum of the absolute differences where the truth is known, _DEPTH_MAP of it
    landmarks, pose  sums of the absolute differences where there is a face, _LANDMARKS and _POSE of them. These three
              are the paper's outlook (4.5.1), which names no form of them

    The paper's function of the gradients is not printed: these are forward differences, 0 in the last row and column.
    ValueError where shapes disagree, or the truth lacks what is predicted.
    """
    asides, prediction = (prediction, prediction["maps"]) if isinstance(prediction, dict) else ({}, prediction)
    channels = prediction.shape[-1]
    if len(prediction.shape) != 4 or channels not in (4, 5, 6, 7):
        raise ValueError(f"prediction must have shape (B, S, S, 4) or (B, S, S, 5 to 7), got {tuple(prediction.shape)}")
    extras = [name for name in ("landmarks", "pose") if name in asides] + ["depth"] * (channels % 2)
    missing = [name for name in extras if name not in truth]
    if missing:
        raise ValueError(f"the network predicts {', '.join(missing)}, the data lack it: --extras {','.join(missing)}")
    for name, wanted in (("uv", 2), ("mask", 1), ("visible_mask", 1), ("eroded", 1)):
        _check(truth[name], prediction[..., :wanted])
    # plane by plane: three times as fast on CPUs as slices of the last axis
    u, v, mask, visible_mask, *log_variances = ops.unstack(ops.cast(prediction, "float32"), axis=-1)
    depth = log_variances.pop(0) if channels % 2 else None
    face, free, eroded = (ops.cast(truth[name], "float32")[..., 0] for name in ("mask", "visible_mask", "eroded"))

    def total(image: Any) -> Any:
        return ops.sum(ops.reshape(image, (-1, image.shape[1] * image.shape[2])), axis=-1)

    def far(image: Any) -> Any:
        return total(ops.square(image) if distance == "l2" else ops.abs(image))
    parts: dict[str, Any] = {"uv": 0.0, **({"gradient": 0.0} if gradient else {}), "mask": far(mask - face),
                             "visible_mask": far(visible_mask - free)}
    likelihood: Any = 0.0
    for i, (plane, true) in enumerate(zip((u, v), ops.unstack(ops.cast(truth["uv"], "float32"), axis=-1))):
        error = plane - true                                            # also outside the mask, where the truth is 0
        parts["uv"] += far(plane * face - true)
        if gradient:
            across = (error[:, :, 1:] - error[:, :, :-1]) * eroded[:, :, :-1]       # difference of the gradients
            below = (error[:, 1:] - error[:, :-1]) * eroded[:, :-1]
            parts["gradient"] += far(across) + far(below)
        if log_variances:
            squared, log_variance = ops.stop_gradient(ops.square(error)), log_variances[i]
            likelihood += total(face * (log_variance - MIN_LOG_VARIANCE
                                        + (_FREEDOM + 1) * ops.log1p(squared * ops.exp(-log_variance) / _FREEDOM)))
    if log_variances:
        parts["confidence"] = 0.5 * _CONFIDENCE * likelihood
    if depth is not None:
        _check(truth["depth"], prediction[..., :1])
        true = ops.cast(truth["depth"], "float32")[..., 0]
        parts["depth"] = _DEPTH_MAP * total(ops.abs(depth - true) * ops.cast(true > -1.0, "float32"))
    there = ops.max(face, axis=(1, 2))
    for name, weight in (("landmarks", _LANDMARKS), ("pose", _POSE)):
        if name in asides:
            _check(truth[name], asides[name])
            error = ops.abs(ops.cast(asides[name], "float32") - truth[name])
            parts[name] = weight * there * ops.sum(error, axis=tuple(range(1, len(error.shape))))
    return parts


def _check(truth: Any, prediction: Any) -> None:
    """ValueError unless the shapes agree, as far as they are known: broadcasting would hide a mistake."""
    shapes = tuple(truth.shape), tuple(prediction.shape)
    known = len(shapes[0]) == len(shapes[1]) and all(a == b or None in (a, b) for a, b in zip(*shapes))
    if not known or len(shapes[0]) < 2:
        raise ValueError(f"truth and prediction must have one shape (B, ...), got {shapes[0]} and {shapes[1]}")
