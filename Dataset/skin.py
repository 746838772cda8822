"""Procedural skin, hair paint, eyes: one texture per person on the chart, from numbers: no photo, no licence."""
from typing import NamedTuple

import cv2
import numpy as np

from Dataset.chart import HEIGHT, WIDTH, Chart, noise, soften
from Dataset.shading import LUMINANCE

# Linear BGR albedo of skin with little, some and much melanin; between them in log space.
_MELANIN = np.log(np.array([[0.39, 0.49, 0.73], [0.22, 0.33, 0.57], [0.085, 0.14, 0.29], [0.03, 0.05, 0.115]]))
_HAIR = np.array([[0.008, 0.010, 0.012], [0.020, 0.032, 0.055], [0.05, 0.09, 0.16], [0.16, 0.28, 0.42],
                  [0.025, 0.07, 0.22], [0.28, 0.30, 0.32]])     # black, brown, chestnut, blond, red, grey
_IRIS = np.array([[0.02, 0.035, 0.07], [0.03, 0.08, 0.17], [0.06, 0.13, 0.15], [0.10, 0.17, 0.12],
                  [0.30, 0.22, 0.13], [0.30, 0.27, 0.22]])    # dark brown, brown, hazel, green, blue, grey


class Look(NamedTuple):
    """What a person's surface looks like; every number in [0, 1] unless said otherwise.

    melanin: 0 pale to 1 dark; redness: of cheeks, nose and ears; warmth: yellow against pink; oil: how
    much the skin shines; freckles, lips (redness), circles (under the eyes), brows (thickness), beard (0
    none to 1 full), stubble (shadow of a shaved one); hair and iris: indices of the colour ramps, floats
    in [0, 5]; hair_style: 0 shaved, 1 short, 2 full, 3 long; hairline: mm above the default; parting: -1
    to 1, the side on which hair is thicker; cloth: (3,) BGR; seed: of the noise.
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


def sample_look(rng: np.random.Generator) -> Look:
    """A random person's look; dark skin goes with dark hair and eyes, beards with short hair."""
    melanin = float(rng.beta(1.0, 1.7))
    dark = rng.random() < 0.25 + 1.2 * melanin
    hair = float(rng.uniform(0, 1.2)) if dark else float(rng.uniform(0.8, 4.2))
    iris = float(rng.uniform(0, 1.5)) if dark else float(rng.uniform(0.5, 5))
    if rng.random() < 0.12:
        hair = float(rng.uniform(4.4, 5))
    man = rng.random() < 0.5
    style = int(rng.choice(4, p=[0.12, 0.5, 0.33, 0.05] if man else [0.01, 0.12, 0.37, 0.5]))
    return Look(melanin, float(rng.uniform(0, 1)), float(rng.uniform(0, 1)), float(rng.uniform(0, 1)),
                float(max(rng.uniform(-2, 1), 0) * (melanin < 0.45)),
                float(rng.uniform(0, 0.45) if man else rng.uniform(0.2, 1)), float(rng.uniform(0, 1)),
                float(rng.uniform(0.3, 1) if man else rng.uniform(0.1, 0.7)),
                float(rng.uniform(0.4, 1) if man and rng.random() < 0.35 else 0),
                float(rng.uniform(0, 0.7) if man else 0), hair, iris, style,
                float(rng.normal(0, 5)), float(rng.uniform(-1, 1)),
                (rng.uniform(0.02, 0.5) * np.clip(1 + rng.normal(0, 0.25, 3), 0.3, 1.7)).astype(np.float32),
                int(rng.integers(2**31)))


def melanin_colour(melanin: float, warmth: float = 0.5) -> np.ndarray:
    """Linear BGR albedo (3,) of skin."""
    place = np.clip(melanin, 0, 1) * (len(_MELANIN) - 1)
    colour = np.exp([np.interp(place, range(len(_MELANIN)), _MELANIN[:, k]) for k in range(3)])
    return colour * np.array([1.12 - 0.24 * warmth, 0.97 + 0.06 * warmth, 1.0])


def ramp(colours: np.ndarray, place: float) -> np.ndarray:
    """Between the rows of a colour table (K, 3), place in [0, K - 1]."""
    return np.array([np.interp(place, range(len(colours)), colours[:, k]) for k in range(3)])


def hair_colour(look: Look) -> np.ndarray:
    """Linear BGR albedo (3,) of a person's hair."""
    return ramp(_HAIR, look.hair)


