"""Dataset/representations/depth.py: a sphere and planes by formula, loops as twins, and there and back."""
import cv2
import numpy as np
import pytest

from Dataset.geometry.camera import look_at_face
from Dataset.geometry.mesh import Mesh
from Dataset.rendering.raycast import Scene
from Dataset.representations.depth import (BACKGROUND, DISTANCE, RANGE, DepthRange, assumed_camera, decode,
                                           decode_depth, depth_range, encode, encode_depth, from_image, large_parts,
                                           surface_points, to_image, triangulate)

NAN = np.nan
PLATE = Mesh(np.array([[-50, -50, 0], [50, -50, 0], [50, 50, 0], [-50, 50, 0.0]]), np.array([[0, 1, 2], [0, 2, 3]]))


def bowl(size=32, distance=500.0, focal=150.0):
    """A sphere of radius 60 mm seen from the front: camera, map by the formula of ray and sphere."""
    camera = look_at_face(size, distance, focal)
    depth = np.full((size, size), NAN)
    for row in range(size):
        for column in range(size):
            ray = np.array([(column + 0.5 - size / 2) / focal, (row + 0.5 - size / 2) / focal, 1.0])
            a, b, c = ray @ ray, -2 * ray[2] * distance, distance ** 2 - 60 ** 2
            if b * b - 4 * a * c > 0:
                depth[row, column] = (-b - np.sqrt(b * b - 4 * a * c)) / (2 * a)
    return camera, depth


def test_encode_casts_at_pixel_centres():
    camera = look_at_face(8, 400.0, 32.0)           # a pixel is 12.5 mm of the plate, which has 8
    for surface in (PLATE, Scene(PLATE.vertices, PLATE.triangles)):
        depth = encode(surface, camera)
        assert depth.dtype == np.float32 and depth.shape == (8, 8)
        np.testing.assert_allclose(depth, 400, atol=1e-3)
    half = encode(PLATE, look_at_face(8, 400.0, 16.0))
    assert np.isnan(half).sum() == 64 - 16 and np.isfinite(half[2:6, 2:6]).all()


def test_decode_gives_the_points_of_the_sphere():
    camera, depth = bowl()
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    cloud = decode(depth, camera, image)
    seen = np.isfinite(depth)
    assert len(cloud.triangles) == 0 and len(cloud.vertices) == seen.sum()
    np.testing.assert_allclose(np.linalg.norm(cloud.vertices, axis=1), 60, atol=1e-9)
    np.testing.assert_array_equal(cloud.colours, image[seen][:, ::-1])          # RGB, row by row
    back = camera.project(cloud.vertices)
    rows, columns = np.nonzero(seen)
    np.testing.assert_allclose([back.x, back.y], [columns + 0.5, rows + 0.5], atol=1e-9)
    empty = decode(np.full((32, 32), NAN), camera)
    assert empty.vertices.shape == (0, 3) and empty.colours is None


def slow_triangles(depth, camera, steepest):
    number, triangles = {}, []
    for pixel in zip(*np.nonzero(np.isfinite(depth))):
        number[pixel] = len(number)
    for r in range(depth.shape[0] - 1):
        for c in range(depth.shape[1] - 1):
            for corners in (((r, c), (r + 1, c), (r + 1, c + 1)), ((r, c), (r + 1, c + 1), (r, c + 1))):
                if all(corner in number for corner in corners):
                    depths = [depth[corner] for corner in corners]
                    if max(depths) - min(depths) <= np.tan(np.radians(steepest)) * min(depths) / camera.focal:
                        triangles.append([number[corner] for corner in corners])
    return np.array(triangles)


@pytest.mark.parametrize("steepest", [50.0, 80.0])
def test_triangulate_against_loops(steepest):
    camera, depth = bowl()
    depth[10:12, 5:20] = NAN
    depth[20:, 16:] += 40                           # a jump
    mesh = triangulate(depth, camera, steepest=steepest)
    slow = slow_triangles(depth, camera, steepest)
    order = np.lexsort(mesh.triangles.T), np.lexsort(slow.T)
    np.testing.assert_array_equal(mesh.triangles[order[0]], slow[order[1]])
    np.testing.assert_array_equal(mesh.vertices, decode(depth, camera).vertices)


