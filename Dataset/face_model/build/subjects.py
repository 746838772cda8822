"""Random MakeHuman heads and their principal components: the identity basis vectors of the built-in face."""
from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from Dataset.face_model.build.makehuman import REGIONS, Head, Source, read_target

SUBJECTS, COMPONENTS, SEED = 3000, 200, 20220601
# At full standard deviation many heads are caricatures; at this fraction they look natural.
STRENGTH = 0.6
MACRO = "mpfb2/targets/macrodetails/"
DETAILS = ("head", "forehead", "eyebrows", "eyes", "nose", "mouth", "chin", "cheek", "ears", "asym")
# They move the whole head, which the alignment takes back, or bend it against the neck.
LEFT_OUT = ("head-trans", "head-angle", "asymm-", "head-age")
OPPOSITES = (("-decr", "-incr"), ("-down", "-up"), ("-in", "-out"), ("-backward", "-forward"),
             ("-concave", "-convex"), ("-compress", "-uncompress"))
# Standard deviation of a slider, by the start of its name; the first that fits.
SIGMAS = (("head-scale-vert", 0.1), ("head-", 0.2), ("forehead-", 0.27), ("asym-", 0.15), ("ear-", 0.28),
          ("nose-trans", 0.37), ("mouth-trans", 0.37), ("", 0.45))


class Sliders(NamedTuple):
    """Detail targets as sliders: `offsets` (S, V, 3) dm at +1; at -1 `opposites` (S, V, 3), zero for one-sided ones."""

    names: list[str]
    offsets: np.ndarray
    opposites: np.ndarray


def read_sliders(source: Source, head: Head) -> Sliders:
    """Pairs targets by their full names: `nose-trans-up` and `nose-trans-down`, but never `-up` with `-in`."""
    found = {re.sub(r"\.target\.gz$", "", n.rsplit("/", 1)[1]): n for folder in DETAILS
             for n in source.names(f"mpfb2/targets/{folder}/")}
    found = {k: n for k, n in found.items() if not k.startswith(LEFT_OUT)}
    names, offsets, opposites = [], [], []
    for key in sorted(found):
        minus = next((key[:-len(b)] + a for a, b in OPPOSITES if key.endswith(b) and key[:-len(b)] + a in found), None)
        is_minus = any(key.endswith(a) and key[:-len(a)] + b in found for a, b in OPPOSITES)
        if is_minus and minus is None:
            continue
        names.append(key)
        offsets.append(read_target(source, found[key], head.index))
        opposites.append(read_target(source, found[minus], head.index) if minus else np.zeros_like(offsets[-1]))
    return Sliders(names, np.array(offsets), np.array(opposites))


def draw_sliders(names: list[str], rng: np.random.Generator) -> np.ndarray:
    """One subject's slider values (S,) in [-1, 1]; left and right sides of a face differ by little."""
    values = np.zeros(len(names))
    shared: dict[str, float] = {}
    for i, name in enumerate(names):
        sided = name.startswith(("l-", "r-"))
        stem = name[2:] if sided else name
        if stem not in shared:
            shared[stem] = rng.standard_normal()
        value = shared[stem] + (0.15 * rng.standard_normal() if sided else 0.0)
        values[i] = value * next(s for prefix, s in SIGMAS if stem.startswith(prefix))
    return np.clip(values, -1, 1)


def draw_macro(rng: np.random.Generator) -> dict[str, float]:
    """Weights of the macro targets of one adult of 18 to 70 years, by file stem.

    Origin is mostly one of three, sex mostly one of two; age in MakeHuman's scale: child at 10, young at 25, old at 90.
    """
    origin = rng.dirichlet((0.5, 0.5, 0.5))
    male = rng.beta(0.5, 0.5)
    years = rng.uniform(18, 70)
    child, old = max(0.0, (25 - years) / 15), max(0.0, (years - 25) / 65)
    ages = {"child": child, "young": 1 - child - old, "old": old}
    sexes = {"female": 1 - male, "male": male}
    muscle = _three("muscle", np.clip(rng.normal(0.5, 0.15), 0, 1))
    weight = _three("weight", np.clip(rng.normal(0.5, 0.2), 0, 1))
    chosen: dict[str, float] = {}
    for sex, s in sexes.items():
        for age, a in ages.items():
            for race, r in zip(("african", "asian", "caucasian"), origin):
                chosen[f"{race}-{sex}-{age}"] = r * s * a
            for m, mw in muscle.items():
                for w, ww in weight.items():
                    chosen[f"universal-{sex}-{age}-{m}-{w}"] = s * a * mw * ww
    return {k: v for k, v in chosen.items() if v > 0}


