"""Adopt another face model:  python -m Dataset.adopt FILE [-o OUT.npz]

The built-in mean is registered to the mean of the other model (Dataset/fitting/nonrigid_icp.py). This gives every point
of the ordered grid a position on the other model's triangles, by which mean and basis are transferred: the vertices are
those whose subdivided surface passes through these points (least squares; where the other model has no surface, in
ears, scalp, neck and mouth, they follow smoothly). So an adopted model has the vertices, landmarks, atlas, regions and
masks of the built-in one and the coefficients of the *file*: it can replace the built-in face everywhere, and its
coefficients also apply to the mesh of the file (`RawModel.shape`).

It has 200 identity and 84 expression basis vectors, as the built-in one: further ones of the file are left out (the
report says how much variance they have), missing ones are zero. Signed expressions, in standard deviations, become two
each, one for either direction, with SIGMAS standard deviations at weight 1, since our weights lie in [0, 1]. A file
without expressions gets the built-in's, as is usual for Basel 2009. The adopted model is stored as FILE.adopted.npz.
"""
from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.ndimage import binary_dilation
from scipy.sparse.csgraph import connected_components

from Dataset.face_model.adopted import BUILT_IN, adopted_path, source_hash
from Dataset.face_model.expressions import SIGMAS
from Dataset.face_model.lift import Lift, surface_matrix
from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.face_model.readers.basel import read_basel_2009, read_basel_2017
from Dataset.face_model.readers.flame import read_flame
from Dataset.face_model.readers.ict import read_ict
from Dataset.face_model.readers.raw import RawModel
from Dataset.fitting.nonrigid_icp import has_scan, register
from Dataset.fitting.scan_fit import Landmarks, grid_is_skin
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.scan_surface import ScanSurface
from Dataset.geometry.transforms import Similarity
from Dataset.io.atomic import write_atomic
from Dataset.io.command import one_line
from Dataset.io.landmark_files import SUFFIXES, read_landmarks

READERS = {".mat": read_basel_2009, ".h5": read_basel_2017, ".hdf5": read_basel_2017, ".pkl": read_flame,
           ".pickle": read_flame}
BESIDE = 2              # rows of the grid next to the lines between lips and between lids that follow smoothly
CONTOUR = 17            # landmarks of the jaw, which annotators place on an outline
CHECKED = 8             # subjects on whom the report measures


class Report(NamedTuple):
    """The quality of an adopted model. surface, surface_p95: mm, mean and 95th percentile of the distance from the grid
    on the adopted mean to the file's surface; subjects, subjects_p95: mm, between the grid points on the file's mesh
    and on the adopted one, of random subjects with expressions; identity, expression: fraction of the file's variance
    in the basis vectors that are kept; covered: fraction of the grid's skin with the file's surface underneath;
    landmarks: mm, between the file's landmarks and ours, NaN if it has none; borrowed: expressions are the
    built-in's."""

    surface: float
    surface_p95: float
    subjects: float
    subjects_p95: float
    identity: float
    expression: float
    covered: float
    landmarks: float
    borrowed: bool


class Adopted(NamedTuple):
    """model; position: the file's frame (mm) -> the head frame, a rigid motion; report."""

    model: FaceModel
    position: Similarity
    report: Report


def read_raw(path: str | Path) -> RawModel:
    """A face model as its file has it: Basel 2009 (.mat), Basel 2017 (.h5), FLAME (.pkl), ICT-FaceKit (a folder). The
    68 landmarks on its mean, mm in its frame, may lie beside it as FILE.landmarks.json or .pts; they help if the
    registration fails without them. ValueError, one line that names the file."""
    path = Path(path)
    raw = read_ict(path) if path.is_dir() else _read_file(path)
    for ending in SUFFIXES:
        if (beside := path.with_name(f"{path.name}.landmarks{ending}")).is_file():
            return raw._replace(landmarks=read_landmarks(beside))
    return raw


def _read_file(path: Path) -> RawModel:
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{path}: a face model is a file that ends in .npz, {', '.join(READERS)}, or an ICT-FaceKit "
                         "folder")
    return READERS[path.suffix.lower()](path)