def test_triangles_look_at_the_camera_and_do_not_cross_the_jump():
    camera, depth = bowl()
    mesh = triangulate(depth, camera)
    corners = mesh.vertices[mesh.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (np.einsum("ij,ij->i", normals, corners.mean(1)) > 0).all()          # outwards of the sphere at the origin
    depth[16:] += 40
    cut = triangulate(depth, camera)
    above = camera.project(cut.vertices).y < 16
    assert 0 < len(cut.triangles) < len(mesh.triangles) and (above[cut.triangles].sum(1) % 3 == 0).all()


def test_every_second_pixel():
    camera, depth = bowl()
    thin = triangulate(depth, camera, every=2)
    assert len(thin.vertices) == np.isfinite(depth[::2, ::2]).sum() and len(thin.triangles) > 100
    np.testing.assert_allclose(np.linalg.norm(thin.vertices, axis=1), 60, atol=1e-9)


def test_points_of_the_surface_are_even():
    camera, depth = bowl()
    points = surface_points(depth, camera, 4000, np.random.default_rng(0))
    assert points.shape == (4000, 3)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 60, atol=0.7)    # chords of the sphere lie inside
    # Archimedes: as many between any two heights of equal distance
    high, low = (np.count_nonzero((points[:, 2] > z) & (points[:, 2] <= z + 10)) for z in (50, 40))
    assert high / low == pytest.approx(1, abs=0.1)
    np.testing.assert_array_equal(points, surface_points(depth, camera, 4000, np.random.default_rng(0)))
    with pytest.raises(ValueError, match="no depth: the map has no surface"):
        surface_points(np.full((32, 32), NAN), camera, 10, np.random.default_rng(0))


def test_values_by_hand():
    depth = np.array([[500, 550], [600, NAN]], np.float32)
    np.testing.assert_allclose(encode_depth(depth)[..., 0], [[1, 0.5], [0, -1]], atol=1e-6)       # a range of 200 mm
    mask = np.array([[False, True], [True, True]])
    np.testing.assert_allclose(encode_depth(depth, mask)[..., 0], [[-1, 1], [0.5, -1]], atol=1e-6)
    # one side of the crop at 500 mm: 500 * 2 / 10 = 100 mm; 600 mm would be -1, which is "no depth"
    np.testing.assert_allclose(encode_depth(depth, None, 10.0)[..., 0], [[1, 0], [-1 + 2 / 255, -1]], atol=1e-6)
    assert depth_range(depth, 10.0) == (500, 600) and depth_range(depth) == (500, 500 + RANGE)
    nothing = encode_depth(depth, np.zeros((2, 2), bool))
    assert nothing.shape == (2, 2, 1) and nothing.dtype == np.float32 and (nothing == BACKGROUND).all()
    assert np.isnan(decode_depth(nothing)).all()


def test_there_and_back():
    camera, depth = bowl()
    depth = depth.astype(np.float32)
    for focal in (None, camera.focal):
        values, limits = encode_depth(depth, None, focal), depth_range(depth, focal)
        assert values.min() == -1 and values.max() == 1
        np.testing.assert_allclose(decode_depth(values, limits), depth, atol=1e-3)
        step = (limits.far - limits.near) / 255
        image = to_image(values)
        assert image.dtype == np.uint8 and ((image == 0) == np.isnan(depth)).all() and image.max() == 255
        ok, data = cv2.imencode(".png", image)
        again = from_image(cv2.imdecode(data, cv2.IMREAD_UNCHANGED))
        np.testing.assert_array_equal(to_image(again), image)
        np.testing.assert_allclose(decode_depth(again, limits), depth, atol=step / 2 + 1e-3)


