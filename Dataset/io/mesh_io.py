"""Reading and writing of mesh and cloud files. `Dataset.io.mesh_files` makes the bytes.

Open3D reads .ply. It reads .wrl (VRML) as 0 vertices without an error, and .obj in another order of vertices, so
these two go through pymeshlab, as the thesis's .wrl does (listing B-1.2). Both libraries are loaded when they are
needed: importing them takes seconds.
"""
from __future__ import annotations

import ctypes
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Callable, TypeVar

import numpy as np

from Dataset.geometry.mesh import Mesh
from Dataset.io.mesh_files import check_geometry, mesh_files, write_files
from Dataset.io.ply_header import check_ply
from Dataset.io.vrml import texture_corners

if TYPE_CHECKING:
    import pymeshlab

T = TypeVar("T")
READABLE = (".ply", ".obj", ".wrl")
_CLONE_FS = 0x200       # of Linux's unshare(2)
_LOADING = threading.Lock()


def read_mesh(path: str | os.PathLike[str]) -> Mesh:
    """Read .ply, .obj or .wrl; vertices keep the file's order, those that no triangle uses included.

    `uv` comes from .obj and .wrl, colours from .ply and .obj. A vertex whose triangles disagree about its uv (on
    a seam) has that of the first; one without triangles has NaN. ValueError when the file is missing, cut off,
    of another kind, without vertices, or holds coordinates that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    ending = path.suffix.lower()
    if ending not in READABLE:
        raise ValueError(f"{path}: a mesh must be one of {', '.join(READABLE)}, got {ending or 'no ending'!r}")
    if ending == ".ply":
        check_ply(path)
    mesh = _read_open3d(path) if ending == ".ply" else _read_meshlab(path)
    if len(mesh.vertices) == 0:
        raise ValueError(f"{path}: a mesh must have vertices, this has none that can be read")
    check_geometry(path, mesh)
    return mesh


def read_points(path: str | os.PathLike[str]) -> np.ndarray:
    """The vertices of a mesh or cloud file -> (N, 3) float64, in the file's order and unit."""
    return read_mesh(path).vertices


def _read_open3d(path: Path) -> Mesh:
    import open3d as o3d

    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        read = o3d.io.read_triangle_mesh(str(path))
    colours = np.round(np.asarray(read.vertex_colors) * 255).astype(np.uint8) if read.has_vertex_colors() else None
    return Mesh(np.asarray(read.vertices).astype(np.float64).reshape(-1, 3),
                np.asarray(read.triangles).astype(np.int64).reshape(-1, 3), colours=colours)


def _read_meshlab(path: Path) -> Mesh:
    import pymeshlab

    try:
        meshes = _alone(lambda: _load(path.resolve()))
    except pymeshlab.PyMeshLabException as error:
        reason = str(error).strip().splitlines()[-1].removeprefix("Error details: ")
        what = "VRML 2 text" if path.suffix.lower() == ".wrl" else "an .obj file"
        raise ValueError(f"{path}: must be {what}, MeshLab says: {reason}") from None
    read = meshes.current_mesh()
    vertices = read.vertex_matrix().astype(np.float64)
    triangles = read.face_matrix().astype(np.int64).reshape(-1, 3)
    corners = None
    if read.has_wedge_tex_coord():
        corners = read.wedge_tex_coord_matrix()
    elif path.suffix.lower() == ".wrl":         # MeshLab drops them when the texture's image is not there
        corners = texture_corners(path)
    uv = None
    if corners is not None and len(corners) == triangles.size:
        uv = _uv_per_vertex(len(vertices), triangles, corners)
    colours = None
    if read.has_vertex_color() and path.suffix.lower() == ".obj":
        colours = np.round(read.vertex_color_matrix()[:, :3] * 255).astype(np.uint8)
    return Mesh(vertices, triangles, uv, colours)


def _load(path: Path) -> pymeshlab.MeshSet:
    import pymeshlab

    meshes = pymeshlab.MeshSet(verbose=False)
    meshes.load_new_mesh(str(path))
    return meshes


def _alone(load: Callable[[], T]) -> T:
    """Call load() in a thread with a working directory of its own (Linux).

    MeshLab changes into the file's folder, which other threads would see, and stays there if the file is broken. On
    other systems the directory of the process is restored afterwards, and one file is loaded at a time.
    """
    def apart() -> T:
        if _own_folder():
            return load()
        with _LOADING:
            here = os.getcwd()
            try:
                return load()
            finally:
                os.chdir(here)
    with ThreadPoolExecutor(1, "mesh") as thread:
        return thread.submit(apart).result()


def _own_folder() -> bool:
    """Give this thread a working directory of its own (Linux); False where that is not possible."""
    if not sys.platform.startswith("linux"):
        return False
    return ctypes.CDLL(None, use_errno=True).unshare(_CLONE_FS) == 0


def _uv_per_vertex(count: int, triangles: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Texture coordinates per corner (3F, 2) -> per vertex (V, 2): the first corner that uses the vertex."""
    uv = np.full((count, 2), np.nan)
    used, first = np.unique(triangles.ravel(), return_index=True)
    uv[used] = corners.reshape(-1, 2)[first]
    return uv


def write_mesh(path: str | os.PathLike[str], mesh: Mesh, normals: np.ndarray | None = None,
               texture: np.ndarray | None = None) -> None:
    """Write a mesh or cloud: binary .ply (float32), .obj as text, or .glb (binary glTF 2.0; needs triangles).

    normals  (V, 3); .obj and .glb compute them from the triangles where none are given
    texture  (H, W, 3) uint8 BGR, for `mesh.uv`, in .obj and .glb. NAME.obj then comes with NAME.mtl and
             NAME_texture.png (spaces in NAME as _). It replaces vertex colours.

    All files are written under temporary names and renamed, NAME.obj last. The same mesh gives the same bytes.
    ValueError for another ending, or for arrays whose lengths do not fit; then nothing is written.
    """
    path = Path(path)
    vertices, triangles = np.asarray(mesh.vertices), np.asarray(mesh.triangles)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"{path}: a mesh is written from (V, 3) vertices and (F, 3) triangles, got "
                         f"{vertices.shape} and {triangles.shape}")
    for what, array, width in (("uv", mesh.uv, 2), ("colours", mesh.colours, 3), ("normals", normals, 3)):
        if array is not None and np.shape(array) != (len(vertices), width):
            raise ValueError(f"{path}: {what} must be ({len(vertices)}, {width}), got {np.shape(array)}")
    write_files(mesh_files(path, mesh._replace(vertices=vertices, triangles=triangles), normals, texture))


def write_points(path: str | os.PathLike[str], points: np.ndarray, colours: np.ndarray | None = None,
                 normals: np.ndarray | None = None) -> None:
    """Write (N, 3) points as a binary .ply cloud, atomically; colours (N, 3) uint8 RGB, normals (N, 3)."""
    write_mesh(path, Mesh(points, colours=colours), normals)
