"""Photographed skin (CC0) for some of the subjects: MakeHuman's 20 base skins on the chart of
`Dataset/synthesis/skin.py`.

An image is split into its tone (the median colour of the face) and its detail, the logarithm of colour over tone: fine
mottle, lips, lids, nostrils and folds. A subject blends the detail of two images, mirrored or not, with random
strength, and a tone between that of the images and the procedural one, so that 20 images give many subjects. Brows,
beard, freckles and hair are procedural: the images have no brows, and their shaved scalps are faded out.
"""
from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from Dataset.face_model.model import FaceModel
from Dataset.io.archives.npz import read_npz
from Dataset.rendering.raycast import Scene
from Dataset.rendering.shading import GAMMA, LUMINANCE
from Dataset.synthesis.chart import HEIGHT, WIDTH, Chart
from Dataset.synthesis.skin import Appearance, Base, melanin_colour, melanin_of

BUILT_IN = Path(__file__).parents[1] / "face_model" / "assets" / "skins.npz"
MAX_PIXELS, MAX_BYTES = 4 << 20, 16 << 20
_ARRAYS = ("names", "png", "shape", "window", "age", "female")
SCALE = 2               # chart texels per texel of the detail: 1.2 mm, the resolution of the images
_SIDE = np.radians(100)         # beyond it are hair, and ears, which the chart maps elsewhere
_REACH = 400.0          # mm from the axis, the origin of the rays that unroll the head
_DARKEST, _SHINE = -1.2, 0.35            # limits of the logarithm: nostrils and lashes; highlights


class SkinImages(NamedTuple):
    """The content of skins.npz. names: K strings; images: (K, h, w, 3) uint8 BGR, the front of the head, upright;
    window: (4,) left, bottom, right, top in the model's texture square; age: (K,) float32 as `Appearance.age`; female:
    (K,) bool."""
    names: tuple[str, ...]
    images: np.ndarray
    window: np.ndarray
    age: np.ndarray
    female: np.ndarray


class Skins(NamedTuple):
    """K skins on a chart. tone: (K, 3) float64 linear BGR; melanin: (K,) float64, of the procedural skin of the same
    luminance; age, female: as of :class:`SkinImages`; detail: (K, 3, HEIGHT / 2, w) float32, logarithm of colour over
    tone; columns: those of the chart that detail fills, symmetric about the face's middle."""
    tone: np.ndarray
    melanin: np.ndarray
    age: np.ndarray
    female: np.ndarray
    detail: np.ndarray
    columns: slice


@lru_cache(maxsize=2)
def load_skins(path: str | Path | None = None) -> SkinImages:
    """The built-in images, or another file of `Dataset.face_model.build.skins`; read once, read-only.

    ValueError, naming the file, when it is missing, no npz of this kind, too large, or its arrays do not fit together.
    """
    path = BUILT_IN if path is None else Path(path)
    raw = read_npz(path, MAX_BYTES, "skins", _ARRAYS)
    missing = [name for name in _ARRAYS if name not in raw]
    if missing:
        raise ValueError(f"{path}: skins must hold {', '.join(missing)}, found none")
    images = _decode(path, raw["png"], raw["shape"])
    count = len(images)
    for name, shape, kind in (("names", (count,), "U"), ("window", (4,), "f"), ("age", (count,), "f"),
                              ("female", (count,), "b")):
        if raw[name].shape != shape or raw[name].dtype.kind != kind:
            raise ValueError(f"{path}: {name} must be {shape} of kind {kind}, received {raw[name].shape} "
                             f"{raw[name].dtype}")
    window, age = raw["window"].astype(float), raw["age"].astype(np.float32)
    if not (np.isfinite(age).all() and np.isfinite(window).all() and (window[:2] < window[2:]).all()):
        raise ValueError(f"{path}: age must be finite, window left, bottom, right, top, received {window.tolist()}")
    images.flags.writeable = False
    return SkinImages(tuple(str(name) for name in raw["names"]), images, window, age, raw["female"])


