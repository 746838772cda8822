"""Random expressions: which expression units of the face model may be combined."""
from __future__ import annotations

import numpy as np

# At most one unit of a group is drawn: the units of a group contradict each other, or move the same muscle
# twice (`jawOpen` and `mouth-open`). A pair is the subject's left and right unit.
GROUPS: dict[str, tuple[float, tuple[str | tuple[str, str], ...]]] = {
    "brows": (0.45, (
        ("browDownLeft", "browDownRight"), ("browOuterUpLeft", "browOuterUpRight"), "browInnerUp",
        ("eyebrows-left-down", "eyebrows-right-down"), ("eyebrows-left-extern-up", "eyebrows-right-extern-up"),
        ("eyebrows-left-inner-up", "eyebrows-right-inner-up"), ("eyebrows-left-up", "eyebrows-right-up"))),
    "lids": (0.4, (
        ("eyeBlinkLeft", "eyeBlinkRight"), ("eyeSquintLeft", "eyeSquintRight"), ("eyeWideLeft", "eyeWideRight"),
        ("eye-left-closure", "eye-right-closure"), ("eye-left-opened-up", "eye-right-opened-up"),
        ("eye-left-slit", "eye-right-slit"))),
    "gaze": (0.4, (
        ("eyeLookUpLeft", "eyeLookUpRight"), ("eyeLookDownLeft", "eyeLookDownRight"),
        ("eyeLookOutLeft", "eyeLookInRight"), ("eyeLookInLeft", "eyeLookOutRight"))),
    "cheeks": (0.2, (("cheekSquintLeft", "cheekSquintRight"), "cheekPuff")),
    "nose": (0.2, (
        ("noseSneerLeft", "noseSneerRight"), ("nose-left-dilatation", "nose-right-dilatation"),
        ("nose-left-elevation", "nose-right-elevation"), "nose-compression", "nose-depression")),
    "jaw": (0.35, ("jawOpen", "mouth-open", "jawForward", "jawLeft", "jawRight")),
    "mouth": (0.7, (
        ("mouthSmileLeft", "mouthSmileRight"), ("mouthSmileLeft", "mouthSmileRight"),
        ("mouthFrownLeft", "mouthFrownRight"), ("mouthDimpleLeft", "mouthDimpleRight"),
        ("mouthStretchLeft", "mouthStretchRight"), ("mouthPressLeft", "mouthPressRight"),
        ("mouthLowerDownLeft", "mouthLowerDownRight"), ("mouthUpperUpLeft", "mouthUpperUpRight"),
        "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight", "mouthRollLower", "mouthRollUpper",
        "mouthShrugLower", "mouthShrugUpper", "mouth-compression", "mouth-corner-puller", "mouth-depression",
        "mouth-depression-retraction", "mouth-elevation", "mouth-eversion", "mouth-parling", "mouth-part-later",
        "mouth-protusion", "mouth-pursing", "mouth-retraction", "mouth-upward-retraction")),
    "neck": (0.1, ("neck-platysma",)),
}
BILATERAL = 0.8
SIGMAS = 3.0           # standard deviations at weight 1, of signed expressions


def sample_expression(names: tuple[str, ...], rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """A random expression: weights (len(names),) float64 in [0, strength], most of them 0.

    From each group at most one unit is drawn, with a weight uniform in [0.2, 1] * strength. Left and right
    come together 4 times in 5, by nearly equal weights, else one side alone; eyes always look the same way.
    About 2.8 groups are active. Units that a face model lacks are left out of their groups; the signed
    expressions (`...+`, `...-`) of an adopted model (Dataset/fitting/adopt.py) are all drawn, from a normal
    distribution.
    Raises ValueError if `strength` is outside [0, 1].
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be within [0, 1], received {strength}")
    positions = {name: i for i, name in enumerate(names)}
    weights = np.zeros(len(names))
    there = [i for i, name in enumerate(names) if name.endswith("+")]
    if there:
        drawn = np.clip(rng.standard_normal(len(there)) / SIGMAS, -1, 1)
        weights[there] = np.maximum(drawn, 0)
        weights[[positions[names[i][:-1] + "-"] for i in there]] = np.maximum(-drawn, 0)
        return strength * weights
    for group, (chance, units) in GROUPS.items():
        units = tuple(unit for unit in units if {unit} <= positions.keys() or set(unit) <= positions.keys())
        if rng.random() >= chance or not units:
            continue
        unit = units[rng.integers(len(units))]
        weight = rng.uniform(0.2, 1.0)
        if isinstance(unit, str):
            weights[positions[unit]] = weight
        elif group == "gaze" or rng.random() < BILATERAL:
            weights[positions[unit[0]]] = weight
            weights[positions[unit[1]]] = weight * (1.0 if group == "gaze" else rng.uniform(0.85, 1.0))
        else:
            weights[positions[unit[rng.integers(2)]]] = weight
    return strength * weights
