"""Dataset/fitting/nonrigid_icp.py, Dataset/geometry/scan_surface.py: synthetic scans with truth, and slow twins."""
import numpy as np
import pytest

from Dataset.face_model.model import load_face_model
from Dataset.fitting import nonrigid_icp as registration
from Dataset.fitting.nonrigid_icp import Quality, deform, register, stiffness
from Dataset.fitting.scan_fit import Landmarks, fit_model, grid_is_skin, pair_weights
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.normals import vertex_normals
from Dataset.geometry.scan_surface import Nearest, ScanSurface
from Dataset.geometry.transforms import rotation_from_euler
from Dataset.representations.points import encode, grid_triangles
from tests.scans import make_scan


def landmarks_of(made, seed=0, sigma=1.5):
    """51 landmarks annotated by hand, with a standard deviation of `sigma` mm."""
    noise = np.random.default_rng(seed).normal(0, sigma / 3**0.5, (51, 3))
    return Landmarks(np.arange(17, 68), made.landmarks[17:] + noise)


def mean_face_error(made):
    """The floor: the mean face moved and scaled to the true grid as well as it can be, mean distance in mm."""
    from Dataset.geometry.transforms import umeyama
    mean, truth = encode(load_face_model().mean).reshape(-1, 3), made.grid.reshape(-1, 3)
    return np.linalg.norm(umeyama(mean, truth).apply(mean) - truth, axis=1).mean()


@pytest.fixture(scope="module")
def made():
    return make_scan(1, expression=0.5)


@pytest.fixture(scope="module")
def registered(made):
    return register(made.scan, landmarks_of(made))


def check(made, result, semantic, min_covered=0.8, surface=0.06, fraction=0.5):
    """Surface within `surface` mm of the scan; corresponding points within `semantic` mm and `fraction` of
    the mean face's error; quality that agrees with the ground truth."""
    error = np.linalg.norm(result.grid - made.grid, axis=2)
    floor = mean_face_error(made)
    assert result.grid.shape == (128, 128, 3) and np.isfinite(result.grid).all()
    assert error.mean() < semantic and error.mean() < fraction * floor, (error.mean(), floor)
    truth = ScanSurface(Mesh(made.grid.reshape(-1, 3), grid_triangles()))
    skin = grid_is_skin(load_face_model()).ravel()
    found = truth.nearest(result.grid.reshape(-1, 3))
    at = skin & ~found.boundary
    assert found.distance[at].mean() < 0.15     # to the true surface: holes and the extrapolated boundary are in it
    quality = result.quality
    assert quality.faults() == [] and quality.folded == 0.0
    assert quality.surface_mean < surface and quality.surface_p95 < 3 * surface and quality.reverse_mean < surface
    assert min_covered < quality.covered < 1


def test_a_made_scan_is_recovered_with_landmarks(made, registered):
    check(made, registered, semantic=1.2)
    assert registered.quality.landmarks_mean < 2.5


def test_and_without(made):
    result = register(made.scan)
    check(made, result, semantic=1.3)
    assert np.isnan(result.quality.landmarks_mean)


def test_the_second_step_explains_what_the_model_cannot(made, registered):
    """Bumps of 2 mm: after the model alone the surface is off by several times as much as at the end."""
    alone = encode(registered.fit.vertices()).reshape(-1, 3)
    found, under = registration.has_scan(ScanSurface(made.scan), alone)
    assert found.distance[under].mean() > 3 * registered.quality.surface_mean


def test_same_scan_same_bytes(made, registered):
    again = register(made.scan, landmarks_of(made))
    assert again.grid.tobytes() == registered.grid.tobytes() and again.quality == registered.quality


def test_nothing_underneath_leaves_the_start(made):
    """A scan that is far away moves nothing; half a scan moves its half, and the rest follows smoothly."""
    model = load_face_model()
    start, skin = made.grid.reshape(-1, 3), grid_is_skin(model).ravel()
    away = ScanSurface(made.scan._replace(vertices=made.scan.vertices + (0, 0, 500)))
    assert np.abs(deform(away, start, skin, model) - start).max() < 1e-9
    corners = made.scan.triangles[made.scan.vertices[made.scan.triangles].mean(1)[:, 0] > made.grid[64, 64, 0]]
    half = ScanSurface(Mesh(made.scan.vertices + (0, 0, 2.0), corners))
    end = deform(half, start, skin, model)
    found, under = registration.has_scan(half, end)
    assert under.mean() > 0.3 and found.distance[under].mean() < 0.1 < 1.0 < half.nearest(start).distance[under].mean()
    moved = (end - start).reshape(128, 128, 3)
    assert np.linalg.norm(moved[:, :40], axis=2).max() < 4.0
    assert np.linalg.norm(np.diff(moved, axis=1), axis=2).max() < 1.0


