"""A face as files: a mesh or cloud, and beside an ordered one its 68 landmarks and how the head is turned."""
from __future__ import annotations

import json
import math
from functools import lru_cache
from os.path import lexists, realpath  # Path.resolve raises RuntimeError in a loop of links
from pathlib import Path
from typing import Iterable, NamedTuple

import numpy as np

from Dataset.face_model.blendshapes import NAMES, blendshapes, has_blendshapes, weights_of
from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.transforms import to_unit_sphere
from Dataset.io.atomic import write_text
from Dataset.io.images import IMAGE_SUFFIXES
from Dataset.io.landmark_files import write_landmarks
from Dataset.io.marks import is_marked
from Dataset.io.mesh_files import WRITABLE, Morphs, texture_files
from Dataset.io.mesh_io import write_mesh
from Dataset.rendering.texture import grid_uv
from Dataset.representations.points import decode, encode, grid_landmarks, grid_triangles
from Network.inference.base import Face

#: how the millimetres of a face are known, for headers
MEAN_SIZE = "scale of the mean face"
POSE = ("yaw", "pitch", "roll", "scale", "x", "y")


class Written(NamedTuple):
    """What was written: the mesh, and the files' paths. texture: (T, T, 3) uint8 BGR over the mesh's uv; in_photo:
    `Face.in_photo` of the mesh's vertices; None: unknown."""

    mesh: Mesh
    paths: list[Path]
    texture: np.ndarray | None = None
    in_photo: np.ndarray | None = None


def landmark_file(path: Path) -> Path:
    """FACE.ply -> FACE_landmarks.pts, the file of a face's landmarks."""
    return path.with_name(f"{path.stem}_landmarks.pts")


def pose_file(path: Path) -> Path:
    """FACE.ply -> FACE_pose.json, the file of a head's pose."""
    return path.with_name(f"{path.stem}_pose.json")


def write_pose(path: Path, numbers: np.ndarray, photo: str, typicality: float | None = None,
               score: float | None = None, weights: np.ndarray | None = None) -> Path:
    """Write FACE_pose.json of the face at `path` -> its own path: the pose of the head in the image named `photo`.

    numbers     (6,) of `Dataset.geometry.pose.pose_numbers`: yaw, pitch, roll (degrees), scale (pixels of the photo per
                mm), x, y (pixels, of the head frame's origin), which are the keys; NaN, unknown, is written as null
    typicality  of the subject's face, as `Face` has it; None, unknown, is written as null
    score       of the detector, in [0, 1]; None, unknown, is written as null
    weights     (52,) of ARKit's blendshapes in the photo; None, unknown, is left out
    """
    known = {name: None if math.isnan(value) else round(float(value), 4) for name, value in zip(POSE, numbers)}
    known["typicality"] = None if typicality is None else round(typicality, 3)
    known["score"] = None if score is None else round(score, 3)
    if weights is not None:
        known["blendshapes"] = {name: round(float(weight), 4) for name, weight in zip(NAMES, weights)}
    write_text(pose_file(path), json.dumps({"photo": photo, **known}, indent=1) + "\n")
    return pose_file(path)


def volume_file(path: Path) -> Path:
    """FACE.ply -> FACE_volume.npz, the file of a face's volume."""
    return path.with_name(f"{path.stem}_volume.npz")


def written_files(path: Path, preview: bool = True) -> set[Path]:
    """Every file that writing a face to `path`, and its preview, may touch; of a view or a video it and its numbers."""
    if path.suffix.lower() == ".csv":
        return {path}
    if path.suffix.lower() not in WRITABLE:
        return {path, path.with_suffix(".npz")}
    beside = {path, landmark_file(path), pose_file(path), volume_file(path)}
    if preview:
        beside.add(path.with_suffix(".png"))
    if path.suffix.lower() == ".obj":
        beside |= set(texture_files(path))
    return beside


