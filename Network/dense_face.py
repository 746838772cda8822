"""A whole face in a photograph, from 256 places: which face, how it lies, and what each pixel sees of it.

`pix2pix-compact` and `vrn-compact` begin with it. A person's face is the mean face and a linear combination of a few
directions (Blanz and Vetter 1999), read off where the places lie; the camera is `Network.correspondence.FaceFrame`'s
scaled orthography; and what a pixel sees is found as a ray caster finds it, by Newton's steps in the face's own square
(Toth 1985, "On ray tracing parametric surfaces"). keras.ops only.
"""
from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from Network.correspondence import FaceFrame
from Network.grid import interpolation, resample
from Network.layers import PACKAGE
from Network.places import Found, unit_places

SIDE = 64           # of the ordered grid of a face: cells of 2 mm
CONTROL = 24        # of the grid on which directions are kept: that grid loses 0.3 % of the faces' squared offsets
#: of what FaceFrame gives: how a place lies off the template, in the head frame, by how sure it is; the camera's rows,
#: ln of scale
TURNED, ROWS, SCALE = slice(5, 8), slice(9, 15), slice(15, 16)
NO_FACE = 1.5       # mean log-variance of `compact`'s places: 4 of 10,080 pictures of people have more, 56 of noise
#                     alone 4.1 at least
STEPS = 4           # of Newton's
LONGEST = 3.0       # cells of the grid, of a step
_FLAT = 1e-7        # image sides squared a cell: where the face is seen from its edge a step is short, not wild
_FLATTER = 1e-5     # of the gradient: a tenth of a cell's usual square; one wild pixel spoils a step of all weights


def dense_face(found: Found, face_frame: FaceFrame, directions: int) -> Any:
    """Places -> the face's ordered grid as it lies, (n, SIDE, SIDE, 3) float32, as `DenseFace` gives it. The mean face
    until "shape_code" is solved (Network/solve_dense.py)."""
    frame = face_frame(found.places, found.log_variance, found.looks)
    code = layers.Dense(directions, kernel_initializer="zeros", dtype="float32", name="shape_code")(
        Evidence(name="evidence")(frame))
    return DenseFace(name="dense_face")(frame, found.places, code)


