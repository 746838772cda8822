"""Evaluation/icp.py: motions made and recovered, the tracker against a fresh tree, the published stopping rule."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.spatial import cKDTree

from Dataset.geometry.nearest import NearestTracker
from Dataset.geometry.transforms import Similarity, rotation_from_euler
from Evaluation.icp import icp
from tests.bench import evaluation_port as port
from tests.clouds import face

SMALL = st.floats(-6, 6)
SHIFT = st.floats(-0.04, 0.04)


@given(st.tuples(SMALL, SMALL, SMALL), st.tuples(SHIFT, SHIFT, SHIFT), st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_recovers_small_rigid_motions(angles, shift, seed):
    target = face(800, seed)
    truth = Similarity(1.0, rotation_from_euler(*angles), np.array(shift))
    found = icp(truth.inverse().apply(target), target, tolerance=1e-9, max_iterations=300)
    assert found.converged
    assert np.allclose(found.transform.rotation, truth.rotation, atol=1e-6)
    assert np.allclose(found.transform.translation, truth.translation, atol=1e-6)
    assert found.distances.max() < 1e-6


def test_recovers_scale_only_when_asked():
    target = face(800)
    truth = Similarity(1.06, rotation_from_euler(3, -2, 1), np.array([0.01, 0.02, -0.01]))
    source = truth.inverse().apply(target)
    assert icp(source, target, tolerance=1e-10, max_iterations=500, with_scale=True).transform.scale \
        == pytest.approx(1.06, abs=1e-4)
    rigid = icp(source, target)
    assert rigid.transform.scale == 1 and rigid.distances.mean() > 0.005


def test_clouds_of_different_size_lie_on_each_other():
    target = face(2000, 1)
    source = Similarity(1.0, rotation_from_euler(4, 0, -3), np.zeros(3)).apply(target[::5])
    found = icp(source, target, tolerance=1e-9)
    assert found.distances.shape == (400,) and found.distances.max() < 1e-6


@pytest.mark.parametrize("seed, angles", [(0, (0, 0, 0)), (1, (10, 5, -4)), (2, (-25, 0, 8))])
def test_transform_and_iterations_are_the_published_ones(seed, angles):
    source = face(700, seed) @ rotation_from_euler(*angles).T
    target = face(650, 9, nose=0.25)
    matrix, moves = port.icp(source, target)
    found = icp(source, target)
    assert found.iterations == moves
    assert np.abs(found.transform.matrix() - matrix).max() < 1e-9


@pytest.mark.parametrize("step", [0.0005, 0.004, 0.05])
def test_tracker_answers_as_a_fresh_tree(step):
    rng = np.random.default_rng(0)
    target, points = face(1500, 1), face(1000, 2) + 0.01
    tracker, tree = NearestTracker(target), cKDTree(target)
    for _ in range(8):
        expected = tree.query(points)
        distances, index = tracker.query(points)
        assert np.allclose(distances, expected[0], atol=1e-14) and np.array_equal(index, expected[1])
        points = points + rng.normal(0, step, 3) + rng.normal(0, step / 3, points.shape)


def test_tiny_clouds_work():
    found = icp([[0, 0, 0.0]], [[1, 2, 3.0]])
    assert np.allclose(found.transform.translation, [1, 2, 3]) and found.converged and found.iterations == 3
    assert icp(face(5), face(6, 1)).distances.shape == (5,)


def test_stops_at_max_iterations_and_starts_at_the_given_transform():
    source, target = face(300) @ rotation_from_euler(30).T, face(300, 1)
    stopped = icp(source, target, max_iterations=2)
    assert stopped.iterations == 2 and not stopped.converged
    start = Similarity(1.0, rotation_from_euler(-30), np.zeros(3))
    assert icp(source, target, initial=start).distances.mean() < stopped.distances.mean()


def test_bad_input():
    with pytest.raises(ValueError, match="source: want at least one point, got none"):
        icp(np.zeros((0, 3)), face(10))
    with pytest.raises(ValueError, match="target: want finite coordinates, got NaN or infinity in 1 of 2 points"):
        icp(face(10), [[0, 0, 0], [np.inf, 0, 0]])
    with pytest.raises(ValueError, match=r"source: want an \(N, 3\) array, got shape \(3, 10\)"):
        icp(face(10).T, face(10))
    with pytest.raises(ValueError, match="max_iterations >= 1 and tolerance >= 0, got 0 and 0.0001"):
        icp(face(10), face(10), max_iterations=0)


@pytest.mark.parametrize("bad, message", [
    (np.full((9, 3), 1e308), "coordinates of at most 1e\\+100, got 1e\\+308"), (None, "array"), ("x", "array"),
    (np.zeros((0, 3)), "at least one point"), (np.full((9, 3), np.nan), "finite coordinates"),
    (np.array([["x"] * 3]), "numbers"), (np.array([[{}] * 3]), "numbers")])
def test_clouds_that_are_none_are_refused(bad, message):
    cloud = np.random.default_rng(0).normal(size=(9, 3))
    for pair in ((bad, cloud), (cloud, bad)):
        with pytest.raises(ValueError, match=message):
            icp(*pair)
    assert icp(cloud * 1e90, cloud * 1e90).distances.max() < 1e80
