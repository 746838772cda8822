"""The rendering unit: coefficients -> PNCC and normals, the six input channels that show the network `coarse` its
current estimate (Endrawis 2018, 2.4.3; PNCC: Zhu et al. 2016, "Face alignment across large poses", section 3.2).

PNCC, *projected normalised coordinate code*: each point of the face has the colour of its position on the mean face,
whose bounding box is scaled to [0, 1]: x from the subject's right to the left, y up, z from the back of the head to the
nose. It encodes which point of the face a pixel shows, for any subject; the normals encode its orientation.
"""
from __future__ import annotations

from functools import lru_cache

import numpy as np

from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.geometry.normals import around
from Dataset.rendering.rasterise import faces, rasterise
from Dataset.representations import coefficients
from Dataset.representations.coefficients import POSE, Linear

LEFT_OUT = ("lashes",)          # a fringe of thin triangles, seen from both sides
CHANNELS = 6


def mean_code(model: FaceModel | None = None, subdivided: bool = False) -> np.ndarray:
    """PNCC of the mean face, (V, 3) float32 in [0, 1]: each vertex's x, y, z within the bounding box of the whole mean
    head's vertices. Defined here, once (docs/conventions.md)."""
    model = model or load_face_model()
    mean = np.asarray(model.mean, float)
    low, high = mean.min(0), mean.max(0)
    positions = model.subdivide(mean) if subdivided else mean
    return np.clip((positions - low) / (high - low), 0, 1).astype(np.float32)


class RenderingUnit:
    """PNCC and normals of any face of a model; `unit(coefficients, size)` -> (S, S, 6) float32.

    Channels: PNCC x, y, z in [0, 1], then the normal's x, y, z in the upright camera frame (x right, y up, z to the
    camera) as (n + 1) / 2 in [0, 1]; 0 where there is no face. Weak perspective. Thread-safe.

    subdivided: one Catmull-Clark level finer, 19,237 vertices instead of 4,881.
    """

    def __init__(self, model: FaceModel | None = None, subdivided: bool = False):
        model = model or load_face_model()
        regions = model.subdivided_regions if subdivided else model.regions
        keep = ~np.isin(regions, [model.region_names.index(n) for n in LEFT_OUT if n in model.region_names])
        triangles = (model.subdivided_triangles if subdivided else model.triangles)[keep]
        self.model, self.code = model, np.ascontiguousarray(mean_code(model, subdivided).T)
        self.linear: Linear = coefficients.linear(model, "vertices")
        self._finer = model.subdivide if subdivided else None
        self._triangles = np.ascontiguousarray(triangles.T, np.int32)
        self._around = around(triangles, self.code.shape[1])

    def __call__(self, face: np.ndarray, size: int) -> np.ndarray:
        """(290,) -> (S, S, 6) float32. ValueError for another length, NaN or infinity."""
        face = coefficients.checked(face)
        return self.draw(self.linear(face), face[POSE], size)

    def many(self, faces_: np.ndarray, size: int, out: np.ndarray | None = None) -> np.ndarray:
        """(B, 290) -> (B, S, S, 6) float32; out: written there, e.g. into channels of a batch."""
        faces_ = coefficients.checked(faces_)
        out = np.empty((len(faces_), size, size, CHANNELS), np.float32) if out is None else out
        for row, (shape, face) in enumerate(zip(self.linear(faces_), faces_)):
            out[row] = self.draw(shape, face[POSE], size)
        return out

    def draw(self, shape: np.ndarray, pose: np.ndarray, size: int) -> np.ndarray:
        """Vertices (3, V) mm of the base mesh, head frame, at a pose (6,) -> (S, S, 6) float32."""
        if self._finer:
            shape = self._finer(shape.T).T
        at = coefficients.decode_pose(pose, size)
        turned = (at.rotation * at.scale).astype(np.float32) @ shape.astype(np.float32)
        turned[0] += np.float32(at.translation[0])
        turned[1] = np.float32(at.translation[1]) - turned[1]
        found = faces(turned, self._triangles)
        seen = rasterise(found, size)
        # area vectors summed over the triangles around a vertex: smooth normals, weighted by area
        normals = (self._around @ np.ascontiguousarray(found.normals.T)).T
        normals *= np.float32(0.5) / np.maximum(np.sqrt((normals * normals).sum(0)), np.float32(1e-12))
        values = np.concatenate([self.code, normals + np.float32(0.5)])
        corners, weights = self._triangles[:, seen.triangle], seen.weights.T
        out = np.zeros((size * size, CHANNELS), np.float32)
        out[seen.pixel] = sum(values[:, corners[k]] * weights[k] for k in range(3)).T
        return out.reshape(size, size, CHANNELS)


def built_in_unit(subdivided: bool = False) -> RenderingUnit:
    """The rendering unit of this process's face model (`load_face_model`), made once for each model."""
    return _unit(load_face_model(), subdivided)


@lru_cache(maxsize=2)
def _unit(model: FaceModel, subdivided: bool) -> RenderingUnit:
    return RenderingUnit(model, subdivided)