def what_is_seen(found: Found, posed: Any, start: int, side: int) -> Any:
    """The face's grid as it lies -> what pixels see of it (n, side, side, 2), as `Rays` gives it, without holes, and no
    face where places are found nowhere; start: side at which the search begins, side or an n-th of it."""
    at = FirstHit(start, name="first_hit")(posed)
    if side != start:
        at = layers.UpSampling2D(side // start, dtype="float32", name="first_grown")(at)
    return Doubted(name="doubted")(Filled(name="filled")(Rays(name="rays")(posed, at)), found.log_variance)


def on_face(far: Any) -> Any:
    """How far beyond a face pixels lie, of `Rays`, (n, S, S, 1) in image sides -> a mask's logits before anything is
    learnt of it: 2 on the face, 0 at half a pixel beyond its rim, -8 at most."""
    return ops.clip(2.0 - 4.0 * far.shape[1] * far, -8.0, 2.0)


def set_templates(model: keras.Model, template: Any) -> None:
    """Let a new network's layers know the mean face, an ordered grid (N, 3) of any size; N = 0: nothing."""
    for layer in model.layers:
        if isinstance(layer, FaceFrame) and len(template):
            layer.set_template(unit_places(template)[0])
        if isinstance(layer, DenseFace) and len(template):
            layer.set_template(template)


def third_row(rows: Any) -> Any:
    """A camera's two orthonormal rows (n, 6), x to the right and y up -> the third (n, 3), towards the viewer."""
    a, b = rows[:, :3], rows[:, 3:]
    return ops.roll(a, -1, -1) * ops.roll(b, -2, -1) - ops.roll(a, -2, -1) * ops.roll(b, -1, -1)


@keras.saving.register_keras_serializable(PACKAGE)
class Evidence(keras.layers.Layer):
    """What `FaceFrame` gives (n, K, 16 + C) -> what a face is read off linearly, (n, 3 K + 7) float32: how each place
    lies off the template, turned back into the head frame and by how sure it is, and the camera."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, frame: Any) -> Any:
        """As the class says."""
        turned = ops.reshape(frame[..., TURNED], (-1, 3 * frame.shape[1]))
        return ops.concatenate([turned, frame[:, 0, ROWS], frame[:, 0, SCALE]], axis=-1)

    def compute_output_shape(self, frame_shape: tuple) -> tuple:
        """(n, 3 K + 7)."""
        return frame_shape[0], 3 * frame_shape[1] + 7


@keras.saving.register_keras_serializable(PACKAGE)
class DenseFace(keras.layers.Layer):
    """What `FaceFrame` gives (n, 256, 16 + C), the places (n, 256, 2) in image sides and how much of each direction is
    in the face (n, K) -> the face's grid as it lies (n, SIDE, SIDE, 3) float32: x, y in image sides, and how far
    towards the viewer, in image sides, about the mean of the places.

    Its weights, not trained: the template (SIDE * SIDE, 3), the mean face in units of FaceFrame's template and about
    its middle, and the directions (K, CONTROL * CONTROL * 3), in the same units.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self._finer = interpolation(CONTROL, SIDE).astype(np.float32)

    def build(self, frame_shape: tuple, places_shape: tuple, code_shape: tuple) -> None:
        """Make template and directions, all nothing until they are set."""
        self.template = self.add_weight(shape=(SIDE * SIDE, 3), initializer="zeros", trainable=False, name="template",
                                        autocast=False)
        self.directions = self.add_weight(shape=(code_shape[-1], CONTROL * CONTROL * 3), initializer="zeros",
                                          trainable=False, name="directions", autocast=False)

    def set_template(self, template: np.ndarray) -> None:
        """template (N, 3): the mean face's ordered grid, of any size."""
        _, middle, radius = unit_places(template)
        self.template.assign(((resample(np.asarray(template), SIDE) - middle) / radius).astype(np.float32))

    def call(self, frame: Any, places: Any, code: Any) -> Any:
        """As the class says."""
        offsets = ops.reshape(ops.matmul(code, self.directions), (-1, CONTROL, CONTROL * 3))
        offsets = ops.reshape(ops.matmul(self._finer, offsets), (-1, SIDE, CONTROL, 3))
        face = ops.reshape(ops.matmul(self._finer, offsets), (-1, SIDE * SIDE, 3)) + self.template
        rows = frame[:, 0, ROWS]
        camera = ops.stack([rows[:, :3], -rows[:, 3:], third_row(rows)], axis=2)        # (n, 3, 3), y down
        scale = ops.exp(frame[:, 0, SCALE])[..., None]
        middle = ops.pad(ops.mean(places, axis=1), ((0, 0), (0, 1)))
        return ops.reshape(scale * ops.matmul(face, camera) + middle[:, None], (-1, SIDE, SIDE, 3))

    def compute_output_shape(self, frame_shape: tuple, places_shape: tuple, code_shape: tuple) -> tuple:
        """(n, SIDE, SIDE, 3)."""
        return frame_shape[0], SIDE, SIDE, 3


@keras.saving.register_keras_serializable(PACKAGE)
class FirstHit(keras.layers.Layer):
    """A face's grid as it lies (n, G, G, 3), x to the right and y down in image sides, z towards the viewer -> about
    where the pixels of side x side see it, (n, side, side, 2) float32: column and row of the grid.

    The mean of the grid's points, every second one, the nearer in the picture (Gaussians of REACH) and the nearer to
    the viewer the more; those that face away count for nothing. `Rays` goes on from there.
    """

    REACH = 0.008       # sides of the image: half of what lies between points, so that sheets are not mixed
    NEARER = 15.0       # logits a side: of two sheets that lie alike in the picture, the nearer
    HIDDEN = 20.0       # logits taken from what is seen from straight behind

    def __init__(self, side: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.side = side
        centres = ((np.arange(side) + 0.5) / side).astype(np.float32)
        self._pixels = np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 2)

    def call(self, posed: Any) -> Any:
        """As the class says."""
        size = posed.shape[1]
        middle = posed[:, 1:-1, 1:-1]
        along, down = posed[:, 1:-1, 2:] - posed[:, 1:-1, :-2], posed[:, 2:, 1:-1] - posed[:, :-2, 1:-1]
        across = along[..., 0] * down[..., 1] - along[..., 1] * down[..., 0]     # of the normal towards the viewer
        normal = ops.cross(along, down)
        facing = across / (ops.sqrt(ops.sum(ops.square(normal), -1)) + 1e-9)
        own = self.HIDDEN * ops.minimum(facing, 0.0) + self.NEARER * middle[..., 2]
        rows, columns = np.meshgrid(np.arange(1, size - 1), np.arange(1, size - 1), indexing="ij")
        at = np.stack([columns, rows], -1)[::2, ::2].reshape(-1, 2).astype(np.float32)
        places = ops.reshape(middle[:, ::2, ::2, :2], (-1, len(at), 2))
        own = ops.reshape(own[:, ::2, ::2], (-1, 1, len(at)))
        cross = ops.matmul(self._pixels, ops.transpose(places, (0, 2, 1)))                      # (n, pixels, points)
        logits = (cross - 0.5 * ops.sum(ops.square(places), -1)[:, None]) / self.REACH ** 2 + own
        return ops.reshape(ops.matmul(ops.softmax(logits, axis=-1), at), (-1, self.side, self.side, 2))

    def compute_output_shape(self, posed_shape: tuple) -> tuple:
        """(n, side, side, 2)."""
        return posed_shape[0], self.side, self.side, 2

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "side": self.side}