def adopt(raw: RawModel) -> Adopted:
    """Register the built-in face to the file's mean and carry everything over. Deterministic. ValueError, naming the
    file, when its mean is no face in millimetres, upright, that looks along +z."""
    own = load_face_model(BUILT_IN)
    scan = Mesh(raw.mean, _largest_part(raw.triangles, len(raw.mean)))
    marks = None if raw.landmarks is None else Landmarks(np.arange(CONTOUR, 68), raw.landmarks[CONTOUR:])
    found = register(scan, marks, str(raw.source), own)
    grid = found.grid.reshape(-1, 3)
    surface = ScanSurface(scan, str(raw.source))
    trusted = _closed(own) & has_scan(surface, grid)[1]
    positions = surface_matrix(scan, grid)
    lift = Lift(own, trusted)
    start = found.fit.vertices(own)
    mean = start + lift(((positions @ raw.mean) - own.grid_matrix @ start)[None])[0]

    turn = found.fit.pose.rotation          # our head frame -> the file's
    identity, expression = (lift(np.stack([positions @ x for x in basis]) if len(basis) else
                                 np.zeros((0, len(grid), 3)), moves) @ turn
                            for basis, moves in ((raw.identity, False), (raw.expression, True)))
    mean = mean @ turn
    eyes = [mean[np.unique(own.triangles[own.region(name)])] for name in ("eye_right", "eye_left")]
    origin = np.mean([(eye.min(0) + eye.max(0)) / 2 for eye in eyes], axis=0)
    model = _built(own, mean - origin, identity, expression, raw)
    position = Similarity(1.0, turn.T, -origin)
    return Adopted(model, position, _measured(raw, model, position, positions, trusted, surface))


