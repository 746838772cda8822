"""Dataset/geometry/sampling.py: exactly n points, on the surface, by area, the same for a seed."""
import numpy as np
import pytest
from scipy.spatial import cKDTree

from Dataset.geometry.mesh import Mesh
from Dataset.geometry.sampling import METHODS, sample


@pytest.fixture
def sheet():
    """A unit square of two triangles, a second one of four times the area at z = 1, and a triangle without area."""
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]])
    two = np.array([[0, 1, 2], [0, 2, 3]])
    return Mesh(np.concatenate([square, 2 * square + [0, 0, 1]]), np.concatenate([two, [[0, 0, 1]], two + 4]))


def level(drawn):
    """Whether each point lies on the upper square, which all of them do to 1e-12 if not on the lower."""
    assert np.abs(drawn.points[:, 2] - np.round(drawn.points[:, 2])).max() < 1e-12
    return np.round(drawn.points[:, 2]) == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [1, 2, 500])
def test_exactly_n_points_on_the_surface_with_their_weights(sheet, method, n):
    drawn = sample(sheet, n, np.random.default_rng(0), method)
    assert drawn.points.shape == (n, 3) and drawn.triangles.shape == (n,) and drawn.barycentric.shape == (n, 3)
    assert (drawn.barycentric >= 0).all() and np.allclose(drawn.barycentric.sum(1), 1)
    assert np.allclose(np.einsum("nk,nkc->nc", drawn.barycentric, sheet.vertices[sheet.triangles[drawn.triangles]]),
                       drawn.points, atol=1e-12)
    assert np.array_equal(level(drawn), drawn.triangles > 2) and 2 not in drawn.triangles
    assert drawn.points[:, :2].min() >= 0 and drawn.points[:, :2].max() <= 2


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_points(sheet, method):
    draw = [sample(sheet, 300, np.random.default_rng(seed), method).points for seed in (0, 0, 1)]
    assert np.array_equal(draw[0], draw[1]) and not np.array_equal(draw[0], draw[2])


# poisson and fps crowd a little at boundaries, where a point has fewer neighbours; the small square has more boundary.
@pytest.mark.parametrize("method, tolerance", [("uniform", 0.03), ("poisson", 0.05), ("fps", 0.05)])
def test_fraction_of_points_is_the_fraction_of_area(sheet, method, tolerance):
    drawn = sample(sheet, 2000, np.random.default_rng(0), method)
    assert abs(np.mean(level(drawn)) - 0.8) < tolerance
    low = drawn.points[~level(drawn)]
    counts = np.histogram2d(low[:, 0], low[:, 1], bins=2, range=[[0, 1], [0, 1]])[0] / len(low)
    assert np.abs(counts - 0.25).max() < 0.08


def test_blue_noise_keeps_its_distance(sheet):
    def nearest(method):
        points = sample(sheet, 1000, np.random.default_rng(0), method).points
        return cKDTree(points).query(points, 2)[0][:, 1].min()
    step = np.sqrt(5 / 1000)        # side of the square that each point has for itself
    assert nearest("uniform") < 0.1 * step
    assert nearest("poisson") > 0.6 * step
    assert nearest("fps") > 0.5 * step


def test_fps_is_greedy_farthest_point(sheet):
    """Against the definition, from the same candidates."""
    drawn = sample(sheet, 40, np.random.default_rng(3), "fps").points
    candidates = sample(sheet, 100, np.random.default_rng(3), "uniform").points
    chosen = [0]
    while len(chosen) < 40:
        distance = np.linalg.norm(candidates[:, None] - candidates[chosen], axis=2).min(axis=1)
        chosen.append(int(distance.argmax()))
    assert np.array_equal(drawn, candidates[np.sort(chosen)])


def test_bad_input_is_refused(sheet):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="must be one of uniform, poisson, fps, got 'grid'"):
        sample(sheet, 5, rng, "grid")
    with pytest.raises(ValueError, match="at least 1 point must be sampled, got 0"):
        sample(sheet, 0, rng)
    for flat in (Mesh(sheet.vertices), Mesh(sheet.vertices, np.array([[0, 0, 1]]))):
        with pytest.raises(ValueError, match="must have an area"):
            sample(flat, 5, rng)
