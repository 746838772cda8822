"""The keypoint branch of `compact`: a pyramid, heat maps, and refinement stages in canonical coordinates."""
from __future__ import annotations

from typing import Any, NamedTuple

from keras import layers

from Network.layers.canonical import CanonicalFeatures
from Network.layers.heat_maps import BilinearSampling, KeypointCorrection, SoftArgmax
from Network.layers.residual import Convolution

KEYPOINT_SIDE = 16      # the keypoints are a 16x16 subset of the ordered grid


class Found(NamedTuple):
    """keypoints (n, 256, 2) in normalised coordinates, log_variance (n, 256), appearance (n, 256, C), float32; first:
    the keypoints before the refinement stages."""

    keypoints: Any
    log_variance: Any
    appearance: Any
    first: Any


def find_keypoints(levels: list[Any], convolution: Convolution, canonical: CanonicalFeatures, *, pyramid: int,
                   appearance: int, refinements: int, fine: int, refine: int) -> Found:
    """Tensors of the encoder's levels -> keypoints. ValueError for fewer than four levels.

    levels       the finest first, at half the image's side
    pyramid      features on the way up to 1/8 of the image, where the heat maps are
    appearance   appearance features of each keypoint
    refinements  number of refinement stages, which read features at 1/4 of the image
    fine         of those features
    refine       features of the two convolutions of a refinement stage
    """
    if len(levels) < 4:
        raise ValueError(f"keypoints need at least 4 levels, got {len(levels)}")
    x = layers.Conv2D(pyramid, 1, name="top")(levels[-1])
    for level in range(len(levels) - 2, 1, -1):        # up to 1/8 of the image
        side = layers.Conv2D(pyramid, 1, name=f"side_{level}")(levels[level])
        x = layers.Add(name=f"up_{level}_add")([layers.UpSampling2D(2, name=f"up_{level}")(x), side])
        x = convolution(x, pyramid, f"pyramid_{level}")
    # in float32: the rounding of bfloat16 moves a keypoint by a tenth of a pixel
    maps = layers.Conv2D(KEYPOINT_SIDE ** 2, 1, dtype="float32", name="maps")(x)
    features = layers.Conv2D(1 + appearance, 1, name="appearance")(x)
    keypoints, log_variance, means = SoftArgmax(name="soft_argmax")(maps, features)
    found = Found(keypoints, log_variance, means, keypoints)
    if not refinements:
        return found
    top = layers.Conv2D(fine, 1, name="fine_top")(x)
    side = layers.Conv2D(fine, 1, name="fine_side")(levels[1])
    sharp = layers.Add(name="fine_add")([layers.UpSampling2D(2, name="fine_up")(top), side])
    sharp = convolution(sharp, fine, "fine")
    for number in range(refinements):
        found = _refined(found, sharp, convolution, canonical, refine, f"refinement_{number}")
    return found


def _refined(found: Found, sharp: Any, convolution: Convolution, canonical: CanonicalFeatures, features: int, name: str
             ) -> Found:
    """Keypoints corrected by the fine features at them: the canonical features of all keypoints and the samples are a
    16x16 map of the face, of which two convolutions make the corrections. A new stage corrects nothing."""
    before = found.keypoints, found.log_variance, found.appearance
    sampled = BilinearSampling(name=f"{name}_sampled")(sharp, found.keypoints)
    x = layers.Concatenate(name=f"{name}_features", dtype="float32")([canonical(*before), sampled])
    x = layers.Reshape((KEYPOINT_SIDE, KEYPOINT_SIDE, x.shape[-1]), name=f"{name}_map")(x)
    x = convolution(x, features, f"{name}_1")
    x = convolution(x, features, f"{name}_2")
    channels = 3 + found.appearance.shape[-1]
    x = layers.Conv2D(channels, 1, kernel_initializer="zeros", dtype="float32", name=f"{name}_correction")(x)
    keypoints, log_variance, means = KeypointCorrection(name=name)(*before, x)
    return found._replace(keypoints=keypoints, log_variance=log_variance, appearance=means)