def _three(name: str, value: float) -> dict[str, float]:
    return {f"min{name}": max(0.0, 1 - 2 * value), f"max{name}": max(0.0, 2 * value - 1),
            f"average{name}": 1 - abs(2 * value - 1)}


def random_heads(source: Source, head: Head) -> np.ndarray:
    """SUBJECTS random heads, (SUBJECTS, V, 3) dm, each where MakeHuman puts it."""
    rng = np.random.default_rng(SEED)
    sliders = read_sliders(source, head)
    macros: dict[str, np.ndarray] = {}
    heads = np.empty((SUBJECTS, *head.vertices.shape))
    for subject in range(SUBJECTS):
        values = draw_sliders(sliders.names, rng)
        shape = head.vertices + np.tensordot(np.maximum(values, 0), sliders.offsets, 1)
        shape += np.tensordot(np.maximum(-values, 0), sliders.opposites, 1)
        for stem, weight in draw_macro(rng).items():
            if stem not in macros:
                macros[stem] = read_target(source, f"{MACRO}{stem}.target.gz", head.index)
            shape += weight * macros[stem]
        heads[subject] = shape
    return heads


def align(heads: np.ndarray, over: np.ndarray) -> np.ndarray:
    """Each head (N, V, 3) moved rigidly (no scale) onto the mean over the vertices `over`: Kabsch, two rounds."""
    heads = heads - heads[:, over].mean(1, keepdims=True)
    for _ in range(2):
        target = heads[:, over].mean(0)
        u, _, vt = np.linalg.svd(np.einsum("nvi,vj->nij", heads[:, over], target))
        u[:, :, 2] *= np.linalg.det(u @ vt)[:, None]
        heads = heads @ (u @ vt)
    return heads


def principal_components(heads: np.ndarray, mirror: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (V, 3) and COMPONENTS basis vectors (K, V, 3), scaled to one standard deviation of the heads (N, V, 3).

    The mirror image of each head is included, so that the mean is symmetric and each basis vector symmetric or
    antisymmetric: the covariance consists of these two parts, which are decomposed separately.
    """
    flat = heads[:, mirror] * (-1, 1, 1)
    mean = (heads.mean(0) + flat.mean(0)) / 2
    directions, deviations = [], []
    for part in ((heads + flat) / 2 - mean, (heads - flat) / 2):
        rows = part.reshape(len(part), -1)
        values, vectors = np.linalg.eigh(rows @ rows.T / len(rows))
        values, vectors = values[::-1][:COMPONENTS], vectors[:, ::-1][:, :COMPONENTS]
        basis = vectors.T @ rows
        directions.append(basis / np.linalg.norm(basis, axis=1, keepdims=True))
        deviations.append(np.sqrt(np.maximum(values, 0)))
    deviations = np.concatenate(deviations)
    order = np.argsort(-deviations, kind="stable")[:COMPONENTS]
    basis = np.concatenate(directions)[order].reshape(COMPONENTS, *mean.shape)
    # The sign of a basis vector is arbitrary: the largest entry of the subject's left half is made positive.
    left = basis[:, mean[:, 0] > 1e-9].reshape(COMPONENTS, -1)
    signs = np.sign(np.take_along_axis(left, np.abs(left).argmax(1)[:, None], 1))
    return mean, basis * (signs * deviations[order][:, None])[:, :, None]


def build_identity(source: Source, head: Head) -> tuple[np.ndarray, np.ndarray]:
    """Mean head (V, 3) and identity basis vectors (COMPONENTS, V, 3) at STRENGTH of their standard deviation, in dm."""
    skin = np.unique(head.quads[head.regions == REGIONS.index("skin")])
    above_chin = skin[head.vertices[skin, 1] > 6.45]
    mean, directions = principal_components(align(random_heads(source, head), above_chin), head.mirror)
    return mean, STRENGTH * directions
