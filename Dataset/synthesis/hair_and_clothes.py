"""Hair, neck and shoulders, as additional triangles for rendering.

They are not part of the face to be reconstructed, nor of the ground truth. Hair is a shell over the scalp, and a
curtain for long hair. Neck and shoulders are lofted from the boundary of the head's mesh and follow the rotation of the
head in part.
"""
from typing import NamedTuple

import numpy as np

from Dataset.geometry.edges import border_vertices
from Dataset.synthesis.chart import Chart
from Dataset.synthesis.skin import Appearance

SKIN, SOCKET, MOUTH, EYE, TEETH, TONGUE, HAIR, CLOTH, FRAME, LENS = range(10)
_STEPS = 12                        # rings of neck and shoulders
_STYLE = {1: 8.0, 2: 17.0, 3: 13.0}     # thickness of the shell, mm


class Shell(NamedTuple):
    """The scalp of the model, its triangles quartered once: constant for a model.

    pairs: (S, 2) head vertices whose mean each shell vertex is; triangles: (G, 3) into the shell's vertices;
    positions: (S, 3) on the mean face, mm; boundary: (K,) head vertices of the neck's open edge, ordered by azimuth.
    """
    pairs: np.ndarray
    triangles: np.ndarray
    positions: np.ndarray
    boundary: np.ndarray


class HairAndClothes(NamedTuple):
    """A subject's extra geometry: triangles (G, 3), numbered after the head's vertices; materials (G,);
    positions (S, 3), the chart positions of the extra vertices; thickness (shell,) mm; curtain (C, 3) mm in
    the head frame."""
    triangles: np.ndarray
    materials: np.ndarray
    positions: np.ndarray
    thickness: np.ndarray
    curtain: np.ndarray
    shell: Shell


