"""Dataset/fitting/surface_reconstruction.py and Evaluation/figures/wireframe.py: a sphere's cap, recovered; closed; the
same each time.
"""
import numpy as np
import pytest

from Dataset.fitting.surface_reconstruction import (BACK, PoissonOptions, closing_points, depth_surface,
                                                    estimate_normals, is_closed, poisson)
from Dataset.geometry.camera import look_at_face
from Dataset.geometry.mesh import Mesh
from Dataset.io.mesh_io import read_mesh, write_mesh
from Dataset.representations.depth import decode, from_image, to_image, triangulate
from Evaluation.figures.wireframe import draw_wireframe
from Evaluation.views.depth import depth_strip

RADIUS, CAMERA = 60.0, look_at_face(48, 600.0, 220.0)


def cap() -> np.ndarray:
    """(48, 48) depth of a sphere at the origin, as far as 50 degrees from its foremost point."""
    rays = CAMERA.rays().directions
    a, b, c = (rays ** 2).sum(-1), -2 * 600 * np.ones(rays.shape[:2]), 600.0 ** 2 - RADIUS ** 2
    with np.errstate(invalid="ignore"):
        depth = (-b - np.sqrt(b * b - 4 * a * c)) / (2 * a)
    return np.where(600 - depth > RADIUS * np.cos(np.radians(50)), depth, np.nan)


def uses_of_edges(triangles):
    """Each undirected edge -> the directions in which triangles run along it: the slow twin of `is_closed`."""
    count = {}
    for triangle in triangles.tolist():
        for a, b in zip(triangle, triangle[1:] + triangle[:1]):
            count.setdefault((min(a, b), max(a, b)), []).append(a < b)
    return count


def test_normals_look_at_the_camera():
    points = decode(cap(), CAMERA).vertices
    normals = estimate_normals(points, CAMERA.position())
    inner = np.linalg.norm(points[:, :2], axis=1) < 35
    assert np.einsum("ij,ij->i", normals, points / RADIUS)[inner].min() > 0.99


def test_the_surface_is_the_sphere_and_stops_where_the_cloud_does():
    image = np.zeros((48, 48, 3), np.uint8)
    image[:, :24], image[:, 24:] = (0, 0, 200), (200, 0, 0)         # BGR: red on the left
    mesh = depth_surface(cap(), CAMERA, image, PoissonOptions(level=6))
    inner = np.linalg.norm(mesh.vertices[:, :2], axis=1) < 40
    assert inner.sum() > 500
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices[inner], axis=1), RADIUS, atol=0.25)
    left = mesh.vertices[:, 0] < -5
    np.testing.assert_array_equal(mesh.colours[inner & left], np.tile([200, 0, 0], (np.sum(inner & left), 1)))
    loose = depth_surface(cap(), CAMERA, options=PoissonOptions(level=6, trim=0.0))
    reach = [np.linalg.norm(m.vertices[:, :2], axis=1).max() for m in (mesh, loose)]
    boundary = RADIUS * np.sin(np.radians(50))
    assert loose.colours is None and boundary - 2 < reach[0] < reach[1] - 5 and reach[1] > boundary + 10
    assert 0.8 * len(loose.vertices) < len(mesh.vertices) <= 0.9 * len(loose.vertices) + 1
    corners = mesh.vertices[mesh.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (np.einsum("ij,ij->i", normals, corners.mean(1)) > 0).mean() > 0.99


@pytest.mark.parametrize("hole", [False, True])
def test_watertight(hole):
    depth = cap()
    if hole:
        depth[20:24, 20:24] = np.nan
    mesh = depth_surface(depth, CAMERA, options=PoissonOptions(level=6, watertight=True))
    assert is_closed(mesh.triangles)
    assert all(sorted(uses) == [False, True] for uses in uses_of_edges(mesh.triangles).values())
    inner = (np.linalg.norm(mesh.vertices[:, :2], axis=1) < 35) & (mesh.vertices[:, 2] > 40)
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices[inner], axis=1), RADIUS, atol=0.8)
    # the flat back is a disc of the cap's radius, BACK mm behind its boundary
    assert mesh.vertices[:, 2].min() == pytest.approx(RADIUS * np.cos(np.radians(50)) - BACK, abs=2.5)
    # volume by the divergence theorem: cap of height h, and a cylinder to the back
    h, r = RADIUS * (1 - np.cos(np.radians(50))), RADIUS * np.sin(np.radians(50))
    volume = np.linalg.det(mesh.vertices[mesh.triangles]).sum() / 6
    assert volume == pytest.approx(np.pi * (h * h * (RADIUS - h / 3) + r * r * BACK), rel=0.05)


def test_closing_points_look_outwards():
    points, normals = closing_points(cap(), CAMERA)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-9)
    back = normals[:, 2] < -0.99
    walls = points[~back], normals[~back]
    assert back.sum() == np.isfinite(cap()).sum() and len(walls[0]) > 100
    assert np.ptp(points[back][:, 2]) < 1e-9 and np.abs(walls[1][:, 2]).max() < 1e-9
    outwards = walls[0][:, :2] / np.linalg.norm(walls[0][:, :2], axis=1, keepdims=True)
    assert np.einsum("ij,ij->i", outwards, walls[1][:, :2]).min() > 0.9