@pytest.mark.slow
@pytest.mark.parametrize("seed, options", [
    (2, {"triangles": 6_000}), (3, {"triangles": 60_000, "noise": 0.3}), (4, {"expression": 1.0, "holes": 12}),
    (5, {"hair": 600, "turn": 15.0}), (6, {"bumps": 0.0}), (7, {"bumps": 4.0, "noise": 0.2})])
@pytest.mark.parametrize("marked", [True, False])
def test_more_scans(seed, options, marked):
    made = make_scan(seed, **options)
    check(made, register(made.scan, landmarks_of(made, seed) if marked else None), 1.6, 0.6, 0.12, 0.65)


def test_a_turned_and_welded_soup_gives_the_same_face(made, registered):
    """Every triangle with vertices of its own, all inside out: the same surface."""
    soup = Mesh(made.scan.vertices[made.scan.triangles[:, ::-1]].reshape(-1, 3),
                np.arange(made.scan.triangles.size).reshape(-1, 3))
    one, other = ScanSurface(made.scan), ScanSurface(soup)
    points = made.grid.reshape(-1, 3)[::97]
    assert len(one.triangles) == len(other.triangles) and one.boundary.sum() == other.boundary.sum()
    assert np.abs(one.nearest(points).points - other.nearest(points).points).max() < 1e-4
    assert np.abs(one.nearest(points).normals - other.nearest(points).normals).max() < 1e-6


@pytest.mark.parametrize("change, rule", [
    (lambda s: Mesh(s.vertices), "must have triangles"),
    (lambda s: Mesh(np.zeros((0, 3))), "must have triangles with an area, it has none .0 vertices"),
    (lambda s: s._replace(vertices=np.where(s.vertices > 80, np.nan, s.vertices)), "must be finite"),
    (lambda s: s._replace(vertices=s.vertices / 1000), "must be a scan of a face in mm"),
    (lambda s: s._replace(vertices=s.vertices * 10), "must be a scan of a face in mm"),
    (lambda s: ball(80, 80, 80), "must be a scan of a face in mm"),
    (lambda s: ball(72, 110, 90), "must be a scan of a face in mm"),
    (lambda s: s._replace(vertices=s.vertices @ rotation_from_euler(180).T), "must be a scan of a face in mm")])
def test_what_is_no_face_is_one_line(made, change, rule):
    with pytest.raises(ValueError, match=f"^a/b.wrl: .*{rule}") as caught:
        register(change(made.scan), name="a/b.wrl")
    assert "\n" not in str(caught.value)


def test_landmarks_of_something_else_are_refused(made):
    marks = landmarks_of(made)
    with pytest.raises(ValueError, match="^x: landmarks must be a face's, in mm: their size is 0.10 times"):
        register(made.scan, marks._replace(points=marks.points / 10), "x")
    with pytest.raises(ValueError, match="^x: landmarks must be finite"):
        register(made.scan, marks._replace(points=marks.points * np.nan), "x")


def ball(*axes):
    import open3d as o3d
    mesh = o3d.geometry.TriangleMesh.create_sphere(1.0, 60)
    return Mesh(np.asarray(mesh.vertices) * axes, np.asarray(mesh.triangles).astype(np.int64))


def test_faults_name_the_limit_that_is_broken():
    good = Quality(0.03, 0.1, 0.03, 0.4, 0.9, float("nan"), 0.2, 0.6, 1.0, 0.0)
    assert good.faults() == []
    assert good._replace(surface_mean=0.6).faults() == ["surface_mean 0.60 > 0.5"]
    assert good._replace(covered=0.5, landmarks_mean=7.0).faults() == ["landmarks_mean 7.00 > 6", "covered 0.50 < 0.6"]


# Slow twins


def closest_on_triangle(point, corners):
    """By the definition: the foot on the plane if it is inside, else the nearest point of the three sides."""
    a, b, c = corners
    weights = np.linalg.lstsq(np.stack([b - a, c - a], 1), point - a, rcond=None)[0]
    best = [a + np.stack([b - a, c - a], 1) @ weights] if weights.min() >= 0 and weights.sum() <= 1 else []
    for p, q in ((a, b), (b, c), (c, a)):
        best.append(p + np.clip((point - p) @ (q - p) / ((q - p) @ (q - p)), 0, 1) * (q - p))
    return min(best, key=lambda x: np.linalg.norm(x - point))


