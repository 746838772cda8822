"""The built-in face: mean + identity + expression, its landmarks, regions, texture square and subdivision.

Built from MakeHuman's CC0 head by `python -m Dataset.face_model.build.face` (see Dataset/face_model/assets/README.md).
Basel, FLAME and ICT-FaceKit models are adopted into the same class, with the same vertices (Dataset/fitting/adopt.py).
Millimetres in the head frame of docs/conventions.md; the **origin** is the midpoint between the centres of the eyeballs
of the mean face. Identity coefficients are in standard deviations (random subjects: N(0, 1)): the basis vectors are
scaled by the standard deviations, so that they are orthogonal, not orthonormal. Expression coefficients are weights in
[0, 1].
"""
from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from scipy import sparse

from Dataset.face_model import expressions
from Dataset.face_model.adopted import BUILT_IN, find_adopted
from Dataset.geometry.edges import edges
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.subdivision import Subdivision, subdivision, triangulate
from Dataset.io.archives.npz import read_npz

#: environment variable: the face model of this process and its child processes, instead of the built-in one
VARIABLE = "FACES3D_FACE_MODEL"
_NUMBERS, _INDICES, _NAMES = "fiu", "iu", "U"       # kinds of dtypes
_WORDS = {_NUMBERS: "numbers", _INDICES: "whole numbers", _NAMES: "names"}
#: of a file: array -> kinds that it may have
_KINDS = {"mean": _NUMBERS, "identity": _NUMBERS, "expression": _NUMBERS, "step": _NUMBERS, "expression_names": _NAMES,
          "quads": _INDICES, "corner_uv": _NUMBERS, "regions": _INDICES, "region_names": _NAMES, "mirror": _INDICES,
          "landmark_vertices": _INDICES, "landmark_weights": _NUMBERS, "mask_names": _NAMES, "masks": _INDICES,
          "grid_vertices": _INDICES, "grid_weights": _NUMBERS, "grid_landmarks": _NUMBERS}


