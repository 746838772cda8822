"""Procedural skin, hair paint and eyes: one texture per subject on the chart."""
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from Dataset.rendering.shading import LUMINANCE
from Dataset.synthesis.chart import HEIGHT, WIDTH, Chart, noise, soften

# Linear BGR albedo of skin with little, some and much melanin, interpolated in log space.
_MELANIN = np.log(np.array([[0.39, 0.49, 0.73], [0.22, 0.33, 0.57], [0.085, 0.14, 0.29], [0.03, 0.05, 0.115]]))
_HAIR = np.array([[0.008, 0.010, 0.012], [0.020, 0.032, 0.055], [0.05, 0.09, 0.16], [0.16, 0.28, 0.42],
                  [0.025, 0.07, 0.22], [0.28, 0.30, 0.32]])     # black, brown, chestnut, blond, red, grey
_IRIS = np.array([[0.02, 0.035, 0.07], [0.03, 0.08, 0.17], [0.06, 0.13, 0.15], [0.10, 0.17, 0.12],
                  [0.30, 0.22, 0.13], [0.30, 0.27, 0.22]])    # dark brown, brown, hazel, green, blue, grey


class Appearance(NamedTuple):
    """The appearance of a subject; every number in [0, 1] unless said otherwise.

    melanin: 0 pale to 1 dark; redness: of cheeks, nose and ears; warmth: yellow against pink; oil: how
    much the skin shines; freckles, lips (redness), circles (under the eyes), brows (thickness), beard (0
    none to 1 full), stubble (shadow of a shaved one); hair and iris: indices of the colour ramps, floats
    in [0, 5]; hair_style: 0 shaved, 1 short, 2 full, 3 long; hairline: mm above the default; parting: -1
    to 1, the side on which hair is thicker; cloth: (3,) BGR; seed: of the noise; uneven: blotches; moles: how many;
    age: depth of folds; makeup: on lids and lashes; arch: of the brows, 0.5 = as the landmarks; teeth: 0 yellow to 1
    white.
    """
    melanin: float
    redness: float
    warmth: float
    oil: float
    freckles: float
    lips: float
    circles: float
    brows: float
    beard: float
    stubble: float
    hair: float
    iris: float
    hair_style: int
    hairline: float
    parting: float
    cloth: np.ndarray
    seed: int
    uneven: float
    moles: float
    age: float
    makeup: float
    arch: float
    teeth: float


def sample_appearance(rng: np.random.Generator) -> Appearance:
    """A random appearance; dark skin is combined with dark hair and eyes, beards with short hair."""
    melanin = float(rng.beta(1.0, 1.7))
    dark = rng.random() < 0.25 + 1.2 * melanin
    hair = float(rng.uniform(0, 1.2)) if dark else float(rng.uniform(0.8, 4.2))
    iris = float(rng.uniform(0, 1.5)) if dark else float(rng.uniform(0.5, 5))
    if rng.random() < 0.12:
        hair = float(rng.uniform(4.4, 5))
    man = rng.random() < 0.5
    style = int(rng.choice(4, p=[0.12, 0.5, 0.33, 0.05] if man else [0.01, 0.12, 0.37, 0.5]))
    appearance = Appearance(melanin, float(rng.uniform(0, 1)), float(rng.uniform(0, 1)), float(rng.uniform(0, 1)),
                            float(max(rng.uniform(-2, 1), 0) * (melanin < 0.45)),
                            float(rng.uniform(0, 0.45) if man else rng.uniform(0.2, 1)), float(rng.uniform(0, 1)),
                            float(rng.uniform(0.3, 1) if man else rng.uniform(0.1, 0.7)),
                            float(rng.uniform(0.4, 1) if man and rng.random() < 0.35 else 0),
                            float(rng.uniform(0, 0.7) if man else 0), hair, iris, style,
                            float(rng.normal(0, 5)), float(rng.uniform(-1, 1)),
                            (rng.uniform(0.02, 0.5) * np.clip(1 + rng.normal(0, 0.25, 3), 0.3, 1.7)).astype(np.float32),
                            int(rng.integers(2**31)),
                            float(rng.beta(1, 3)), float(rng.beta(1, 3)), float(rng.beta(1.2, 2.5)),
                            float(rng.uniform(0, 0.8) if not man and rng.random() < 0.5 else 0),
                            float(rng.uniform(0, 1)),
                            float(rng.uniform(0, 1)))
    kind, amount = rng.random(), rng.uniform(0, 1)
    if kind < 0.15:         # a fringe
        return appearance._replace(hairline=float(-12 - 11 * amount))
    if kind < (0.4 if man else 0.2):        # a high or receding forehead
        return appearance._replace(hairline=float(8 + 22 * amount))
    return appearance


