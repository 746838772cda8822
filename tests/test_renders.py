"""Dataset/synthesis/renders.py, background.py, glasses.py: every array is what its name says, by slow and independent
ways."""
from functools import lru_cache

import numpy as np
import pytest

from Dataset.geometry.camera import FLIP, Camera
from Dataset.geometry.transforms import rotation_from_euler
from Dataset.rendering.shading import background
from Dataset.representations import points, uvmap
from Dataset.synthesis.background import backdrop
from Dataset.synthesis.framing import detected_face, expected_box, predict_box
from Dataset.synthesis.glasses import CLEAR, DARK, make_glasses
from Dataset.synthesis.render_workers import render_context
from Dataset.synthesis.renders import (BUFFERS, CLEARANCE, GRID, RenderOptions, coarse_grid, layout, render_subject,
                                       sample_angles, uv_map, visible)
from Dataset.synthesis.scene import FRAME, HAIR, LENS, SceneSubject, roughen, sample_view, view_camera
from Dataset.synthesis.skin import sample_appearance

OPTIONS = RenderOptions(subjects=3, images=3, size=48, seed=11, buffers=BUFFERS, detect=0.0)


@lru_cache(maxsize=2)
def subject(number: int = 0) -> dict[str, np.ndarray]:
    return render_subject(number, OPTIONS, render_context())


def crop_camera(arrays: dict[str, np.ndarray], image: int) -> Camera:
    focal, x, y, distance = arrays["camera"][image].astype(float)
    return Camera(OPTIONS.size, OPTIONS.size, focal, (x, y), FLIP.copy(), np.array([0, 0, distance]))


def posed_of(seed: int = 0, clutter: float = 0.0, glasses: float = 0.0, angles=(0.0, 0.0, 0.0),
             style: int | None = None):
    rng = np.random.default_rng(seed)
    model = render_context().model
    look = sample_appearance(rng)
    look = look if style is None else look._replace(hair_style=style)
    scene_subject = SceneSubject(render_context(), model.sample_identity(rng).astype(np.float32), look)
    view = sample_view(rng, np.zeros(len(model.expression)), angles=np.array(angles))
    return scene_subject.set(roughen(view, rng, clutter, glasses))


def test_arrays_have_the_shapes_and_types_that_the_layout_says():
    arrays = subject()
    assert {n: (a.shape, a.dtype) for n, a in arrays.items()} == layout(OPTIONS)
    assert list(arrays) == [*layout(RenderOptions()), *BUFFERS]
    assert layout(OPTIONS)["uv"] == ((3, 48, 48, 2), np.dtype(np.float16))
    for name, array in arrays.items():
        if name not in ("uv", "depth"):
            assert np.isfinite(array.astype(float)).all(), name


def test_same_number_same_bytes_whatever_else_is_asked_for():
    again = render_subject(0, OPTIONS, render_context())
    few = render_subject(0, RenderOptions(subjects=1, images=2, size=48, seed=11, detect=0.0), render_context())
    for name in layout(OPTIONS):
        assert subject()[name].tobytes() == again[name].tobytes(), name
    for name in few:
        rows = slice(None) if name == "identity" else slice(2)
        assert subject()[name][rows].tobytes() == few[name].tobytes(), name
    other = render_subject(0, RenderOptions(images=1, size=48, seed=12), render_context())
    assert np.abs(other["identity"] - few["identity"]).max() > 0.5


def test_points_project_where_a_slow_computation_says():
    """Every point by its own loop: basis sums, subdivision and grid of the model, Euler angles, a pinhole."""
    model, arrays = render_context().model, subject()
    for image in range(3):
        vertices = model.mean.astype(float)
        for coefficients, basis in ((arrays["identity"], model.identity),
                                    (arrays["expression"][image], model.expression)):
            for weight, direction in zip(coefficients.astype(float), basis):
                vertices = vertices + weight * direction
        yaw, pitch, roll, *shift = arrays["pose"][image].astype(float)
        grid = points.encode(vertices, GRID, model).reshape(-1, 3)
        focal, centre_x, centre_y, distance = arrays["camera"][image]
        for k in range(0, 256, 5):
            x, y, z = rotation_from_euler(yaw, pitch, roll) @ grid[k] + shift
            depth = distance - z
            expected = [centre_x + focal * x / depth, centre_y - focal * y / depth]
            np.testing.assert_allclose(arrays["image_points"][image, k], expected, atol=2e-3)
            np.testing.assert_allclose(arrays["depth_points"][image, k], depth, atol=2e-3)


def test_coarse_grid_is_encode():
    model = render_context().model
    vertices = model.shape(np.random.default_rng(0).normal(size=200))
    np.testing.assert_allclose(coarse_grid(model) @ vertices, points.encode(vertices, GRID, model).reshape(-1, 3),
                               atol=1e-4)