def test_specks_are_no_face():
    depth = np.full((20, 20), np.nan, np.float32)
    depth[4:12, 4:12], depth[15:17, 15:17] = 800, 900
    kept = large_parts(depth)
    assert np.isfinite(kept).sum() == 64 and np.nanmax(kept) == 800 and np.isfinite(depth).sum() == 68
    assert np.isnan(large_parts(np.full((4, 4), np.nan))).all()
    depth[0:3, 0:3] = 850           # a face cut in two
    assert np.isfinite(large_parts(depth)).sum() == 64 + 9 and np.isnan(large_parts(depth)[15, 15])


def test_levels_that_span_a_fraction_of_a_side():
    image = np.array([[255, 128, 1, 0]], np.uint8)
    found = from_image(image, 0.25)[0, :, 0]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [1, 1 - 0.5 * 127 / 255, 1 - 0.5 * 254 / 255, -1], atol=1e-6)
    far = from_image(image, 2.0)[0, :, 0]       # beyond the range: the last value that is a depth
    np.testing.assert_allclose(far, [1, 1 - 4 * 127 / 255, -1 + 2 / 255, -1], atol=1e-6)


def test_values_do_not_depend_on_distance_and_zoom():
    """A face half as far away, or photographed with twice the focal length, has the same values (but for perspective).
    """
    first = [encode_depth(depth, None, camera.focal) for camera, depth in
             (bowl(32, 5000.0, 1500.0), bowl(32, 10000.0, 3000.0), bowl(64, 5000.0, 3000.0))]
    np.testing.assert_allclose(first[0], first[1], atol=5e-3)
    np.testing.assert_allclose(first[0][8, 8], first[2][16:18, 16:18].mean(), atol=5e-3)


def test_a_guess_is_right_up_to_a_similarity():
    camera, depth = bowl(32, 20000.0, 6000.0)       # far away: no perspective
    guessed = assumed_camera(32, DepthRange(50_000.0, 50_000.0 + 200))
    points = decode(decode_depth(encode_depth(depth, None, camera.focal), DepthRange(50_000, 50_200)), guessed).vertices
    middle = points[:, 2].max() - 60 * 200 / (19940 * 32 / 6000)
    radius = np.linalg.norm(points - (0, 0, middle), axis=1)
    assert np.ptp(radius) / radius.mean() < 0.01
    assert assumed_camera(100).focal == 100 * DISTANCE / RANGE


def test_bad_input():
    camera, depth = bowl(8)
    for bad in (0.0, -3.0, np.inf):
        with pytest.raises(ValueError, match="depths are positive, NaN for none"):
            encode_depth(np.full((4, 4), bad))
    with pytest.raises(ValueError, match=r"a mask has the map's shape \(8, 8\), received \(4, 4\)"):
        encode_depth(depth, np.ones((4, 4), bool))
    with pytest.raises(ValueError, match=r"a map is \(H, W\), received \(8, 8, 1\)"):
        encode_depth(depth[..., None])
    with pytest.raises(ValueError, match="a focal length is positive, received 0"):
        encode_depth(depth, None, 0.0)
    with pytest.raises(ValueError, match="camera's shape"):
        decode(np.ones((4, 4)), camera)
    with pytest.raises(ValueError, match=r"an image of the map is \(8, 8, 3\) uint8, received \(4, 4, 3\) uint8"):
        decode(depth, camera, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="a range has 0 < near < far, received 300 to 200"):
        decode_depth(np.zeros((4, 4)), DepthRange(300, 200))
    with pytest.raises(ValueError, match=r"values are \(S, S\) or \(S, S, 1\), received \(4, 4, 3\)"):
        decode_depth(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match=r"a depth image is \(S, S\) uint8, received \(4, 4, 3\) uint8"):
        from_image(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="depth_range, of an image's levels, is positive, received 0"):
        from_image(np.zeros((4, 4), np.uint8), 0)