def melanin_colour(melanin: float, warmth: float = 0.5) -> np.ndarray:
    """Linear BGR albedo (3,) of skin."""
    position = np.clip(melanin, 0, 1) * (len(_MELANIN) - 1)
    colour = np.exp([np.interp(position, range(len(_MELANIN)), _MELANIN[:, k]) for k in range(3)])
    return colour * np.array([1.12 - 0.24 * warmth, 0.97 + 0.06 * warmth, 1.0])


def melanin_of(tone: np.ndarray) -> np.ndarray:
    """Linear BGR tones (..., 3) -> the melanin in [0, 1] of the procedural skin of the same luminance."""
    known = np.linspace(0, 1, 101)
    light = np.log([melanin_colour(m) @ LUMINANCE for m in known])
    return np.interp(np.log(tone @ LUMINANCE), light[::-1], known[::-1])


def ramp(colours: np.ndarray, position: float) -> np.ndarray:
    """Interpolate between the rows of a colour table (K, 3); position in [0, K - 1]."""
    return np.array([np.interp(position, range(len(colours)), colours[:, k]) for k in range(3)])


def hair_colour(appearance: Appearance) -> np.ndarray:
    """Linear BGR albedo (3,) of a subject's hair."""
    return ramp(_HAIR, appearance.hair)


class Base(NamedTuple):
    """A photographed skin as the base of the paint. tone: (3,) linear BGR; gain: (3, h, w) float32 around 1, stretched
    over these columns of the chart; the factor of the tone."""
    tone: np.ndarray
    gain: np.ndarray
    columns: slice


class PaintMasks(NamedTuple):
    """The masks of blood, lids, lips and lashes on a chart, in [0, 1], each with the window (rows, columns) of the
    texture that it fills. Constant for a chart: a subject needs only noise and colour."""
    blood: "Patch"
    lids: "Patch"
    under: "Patch"
    lips: "Patch"
    line: "Patch"
    lashes: "Patch"
    folds: "Patch"
    freckles: "Patch"
    beard: "Patch"


class Patch(NamedTuple):
    """A mask (h, w) float32 and the window of the texture that it fills."""
    rows: slice
    columns: slice
    mask: np.ndarray


@lru_cache(maxsize=2)
def paint_masks(chart: Chart) -> PaintMasks:
    """The constant masks of a chart."""
    marks = chart.marks
    cheeks = sum(chart.spot(0.55 * marks[k] + 0.45 * marks[m], (26, 20)) for k, m in ((40, 48), (47, 54)))
    blood = (0.9 * cheeks + 0.8 * chart.spot(marks[30], (14, 12)) + 0.4 * chart.spot(marks[8] - [0, 12], (18, 12))
             + 0.6 * sum(chart.spot(marks[k] + [o, 0], (22, 30)) for k, o in ((0, -20), (16, 20))))
    eyes = [marks[eye].mean(0) for eye in (slice(36, 42), slice(42, 48))]
    upper = sum(chart.stroke(marks[list(ring)] - [0, 1.5], 3, 0.8) for ring in ((36, 37, 38, 39), (42, 43, 44, 45)))
    lower = sum(chart.stroke(marks[list(ring)] + [0, 1], 2, 0.8) for ring in ((39, 40, 41, 36), (45, 46, 47, 42)))
    folds = sum(chart.stroke(np.array([marks[wing] + [3 * side, -4], marks[corner] + [9 * side, -12],
                                       marks[corner] + [10 * side, 8]]), 3, 2.0)
                for wing, corner, side in ((31, 48, -1), (35, 54, 1)))
    brow = marks[17:27].min(0)[1]
    across = marks[19, 0], marks[24, 0]
    folds = folds + sum(chart.stroke(np.array([[across[0], brow - up + 3], [sum(across) / 2, brow - up],
                                               [across[1], brow - up + 3]]), 2, 1.5) for up in (16, 27, 38))
    return PaintMasks(_patch(blood), _patch(sum(chart.spot(eye, (19, 13)) for eye in eyes)),
                      _patch(sum(chart.spot(eye + [0, 17], (16, 6)) for eye in eyes)),
                      _patch(chart.polygon(list(range(48, 60)), 1.6)), _patch(chart.stroke(marks[60:65], 2, 1.2)),
                      _patch(np.clip(0.85 * (upper + 0.4 * lower), 0, 0.85)), _patch(np.clip(folds, 0, 1)),
                      _patch(chart.spot(marks[29], (75, 28))), _patch(_beard_area(chart)))