def test_nearest_points_against_every_triangle(made):
    few = made.scan.triangles[np.argsort(np.linalg.norm(
        made.scan.vertices[made.scan.triangles].mean(1) - made.grid[70, 64], axis=1))[:150]]
    surface = ScanSurface(Mesh(made.scan.vertices, few))
    points = made.grid[64:78:2, 58:72:2].reshape(-1, 3) + np.random.default_rng(0).normal(0, 3, (49, 3))
    found = surface.nearest(points)
    for point, position, distance in zip(points, found.points, found.distance):
        all_of_them = [closest_on_triangle(point, c) for c in surface.vertices[surface.triangles]]
        slow = min(np.linalg.norm(p - point) for p in all_of_them)
        assert abs(slow - distance) < 1e-3 and abs(np.linalg.norm(position - point) - distance) < 1e-9
    uses = {}
    for triangle in surface.triangles.tolist():
        for i in range(3):
            side = frozenset((triangle[i], triangle[(i + 1) % 3]))
            uses[side] = uses.get(side, 0) + 1
    boundary = {v for side, n in uses.items() if n == 1 for v in side}
    assert set(np.flatnonzero(surface.boundary)) == boundary and found.boundary.any() and not found.boundary.all()
    away = surface.nearest(made.grid[70, 64][None] + (100, 0, 0))
    assert away.boundary.all()


def test_normals_of_a_sphere_point_outwards():
    """On a noisy ball the averaged normals are nearer to the radius than the triangles' own."""
    mesh = ball(50, 50, 50)
    rng = np.random.default_rng(0)
    mesh = mesh._replace(vertices=mesh.vertices * rng.normal(1, 0.01, (len(mesh.vertices), 1)))
    surface = ScanSurface(mesh)
    radius = surface.vertices / np.linalg.norm(surface.vertices, axis=1, keepdims=True)
    smooth = np.einsum("ni,ni->n", surface.normals, radius)
    rough = np.einsum("ni,ni->n", vertex_normals(surface.vertices, surface.triangles), radius)
    assert smooth.mean() > rough.mean() > 0.9 and not surface.boundary.any()


def test_stiffness_against_a_loop():
    model = load_face_model()
    area, membrane = stiffness(model)
    grid = encode(model.mean)

    def length(r, c, down):
        r, c = np.clip(r, 0, 126 if down else 127), np.clip(c, 0, 127 if down else 126)
        return np.linalg.norm(grid[r + down, c + 1 - down] - grid[r, c])

    def size(r, c, down):
        return (length(r - down, c - 1 + down, down) + length(r, c, down)) / 2 if 0 < (r if down else c) < 127 \
            else length(min(r, 126) if down else r, c if down else min(c, 126), down)
    values, energy = np.zeros((128, 128)), 0.0
    values[:16, :16], values[115:, 115:] = np.random.default_rng(0).normal(0, 1, (2, 16, 16))[0], 1.5
    for r in (*range(17), *range(114, 128)):        # all sides at a point that is not 0
        for c in (*range(17), *range(114, 128)):
            for down in (0, 1):
                if (r if down else c) == 127:
                    continue
                other = (r + down, c + 1 - down)
                width = (size(r, c, 1 - down) + size(*other, 1 - down)) / 2
                energy += np.clip(width / length(r, c, down), 0.2, 5) * (values[r, c] - values[other])**2
    assert np.isclose(values.ravel() @ (membrane @ values.ravel()), energy, rtol=1e-9)
    assert np.isclose(area.mean(), 1) and area.min() > 0
    assert np.abs(membrane @ np.ones(128 * 128)).max() < 1e-9      # a shift costs nothing


def test_pairs_count_by_distance_normals_and_boundary():
    up = np.array([[0.0, 0, 1]] * 4)
    found = Nearest(np.zeros((4, 3)), np.array([[0, 0, 1.0], [0, 0, 1], [0, 1, 0], [0, 0, 1]]),
                    np.array([0.0, 2.0, 0.0, 7.0]), np.zeros(4, bool))
    assert pair_weights(np.zeros((4, 3)), up, found, 2.0).tolist() == [1.0, 0.25, 0.0, 0.0]
    assert not pair_weights(np.zeros((4, 3)), up, found._replace(boundary=np.ones(4, bool)), 2.0).any()


def test_the_fit_finds_pose_and_coefficients_of_a_subject_of_the_model():
    """A clean scan of a subject with few coefficients: those come back, and the pose with them."""
    model = load_face_model()
    identity = np.zeros(200)
    identity[:4] = 1.5, -1.0, 1.0, -1.2
    rotation = rotation_from_euler(12, -6, 9)
    vertices = model.shape(identity) @ rotation.T + (10, 20, -30)
    scan = Mesh(model.subdivide(vertices), model.subdivided_triangles[model.region("skin", subdivided=True)])
    fit = fit_model(ScanSurface(scan))
    assert np.abs(fit.pose.rotation - rotation).max() < 0.03 and abs(fit.pose.scale - 1) < 0.02
    assert np.abs(fit.identity[:4] - identity[:4]).max() < 0.5 and fit.expression.max() < 0.15
    assert np.linalg.norm(encode(fit.vertices()) - encode(vertices), axis=2).mean() < 0.6
    assert fit.residual < 0.15
