"""Dataset/geometry: normals, edges, nearest points, grids and weak perspective against slow, obvious twins."""
import numpy as np
import pytest

from Dataset.geometry.bilinear import bilinear, bilinear_matrix
from Dataset.geometry.closest import ClosestPoints
from Dataset.geometry.edges import border_mask, border_vertices, edges
from Dataset.geometry.normals import area_vectors, normalise, plane_normals, vertex_normals
from Dataset.geometry.transforms import rotation_from_euler
from Dataset.geometry.weak_perspective import fit_weak_perspective

#: A unit square in the plane z = 0 of two triangles, seen from +z, and a vertex that nothing uses.
SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [9, 9, 9]], float)
HALVES = np.array([[0, 1, 2], [0, 2, 3]])
TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])


def random_mesh(rng, vertices=12, triangles=20):
    return rng.normal(size=(vertices, 3)), np.array([rng.choice(vertices, 3, False) for _ in range(triangles)])


def test_area_vectors_are_twice_the_area_and_outward():
    np.testing.assert_array_equal(area_vectors(SQUARE * 3, HALVES), [[0, 0, 9], [0, 0, 9]])
    assert area_vectors(SQUARE.astype(np.float32), HALVES).dtype == np.float32
    assert area_vectors(SQUARE, np.zeros((0, 3), int)).shape == (0, 3)


def test_vertex_normals_against_a_loop(rng=np.random.default_rng(0)):
    vertices, triangles = random_mesh(rng)
    sums = np.zeros((12, 3))
    for a, b, c in triangles:
        for corner in (a, b, c):
            sums[corner] += np.cross(vertices[b] - vertices[a], vertices[c] - vertices[a])
    np.testing.assert_allclose(vertex_normals(vertices, triangles), sums / np.linalg.norm(sums, axis=1)[:, None],
                               atol=1e-12)
    np.testing.assert_array_equal(vertex_normals(SQUARE, HALVES), [[0, 0, 1]] * 4 + [[0, 0, 0]])


def test_zero_vectors_stay_zero():
    np.testing.assert_array_equal(normalise(np.array([[3.0, 0, 4], [0, 0, 0]])), [[0.6, 0, 0.8], [0, 0, 0]])


def test_plane_normals_of_a_tilted_plane(rng=np.random.default_rng(1)):
    turn = rotation_from_euler(20, 30, 40)
    cloud = np.concatenate([rng.uniform(-1, 1, (40, 2)), np.zeros((40, 1))], 1) @ turn.T + [5, 6, 7]
    found = plane_normals(cloud, np.array([rng.choice(40, 8, False) for _ in range(6)]))
    np.testing.assert_allclose(np.abs(found @ turn[:, 2]), 1, atol=1e-9)


def test_edges_by_hand():
    found = edges(HALVES)
    np.testing.assert_array_equal(found.ends, [[0, 1], [0, 2], [0, 3], [1, 2], [2, 3]])
    np.testing.assert_array_equal(found.uses, [1, 2, 1, 1, 1])
    quads = edges(np.array([[0, 1, 4, 3], [1, 2, 5, 4]]))
    np.testing.assert_array_equal(quads.ends[quads.uses == 2], [[1, 4]])        # a diagonal is none
    assert len(quads.ends) == 7
    assert edges(np.zeros((0, 3), int)).ends.shape == (0, 2) and not len(edges(np.zeros((0, 4), int)).uses)


@pytest.mark.parametrize("corners", [3, 4])
def test_edges_against_a_dictionary(corners, rng=np.random.default_rng(2)):
    polygons = np.array([rng.choice(3000, corners, False) for _ in range(400)])
    count: dict[tuple[int, int], int] = {}
    for polygon in polygons.tolist():
        for a, b in zip(polygon, polygon[1:] + polygon[:1]):
            count[min(a, b), max(a, b)] = count.get((min(a, b), max(a, b)), 0) + 1
    found = edges(polygons)
    assert np.column_stack(found).tolist() == [[a, b, count[a, b]] for a, b in sorted(count)]