def test_is_closed():
    tetrahedron = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    assert is_closed(tetrahedron)
    assert not is_closed(tetrahedron[:3]) and not is_closed(tetrahedron[:0])
    turned = tetrahedron.copy()
    turned[0] = turned[0, ::-1]
    assert not is_closed(turned) and not is_closed(np.concatenate([tetrahedron, tetrahedron]))


def test_eight_bits_still_make_a_smooth_surface():
    """Depth in steps of 0.8 mm over pixels of 2.7 mm: normals of neighbouring pixels alone would be useless."""
    depth = cap()
    image = to_image(1 - 2 * (depth - np.nanmin(depth)) / 200)
    assert len(np.unique(image)) < 40
    coarse = np.where(image > 0, np.nanmin(depth) + (1 - from_image(image)[..., 0]) * 100, np.nan)
    mesh = depth_surface(coarse, CAMERA, options=PoissonOptions(level=5))
    inner = np.linalg.norm(mesh.vertices[:, :2], axis=1) < 38
    assert np.abs(np.linalg.norm(mesh.vertices[inner], axis=1) - RADIUS).mean() < 0.35


def test_same_bytes_and_the_writers(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (48, 48, 3), np.uint8)
    for ending in (".ply", ".obj"):
        for name in "ab":
            write_mesh(tmp_path / (name + ending), depth_surface(cap(), CAMERA, image, PoissonOptions(level=5)))
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()
    mesh = depth_surface(cap(), CAMERA, image, PoissonOptions(level=5))
    back = read_mesh(tmp_path / "a.ply")
    np.testing.assert_allclose(back.vertices, mesh.vertices, atol=1e-4)
    np.testing.assert_array_equal(back.colours, mesh.colours)


def test_bad_input():
    with pytest.raises(ValueError, match="no depth: a surface needs at least 4 points, received 0"):
        depth_surface(np.full((48, 48), np.nan), CAMERA)
    with pytest.raises(ValueError, match="no depth"):
        depth_surface(np.full((48, 48), np.nan), CAMERA, options=PoissonOptions(watertight=True))
    with pytest.raises(ValueError, match="at most 1000000 points, received 1000001"):
        poisson(Mesh(np.zeros((1_000_001, 3))), np.zeros(3))
    with pytest.raises(ValueError, match="points are finite"):
        poisson(Mesh(np.full((9, 3), np.nan)), np.zeros(3))
    with pytest.raises(ValueError, match="watertight needs the points of the back"):
        poisson(decode(cap(), CAMERA), CAMERA.position(), PoissonOptions(watertight=True))
    with pytest.raises(ValueError, match="level must be within 3 to 10, got 14"):
        PoissonOptions(level=14)
    with pytest.raises(ValueError, match="trim must be at least 0 and below 1, got 1"):
        PoissonOptions(trim=1.0)


def test_wireframe():
    mesh = triangulate(cap(), CAMERA, every=4)
    image = draw_wireframe(mesh.vertices, mesh.triangles, size=64)
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8
    assert (image[32] < 250).any() and (image[0] == 255).all()
    colours = np.tile(np.array([250, 10, 10], np.uint8), (len(mesh.vertices), 1))
    red = draw_wireframe(mesh.vertices, mesh.triangles, yaw=30, size=64, colours=colours)
    assert (red[..., 2] >= 250).all() and (red[..., 0] < 100).any()
    behind = draw_wireframe(mesh.vertices, mesh.triangles[:, ::-1], size=64)
    assert (behind == 255).all() and (draw_wireframe(mesh.vertices, mesh.triangles[:0], size=64) == 255).all()
    with pytest.raises(ValueError, match="at least 8 pixels, got 4"):
        draw_wireframe(mesh.vertices, mesh.triangles, size=4)


def test_strip():
    image = np.zeros((48, 48, 3), np.uint8)
    image[:, :24], image[:, 24:] = (0, 0, 200), (200, 0, 0)
    depth = cap()
    strip = depth_strip(image, depth, CAMERA, triangulate(depth, CAMERA), yaw=0, size=64)
    photo, grey, cloud, wire, surface = np.split(strip, 5, axis=1)
    np.testing.assert_array_equal(photo[5, 5], [0, 0, 200])
    assert grey[32, 32, 0] > 250 > grey[32, 12, 0] > 0 and (grey[0] == 0).all()
    assert cloud[32, 16].argmax() == 2 and cloud[32, 48].argmax() == 0 and (cloud[0, 0] == 255).all()
    assert (wire[0, 0] == 255).all() and 0.05 < (wire < 200).any(-1).mean() < 0.6
    assert (surface[32, 16:48] < 250).any(-1).all()
    with pytest.raises(ValueError, match="no depth: there is nothing to show"):
        depth_strip(image, np.full((48, 48), np.nan), CAMERA, triangulate(depth, CAMERA))
