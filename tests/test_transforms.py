"""Dataset/geometry/transforms.py: pinned numbers, truth made and recovered, and what degenerate input gives."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from Dataset.geometry.transforms import Similarity, rotation_from_euler, to_origin, to_unit_sphere, umeyama

ANGLES = st.tuples(*[st.floats(-180, 180)] * 3)


def cloud(n=40, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3)) * [3, 2, 1] + [10, -4, 2]


def test_euler_angles_are_those_of_the_conventions():
    forward, up = np.array([0, 0, 1.0]), np.array([0, 1.0, 0])
    assert np.allclose(rotation_from_euler(yaw=90) @ forward, [1, 0, 0])        # turns to his left: image right
    assert np.allclose(rotation_from_euler(pitch=90) @ forward, [0, -1, 0])     # the face points down
    assert np.allclose(rotation_from_euler(roll=90) @ up, [-1, 0, 0])           # counter-clockwise
    r = rotation_from_euler(20, 30, 40)
    assert np.allclose(r, rotation_from_euler(roll=40) @ rotation_from_euler(pitch=30) @ rotation_from_euler(yaw=20))
    assert r[0, 0] == pytest.approx(0.609923, abs=1e-6)


@given(ANGLES, st.floats(0.01, 100), st.booleans())
@settings(max_examples=40, deadline=None)
def test_umeyama_recovers_what_was_made(angles, scale, with_scale):
    scale = scale if with_scale else 1.0
    truth = Similarity(scale, rotation_from_euler(*angles), np.array([1.0, -2.0, 3.0]))
    found = umeyama(cloud(), truth.apply(cloud()), with_scale=with_scale)
    assert found.scale == pytest.approx(scale, rel=1e-9)
    assert np.allclose(found.rotation, truth.rotation, atol=1e-9)
    assert np.allclose(found.translation, truth.translation, atol=1e-8 * max(1, scale))


def test_weights_leave_outliers_out():
    source = cloud()
    target = source + 5.0
    target[0] += 100
    weights = np.ones(len(source))
    weights[0] = 0
    found = umeyama(source, target, weights)
    assert np.allclose(found.apply(source)[1:], target[1:])
    assert not np.allclose(umeyama(source, target).apply(source)[1:], target[1:], atol=0.1)


def test_a_mirror_image_is_matched_by_a_rotation():
    source = cloud()
    found = umeyama(source, source * [-1, 1, 1])
    assert np.linalg.det(found.rotation) == pytest.approx(1.0)
    assert found.scale < 1


def test_degenerate_fits_are_finite_and_documented():
    same = np.tile([1.0, 2.0, 3.0], (5, 1))
    found = umeyama(same, cloud(5))
    assert found.scale == 1 and np.array_equal(found.rotation, np.eye(3))
    assert np.allclose(found.apply(same[0]), cloud(5).mean(axis=0))
    to_a_point = umeyama(cloud(5), same)
    assert to_a_point.scale == pytest.approx(0, abs=1e-12) and np.allclose(to_a_point.apply(cloud(5)), same)
    line = np.outer(np.arange(5.0), [1, 1, 0])
    on_line = umeyama(line, 2 * line + 1)
    assert np.allclose(on_line.apply(line), 2 * line + 1) and np.linalg.det(on_line.rotation) == pytest.approx(1)
    one = umeyama([[1, 2, 3]], [[4, 5, 6]])
    assert np.allclose(one.translation, 3)


def test_inverse_compose_and_matrix_agree():
    a = Similarity(2.0, rotation_from_euler(10, 20, 30), np.array([1.0, 2, 3]))
    b = Similarity(0.5, rotation_from_euler(-40, 5, 60), np.array([-3.0, 0, 1]))
    points = cloud()
    assert np.allclose(a.compose(b).apply(points), a.apply(b.apply(points)))
    assert np.allclose(a.inverse().apply(a.apply(points)), points)
    assert np.allclose((np.c_[points, np.ones(len(points))] @ a.matrix().T)[:, :3], a.apply(points))
    with pytest.raises(ValueError, match="scale 0 has no inverse"):
        a._replace(scale=0.0).inverse()


def test_unit_sphere_by_the_listings_arithmetic():
    points = np.array([[0, 0, 0], [2, 0, 0], [0, 4, 0], [2, 4, 8.0]])
    before = points.copy()
    unit, used = to_unit_sphere(points)
    expected = points - [1, 2, 2]                                               # centroid
    expected = expected / np.sqrt((expected ** 2).sum(axis=1)).max()            # farthest: (1, 2, 6)
    assert np.allclose(unit, expected) and np.allclose(unit.mean(axis=0), 0)
    assert np.linalg.norm(unit, axis=1).max() == pytest.approx(1.0)
    assert np.allclose(used.apply(points), unit) and np.allclose(used.inverse().apply(unit), points)
    assert used.scale == pytest.approx(1 / np.sqrt(41)) and np.array_equal(points, before)


def test_to_origin_subtracts_the_least_of_each_axis():
    moved, used = to_origin([[1, 5, -2], [3, 4, 7]])
    assert np.array_equal(moved, [[0, 1, 0], [2, 0, 9]]) and np.array_equal(used.translation, [-1, -4, 2])


@pytest.mark.parametrize("bad, message", [
    (np.zeros((0, 3)), "want at least one point, got none"),
    (np.zeros((4, 2)), r"want an \(N, 3\) array, got shape \(4, 2\)"),
    (np.array([[0, 0, 0], [np.nan, 0, 0]]), "NaN or infinity in 1 of 2 points"),
    (np.full((4, 3), 0.1), "at least two different points, got 4 equal ones"),
])
def test_unit_sphere_refuses(bad, message):
    with pytest.raises(ValueError, match=message):
        to_unit_sphere(bad)


def test_umeyama_refuses_bad_pairs():
    with pytest.raises(ValueError, match="correspond row by row"):
        umeyama(cloud(4), cloud(5))
    with pytest.raises(ValueError, match="weights: want 4 values >= 0"):
        umeyama(cloud(4), cloud(4), [1, 1, 1, -1])
