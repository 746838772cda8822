"""Dataset/io/mesh_readers/obj.py, vrml.py, polygons.py: files as MeshLab reads them, and no hostile one."""
import os
import time

import numpy as np
import pymeshlab
import pytest

from Dataset.geometry.mesh import Mesh
from Dataset.io.mesh_io import read_mesh, write_mesh
from Dataset.io.mesh_readers.polygons import fans, uv_per_vertex
from tests.memory import clear_peak, peak
from tests.raw_bu4dfe import write_wrl

SECONDS = 5.0
HEAD = "#VRML V2.0 utf8\n"


@pytest.fixture
def sheet():
    """A 9x7 sheet with uv and colours, its vertices shuffled."""
    rng = np.random.default_rng(3)
    x, y = (a.ravel().astype(float) for a in np.meshgrid(np.arange(9), np.arange(7)))
    index = np.arange(63).reshape(7, 9)
    a, b, c, d = (i.ravel() for i in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    order = np.argsort(rng.permutation(63))
    triangles = order[np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])]
    back = np.argsort(order)
    return Mesh(np.stack([x, y, x * y / 9], 1)[back], triangles, np.stack([x / 8, y / 6], 1)[back],
                rng.integers(0, 256, (63, 3), np.uint8))


def meshlab(path) -> pymeshlab.MeshSet:
    """A file as MeshLab reads it; it changes into the file's folder."""
    here = os.getcwd()
    meshes = pymeshlab.MeshSet(verbose=False)
    meshes.load_new_mesh(str(path))
    os.chdir(here)
    return meshes


def test_obj_as_meshlab_reads_it(tmp_path, sheet):
    for name, mesh in (("plain.obj", sheet._replace(uv=None)), ("uv.obj", sheet._replace(colours=None))):
        write_mesh(tmp_path / name, mesh)
        meshes, found = meshlab(tmp_path / name), read_mesh(tmp_path / name)
        theirs = meshes.current_mesh()
        np.testing.assert_allclose(found.vertices, theirs.vertex_matrix(), atol=1e-6)
        np.testing.assert_array_equal(found.triangles, theirs.face_matrix())
        np.testing.assert_array_equal(found.triangles, sheet.triangles)
    np.testing.assert_allclose(found.uv, sheet.uv, atol=1e-6)
    corners = theirs.wedge_tex_coord_matrix()
    np.testing.assert_allclose(uv_per_vertex(63, found.triangles, corners), found.uv, atol=1e-6)
    np.testing.assert_array_equal(read_mesh(tmp_path / "plain.obj").colours, sheet.colours)


def test_wrl_as_meshlab_reads_it(tmp_path, sheet):
    write_wrl(tmp_path / "m.wrl", sheet.vertices, sheet.uv, sheet.triangles)
    meshes, found = meshlab(tmp_path / "m.wrl"), read_mesh(tmp_path / "m.wrl")
    theirs = meshes.current_mesh()
    np.testing.assert_allclose(found.vertices, theirs.vertex_matrix(), atol=1e-6)
    np.testing.assert_array_equal(found.triangles, theirs.face_matrix())
    np.testing.assert_allclose(found.uv, sheet.uv, atol=1e-6)


def test_obj_polygons_and_negative_indices(tmp_path):
    (tmp_path / "m.obj").write_text(
        "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 9 9 9\nvt 0 0\nvt 1 0 0.5\nvt 1 1\nvt 0 1\nvn 0 0 1\n"
        "f 1/1/1 2/2/1 3/3/1 4/4/1\nf -5/-4 -4/-3 \\\n -3/-2\n")
    found = read_mesh(tmp_path / "m.obj")
    np.testing.assert_array_equal(found.triangles, [[0, 1, 2], [0, 2, 3], [0, 1, 2]])
    np.testing.assert_array_equal(found.uv[:4], [[0, 0], [1, 0], [1, 1], [0, 1]])
    assert np.isnan(found.uv[4]).all()


def test_obj_lines_end_as_text_does_and_faces_may_come_first(tmp_path):
    (tmp_path / "m.obj").write_bytes("g H\xe4nd\x0c\u2028e\rf 1 2 3\r\nv 0 0 0\nv 1 0 0\rv 0 1 0".encode())
    found = read_mesh(tmp_path / "m.obj")
    assert found.triangles.tolist() == [[0, 1, 2]] and found.vertices.shape == (3, 3)


def test_a_face_of_twenty_million_corners_is_refused_in_little_memory(tmp_path):
    with open(tmp_path / "m.obj", "w") as file:
        file.write("v 0 0 0\nf ")
        file.writelines(["1 " * 10**6] * 20)
    before, begun = clear_peak(), time.process_time()
    with pytest.raises(ValueError, match="m.obj: .*a line may have at most"):
        read_mesh(tmp_path / "m.obj")
    assert peak() - before < 100 << 20 and time.process_time() - begun < SECONDS


