"""A mesh as the bytes of .ply, .obj (+ .mtl + .png) and .glb files, for `Dataset.io.mesh_io.write_mesh`.

Every writer gives the same bytes for the same mesh. All readers take textures as sRGB. Vertex colours differ: glTF 2.0
(section 3.7.2.1) defines them as linear, so .glb files store them linear, and readers that ignore the rule (MeshLab,
Open3D) show them too dark.
"""
from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from Dataset.geometry.mesh import Mesh
from Dataset.geometry.normals import vertex_normals
from Dataset.io.atomic import all_or_none, write_atomic

WRITABLE = (".ply", ".obj", ".glb")
_MIN_MOVED = 1e-6               # of the largest displacement of all morph targets: smaller ones are left out
_FLOAT, _UINT32 = 5126, 5125
_JSON, _BIN = 0x4E4F534A, 0x004E4942
MAX_COORDINATE = 1e30       # in any unit: squares and cubes of it are numbers, and float32 holds it


class Morphs(NamedTuple):
    """names (M,); displacements (M, V, 3) at weight 1, in the unit of the mesh; weights (M,) of the mesh as it is: the
    vertices that are written are those at weight 0, and a viewer that knows nothing of morphs shows these."""

    names: tuple[str, ...]
    displacements: np.ndarray
    weights: np.ndarray

    def base(self, mesh: Mesh) -> Mesh:
        """The mesh at weight 0."""
        return mesh._replace(vertices=np.asarray(mesh.vertices) - np.tensordot(self.weights, self.displacements, 1))


def mesh_files(path: Path, mesh: Mesh, normals: np.ndarray | None, texture: np.ndarray | None,
               millimetres: str | None = None, morphs: Morphs | None = None) -> dict[Path, bytes]:
    """The files of a mesh, by path, in the order in which they are renamed: the one that refers to the others is last.

    `millimetres`: the mesh is in mm, which the header says, and how that is known; a .glb has metres then. None: in
    any unit, as it is. `morphs`, in the mesh's unit, are in a .glb alone. `texture` (H, W, 3) uint8 BGR needs the
    mesh's uv; with it vertex colours are left out (a reader would multiply the two). ValueError, with the file's name,
    for another ending or data that the format cannot hold.
    """
    ending = path.suffix.lower()
    if ending not in WRITABLE:
        raise ValueError(f"{path}: a mesh is written as {', '.join(WRITABLE)}, got {ending or 'no ending'!r}")
    if ending == ".ply":
        if texture is not None:
            raise ValueError(f"{path}: a texture is written with .obj or .glb, a .ply file holds none")
        return {path: ply_bytes(mesh, normals, millimetres)}
    _check(path, mesh, texture)
    if ending == ".glb" and morphs is not None:
        shape = (len(morphs.names), len(mesh.vertices), 3)
        if morphs.displacements.shape != shape or len(morphs.weights) != len(morphs.names):
            raise ValueError(f"{path}: morph targets must be {shape} with a weight each, got "
                             f"{morphs.displacements.shape} and {len(morphs.weights)}")
        mesh = morphs.base(mesh)
    if normals is None and len(mesh.triangles):
        normals = vertex_normals(mesh.vertices, mesh.triangles)     # without them Blender shows every facet
    if ending == ".glb":
        scale = 1.0 if millimetres is None else 1e-3
        scaled = mesh._replace(vertices=np.asarray(mesh.vertices) * scale)
        data = glb_bytes(path, scaled, normals, texture, millimetres)
        return {path: data if morphs is None else with_morphs(data, morphs, scale)}
    if texture is None:
        return {path: obj_bytes(mesh, normals, millimetres=millimetres)}
    image, library = texture_files(path)
    text = f"newmtl face\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nd 1\nillum 1\nmap_Kd {image.name}\n"
    return {image: cv2.imencode(".png", texture)[1].tobytes(), library: _encoded(text),
            path: obj_bytes(mesh, normals, library.name, millimetres)}


def texture_files(path: Path) -> tuple[Path, Path]:
    """The image and the material file that stand beside NAME.obj: NAME_texture.png, NAME.mtl, spaces as _."""
    stem = re.sub(r"\s", "_", path.stem)        # readers end a name at a space; NAME.png is often a preview
    return path.with_name(f"{stem}_texture.png"), path.with_name(f"{stem}.mtl")


def write_files(files: dict[Path, bytes]) -> None:
    """Write all files under temporary names, then rename them in order; if one cannot be written, none appears.

    A process killed between two renames leaves whole files, of which the last may still be the old one.
    """
    with all_or_none():
        for path, data in files.items():
            write_atomic(path, lambda temporary, data=data: temporary.write_bytes(data))


