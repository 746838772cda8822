"""Glasses as triangles: two rims, a bridge and temples, fitted to a head's landmarks; dark lenses or none.

At the resolution of a crop a clear lens is invisible, so only its rim is modelled.
"""
from typing import NamedTuple

import numpy as np

from Dataset.geometry.normals import vertex_normals

NONE, CLEAR, DARK = range(3)
_AROUND, _SIDES = 28, 5         # points along a rim, sides of its tube
_PLASTIC = np.array([[0.012, 0.012, 0.014], [0.02, 0.04, 0.10], [0.25, 0.27, 0.30], [0.05, 0.22, 0.40],
                     [0.20, 0.06, 0.05], [0.06, 0.05, 0.25]])        # black, tortoise, steel, gold, blue, red


class Glasses(NamedTuple):
    """vertices (N, 3) mm in the head frame; triangles (M, 3); lens (M,) bool; normals (N, 3); colours (N, 3) linear
    BGR."""
    vertices: np.ndarray
    triangles: np.ndarray
    lens: np.ndarray
    normals: np.ndarray
    colours: np.ndarray


def make_glasses(landmarks: np.ndarray, kind: int, rng: np.random.Generator) -> Glasses:
    """A random pair for 68 landmarks (68, 3) in the head frame, mm. kind: CLEAR or DARK."""
    eyes = np.stack([landmarks[36:42].mean(0), landmarks[42:48].mean(0)])
    apart = float(np.linalg.norm(eyes[1] - eyes[0]))
    nose = landmarks[28]
    half_width = apart * rng.uniform(0.36, 0.42)
    half_height = half_width * rng.uniform(0.62, 0.98)
    roundness = rng.uniform(2.0, 5.0)       # exponent of the superellipse: 2 round, 5 square
    thick = np.exp(rng.uniform(np.log(0.5), np.log(2.2)))
    front = max(eyes[:, 2].max() + rng.uniform(13, 19), landmarks[17:27, 2].max() + 2.5, nose[2] - 4)
    drop, tilt, wrap = rng.uniform(-2, 5), np.radians(rng.uniform(2, 11)), rng.uniform(0.05, 0.16)
    colour = _PLASTIC[rng.integers(len(_PLASTIC))] * rng.uniform(0.7, 1.3)
    angle = np.linspace(0, 2 * np.pi, _AROUND, endpoint=False)
    cosine, sine = np.cos(angle), np.sin(angle)
    outline = np.stack([np.sign(cosine) * np.abs(cosine) ** (2 / roundness) * half_width,
                        np.sign(sine) * np.abs(sine) ** (2 / roundness) * half_height], -1)
    outline[:, 0] *= 1 + 0.12 * np.minimum(outline[:, 1] / half_height, 0)        # narrower below

    middle = eyes.mean(0)
    parts: list[tuple[np.ndarray, np.ndarray, bool]] = []
    rims = []
    for eye, side in zip(eyes, (-1, 1)):
        out = np.abs(outline[:, 0] * 1.0 * side + eye[0] - middle[0])
        rim = np.stack([eye[0] + side * outline[:, 0], eye[1] - drop + outline[:, 1],
                        front - wrap * np.maximum(out - 0.3 * apart, 0) + np.tan(tilt) * outline[:, 1]], -1)
        rims.append(rim)
        parts.append((*_tube(rim, thick, closed=True), False))
        if kind == DARK:
            count = len(rim)
            fan = np.stack([np.arange(count), (np.arange(count) + 1) % count, np.full(count, count)], -1)
            parts.append((np.concatenate([rim, rim.mean(0, keepdims=True)]), fan, True))
    inner = [rim[np.argmax(-side * rim[:, 0] + 0.3 * rim[:, 1])] for rim, side in zip(rims, (-1, 1))]
    top = (inner[0] + inner[1]) / 2 + [0, 1.5, 1.5]
    top[2] = max(top[2], nose[2] + 2.0)
    parts.append((*_tube(np.stack([inner[0], top, inner[1]]), thick), False))
    for rim, side, ear in zip(rims, (-1, 1), (landmarks[0], landmarks[16])):
        hinge = rim[np.argmax(side * rim[:, 0] + 0.5 * rim[:, 1])]
        wide = side * max(abs(ear[0]) + 3, abs(hinge[0]) + 2)
        path = np.array([hinge, [wide, hinge[1], hinge[2] - 8], [side * (abs(ear[0]) + 4), eyes[0, 1], ear[2] - 8]])
        parts.append((*_tube(path, thick), False))
    starts = np.cumsum([0] + [len(v) for v, _, _ in parts])
    vertices = np.concatenate([v for v, _, _ in parts])
    triangles = np.concatenate([t + s for (_, t, _), s in zip(parts, starts)])
    lens = np.concatenate([np.full(len(t), is_lens) for _, t, is_lens in parts])
    colours = np.broadcast_to(colour, vertices.shape).copy()
    tint = np.array([0.015, 0.017, 0.02]) * rng.uniform(0.4, 4) * (1 + rng.normal(0, 0.15, 3))
    for (v, _, is_lens), start in zip(parts, starts):
        if is_lens:         # darker above
            fraction = np.clip((v[:, 1] - middle[1]) / half_height * 0.4 + 0.5, 0, 1)[:, None]
            colours[start:start + len(v)] = tint * (1.8 - 1.3 * fraction)
    return Glasses(vertices, triangles, lens, vertex_normals(vertices, triangles), np.maximum(colours, 0.003))


def _tube(path: np.ndarray, radius: float, closed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A tube around points (K, 3): vertices (K * _SIDES, 3) and triangles, counter-clockwise from outside."""
    count = len(path)
    ahead = np.roll(path, -1, 0) if closed else np.concatenate([path[1:], path[-1:]])
    behind = np.roll(path, 1, 0) if closed else np.concatenate([path[:1], path[:-1]])
    along = ahead - behind
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    first = np.cross(along, [0.0, 0.0, 1.0])
    short = np.linalg.norm(first, axis=1) < 0.2
    first[short] = np.cross(along[short], [0.0, 1.0, 0.0])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(along, first)
    turn = 2 * np.pi * np.arange(_SIDES) / _SIDES
    rings = path[:, None] + radius * (np.cos(turn)[:, None] * first[:, None] + np.sin(turn)[:, None] * second[:, None])
    row, column = (g.ravel() for g in np.mgrid[0:count if closed else count - 1, 0:_SIDES])
    a, b = row * _SIDES + column, row * _SIDES + (column + 1) % _SIDES
    c, d = ((row + 1) % count) * _SIDES + column, ((row + 1) % count) * _SIDES + (column + 1) % _SIDES
    return rings.reshape(-1, 3), np.concatenate([np.stack([a, b, d], -1), np.stack([a, d, c], -1)])