def skin_texture(chart: Chart, look: Look) -> np.ndarray:
    """A person's skin with brows, lips, beard and scalp: linear BGR albedo (HEIGHT, WIDTH, 3) float32 in
    (0, 1)."""
    rng = np.random.default_rng(look.seed)
    marks = chart.marks
    base = melanin_colour(look.melanin, look.warmth).astype(np.float32)
    skin = np.broadcast_to(base, (HEIGHT, WIDTH, 3)).copy()
    mottle = 0.05 * noise(rng, 10) + 0.035 * noise(rng, 40) + 0.03 * noise(rng, 160)
    skin *= 1 + mottle[..., None] * np.array([1.1, 1.0, 0.6], np.float32) + 0.03 * noise(rng, WIDTH)[..., None]
    if look.freckles:
        band = chart.spot(marks[29], (75, 28))
        spots = np.clip(noise(rng, 320) - 1.1, 0, 1) * band * look.freckles
        skin *= 1 - spots[..., None] * np.array([0.6, 0.5, 0.3], np.float32)

    # blood: cheeks, nose, chin and ears are redder
    cheeks = sum(chart.spot(0.55 * marks[k] + 0.45 * marks[m], (26, 20)) for k, m in ((40, 48), (47, 54)))
    red = (0.9 * cheeks + 0.8 * chart.spot(marks[30], (14, 12)) + 0.4 * chart.spot(marks[8] - [0, 12], (18, 12))
           + 0.6 * sum(chart.spot(marks[k] + [o, 0], (22, 30)) for k, o in ((0, -20), (16, 20))))
    red *= (0.25 + 0.75 * look.redness) * (1 + 0.25 * noise(rng, 30))
    skin *= 1 - red[..., None] * np.array([0.22, 0.22, 0.02], np.float32)
    # lids and rings under the eyes are darker
    for eye in (slice(36, 42), slice(42, 48)):
        centre = marks[eye].mean(0)
        lid = chart.spot(centre, (19, 13))
        under = chart.spot(centre + [0, 17], (16, 6))
        shade = 0.16 * lid + 0.22 * look.circles * under
        skin *= 1 - shade[..., None] * np.array([1.0, 1.0, 0.75], np.float32)

    # lips, darker towards the line between them
    lips = chart.polygon(list(range(48, 60)), 1.6)
    vertical = 1 + 0.06 * cv2.resize(rng.normal(size=(8, WIDTH)).astype(np.float32), (WIDTH, HEIGHT))
    tint = np.array([0.60, 0.50, 0.86]) * (1 - look.lips * np.array([0.35, 0.42, 0.10]))
    tint = tint ** (1 - 0.5 * look.melanin)
    lips3 = (lips * (0.55 + 0.4 * look.lips))[..., None]
    skin = skin * (1 - lips3) + skin * tint.astype(np.float32) * lips3 * vertical[..., None]
    skin *= 1 - 0.55 * chart.stroke(marks[60:65], 2, 1.2)[..., None]

    hair = hair_colour(look).astype(np.float32)
    skin = _paint(skin, hair, _beard(chart, look, rng))
    darkness = min(0.09, 0.4 * float(base @ LUMINANCE))        # brows are darker than fair hair, and than skin
    brow_hair = hair * min(1.0, darkness / float(hair @ LUMINANCE))
    skin = _paint(skin, brow_hair, _brows(chart, look, rng))
    lashes = sum(chart.stroke(marks[list(ring)] - [0, 1.5], 3, 0.8) for ring in ((36, 37, 38, 39), (42, 43, 44, 45)))
    lower = sum(chart.stroke(marks[list(ring)] + [0, 1], 2, 0.8) for ring in ((39, 40, 41, 36), (45, 46, 47, 42)))
    lashes = lashes + 0.4 * lower
    skin = _paint(skin, np.array([0.012, 0.014, 0.02], np.float32), np.clip(0.85 * lashes, 0, 0.85))
    scalp = scalp_mask(chart, look, rng)
    if look.hair_style:
        skin = _paint(skin, hair, 0.93 * scalp)
    else:       # a shaved head: the roots' shadow
        skin = _paint(skin, np.minimum(hair, 0.5 * base), 0.4 * scalp)
    return np.clip(skin, 0.004, 0.95).astype(np.float32)