def test_no_other_file_is_opened(tmp_path):
    """A FIFO named by mtllib would hang whoever opens it."""
    os.mkfifo(tmp_path / "pipe.mtl")
    (tmp_path / "m.obj").write_text("mtllib pipe.mtl\nusemtl a\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    assert len(read_mesh(tmp_path / "m.obj").triangles) == 1


POINTS = "coord Coordinate { point [ 0 0 0, 1 0 0, 0 1 0, 1 1 0 ] } "


def shape(body: str) -> str:
    return HEAD + "Shape { geometry IndexedFaceSet { " + body + " } }"


def test_vrml_polygons_and_two_shapes(tmp_path):
    body = POINTS + "coordIndex [ 0 1 3 2 -1, 0, 1, 2 ] texCoord TextureCoordinate { point [ 0 0 1 0 0 1 1 1 ] }"
    (tmp_path / "m.wrl").write_text(shape(body) + shape(body)[len(HEAD):] + "# { [ \"\n")
    found = read_mesh(tmp_path / "m.wrl")
    one = [[0, 1, 3], [0, 3, 2], [0, 1, 2]]
    np.testing.assert_array_equal(found.triangles, one + [[a + 4, b + 4, c + 4] for a, b, c in one])
    np.testing.assert_array_equal(found.uv[4:], [[0, 0], [1, 0], [0, 1], [1, 1]])


@pytest.mark.parametrize("text, rule", [
    ("garbage", "begins with '#VRML V2.0'"), (HEAD + "Shape {", "no IndexedFaceSet"),
    (HEAD + "Shape { geometry IndexedFaceSet { coord", "not closed"), (shape("coordIndex [ 0 1 2 -1 ]"), "no coord"),
    (shape(POINTS), "no coordIndex"), (shape(POINTS + "coordIndex [ 0 1 4 -1 ]"), "vertices 0 to 3"),
    (shape(POINTS + "coordIndex [ 0 1 -1 ]"), "at least 3 corners, received 2"),
    (shape(POINTS + "coordIndex [ 0 1 99999999999999999999 -1 ]"), "coordIndex must be numbers"),
    (shape(POINTS.replace("1 1 0", "1 1,5 0") + "coordIndex [ 0 1 2 -1 ]"), "three numbers"),
    (shape(POINTS.replace("1 1 0", "1 x 0") + "coordIndex [ 0 1 2 -1 ]"), "coord must be numbers, received 'x'"),
    (shape(POINTS.replace("1 1 0", "1 inf 0") + "coordIndex [ 0 1 2 -1 ]"), "finite"),
    (shape(POINTS + "coordIndex [ 0 1 2 -1 ] texCoord T { point [ 0 0 ] }"), "points 0 to 0"),
    (shape(POINTS + "coordIndex [ 0 1 2 -1 ] texCoord T { point [ 0 0 0 0 0 0 ] } texCoordIndex [ 0 1 -1 ]"),
     "faces of"),
    (HEAD + "Transform { scale 2 2 2 children [ " + shape(POINTS)[len(HEAD):] + " ] }", "Transform is not read"),
    (HEAD + '"' + '\\"' * 200_000, "no IndexedFaceSet"),        # a text that is not closed is read once
    (shape(POINTS.replace("1 1 0", "1 1_0 0") + "coordIndex [ 0 1 2 -1 ]"), "coord must be numbers, received '1_0'"),
    (shape("coord USE A coordIndex [ 0 1 2 -1 ]"), "USE is not read")])
def test_damaged_vrml_is_refused(tmp_path, text, rule):
    (tmp_path / "m.wrl").write_text(text)
    with pytest.raises(ValueError, match=f"m.wrl: .*{rule}") as error:
        read_mesh(tmp_path / "m.wrl")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text, rule", [
    ("garbage", "vertices"), ("v 0 0\n", "same number"), ("v 0 0 0\nv 1 0 0 0\n", "same number"),
    ("v 0 0 1,5\n", "v must be numbers, received '1,5'"), ("v 0 0 nan\n", "finite"), ("v 0 0 0\nf\n", "received 0"),
    ("v 0 0 0\nf 1 1\n", "received 2"), ("v 0 0 0\nf 1 1 2\n", "vertices 0 to 0"),
    ("v 0 0 0\nf 0 1 1\n", "received '0'"),
    ("v 0 0 0\nf -2 1 1\n", "received '-2'"),
    ("v 0 0 0\nf 1 1 99999999999999999999\n", "received '9999"),
    ("v 0 0 0\nf a b c\n", "received 'a'"),
    ("v 0 0 0\nvt 0 0\nf 1/2 1/1 1/1\n", "texture must be one of 1, received 2"),
    ("v 0 0 0\nf 1 1 1.5\n", "received '1.5'"), ("v 0 0 0\nf \u0661 1 1\n", "must be indices"),
    ("v 0 0 0\nf 1 1 \uff11\n", "must be indices"), ("v 0 0 0\nvt 0 0\nf 1/\u0661 1/1 1/1\n", "must be indices"),
    ("v 0 0 0\nf 1_ 1 1\n", "received '1_'"), ("v 0 0 0\nf " + "1 " * 10_001, "at most 10000 corners, received 10001"),
    ("v 0 0 0\n#" + "1 " * 600_000, "a line may have at most 1048576 characters"),
    ("v 0 0 0\n#" + "\\\n" * 600_000, "a line may have at most 1048576 characters"),
    ("# \x0cv 0 0 0\n", "vertices"), ("# \u2028v 0 0 0\n", "vertices"), ("# \x85v 0 0 0\n", "vertices")])
