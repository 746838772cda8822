"""Dataset/io/mesh_files.py: .obj with material and texture, and .glb, open in Open3D and MeshLab, and obey the
formats."""
import json
import struct

import cv2
import numpy as np
import open3d as o3d
import pymeshlab
import pytest

from Dataset.geometry.mesh import Mesh
from Dataset.geometry.normals import vertex_normals
from Dataset.io import atomic
from Dataset.io.mesh_files import glb_bytes, linear_light, obj_bytes
from Dataset.io.mesh_io import read_mesh, write_mesh
from Dataset.rendering.texture import grid_uv
from Dataset.representations.points import grid_triangles

N = 6
SIZES = {5121: 1, 5123: 2, 5125: 4, 5126: 4}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
DTYPES = {5121: "<u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}


@pytest.fixture
def face() -> Mesh:
    """A bent 6 x 6 sheet in front of the camera, millimetres, with uv and colours."""
    row, column = np.divmod(np.arange(N * N), N)
    vertices = np.stack([10.0 * column - 25, 25 - 10.0 * row, 8 * np.sin(column / 2) + row / 4], 1)
    colours = (np.arange(3 * N * N) * 2 % 256).astype(np.uint8).reshape(-1, 3)
    return Mesh(vertices, grid_triangles(N), grid_uv(N), colours)


@pytest.fixture
def texture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)


def glb(data: bytes) -> tuple[dict, bytes]:
    """(JSON, binary chunk), after the checks that the container demands (glTF 2.0, section 4.4)."""
    magic, version, length = struct.unpack("<4sII", data[:12])
    assert (magic, version, length) == (b"glTF", 2, len(data)) and len(data) % 4 == 0
    size, kind = struct.unpack("<I4s", data[12:20])
    assert kind == b"JSON" and size % 4 == 0
    body, tail = data[20:20 + size], data[20 + size:]
    binary, kind = struct.unpack("<I4s", tail[:8])
    assert kind == b"BIN\0" and binary % 4 == 0 and len(tail) == 8 + binary
    tree = json.loads(body)
    assert 0 <= binary - tree["buffers"][0]["byteLength"] <= 3 and "uri" not in tree["buffers"][0]
    return tree, tail[8:]


def accessor(tree: dict, binary: bytes, index: int) -> np.ndarray:
    """The values of an accessor, after the checks of glTF 2.0, section 3.6.2: bounds, alignment, min and max."""
    it, view = tree["accessors"][index], tree["bufferViews"][tree["accessors"][index]["bufferView"]]
    width, item = WIDTHS[it["type"]], SIZES[it["componentType"]]
    start = view.get("byteOffset", 0) + it.get("byteOffset", 0)
    assert start % 4 == 0 and view["buffer"] == 0 and "byteStride" not in view
    assert it["count"] * width * item <= view["byteLength"]
    assert view.get("byteOffset", 0) + view["byteLength"] <= len(binary)
    values = np.frombuffer(binary, DTYPES[it["componentType"]], it["count"] * width, start).reshape(-1, width)
    if "min" in it:
        assert np.array_equal(np.float32(it["min"]), values.min(0).astype(np.float32))
        assert np.array_equal(np.float32(it["max"]), values.max(0).astype(np.float32))
    return values


def primitive(tree: dict) -> dict:
    assert tree["asset"] == {"version": "2.0", "generator": "faces3d"} and len(tree["meshes"]) == 1
    assert len(tree["meshes"][0]["primitives"]) == 1 and tree["meshes"][0]["primitives"][0]["mode"] == 4
    return tree["meshes"][0]["primitives"][0]


def open3d_texture_is(read: o3d.geometry.TriangleMesh, texture: np.ndarray) -> bool:
    """Open3D holds images upside down (row 0 is v = 0), in RGB, with empty ones for materials without."""
    filled = [np.asarray(image) for image in read.textures if np.ndim(image) == 3]
    return len(filled) == 1 and np.array_equal(filled[0][::-1, :, ::-1], texture)


def test_glb_with_texture_obeys_the_format(tmp_path, face, texture):
    write_mesh(tmp_path / "a.glb", face, texture=texture)
    tree, binary = glb((tmp_path / "a.glb").read_bytes())
    part = primitive(tree)
    assert set(part["attributes"]) == {"POSITION", "NORMAL", "TEXCOORD_0"}     # COLOR_0 would be multiplied in
    assert "min" in tree["accessors"][part["attributes"]["POSITION"]]           # the one that must have them
    assert np.allclose(accessor(tree, binary, part["attributes"]["POSITION"]), face.vertices, atol=1e-5)
    assert np.array_equal(accessor(tree, binary, part["indices"]).reshape(-1, 3), face.triangles)
    normals = accessor(tree, binary, part["attributes"]["NORMAL"])
    assert np.allclose(normals, vertex_normals(face.vertices, face.triangles), atol=1e-6)
    uv = accessor(tree, binary, part["attributes"]["TEXCOORD_0"])
    assert np.allclose(uv, face.uv * (1, -1) + (0, 1), atol=1e-6)               # glTF's v points down
    material = tree["materials"][part["material"]]
    assert material["pbrMetallicRoughness"]["metallicFactor"] == 0 and material["doubleSided"] is True
    image = tree["images"][tree["textures"][material["pbrMetallicRoughness"]["baseColorTexture"]["index"]]["source"]]
    view = tree["bufferViews"][image["bufferView"]]
    png = np.frombuffer(binary, np.uint8, view["byteLength"], view["byteOffset"])
    assert image["mimeType"] == "image/png" and np.array_equal(cv2.imdecode(png, cv2.IMREAD_COLOR), texture)


