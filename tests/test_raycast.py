"""Dataset/rendering/raycast.py against its slow twin and against spheres and planes whose answers are known."""
import numpy as np
import pytest

from Dataset.geometry.camera import look_at_face
from Dataset.rendering.raycast import Scene
from tests.rays import cast, cast_slowly, interpolate

SQUARE = np.array([[-10, -10, 0], [10, -10, 0], [10, 10, 0], [-10, 10, 0]], float)
TWO = np.array([[0, 1, 2], [0, 2, 3]])


def triangle_soup(rng: np.random.Generator, count: int = 12):
    centres = rng.uniform(-40, 40, (count, 1, 3))
    return (centres + rng.normal(0, 15, (count, 3, 3))).reshape(-1, 3), np.arange(3 * count).reshape(-1, 3)


@pytest.mark.parametrize("seed", range(4))
def test_fast_equals_slow(seed):
    vertices, triangles = triangle_soup(np.random.default_rng(seed))
    camera = look_at_face(14, 300.0, 40.0)
    fast, slow = cast(vertices, triangles, camera), cast_slowly(vertices, triangles, camera)
    np.testing.assert_array_equal(fast.triangle, slow.triangle)
    assert (slow.triangle == -1).any() and len(np.unique(slow.triangle)) > 5      # the case is not trivial
    np.testing.assert_allclose(fast.barycentric, slow.barycentric, atol=1e-4)
    np.testing.assert_allclose(fast.depth, slow.depth, rtol=1e-5)


def test_nothing_is_minus_one_zero_and_nan():
    hits = cast(SQUARE, TWO, look_at_face(9, 100.0, 20.0))
    corner = hits.triangle[0, 0], hits.barycentric[0, 0], hits.depth[0, 0]
    assert corner[0] == -1 and (corner[1] == 0).all() and np.isnan(corner[2])
    assert hits.triangle[4, 4] >= 0 and hits.depth[4, 4] == pytest.approx(100)
    empty = cast(np.zeros((0, 3)), np.zeros((0, 3), int), look_at_face(3, 100.0, 20.0))
    assert (empty.triangle == -1).all() and np.isnan(empty.depth).all()


def test_depth_is_along_the_axis_not_along_the_ray():
    hits = cast(SQUARE * 100, TWO, look_at_face(8, 100.0, 4.0))
    np.testing.assert_allclose(hits.depth, 100, rtol=1e-6)


def test_hits_unproject_and_interpolate_to_the_same_points():
    vertices, triangles = triangle_soup(np.random.default_rng(9))
    camera = look_at_face(20, 300.0, 60.0)
    hits = cast(vertices, triangles, camera)
    seen = hits.triangle >= 0
    points = interpolate(hits, triangles, vertices)
    assert np.isnan(points[~seen]).all()
    np.testing.assert_allclose(points[seen], camera.unproject(hits.depth)[seen], atol=1e-3)
    np.testing.assert_array_equal(interpolate(hits, triangles, vertices[:, 0]), points[..., 0])


def test_shadow_rays_respect_their_range():
    scene = Scene(SQUARE, TWO)
    origins = np.array([[0, 0, -5], [0, 0, 5], [50, 0, -5]], float)
    up = np.tile([0.0, 0.0, 1.0], (3, 1))
    np.testing.assert_array_equal(scene.occluded(origins, up), [True, False, False])
    np.testing.assert_array_equal(scene.occluded(origins, up, far=4.0), [False, False, False])


def test_bad_input():
    with pytest.raises(ValueError, match=r"index 4 vertices, received indices 0 to 4"):
        Scene(SQUARE, [[0, 1, 4]])
    with pytest.raises(ValueError, match="finite, received NaN"):
        Scene(SQUARE * np.nan, TWO)
    with pytest.raises(ValueError, match=r"received \(4, 2\) and \(2, 3\)"):
        Scene(SQUARE[:, :2], TWO)
