"""Mesh and cloud files: read and written. Their bytes are made in `Dataset.io.mesh_files`.

The readers are our own (ply.py, obj.py, stl.py, vrml.py): a file of a stranger costs no more time and memory than its
size allows, opens no other file and ends in a mesh or a ValueError.
"""
from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from Dataset.geometry.mesh import Mesh
from Dataset.io.mesh_files import Morphs, check_geometry, mesh_files, write_files
from Dataset.io.mesh_readers.obj import read_obj
from Dataset.io.mesh_readers.ply import read_ply
from Dataset.io.mesh_readers.stl import read_stl
from Dataset.io.mesh_readers.vrml import read_vrml

READERS = {".ply": read_ply, ".obj": read_obj, ".stl": read_stl, ".wrl": read_vrml}


def read_mesh(path: str | os.PathLike[str]) -> Mesh:
    """Read .ply, .obj, .stl or .wrl; vertices keep the file's order, those that no triangle uses included.

    `uv` comes from .obj and .wrl, colours from .ply and .obj. A vertex whose triangles disagree about its uv (on
    a seam) has that of the first; one without triangles has NaN. ValueError when the file is missing, cut off,
    of another kind, without vertices, or holds coordinates that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    ending = path.suffix.lower()
    if ending not in READERS:
        raise ValueError(f"{path}: a mesh must be one of {', '.join(READERS)}, got {ending or 'no ending'!r}")
    mesh = READERS[ending](path)
    if len(mesh.vertices) == 0:
        raise ValueError(f"{path}: a mesh must have vertices, this has none that can be read")
    check_geometry(path, mesh)
    return mesh


def read_points(path: str | os.PathLike[str]) -> np.ndarray:
    """The vertices of a mesh or cloud file -> (N, 3) float64, in the file's order and unit."""
    return read_mesh(path).vertices


def write_mesh(path: str | os.PathLike[str], mesh: Mesh, normals: np.ndarray | None = None,
               texture: np.ndarray | None = None, millimetres: str | None = None, morphs: Morphs | None = None
               ) -> None:
    """Write a mesh or cloud: binary .ply (float32), .obj as text, or .glb (binary glTF 2.0; needs triangles).

    normals  (V, 3); .obj and .glb compute them from the triangles where none are given
    texture  (H, W, 3) uint8 BGR, for `mesh.uv`, in .obj and .glb. NAME.obj then comes with NAME.mtl and
             NAME_texture.png (spaces in NAME as _). It replaces vertex colours.
    millimetres  of a mesh in mm: how its size is known. The header says both, and a .glb has metres, its own unit
    morphs   morph targets, for .glb; the other formats have none

    All files are written aside, then renamed, NAME.obj last. The same mesh gives the same bytes. ValueError for
    another ending, or for arrays whose lengths do not fit; then nothing is written.
    """
    path = Path(path)
    vertices, triangles = np.asarray(mesh.vertices), np.asarray(mesh.triangles)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"{path}: a mesh is written from (V, 3) vertices and (F, 3) triangles, got "
                         f"{vertices.shape} and {triangles.shape}")
    for what, array, width in (("uv", mesh.uv, 2), ("colours", mesh.colours, 3), ("normals", normals, 3)):
        if array is not None and np.shape(array) != (len(vertices), width):
            raise ValueError(f"{path}: {what} must be ({len(vertices)}, {width}), got {np.shape(array)}")
    write_files(mesh_files(path, mesh._replace(vertices=vertices, triangles=triangles), normals, texture, millimetres,
                           morphs))


def write_points(path: str | os.PathLike[str], points: np.ndarray, colours: np.ndarray | None = None,
                 normals: np.ndarray | None = None) -> None:
    """Write (N, 3) points as a binary .ply cloud, atomically; colours (N, 3) uint8 RGB, normals (N, 3)."""
    write_mesh(path, Mesh(points, colours=colours), normals)
