"""Dataset/rendering/shading.py on a sphere, where normals, Lambert's law and shadows have closed forms."""
import numpy as np
import pytest

from Dataset.geometry.camera import look_at_face
from Dataset.geometry.normals import normalise, vertex_normals
from Dataset.rendering import shading
from Dataset.rendering.raycast import Scene
from tests.rays import interpolate


def sphere(rings: int = 48, radius: float = 50.0):
    """A UV sphere, counter-clockwise from outside, poles on y."""
    polar, around = np.meshgrid(np.linspace(0, np.pi, rings), np.linspace(0, 2 * np.pi, 2 * rings), indexing="ij")
    vertices = radius * np.stack([np.sin(polar) * np.sin(around), np.cos(polar),
                                  np.sin(polar) * np.cos(around)], -1).reshape(-1, 3)
    a = (np.arange(rings - 1)[:, None] * 2 * rings + np.arange(2 * rings - 1)).ravel()
    b, c, d = a + 2 * rings, a + 2 * rings + 1, a + 1
    return vertices, np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)])


def no_ambient(direction, colour=(1.0, 1.0, 1.0)) -> shading.Light:
    return shading.Light(np.asarray(direction, float), np.asarray(colour), np.zeros((9, 3)))


def matt(count: int) -> shading.Material:
    return shading.Material(np.full((count, 3), 0.5), np.zeros(count), np.ones(count))


def test_normals_of_a_sphere_point_outwards():
    vertices, triangles = sphere()
    normals = vertex_normals(vertices, triangles)
    poles = 2 * 48      # a pole is one position and many vertices, some of them in triangles without area only
    outwards = np.einsum("ij,ij->i", normals, vertices / 50)[poles:-poles]
    assert (outwards > 0.995).all()
    lonely = vertex_normals(np.eye(3).repeat(2, 0), np.array([[0, 2, 4]]))
    assert (lonely[1] == 0).all()


def test_rendered_sphere_follows_lamberts_law():
    vertices, triangles = sphere()
    camera = look_at_face(33, 600.0, 300.0)
    scene = Scene(vertices, triangles)
    hits = scene.cast(camera)
    seen = hits.triangle >= 0
    points = interpolate(hits, triangles, vertices)[seen]
    normals = normalise(interpolate(hits, triangles, vertex_normals(vertices, triangles))[seen])
    direction = normalise(np.array([1.0, 1.0, 1.0]))
    got = shading.shade(normals, normals, matt(len(normals)), no_ambient(direction, (0.2, 0.6, 1.0)))
    cosine = np.maximum(points @ direction / np.linalg.norm(points, axis=1), 0)
    np.testing.assert_allclose(got, 0.5 * cosine[:, None] * [0.2, 0.6, 1.0], atol=0.02)
    # a convex body shades itself exactly where the cosine is negative
    lit = shading.shadow(scene, points, normals, direction)
    clear = np.abs(points @ direction) > 8      # the lift of 0.5 mm moves the horizon by 7 mm
    np.testing.assert_array_equal(lit[clear] > 0, (points @ direction > 0)[clear])


def test_wrap_conserves_energy_and_zero_is_lambert():
    cosine = np.linspace(-1, 1, 20001)
    normals = np.stack([np.sqrt(1 - cosine ** 2), np.zeros_like(cosine), cosine], -1)
    light = no_ambient([0, 0, 1.0])
    wrapped = shading.lamp_light(normals, light, np.array([0.0, 0.2, 0.5]))
    np.testing.assert_allclose(wrapped[:, 0], np.maximum(cosine, 0), atol=1e-12)
    np.testing.assert_allclose(wrapped.mean(0), 0.25, atol=1e-3)       # over the sphere: all equal Lambert's


def test_ambient_light_against_a_sum_over_directions():
    rng = np.random.default_rng(0)
    coefficients = np.concatenate([np.full((1, 3), 4.0), rng.normal(0, 0.3, (8, 3))])
    directions = normalise(rng.normal(size=(200_000, 3)))
    radiance = shading.sh_basis(directions) @ coefficients
    normals = normalise(rng.normal(size=(5, 3)))
    # reflected light of a white Lambertian surface = 1/pi * integral of radiance * cosine over the sphere
    slow = [4 * np.mean(radiance * np.maximum(directions @ n, 0)[:, None], 0) for n in normals]
    np.testing.assert_allclose(shading.ambient_light(normals, coefficients), slow, atol=0.02)
    constant = np.zeros((9, 3))
    constant[0] = 1 / 0.282095
    np.testing.assert_allclose(shading.ambient_light(normals, constant), 1, atol=1e-6)


def test_highlight_sits_where_the_half_vector_does():
    normals = np.array([[0, 0, 1.0], [0, np.sin(0.3), np.cos(0.3)]])
    eye = np.tile([0, 0, 1.0], (2, 1))
    shiny = shading.Material(np.zeros((2, 3)), np.full(2, 0.1), np.full(2, 40.0))
    got = shading.shade(normals, eye, shiny, no_ambient([0, 0, 1.0]))
    np.testing.assert_allclose(got[:, 0], 0.1 * 6 * np.array([1, np.cos(0.3) ** 40]))
    assert (shading.shade(normals, eye, shiny, no_ambient([0, 0, 1.0]), visibility=0.0) == 0).all()


def test_ambient_occlusion_of_a_plane_and_of_a_covered_point():
    big = np.array([[-500, -500, 0], [500, -500, 0], [500, 500, 0], [-500, 500, 0]], float)
    roof = big + [0, 0, 10]
    both = np.concatenate([big, roof])
    triangles = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    point, normal = np.array([[3.0, 7.0, 0.0]]), np.array([[0, 0, 1.0]])
    assert shading.ambient_occlusion(Scene(big, triangles[:2]), point, normal)[0] == 1
    assert shading.ambient_occlusion(Scene(both, triangles), point, normal, rays=512)[0] < 0.03


def test_tones_are_pinned():
    np.testing.assert_array_equal(shading.to_bgr8(np.array([-1.0, 0, 0.18, 0.5, 0.8, 1e9])),
                                  [0, 0, 117, 186, 230, 255])
    assert shading.to_bgr8(np.array([0.5]), contrast=1.0)[0] == pytest.approx(209, abs=1)


def test_background_is_calm_and_seeded():
    first = shading.background(40, np.random.default_rng(3))
    np.testing.assert_array_equal(first, shading.background(40, np.random.default_rng(3)))
    assert first.shape == (40, 40, 3) and first.dtype == np.float32 and 0 < first.min() <= first.max() < 1
    saturation = [np.ptp(b.mean((0, 1))) / b.mean() for b in
                  (shading.background(16, np.random.default_rng(s)) for s in range(30))]
    assert max(saturation) < 0.6