def test_glb_colours_are_linear_light(tmp_path, face):
    write_mesh(tmp_path / "a.glb", face)
    tree, binary = glb((tmp_path / "a.glb").read_bytes())
    part = primitive(tree)
    assert set(part["attributes"]) == {"POSITION", "NORMAL", "TEXCOORD_0", "COLOR_0"}
    colours = accessor(tree, binary, part["attributes"]["COLOR_0"])
    assert tree["accessors"][part["attributes"]["COLOR_0"]]["componentType"] == 5126
    assert np.allclose(colours, linear_light(face.colours), atol=1e-7)
    assert np.allclose(linear_light(np.array([0, 10, 128, 255])), [0, 0.003035, 0.215861, 1], atol=1e-6)


@pytest.mark.parametrize("textured", [True, False])
def test_open3d_and_meshlab_open_the_glb(tmp_path, face, texture, textured):
    path = str(tmp_path / "a.glb")
    write_mesh(path, face, texture=texture if textured else None)
    read = o3d.io.read_triangle_mesh(path)          # in an order of its own
    assert len(read.vertices) == 36 and len(read.triangles) == 50 and read.has_vertex_normals()
    corners = np.asarray(read.vertices)[np.asarray(read.triangles)]
    assert np.allclose(corners, face.vertices[face.triangles], atol=1e-4)
    meshes = pymeshlab.MeshSet(verbose=False)
    meshes.load_new_mesh(path)
    other = meshes.current_mesh()
    assert np.allclose(other.vertex_matrix(), face.vertices, atol=1e-4)
    assert np.array_equal(other.face_matrix(), face.triangles)
    if textured:
        assert open3d_texture_is(read, texture)
        assert other.texture_number() == 1 and other.has_wedge_tex_coord()
        assert np.allclose(other.wedge_tex_coord_matrix(), face.uv[face.triangles].reshape(-1, 2), atol=1e-5)
    else:
        expected = linear_light(face.colours)
        assert np.allclose(np.asarray(read.vertex_colors)[np.asarray(read.triangles)], expected[face.triangles],
                           atol=1e-5)
        assert np.abs(other.vertex_color_matrix()[:, :3] - expected).max() <= 1 / 255


def test_open3d_and_meshlab_open_the_obj_with_its_texture(tmp_path, face, texture):
    path = tmp_path / "my face.obj"
    write_mesh(path, face, texture=texture)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my face.obj", "my_face.mtl", "my_face_texture.png"]
    read = o3d.io.read_triangle_mesh(str(path))
    assert open3d_texture_is(read, texture)
    corners = np.asarray(read.vertices)[np.asarray(read.triangles)]
    assert np.allclose(corners, face.vertices[face.triangles], atol=1e-5)
    assert len(read.triangle_uvs) == 150
    meshes = pymeshlab.MeshSet(verbose=False)
    meshes.load_new_mesh(str(path))
    other = meshes.current_mesh()
    assert other.texture_number() == 1 and np.array_equal(other.face_matrix(), face.triangles)
    assert np.allclose(other.wedge_tex_coord_matrix(), face.uv[face.triangles].reshape(-1, 2), atol=1e-6)
    back = read_mesh(path)
    assert np.allclose(back.vertices, face.vertices, atol=1e-6) and np.allclose(back.uv, face.uv, atol=1e-6)


def test_obj_without_texture_keeps_its_colours_and_order(tmp_path, face):
    write_mesh(tmp_path / "a.obj", face._replace(uv=None))
    back = read_mesh(tmp_path / "a.obj")
    assert np.array_equal(back.colours, face.colours) and np.array_equal(back.triangles, face.triangles)
    assert np.allclose(back.vertices, face.vertices, atol=1e-6)
    read = o3d.io.read_triangle_mesh(str(tmp_path / "a.obj"))
    colours = np.round(np.asarray(read.vertex_colors) * 255).astype(int)[np.asarray(read.triangles)]
    assert np.array_equal(colours, face.colours[face.triangles])


