"""Dataset/io/mesh_readers/ply.py: whole files as Open3D reads them, and no damaged one."""
import itertools
import os
import re

import numpy as np
import open3d as o3d
import pytest

from Dataset.geometry.mesh import Mesh
from Dataset.io.mesh_io import read_mesh, write_mesh
from Dataset.io.mesh_readers import ply
from Dataset.io.mesh_readers.ply import read_ply, vertex_count
from tests.memory import clear_peak, peak

XYZ = "property float x\nproperty float y\nproperty float z\n"
FACES = "property list uchar int vertex_indices\n"


def text(vertices: str, faces: str | None = None, counts: tuple[int, int] = (3, 1), properties: str = XYZ) -> bytes:
    """An ASCII file."""
    tail = "" if faces is None else f"element face {counts[1]}\n{FACES}"
    return (f"ply\nformat ascii 1.0\ncomment made\nelement vertex {counts[0]}\n{properties}{tail}end_header\n"
            f"{vertices}{faces or ''}").encode()


TRIANGLE = "0 0 0\n1 0 0\n0 1 0.5\n"


def read(tmp_path, data: bytes) -> Mesh:
    (tmp_path / "m.ply").write_bytes(data)
    return read_mesh(tmp_path / "m.ply")


def sample(seed: int = 0) -> Mesh:
    rng = np.random.default_rng(seed)
    return Mesh(rng.normal(size=(50, 3)).astype(np.float32).astype(float), rng.permuted(
        np.tile(np.arange(50), (40, 1)), axis=1)[:, :3], colours=rng.integers(0, 256, (50, 3), np.uint8))


@pytest.mark.parametrize("ascii_text, normals", itertools.product([False, True], [False, True]))
def test_files_of_open3d_are_read_as_open3d_reads_them(tmp_path, ascii_text, normals):
    mesh = sample()
    theirs = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(mesh.vertices),
                                       o3d.utility.Vector3iVector(mesh.triangles))
    theirs.vertex_colors = o3d.utility.Vector3dVector(mesh.colours / 255)
    if normals:
        theirs.compute_vertex_normals()
    o3d.io.write_triangle_mesh(str(tmp_path / "o.ply"), theirs, write_ascii=ascii_text)
    back, found = o3d.io.read_triangle_mesh(str(tmp_path / "o.ply")), read_ply(tmp_path / "o.ply")
    np.testing.assert_allclose(found.vertices, np.asarray(back.vertices), rtol=0, atol=0)
    np.testing.assert_array_equal(found.triangles, np.asarray(back.triangles))
    np.testing.assert_array_equal(found.colours, mesh.colours)
    assert vertex_count(tmp_path / "o.ply") == 50


def test_the_houses_own_files_come_back(tmp_path):
    mesh = sample(1)
    write_mesh(tmp_path / "m.ply", mesh)
    found = read_ply(tmp_path / "m.ply")
    for name in ("vertices", "triangles", "colours"):
        np.testing.assert_array_equal(getattr(found, name), getattr(mesh, name))
    write_mesh(tmp_path / "c.ply", Mesh(mesh.vertices))
    cloud = read_ply(tmp_path / "c.ply")
    assert cloud.triangles.shape == (0, 3) and cloud.colours is None


@pytest.mark.parametrize("order", "<>")
def test_binary_of_either_order_with_other_properties_and_polygons(tmp_path, order):
    """Doubles, a property between, an element before the vertices, lists of several lengths, a list in a vertex."""
    kind = {"<": "little", ">": "big"}[order]
    header = (f"ply\nformat binary_{kind}_endian 1.0\nobj_info x\nelement camera 1\nproperty int a\n"
              "element vertex 4\nproperty double x\nproperty uchar q\nproperty double y\nproperty double z\n"
              "element face 2\nproperty uchar flag\nproperty list uchar uint vertex_index\nend_header\n")
    vertices = np.zeros(4, [("x", order + "f8"), ("q", "u1"), ("y", order + "f8"), ("z", order + "f8")])
    vertices["x"], vertices["y"], vertices["z"] = [0, 1, 1, 0], [0, 0, 1, 1], [5, 6, 7, 8]
    faces = b"".join(bytes([9, len(row)]) + np.array(row, order + "u4").tobytes() for row in ([0, 1, 2, 3], [3, 1, 0]))
    found = read(tmp_path, header.encode() + np.array([3], order + "i4").tobytes() + vertices.tobytes() + faces)
    np.testing.assert_array_equal(found.vertices, [[0, 0, 5], [1, 0, 6], [1, 1, 7], [0, 1, 8]])
    np.testing.assert_array_equal(found.triangles, [[0, 1, 2], [0, 2, 3], [3, 1, 0]])