def test_borders():
    assert border_vertices(TETRAHEDRON).tolist() == [] and border_vertices(TETRAHEDRON[1:]).tolist() == [0, 1, 2]
    assert border_mask(TETRAHEDRON[1:], 6).tolist() == [True, True, True, False, False, False]


@pytest.mark.parametrize("origin", [None, np.zeros(3)])
def test_closest_points_against_dense_samples(origin, rng=np.random.default_rng(3)):
    vertices, triangles = random_mesh(rng, 9, 7)
    weights = rng.dirichlet(np.ones(3), 20000)
    samples = np.einsum("sk,tkc->tsc", weights, vertices[triangles]).reshape(-1, 3)
    positions = rng.normal(0, 1.5, (30, 3))
    found = ClosestPoints(vertices, triangles, origin=origin)(positions)
    slow = np.linalg.norm(samples[None] - positions[:, None], axis=2).min(1)
    assert (found.distance < slow + 1e-5).all() and (found.distance > slow - 0.05).all()
    np.testing.assert_allclose(found.weights.sum(1), 1, atol=1e-12)
    assert found.weights.min() > -1e-6
    np.testing.assert_allclose(np.einsum("nk,nkc->nc", found.weights, vertices[triangles[found.triangle]]),
                               found.points, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(found.points - positions, axis=1), found.distance, atol=1e-12)


def test_a_mesh_far_from_zero_keeps_its_precision():
    """float32 has steps of 0.06 a million away; the mean is subtracted first."""
    found = ClosestPoints(SQUARE[:4] + 1e6, HALVES)(np.array([[1e6 + 0.3, 1e6 + 0.2, 1e6 + 2]]))
    np.testing.assert_allclose(found.points - 1e6, [[0.3, 0.2, 0]], atol=1e-6)
    assert found.distance[0] == pytest.approx(2, abs=1e-6)


def test_bilinear_against_a_loop(rng=np.random.default_rng(4)):
    grid = rng.normal(size=(5, 7, 2))
    rows, columns = np.append(rng.uniform(0, 4, 30), [4, 0, 4]), np.append(rng.uniform(0, 6, 30), [6, 6, 0])
    for value, r, c in zip(bilinear(grid, rows, columns), rows, columns):
        i, j = min(int(r), 3), min(int(c), 5)
        slow = sum(grid[i + a, j + b] * (1 - abs(r - i - a)) * (1 - abs(c - j - b)) for a in (0, 1) for b in (0, 1))
        np.testing.assert_allclose(value, slow, atol=1e-12)
    assert bilinear(grid, np.array([[1.0]]), np.array([[2.0]])).tolist() == [[grid[1, 2].tolist()]]


def test_the_matrix_says_the_same(rng=np.random.default_rng(5)):
    grid, cells = rng.normal(size=(6, 6, 3)), np.append(rng.uniform(0, 5, (40, 2)), [[5, 5], [0, 5], [5, 0]], axis=0)
    np.testing.assert_allclose(bilinear_matrix(cells, 6) @ grid.reshape(-1, 3), bilinear(grid, *cells.T), atol=1e-12)


def test_weak_perspective_is_recovered(rng=np.random.default_rng(6)):
    points, weights = rng.normal(0, 50, (4, 30, 3)), rng.uniform(0.1, 1, (4, 30))
    turns = np.stack([rotation_from_euler(*rng.uniform(-60, 60, 3)) for _ in range(4)])
    scales, shifts = rng.uniform(0.3, 3, 4), rng.uniform(0, 100, (4, 2))
    pixels = scales[:, None, None] * np.einsum("nij,nkj->nki", turns, points)[..., :2] * [1, -1] + shifts[:, None]
    pixels[:, 0], weights[:, 0] = 1e4, 0             # without a weight it has no say
    found = fit_weak_perspective(points, pixels, weights)
    for value, truth, tolerance in zip(found, (turns, scales, shifts), (1e-5, 1e-4, 1e-3)):
        np.testing.assert_allclose(value, truth, atol=tolerance)
    np.testing.assert_allclose(np.linalg.det(found[0]), 1, atol=1e-9)