def test_obj_text_pinned():
    mesh = Mesh(np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0.5]]), np.array([[0, 1, 2]]),
                np.array([[0, 0], [1, 0], [0, 1.0]]), np.array([[0, 128, 255]] * 3, np.uint8))
    up = np.tile([0, 0, 1.0], (3, 1))
    assert obj_bytes(mesh, up, "a.mtl").decode().splitlines() == [
        "mtllib a.mtl", "v 0.000000 0.000000 0.000000", "v 1.000000 0.000000 0.000000", "v 0.000000 2.000000 0.500000",
        "vt 0.000000 0.000000", "vt 1.000000 0.000000", "vt 0.000000 1.000000",
        *["vn 0.000000 0.000000 1.000000"] * 3, "usemtl face", "f 1/1/1 2/2/2 3/3/3"]
    assert obj_bytes(mesh._replace(uv=None), up).decode().splitlines()[-1] == "f 1//1 2//2 3//3"
    plain = obj_bytes(mesh._replace(uv=None)).decode().splitlines()
    assert plain[0] == "v 0.000000 0.000000 0.000000 0.0000 0.5020 1.0000"
    assert obj_bytes(mesh._replace(colours=None)).decode().splitlines()[-1] == "f 1/1 2/2 3/3"


def test_the_obj_appears_last_and_nothing_half_written_stays(tmp_path, face, texture, monkeypatch):
    order, replace = [], atomic.os.replace
    monkeypatch.setattr(atomic.os, "replace", lambda a, b: (order.append(b.name), replace(a, b)))
    write_mesh(tmp_path / "a.obj", face, texture=texture)
    assert order == ["a_texture.png", "a.mtl", "a.obj"]
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(handle: int) -> None:
        raise KeyboardInterrupt
    monkeypatch.setattr(atomic, "_flush", full)
    with pytest.raises(KeyboardInterrupt):
        write_mesh(tmp_path / "a.obj", face, texture=255 - texture)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_the_same_mesh_gives_the_same_bytes(tmp_path, face, texture):
    for name in ("a.obj", "a.glb", "b.glb"):
        first = []
        for _ in range(2):
            write_mesh(tmp_path / name, face, texture=None if name == "b.glb" else texture)
            first.append({p.name: p.read_bytes() for p in tmp_path.iterdir()})
        assert first[0] == first[1]


def test_a_vertex_without_triangle_gets_a_normal_of_unit_length(face):
    alone = face._replace(triangles=face.triangles[:1], uv=None)
    tree, binary = glb(glb_bytes("a.glb", alone, vertex_normals(alone.vertices, alone.triangles), None))
    normals = accessor(tree, binary, primitive(tree)["attributes"]["NORMAL"])
    assert len(normals) == 36 and np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)


def test_bad_meshes_write_nothing(tmp_path, face, texture):
    hole = face.vertices.copy()
    hole[3, 1] = np.nan
    for name, mesh, image, rule in (
            ("a.stl", face, None, "written as .ply, .obj, .glb, got '.stl'"), ("a", face, None, "got 'no ending'"),
            ("a.ply", face, texture, "a texture is written with .obj or .glb"),
            ("a.glb", face._replace(triangles=np.zeros((0, 3), int)), None, "with triangles; write a cloud as .ply"),
            ("a.glb", face._replace(vertices=hole), None, "finite, 1 vertices are not"),
            ("a.obj", face._replace(triangles=np.array([[0, 1, 36]])), None, "vertices 0 to 35, found 0 to 36"),
            ("a.obj", face._replace(uv=None), texture, "a texture needs uv"),
            ("a.glb", face, texture / 255, r"\(H, W, 3\) uint8, got \(24, 24, 3\) float64")):
        with pytest.raises(ValueError, match=rule) as error:
            write_mesh(tmp_path / name, mesh, texture=image)
        assert name in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("textured", [True, False])
def test_glb_obeys_the_schema_of_gltf(tmp_path, face, texture, textured):
    """Khronos's JSON schema, which trimesh carries: an independent reader of the rules."""
    pytest.importorskip("jsonschema")
    from trimesh.exchange.gltf import validate

    write_mesh(tmp_path / "a.glb", face, texture=texture if textured else None)
    tree, _ = glb((tmp_path / "a.glb").read_bytes())
    validate(tree)
    with pytest.raises(Exception, match="POSITION"):
        tree["meshes"][0]["primitives"][0]["attributes"]["POSITION"] = "first"
        validate(tree)


def test_millimetres_are_said_and_a_glb_has_metres(tmp_path, face):
    """Other readers find the same numbers; what is not said is written as before."""
    for ending, first in (("ply", b"ply\nformat binary_little_endian 1.0\ncomment unit: mm (measured)\n"),
                          ("obj", b"# unit: mm (measured)\n")):
        path = tmp_path / f"a.{ending}"
        write_mesh(path, face, millimetres="measured")
        assert path.read_bytes().startswith(first)
        np.testing.assert_allclose(read_mesh(path).vertices, face.vertices, atol=1e-5)
        write_mesh(path, face)
        assert b"unit" not in path.read_bytes()[:200]
    write_mesh(tmp_path / "mm.glb", face, millimetres="measured")
    write_mesh(tmp_path / "plain.glb", face)
    (scaled, _), (plain, _) = (glb((tmp_path / name).read_bytes()) for name in ("mm.glb", "plain.glb"))
    assert scaled["asset"]["extras"] == {"unit": "m (measured)"} and "extras" not in plain["asset"]
    bounds = [tree["accessors"][tree["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]["max"]
              for tree in (scaled, plain)]
    np.testing.assert_allclose(1000 * np.array(bounds[0]), bounds[1], rtol=1e-5)
