"""Surface points + material + light -> colour. Linear light inside, 8-bit BGR out.

All functions take flat lists of points, so that a caller shades only points that rays hit. Diffuse light is one
directional lamp (Lambert, optionally wrapped around the terminator as skin does it) plus an ambient
environment in second-order spherical harmonics (Ramamoorthi and Hanrahan 2001, equations 3 and 8); the
highlight is Blinn-Phong's.
"""
from typing import NamedTuple

import numpy as np

from Dataset.geometry.normals import normalise

GAMMA = 2.2
LUMINANCE = np.array([0.114, 0.587, 0.299])     # of BGR


class Light(NamedTuple):
    """direction: (3,) unit vector *towards* the lamp; colour: (3,) BGR, its strength in linear light;
    ambient: (9, 3) BGR, spherical-harmonic coefficients of the environment's radiance, order 1, y, z, x,
    xy, yz, 3z^2-1, xz, x^2-y^2."""
    direction: np.ndarray
    colour: np.ndarray
    ambient: np.ndarray


class Material(NamedTuple):
    """albedo: (N, 3) BGR, linear; specular: (N,) strength of the highlight; shininess: (N,) its exponent;
    wrap: (3,) BGR, how far light of each colour creeps round the terminator (0 = Lambert)."""
    albedo: np.ndarray
    specular: np.ndarray
    shininess: np.ndarray
    wrap: np.ndarray = np.zeros(3)


def sh_basis(directions: np.ndarray) -> np.ndarray:
    """The nine real spherical harmonics of order 0 to 2 at unit vectors (..., 3): (..., 9)."""
    return np.moveaxis(_sh_rows(*np.moveaxis(np.asarray(directions), -1, 0)), 0, -1)