@keras.saving.register_keras_serializable(PACKAGE)
class Rays(keras.layers.Layer):
    """A face's grid as it lies (n, G, G, 3), x and y in image sides, and where in it to begin (n, side, side, 2),
    column and row as `FirstHit` gives them -> what the pixels of side x side see, (n, side, side, 2) float32: the third
    coordinate of the grid there, and how far from the pixel's middle, in image sides, the nearest place that was found
    lies: 0 on the face, more beyond its rim.

    Newton's steps, none longer than LONGEST cells, within the grid. Where the face hides itself, they stay on the sheet
    where they begin. How the answer changes with the grid is what implicit differentiation says at the place found, a
    little less, and much less where the face is seen from its edge.
    """

    def __init__(self, steps: int = STEPS, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.steps = steps

    def call(self, posed: Any, start: Any) -> Any:
        """As the class says."""
        side, last = start.shape[1], posed.shape[1] - 1
        centres = ((np.arange(side) + 0.5) / side).astype(np.float32)
        pixels = np.stack(np.meshgrid(centres, centres), -1).reshape(1, -1, 2)
        start = ops.reshape(ops.stop_gradient(start), (-1, side * side, 2))
        at, fixed = ops.clip(start, 0.0, last), ops.stop_gradient(posed)
        for _ in range(self.steps):
            point, along, down = _surface(fixed, at)
            at = ops.clip(at + _newton(pixels - point[..., :2], along, down), 0.0, last)
        at = ops.stop_gradient(at)
        point, along, down = _surface(posed, at)
        along, down = ops.stop_gradient(along), ops.stop_gradient(down)
        missed = pixels - point[..., :2]
        # the place moves with the grid, the depth with the place; where it lies on the rim it cannot
        move = _newton(missed - ops.stop_gradient(missed), along, down, _FLATTER)
        depth = point[..., 2] + move[..., 0] * along[..., 2] + move[..., 1] * down[..., 2]
        far = ops.sqrt(ops.sum(ops.square(missed), -1) + 1e-12)
        return ops.reshape(ops.stack([depth, far], -1), (-1, side, side, 2))

    def compute_output_shape(self, posed_shape: tuple, start_shape: tuple) -> tuple:
        """(n, side, side, 2)."""
        return (*start_shape[:-1], 2)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "steps": self.steps}


