"""Where 256 places of the face lie in a photograph, and the map of the face between them. Source of the parts:
Network/correspondence.py; `compact` finds its places so, and `uvnet-compact` too, whose map begins from them.

The map is a moving least squares fit (Lancaster and Salkauskas 1981): about each point of the image the affine map that
fits the places best, the nearer and the surer ones more. Between true places of a smooth face it errs little.
"""
from __future__ import annotations

from typing import Any, NamedTuple, Sequence

import keras
import numpy as np
from keras import layers, ops

from Network.correspondence import Correction, Correspondences, FaceFrame, Sampling
from Network.grid import resample
from Network.layers import PACKAGE
from Network.residual import Convolution

PLACES = 16         # side of the map in the face's frame: 16x16 places of the ordered grid
REACH = 0.025       # of a place, image sides: true places, and ones a pixel off, give the best maps with it (128 px)
FARTHEST = 0.3      # sides of the atlas: so far a map is carried on beyond its places
_FLAT = (0.2 * REACH) ** 2      # pull towards no slope where places lie on a line


class Found(NamedTuple):
    """places (n, 256, 2) in image sides, log_variance (n, 256), looks (n, 256, C), float32; first: the places before
    the second looks; levels: what each level of the encoder gives; pyramid (n, S/8, S/8, P); fine (n, S/4, S/4, F),
    None without second looks."""

    places: Any
    log_variance: Any
    looks: Any
    first: Any
    levels: list[Any]
    pyramid: Any
    fine: Any


