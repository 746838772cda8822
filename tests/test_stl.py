"""Dataset/io/mesh_readers/stl.py: whole files as trimesh writes them, and no damaged one."""
import numpy as np
import pytest
import trimesh
from trimesh.exchange.stl import export_stl, export_stl_ascii

from Dataset.geometry.mesh import Mesh
from Dataset.io.mesh_io import read_mesh
from Dataset.io.mesh_readers import stl
from Dataset.io.mesh_readers.stl import read_stl

TETRAHEDRON = Mesh(np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3.5]]),
                   np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]))


def corners(mesh: Mesh) -> np.ndarray:
    return mesh.vertices[mesh.triangles]


def text(mesh: Mesh) -> bytes:
    loops = ["".join("  vertex %r %r %r\n" % tuple(map(float, corner)) for corner in triangle)
             for triangle in corners(mesh)]
    facets = "".join(f"facet normal 0 0 0\n outer loop\n{loop} endloop\nendfacet\n" for loop in loops)
    return f"solid made\n{facets}endsolid made\n".encode()


def binary(mesh: Mesh, header: bytes = b"made") -> bytes:
    facets = np.zeros(len(mesh.triangles), stl._FACET)
    facets["corners"] = corners(mesh)
    return header.ljust(80, b"\0") + np.uint32(len(facets)).tobytes() + facets.tobytes()


def read(tmp_path, data: bytes) -> Mesh:
    (tmp_path / "m.stl").write_bytes(data)
    return read_mesh(tmp_path / "m.stl")


@pytest.mark.parametrize("data", [text(TETRAHEDRON), text(TETRAHEDRON).upper(), binary(TETRAHEDRON),
                                  text(TETRAHEDRON).replace(b"\n", b"\r\n"), binary(TETRAHEDRON, b"solid but binary")])
def test_both_kinds_give_one_connected_mesh(tmp_path, data):
    """Corners are shared: four vertices, in the order of their first use, not twelve."""
    found = read(tmp_path, data)
    np.testing.assert_array_equal(found.vertices, TETRAHEDRON.vertices[[0, 2, 1, 3]])
    np.testing.assert_array_equal(corners(found), corners(TETRAHEDRON))
    assert found.triangles.dtype == np.int64 and found.uv is None and found.colours is None


@pytest.mark.parametrize("export", [export_stl, export_stl_ascii])
def test_files_of_trimesh(tmp_path, export):
    rng = np.random.default_rng(0)
    mesh = Mesh(rng.normal(size=(30, 3)).astype(np.float32).astype(float),
                np.stack([rng.permutation(30)[:3] for _ in range(40)]))
    data = export(trimesh.Trimesh(mesh.vertices, mesh.triangles, process=False))
    found = read(tmp_path, data if isinstance(data, bytes) else data.encode())
    np.testing.assert_allclose(corners(found), corners(mesh), rtol=0, atol=1e-6)
    assert len(found.vertices) == len(np.unique(mesh.triangles))


@pytest.mark.parametrize("data, rule", [
    (binary(TETRAHEDRON)[:-1], "announces 4 facets of 50 bytes, 199 bytes follow"),
    (b"", "announces 0 facets"), (b"\0" * 83, "announces 0 facets"),
    (b"\0" * 80 + b"\xff" * 4, "announces 4294967295 facets of 50 bytes, 0 bytes follow"),
    (text(TETRAHEDRON)[:-20], "no 'endsolid'"),
    (text(TETRAHEDRON).replace(b"vertex 1.0", b"vertex one", 1), "vertex must be numbers, received 'one'"),
    (text(TETRAHEDRON).replace(b"vertex 1.0", b"vertex", 1), "must have 3 numbers, received 2"),
    (text(TETRAHEDRON).replace(b"  vertex 1.0 0.0 0.0\n", b"", 1), "facet 0 must have 3 vertices"),
    (text(TETRAHEDRON).replace(b" endloop\nendfacet\nendsolid", b"endsolid"), "last facet is not closed"),
    (b"solid\nendsolid\n", "must have vertices"),
    (binary(TETRAHEDRON._replace(vertices=np.full((4, 3), np.nan))), "all coordinates must be finite")])
def test_damaged_files_are_one_line(tmp_path, data, rule):
    with pytest.raises(ValueError, match=rule) as error:
        read(tmp_path, data)
    assert str(error.value).startswith(str(tmp_path / "m.stl")) and "\n" not in str(error.value)


def test_large_files_are_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(stl, "MAX_BYTES", 100)
    (tmp_path / "m.stl").write_bytes(binary(TETRAHEDRON))
    with pytest.raises(ValueError, match="may have at most"):
        read_stl(tmp_path / "m.stl")