@dataclass(frozen=True, eq=False)
class FaceModel:
    """A linear face model over V = 4,881 vertices, Q = 4,744 quads, F = 9,488 triangles.

    mean               (V, 3) float32 mm, symmetric about x = 0
    identity           (200, V, 3) float32 mm per standard deviation, mutually orthogonal, longest first
    expression         (84, V, 3) float32 mm at weight 1
    expression_names   84 names: ARKit's (`...Left`, `...Right`), then MakeHuman's (`...-left-...`); sides are
                       the **subject's**
    quads              (Q, 4) int64, counter-clockwise from outside; quad q is cut into triangles 2q and 2q + 1
    corner_uv_quads    (Q, 4, 2) float32 in [0, 1], v up, u to the subject's left: exact texture coordinates per corner
    regions            (F,) uint8 into `region_names`
    mirror             (V,) int64, the vertex on the other side
    landmark_vertices  (68, 3) int64 and landmark_weights (68, 3) float64: barycentric, Multi-PIE order
    masks              name -> (512, 512) uint8 in the texture square, row 0 at v = 1: lips eyelids ears face
                       (MakeHuman's), brows scalp beard iris pupil (drawn)
    grid_vertices      (128, 128, 3) int64 into *subdivided* vertices, grid_weights (128, 128, 3) float32,
    grid_landmarks     (68, 2) float64 row, column: see Dataset/representations/points.py
    """

    mean: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    expression_names: tuple[str, ...]
    quads: np.ndarray
    corner_uv_quads: np.ndarray
    regions: np.ndarray
    region_names: tuple[str, ...]
    mirror: np.ndarray
    landmark_vertices: np.ndarray
    landmark_weights: np.ndarray
    masks: dict[str, np.ndarray]
    grid_vertices: np.ndarray
    grid_weights: np.ndarray
    grid_landmarks: np.ndarray

    @cached_property
    def triangles(self) -> np.ndarray:
        """(F, 3) int64, counter-clockwise from outside."""
        return triangulate(self.quads)

    @cached_property
    def corner_uv(self) -> np.ndarray:
        """(F, 3, 2) float32: texture coordinates of each triangle's corners; use these to look up textures."""
        return triangulate(self.corner_uv_quads)

    @cached_property
    def uv(self) -> np.ndarray:
        """(V, 2) float32, one texture coordinate per vertex, for mesh files. Along the seams (the midline of the back
        of the head, the eyeballs' equators, tongue, mouth's inside) a vertex has two; the one of its first quad is
        used."""
        order = np.unique(self.quads.ravel(), return_index=True)[1]
        return self.corner_uv_quads.reshape(-1, 2)[order]

    @cached_property
    def _subdivision(self) -> Subdivision:
        return subdivision(self.quads, len(self.mean))

    @cached_property
    def grid_matrix(self) -> sparse.csr_matrix:
        """(16384, V) float32, rows sum to 1: vertices -> the ordered grid's points on the subdivided surface."""
        rows = np.repeat(np.arange(len(self.grid_weights) ** 2), 3)
        picks = sparse.csr_matrix((self.grid_weights.ravel(), (rows, self.grid_vertices.ravel())),
                                  shape=(rows[-1] + 1, self._subdivision.matrix.shape[0]))
        return (picks @ self._subdivision.matrix).tocsr()

    @cached_property
    def subdivided_triangles(self) -> np.ndarray:
        """(4F, 3) int64 into `subdivide(vertices)`; triangles 8q .. 8q + 7 are quad q."""
        return triangulate(self._subdivision.quads)

    @cached_property
    def subdivided_regions(self) -> np.ndarray:
        """(4F,) uint8, as `regions`."""
        return np.repeat(self.regions, 4)

    def shape(self, identity: np.ndarray | None = None, expression: np.ndarray | None = None) -> np.ndarray:
        """Vertices (V, 3) float64 mm. Shorter coefficient vectors leave the rest at 0; longer ones are a ValueError."""
        return _combine(self.mean, (self.identity, self.expression), (identity, expression))

    def landmarks(self, vertices: np.ndarray) -> np.ndarray:
        """The 68 landmarks (68, 3) float64 mm of vertices (V, 3)."""
        corners = self._checked(vertices)[self.landmark_vertices]
        return (corners * self.landmark_weights[..., None]).sum(1)

    def subdivide(self, vertices: np.ndarray) -> np.ndarray:
        """One Catmull-Clark level: vertices (V, 3) -> (19237, 3) float64; the faces are `subdivided_triangles`."""
        return (self._subdivision.matrix @ self._checked(vertices).astype(np.float32)).astype(float)

    def region(self, *names: str, subdivided: bool = False) -> np.ndarray:
        """Numbers of the triangles of these regions, (N,) int64; an unknown name is a ValueError."""
        unknown = [n for n in names if n not in self.region_names]
        if unknown:
            raise ValueError(f"regions are {', '.join(self.region_names)}; received {', '.join(unknown)}")
        regions = self.subdivided_regions if subdivided else self.regions
        return np.flatnonzero(np.isin(regions, [self.region_names.index(n) for n in names]))

    def mesh(self, identity: np.ndarray | None = None, expression: np.ndarray | None = None) -> Mesh:
        """The whole head at base resolution, lashes included, with one uv per vertex."""
        return Mesh(self.shape(identity, expression), self.triangles, self.uv.astype(float))

    def sample_identity(self, rng: np.random.Generator) -> np.ndarray:
        """A random subject: (200,) float64, standard normal."""
        return rng.standard_normal(len(self.identity))

    def sample_expression(self, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
        """A random expression: (84,) float64 in [0, strength] (see Dataset/face_model/expressions.py)."""
        return expressions.sample_expression(self.expression_names, rng, strength)

    def _checked(self, vertices: np.ndarray) -> np.ndarray:
        vertices = np.asarray(vertices)
        if vertices.shape != self.mean.shape:
            raise ValueError(f"vertices must be {self.mean.shape}, received shape {vertices.shape}")
        return vertices


def _combine(mean: np.ndarray, bases: tuple[np.ndarray, np.ndarray],
             coefficients: tuple[np.ndarray | None, np.ndarray | None]) -> np.ndarray:
    """mean + identity + expression, (V, 3) float64; computed in float32."""
    result = mean.reshape(-1)
    for name, basis, weights in zip(("identity", "expression"), bases, coefficients):
        if weights is None:
            continue
        weights = np.asarray(weights, np.float32)
        if weights.ndim != 1 or len(weights) > len(basis):
            raise ValueError(f"{name} must be a vector of at most {len(basis)} coefficients, "
                             f"received shape {weights.shape}")
        if not np.isfinite(weights).all():
            raise ValueError(f"{name} must be finite, received NaN or infinity")
        used = np.flatnonzero(weights)
        rows = basis.reshape(len(basis), -1)
        # Gathering rows costs a copy, which pays for the few units of an expression, not for a whole identity.
        pair = (weights[used], rows[used]) if 4 * len(used) < len(weights) else (weights, rows[:len(weights)])
        # einsum, not @: BLAS's threads wait for each other on a busy machine (16 ms instead of 0.4).
        result = result + np.einsum("k,kv->v", *pair)
    return result.astype(float).reshape(-1, 3)


def load_face_model(path: str | Path | None = None) -> FaceModel:
    """A face model from a file; without `path` that of `use_face_model`, else the built-in one.

    path    an .npz that `Dataset.face_model.build.face` or `Dataset.adopt` wrote; or a Basel 2009 (.mat), Basel 2017
            (.h5), FLAME (.pkl) file or an ICT-FaceKit folder with its adopted model beside it (`python -m
            Dataset.adopt FILE`)

    Each file is read once per process; the arrays are read-only. Raises ValueError, naming the file, when the file is
    missing, is no face model, has not been adopted, or when its arrays do not fit together.
    """
    path = Path(os.environ.get(VARIABLE) or BUILT_IN) if path is None else Path(path)
    return _load(path, path.stat().st_mtime_ns if path.exists() else 0)


def use_face_model(path: str | Path | None) -> FaceModel:
    """Make this file's model the default of `load_face_model()` in this process and its child processes, by the
    environment variable FACES3D_FACE_MODEL -> the model. None changes nothing. Raises ValueError as `load_face_model`
    does; the default then stays as it was."""
    found = load_face_model(path)
    if path is not None:
        os.environ[VARIABLE] = os.path.realpath(path)
    return found


@lru_cache(maxsize=4)
def _load(path: Path, _: int) -> FaceModel:
    """A file as of its last modification."""
    return _read(path if path.suffix.lower() == ".npz" else find_adopted(path))


def _read(path: Path) -> FaceModel:
    raw = read_npz(path, what="face model", names=_KINDS)
    _validate(path, raw)
    names, step = raw["mask_names"].tolist(), np.float32(raw["step"])
    model = FaceModel(
        mean=raw["mean"], identity=raw["identity"] * step, expression=raw["expression"] * step,
        expression_names=tuple(raw["expression_names"].tolist()), quads=raw["quads"].astype(np.int64),
        corner_uv_quads=raw["corner_uv"], regions=np.repeat(raw["regions"], 2),
        region_names=tuple(raw["region_names"].tolist()), mirror=raw["mirror"].astype(np.int64),
        landmark_vertices=raw["landmark_vertices"].astype(np.int64), landmark_weights=raw["landmark_weights"],
        masks=dict(zip(names, raw["masks"])), grid_vertices=raw["grid_vertices"].astype(np.int64),
        grid_weights=raw["grid_weights"], grid_landmarks=raw["grid_landmarks"])
    for value in [*vars(model).values(), *model.masks.values()]:
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    return model


def _validate(path: Path, raw: dict[str, np.ndarray]) -> None:
    """Shapes must agree, numbers be finite in float32, and indices in range; ValueError names the file, the array and
    the rule."""
    missing = [n for n in _KINDS if n not in raw]
    if missing:
        raise ValueError(f"{path}: a face model must hold {', '.join(_KINDS)}; found no {', '.join(missing)}")
    for name, kinds in _KINDS.items():
        if raw[name].dtype.kind not in kinds:
            raise ValueError(f"{path}: {name} must be an array of {_WORDS[kinds]}, received {raw[name].dtype}")
    vertices, quads, expressions, masks, regions = (
        raw[name].shape[0] if raw[name].ndim else 0
        for name in ("mean", "quads", "expression_names", "mask_names", "region_names"))
    shapes = {"expression_names": (expressions,), "mask_names": (masks,), "region_names": (regions,), "step": (),
              "mean": (vertices, 3), "identity": (None, vertices, 3), "quads": (quads, 4), "corner_uv": (quads, 4, 2),
              "expression": (expressions, vertices, 3), "regions": (quads,), "mirror": (vertices,),
              "landmark_vertices": (68, 3), "landmark_weights": (68, 3), "masks": (masks, 512, 512),
              "grid_vertices": (128, 128, 3), "grid_weights": (128, 128, 3), "grid_landmarks": (68, 2)}
    for name, shape in shapes.items():
        actual = raw[name].shape
        if len(actual) != len(shape) or any(want not in (None, got) for want, got in zip(shape, actual)):
            raise ValueError(f"{path}: {name} must have shape {shape}, received {actual}")
    for name in ("mean", "identity", "quads"):
        if not raw[name].size:
            raise ValueError(f"{path}: {name} must not be empty, received shape {raw[name].shape}")
    for name in (name for name, kinds in _KINDS.items() if kinds == _NUMBERS):
        _check_finite(path, name, raw[name], raw["step"] if name in ("identity", "expression") else 1.0)
    _check_range(path, raw, "quads", vertices)      # before they are made edges of
    sides = len(edges(raw["quads"]).ends)
    for name, limit in (("mirror", vertices), ("landmark_vertices", vertices),
                        ("grid_vertices", vertices + sides + quads), ("regions", regions)):
        _check_range(path, raw, name, limit)


def _check_finite(path: Path, name: str, values: np.ndarray, step: np.ndarray | float) -> None:
    """ValueError unless the values times `step` are finite as float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        ends = np.array([values.min(), values.max()] if values.size else [], np.float32) * np.float32(step)
    if not np.isfinite(ends).all():         # NaN is the least and the greatest of numbers that have it
        raise ValueError(f"{path}: {name} must be finite numbers of float32's range, received NaN, infinity or more")


def _check_range(path: Path, raw: dict[str, np.ndarray], name: str, limit: int) -> None:
    low, high = raw[name].min(), raw[name].max()
    if low < 0 or high >= limit:
        raise ValueError(f"{path}: {name} must lie within 0 to {limit - 1}, received {low} to {high}")
