"""The 52 blendshapes of ARKit (Apple, `ARFaceAnchor.BlendShapeLocation`) of a face model, and their weights.

50 of the built-in model's 84 expression units carry these names. `tongueOut` moves nothing: no photo's tongue is
estimated. `mouthClose` closes the lips of an open jaw; it is derived here, and its weight is always 0, since a mouth
that a photo shows closed over an open jaw is explained by the other units.
"""
from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from Dataset.face_model.model import FaceModel
from Dataset.geometry.edges import edges

_PAIRS = ("browDown", "browOuterUp", "cheekSquint", "eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp",
          "eyeSquint", "eyeWide", "mouthDimple", "mouthFrown", "mouthLowerDown", "mouthPress", "mouthSmile",
          "mouthStretch", "mouthUpperUp", "noseSneer")
MOUTH_CLOSE, TONGUE_OUT = "mouthClose", "tongueOut"
#: their names in alphabetical order; left and right are the subject's
NAMES = tuple(sorted((*(name + side for name in _PAIRS for side in ("Left", "Right")), "browInnerUp", "cheekPuff",
                      "jawForward", "jawLeft", "jawOpen", "jawRight", MOUTH_CLOSE, "mouthFunnel", "mouthLeft",
                      "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower",
                      "mouthShrugUpper", TONGUE_OUT)))
_CLOSER = 0.05          # of a squared displacement: how much the units' own weights count beside the shape
_LIP_STEPS = 8          # of smoothing the lips' mask along the mesh


class Blendshapes(NamedTuple):
    """In the order of NAMES. displacements (52, V, 3) float32 mm at weight 1; own (52,): positions of the units among
    the model's expressions, -1 without; triangle (52, 52) and projection (84, 52): the least squares of `weights_of`.
    """

    displacements: np.ndarray
    own: np.ndarray
    triangle: np.ndarray
    projection: np.ndarray


def has_blendshapes(model: FaceModel) -> bool:
    """Whether a model's expressions carry ARKit's names; those that an adopted model brings do not."""
    return set(NAMES) - {MOUTH_CLOSE, TONGUE_OUT} <= set(model.expression_names)


@lru_cache(maxsize=2)
def blendshapes(model: FaceModel) -> Blendshapes:
    """The blendshapes of a model. ValueError where its expressions carry other names."""
    if not has_blendshapes(model):
        raise ValueError("blendshapes are of the built-in face model; the expressions of this one have other names")
    position = {name: i for i, name in enumerate(model.expression_names)}
    displacements = np.zeros((len(NAMES), *model.mean.shape), np.float32)
    own = np.array([-1 if name in (MOUTH_CLOSE, TONGUE_OUT) else position[name] for name in NAMES])
    displacements[own >= 0] = model.expression[own[own >= 0]]
    displacements[NAMES.index(MOUTH_CLOSE)] = _mouth_close(model)
    fitted = np.where((own >= 0)[:, None], displacements.reshape(len(NAMES), -1), 0).astype(np.float64)
    gram = fitted @ fitted.T
    ridge = np.diag(np.maximum(_CLOSER * np.diag(gram), 1e-9))
    triangle = np.linalg.cholesky(gram + ridge).T                       # R^T R = G + ridge
    chosen = np.zeros((len(model.expression), len(NAMES)))
    chosen[own[own >= 0], np.flatnonzero(own >= 0)] = 1
    moved = model.expression.reshape(len(model.expression), -1).astype(np.float64) @ fitted.T + chosen @ ridge
    return Blendshapes(displacements, own, triangle, np.linalg.solve(triangle.T, moved.T).T)


def weights_of(shapes: Blendshapes, expression: np.ndarray) -> np.ndarray:
    """Expression coefficients (84,) -> the 52 weights (52,) float64 in [0, 1].

    The units with ARKit's names keep their weights as far as these are in [0, 1]; what the other units add to the face
    is shared out by bounded least squares over the vertices, with a pull towards the units' own weights.
    """
    from scipy.optimize import lsq_linear       # imported by those who need it: it takes a while

    found = lsq_linear(shapes.triangle, np.asarray(expression, np.float64) @ shapes.projection, (0, 1), method="bvls").x
    return np.where(shapes.own >= 0, np.clip(found, 0, 1), 0.0)


def _mouth_close(model: FaceModel) -> np.ndarray:
    """(V, 3) float32 mm: with `jawOpen` the lips stay as they are closed, while the jaw is down."""
    jaw = model.expression[model.expression_names.index("jawOpen")]
    mask = model.masks["lips"]
    column, row = (model.uv * (mask.shape[1] - 1)).T
    lips = mask[np.rint(mask.shape[0] - 1 - row).astype(int), np.rint(column).astype(int)] / 255.0
    first, second = edges(model.triangles).ends.T
    count = np.bincount(first, minlength=len(lips)) + np.bincount(second, minlength=len(lips))
    for _ in range(_LIP_STEPS):     # so that the skin beside the lips follows; the lips themselves go all the way
        around = np.bincount(first, lips[second], len(lips)) + np.bincount(second, lips[first], len(lips))
        lips = np.maximum(lips, around / np.maximum(count, 1))
    return (-lips[:, None] * jaw).astype(np.float32)
