"""Procedural skin, hair paint, eyes: one texture per person, made from numbers, no photo and no licence needed.

A texture lies on the *chart*: the mean face unrolled around a vertical axis through the head (columns: azimuth,
rows: height), into which every surface point goes by the position of the same point on the mean face. So a
mask is drawn once, between the mean face's landmarks, and fits every person and expression; no UV seam, and
the front gets as many texels as it needs (0.6 mm across at the cheeks).
"""
from typing import NamedTuple

import cv2
import numpy as np

from Dataset.shading import LUMINANCE

HEIGHT, WIDTH = 512, 1024         # texels

# Linear BGR albedo of skin with little, some and much melanin; between them in log space.
_MELANIN = np.log(np.array([[0.46, 0.56, 0.80], [0.22, 0.33, 0.57], [0.085, 0.14, 0.29], [0.03, 0.05, 0.115]]))
_HAIR = np.array([[0.008, 0.010, 0.012], [0.020, 0.032, 0.055], [0.05, 0.09, 0.16], [0.16, 0.28, 0.42],
                  [0.025, 0.07, 0.22], [0.28, 0.30, 0.32]])     # black, brown, chestnut, blond, red, grey
_IRIS = np.array([[0.02, 0.035, 0.07], [0.03, 0.08, 0.17], [0.06, 0.13, 0.15], [0.10, 0.17, 0.12],
                  [0.30, 0.22, 0.13], [0.30, 0.27, 0.22]])    # dark brown, brown, hazel, green, blue, grey


