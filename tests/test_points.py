"""The ordered grid: order, coverage, orientation, coarser levels, landmarks, and its slow twin."""
from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from Dataset.face_model.model import load_face_model
from Dataset.representations import points

PINNED = [[-59.1595, 55.6166, -30.4872], [0.7212, -17.5332, 31.0145], [52.5824, -77.7899, -20.1852]]


@pytest.fixture(scope="module")
def model():
    return load_face_model()


@pytest.fixture(scope="module")
def mean_grid(model):
    return points.encode(model.mean)


def random_face(model, seed):
    rng = np.random.default_rng(seed)
    return model.shape(model.sample_identity(rng), model.sample_expression(rng))


def test_encode_against_a_loop(model):
    face = random_face(model, 0)
    fine, grid = model.subdivide(face), points.encode(face)
    assert grid.shape == (128, 128, 3) and grid.dtype == np.float64
    rng = np.random.default_rng(1)
    for row, column in rng.integers(0, 128, (300, 2)):
        slow = sum(model.grid_weights[row, column, k] * fine[model.grid_vertices[row, column, k]] for k in range(3))
        np.testing.assert_allclose(grid[row, column], slow, atol=1e-3)


def test_order_of_rows_and_columns(mean_grid):
    assert mean_grid[0, :, 1].min() > 40 and mean_grid[-1, :, 1].max() < -40      # forehead above, jaw below
    assert mean_grid[:, 0, 0].max() < -20 and mean_grid[:, -1, 0].min() > 20      # column 0: the subject's right
    row, column = np.unravel_index(mean_grid[..., 2].argmax(), (128, 128))        # the nose tip, near the middle
    assert 55 < row < 90 and abs(column - 63.5) < 3
    np.testing.assert_allclose(mean_grid[:, ::-1] * [-1, 1, 1], mean_grid, atol=0.8)


def test_pinned_points(mean_grid):
    np.testing.assert_allclose(mean_grid[[0, 64, 127], [0, 64, 127]], PINNED, atol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_neighbours_are_near_on_every_face(model, seed):
    grid = points.encode(random_face(model, seed))
    steps = np.concatenate([np.linalg.norm(np.diff(grid, axis=a), axis=2).ravel() for a in (0, 1)])
    low, high = np.percentile(steps, [1, 99])
    assert steps.mean() == pytest.approx(1.56, abs=0.15) and low > 0.4 and high < 3.5


@pytest.mark.parametrize("seed", range(4))
def test_triangles_face_outwards(model, seed):
    face = random_face(model, seed) if seed else model.mean.astype(float)
    cloud, triangles = points.decode(points.encode(face)), points.grid_triangles()
    normals = np.cross(*(cloud[triangles[:, k]] - cloud[triangles[:, 0]] for k in (1, 2)))
    # The surface's own direction at the first corner; along lids and lips, where skin meets the strips, there is none.
    total, boundary = face_normals(model, face)
    corners = model.grid_vertices.reshape(-1, 3)
    surface = (total[corners] * model.grid_weights.reshape(-1, 3, 1)).sum(1)[triangles[:, 0]]
    on_skin = ~np.isin(corners, boundary).any(1)[triangles].any(1)
    assert on_skin.mean() > 0.93
    assert (np.einsum("ni,ni->n", normals, surface) > 0)[on_skin].mean() > 0.995
    # From inside the head nearly all point away; the underside of nose, lips and brows does not.
    away = np.einsum("ni,ni->n", normals, cloud[triangles].mean(1) - [0, -20, -80])
    assert (away > 0).mean() > 0.97


def face_normals(model, face):
    fine = model.subdivide(face)
    triangles = model.subdivided_triangles[model.region("skin", subdivided=True)]
    normals = np.cross(*(fine[triangles[:, k]] - fine[triangles[:, 0]] for k in (1, 2)))
    total = np.zeros_like(fine)
    for k in range(3):
        np.add.at(total, triangles[:, k], normals)
    sides = np.sort(np.stack([triangles, np.roll(triangles, -1, 1)], 2).reshape(-1, 2), 1)
    edges, uses = np.unique(sides, axis=0, return_counts=True)
    return total, np.unique(edges[uses == 1])


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_coarser_grids_keep_the_boundary(model, mean_grid, size):
    coarse = points.encode(model.mean, size)
    assert coarse.shape == (size, size, 3)
    ends = [0, -1]
    np.testing.assert_allclose(coarse[np.ix_(ends, ends)], mean_grid[np.ix_(ends, ends)], atol=1e-9)
    step = points.grid_steps(size)[1]
    low, part = int(step), step % 1
    rows = mean_grid[low] * (1 - part) + mean_grid[low + 1] * part
    np.testing.assert_allclose(coarse[1, 1], rows[low] * (1 - part) + rows[low + 1] * part, atol=1e-9)
    distances = cKDTree(points.decode(mean_grid)).query(points.decode(coarse))[0]
    assert distances.max() < 2.5     # between grid points, never off the surface


@pytest.mark.parametrize("size", [0, 4, 100, 256, 128.5])
def test_wrong_sizes(model, size):
    with pytest.raises(ValueError, match=f"must be 8, 16, 32, 64 or 128, received {size}"):
        points.encode(model.mean, size)


def test_wrong_vertices():
    with pytest.raises(ValueError, match=r"vertices must be \(4881, 3\), received shape \(5, 3\)"):
        points.encode(np.zeros((5, 3)))


def test_decode_keeps_the_order(mean_grid):
    cloud = points.decode(mean_grid)
    assert cloud.shape == (16384, 3)
    np.testing.assert_array_equal(cloud[3 * 128 + 5], mean_grid[3, 5])
    np.testing.assert_array_equal(points.decode(cloud), cloud)
    for shape in ((128, 128), (2, 3, 3), (4, 4, 4), (3,)):
        with pytest.raises(ValueError, match=r"an encoded face must be \(n, n, 3\) or \(n \* n, 3\)"):
            points.decode(np.zeros(shape))


def test_grid_triangles():
    np.testing.assert_array_equal(points.grid_triangles(2), [[0, 2, 3], [0, 3, 1]])
    for size in (3, 128):
        triangles = points.grid_triangles(size)
        assert triangles.shape == (2 * (size - 1) ** 2, 3) and triangles.dtype == np.int64
        sides = np.stack([triangles, np.roll(triangles, -1, 1)], 2).reshape(-1, 2)
        assert len(np.unique(sides, axis=0)) == len(sides)      # each direction of an edge once: all turn the same way
    with pytest.raises(ValueError, match="at least 2 points a side, received 1"):
        points.grid_triangles(1)


@pytest.mark.parametrize("size, limit", [(128, 0.6), (64, 1.2), (32, 3.0)])
def test_landmarks_of_a_grid(model, size, limit):
    found = points.grid_landmarks(points.encode(model.mean, size))
    errors = np.linalg.norm(found - model.landmarks(model.mean), axis=1)
    assert found.shape == (68, 3) and errors.max() < limit
    np.testing.assert_array_equal(points.grid_landmarks(points.decode(points.encode(model.mean, size))), found)


def test_landmarks_of_other_subjects(model):
    errors = [np.linalg.norm(points.grid_landmarks(points.encode(f)) - model.landmarks(f), axis=1)
              for f in (random_face(model, seed) for seed in range(5))]
    assert np.mean(errors) < 0.4 and np.max(errors) < 3
    with pytest.raises(ValueError, match="a grid must be square, received 5 points"):
        points.grid_landmarks(np.zeros((5, 3)))
