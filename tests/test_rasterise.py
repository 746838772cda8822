"""The z-buffer: its slow twin over random meshes, what is pinned by hand, what must not happen."""
import numpy as np
import pytest

from Dataset.rendering.rasterise import Faces, faces, rasterise
from tests.rays import rasterise_slowly

ONE = np.array([[0], [1], [2]])


def seen(points: np.ndarray, triangles: np.ndarray, size: int):
    points = np.asarray(points, np.float32)
    fast, slow = rasterise(faces(points, triangles), size), rasterise_slowly(points, triangles, size)
    order = np.argsort(fast.pixel)
    return type(fast)(*(values[order] for values in fast)), slow


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_slow_twin_on_random_triangles(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-6, 18, (3, 40)).astype(np.float32)
    triangles = rng.integers(40, size=(3, 60))
    fast, slow = seen(points, triangles, 12)
    assert len(fast.pixel) > 100 and np.array_equal(fast.pixel, slow.pixel)
    assert np.array_equal(fast.triangle, slow.triangle)
    np.testing.assert_allclose(fast.weights, slow.weights, atol=2e-5)
    np.testing.assert_allclose(fast.depth, slow.depth, atol=2e-4)


def test_one_triangle_by_hand():
    # corners (0, 0), (0, 4), (4, 0) px, y down: counter-clockwise as seen in an image whose y points up
    fast, slow = seen([[0, 0, 4], [0, 4, 0], [0, 0, 4]], ONE, 4)
    rows = [divmod(int(p), 4) for p in fast.pixel]
    inside = [(r, c) for r in range(4) for c in range(4) if r + c + 1 < 4]
    assert [p for p in rows if sum(p) < 3] == inside            # centres on the long edge may belong to it or not
    first = fast.pixel == 0
    np.testing.assert_allclose(fast.weights[first], [[0.75, 0.125, 0.125]])
    np.testing.assert_allclose(fast.depth[first], [0.5])
    assert len(slow.pixel) == len(fast.pixel)


def test_the_back_of_a_triangle_shows_nothing():
    turned = np.array([[0, 4, 0], [0, 0, 4], [0, 0, 0]])
    assert len(rasterise(faces(turned.astype(np.float32), ONE), 4).pixel) == 0


def test_the_nearer_one_wins_and_a_shared_edge_is_drawn_once():
    square = np.array([[0, 0, 4, 4, 0, 0, 4, 4], [0, 4, 4, 0, 0, 4, 4, 0], [1, 1, 1, 1, 5, 5, 5, 5]], np.float32)
    triangles = np.array([[0, 0, 4, 4], [1, 2, 5, 6], [2, 3, 6, 7]])
    found = rasterise(faces(square, triangles), 4)
    assert sorted(found.pixel) == list(range(16))               # every pixel, each once
    assert set(found.triangle) == {2, 3} and (found.depth == 5).all()


def test_what_lies_outside_is_cut_even_very_far():
    far = np.array([[-1e9, -1e9, 1e9], [-1e9, 1e9, 0], [0, 0, 0]], np.float32)
    found = rasterise(faces(far, ONE), 8)
    assert len(found.pixel) == 64 and len(np.unique(found.pixel)) == 64
    beside = np.array([[10, 10, 14], [0, 4, 0], [0, 0, 0]], np.float32)
    assert len(rasterise(faces(beside, ONE), 8).pixel) == 0


def test_no_triangle_gives_no_pixel():
    nothing = rasterise(faces(np.zeros((3, 3), np.float32), np.zeros((3, 0), int)), 8)
    assert nothing.pixel.shape == (0,) and nothing.weights.shape == (0, 3)


def test_a_mesh_that_is_too_near_is_refused():
    big = np.array([[-9e3, -9e3, 9e4], [-9e3, 9e4, -9e3], [0, 0, 0]], np.float32)
    many = Faces(*(np.repeat(values, 300, axis=1) for values in faces(big, ONE)))
    with pytest.raises(ValueError, match="too near"):
        rasterise(many, 512)
