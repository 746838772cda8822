"""BU-4DFE's landmark files: 83 rows `index x y z` beside a scan -> some of the 68 landmarks.

Layout as published with BU-3DFE (Yin et al. 2006, figure of the 83 points), 0-based rows, sides the subject's:

    0-7   right eye        8-15  left eye      (loops: 2 corners, 3 points of each lid)
    16-25 right brow      26-35  left brow     (loops around the brow)
    36-38 right side of the nose, 39-41 left side, 42-47 along the nostrils
    48-59 outer lip line, 60-67 inner lip line (loops: 2 corners, 5 or 3 points of each lip)
    68-82 the face's contour, from side to side through the chin

Only these groups are used. The order within a group, and which eye is the right one, follow from the coordinates:
corners are the ends of a loop in x, upper and lower points follow from y. So a release that counts the viewer's sides
is read as well. **Tested on synthetic files only**: no copy of BU-4DFE was available. A file whose groups do not lie as
in a face (brows over eyes over nose over mouth over chin) is refused.

    83                                     68 (Multi-PIE order, 0-based)
    eye loops: corners and lids            36-41, 42-47 (lids at the fractions of their length at which our mean face
                                           has them: UPPER_LID, LOWER_LID)
    brow loops: their middle line          17-21, 22-26 (the same: BROW)
    42-47: its ends, the middle            31, 35, 33
    outer and inner lip lines              48-59, 60-67
    contour: its lowest point              8
    36-41, the rest of the contour         not used: their positions along the lines differ from ours
"""
from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from Dataset.fitting.scan_fit import Landmarks
from Dataset.io.archives.regular import check_regular

ROWS = 83
MAX_BYTES = 2**16
EYES, BROWS = ((0, 8), (8, 16)), ((16, 26), (26, 36))
NOSE, NOSTRILS, OUTER_LIPS, INNER_LIPS, CONTOUR = (36, 48), (42, 48), (48, 60), (60, 68), (68, 83)

# Fractions of a line's length, from the outer end to the inner one.
UPPER_LID, LOWER_LID, BROW = (0.26, 0.67), (0.33, 0.77), (0.0, 0.3, 0.54, 0.77, 1.0)


def read_bnd(path: str | os.PathLike[str]) -> np.ndarray:
    """The 83 points (83, 3) float64 of a .bnd file, in its order and unit (the scan's mm).

    ValueError in one line with the file's name: it cannot be read, is too large, has another number of rows or
    columns, something that is no finite number, or an index that is no vertex number.
    """
    path = Path(path)
    check_regular(path)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: must be a text file of landmarks ({type(error).__name__})") from None
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path}: a landmark file has at most {MAX_BYTES} bytes, this has more")
    rows = [line.replace(",", " ").split() for line in text.splitlines() if line.strip()]
    if len(rows) != ROWS:
        raise ValueError(f"{path}: a landmark file must have {ROWS} rows `index x y z`, this has {len(rows)}")
    for number, row in enumerate(rows, start=1):
        if len(row) != 4:
            raise ValueError(f"{path}, row {number}: must be `index x y z`, got {len(row)} columns")
    try:
        if "_" in text:         # Python takes 1_0 for a number
            raise ValueError("received '_'")
        values = np.array(rows, np.float64)
    except ValueError as error:
        raise ValueError(f"{path}: landmarks must be numbers, {error}") from None
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values).all(1))[0]) + 1
        raise ValueError(f"{path}, row {bad}: landmarks must be finite, received NaN or infinity")
    if (values[:, 0] < 0).any() or (values[:, 0] % 1 != 0).any():
        raise ValueError(f"{path}: the first column must be vertex numbers, integers from 0")
    return values[:, 1:]


