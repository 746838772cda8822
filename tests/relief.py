"""Images of faces with known fine relief, for detail from shading: the skin, light and camera of
Dataset.synthesis.scene, and waves on the skin that bend its normals as the same waves in depth would."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.fitting.shape_from_shading import front_of_face
from Dataset.geometry.normals import normalise
from Dataset.rendering import shading
from Dataset.representations.coefficients import POSE, decode_pose
from Dataset.representations.pncc import built_in_unit
from Dataset.synthesis.scene import SKIN, RenderContext, SceneSubject, sample_view
from Dataset.synthesis.skin import sample_appearance


class Relief(NamedTuple):
    """image (S, S, 3) uint8 BGR; face (290,); normals (S, S, 3) with the waves, upright camera frame; mask (S, S): skin
    of the face's front."""

    image: np.ndarray
    face: np.ndarray
    normals: np.ndarray
    mask: np.ndarray


def relief(seed: int, size: int = 192, height: float = 0.35, lengths: tuple[float, float] = (6.0, 14.0),
           context: RenderContext | None = None) -> Relief:
    """height: RMS of the waves, mm; lengths: of the waves, mm."""
    model, rng, unit = load_face_model(), np.random.default_rng(seed), built_in_unit(True)
    context = context or RenderContext(model, threads=1)
    face = np.zeros(290, np.float32)
    face[:200], face[200:284] = model.sample_identity(rng), model.sample_expression(rng, 0.3)
    face[POSE] = [*rng.normal(0, (0.3, 0.12, 0.05)), 0.05, 0, -0.1]
    scene_subject = SceneSubject(context, face[:200], sample_appearance(rng))
    view = sample_view(rng, face[200:284])
    drawn = unit(face, size)
    seen = drawn[..., :3].any(-1)
    smooth = normalise(drawn[..., 3:][seen].astype(float) * 2 - 1)
    # PNCC says which point of the mean face a pixel shows, in millimetres
    mean = np.asarray(model.mean, float)
    positions = drawn[..., :3][seen] * np.ptp(mean, axis=0) + mean.min(0)
    rotation = decode_pose(face[POSE], size).rotation
    waves, slope = 6, np.zeros_like(positions)
    for _ in range(waves):
        direction = normalise(rng.normal(0, (1, 1, 0.3)))
        number = 2 * np.pi / rng.uniform(*lengths)
        slope += height * np.sqrt(2 / waves) * number * np.cos(number * positions @ direction + rng.uniform(0, 6.3)
                                                               )[:, None] * direction
    slope = slope @ rotation.T
    slope -= (slope * smooth).sum(1, keepdims=True) * smooth
    normals = normalise(smooth - slope)
    material = scene_subject.material(positions.astype(np.float32), np.full(len(positions), SKIN))
    light = shading.Light(view.light_direction.astype(float), view.light_colour.astype(float),
                          view.light_ambient.astype(float))
    linear = np.full((size, size, 3), 0.2)
    linear[seen] = shading.shade(normals, np.array([[0, 0, 1.0]]), material, light)
    grain = rng.normal(0, 1.0, linear.shape)
    image = np.clip(np.rint(shading.to_bgr8(linear) + grain), 0, 255).astype(np.uint8)
    out = np.full((size, size, 3), np.nan)
    out[seen] = normals
    return Relief(image, face, out, front_of_face(face, size))


def angle(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    """Mean angle between two fields of normals in a mask, degrees."""
    cosine = np.clip((a[mask] * b[mask]).sum(-1), -1, 1)
    return float(np.degrees(np.arccos(cosine)).mean())