def expression_basis(raw: RawModel, expression: np.ndarray, own: FaceModel) -> tuple[np.ndarray, tuple[str, ...]]:
    """A file's expressions (M, V, 3) on our vertices -> basis vectors for weights in [0, 1], at most as many as the
    built-in has, and their names."""
    limit = len(own.expression)
    if not len(expression):
        return own.expression, own.expression_names
    if not raw.signed:
        return expression[:limit], raw.expression_names[:limit]
    half = expression[:limit // 2] * SIGMAS
    names = raw.expression_names[:limit // 2]
    return np.concatenate([half, -half]), (*(f"{name}+" for name in names), *(f"{name}-" for name in names))


def _built(own: FaceModel, mean: np.ndarray, identity: np.ndarray, expression: np.ndarray, raw: RawModel) -> FaceModel:
    """The built-in model with the mean and basis of another."""
    expression, names = expression_basis(raw, expression, own)
    names = (*names, *(f"none{k:03d}" for k in range(len(own.expression) - len(names))))
    identity, expression = (_padded(x, len(y)) for x, y in ((identity, own.identity), (expression, own.expression)))
    mean = mean.astype(np.float32)
    model = replace(own, mean=mean, identity=identity, expression=expression, expression_names=names)
    for name in ("mean", "identity", "expression"):
        getattr(model, name).flags.writeable = False
    return model


def _padded(basis: np.ndarray, count: int) -> np.ndarray:
    """(count, V, 3) float32: the first basis vectors, then zeros."""
    out = np.zeros((count, *basis.shape[1:]), np.float32)
    out[:len(basis)] = basis[:count]
    return out


def _measured(raw: RawModel, model: FaceModel, position: Similarity, positions: sparse.csr_matrix, trusted: np.ndarray,
              surface: ScanSurface) -> Report:
    rng = np.random.default_rng(0)
    back = position.inverse()
    grid = back.apply(model.grid_matrix @ model.mean.astype(float))[trusted]
    distance = surface.nearest(grid).distance
    kept, apart = min(len(raw.identity), len(model.identity)), []
    borrowed = not len(raw.expression)
    half = len(model.expression) // 2 if raw.signed else len(model.expression)
    count = 0 if borrowed else min(len(raw.expression), half)
    for _ in range(CHECKED):
        identity = rng.standard_normal(kept)
        expression = np.clip(rng.standard_normal(count), -SIGMAS, SIGMAS) if raw.signed else \
            rng.uniform(0, 1, count) * (rng.random(count) < 0.1)
        ours = model.shape(identity, weights_of(expression, raw.signed) if count else None)
        theirs = position.apply(raw.shape(identity, expression))
        apart.append(np.linalg.norm((model.grid_matrix @ ours - positions @ theirs)[trusted], axis=1))
    marks = np.nan
    if raw.landmarks is not None:
        error = np.linalg.norm(position.apply(raw.landmarks) - model.landmarks(model.mean), axis=1)
        marks = float(error[CONTOUR:].mean())
    return Report(float(distance.mean()), float(np.quantile(distance, 0.95)), float(np.mean(apart)),
                  float(np.quantile(apart, 0.95)), _explained(raw.identity, kept),
                  1.0 if borrowed else _explained(raw.expression, count),
                  float(trusted.sum() / _closed(model).sum()), marks, borrowed)


def _closed(model: FaceModel) -> np.ndarray:
    """(16384,) bool: the grid's skin without the neighbourhood of the lines between lips and between lids, where the
    closest point may lie on the other lip, which moves differently."""
    return ~binary_dilation(~grid_is_skin(model), iterations=BESIDE).ravel()


def weights_of(expression: np.ndarray, signed: bool, limit: int = 84) -> np.ndarray:
    """The file's expression coefficients -> our weights: of a signed model (standard deviations, clipped to SIGMAS)
    both directions, (2 M',), M' = min(M, most / 2) of each; of any other the first `most`, unchanged."""
    if not signed:
        return np.asarray(expression, float)[:limit]
    there = np.clip(np.asarray(expression, float)[:limit // 2] / SIGMAS, -1, 1)
    return np.concatenate([np.maximum(there, 0), np.maximum(-there, 0)])


def _explained(basis: np.ndarray, kept: int) -> float:
    """Fraction of the squared lengths that the first `kept` basis vectors have."""
    squares = np.einsum("kvc,kvc->k", basis, basis, dtype=float)
    return float(squares[:kept].sum() / squares.sum()) if squares.sum() else 1.0


def _largest_part(triangles: np.ndarray, count: int) -> np.ndarray:
    """The triangles of the part with the most vertices: eyeballs, teeth and lashes are parts of their own."""
    sides = triangles[:, [0, 1, 0, 2]].reshape(-1, 2).T
    part = connected_components(sparse.coo_matrix((np.ones(sides.shape[1]), sides), (count, count)), directed=False)[1]
    return triangles[part[triangles[:, 0]] == np.bincount(part[np.unique(triangles)]).argmax()]


def arrays_of(model: FaceModel, mark: str = "") -> dict[str, np.ndarray]:
    """A model as the arrays of a file that `load_face_model` reads; mark: `source_hash` of the adopted file."""
    bases = ("identity", "expression")
    step = max(1e-6, *(float(np.abs(getattr(model, name)).max(initial=0)) for name in bases)) / 32767
    same = ("mean", "mirror", "landmark_vertices", "landmark_weights", "quads", "grid_vertices", "grid_weights",
            "grid_landmarks")
    return {"adopted": np.array(mark), **{name: getattr(model, name) for name in same},
            **{name: np.round(getattr(model, name) / step).astype(np.int16) for name in bases},
            "step": np.float64(step), "expression_names": np.array(model.expression_names),
            "corner_uv": model.corner_uv_quads, "regions": model.regions[::2],
            "region_names": np.array(model.region_names), "mask_names": np.array(list(model.masks)),
            "masks": np.stack(list(model.masks.values()))}


def write_model(path: str | Path, model: FaceModel, mark: str = "") -> None:
    """Write an .npz that `load_face_model` reads, atomically; the same model gives the same bytes."""
    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays_of(model, mark))
    write_atomic(path, write)


def words(report: Report) -> str:
    """The report in one line."""
    marks = "" if np.isnan(report.landmarks) else f"; its landmarks {report.landmarks:.1f} mm from ours"
    return (f"mean {report.surface:.2f} mm off its surface (95 %: {report.surface_p95:.2f}), its subjects "
            f"{report.subjects:.2f} mm (95 %: {report.subjects_p95:.2f}), {report.covered:.0%} of the face covered; "
            f"{report.identity:.1%} of its identity and {report.expression:.1%} of its expression kept"
            + (" (borrowed: it has none)" if report.borrowed else "") + marks)


@one_line("Dataset.adopt")
def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 2 and one line for bad input."""
    parser = argparse.ArgumentParser(prog="python -m Dataset.adopt", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="Basel .mat or .h5, FLAME .pkl, or an ICT-FaceKit folder")
    parser.add_argument("-o", "--output", type=Path, help="a file for --face-model (default FILE.adopted.npz)")
    arguments = parser.parse_args(argv)
    output = arguments.output or adopted_path(arguments.file)
    found = adopt(read_raw(arguments.file))
    write_model(output, found.model, source_hash(arguments.file))
    print(f"{output}: {words(found.report)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