def unroll(images: SkinImages, chart: Chart, model: FaceModel, ears: np.ndarray) -> Skins:
    """The images on a chart: each texel shows the first hit on the mean face of a horizontal ray through it towards the
    head's axis. ears: (V,) bool, vertices that the chart maps elsewhere (`RenderContext.positions`). Takes 0.25 s."""
    x, y, known, columns = _positions(images, chart, model, ears)
    weight = _shown(chart, columns) * known
    azimuth, height = (axis[::SCALE, ::SCALE] for axis in chart.grid())
    azimuth = np.abs(azimuth[:, columns.start // SCALE:columns.stop // SCALE])
    low, high = chart.landmarks[8, 1], chart.landmarks[17:27, 1].mean() + 25
    face = known & (azimuth < np.radians(55)) & (height > low) & (height < high)
    table = ((np.arange(256) / 255) ** GAMMA).astype(np.float32)
    tones, details = [], []
    for image in images.images:
        colour = np.maximum(table[cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)], 2e-3)
        tone = np.median(colour[face], 0)
        detail = np.maximum(np.log(colour / tone), _DARKEST)
        detail = np.where(detail > 0, _SHINE * np.tanh(detail / _SHINE), detail)
        tones.append(tone)
        details.append(np.moveaxis(_fill(detail, known) * _soft(weight)[..., None], -1, 0))
    tone, detail = np.array(tones, float), np.ascontiguousarray(details, np.float32)
    return Skins(tone, melanin_of(tone), images.age, images.female, detail, columns)


def sample_base(skins: Skins, appearance: Appearance, fraction: float) -> Base | None:
    """The photographed base of a subject's skin, for a fraction ``fraction`` in [0, 1] of the subjects; None for the
    others, whose skin is procedural.

    Drawn from the seed of the appearance alone: nothing else of the subject changes, and a larger fraction keeps the
    choice for other subjects. The images are drawn by similarity in tone, age and sex (estimated from beard and
    stubble).
    """
    rng = np.random.default_rng([appearance.seed, 3])
    if rng.random() >= fraction:
        return None
    man = bool(appearance.beard or appearance.stubble)
    tone, age = (skins.melanin - appearance.melanin) / 0.18, (skins.age - appearance.age) / 0.45
    weights = np.exp(-0.5 * tone ** 2 - 0.5 * age ** 2)
    weights = (weights + 1e-9) * np.where(skins.female != man, 1.0, 0.3)
    first, second = rng.choice(len(weights), 2, replace=False, p=weights / weights.sum())
    mix, strength, towards = rng.uniform(0, 0.5), rng.uniform(0.7, 1.05), rng.uniform(0, 0.6)
    mirrored = rng.random(2) < 0.5
    own = melanin_colour(appearance.melanin, appearance.warmth)
    seen = skins.tone[first] ** (1 - mix) * skins.tone[second] ** mix
    lighter = np.log((seen @ LUMINANCE) / (own @ LUMINANCE))        # half of it, since the photographs contain light
    tone = own * np.exp(towards * (np.log(seen / own) - 0.5 * lighter))
    fractions = np.float32(strength * (1 - mix)), np.float32(strength * mix)
    one, other = (skins.detail[k][..., ::-1] if m else skins.detail[k] for k, m in zip((first, second), mirrored))
    gain = one * fractions[0]
    gain += other * fractions[1]
    np.exp(gain, out=gain)
    return Base(tone, gain, skins.columns)


def _decode(path: Path, png: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """The images (K, h, w, 3) from the PNG in which they are stacked vertically; its header is checked first."""
    if shape.shape != (4,) or shape.dtype.kind != "i" or (shape < 1).any() or shape[3] != 3:
        raise ValueError(f"{path}: shape must be four counts, the last 3, received {shape.tolist()}")
    count, height, width, _ = (int(n) for n in shape)
    if png.dtype != np.uint8 or png.ndim != 1 or len(png) < 33 or png[:8].tobytes() != b"\x89PNG\r\n\x1a\n":
        raise ValueError(f"{path}: png must be the bytes of a PNG file")
    wide, high = (int.from_bytes(png[k:k + 4].tobytes(), "big") for k in (16, 20))
    if (high, wide) != (count * height, width) or wide * high > MAX_PIXELS:
        raise ValueError(f"{path}: png must be of {width}x{count * height} and at most {MAX_PIXELS} pixels, "
                         f"received {wide}x{high}")
    image = cv2.imdecode(png, cv2.IMREAD_COLOR)
    if image is None or image.shape != (high, wide, 3):
        raise ValueError(f"{path}: png must be the bytes of a whole PNG file")
    return image.reshape(count, height, width, 3)


def _positions(images: SkinImages, chart: Chart, model: FaceModel, ears: np.ndarray
               ) -> tuple[np.ndarray, np.ndarray, np.ndarray, slice]:
    """Columns x and rows y of the images, as cv2.remap takes them, for the chart's front, each (HEIGHT / 2, w)
    float32; whether the images show the texel, bool; and the columns of the chart."""
    half = int(_SIDE / (2 * np.pi) * WIDTH / SCALE)
    middle = WIDTH // SCALE // 2
    azimuth = ((np.arange(middle - half, middle + half) + 0.5) / middle - 1) * np.pi
    height = chart.high - (np.arange(HEIGHT // SCALE) + 0.5) * SCALE / HEIGHT * (chart.high - chart.low)
    azimuth, height = np.meshgrid(azimuth, height)
    away = np.stack([np.sin(azimuth), np.zeros_like(azimuth), np.cos(azimuth)], -1)
    origins = _REACH * away + np.stack([np.zeros_like(height), height, np.full_like(height, chart.axis)], -1)
    triangles = model.region("skin")
    triangles = triangles[~ears[model.triangles[triangles]].any(1)]
    hits = Scene(model.mean, model.triangles[triangles], threads=1).cast_rays(origins, -away)
    known = (hits.triangle >= 0) & (hits.depth < _REACH)        # a ray through a hole hits the back from inside
    corners = model.corner_uv[triangles[np.where(known, hits.triangle, 0)]]
    u, v = np.moveaxis(np.einsum("...k,...kc->...c", hits.barycentric, corners), -1, 0)
    (left, bottom, right, top), (rows, columns) = images.window, images.images.shape[1:3]
    x, y = (u - left) / (right - left) * columns - 0.5, (top - v) / (top - bottom) * rows - 0.5
    known &= (x >= 0) & (x <= columns - 1) & (y >= 0) & (y <= rows - 1)
    x, y = (np.where(known, position, 0).astype(np.float32) for position in (x, y))
    return x, y, known, slice(SCALE * (middle - half), SCALE * (middle + half))


def _shown(chart: Chart, columns: slice) -> np.ndarray:
    """The weight of the detail, (HEIGHT / 2, w) float32: 0 at the shaved hair of the images and at the sides."""
    azimuth, height = (axis[::SCALE, ::SCALE] for axis in chart.grid())
    azimuth = azimuth[:, columns.start // SCALE:columns.stop // SCALE]
    below = np.clip((chart.hair_edge(azimuth) - 6 - height) / 16, 0, 1)
    side = np.clip((np.radians(92) - np.abs(azimuth)) / np.radians(20), 0, 1)
    return (below * side).astype(np.float32)


def _fill(detail: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The detail (h, w, 3), continued smoothly over eyes and other texels that the images do not show."""
    weight = known.astype(np.float32)[..., None]
    near = _soft(detail * weight) / np.maximum(_soft(weight), 0.02)[..., None]
    return np.where(known[..., None], detail, near)


def _soft(values: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(values, (0, 0), 3)
