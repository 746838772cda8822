"""A face in a crop as 290 numbers: 200 identity, 84 expression, 6 pose (Endrawis 2018, 2.1 and 2.4.1).

| index | value | unit |
|---|---|---|
| 0-199 | identity | standard deviations |
| 200-283 | expression | weights in [0, 1] |
| 284-286 | yaw, pitch, roll | radians, as docs/conventions.md |
| 287 | ln(scale * HEAD / side) | 0: HEAD millimetres of the head span the crop |
| 288-289 | projection of the head's origin | sides of the crop from its middle, x to the right, y down |

Weak perspective in the frame of the crop, whose side is 1, so that the numbers do not depend on the resolution. The
paper gives neither units nor frame ("3 for rotations, 1 for scaling, 2 for translation").
"""
from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.spatial.transform import Rotation

from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.geometry.pose import Pose
from Dataset.geometry.transforms import rotation_from_euler
from Dataset.geometry.weak_perspective import fit_weak_perspective
from Dataset.io.images import Box
from Dataset.representations import points

IDENTITY, EXPRESSION, POSE = slice(0, 200), slice(200, 284), slice(284, 290)
SHAPE = slice(0, 284)
COUNT = 290
HEAD = 200.0                    # mm: the side of the median training crop (within 2 %)
MAX_LOG_SCALE = 1.5            # predicted scales are clipped to a factor e^1.5
GRID = 16                       # of `keypoints`: the ordered grid sampled 16x16, see docs/conventions.md
#: pose of a frontal head in a crop of the detector: median of the frontal training images
START_POSE = (0.0, 0.0, 0.0, 0.0, 0.0, -0.1)


def mean_face(pose: np.ndarray | None = None) -> np.ndarray:
    """(290,) float32: the initial face of the iterations, neutral, at `pose` (6,) or START_POSE."""
    start = np.zeros(COUNT, np.float32)
    start[POSE] = START_POSE if pose is None else pose
    return start


