"""Where 256 places of the face lie in a photograph: `compact` finds them so. Source of the parts:
Network/layers/canonical.py.
"""
from __future__ import annotations

from typing import Any, NamedTuple

from keras import layers

from Network.layers.canonical import Correction, Correspondences, FaceFrame, Sampling
from Network.layers.residual import Convolution

KEYPOINT_SIDE = 16         # side of the map in the face's frame: 16x16 places of the ordered grid


class Found(NamedTuple):
    """places (n, 256, 2) in image sides, log_variance (n, 256), looks (n, 256, C), float32; first: the places before
    the second looks; levels: what each level of the encoder gives; pyramid (n, S/8, S/8, P); fine (n, S/4, S/4, F),
    None without second looks."""

    keypoints: Any
    log_variance: Any
    appearance: Any
    first: Any
    levels: list[Any]
    pyramid: Any
    fine: Any


def find_keypoints(levels: list[Any], convolution: Convolution, face_frame: FaceFrame, *, pyramid: int, appearance: int,
                refinements: int, fine: int, refine: int) -> Found:
    """Tensors of the encoder's levels, the finest, at half the image's side, first -> the places. ValueError for fewer
    than four levels.

    pyramid      features on the way up to 1/8 of the image, where the heat maps are
    looks        channels of appearance carried with each place
    refinements  second looks, at 1/4 of the image, where the places were found; fine: of the features there; refine: of
                 the two convolutions over the face of a second look
    """
    if len(levels) < 4:
        raise ValueError(f"places are found from at least 4 levels, got {len(levels)}")
    x = layers.Conv2D(pyramid, 1, name="top")(levels[-1])
    for level in range(len(levels) - 2, 1, -1):        # up to 1/8 of the image
        side = layers.Conv2D(pyramid, 1, name=f"side_{level}")(levels[level])
        x = layers.Add(name=f"up_{level}_add")([layers.UpSampling2D(2, name=f"up_{level}")(x), side])
        x = convolution(x, pyramid, f"pyramid_{level}")
    # in float32: what bfloat16 takes from a logit moves a place by a tenth of a pixel
    maps = layers.Conv2D(KEYPOINT_SIDE ** 2, 1, dtype="float32", name="maps")(x)
    seen = layers.Conv2D(1 + appearance, 1, name="appearance")(x)
    keypoints, log_variance, seen = Correspondences(name="correspondences")(maps, seen)
    found = Found(keypoints, log_variance, seen, keypoints, levels, x, None)
    if not refinements:
        return found
    top = layers.Conv2D(fine, 1, name="fine_top")(x)
    sharp = layers.Add(name="fine_add")([layers.UpSampling2D(2, name="fine_up")(top),
                                         layers.Conv2D(fine, 1, name="fine_side")(levels[1])])
    found = found._replace(fine=convolution(sharp, fine, "fine"))
    for number in range(refinements):
        found = _look_again(found, convolution, face_frame, refine, appearance, f"again_{number}")
    return found


def _look_again(found: Found, convolution: Convolution, face_frame: FaceFrame, features: int, appearance: int, name: str
                ) -> Found:
    """The same, corrected by what the fine features show where the places were found, seen together as a map of the
    face; begins as no correction."""
    before = found.keypoints, found.log_variance, found.appearance
    sampled = Sampling(name=f"{name}_sampled")(found.fine, found.keypoints)
    x = layers.Concatenate(name=f"{name}_seen", dtype="float32")([face_frame(*before), sampled])
    x = layers.Reshape((KEYPOINT_SIDE, KEYPOINT_SIDE, x.shape[-1]), name=f"{name}_map")(x)
    x = convolution(x, features, f"{name}_1")
    x = convolution(x, features, f"{name}_2")
    x = layers.Conv2D(3 + appearance, 1, kernel_initializer="zeros", dtype="float32", name=f"{name}_correction")(x)
    keypoints, log_variance, seen = Correction(name=name)(*before, x)
    return found._replace(keypoints=keypoints, log_variance=log_variance, appearance=seen)