def scalp_mask(chart: Chart, look: Look, rng: np.random.Generator) -> np.ndarray:
    """Where hair is painted on the scalp, (HEIGHT, WIDTH) in [0, 1]; its edge is ragged as single hairs
    make it."""
    azimuth, height = chart.grid()
    above = height - chart.hair_edge(azimuth, look.hairline)
    hairs = cv2.resize(rng.normal(size=(16, WIDTH // 2)).astype(np.float32), (WIDTH, HEIGHT))
    ragged = 2.5 * (noise(rng, 60) + hairs)
    return np.clip((above + ragged) / 6 + 0.5, 0, 1).astype(np.float32)


def hair_strands(rng: np.random.Generator) -> np.ndarray:
    """Brightness of hair (HEIGHT, WIDTH) float32 around 1: streaks that run down from the crown."""
    fine = cv2.resize(rng.normal(size=(14, WIDTH)).astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    locks = cv2.resize(rng.normal(size=(6, WIDTH // 12)).astype(np.float32), (WIDTH, HEIGHT),
                       interpolation=cv2.INTER_CUBIC)
    return np.clip(1 + 0.28 * fine + 0.25 * locks, 0.25, 2.2).astype(np.float32)


def eye_albedo(directions: np.ndarray, look: Look) -> np.ndarray:
    """Linear BGR albedo (N, 3) of eyeball points from their unit directions (N, 3) off the eyeball's
    centre, where (0, 0, 1) is the pupil's middle. Iris 27 degrees, pupil 11 degrees, a dark rim between
    iris and white."""
    angle = np.degrees(np.arccos(np.clip(directions[:, 2], -1, 1)))
    around = np.arctan2(directions[:, 1], directions[:, 0])
    fibres = 1 + 0.2 * np.sin(23 * around + look.seed % 7) + 0.15 * np.sin(41 * around + look.seed % 11)
    iris = ramp(_IRIS, look.iris) * (fibres * (0.75 + 0.5 * np.clip((angle - 11) / 16, 0, 1)))[:, None]
    white = np.array([0.56, 0.60, 0.66]) * (1 - 0.25 * np.clip((angle - 35) / 45, 0, 1))[:, None] ** [1.3, 1.3, 0.7]
    rim = np.clip(1 - np.abs(angle - 26.5) / 3.5, 0, 1)[:, None]
    out = _blend(iris, white, np.clip((angle - 26) / 3, 0, 1)) * (1 - 0.7 * rim)
    return _blend(np.full(3, 0.004), out, np.clip((angle - 10) / 2, 0, 1))


def _brows(chart: Chart, look: Look, rng: np.random.Generator) -> np.ndarray:
    """Short hairs along the landmarks of each brow, thinning towards its tail."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    thick = 6.0 + 5.0 * look.brows
    for line, side in ((chart.marks[17:22][::-1], -1), (chart.marks[22:27], 1)):
        count = int(170 + 230 * look.brows)
        along = rng.uniform(0, 1, count) ** 1.1
        knots = np.linspace(0, 1, 5)
        centre = np.stack([np.interp(along, knots, line[:, k]) for k in range(2)], -1)
        width = thick * (0.55 + 0.45 * np.sin(np.pi * np.clip(along * 0.9 + 0.2, 0, 1)))
        offset = rng.uniform(-0.5, 0.5, count) * width
        centre[:, 1] += offset + 0.35 * thick
        lean = np.radians(55 - 62 * along + 25 * offset / thick + rng.normal(0, 9, count))      # from the nose outwards
        length = rng.uniform(4, 7, count)
        tips = centre + length[:, None] * np.stack([side * np.cos(lean), -np.sin(lean)], -1)
        for a, b in zip(np.rint(centre * 16).astype(int), np.rint(tips * 16).astype(int)):
            cv2.line(mask, a.tolist(), b.tolist(), 255, 1, cv2.LINE_AA, shift=4)
    hairs = mask.astype(np.float32) / 255
    return np.clip(0.5 * hairs + 0.75 * cv2.GaussianBlur(hairs, (0, 0), 2.2) * (0.6 + look.brows), 0, 0.92)


def _beard(chart: Chart, look: Look, rng: np.random.Generator) -> np.ndarray:
    """Shaved shadow or beard on jaw, chin and upper lip."""
    if look.beard == 0 and look.stubble == 0:
        return np.zeros((HEIGHT, WIDTH), np.float32)
    marks = chart.marks
    cheek = [0.5 * (marks[14] + marks[54]) + [8, -2], marks[54] + [12, -16], marks[33] + [14, 8],
             marks[33] + [-14, 8], marks[48] + [-12, -16], 0.5 * (marks[2] + marks[48]) + [-8, -2]]
    jaw = np.concatenate([marks[2:15], cheek])
    jaw[:13, 1] += 22
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(mask, [np.rint(jaw).astype(np.int32)], 255)
    area = soften(mask, 11) * (1 - chart.polygon(list(range(48, 60)), 1.5, grow=1.0))
    grain = np.clip(0.8 + 0.22 * noise(rng, WIDTH) + 0.1 * noise(rng, 60), 0, 1.2)
    return np.clip(area * grain * max(0.9 * look.beard, 0.28 * look.stubble), 0, 0.9)


def _paint(skin: np.ndarray, colour: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return skin + (colour - skin) * mask[..., None]


def _blend(inner: np.ndarray, outer: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return inner * (1 - weight[:, None]) + outer * weight[:, None]