@pytest.mark.parametrize("angles", [(0, 0, 0), (65, -15, 20)])
def test_visible_points_by_brute_force(angles):
    """Every ray against every triangle (Moeller and Trumbore 1997), float64."""
    posed = posed_of(3, angles=angles, style=2)
    camera = view_camera(posed.view)
    positions = (coarse_grid(render_context().model) @ posed.vertices[:len(render_context().model.mean)])[::3]
    a, b, c = np.moveaxis(posed.vertices[posed.triangles].astype(np.float32).astype(float), 1, 0)
    origin, slow = camera.position(), []
    for position in positions:
        ray = position - origin
        cross = np.cross(ray, c - a)
        determinant = np.einsum("ij,ij->i", cross, b - a)
        determinant = np.where(determinant == 0, np.nan, determinant)
        u = np.einsum("ij,ij->i", cross, origin - a) / determinant
        other = np.cross(origin - a, b - a)
        v, t = other @ ray / determinant, np.einsum("ij,ij->i", other, c - a) / determinant
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & (t < 1 - CLEARANCE / -ray[2])
        slow.append(not hit.any())
    fast = visible(posed.scene, camera, positions)
    assert (fast != np.array(slow)).mean() < 0.02         # a ray along an edge may go either way
    assert 0.3 < fast.mean() < (0.98 if angles[0] == 0 else 0.75)


def test_visible_points_lie_on_what_is_seen():
    arrays, checked = subject(), 0
    for image in range(3):
        inside = ((arrays["image_points"][image] > 1) & (arrays["image_points"][image] < 47)).all(-1)
        for k in np.flatnonzero(inside):
            x, y = arrays["image_points"][image, k].astype(int)
            around = arrays["depth"][image, y - 1:y + 2, x - 1:x + 2]
            if np.ptp(around) < 6:         # away from edges the depth map must agree
                in_front = arrays["depth_points"][image, k] - around.mean()
                checked += 1
                assert (in_front < CLEARANCE + 6) == arrays["visible"][image, k] or abs(in_front - CLEARANCE) < 6
    assert checked > 100


def test_buffers_against_rays():
    arrays, model = subject(), render_context().model
    rng = np.random.default_rng(0)
    tried = 0
    for image in range(3):
        camera = crop_camera(arrays, image)
        positions = camera.unproject(arrays["depth"][image])
        vertices = model.shape(arrays["identity"], arrays["expression"][image])
        pose = arrays["pose"][image].astype(float)
        vertices = vertices @ rotation_from_euler(*pose[:3]).T + pose[3:]
        decoded = uvmap.decode(arrays["uv"][image].astype(float), arrays["visible_mask"][image])
        grid = points.encode(vertices)
        for pick in rng.integers(0, len(decoded.grid), 12):
            (x, y), cell = decoded.pixels[pick].astype(int), np.rint(decoded.grid[pick]).astype(int)
            around = grid[max(cell[0] - 1, 0):cell[0] + 2, max(cell[1] - 1, 0):cell[1] + 2].reshape(-1, 3)
            # the position on the subject's own grid lies where the depth says
            assert np.linalg.norm(around - positions[y, x], axis=1).min() < 2.5
            tried += 1
        nothing = np.isnan(arrays["depth"][image])
        assert (arrays["normals"][image][nothing] == 0).all() and not arrays["mask"][image][nothing].any()
        assert not (arrays["visible_mask"][image] & ~arrays["mask"][image]).any()
        seen = ~nothing
        np.testing.assert_allclose(np.linalg.norm(arrays["normals"][image][seen].astype(float), axis=-1), 127, atol=1.5)
        facing = arrays["normals"][image][arrays["visible_mask"][image]][:, 2] > -20    # smooth normals, seen from z
        assert facing.mean() > 0.98
        np.testing.assert_array_equal(np.isfinite(arrays["uv"][image]).all(-1), arrays["mask"][image])
    assert tried == 36


def test_hair_and_glasses_hide_the_face_but_leave_its_map():
    """The same subject and view with and without glasses: same uv and mask, the glasses' pixels are not visible."""
    bare, accessories = posed_of(5, style=3), posed_of(5, glasses=1.0, style=3)
    camera = view_camera(bare.view)
    assert (accessories.materials == FRAME).any() and bare.view._replace(glasses=0).seed == accessories.view.seed
    first, second = (uv_map(posed, camera, posed.scene.cast(camera)) for posed in (bare, accessories))
    np.testing.assert_array_equal(first.mask, second.mask)
    np.testing.assert_allclose(first.uv, second.uv, atol=1e-4)
    hits = accessories.scene.cast(camera)
    glasses = np.isin(accessories.materials[hits.triangle], (FRAME, LENS)) & (hits.triangle >= 0)
    assert (glasses & first.mask).sum() > 20 and not second.visible_mask[glasses].any()
    np.testing.assert_array_equal(first.visible_mask[~glasses], second.visible_mask[~glasses])
    hair = np.isin(bare.materials[bare.scene.cast(camera).triangle], [HAIR])
    assert (hair & first.mask).any() and not first.visible_mask[hair].any()