def test_damaged_obj_is_refused(tmp_path, text, rule):
    (tmp_path / "m.obj").write_text(text, encoding="utf-8", newline="")
    with pytest.raises(ValueError, match=f"m.obj: .*{rule}") as error:
        read_mesh(tmp_path / "m.obj")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name, text", [
    ("nested.wrl", HEAD + "Group { children [ " * 50_000), ("faces.wrl", HEAD + "IndexedFaceSet {" * 50_000),
    ("texture.wrl", shape(POINTS + "coordIndex [0 1 2 -1] " + "texCoord point [ " * 20_000)),
    ("quotes.wrl", HEAD + '"' * 200_001), ("comment.wrl", HEAD + "#" * 10**6), ("comment.obj", "#" * 10**6),
    ("faces.obj", "v 0 0 0\nf " + "1 " * 500_000), ("slashes.obj", "v 0 0 0\nf " + "/" * 500_000)])
def test_work_is_bounded(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    begun = time.process_time()
    try:
        read_mesh(tmp_path / name)
    except ValueError:
        pass
    assert time.process_time() - begun < SECONDS


def test_mutants_are_refused_or_whole(tmp_path, sheet):
    write_mesh(tmp_path / "whole.obj", sheet._replace(colours=None))
    write_wrl(tmp_path / "whole.wrl", sheet.vertices, sheet.uv, sheet.triangles)
    rng = np.random.default_rng(0)
    for ending in (".obj", ".wrl"):
        whole, refused = (tmp_path / f"whole{ending}").read_bytes(), 0
        for _ in range(300):
            data = bytearray(whole)
            for _ in range(int(rng.integers(1, 4))):
                at, kind = int(rng.integers(len(data))), rng.integers(3)
                if kind == 0:
                    data[at] = int(rng.integers(256))
                elif kind == 1:
                    del data[at:at + int(rng.integers(1, 30))]
                else:
                    data[at:at] = bytes(rng.choice(list(b"[]{}/-,. \n9ef#"), 2).tolist())
            (tmp_path / f"m{ending}").write_bytes(data)
            try:
                found = read_mesh(tmp_path / f"m{ending}")
                assert np.isfinite(found.vertices).all() and found.triangles.max(initial=0) < len(found.vertices)
            except ValueError as error:
                assert "\n" not in str(error)
                refused += 1
        assert 20 < refused < 290, (ending, refused)


def test_fans_against_a_loop():
    rng = np.random.default_rng(1)
    for polygons in ([rng.integers(0, 9, n) for n in (3, 5, 4, 3, 6)], rng.integers(0, 9, (7, 3)),
                     rng.integers(0, 9, (5, 4))):
        flat = np.concatenate([np.asarray(row) for row in polygons])
        slow, at = [], 0
        for row in polygons:
            slow += [(at, at + k, at + k + 1) for k in range(1, len(row) - 1)]
            at += len(row)
        triangles, corners = fans(polygons, 9)
        np.testing.assert_array_equal(corners, slow)
        np.testing.assert_array_equal(triangles, flat[corners])
    assert fans([], 3)[0].shape == (0, 3)


@pytest.mark.parametrize("word", ["1_0", "\u0663", "1,5", "nan", "1e308", "0x1"])
@pytest.mark.parametrize("name, text", [
    ("m.obj", "v 0 0 0\nv 1 0 0\nv 0 {} 0\nf 1 2 3\n"),
    ("m.ply", "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\n"
              "end_header\n0 0 0\n0 {} 0\n")])
def test_words_that_only_python_takes_for_numbers_are_refused(tmp_path, name, text, word):
    (tmp_path / name).write_text(text.format(word), encoding="utf-8")
    with pytest.raises(ValueError, match=f"{name}: "):
        read_mesh(tmp_path / name)


@pytest.mark.parametrize("word", ["nan", "inf", "1_0", "x"])
def test_texture_coordinates_must_be_finite_numbers(tmp_path, word):
    (tmp_path / "m.obj").write_text(f"v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 {word}\nvt 0 1\nf 1/1 2/2 3/3\n")
    with pytest.raises(ValueError, match=f"m.obj: .*vt must be (finite )?numbers, received '{word}'"):
        read_mesh(tmp_path / "m.obj")