def _surface(grid: Any, at: Any) -> tuple[Any, Any, Any]:
    """A grid (n, G, G, C) at columns and rows (n, P, 2) within it, bilinear: values, and how they change for one column
    and one row more, each (n, P, C)."""
    side, channels = grid.shape[1], grid.shape[-1]
    low = ops.clip(ops.floor(at), 0.0, side - 2.0)
    across, down = ops.split(at - low, 2, axis=-1)
    low = ops.cast(low, "int32")
    first = ops.arange(ops.shape(at)[0], dtype="int32")[:, None] * (side * side) + low[..., 1] * side + low[..., 0]
    flat = ops.reshape(grid, (-1, channels))
    a, b, c, d = (ops.take(flat, first + step, axis=0) for step in (0, 1, side, side + 1))
    upper, lower = a + across * (b - a), c + across * (d - c)
    return upper + down * (lower - upper), (1 - down) * (b - a) + down * (d - c), lower - upper


def _newton(missed: Any, along: Any, down: Any, flat: float = _FLAT) -> Any:
    """The step in columns and rows (n, P, 2) that brings the first two coordinates nearer by `missed` (n, P, 2):
    damped least squares, no longer than LONGEST."""
    a = ops.sum(ops.square(along[..., :2]), -1) + flat
    b = ops.sum(along[..., :2] * down[..., :2], -1)
    d = ops.sum(ops.square(down[..., :2]), -1) + flat
    x, y = ops.sum(along[..., :2] * missed, -1), ops.sum(down[..., :2] * missed, -1)
    determinant = a * d - b * b
    step = ops.stack([(d * x - b * y) / determinant, (a * y - b * x) / determinant], -1)
    longest = ops.max(ops.abs(step), -1, keepdims=True)
    return step * ops.minimum(1.0, LONGEST / ops.maximum(longest, LONGEST))


@keras.saving.register_keras_serializable(PACKAGE)
class Filled(keras.layers.Layer):
    """What pixels see of a face (n, s, s, 2), of `Rays` -> the same, holes of up to two pixels closed: at the corners
    of eyes and mouth the surface folds, and no step finds its way."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, seen: Any) -> Any:
        """As the class says."""
        wider = -ops.max_pool(-seen[..., 1:], 3, strides=1, padding="same")
        return ops.concatenate([seen[..., :1], ops.max_pool(wider, 3, strides=1, padding="same")], axis=-1)

    def compute_output_shape(self, shape: tuple) -> tuple:
        """The same."""
        return shape


@keras.saving.register_keras_serializable(PACKAGE)
class Doubted(keras.layers.Layer):
    """What pixels see of a face (n, s, s, 2), of `Rays`, and the places' log_variance (n, K) -> the same, but all of it
    a side of the image beyond the face where the places are found nowhere: mean log-variance above NO_FACE."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, seen: Any, log_variance: Any) -> Any:
        """As the class says."""
        nowhere = ops.cast(ops.mean(log_variance, axis=1) > NO_FACE, "float32")[:, None, None, None]
        return ops.concatenate([seen[..., :1], seen[..., 1:] + nowhere], axis=-1)

    def compute_output_shape(self, seen_shape: tuple, log_variance_shape: tuple) -> tuple:
        """The first shape."""
        return seen_shape


@keras.saving.register_keras_serializable(PACKAGE)
class HardMask(keras.layers.Layer):
    """Logits -> 1.0 where they are positive, else 0.0, float32; the gradient is the sigmoid's (a straight-through
    estimator, Bengio et al. 2013): a soft mask would make a wall from a depth map's rim to its background."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, logits: Any) -> Any:
        """As the class says."""
        soft = ops.sigmoid(logits)
        return soft + ops.stop_gradient(ops.cast(logits > 0, "float32") - soft)

    def compute_output_shape(self, shape: tuple) -> tuple:
        """The same."""
        return shape