def test_boxes_scatter_like_the_detectors():
    """Frontal: no bias, 2 % of the side; turned: larger and farther back; the found ones agree with both."""
    for yaw, mean, sigma in ((0, 0.0, 0.035), (50, -0.11, 0.2)):
        offsets, sides = [], []
        posed = posed_of(1, angles=(yaw, 0, 0))
        for seed in range(60):
            posed.view = posed.view._replace(seed=seed)
            expected = expected_box(view_camera(posed.view).project(posed.landmarks()))
            box = predict_box(posed)
            offsets.append((box[0] + box[2] / 2 - expected[0] - expected[2] / 2) / expected[2])
            sides.append(box[2] / expected[2])
        assert np.mean(offsets) == pytest.approx(mean, abs=0.04) and 0.01 < np.std(offsets) < sigma
        assert np.median(sides) == pytest.approx(1.0 if yaw == 0 else 1.13, abs=0.07)
    real = detected_face(posed_of(2))
    expected = expected_box(view_camera(posed_of(2).view).project(posed_of(2).landmarks()))
    assert real is not None and abs(np.log(real.box[2] / expected[2])) < 0.2


def test_poses_favour_the_front_and_cover_the_range():
    options = RenderOptions(yaw=90, pitch=40, roll=45)
    angles = np.array([sample_angles(np.random.default_rng(s), options) for s in range(2000)])
    assert (np.abs(angles) <= [90, 40, 45]).all()
    assert 0.45 < (np.abs(angles[:, 0]) < 25).mean() < 0.55        # 0.5 * 0.68 + 0.5 * 0.28 = 0.48
    assert (np.abs(angles[:, 0]) > 70).mean() > 0.08 and (angles[:, 0] < -60).any() and (angles[:, 0] > 60).any()
    assert np.abs([sample_angles(np.random.default_rng(s), RenderOptions(yaw=5)) for s in range(50)])[:, 0].max() <= 5


def test_glasses_sit_before_the_eyes_and_dark_ones_hide_them():
    accessories = posed_of(5, glasses=1.0)
    assert (accessories.materials == FRAME).sum() > 100 and posed_of(5).materials.max() < FRAME
    marks = render_context().model.landmarks(render_context().model.mean)
    for kind in (CLEAR, DARK):
        pair = make_glasses(marks, kind, np.random.default_rng(1))
        again = make_glasses(marks, kind, np.random.default_rng(1))
        assert pair.vertices.tobytes() == again.vertices.tobytes() and (pair.lens.any() == (kind == DARK))
        used = pair.vertices[np.unique(pair.triangles)]
        assert used[:, 2].max() > marks[36:48, 2].max() + 5 and used[:, 1].max() < marks[17:27, 1].max() + 15
        assert used[:, 0].min() < marks[36, 0] and used[:, 0].max() > marks[45, 0]
    dark = next(s for s in (posed_of(k, glasses=1.0) for k in range(20, 60)) if (s.materials == LENS).any())
    camera = view_camera(dark.view)
    x, y, _ = camera.project(dark.landmarks()[36:48].reshape(2, 6, 3).mean(1))
    hits = dark.scene.cast_rays(*camera.rays(np.stack([x, y], -1)))
    assert (dark.materials[hits.triangle] == LENS).all()


def test_backdrops_are_seeded_in_range_and_wilder_when_asked():
    calm, clutter = [], []
    for seed in range(12):
        first = backdrop(64, np.random.default_rng(seed), 1.0)
        np.testing.assert_array_equal(first, backdrop(64, np.random.default_rng(seed), 1.0))
        assert first.shape == (64, 64, 3) and first.dtype == np.float32 and 0 < first.min() <= first.max() < 1
        np.testing.assert_array_equal(backdrop(64, np.random.default_rng(seed)),
                                      background(64, np.random.default_rng(seed)))
        calm.append(np.log(backdrop(64, np.random.default_rng(seed))).std())
        clutter.append(np.log(first).std())
    assert np.median(clutter) > 2 * np.median(calm)


@pytest.mark.parametrize("bad, message", [
    ({"subjects": 0}, "--subjects must be within 1 to 1000000, got 0"),
    ({"size": 4096}, "--size must be within 16 to 512"),
    ({"seed": 2**32}, "--seed must be within 0 to 4294967295, got 4294967296"),
    ({"yaw": float("nan")}, "--yaw must be within 0 to 90, got nan"),
    ({"margin": 9}, "--margin must be within 0.5 to 3"),
    ({"buffers": ("uv", "voxels")}, "uv,mask,visible_mask,depth,normals, once each, got uv,voxels"),
    ({"buffers": ("uv", "uv")}, "once each")])
def test_bad_options(bad, message):
    with pytest.raises(ValueError, match=message):
        RenderOptions(**bad)