def find_shell(mean: np.ndarray, triangles: np.ndarray, materials: np.ndarray, chart: Chart,
               ears: np.ndarray) -> Shell:
    """Cut the scalp out of the mean face (V, 3), whose triangles (F, 3) are of materials (F,), and leave
    out the ears, a mask (V,); find its neck's boundary."""
    skin_triangles = triangles[materials == SKIN]
    azimuth = np.arctan2(mean[:, 0], mean[:, 2] - chart.axis)
    scalp = ((mean[:, 1] > chart.hair_edge(azimuth) - 25) & ~ears)[skin_triangles].all(1)
    a, b, c = skin_triangles[scalp].T
    pairs = np.sort(np.concatenate([np.stack(p, -1) for p in ((a, a), (b, b), (c, c), (a, b), (b, c), (c, a))]), axis=1)
    pairs, index = np.unique(pairs, axis=0, return_inverse=True)
    a, b, c, ab, bc, ca = index.reshape(6, -1)
    quarters = np.concatenate([np.stack(t, -1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])

    boundary = np.intersect1d(border_vertices(triangles), skin_triangles)     # teeth and lashes have open edges too
    boundary = boundary[mean[boundary, 1] < chart.landmarks[48:60, 1].mean()]
    centre = mean[boundary].mean(0)
    boundary = boundary[np.argsort(np.arctan2(mean[boundary, 0] - centre[0], mean[boundary, 2] - centre[2]))]
    return Shell(pairs, quarters, mean[pairs].mean(1), boundary)


def dress(shell: Shell, mean: np.ndarray, chart: Chart, appearance: Appearance) -> HairAndClothes:
    """A subject's hair and clothes for heads with as many vertices as ``mean`` (V, 3)."""
    rng = np.random.default_rng([appearance.seed, 1])
    azimuth = np.arctan2(shell.positions[:, 0], shell.positions[:, 2] - chart.axis)
    above = shell.positions[:, 1] - chart.hair_edge(azimuth, appearance.hairline)
    rise = np.clip(above / 30, 0, 1)
    crown = np.clip((shell.positions[:, 1] - chart.landmarks[17:27, 1].mean()) / 60, 0, 1)
    lumps = _lumps(rng, shell.positions)
    side = 0.35 * appearance.parting * np.sin(azimuth) * crown
    thick = _STYLE.get(appearance.hair_style, 0.0) * (1 + 0.25 * lumps + side)
    thick = np.exp(rng.normal(0, 0.3)) * thick * (0.7 + 0.5 * crown) * np.sin(np.pi / 2 * rise) ** 0.8
    thickness = np.where(above > 0, thick, 0) - 1.2 * (above < 4)

    first = len(mean)
    grown = shell.triangles[(thickness[shell.triangles] > 0).any(1)]        # the others lie under the skin
    parts = [(grown, HAIR, shell.positions)] if appearance.hair_style else []
    positions = [shell.positions]
    first += len(shell.positions)
    triangles = [t + len(mean) for t, _, _ in parts]
    materials = [np.full(len(t), m) for t, m, _ in parts]

    count = len(shell.boundary)
    rings = _strip(_STEPS, count, closed=True)
    triangles.append(rings + first)
    ring_of = (np.arange(len(rings)) // 2) // count
    materials.append(np.where(ring_of < 3, SKIN, CLOTH))
    positions.append(_loft(mean[shell.boundary])[0].reshape(-1, 3))
    first += count * _STEPS

    curtain = np.zeros((0, 3))
    if appearance.hair_style == 3:
        curtain = _curtain(mean, chart, appearance, rng)
        triangles.append(_strip(*curtain.shape[:2]) + first)
        materials.append(np.full(len(triangles[-1]), HAIR))
    curtain = curtain.reshape(-1, 3)
    positions.append(curtain)
    return HairAndClothes(np.concatenate(triangles), np.concatenate(materials), np.concatenate(positions), thickness,
                          curtain, shell)


def extra_vertices(outfit: HairAndClothes, head: np.ndarray, normals: np.ndarray, rotation: np.ndarray,
                   translation: np.ndarray, torso: np.ndarray) -> np.ndarray:
    """Posed vertices (S, 3) of the extra triangles.

    head: (V, 3) head vertices before the pose; normals: (V, 3) of them; rotation, translation: the head's
    pose; torso: (3, 3) rotation of the shoulders.
    """
    shell = outfit.shell
    pushed = head[shell.pairs].mean(1) + outfit.thickness[:, None] * normals[shell.pairs].mean(1)
    rings, weight = _loft(head[shell.boundary])
    centre = head[shell.boundary].mean(0)
    with_head = rings @ rotation.T
    with_torso = (rings - centre) @ torso.T + centre @ (0.5 * rotation + 0.5 * torso).T
    loft = weight[:, None, None] * with_head + (1 - weight[:, None, None]) * with_torso
    return np.concatenate([pushed @ rotation.T, loft.reshape(-1, 3), outfit.curtain @ rotation.T]) + translation


def _loft(boundary: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rings (STEPS, K, 3) from the neck's boundary down to the chest, and how much each follows the head
    (STEPS,)."""
    centre = boundary.mean(0)
    flat = np.array([centre[0], boundary[:, 1].min() - 12, centre[2]])
    angle = np.arctan2(boundary[:, 0] - centre[0], boundary[:, 2] - centre[2])
    ring = np.stack([np.sin(angle), np.zeros_like(angle), np.cos(angle)], -1)
    #        down, half width, half depth, back: the neck, then collar, shoulders, chest
    shape = np.array([[8, 56, 58, 6], [30, 59, 60, 12], [44, 66, 66, 16], [50, 74, 70, 18], [58, 100, 76, 20],
                      [72, 140, 82, 22], [92, 172, 88, 24], [120, 190, 95, 24], [170, 200, 105, 22],
                      [240, 205, 115, 20], [330, 205, 118, 18]], float)
    rings = [boundary]
    for down, width, depth, back in shape:
        rings.append(flat + ring * [width, 1, depth] - [0, down, back])
    weight = np.array([1.0, 0.85, 0.6, 0.4, 0.25, 0.1, 0, 0, 0, 0, 0, 0])
    return np.stack(rings), weight


def _curtain(mean: np.ndarray, chart: Chart, appearance: Appearance, rng: np.random.Generator) -> np.ndarray:
    """Long hair: a sheet (rows, columns, 3) hanging down from above the ears round the back."""
    columns, rows = 60, 16
    azimuth = np.radians(np.linspace(74, 286, columns))
    eye, brow = chart.landmarks[36:48, 1].mean(), chart.landmarks[17:27, 1].mean()
    band = (mean[:, 1] > eye - 20) & (mean[:, 1] < brow + 30)
    around = np.arctan2(mean[band, 0], mean[band, 2] - chart.axis) % (2 * np.pi)
    distance = np.hypot(mean[band, 0], mean[band, 2] - chart.axis)
    radius = np.array([distance[np.abs((around - a + np.pi) % (2 * np.pi) - np.pi) < 0.25].max(initial=chart.radius)
                       for a in azimuth])
    radius = np.convolve(np.pad(radius, 4, mode="edge"), np.full(9, 1 / 9), mode="valid") + 5
    waves = np.convolve(rng.normal(0, 1, columns + 6), np.full(7, 1 / 7), mode="valid") * 8
    down = np.linspace(0, 1, rows)[:, None]
    length = rng.uniform(120, 230)
    height = brow + 32 - down * (length + brow)
    out = radius + waves * down + 10 * np.sin(np.pi * down * 0.8) - 16 * (1 - down) ** 4 * 1.6
    out = out * np.where(down > 0.6, 1 - 0.12 * (down - 0.6), 1)
    return np.stack([out * np.sin(azimuth), np.broadcast_to(height, out.shape), out * np.cos(azimuth) + chart.axis], -1)


def _strip(rows: int, columns: int, closed: bool = False) -> np.ndarray:
    """Two triangles per cell of a grid of vertices, row-major; closed: the last column meets the first."""
    wide = columns if closed else columns - 1
    row, column = (g.ravel() for g in np.mgrid[0:rows - 1, 0:wide])
    a, b = row * columns + column, row * columns + (column + 1) % columns
    return np.stack([np.stack([a, a + columns, b + columns], -1), np.stack([a, b + columns, b], -1)], 1).reshape(-1, 3)


def _lumps(rng: np.random.Generator, positions: np.ndarray) -> np.ndarray:
    """Smooth noise of about unit variance at (S, 3) positions, from a few plane waves of 25 to 70 mm."""
    total = np.zeros(len(positions))
    for _ in range(10):
        direction = rng.normal(size=3)
        wave = direction / np.linalg.norm(direction) * 2 * np.pi / rng.uniform(25, 70)
        total += np.cos(positions @ wave + rng.uniform(0, 2 * np.pi))
    return total / np.sqrt(5)