def skin_texture(chart: Chart, appearance: Appearance, photographed: Base | None = None) -> np.ndarray:
    """A subject's skin with brows, lips, beard and scalp: linear BGR albedo (HEIGHT, WIDTH, 3) float32 in
    (0, 1). photographed: the base; None: a uniform colour. The paint uses the same random numbers in either case."""
    rng = np.random.default_rng(appearance.seed)
    masks = paint_masks(chart)
    base = photographed.tone if photographed else melanin_colour(appearance.melanin, appearance.warmth)
    base = base.astype(np.float32)
    paint = np.float32(0.4) if photographed else 1      # weaker where a photographed skin has its own
    mottle = 0.05 * noise(rng, 10) + 0.035 * noise(rng, 40) + (0.03 + 0.03 * appearance.uneven) * noise(rng, 160)
    fine = 0.03 * noise(rng, WIDTH)
    skin = np.stack([b * (1 + k * mottle + fine) for b, k in zip(base, (1.1, 1.0, 0.6))])       # (3, H, W)
    if photographed:
        for plane, gain in zip(skin[:, :, photographed.columns], photographed.gain):
            plane *= cv2.resize(gain, plane.shape[::-1], interpolation=cv2.INTER_LINEAR)
    if appearance.freckles:
        spots = np.clip(_cut(noise(rng, 320), masks.freckles) - 1.1, 0, 1) * masks.freckles.mask * appearance.freckles
        _darken(skin, masks.freckles, spots, (0.6, 0.5, 0.3))
    _moles(skin, chart, appearance, rng)

    # blood: cheeks, nose, chin and ears are redder
    red = masks.blood.mask * (0.25 + 0.75 * appearance.redness) * (1 + 0.25 * _cut(noise(rng, 30), masks.blood))
    _darken(skin, masks.blood, paint * red, (0.22, 0.22, 0.02))
    # lids and rings under the eyes are darker; make-up colours the lids
    _darken(skin, masks.lids, 0.16 * paint * masks.lids.mask, (1.0, 1.0, 0.75))
    _darken(skin, masks.under, 0.22 * appearance.circles * masks.under.mask, (1.0, 1.0, 0.75))
    if appearance.makeup:
        tints = (0.3, 0.6, 0.5), (0.6, 0.6, 0.4), (0.5, 0.6, 0.3)
        tint = np.array(tints[appearance.seed % 3]) * 0.9 * appearance.makeup
        _darken(skin, masks.lids, masks.lids.mask, tint)
    _darken(skin, masks.folds, (0.05 + 0.3 * appearance.age) * paint * masks.folds.mask, (1.0, 1.0, 0.8))

    # lips, darker towards the line between them
    lips = paint * masks.lips.mask * (0.55 + 0.4 * appearance.lips)
    vertical = 1 + 0.06 * _cut(cv2.resize(rng.normal(size=(8, WIDTH)).astype(np.float32), (WIDTH, HEIGHT)), masks.lips)
    tint = np.array([0.60, 0.50, 0.86]) * (1 - appearance.lips * np.array([0.35, 0.42, 0.10]))
    tint = tint ** (1 - 0.5 * appearance.melanin)
    for plane, t in zip(_window(skin, masks.lips), tint):
        plane *= 1 - lips + np.float32(t) * lips * vertical
    _darken(skin, masks.line, 0.55 * paint * masks.line.mask, (1.0, 1.0, 1.0))

    hair = hair_colour(appearance).astype(np.float32)
    if appearance.beard or appearance.stubble:
        _paint(skin, hair * (0.8 if appearance.beard else 1.0), masks.beard, _beard(masks.beard, appearance, rng))
    darkness = min(0.09, 0.4 * float(base @ LUMINANCE))        # brows are darker than fair hair, and than skin
    brow_hair = hair * min(1.0, darkness / float(hair @ LUMINANCE))
    patch = _brows(chart, appearance, rng)
    _paint(skin, brow_hair, patch, patch.mask)
    _paint(skin, np.array([0.012, 0.014, 0.02], np.float32), masks.lashes,
           np.minimum(masks.lashes.mask * (1 + 0.3 * appearance.makeup), 0.95))
    scalp = _patch(scalp_mask(chart, appearance, rng))
    if appearance.hair_style:
        _paint(skin, hair, scalp, 0.93 * scalp.mask)
    else:       # a shaved head: the roots' shadow
        _paint(skin, np.minimum(hair, 0.5 * base), scalp, 0.4 * scalp.mask)
    return np.clip(cv2.merge(list(skin)), 0.004, 0.95)


