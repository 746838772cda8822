"""Predictions as the public benchmarks' own tools read them; nothing of the benchmarks is part of this repository.

    python -m Network.commands.benchmarks now IMAGES OUT --model compact --list imagepathsvalidation.txt
    python -m Network.commands.benchmarks realy IMAGES OUT --model compact --template REALY/data/HIFI3D.obj

NoW (Sanyal et al. 2019; `now_evaluation`): IMAGES holds SUBJECT/CHALLENGE/NAME.jpg ("iphone_pictures"); the list has
one such path a line, without it every image counts. Written: OUT/SUBJECT/CHALLENGE/NAME.obj, mm, and NAME.txt, seven
landmarks on it, x y z a line: outer and inner corner of the right eye, inner and outer of the left, below the nose, the
right and the left corner of the mouth (the subject's sides).

REALY (Chai et al. 2022): IMAGES holds photos named as 12.jpg or 12_3.jpg. Written: OUT/prediction/NAME.obj, all with
the same vertices and triangles; OUT/faces3d.obj, the template; and OUT/faces3d.txt, its 85 keypoints, as rows of
triangle and first two barycentric weights. The first 68 are ours; the other 17 have no public definition but the
benchmark's template and the .txt file beside it, which --template names: they are carried over to our template by their
position among the 68. Without --template no keypoint file is written.

Each photo is read alone, its neutral face written. A photo without a face gets the mean face, since a tool that leaves
out a missing mesh would count it as right; how many there were is printed. --mean-face writes the mean face for all.
"""
from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Callable, Iterable, NamedTuple

import numpy as np
from scipy.interpolate import RBFInterpolator
from tqdm import tqdm

from Dataset.geometry.closest import ClosestPoints
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.transforms import umeyama
from Dataset.io.command import one_line
from Dataset.io.images import IMAGE_SUFFIXES
from Dataset.io.json_files import read_json
from Dataset.io.mesh_files import obj_bytes, write_files
from Dataset.io.mesh_io import read_mesh
from Dataset.representations.points import grid_landmarks, grid_triangles, mean_face
from Network.commands.subject_faces import SubjectFaces, mean_radius
from Network.inference.registry import from_run

SEVEN = [36, 39, 42, 45, 33, 48, 54]        # of the 68 landmarks, in NoW's order
KEYPOINTS, OWN = 85, 68                     # REALY's keypoints; of them, the usual landmarks
TEMPLATE = "faces3d"
MAX_LIST = 16 << 20                         # bytes of a list of images

#: a photo's file -> the neutral face (N, 3) mm, an ordered grid, or None
FaceOf = Callable[[Path], "np.ndarray | None"]


class Wrote(NamedTuple):
    """photos: how many meshes were written; faceless: names of photos whose mesh is the mean face; keypoints: of REALY,
    whether its keypoint file was written."""

    photos: int
    faceless: list[str]
    keypoints: bool = True


def write_now(images: Path, out: Path, face_of: FaceOf, listed: Path | None = None,
              progress: Callable = lambda items, total: items) -> Wrote:
    """NoW's layout. ValueError, naming file and rule: no images, a line that is no SUBJECT/CHALLENGE/NAME.jpg."""
    names = _listed(listed) if listed else sorted(
        PurePosixPath(path.relative_to(images).as_posix()) for path in images.glob("*/*/*") if _is_photo(path))
    _need(images, names, "SUBJECT/CHALLENGE/NAME.jpg")
    for name in names:
        if not _is_photo(images / name):
            raise ValueError(f"{images / name}: no such photo, {listed} names it")
    faceless = []
    for name in progress(names, total=len(names)):
        face, found = _face(face_of, images / name)
        faceless += [] if found else [str(name)]
        rows = "".join("%.6f %.6f %.6f\n" % tuple(mark) for mark in grid_landmarks(face)[SEVEN])
        stem = out / name.parent / name.name[:-4]       # the tool takes off four letters, whatever they are
        write_files({stem.with_name(f"{stem.name}.txt"): rows.encode(), stem.with_name(f"{stem.name}.obj"): _obj(face)})
    return Wrote(len(names), faceless)


def write_realy(images: Path, out: Path, face_of: FaceOf, template: Path | None = None,
                progress: Callable = lambda items, total: items) -> Wrote:
    """REALY's layout. ValueError, naming file and rule: no images, a name that is no number, a template without its
    keypoint file or that does not fit it."""
    photos = sorted(path for path in images.glob("*") if _is_photo(path))
    _need(images, photos, "12.jpg or 12_3.jpg")
    for photo in photos:
        if not re.fullmatch(r"\d+(_\d+)*", photo.stem):
            raise ValueError(f"{photo}: a photo of REALY must be named as 12.jpg or 12_3.jpg, by its subject's number")
    mean = _mean()
    keypoints = None if template is None else barycentric(mean, carried_keypoints(template, mean))
    faceless = []
    for photo in progress(photos, total=len(photos)):
        face, found = _face(face_of, photo)
        if face.shape != mean.shape:
            raise ValueError(f"{photo}: REALY's meshes have the template's {len(mean)} vertices, this network gives "
                             f"{len(face)}")
        faceless += [] if found else [photo.name]
        write_files({out / "prediction" / f"{photo.stem}.obj": _obj(face)})
    files = {out / f"{TEMPLATE}.obj": _obj(mean)}
    if keypoints is not None:
        files[out / f"{TEMPLATE}.txt"] = json.dumps(keypoints).encode()
    write_files(files)
    return Wrote(len(photos), faceless, keypoints is not None)