def check_geometry(path: str | os.PathLike[str], mesh: Mesh) -> None:
    """ValueError, naming the file, for coordinates that are not finite or above MAX_COORDINATE, or triangles of
    vertices that are not there."""
    if not np.isfinite(mesh.vertices).all():
        raise ValueError(f"{path}: all coordinates must be finite, "
                         f"{np.sum(~np.isfinite(mesh.vertices).all(1))} vertices are not")
    largest = np.abs(mesh.vertices).max(initial=0)
    if largest > MAX_COORDINATE:
        raise ValueError(f"{path}: all coordinates must be at most {MAX_COORDINATE:g}, received {largest:g}")
    if mesh.triangles.size and not 0 <= mesh.triangles.min() <= mesh.triangles.max() < len(mesh.vertices):
        raise ValueError(f"{path}: triangles must name vertices 0 to {len(mesh.vertices) - 1}, "
                         f"found {mesh.triangles.min()} to {mesh.triangles.max()}")


def _check(path: Path, mesh: Mesh, texture: np.ndarray | None) -> None:
    check_geometry(path, mesh)
    if path.suffix.lower() == ".glb" and not len(mesh.triangles):
        raise ValueError(f"{path}: a .glb is written from a mesh with triangles; write a cloud as .ply")
    if texture is None:
        return
    if texture.ndim != 3 or texture.shape[2] != 3 or texture.dtype != np.uint8 or not texture.size:
        raise ValueError(f"{path}: a texture must be (H, W, 3) uint8, got {texture.shape} {texture.dtype}")
    if mesh.uv is None:
        raise ValueError(f"{path}: a texture needs uv coordinates, the mesh has none")