def find_places(levels: list[Any], convolution: Convolution, face_frame: FaceFrame, *, pyramid: int, looks: int,
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
    maps = layers.Conv2D(PLACES ** 2, 1, dtype="float32", name="maps")(x)
    seen = layers.Conv2D(1 + looks, 1, name="looks")(x)
    places, log_variance, seen = Correspondences(name="correspondences")(maps, seen)
    found = Found(places, log_variance, seen, places, levels, x, None)
    if not refinements:
        return found
    top = layers.Conv2D(fine, 1, name="fine_top")(x)
    sharp = layers.Add(name="fine_add")([layers.UpSampling2D(2, name="fine_up")(top),
                                         layers.Conv2D(fine, 1, name="fine_side")(levels[1])])
    found = found._replace(fine=convolution(sharp, fine, "fine"))
    for number in range(refinements):
        found = _look_again(found, convolution, face_frame, refine, looks, f"again_{number}")
    return found


def _look_again(found: Found, convolution: Convolution, face_frame: FaceFrame, features: int, looks: int, name: str
                ) -> Found:
    """The same, corrected by what the fine features show where the places were found, seen together as a map of the
    face; begins as no correction."""
    before = found.places, found.log_variance, found.looks
    sampled = Sampling(name=f"{name}_sampled")(found.fine, found.places)
    x = layers.Concatenate(name=f"{name}_seen", dtype="float32")([face_frame(*before), sampled])
    x = layers.Reshape((PLACES, PLACES, x.shape[-1]), name=f"{name}_map")(x)
    x = convolution(x, features, f"{name}_1")
    x = convolution(x, features, f"{name}_2")
    x = layers.Conv2D(3 + looks, 1, kernel_initializer="zeros", dtype="float32", name=f"{name}_correction")(x)
    places, log_variance, seen = Correction(name=name)(*before, x)
    return found._replace(places=places, log_variance=log_variance, looks=seen)


def unit_places(template: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """A face's ordered grid (N, 3) -> its places (256, 3) about their middle and in units of the farthest one, as
    FaceFrame's template is; that middle (3,) and unit, in those of the grid."""
    places = resample(np.asarray(template, np.float64), PLACES)
    middle = places.mean(axis=0)
    radius = float(np.linalg.norm(places - middle, axis=1).max())
    return (places - middle) / radius, middle, radius


@keras.saving.register_keras_serializable(PACKAGE)
class MovingMap(keras.layers.Layer):
    """Places (n, 256, 2) in image sides, log_variance (n, 256), trust (n, 256, 1), logits -> a map (n, side, side, 3)
    float32 at the image's cells: u and v of the atlas, as the places have them (docs/conventions.md), and how near the
    face is, the logarithm of the places' weights there.

    A place's weight is that of a Gaussian about it, of REACH, times its trust, over its variance.
    """

    def __init__(self, side: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.side = side
        centres = (np.arange(side) + 0.5) / side
        self._cells = np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 2).astype(np.float32)       # x, y
        # of row r and column c, from 0 to 127, of the 128x128 grid: u = (c + 1/2) / 128, v = 1 - (r + 1/2) / 128
        steps = (np.linspace(0, 127, PLACES) + 0.5) / 128
        v, u = np.meshgrid(1 - steps, steps, indexing="ij")
        self._uv = np.stack([u, v], -1).reshape(-1, 2).astype(np.float32)

    def call(self, places: Any, log_variance: Any, trust: Any) -> Any:
        """As the class says."""
        cells, known = self._cells, self._uv
        own = trust[..., 0] - log_variance - ops.sum(ops.square(places), -1) / (2 * REACH ** 2)
        cross = ops.matmul(cells, ops.transpose(places, (0, 2, 1))) / REACH ** 2
        logits = cross + own[:, None] - np.sum(cells ** 2, -1, keepdims=True) / (2 * REACH ** 2)     # (n, cells, 256)
        weights = ops.softmax(logits, axis=-1)
        x, y = places[..., 0] - 0.5, places[..., 1] - 0.5           # about the middle: their squares lose less
        columns = [x, y, x * x, x * y, y * y] + [known[:, i] * at for i in (0, 1) for at in (x, y)]
        moments = ops.matmul(weights, ops.stack(columns, -1))                                   # (n, cells, 9)
        mean = ops.matmul(weights, known)                                                       # (n, cells, 2)
        mx, my, xx, xy, yy, *joint = (moments[..., i] for i in range(9))
        xx, xy, yy = xx - mx * mx + _FLAT, xy - mx * my, yy - my * my + _FLAT
        determinant = xx * yy - xy * xy
        dx, dy = cells[:, 0] - 0.5 - mx, cells[:, 1] - 0.5 - my
        along, across = (yy * dx - xy * dy) / determinant, (xx * dy - xy * dx) / determinant
        found = []
        for i in (0, 1):
            slope_x, slope_y = joint[2 * i] - mean[..., i] * mx, joint[2 * i + 1] - mean[..., i] * my
            found.append(mean[..., i] + ops.clip(slope_x * along + slope_y * across, -FARTHEST, FARTHEST))
        near = ops.logsumexp(logits, axis=-1)
        return ops.reshape(ops.stack([*found, near], -1), (-1, self.side, self.side, 3))

    def compute_output_shape(self, places_shape: tuple, log_variance_shape: tuple, trust_shape: tuple) -> tuple:
        """(n, side, side, 3)."""
        return places_shape[0], self.side, self.side, 3

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "side": self.side}


def guide(found: Found, side: int, features: Sequence[Any]) -> tuple[Any, Any]:
    """The map between the places at side x side cells -> (u and v (n, side, side, 2) float32; `features` with the map
    beside them, of the same side). Which places are hidden is learnt from how they look."""
    trust = layers.Dense(1, kernel_initializer="zeros", dtype="float32", name="guide_trust")(found.looks)
    between = MovingMap(side, name="guide_map")(found.places, found.log_variance, trust)
    near = Cut(2, 3, 0.0, 0.1, name="guide_near")(between)
    centred = Cut(0, 2, 0.5, 2.0, name="guide_centred")(between)
    return (Cut(0, 2, 0.0, 1.0, name="guide_uv")(between),
            layers.Concatenate(name="guided")([*features, centred, near]))


@keras.saving.register_keras_serializable(PACKAGE)
class Cut(keras.layers.Layer):
    """Channels first to last - 1 of (..., C), less `middle`, times `scale`; float32; within -8 and 8 so."""

    def __init__(self, first: int, last: int, middle: float, scale: float, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.first, self.last, self.middle, self.scale = first, last, middle, scale

    def call(self, inputs: Any) -> Any:
        """As the class says."""
        return ops.clip((inputs[..., self.first:self.last] - self.middle) * self.scale, -8.0, 8.0)

    def compute_output_shape(self, shape: tuple) -> tuple:
        """(..., last - first)."""
        return (*shape[:-1], self.last - self.first)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "first": self.first, "last": self.last, "middle": self.middle,
                "scale": self.scale}