def test_text_with_polygons_blank_lines_and_float_colours(tmp_path):
    properties = XYZ + "".join(f"property float {name}\n" for name in ("red", "green", "blue"))
    found = read(tmp_path, text("0 0 0 1 0 0.5\n\n1 0 0 0 0 0\r\n1 1 0 0 0 0\n0 1 0 0 1 0\n", "4 0 1 2 3\n3 0 1 2",
                                (4, 2), properties))
    np.testing.assert_array_equal(found.triangles, [[0, 1, 2], [0, 2, 3], [0, 1, 2]])
    np.testing.assert_array_equal(found.colours[[0, 3]], [[255, 0, 128], [0, 255, 0]])


@pytest.mark.parametrize("data, rule", [
    (text("0 0 0\n1 0,5 0\n0 1 0\n"), "vertex 1 must have numbers, received '0,5'"),
    (text("0 0 0\n1 x 0\n0 1 0\n"), "vertex 1 must have numbers, received 'x'"),
    (text("0 0 0\n1 inf 0\n0 1 0\n"), "finite"), (text("0 0 0\n1 nan 0\n0 1 0\n"), "finite"),
    (text("0 0 0\n1 0.25\n0 1 0\n"), "vertex 1 must have 3 numbers, received 2"),
    (text("0 0 0\n1 0 0 7\n0 1 0\n"), "vertex 1 must have 3 numbers, received 4"),
    (text("0 0 0 \n1 0 0        \n"), "has 2 rows of vertex, its header announces 3"),
    (text(TRIANGLE + "0 0 1\n"), "more rows"),
    (text(TRIANGLE, "0\n"), "at least 3 corners, received 0"), (text(TRIANGLE, "2 0 1\n"), "at least 3 corners"),
    (text(TRIANGLE, "3 0 1 3\n"), "vertices 0 to 2"), (text(TRIANGLE, "3 0 1 -1\n"), "vertices 0 to 2"),
    (text(TRIANGLE, "3 0 1 99999999999\n"), "vertices 0 to 2"), (text(TRIANGLE, "3 0 1 1.5\n"), "vertices 0 to 2"),
    (text(TRIANGLE, "3 0 1\n"), "face 0 must have as many numbers"),
    (text(TRIANGLE, "3 0 1 2 2\n"), "face 0 must have as many numbers"),
    (text(TRIANGLE, "nan 0 1 2\n"), "face 0 must have as many numbers"),
    (text(TRIANGLE, "1e30 0 1 2\n"), "face 0 must have as many numbers"),
    (text(TRIANGLE, "3 0 1 2\n", (3, 2)), "has 1 rows of face"),
    (text(TRIANGLE, properties=XYZ.replace("float z", "quad z")), "known types"),
    (text(TRIANGLE, properties=XYZ.replace("float z", "float y")), "known types"),
    (text(TRIANGLE, properties=XYZ.replace(" z", " w")), "must have vertices with x, y and z, it has no z"),
    (text(TRIANGLE).replace(b"vertex 3", b"vertex -3"), "known types"),
    (text(TRIANGLE).replace(b"vertex 3", b"vertex 3x"), "known types"),
    (text(TRIANGLE).replace(b"ascii", b"morse"), "known types"), (text("", counts=(0, 0)), "vertices"),
    (text(TRIANGLE).replace(b"end_header", b"element vertex 1\nproperty float x\nend_header"), "each once"),
    (text(TRIANGLE).replace(b"comment", b"format ascii 1.0\ncomment"), "one format"),
    (text(TRIANGLE).replace(b"made", b"made\x0celement vertex 3").replace(b"element vertex 3\np", b"p"), "once"),
    (text(TRIANGLE).replace(b"end_header", b"comment end_header"), "must have an 'end_header' line"),
    (text("0 " * 600_000), "a line may have at most 1048576 characters"),
    (text(TRIANGLE, "10001" + " 0" * 10_001), "at most 10000 corners, received 10001")])