class Look(NamedTuple):
    """What a person's surface looks like; every number in [0, 1] unless said otherwise.

    melanin: 0 pale to 1 dark; redness: of cheeks, nose and ears; warmth: yellow against pink; oil: how much the
    skin shines; freckles, lips (redness), circles (under the eyes), brows (thickness), beard (0 none to 1 full),
    stubble (shadow of a shaved one); hair and iris: indices of the colour ramps, floats in [0, 5];
    hair_style: 0 shaved, 1 short, 2 full, 3 long; hairline: mm above the default; parting: -1 to 1, the side on which
    hair is thicker; cloth: (3,) BGR; seed: of the noise.
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
    melanin = float(rng.beta(1.1, 1.4))
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


class Chart:
    """The mean face unrolled: where 3-D points of the mean face lie in a texture, and masks between its landmarks.

    Args: landmarks: (68, 3) of the mean face, mm; low, high: heights (mm) of the texture's last and first row.
    """

    def __init__(self, landmarks: np.ndarray, low: float, high: float):
        self.axis = float(landmarks[[0, 16], 2].mean())     # the ears' z: the front half is what lies before them
        self.low, self.high = float(low), float(high)
        self.radius = float(np.abs(landmarks[[0, 16], 0]).mean())
        self.marks = self.texels(landmarks)
        self.landmarks = landmarks

    def texels(self, points: np.ndarray) -> np.ndarray:
        """Points of the mean face (..., 3) to texels (..., 2): column, row (pixel centres at +0.5), float32."""
        x, y, z = np.moveaxis(np.asarray(points, np.float32), -1, 0)
        azimuth = np.arctan2(x, z - np.float32(self.axis))
        return np.stack([(azimuth / (2 * np.pi) + 0.5) * WIDTH, (self.high - y) / (self.high - self.low) * HEIGHT], -1)

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """azimuth (1, WIDTH) in radians and height (HEIGHT, 1) in mm of the texel centres."""
        azimuth = ((np.arange(WIDTH) + 0.5) / WIDTH - 0.5) * 2 * np.pi
        height = self.high - (np.arange(HEIGHT) + 0.5) / HEIGHT * (self.high - self.low)
        return azimuth[None].astype(np.float32), height[:, None].astype(np.float32)

    def hair_edge(self, azimuth: np.ndarray, lift: float = 0.0) -> np.ndarray:
        """The height (mm) above which hair grows at an azimuth; ``lift`` mm moves the line over the forehead."""
        brow, eye, nose, jaw = (float(self.landmarks[k, 1].mean()) for k in
                                (slice(17, 27), slice(36, 48), slice(31, 36), slice(4, 13)))
        degrees = [0, 22, 38, 50, 60, 70, 80, 88, 97, 112, 125, 140, 180]
        height = [brow + 47 + lift, brow + 46 + lift, brow + 38 + lift, brow + 18 + lift / 2, brow + 2, eye, nose + 8,
                  eye + 6, eye + 14, eye + 2, nose - 5, jaw + 26, jaw + 22]
        return np.interp(np.degrees(np.abs(azimuth)), degrees, height)

    def polygon(self, indices: list[int], blur: float = 0.0, grow: float = 0.0) -> np.ndarray:
        """A soft mask (HEIGHT, WIDTH) float32 in [0, 1] of the polygon through landmarks; blur, grow: in texels."""
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        points = self.marks[indices]
        if grow:
            centre = points.mean(0)
            away = points - centre
            points = points + grow * away / np.linalg.norm(away, axis=1, keepdims=True)
        cv2.fillPoly(mask, [np.rint(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
        return _soften(mask, blur)

    def stroke(self, points: np.ndarray, width: int, blur: float = 0.0, closed: bool = False) -> np.ndarray:
        """A soft line (HEIGHT, WIDTH) float32 through texels (N, 2)."""
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.polylines(mask, [np.rint(points * 16).astype(np.int32)], closed, 255, width, cv2.LINE_AA, shift=4)
        return _soften(mask, blur)

    def spot(self, centre: np.ndarray, sigma: tuple[float, float]) -> np.ndarray:
        """A Gaussian blob (HEIGHT, WIDTH) around a texel, sigma in texels (x, y)."""
        x = np.exp(-0.5 * ((np.arange(WIDTH) + 0.5 - centre[0]) / sigma[0]) ** 2)
        y = np.exp(-0.5 * ((np.arange(HEIGHT) + 0.5 - centre[1]) / sigma[1]) ** 2)
        return np.outer(y, x).astype(np.float32)


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
    """A person's skin with brows, lips, beard and scalp: linear BGR albedo (HEIGHT, WIDTH, 3) float32 in (0, 1)."""
    rng = np.random.default_rng(look.seed)
    marks = chart.marks
    base = melanin_colour(look.melanin, look.warmth).astype(np.float32)
    skin = np.broadcast_to(base, (HEIGHT, WIDTH, 3)).copy()
    mottle = 0.05 * _noise(rng, 10) + 0.035 * _noise(rng, 40) + 0.03 * _noise(rng, 160)
    skin *= 1 + mottle[..., None] * np.array([1.1, 1.0, 0.6], np.float32) + 0.03 * _noise(rng, WIDTH)[..., None]
    if look.freckles:
        band = chart.spot(marks[29], (75, 28))
        spots = np.clip(_noise(rng, 320) - 1.1, 0, 1) * band * look.freckles
        skin *= 1 - spots[..., None] * np.array([0.6, 0.5, 0.3], np.float32)

    # blood: cheeks, nose, chin and ears are redder
    cheeks = sum(chart.spot(0.55 * marks[k] + 0.45 * marks[m], (26, 20)) for k, m in ((40, 48), (47, 54)))
    red = (0.9 * cheeks + 0.8 * chart.spot(marks[30], (14, 12)) + 0.4 * chart.spot(marks[8] - [0, 12], (18, 12))
           + 0.6 * sum(chart.spot(marks[k] + [o, 0], (22, 30)) for k, o in ((0, -20), (16, 20))))
    red *= (0.25 + 0.75 * look.redness) * (1 + 0.25 * _noise(rng, 30))
    skin *= 1 - red[..., None] * np.array([0.22, 0.22, 0.02], np.float32)
    # forehead and jaw a little yellower or greyer than the middle of the face, lids and rings under the eyes darker
    for eye in (slice(36, 42), slice(42, 48)):
        centre = marks[eye].mean(0)
        lid = chart.spot(centre, (19, 13))
        under = chart.spot(centre + [0, 17], (16, 6))
        shade = 0.16 * lid + 0.22 * look.circles * under
        skin *= 1 - shade[..., None] * np.array([1.0, 1.0, 0.75], np.float32)

    # lips, darker towards the line between them
    lips = chart.polygon(list(range(48, 60)), 1.6)
    vertical = 1 + 0.06 * cv2.resize(rng.normal(size=(8, WIDTH)).astype(np.float32), (WIDTH, HEIGHT))
    tint = np.array([0.66, 0.55, 0.86]) * (1 - look.lips * np.array([0.35, 0.42, 0.10]))
    tint = tint ** (1 - 0.5 * look.melanin)
    lips3 = (lips * (0.55 + 0.4 * look.lips))[..., None]
    skin = skin * (1 - lips3) + skin * tint.astype(np.float32) * lips3 * vertical[..., None]
    line = np.concatenate([marks[60:65], 0.5 * (marks[61:64] + marks[67:64:-1])[:0]])
    skin *= 1 - 0.55 * chart.stroke(line, 2, 1.2)[..., None]

    hair = hair_colour(look).astype(np.float32)
    skin = _paint(skin, hair, _beard(chart, look, rng))
    brow_hair = hair * min(1.0, 0.09 / float(hair @ LUMINANCE))      # brows are darker than fair hair
    skin = _paint(skin, brow_hair, _brows(chart, look, rng))
    lashes = sum(chart.stroke(marks[list(ring)] - [0, 1.5], 3, 0.8) for ring in ((36, 37, 38, 39), (42, 43, 44, 45)))
    lashes = lashes + 0.4 * sum(chart.stroke(marks[list(ring)] + [0, 1], 2, 0.8) for ring in ((39, 40, 41, 36), (45, 46, 47, 42)))
    skin = _paint(skin, np.array([0.012, 0.014, 0.02], np.float32), np.clip(0.85 * lashes, 0, 0.85))
    skin = _paint(skin, hair, scalp_mask(chart, look, rng) * (0.93 if look.hair_style else 0.6))
    return np.clip(skin, 0.004, 0.95).astype(np.float32)


