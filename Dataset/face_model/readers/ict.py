"""ICT-FaceKit, a folder of OBJ files (Li et al. 2020, "Learning Formation of Physically-Based Face Attributes").

`generic_neutral_mesh.obj` is the mean, `identity000.obj` ... the mean plus one standard deviation each, every other
`<name>_L.obj`, `<name>_R.obj` or `<name>.obj` an expression at weight 1, named as ARKit names them. Centimetres.
"""
from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np

from Dataset.face_model.readers.raw import MAX_BASIS, MAX_VERTICES, RawModel, check_size, checked
from Dataset.io.archives.regular import check_regular
from Dataset.io.mesh_io import read_mesh
from Dataset.io.mesh_readers.polygons import lines_of, numbers

CENTIMETRE = 10.0       # mm
MEAN = "generic_neutral_mesh.obj"
VERTICES = 26_719       # of the published model
#: its vertices of the 68 landmarks in Multi-PIE order, as its README lists them
LANDMARKS = (1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443, 268,
             493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360,
             1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732, 5708, 5695, 2081, 0, 4275, 6200,
             6213, 6346, 6461, 5518, 5957, 5841, 5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966)
_IDENTITY = re.compile(r"identity(\d{3})\.obj")
_SIDES = {"_L": "Left", "_R": "Right"}


def read_ict(folder: str | Path) -> RawModel:
    """ValueError, naming the file, when the mean or all identities are missing, or a mesh has another number of
    vertices than the mean."""
    folder = Path(folder)
    try:
        files = sorted(folder.glob("[!.]*.obj"))        # ._NAME.obj is macOS's, and no mesh
        for path in files:
            check_regular(path)
        size = sum(path.stat().st_size for path in files)
    except OSError as error:        # a loop of links
        raise ValueError(f"{error.filename or folder}: cannot be read ({error.strerror})") from None
    check_size(folder, size)
    mean = folder / MEAN
    if mean not in files:
        raise ValueError(f"{folder}: no face model (an ICT-FaceKit folder holds {MEAN})")
    identities = [path for path in files if _IDENTITY.fullmatch(path.name)]
    numbers = [int(_IDENTITY.fullmatch(path.name).group(1)) for path in identities]
    if numbers != list(range(len(numbers))) or not numbers:
        raise ValueError(f"{folder}: must hold identity000.obj, identity001.obj ... without gaps, "
                         f"received {len(numbers)}")
    expressions = [path for path in files if path != mean and path not in identities]
    mesh = read_mesh(mean)
    start = mesh.vertices

    for kind, paths in (("identity", identities), ("expression", expressions)):
        if len(start) > MAX_VERTICES or len(paths) > MAX_BASIS:
            raise ValueError(f"{folder}: a face model has at most {MAX_VERTICES} vertices and {MAX_BASIS} files of "
                             f"{kind}, received {len(start)} and {len(paths)}")

    def offsets(paths: list[Path]) -> np.ndarray:
        found = np.empty((len(paths), *start.shape), np.float32)
        for row, path in zip(found, paths):
            row[:] = (obj_vertices(path, len(start)) - start) * CENTIMETRE
        return found
    marks = start[list(LANDMARKS)] * CENTIMETRE if len(start) == VERTICES else None
    return checked(RawModel(folder, start * CENTIMETRE, mesh.triangles, offsets(identities), offsets(expressions),
                            tuple(arkit_name(path.stem) for path in expressions), False, marks))


def arkit_name(name: str) -> str:
    """browDown_L -> browDownLeft; sides are the subject's."""
    return name[:-2] + _SIDES[name[-2:]] if name[-2:] in _SIDES else name


def obj_vertices(path: Path, count: int) -> np.ndarray:
    """The positions (count, 3) float64 of an OBJ file's vertices, in its unit: 20 times as fast as a reader of faces as
    well. ValueError for another number of vertices, for words that are no plain numbers, and for endless lines."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            lines = (line for _, line in zip(range(20 * MAX_VERTICES), lines_of(file)) if line.startswith("v "))
            rows = [line.split()[1:4] for line in itertools.islice(lines, count + 1)]
        if any(len(row) != 3 for row in rows):
            raise ValueError("a vertex must have 3 numbers")
        positions = numbers([word for row in rows for word in row], float, "v").reshape(-1, 3)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: no OBJ file that can be read ({' '.join(str(error).split())[:80]})") from None
    if positions.shape != (count, 3):
        raise ValueError(f"{path}: must have the mean's {count} vertices, received {positions.shape}")
    return positions
