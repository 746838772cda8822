"""Dataset/geometry/camera.py: where points land, and that crops and depth maps agree with the camera they came
from."""
import numpy as np
import pytest

from Dataset.geometry.camera import FLIP, Camera, look_at_face


def some_camera() -> Camera:
    angle = 0.4
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return Camera(40, 30, 55.0, (19.0, 16.5), FLIP @ turn, np.array([3.0, -7.0, 400.0]))


def test_pinned_projection_of_the_axes():
    camera = look_at_face(100, 500.0, 200.0)
    points = np.array([[0, 0, 0], [50, 0, 0], [0, 50, 0], [50, 0, 100]], float)
    x, y, depth = camera.project(points)
    np.testing.assert_allclose(x, [50, 70, 50, 75])        # +x is to the right
    np.testing.assert_allclose(y, [50, 50, 30, 50])        # +y is up: a smaller row
    np.testing.assert_allclose(depth, [500, 500, 500, 400])   # +z comes nearer
    np.testing.assert_allclose(camera.position(), [0, 0, 500])
    assert np.linalg.det(camera.rotation) == pytest.approx(1)


def test_points_behind_the_camera_have_no_pixel():
    x, y, depth = look_at_face(100, 500.0, 200.0).project([[1.0, 2.0, 600.0]])
    assert np.isnan(x[0]) and np.isnan(y[0]) and depth[0] == -100


def test_rays_go_through_pixel_centres():
    camera = some_camera()
    rays = camera.rays()
    assert rays.directions.shape == (30, 40, 3)
    x, y, depth = camera.project(rays.origin + 321.0 * rays.directions)
    np.testing.assert_allclose(x, np.broadcast_to(np.arange(40) + 0.5, (30, 40)), atol=1e-9)
    np.testing.assert_allclose(y, np.broadcast_to(np.arange(30)[:, None] + 0.5, (30, 40)), atol=1e-9)
    np.testing.assert_allclose(depth, 321.0)


def test_unproject_undoes_project(rng=np.random.default_rng(0)):
    camera = some_camera()
    depth = rng.uniform(200, 500, (30, 40))
    depth[3, 4] = np.nan
    points = camera.unproject(depth)
    assert np.isnan(points[3, 4]).all()
    x, y, back = camera.project(points)
    np.testing.assert_allclose(back, depth)
    np.testing.assert_allclose(x[5], np.arange(40) + 0.5, atol=1e-9)
    with pytest.raises(ValueError, match=r"shape \(30, 40\), received \(40, 30\)"):
        camera.unproject(depth.T)


@pytest.mark.parametrize("box, size", [((5, 3, 20, 20), 64), ((-4, 8, 30, 30), 10)])
def test_a_crops_camera_sees_the_same_points(box, size, rng=np.random.default_rng(1)):
    camera = some_camera()
    points = rng.uniform(-60, 60, (50, 3))
    whole, part = camera.project(points), camera.crop(box, size).project(points)
    np.testing.assert_allclose(part.x, (whole.x - box[0]) * size / box[2])
    np.testing.assert_allclose(part.y, (whole.y - box[1]) * size / box[3])
    np.testing.assert_allclose(part.depth, whole.depth)


def test_a_point_by_hand():
    """10 mm to the subject's left, 20 up, 30 towards a camera 500 mm away."""
    x, y, depth = look_at_face(100, 500.0, 47.0).project(np.array([10.0, 20.0, 30.0]))
    assert (float(x), float(y), float(depth)) == pytest.approx((51, 48, 470))


def test_bad_input():
    with pytest.raises(ValueError, match=r"square box .* received box \(0, 0, 4, 5\), size 8"):
        some_camera().crop((0, 0, 4, 5), 8)
    with pytest.raises(ValueError, match="positive, received 100, -1.0, 50"):
        look_at_face(100, -1.0, 50)