def refuse_overwriting(path: Path, inputs: Iterable[str | Path], overwrite: bool = False, preview: bool = True) -> None:
    """ValueError when writing a face to `path`, and its preview, would replace an input, or an image in an input
    folder; what is there and is no regular file; or, without `overwrite`, a file that this program has not written
    (`Dataset.io.marks`)."""
    mine = set()
    for name in map(Path, inputs):
        inside = name.iterdir() if name.is_dir() else ()
        mine |= {realpath(name)} | {realpath(file) for file in inside if file.suffix.lower() in IMAGE_SUFFIXES}
    touched = written_files(path, preview)
    clash = sorted(mine & {realpath(file) for file in touched})
    if clash:
        raise ValueError(f"{path}: would overwrite one of the images, {Path(clash[0]).name}; name another --output")
    for file in sorted(touched):
        if lexists(file) and not file.is_file():        # or a link that leads to none
            raise ValueError(f"{file}: is there, and is no regular file; name another --output")
        if not overwrite and file.is_file() and not is_marked(file):
            raise ValueError(f"{file}: is there, and not this program's; name another --output, or add --overwrite")


@lru_cache(maxsize=2)
def _radius(model: FaceModel) -> float:
    """Of the mean face, mm: from its centroid to its farthest point."""
    return 1 / to_unit_sphere(decode(encode(np.asarray(model.mean, float), model=model)))[1].scale


def in_millimetres(points: np.ndarray) -> np.ndarray:
    """A face (N, 3) in the unit sphere -> (N, 3) float64 mm at the mean face's size: photos do not say how large a head
    is. The origin stays at the centroid."""
    return np.asarray(points, np.float64) * _radius(load_face_model())


def face_mesh(face: Face, expression: bool = False) -> Mesh:
    """A face as a mesh, mm, with the grid's triangles and its colours; an unordered one is a cloud without either.

    expression  the last photo's face, where the system knows it, not the subject's neutral one
    """
    points = in_millimetres(face.photo_points if expression and face.photo_points is not None else face.points)
    if face.texture is None:
        return Mesh(points)
    side = round(len(points) ** 0.5)
    return Mesh(points, grid_triangles(side), grid_uv(side), colours=face.texture.rgb())


def photo_weights(face: Face) -> np.ndarray | None:
    """ARKit's 52 weights in the last photo; None where the expression, or such units, are not known."""
    model = load_face_model()
    if face.expression is None or not has_blendshapes(model):
        return None
    return weights_of(blendshapes(model), face.expression)


def face_morphs(face: Face, expression: bool = False) -> Morphs | None:
    """ARKit's 52 blendshapes of the mesh of `face_mesh`, in its mm, with the weights of the photo's expression, or of a
    neutral face: zeros. None where the system does not know the expression
    or the sizes, or the face model has no such units."""
    model = load_face_model()
    shown = expression and face.photo_points is not None
    radius = face.photo_radius if shown else face.radius        # each mesh is sized by its own
    if face.expression is None or radius is None or not has_blendshapes(model):
        return None
    shapes, side = blendshapes(model), round(len(face.points) ** 0.5)
    moved = np.stack([encode(one, side, model).reshape(-1, 3) for one in shapes.displacements])
    weights = photo_weights(face) if shown else np.zeros(len(NAMES))
    return Morphs(NAMES, moved * (_radius(model) / radius), weights)


def write_result(path: Path, face: Face, expression: bool = False) -> Written:
    """Write a face's mesh, or cloud, in the format of the suffix of `path` (.ply, .obj with .mtl and texture, .glb with
    blendshapes), and an ordered one's landmarks: mm at the mean face's size, head frame, the .glb in metres; and its
    pose, where known."""
    mesh = face_mesh(face, expression)
    flat = path.suffix.lower() == ".ply"        # vertex colours; the others take the finer texture
    texture = None if face.texture is None else face.texture.image()
    write_mesh(path, mesh._replace(uv=None) if flat else mesh, texture=None if flat else texture,
               millimetres=MEAN_SIZE, morphs=face_morphs(face, expression) if path.suffix.lower() == ".glb" else None)
    written = Written(mesh, [path], texture, face.in_photo)
    if face.texture is not None:
        write_landmarks(landmark_file(path), grid_landmarks(mesh.vertices))
        written.paths.append(landmark_file(path))
    if face.pose_numbers is not None:
        written.paths.append(write_pose(path, face.pose_numbers, face.crop.source, face.typicality,
                                        face.crop.detected, photo_weights(face)))
    return written