def _sh_rows(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.stack([np.full_like(x, 0.282095), 0.488603 * y, 0.488603 * z, 0.488603 * x, 1.092548 * x * y,
                     1.092548 * y * z, 0.315392 * (3 * z * z - 1), 1.092548 * x * z, 0.546274 * (x * x - y * y)])


_COSINE_LOBE = np.array([np.pi] + [2 * np.pi / 3] * 3 + [np.pi / 4] * 5) / np.pi


def ambient_light(normals: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Diffusely reflected light of a white surface, (..., 3), under an environment of radiance
    ``coefficients`` (9, 3): a constant radiance 1 (coefficient 1 / 0.282095) gives 1 everywhere. Never
    negative."""
    weighted = (_COSINE_LOBE[:, None] * coefficients).astype(normals.dtype)
    flat = np.ascontiguousarray(normals.reshape(-1, 3).T)
    light = weighted.T @ _sh_rows(*flat)
    return np.maximum(light, 0, out=light).T.reshape(normals.shape)


def lamp_light(normals: np.ndarray, light: Light, wrap: np.ndarray = np.zeros(3)) -> np.ndarray:
    """The lamp's light on a white surface, (..., 3): colour * max(0, (n.l + w) / (1 + w)^2); the square
    conserves energy. w = 0 is Lambert's law."""
    cosine = (normals @ light.direction.astype(normals.dtype))[..., None]
    wrap = np.asarray(wrap, normals.dtype)
    return np.maximum((cosine + wrap) / (1 + wrap) ** 2, 0) * light.colour.astype(normals.dtype)


def lambert(normals: np.ndarray, light: np.ndarray, ambient: float = 0.0) -> np.ndarray:
    """Brightness (...) in [ambient, 1] of unit normals (..., 3) under one lamp in the unit direction ``light`` (3,) and
    an even light of strength ``ambient``: for plain images of a surface."""
    return ambient + (1 - ambient) * np.clip(normals @ light, 0, 1)


def shade(normals: np.ndarray, to_eye: np.ndarray, material: Material, light: Light,
          visibility: np.ndarray | float = 1.0, ambient_occlusion: np.ndarray | float = 1.0) -> np.ndarray:
    """Linear BGR radiance (N, 3) of N points.

    normals, to_eye: (N, 3) unit vectors; visibility: (N,) in [0, 1], how much of the lamp is seen (0 = in
    shadow); ambient_occlusion: (N,) in [0, 1], how much of the environment is seen (1 = all of it).
    """
    visibility = np.broadcast_to(np.asarray(visibility, normals.dtype), normals.shape[:1])[:, None]
    ambient_occlusion = np.broadcast_to(np.asarray(ambient_occlusion, normals.dtype), normals.shape[:1])[:, None]
    lamp = lamp_light(normals, light, material.wrap) * visibility
    diffuse = material.albedo * (lamp + ambient_light(normals, light.ambient) * ambient_occlusion)
    half = normalise(to_eye + light.direction.astype(normals.dtype))
    facing = np.maximum(np.einsum("ij,ij->i", normals, half), 0)
    facing_lamp = normals @ light.direction.astype(normals.dtype) > 0
    # (s + 8) / 8 keeps a highlight's energy when its exponent s changes
    strength = material.specular * (material.shininess + 8) / 8 * facing ** material.shininess * facing_lamp
    return diffuse + strength[:, None] * visibility * light.colour.astype(normals.dtype)


def shadow(scene, points: np.ndarray, normals: np.ndarray, direction: np.ndarray, lift: float = 0.5) -> np.ndarray:
    """How much of a lamp N points see: (N,) float32 of 0 and 1. Rays start ``lift`` mm above the surface,
    so that it does not shade itself. scene: a :class:`Dataset.rendering.raycast.Scene`."""
    directions = np.broadcast_to(direction, points.shape)
    return 1 - scene.occluded(points + lift * normals, directions).astype(np.float32)


def ambient_occlusion(scene, points: np.ndarray, normals: np.ndarray, rays: int = 64, reach: float = 80.0,
                      lift: float = 0.5) -> np.ndarray:
    """Ambient occlusion: the cosine-weighted fraction of the hemisphere within ``reach`` mm that N points
    see, (N,) in [0, 1] float32. The directions are the same for all points (a Fibonacci sphere), so the
    result has no noise."""
    index = np.arange(rays) + 0.5
    height = 1 - 2 * index / rays
    angle = np.pi * (1 + 5 ** 0.5) * index
    ring = np.sqrt(1 - height ** 2)
    total, seen = np.zeros(len(points)), np.zeros(len(points))
    for direction in np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=-1):
        weight = np.maximum(normals @ direction, 0)
        blocked = scene.occluded(points + lift * normals, np.broadcast_to(direction, points.shape), far=reach)
        total += weight
        seen += weight * ~blocked
    return (seen / np.maximum(total, 1e-9)).astype(np.float32)


def to_bgr8(linear: np.ndarray, contrast: float = 0.0) -> np.ndarray:
    """Linear light (..., 3), 1 = white, to uint8 with gamma 2.2. Highlights roll off above 0.8 instead of
    clipping.

    contrast: 0 leaves the tones alone, 1 applies a full S-curve.
    """
    linear = np.maximum(linear, 0)
    linear = np.where(linear > 0.8, 1 - 0.2 * np.exp(-(linear - 0.8) / 0.2), linear)
    tone = linear ** (1 / GAMMA)
    if contrast:
        tone = (1 - contrast) * tone + contrast * tone * tone * (3 - 2 * tone)
    return np.rint(255 * tone).astype(np.uint8)


def background(size: int, rng: np.random.Generator) -> np.ndarray:
    """A smooth backdrop (size, size, 3) in linear BGR float32: one dull colour, a gradient and large soft
    patches."""
    import cv2

    grey = rng.uniform(0.06, 0.6)
    colour = grey * (1 + rng.normal(0, 0.04, 3))
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    tone = 1 + rng.uniform(0, 0.7) * (np.cos(angle) * x + np.sin(angle) * y)
    for cells, strength in ((3, 0.25), (6, 0.15), (14, 0.06)):
        coarse = rng.normal(0, strength * rng.uniform(0, 1), (cells, cells, 1))
        coarse = coarse + rng.normal(0, 0.008, (cells, cells, 3))
        tone = tone[..., None] if tone.ndim == 2 else tone
        tone = tone + cv2.resize(coarse.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.35:      # the edge of a wall, a door or a shelf, out of focus
        edge = np.cos(angle) * (x - rng.uniform(-0.4, 0.4)) + np.sin(angle) * (y - rng.uniform(-0.4, 0.4))
        side = 1 / (1 + np.exp(-edge / rng.uniform(0.004, 0.05)))
        tone = tone * (1 + rng.uniform(-0.5, 0.5) * side[..., None])
    return np.clip(tone * colour, 0.01, 0.95).astype(np.float32)