def ply_bytes(mesh: Mesh, normals: np.ndarray | None = None, millimetres: str | None = None) -> bytes:
    """Binary little-endian .ply: float32 coordinates, normals and s t, uchar colours, int faces. `millimetres` as
    `mesh_files`."""
    # Open3D writes double coordinates for meshes and names itself in the header; float32 is half the size, and
    # bytes that do not change with a library's version can be compared.
    columns = [(("x", "y", "z"), "float", "<f4", mesh.vertices)]
    if normals is not None:
        columns.append((("nx", "ny", "nz"), "float", "<f4", normals))
    if mesh.uv is not None:
        columns.append((("s", "t"), "float", "<f4", mesh.uv))
    if mesh.colours is not None:
        columns.append((("red", "green", "blue"), "uchar", "u1", mesh.colours))
    rows = np.empty(len(mesh.vertices), [(name, dtype) for names, _, dtype, _ in columns for name in names])
    header = ["ply", "format binary_little_endian 1.0"]
    header += [f"comment {line}" for line in _unit_lines(millimetres)]
    header.append(f"element vertex {len(rows)}")
    for names, kind, _, values in columns:
        for i, name in enumerate(names):
            rows[name] = np.asarray(values)[:, i]
            header.append(f"property {kind} {name}")
    faces = np.empty(len(mesh.triangles), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.triangles
    if len(faces):
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    return "\n".join([*header, "end_header", ""]).encode("ascii") + rows.tobytes() + faces.tobytes()


def _unit_lines(millimetres: str | None) -> list[str]:
    """What a header says of the unit."""
    return [] if millimetres is None else [f"unit: mm ({millimetres})"]


def obj_bytes(mesh: Mesh, normals: np.ndarray | None = None, library: str | None = None,
              millimetres: str | None = None) -> bytes:
    """Wavefront .obj text; `library` names the .mtl file whose material `face` is used; `millimetres` as `mesh_files`.

    Without a library, colours follow the coordinates (`v x y z r g b` in [0, 1]: not in the format's first
    description, but read by MeshLab, Blender and Open3D).
    """
    vertices, corner = np.asarray(mesh.vertices, float), "%d"
    coloured = mesh.colours is not None and library is None
    if coloured:
        # rounded up, since MeshLab cuts its 255-fold down to an integer: 2 / 255 = 0.0078 would come back as 1
        vertices = np.concatenate([vertices, np.ceil(np.asarray(mesh.colours) / 255 * 1e4) / 1e4], 1)
    parts = [f"# {line}\n" for line in _unit_lines(millimetres)]
    parts += [] if library is None else [f"mtllib {library}\n"]
    parts.append(_rows("v %.6f %.6f %.6f" + coloured * " %.4f %.4f %.4f", vertices))
    if mesh.uv is not None:
        parts.append(_rows("vt %.6f %.6f", np.nan_to_num(mesh.uv)))
        corner = "%d/%d"
    if normals is not None:
        parts.append(_rows("vn %.6f %.6f %.6f", np.asarray(normals)))
        corner += "/%d" if mesh.uv is not None else "//%d"
    if library is not None:
        parts.append("usemtl face\n")
    corners = np.repeat(np.asarray(mesh.triangles) + 1, corner.count("%d"), axis=1)
    parts.append(_rows("f " + " ".join([corner] * 3), corners))
    return _encoded("".join(parts))


def _encoded(text: str) -> bytes:
    """UTF-8, but for the bytes of a file's name that is none."""
    return text.encode("utf-8", "surrogateescape")


def _rows(row: str, values: np.ndarray) -> str:
    """One line a row of `values`: a single formatting is several times as fast as one for each line."""
    return (row + "\n") * len(values) % tuple(values.ravel().tolist())


def glb_bytes(path: str | os.PathLike[str], mesh: Mesh, normals: np.ndarray, texture: np.ndarray | None,
              known: str | None = None) -> bytes:
    """Binary glTF 2.0, one mesh named after the file; written by trimesh. known: how its size is, in asset.extras.

    The head frame (+y up, +z out of the face, +x to the subject's left) is glTF's own. Its unit is the metre: a mesh
    in the unit sphere opens as a face of two metres.
    """
    import trimesh
    from PIL import Image
    from trimesh.exchange.gltf import export_glb

    image = None if texture is None else Image.fromarray(np.ascontiguousarray(texture[..., ::-1]))
    material = trimesh.visual.material.PBRMaterial(name="face", baseColorTexture=image, metallicFactor=0.0,
                                                   roughnessFactor=1.0, doubleSided=True)
    uv = None if mesh.uv is None else np.nan_to_num(mesh.uv)
    # a vertex without triangles has no normal; validators expect unit length of all
    normals = np.where(np.any(normals, axis=1, keepdims=True), normals, (0.0, 0.0, 1.0))
    attributes = {}
    if mesh.colours is not None and texture is None:
        # trimesh's own vertex colours have 8 bits, too few for linear light in the shadows: float32 colours are
        # added under another name, which is replaced afterwards
        attributes["_COLOR_0"] = linear_light(mesh.colours)
    body = trimesh.Trimesh(mesh.vertices, mesh.triangles, vertex_normals=normals, vertex_attributes=attributes,
                           visual=trimesh.visual.TextureVisuals(uv=uv, material=material), process=False)

    def finish(tree: dict) -> None:
        tree["asset"]["generator"] = "faces3d"
        if known is not None:
            tree["asset"]["extras"] = {"unit": f"m ({known})"}
        names = tree["meshes"][0]["primitives"][0]["attributes"]
        if "_COLOR_0" in names:
            names["COLOR_0"] = names.pop("_COLOR_0")

    return export_glb(trimesh.Scene({Path(path).stem: body}), include_normals=True, unitize_normals=True,
                      tree_postprocessor=finish)


def linear_light(colours: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) uint8 -> linear float32 in [0, 1] (IEC 61966-2-1)."""
    value = np.asarray(colours) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


def with_morphs(data: bytes, morphs: Morphs, scale: float = 1.0) -> bytes:
    """A .glb of one mesh -> the same with morph targets (glTF 2.0, 3.7.2.2), of as many vertices; `scale`: from the
    unit of the displacements to metres."""
    tree, binary = _chunks(data)
    mesh, = tree["meshes"]
    primitive, = mesh["primitives"]
    moved = (np.asarray(morphs.displacements, np.float64) * scale).astype("<f4")
    least = _MIN_MOVED * max(float(np.abs(moved).max()), 1e-12)
    parts = [binary]
    mesh["weights"] = [round(float(weight), 5) for weight in morphs.weights]
    mesh["extras"] = {**mesh.get("extras", {}), "targetNames": list(morphs.names)}
    primitive["targets"] = [{"POSITION": _target(tree, parts, target, least)} for target in moved]
    tree["buffers"][0]["byteLength"] = sum(map(len, parts))
    return _packed(tree, b"".join(parts))


def _target(tree: dict[str, Any], parts: list[bytes], moved: np.ndarray, least: float) -> int:
    """Append the sparse accessor (3.6.2.3) of displacements (V, 3) -> its index: most blendshapes move a part of it."""
    rows = np.flatnonzero(np.abs(moved).max(axis=1) > least)
    rows = rows if len(rows) else np.zeros(1, np.int64)         # a sparse accessor has at least one element
    accessor = {"componentType": _FLOAT, "type": "VEC3", "count": len(moved), "min": np.zeros(3), "max": np.zeros(3)}
    values = moved[rows]
    for name, pick in (("min", np.minimum), ("max", np.maximum)):
        found = pick.reduce(values, axis=0)
        accessor[name] = (found if len(rows) == len(moved) else pick(found, 0)).astype(float).tolist()
    views = [_view(tree, parts, array) for array in (rows.astype("<u4"), values)]
    accessor["sparse"] = {"count": len(rows), "indices": {"bufferView": views[0], "componentType": _UINT32},
                          "values": {"bufferView": views[1]}}
    tree["accessors"].append(accessor)
    return len(tree["accessors"]) - 1


def _view(tree: dict[str, Any], parts: list[bytes], array: np.ndarray) -> int:
    """Append an array of 4-byte numbers to the buffer -> the index of its view."""
    data = array.tobytes()
    tree["bufferViews"].append({"buffer": 0, "byteOffset": sum(map(len, parts)), "byteLength": len(data)})
    parts.append(data)
    return len(tree["bufferViews"]) - 1


def _chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON tree and the binary chunk of an own .glb, padded to four bytes."""
    length = struct.unpack_from("<I", data, 12)[0]
    tree = json.loads(data[20:20 + length])
    binary = data[28 + length:]
    return tree, binary + bytes(-len(binary) % 4)


def _packed(tree: dict[str, Any], binary: bytes) -> bytes:
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<II", len(text), _JSON) + text + struct.pack("<II", len(binary), _BIN) + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body