def checked(coefficients: np.ndarray) -> np.ndarray:
    """(..., 290) as float32. ValueError for another length, NaN or infinity."""
    numbers = np.asarray(coefficients, np.float32)
    if numbers.ndim < 1 or numbers.shape[-1] != COUNT:
        raise ValueError(f"coefficients must be (..., {COUNT}), received {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise ValueError("coefficients must be finite, received NaN or infinity")
    return numbers


class Linear(NamedTuple):
    """Points as a linear function of the coefficients: mean (3 K,) and basis (284, 3 K) float32 mm; x of all, then y,
    then z, the order in which they are rotated and drawn."""

    mean: np.ndarray
    basis: np.ndarray

    def __call__(self, coefficients: np.ndarray) -> np.ndarray:
        """(..., 290) float32, of which the first 284 are used -> (..., 3, K) float32 mm, head frame. A batch of faces
        costs little more than one: the basis is read once."""
        flat = np.asarray(coefficients, np.float32)[..., SHAPE] @ self.basis + self.mean
        return flat.reshape(*flat.shape[:-1], 3, -1)


@lru_cache(maxsize=8)
def linear(model: FaceModel, what: str) -> Linear:
    """`vertices` (4,881), `keypoints` (256, the ordered grid sampled 16x16), `landmarks` (68) or `grid` (16,384) of a
    model. Of a model with more components the first 200 and 84 are used, of one with fewer the rest has no effect.
    ValueError for another name."""
    both = np.zeros((1 + SHAPE.stop, *model.mean.shape), np.float32)
    both[0] = model.mean
    for part, basis in ((IDENTITY, model.identity), (EXPRESSION, model.expression)):
        kept = np.asarray(basis)[:part.stop - part.start]
        both[1 + part.start:1 + part.start + len(kept)] = kept
    if what == "landmarks":
        rows = np.repeat(np.arange(len(model.landmark_vertices)), 3)
        matrix = sparse.csr_matrix((model.landmark_weights.ravel(), (rows, model.landmark_vertices.ravel())),
                                   (rows[-1] + 1, len(model.mean)))
    elif what == "keypoints":
        matrix = points.coarse_grid(model)
    elif what == "grid":
        matrix = model.grid_matrix
    elif what == "vertices":
        matrix = None
    else:
        raise ValueError(f"what must be vertices, keypoints, landmarks or grid, received {what!r}")
    if matrix is not None:
        both = (matrix @ both.transpose(1, 0, 2).reshape(len(model.mean), -1)).reshape(-1, *both.shape[::2])
        both = both.transpose(1, 0, 2)
    flat = np.ascontiguousarray(both.transpose(0, 2, 1).reshape(len(both), -1), np.float32)
    return Linear(flat[0], flat[1:])


def encode_pose(pose: Pose, size: float) -> np.ndarray:
    """A weak perspective pose in a crop of `size` px -> (6,) float32; the perspective is left out."""
    shift = np.asarray(pose.translation, float) / size - 0.5
    roll, pitch, yaw = Rotation.from_matrix(pose.rotation).as_euler("ZXY")
    return np.array([yaw, pitch, roll, np.log(pose.scale * HEAD / size), *shift],
                    np.float32)


def decode_pose(numbers: np.ndarray, size: float) -> Pose:
    """(6,) -> the pose in a crop of `size` px. Any finite numbers give a pose: the scale is clipped by MAX_LOG_SCALE,
    the position to two sides of the crop."""
    numbers = np.asarray(numbers, float)
    scale = np.exp(np.clip(numbers[3], -MAX_LOG_SCALE, MAX_LOG_SCALE)) * size / HEAD
    return Pose(rotation_from_euler(*np.degrees(numbers[:3])), float(scale),
                (np.clip(numbers[4:6], -2, 2) + 0.5) * size)


def fitted_pose(shown: np.ndarray, pixels: np.ndarray, size: float) -> np.ndarray:
    """The weak-perspective pose of points seen by a camera, (B, 6) float32, in closed form.

    shown (B, K, 3) mm, head frame; pixels (B, K, 2), their projections, with equal weights; size: px of the crop.
    Least squares and a polar factor, without the robust estimation of Dataset/geometry/pose.py, which a rendering does
    not need.
    """
    shown, pixels = np.asarray(shown, float), np.asarray(pixels, float)
    poses = zip(*fit_weak_perspective(shown, pixels, np.ones(shown.shape[:2])))
    return np.stack([encode_pose(Pose(*pose), size) for pose in poses])


def encode(identity: np.ndarray, expression: np.ndarray, positions: np.ndarray, size: float,
           model: FaceModel | None = None) -> np.ndarray:
    """Shards' arrays -> (B, 290) float32.

    identity (B, 200), expression (B, 84), positions (B, 256, 2): `image_points`, the projections of the
    16x16 grid of this face, px of a crop of `size` px. The 290 numbers have no perspective beyond weak perspective.
    """
    model = model or load_face_model()
    out = np.zeros((len(identity), COUNT), np.float32)
    out[:, IDENTITY], out[:, EXPRESSION] = identity, expression
    out[:, POSE] = fitted_pose(linear(model, "keypoints")(out).transpose(0, 2, 1), positions, size)
    return out


def vertices(coefficients: np.ndarray, model: FaceModel | None = None) -> np.ndarray:
    """(290,) -> (V, 3) float64 mm, head frame, not rotated: the face with its expression."""
    numbers = checked(coefficients)
    return (model or load_face_model()).shape(numbers[IDENTITY], numbers[EXPRESSION])


def decode(coefficients: np.ndarray, size: int = points.SIZE, model: FaceModel | None = None) -> np.ndarray:
    """(290,) -> the face with its expression as an ordered grid (size * size, 3) float64 mm, head frame."""
    model = model or load_face_model()
    return points.decode(points.encode(vertices(coefficients, model), size, model))


def project(coefficients: np.ndarray, what: str = "keypoints", size: float = 1.0, model: FaceModel | None = None
            ) -> np.ndarray:
    """(290,) -> projections of `keypoints`, `landmarks` or other points of `linear`, (K, 2) float64 px of a crop of
    `size` px; size 1: normalised coordinates."""
    numbers = checked(coefficients)
    return decode_pose(numbers[POSE], size).project(linear(model or load_face_model(), what)(numbers).T)


def recropped(coefficients: np.ndarray, old: Box, new: Box) -> np.ndarray:
    """The same head in another square crop of the same image, boxes (x, y, w, w): (290,) float32."""
    numbers = np.array(coefficients, np.float32)
    factor = old[2] / new[2]
    numbers[287] += np.log(factor)
    middle = (numbers[288:290] + 0.5) * old[2] + np.asarray(old[:2], np.float32)
    numbers[288:290] = (middle - np.asarray(new[:2], np.float32)) / new[2] - 0.5
    return numbers


def crop_at(coefficients: np.ndarray) -> tuple[float, float, float, float]:
    """The square crop (x, y, w, w) in which a face (290,) has START_POSE, in normalised coordinates of its current
    crop: (0, 0, 1, 1) for `mean_face()`. Clipped as by `decode_pose`."""
    numbers = checked(coefficients)
    side = float(np.exp(np.clip(numbers[287], -MAX_LOG_SCALE, MAX_LOG_SCALE) - START_POSE[3]))
    x, y = np.clip(numbers[288:290], -2, 2) + 0.5 - side * (np.array(START_POSE[4:]) + 0.5)
    return float(x), float(y), side, side


def difference(before: np.ndarray, after: np.ndarray, model: FaceModel | None = None) -> float:
    """Root mean square distance of the projected 16x16 grids of two faces (290,), in sides of the crop."""
    apart = project(before, model=model) - project(after, model=model)
    return float(np.sqrt((apart ** 2).sum(-1).mean()))