def scalp_mask(chart: Chart, look: Look, rng: np.random.Generator) -> np.ndarray:
    """Where hair is painted on the scalp, (HEIGHT, WIDTH) in [0, 1]; its edge is ragged as single hairs make it."""
    azimuth, height = chart.grid()
    above = height - chart.hair_edge(azimuth, look.hairline)
    ragged = 2.5 * _noise(rng, 60) + 2.5 * cv2.resize(rng.normal(size=(16, WIDTH // 2)).astype(np.float32), (WIDTH, HEIGHT))
    return np.clip((above + ragged) / 6 + 0.5, 0, 1).astype(np.float32)


def hair_strands(rng: np.random.Generator) -> np.ndarray:
    """Brightness of hair (HEIGHT, WIDTH) float32 around 1: streaks that run down from the crown."""
    fine = cv2.resize(rng.normal(size=(14, WIDTH)).astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    locks = cv2.resize(rng.normal(size=(6, WIDTH // 12)).astype(np.float32), (WIDTH, HEIGHT),
                       interpolation=cv2.INTER_CUBIC)
    return np.clip(1 + 0.28 * fine + 0.25 * locks, 0.25, 2.2).astype(np.float32)


def eye_albedo(directions: np.ndarray, look: Look) -> np.ndarray:
    """Linear BGR albedo (N, 3) of eyeball points from their unit directions (N, 3) off the eyeball's centre, where
    (0, 0, 1) is the pupil's middle. Iris 27 degrees, pupil 11 degrees, a dark rim between iris and white."""
    angle = np.degrees(np.arccos(np.clip(directions[:, 2], -1, 1)))
    around = np.arctan2(directions[:, 1], directions[:, 0])
    fibres = 1 + 0.2 * np.sin(23 * around + look.seed % 7) + 0.15 * np.sin(41 * around + look.seed % 11)
    iris = ramp(_IRIS, look.iris) * (fibres * (0.75 + 0.5 * np.clip((angle - 11) / 16, 0, 1)))[:, None]
    white = np.array([0.56, 0.60, 0.66]) * (1 - 0.25 * np.clip((angle - 35) / 45, 0, 1))[:, None] ** [1.3, 1.3, 0.7]
    rim = np.clip(1 - np.abs(angle - 26.5) / 3.5, 0, 1)[:, None]
    out = _blend(iris, white, np.clip((angle - 26) / 3, 0, 1)) * (1 - 0.7 * rim)
    return _blend(np.full(3, 0.004), out, np.clip((angle - 10) / 2, 0, 1))


def sample_texture(texture: np.ndarray, texels: np.ndarray) -> np.ndarray:
    """Bilinear look-up of (H, W, C) float32 at texels (N, 2), wrapping round columns: (N, C)."""
    count = len(texels)
    if count == 0:
        return np.zeros((0, texture.shape[2]), np.float32)
    rows = -(-count // 4096)          # remap takes maps of up to 32767 columns: fold the list
    padded = np.zeros((rows * 4096, 2), np.float32)
    padded[:count] = texels - 0.5
    folded = padded.reshape(rows, 4096, 2)
    folded[..., 1] = np.clip(folded[..., 1], 0, texture.shape[0] - 1)
    out = cv2.remap(texture, folded, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return out.reshape(rows * 4096, -1)[:count]


def _brows(chart: Chart, look: Look, rng: np.random.Generator) -> np.ndarray:
    """Short hairs along the landmarks of each brow, thinning towards its tail."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    thick = 6.5 + 6.5 * look.brows
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
    jaw = np.concatenate([marks[2:15], [0.5 * marks[14] + 0.5 * marks[54] + [8, -2], marks[54] + [12, -16], marks[33] + [14, 8],
                                        marks[33] + [-14, 8], marks[48] + [-12, -16], 0.5 * marks[2] + 0.5 * marks[48] + [-8, -2]]])
    jaw[:13, 1] += 22
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(mask, [np.rint(jaw).astype(np.int32)], 255)
    area = _soften(mask, 11) * (1 - chart.polygon(list(range(48, 60)), 1.5, grow=1.0))
    grain = np.clip(0.8 + 0.22 * _noise(rng, WIDTH) + 0.1 * _noise(rng, 60), 0, 1.2)
    return np.clip(area * grain * max(0.9 * look.beard, 0.28 * look.stubble), 0, 0.9)


def _soften(mask: np.ndarray, blur: float) -> np.ndarray:
    mask = mask.astype(np.float32) / 255
    return cv2.GaussianBlur(mask, (0, 0), blur) if blur else mask


def _paint(skin: np.ndarray, colour: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return skin + (colour - skin) * mask[..., None]


def _blend(inner: np.ndarray, outer: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return inner * (1 - weight[:, None]) + outer * weight[:, None]


def _noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise of unit variance with ``cells`` cells around the head, (HEIGHT, WIDTH) float32."""
    coarse = rng.normal(size=(max(cells // 2, 2), cells)).astype(np.float32)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC if cells < WIDTH else cv2.INTER_LINEAR)