def scalp_mask(chart: Chart, appearance: Appearance, rng: np.random.Generator) -> np.ndarray:
    """Where hair is painted on the scalp, (HEIGHT, WIDTH) in [0, 1]; its edge is ragged as single hairs
    make it."""
    azimuth, height = chart.grid()
    above = height - chart.hair_edge(azimuth, appearance.hairline)
    hairs = cv2.resize(rng.normal(size=(16, WIDTH // 2)).astype(np.float32), (WIDTH, HEIGHT))
    hairs += noise(rng, 60)
    hairs *= 2.5 / 6
    hairs += above.astype(np.float32) / 6 + 0.5
    return np.clip(hairs, 0, 1, out=hairs)


def hair_strands(rng: np.random.Generator) -> np.ndarray:
    """Brightness of hair (HEIGHT, WIDTH) float32 around 1: streaks that run down from the crown."""
    fine = cv2.resize(rng.normal(size=(14, WIDTH)).astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    locks = cv2.resize(rng.normal(size=(6, WIDTH // 12)).astype(np.float32), (WIDTH, HEIGHT),
                       interpolation=cv2.INTER_CUBIC)
    fine *= 0.28
    fine += 0.25 * locks
    fine += 1
    return np.clip(fine, 0.25, 2.2, out=fine)


def eye_albedo(directions: np.ndarray, appearance: Appearance) -> np.ndarray:
    """Linear BGR albedo (N, 3) of eyeball points from their unit directions (N, 3) off the eyeball's
    centre, where (0, 0, 1) is the pupil's middle. Iris 27 degrees, pupil 11 degrees, a dark boundary between
    iris and white."""
    angle = np.degrees(np.arccos(np.clip(directions[:, 2], -1, 1)))
    around = np.arctan2(directions[:, 1], directions[:, 0])
    fibres = 1 + 0.2 * np.sin(23 * around + appearance.seed % 7) + 0.15 * np.sin(41 * around + appearance.seed % 11)
    iris = ramp(_IRIS, appearance.iris) * (fibres * (0.75 + 0.5 * np.clip((angle - 11) / 16, 0, 1)))[:, None]
    white = np.array([0.56, 0.60, 0.66]) * (1 - 0.25 * np.clip((angle - 35) / 45, 0, 1))[:, None] ** [1.3, 1.3, 0.7]
    boundary = np.clip(1 - np.abs(angle - 26.5) / 3.5, 0, 1)[:, None]
    out = _blend(iris, white, np.clip((angle - 26) / 3, 0, 1)) * (1 - 0.7 * boundary)
    return _blend(np.full(3, 0.004), out, np.clip((angle - 10) / 2, 0, 1))


def _brows(chart: Chart, appearance: Appearance, rng: np.random.Generator) -> Patch:
    """Short hairs along the landmarks of each brow, thinning towards its tail."""
    thick = 6.0 + 5.0 * appearance.brows
    low, high = chart.marks[17:27].min(0) - 30, chart.marks[17:27].max(0) + 30
    (left, top), (right, bottom) = low.astype(int), high.astype(int)
    mask = np.zeros((bottom - top, right - left), np.uint8)
    for line, side in ((chart.marks[17:22][::-1], -1), (chart.marks[22:27], 1)):
        count = int(170 + 230 * appearance.brows)
        along = rng.uniform(0, 1, count) ** 1.1
        knots = np.linspace(0, 1, 5)
        centre = np.stack([np.interp(along, knots, line[:, k]) for k in range(2)], -1) - [left, top]
        width = thick * (0.55 + 0.45 * np.sin(np.pi * np.clip(along * 0.9 + 0.2, 0, 1)))
        offset = rng.uniform(-0.5, 0.5, count) * width
        centre[:, 1] += offset + 0.35 * thick + 4 * (appearance.arch - 0.5) * (1 - np.sin(np.pi * along))
        lean = np.radians(55 - 62 * along + 25 * offset / thick + rng.normal(0, 9, count))      # from the nose outwards
        length = rng.uniform(4, 7, count)
        tips = centre + length[:, None] * np.stack([side * np.cos(lean), -np.sin(lean)], -1)
        for a, b in np.rint(np.stack([centre, tips], 1) * 16).astype(int).tolist():
            cv2.line(mask, a, b, 255, 1, cv2.LINE_AA, shift=4)
    hairs = mask.astype(np.float32) / 255
    dense = np.clip(0.5 * hairs + 0.75 * cv2.GaussianBlur(hairs, (0, 0), 2.2) * (0.6 + appearance.brows), 0, 0.92)
    return Patch(slice(top, bottom), slice(left, right), dense)


def _beard_area(chart: Chart) -> np.ndarray:
    """Where a beard grows: jaw, chin and upper lip, (HEIGHT, WIDTH) in [0, 1]."""
    marks = chart.marks
    cheek = [0.5 * (marks[14] + marks[54]) + [8, -2], marks[54] + [12, -16], marks[33] + [14, 8],
             marks[33] + [-14, 8], marks[48] + [-12, -16], 0.5 * (marks[2] + marks[48]) + [-8, -2]]
    jaw = np.concatenate([marks[2:15], cheek])
    jaw[:13, 1] += 22
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(mask, [np.rint(jaw).astype(np.int32)], 255)
    return soften(mask, 11) * (1 - chart.polygon(list(range(48, 60)), 1.5, grow=1.0))


def _beard(area: Patch, appearance: Appearance, rng: np.random.Generator) -> np.ndarray:
    """Shaved shadow or beard in its patch; a beard's edge is ragged, single hairs stand outside it."""
    soft, hairs = _cut(noise(rng, 60), area), _cut(noise(rng, WIDTH), area)
    if not appearance.beard:
        return np.clip(area.mask * (0.8 + 0.22 * hairs + 0.1 * soft) * 0.28 * appearance.stubble, 0, 0.9)
    ragged = np.clip((area.mask - 0.45 + 0.10 * soft + 0.10 * hairs) / 0.3 + 0.5, 0, 1)
    return np.clip(ragged * (0.75 + 0.25 * hairs) * 0.95 * appearance.beard ** 0.5, 0, 0.93)


def _moles(skin: np.ndarray, chart: Chart, appearance: Appearance, rng: np.random.Generator) -> None:
    """A few dark spots, anywhere on the face."""
    low, high = chart.marks.min(0), chart.marks.max(0)
    for _ in range(int(9 * appearance.moles)):
        column, row = rng.uniform(low + 4, high - 4).astype(int)
        patch = Patch(slice(row - 4, row + 5), slice(column - 4, column + 5), _MOLE)
        _darken(skin, patch, rng.uniform(0.2, 0.75) * _MOLE ** rng.uniform(0.7, 3), (1.0, 0.95, 0.8))


_MOLE = np.exp(-0.5 * (np.hypot(*np.mgrid[-4:5, -4:5]) / 1.7) ** 2).astype(np.float32)


def _patch(mask: np.ndarray) -> Patch:
    """A whole mask (HEIGHT, WIDTH), cut to where it is above 1/500."""
    rows, columns = (np.flatnonzero((mask > 0.002).any(axis)) for axis in (1, 0))
    if len(rows) == 0:
        return Patch(slice(0, 0), slice(0, 0), np.zeros((0, 0), np.float32))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return Patch(*window, np.ascontiguousarray(mask[window], np.float32))


def _cut(whole: np.ndarray, patch: Patch) -> np.ndarray:
    return whole[patch.rows, patch.columns]


def _window(skin: np.ndarray, patch: Patch) -> np.ndarray:
    return skin[:, patch.rows, patch.columns]


def _darken(skin: np.ndarray, patch: Patch, mask: np.ndarray, strength: tuple[float, ...] | np.ndarray) -> None:
    """Multiply a window of the planes (3, H, W) by 1 - mask * strength, in place."""
    for plane, k in zip(_window(skin, patch), strength):
        plane *= 1 - np.float32(k) * mask


def _paint(skin: np.ndarray, colour: np.ndarray, patch: Patch, mask: np.ndarray) -> None:
    """Blend a colour into a window of the planes (3, H, W), in place."""
    for plane, c in zip(_window(skin, patch), colour):
        plane += (c - plane) * mask


def _blend(inner: np.ndarray, outer: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return inner * (1 - weight[:, None]) + outer * weight[:, None]
