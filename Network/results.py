"""A prediction as files: a mesh or cloud, and beside an ordered one its 68 landmarks and how the head is turned."""
from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Iterable, NamedTuple

import numpy as np

from Dataset.atomic import write_text
from Dataset.images import IMAGE_SUFFIXES
from Dataset.landmark_files import write_landmarks
from Dataset.io.mesh_io import write_mesh
from Dataset.mesh import Mesh
from Dataset.mesh_files import texture_files
from Dataset.representations.points import grid_landmarks
from Network.predict import Prediction, face_mesh

POSE = ("yaw", "pitch", "roll", "scale", "x", "y")


class Written(NamedTuple):
    """What was written: the mesh, and the files' paths."""

    mesh: Mesh
    paths: list[Path]


def landmark_file(path: Path) -> Path:
    """FACE.ply -> FACE_landmarks.pts, the place of a face's landmarks."""
    return path.with_name(f"{path.stem}_landmarks.pts")


def pose_file(path: Path) -> Path:
    """FACE.ply -> FACE_pose.json, the place of a head's pose."""
    return path.with_name(f"{path.stem}_pose.json")


def write_pose(path: Path, numbers: np.ndarray, photo: str) -> Path:
    """Write FACE_pose.json of the face at `path` -> its own path: where the head is in the picture named `photo`.

    numbers  (6,) of `Dataset.pose.pose_numbers`, by which the keys are named: yaw, pitch, roll (degrees), scale (pixels
             of the picture per mm), x, y (pixels: where the head frame's origin is seen); NaN is null: nobody says
    """
    known = {name: None if math.isnan(value) else round(float(value), 4) for name, value in zip(POSE, numbers)}
    write_text(pose_file(path), json.dumps({"photo": photo, **known}, indent=1) + "\n")
    return pose_file(path)


def written_files(path: Path) -> set[Path]:
    """Every file that writing a face to `path` may touch, its preview too."""
    beside = {path, path.with_suffix(".png"), landmark_file(path), pose_file(path)}
    if path.suffix.lower() == ".obj":
        beside |= set(texture_files(path))
    return beside


def refuse_overwriting(path: Path, inputs: Iterable[str | Path]) -> None:
    """ValueError when writing a face to `path` would replace an input, or a picture in a folder that is one."""
    mine = set()
    for name in map(Path, inputs):
        inside = name.iterdir() if name.is_dir() else ()
        mine |= {name.resolve()} | {file.resolve() for file in inside if file.suffix.lower() in IMAGE_SUFFIXES}
    clash = sorted(mine & {file.resolve() for file in written_files(path)})
    if clash:
        raise ValueError(f"{path}: would overwrite one of the pictures, {clash[0].name}; name another --output")


def write_result(path: Path, prediction: Prediction, ordered: bool) -> Written:
    """Write a prediction's mesh, or cloud, in the form that the ending of `path` says (.ply, .obj with .mtl and
    texture, .glb), and an ordered one's landmarks in the same units: the unit sphere, head frame."""
    mesh = face_mesh(prediction, ordered)
    texture = prediction.coat.texture() if ordered and prediction.coat is not None else None
    flat = path.suffix.lower() == ".ply"        # vertex colours; the others take the finer texture
    write_mesh(path, mesh._replace(uv=None) if flat else mesh, texture=None if flat else texture)
    if not ordered:
        return Written(mesh, [path])
    write_landmarks(landmark_file(path), grid_landmarks(prediction.points))
    return Written(mesh, [path, landmark_file(path)])
