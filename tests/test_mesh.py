"""Dataset/geometry/mesh.py, Dataset/io/mesh_io.py and mesh_files.py: what is written comes back, damage is refused."""

import cv2
import numpy as np
import open3d as o3d
import pytest

from Dataset.geometry.mesh import Mesh, clean, crop_sphere
from Dataset.io.mesh_io import read_mesh, read_points, write_mesh, write_points
from Dataset.io.mesh_readers.ply import read_ply, vertex_count
from tests.raw_bu4dfe import write_wrl


@pytest.fixture
def grid():
    """A 4x5 sheet, z = x y, with uv and colours; 24 triangles. Vertices in an order no reader would choose."""
    x, y = (a.ravel().astype(float) for a in np.meshgrid(np.arange(5), np.arange(4)))
    index = np.arange(20).reshape(4, 5)
    a, b, c, d = (i.ravel() for i in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    shuffle = np.random.default_rng(0).permutation(20)
    inverse = np.argsort(shuffle)
    mesh = Mesh(np.stack([x, y, x * y], 1), triangles, np.stack([x / 4, y / 3], 1),
                np.stack([x * 60, y * 80, x + y], 1).astype(np.uint8))
    return Mesh(mesh.vertices[shuffle], inverse[triangles], mesh.uv[shuffle], mesh.colours[shuffle])


def test_ply_round_trip_keeps_order_and_colours(tmp_path, grid):
    write_mesh(tmp_path / "a.ply", grid)
    back = read_mesh(tmp_path / "a.ply")
    for name in ("vertices", "triangles", "colours"):
        ours, theirs = getattr(grid, name), getattr(back, name)
        assert np.array_equal(ours, theirs) and ours.dtype == theirs.dtype, name
    assert vertex_count(tmp_path / "a.ply") == 20
    header, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n", 1)
    assert len(body) == 20 * (5 * 4 + 3) + 24 * (1 + 3 * 4)       # float32, uint8, int32


def test_obj_round_trip_keeps_order_and_uv(tmp_path, grid):
    write_mesh(tmp_path / "a.obj", grid)
    back = read_mesh(tmp_path / "a.obj")
    assert np.array_equal(back.vertices, grid.vertices) and np.array_equal(back.triangles, grid.triangles)
    assert np.allclose(back.uv, grid.uv, atol=1e-6)


@pytest.mark.parametrize("image", [True, False])
def test_wrl_is_read_with_unused_points_and_uv(tmp_path, grid, image):
    vertices = np.concatenate([grid.vertices, [[7, 8, 9.0]] * 3])
    write_wrl(tmp_path / "000.wrl", vertices, grid.uv, grid.triangles)
    if image:
        cv2.imwrite(str(tmp_path / "000.jpg"), np.zeros((8, 8, 3), np.uint8))
    back = read_mesh(tmp_path / "000.wrl")
    assert np.allclose(back.vertices, vertices, atol=1e-4) and np.array_equal(back.triangles, grid.triangles)
    assert np.allclose(back.uv[:20], grid.uv, atol=1e-5) and np.isnan(back.uv[20:]).all()
    assert len(o3d.io.read_triangle_mesh(str(tmp_path / "000.wrl")).vertices) == 0      # why we read it ourselves


def test_wrl_without_texture_has_no_uv(tmp_path, grid):
    write_wrl(tmp_path / "000.wrl", grid.vertices, None, grid.triangles)
    assert read_mesh(tmp_path / "000.wrl").uv is None


def test_points_round_trip(tmp_path):
    points = np.random.default_rng(0).normal(0, 100, (50, 3)).astype(np.float32)
    colours = np.arange(150, dtype=np.uint8).reshape(50, 3)
    normals = np.tile([0, 0, 1.0], (50, 1))
    write_points(tmp_path / "p.ply", points, colours, normals)
    assert np.array_equal(read_points(tmp_path / "p.ply"), points.astype(np.float64))
    cloud = o3d.io.read_point_cloud(str(tmp_path / "p.ply"))
    assert np.array_equal(np.asarray(cloud.normals), normals)
    assert np.array_equal(np.round(np.asarray(cloud.colors) * 255), colours)
    first = (tmp_path / "p.ply").read_bytes()
    write_points(tmp_path / "p.ply", points, colours, normals)
    assert (tmp_path / "p.ply").read_bytes() == first and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("ascii_text", [False, True])
def test_a_cut_off_ply_is_refused_wherever_it_is_cut(tmp_path, grid, ascii_text):
    write_mesh(tmp_path / "a.ply", grid)
    if ascii_text:
        o3d.io.write_triangle_mesh(str(tmp_path / "a.ply"), o3d.io.read_triangle_mesh(str(tmp_path / "a.ply")),
                                   write_ascii=True)
    whole = (tmp_path / "a.ply").read_bytes()
    read_ply(tmp_path / "a.ply")
    body = whole.find(b"end_header\n") + 11
    ends = [0, 2, 20, body - 3, body, body + 1]
    for end in ends if ascii_text else [*ends, (body + len(whole)) // 2, len(whole) - 1]:
        (tmp_path / "cut.ply").write_bytes(whole[:end])
        with pytest.raises(ValueError, match="cut.ply: .*(begin with 'ply'|end_header|at least|broken|cut off)"):
            read_mesh(tmp_path / "cut.ply")


def test_an_announced_giant_is_refused_before_it_is_allocated(tmp_path):
    (tmp_path / "g.ply").write_bytes(b"ply\nformat binary_little_endian 1.0\nelement vertex 1000000000000\n"
                                     b"property float x\nproperty float y\nproperty float z\nend_header\n" + b"\0" * 24)
    with pytest.raises(ValueError, match="g.ply: the .ply header announces at least 12000000000000 bytes"):
        read_mesh(tmp_path / "g.ply")


def test_bad_files_are_named(tmp_path, grid):
    (tmp_path / "a.off").write_text("OFF")
    (tmp_path / "b.wrl").write_text("#VRML V2.0 utf8\nShape {")
    (tmp_path / "c.ply").write_bytes(b"ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nproperty float y\n"
                                     b"property float z\nend_header\n")
    write_mesh(tmp_path / "d.ply", Mesh(np.array([[0, 0, np.nan]])))
    write_mesh(tmp_path / "e.ply", grid._replace(triangles=np.array([[0, 1, 20]])))
    for name, rule in (("a.off", "must be one of .ply, .obj, .stl, .wrl, got '.off'"), ("b.wrl", "must be VRML 2 text"),
                       ("c.ply", "must have vertices"), ("d.ply", "must be finite, 1 vertices are not"),
                       ("e.ply", "vertices 0 to 19"), ("f.ply", "no such file")):
        with pytest.raises(ValueError, match=f"{name}: .*{rule}") as error:
            read_mesh(tmp_path / name)
        assert "\n" not in str(error.value)


def test_bad_arrays_are_not_written(tmp_path, grid):
    for path, mesh, rule in (("a.stl", grid, "as .ply, .obj, .glb, got '.stl'"),
                             ("a.ply", grid._replace(colours=grid.colours[1:]), r"must be \(20, 3\), got \(19, 3\)"),
                             ("a.ply", Mesh(np.zeros((4, 2))), r"got \(4, 2\) and \(0, 3\)")):
        with pytest.raises(ValueError, match=rule):
            write_mesh(tmp_path / path, mesh)
    assert list(tmp_path.iterdir()) == []


def test_clean_removes_unused_vertices_and_the_smallest_triangle_of_a_crowded_edge(grid):
    vertices = np.concatenate([[[9, 9, 9.0]], grid.vertices, [[2, 0.5, 0.1]]])
    # one triangle more on an edge that has two: (1, 1), the corner shared by many
    edge = grid.triangles[0][[0, 2]] + 1
    small = [edge[0], edge[1], 21]
    dirty = Mesh(vertices, np.concatenate([grid.triangles + 1, [small]]),
                 np.concatenate([[[0, 0]], grid.uv, [[1, 1]]]), np.concatenate([[[0] * 3], grid.colours, [[1] * 3]]))
    assert manifold(grid.triangles) and not manifold(dirty.triangles)
    cleaned = clean(dirty)
    assert manifold(cleaned.triangles) and len(cleaned.triangles) == 24
    kept = 20 if [*map(int, small)] not in (cleaned.triangles + 1).tolist() else 21
    assert len(cleaned.vertices) == kept == len(cleaned.uv) == len(cleaned.colours)
    same = clean(Mesh(vertices, grid.triangles + 1, dirty.uv, dirty.colours))
    for ours, theirs in zip(same, grid):
        assert np.array_equal(ours, theirs)


def manifold(triangles):
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    return np.unique(edges, axis=0, return_counts=True)[1].max() <= 2


def test_a_cloud_cannot_be_cleaned(grid):
    with pytest.raises(ValueError, match="without triangles cannot be cleaned"):
        clean(Mesh(grid.vertices))


def test_crop_sphere_against_its_slow_twin(grid):
    centre, radius = np.array([1.0, 1.0, 1.0]), 2.5
    cropped = crop_sphere(grid, centre, radius)
    near = [np.linalg.norm(v - centre) <= radius for v in grid.vertices]
    kept = [t for t in grid.triangles if all(near[i] for i in t)]
    assert 0 < len(kept) < 24
    assert np.array_equal(cropped.vertices[cropped.triangles], grid.vertices[np.array(kept)])
    assert set(range(len(cropped.vertices))) == set(cropped.triangles.ravel().tolist())
    cloud = crop_sphere(Mesh(grid.vertices, colours=grid.colours), centre, radius)
    assert np.array_equal(cloud.vertices, grid.vertices[near]) and np.array_equal(cloud.colours, grid.colours[near])
    assert len(crop_sphere(grid, np.full(3, 99.0), 1).vertices) == 0