def test_damaged_text_is_refused(tmp_path, data, rule):
    with pytest.raises(ValueError, match=rf"m.ply: .*{rule}") as error:
        read(tmp_path, data)
    assert "\n" not in str(error.value)


def test_a_damaged_binary_file_is_refused_or_whole(tmp_path):
    """Cut anywhere it is refused; with any one byte changed it is refused, or has as many vertices as it says."""
    write_mesh(tmp_path / "whole.ply", sample(2))
    whole = (tmp_path / "whole.ply").read_bytes()
    for end in range(0, len(whole), 7):
        with pytest.raises(ValueError, match="m.ply"):
            read(tmp_path, whole[:end])
    rng, refused = np.random.default_rng(0), 0
    for _ in range(600):
        data = bytearray(whole)
        data[int(rng.integers(len(data)))] = int(rng.integers(256))
        try:
            found = read(tmp_path, bytes(data))
            assert np.isfinite(found.vertices).all() and found.triangles.max(initial=0) < len(found.vertices)
        except ValueError:
            refused += 1
    assert 20 < refused < 580


def test_lists_that_promise_more_than_the_file_has(tmp_path):
    header = "ply\nformat binary_little_endian 1.0\nelement vertex 1\n" + XYZ + \
        "element face 2\nproperty list uint double vertex_indices\nend_header\n"
    for length in (2 ** 31, 2 ** 32 - 1, 3):
        with pytest.raises(ValueError, match="cut off"):
            read(tmp_path, header.encode() + bytes(12) + np.array([length] * 5, "<u4").tobytes())


CLOUD = ("ply\nformat binary_little_endian 1.0\nelement vertex 10\n" + XYZ + "end_header\n").encode()


def test_what_a_header_does_not_announce_is_refused_unread(tmp_path, monkeypatch):
    """A sparse file of 3 GB with ten vertices; then one of a size that is allowed; then bytes behind the last face."""
    path = tmp_path / "m.ply"
    path.write_bytes(CLOUD + bytes(120))
    assert len(read_ply(path).vertices) == 10
    monkeypatch.setattr(ply, "_read_binary", None)
    os.truncate(path, 3 << 30)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: a .ply file may have at most 1024 MB$"):
        read_ply(path)
    os.truncate(path, 1 << 29)
    with pytest.raises(ValueError, match="m.ply: the .ply header announces at most 120 bytes of data, the file has 5"):
        read_ply(path)
    monkeypatch.undo()
    header = CLOUD.replace(b"end_header", f"element face 1\n{FACES}end_header".encode())
    face = bytes([3]) + np.array([0, 1, 2], "<i4").tobytes()
    assert len(read(tmp_path, header + bytes(120) + face).triangles) == 1
    with pytest.raises(ValueError, match="m.ply: has 1 bytes behind the last row that its header announces"):
        read(tmp_path, header + bytes(120) + face + b"\n")


def test_a_sparse_text_is_refused_in_little_memory(tmp_path):
    (tmp_path / "m.ply").write_bytes(text(TRIANGLE))
    os.truncate(tmp_path / "m.ply", 1 << 29)
    before = clear_peak()
    with pytest.raises(ValueError, match="a line may have at most"):
        read_ply(tmp_path / "m.ply")
    assert peak() - before < 40 << 20