def carried_keypoints(template: Path, mean: np.ndarray) -> np.ndarray:
    """(85, 3) mm on or near our mean face (N, 3): our 68 landmarks, and the others of REALY's template, by the smooth
    map that brings its 68 to ours (a similarity, then thin-plate splines; Bookstein 1989)."""
    theirs, ours = realy_keypoints(template), grid_landmarks(mean)
    move = umeyama(theirs[:OWN], ours)
    near = move.apply(theirs)
    bend = RBFInterpolator(near[:OWN], ours - near[:OWN], kernel="thin_plate_spline", smoothing=1.0)
    return np.concatenate([ours, near[OWN:] + bend(near[OWN:])])


def realy_keypoints(template: Path) -> np.ndarray:
    """(85, 3): the keypoints of a template .obj, from the .txt beside it. ValueError, naming the file and the rule."""
    mesh, path = read_mesh(template), template.with_suffix(".txt")
    rows = read_json(path, list)
    try:
        table = np.array(rows, np.float64)
        if table.shape != (KEYPOINTS, 3) or not np.isfinite(table).all():
            raise ValueError(f"received {table.shape}")
        triangle = table[:, 0].astype(np.int64)
        if (triangle != table[:, 0]).any() or not 0 <= triangle.min() <= triangle.max() < len(mesh.triangles):
            raise ValueError(f"{template.name} has triangles 0 to {len(mesh.triangles) - 1}")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: must be {KEYPOINTS} rows of triangle and two weights ({error})") from None
    weights = np.column_stack([table[:, 1:], 1 - table[:, 1] - table[:, 2]])
    return np.einsum("kc,kcd->kd", weights, mesh.vertices[mesh.triangles[triangle]])


def barycentric(grid: np.ndarray, points: np.ndarray) -> list[list[float]]:
    """Points (K, 3) near an ordered grid (N, 3) -> K rows of triangle and its first two weights."""
    found = ClosestPoints(grid, grid_triangles(round(len(grid) ** 0.5)))(points)
    return [[int(triangle), *(round(float(weight), 6) for weight in weights[:2])]
            for triangle, weights in zip(found.triangle, found.weights)]


def _listed(path: Path) -> list[PurePosixPath]:
    """The images of a list. Names that lead out of the folder are refused: they would be written there."""
    if not path.is_file() or path.stat().st_size > MAX_LIST:
        raise ValueError(f"{path}: must be a list of images of at most {MAX_LIST >> 20} MB")
    names = []
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
        name = PurePosixPath(line.strip())
        if line.strip():
            if len(name.parts) != 3 or name.is_absolute() or ".." in name.parts or len(name.suffix) != 4:
                raise ValueError(f"{path}: line {number} must be SUBJECT/CHALLENGE/NAME.jpg, received "
                                 f"{line.strip()[:80]!r}")
            names.append(name)
    return names


def _need(folder: Path, found: Iterable, names: str) -> None:
    if not found:
        raise ValueError(f"{folder}: holds no photos named {names}")


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _mean() -> np.ndarray:
    return mean_radius() * np.asarray(mean_face(), np.float64)


def _face(face_of: FaceOf, photo: Path) -> tuple[np.ndarray, bool]:
    """The photo's face, else the mean face; whether it is its own."""
    face = face_of(photo)
    return (_mean(), False) if face is None else (np.asarray(face, np.float64), True)


def _obj(face: np.ndarray) -> bytes:
    """Without normals: REALY's reader takes `1//1` for a texture."""
    return obj_bytes(Mesh(face, grid_triangles(round(len(face) ** 0.5))))


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m Network.commands.benchmarks", description=__doc__,
                                     allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=("now", "realy"))
    parser.add_argument("images", metavar="IMAGES", type=Path)
    parser.add_argument("out", metavar="OUT", type=Path)
    parser.add_argument("--model", default="compact", help="run folder, model file or bundled network; default compact")
    parser.add_argument("--checkpoint", default="best_validation", help="of a run folder; default best_validation")
    parser.add_argument("--list", type=Path, metavar="FILE", help="of now: imagepathsvalidation.txt or -test.txt")
    parser.add_argument("--template", type=Path, metavar="OBJ", help="of realy: its template, HIFI3D.txt beside it")
    parser.add_argument("--mean-face", action="store_true", help="the mean face for every photo, as the baseline")
    arguments = parser.parse_args(argv)
    if arguments.list and arguments.benchmark != "now" or arguments.template and arguments.benchmark != "realy":
        parser.error("--list is of now, --template of realy")
    return arguments


@one_line("Network.commands.benchmarks")
def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 2 and one line for bad input."""
    arguments = parse(argv)
    if arguments.images.resolve() == arguments.out.resolve():
        raise ValueError(f"{arguments.out}: OUT must be another folder than IMAGES")
    face_of = (lambda photo: None) if arguments.mean_face else \
        SubjectFaces(from_run(arguments.model, arguments.checkpoint)).of_photo
    if arguments.benchmark == "now":
        wrote = write_now(arguments.images, arguments.out, face_of, arguments.list, tqdm)
    else:
        wrote = write_realy(arguments.images, arguments.out, face_of, arguments.template, tqdm)
    named = ", ".join(wrote.faceless[:5]) + (" ..." if len(wrote.faceless) > 5 else "")
    print(f"{arguments.out}: {wrote.photos} meshes, {len(wrote.faceless)} of them the mean face"
          + (f" (no face: {named})" if wrote.faceless and not arguments.mean_face else "")
          + ("" if wrote.keypoints else f"; no {TEMPLATE}.txt: name REALY's template by --template"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