def to_68(points: np.ndarray, name: str = "landmarks") -> Landmarks:
    """Those of the 68 landmarks that the 83 points (83, 3) give: 46 of them, in the points' frame and unit.

    +x to the subject's left and +y up within some 30 degrees. ValueError, beginning with `name`, when the groups do
    not lie as in a face.
    """
    points = np.asarray(points, np.float64)
    if points.shape != (ROWS, 3):
        raise ValueError(f"{name}: must be ({ROWS}, 3) points, received shape {points.shape}")
    eyes, brows = (sorted((points[a:b] for a, b in pair), key=lambda group: group[:, 0].mean())
                   for pair in (EYES, BROWS))
    _check_layout(points, eyes, brows, name)
    found: dict[int, np.ndarray] = {}
    for group, outwards, corners, upper, lower in ((eyes[0], -1, (36, 39), (37, 38), (41, 40)),
                                                   (eyes[1], 1, (45, 42), (44, 43), (46, 47))):
        ends, high, low = (line[::-outwards] for line in _lines(group))         # from the outer corner to the inner
        found.update(zip(corners, ends))
        found.update(zip(upper, _along([ends[0], *high, ends[1]], UPPER_LID)))
        found.update(zip(lower, _along([ends[0], *low, ends[1]], LOWER_LID)))
    for group, outwards, numbers in ((brows[0], -1, range(17, 22)), (brows[1], 1, range(26, 21, -1))):
        ends, rest = _ends(group)
        middle = rest.reshape(-1, 2, 3).mean(1)         # an upper and a lower point
        found.update(zip(numbers, _along([ends[0], *middle, ends[1]][::-outwards], BROW)))
    base = _by_x(points[slice(*NOSTRILS)])
    found.update({31: base[0], 35: base[-1], 33: base[2:4].mean(0)})
    ends, high, low = _lines(points[slice(*OUTER_LIPS)])
    found.update({48: ends[0], 54: ends[1], **dict(zip(range(49, 54), high)), **dict(zip(range(59, 54, -1), low))})
    ends, rest = _ends(points[slice(*INNER_LIPS)])
    # The lines of a closed mouth coincide: pairs are found by x, since a split by height would mix the lines.
    pairs = np.array([pair[np.argsort(-pair[:, 1], kind="stable")] for pair in rest.reshape(-1, 2, 3)])
    found.update({60: ends[0], 64: ends[1], **dict(zip((61, 62, 63), pairs[:, 0])),
                  **dict(zip((67, 66, 65), pairs[:, 1]))})
    contour = points[slice(*CONTOUR)]
    found[8] = contour[contour[:, 1].argmin()]
    index = np.array(sorted(found))
    return Landmarks(index, np.array([found[i] for i in index]))


def _check_layout(points: np.ndarray, eyes: list[np.ndarray], brows: list[np.ndarray], name: str) -> None:
    heights = [("brows", np.mean([b[:, 1].mean() for b in brows])), ("eyes", np.mean([e[:, 1].mean() for e in eyes])),
               ("nose", points[slice(*NOSE), 1].mean()), ("mouth", points[slice(*OUTER_LIPS), 1].mean()),
               ("chin", points[slice(*CONTOUR), 1].min())]
    for (above, high), (below, low) in zip(heights, heights[1:]):
        if not high > low:
            raise ValueError(f"{name}: must be the 83 points of BU-4DFE with +y up, but the {above} do not lie over "
                             f"the {below}")
    nose = points[slice(*NOSE), 0].mean()
    if not eyes[0][:, 0].max() < nose < eyes[1][:, 0].min():
        raise ValueError(f"{name}: must be the 83 points of BU-4DFE with +x to one side, but the nose is not between "
                         "the eyes")


def _by_x(points: np.ndarray) -> np.ndarray:
    return points[np.argsort(points[:, 0], kind="stable")]


def _ends(loop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of a loop in x, (2, 3), and the other points by x."""
    ordered = _by_x(loop)
    return ordered[[0, -1]], ordered[1:-1]


def _lines(loop: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ends (2, 3), upper and lower points, each by x: upper is the half that lies higher over the ends' line."""
    ends, rest = _ends(loop)
    height = rest[:, 1] - np.interp(rest[:, 0], ends[:, 0], ends[:, 1])
    upper = np.zeros(len(rest), bool)
    upper[np.argsort(-height, kind="stable")[:len(rest) // 2]] = True
    return ends, rest[upper], rest[~upper]


def _along(line: list[np.ndarray], fractions: tuple[float, ...]) -> np.ndarray:
    """Points at these fractions of a line's length, (len(shares), 3)."""
    line = np.array(line)
    length = np.append(0, np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1)))
    return np.stack([np.interp(np.asarray(fractions) * length[-1], length, column) for column in line.T], 1)
