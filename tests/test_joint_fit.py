"""Dataset/fitting/multi_view.py, pose.py, correspondences.py: truth made and recovered, and a slow twin."""
import itertools

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from Dataset.face_model.model import load_face_model
from Dataset.fitting.multi_view import FitOptions, joint_fit
from Dataset.fitting.multi_view_system import bases_of
from Dataset.geometry.bilinear import bilinear_matrix
from Dataset.geometry.camera import look_at_face
from Dataset.geometry.pose import Pose, weak_perspective
from Dataset.geometry.transforms import rotation_from_euler
from Dataset.representations.correspondences import Correspondences, checked, from_landmarks
from Dataset.representations.points import encode
from tests.seen import Errors, see, squared_error

TURNS = ((0, 0, 0), (35, 5, 10), (-40, -10, -5), (20, 15, 0), (-15, 20, 5), (60, 0, 0), (-60, 10, -20), (5, -25, 30))
ONE = FitOptions(correlation=0, noise_floor=0.1)       # for errors that are independent


@pytest.fixture(scope="module")
def model():
    return load_face_model()


def subject(model, seed=7):
    return model.sample_identity(np.random.default_rng(seed))


def album(model, count, seed=7, errors=Errors(white=0.3), strength=0.0, **settings):
    rng = np.random.default_rng([seed, 1])
    return [see(model, subject(model, seed), rng, expression=model.sample_expression(rng, strength), angles=TURNS[t],
                distance=(500.0, 900.0, 650.0, 1300.0)[t % 4], errors=errors, **settings) for t in range(count)]


def angle(a, b):
    return np.degrees(Rotation.from_matrix(a @ b.T).magnitude())


# The camera


def test_pose_is_the_pinhole_that_looks_at_the_origin():
    points = np.random.default_rng(0).normal(0, 60, (50, 3))
    rotation = rotation_from_euler(30, -10, 20)
    camera = look_at_face(128, 600.0, 480.0, (3.0, -2.0))
    seen = camera.project(points @ rotation.T)
    pose = Pose(rotation, 480 / 600, np.array([67.0, 62.0]), 1 / 600)
    np.testing.assert_allclose(pose.project(points), np.stack([seen.x, seen.y], -1), atol=1e-9)
    assert pose.project(np.zeros(3)).tolist() == [67.0, 62.0]


def test_its_jacobian_is_that_of_finite_differences():
    points = np.random.default_rng(0).normal(0, 60, (20, 3))
    pose = Pose(rotation_from_euler(30, -10, 20), 0.8, np.array([67.0, 62.0]), 1 / 600)
    by_point, by_pose = pose.jacobian(points)
    for axis in range(3):
        step = 1e-4 * np.eye(3)[axis]
        slope = (pose.project(points + step) - pose.project(points - step)) / 2e-4
        np.testing.assert_allclose(by_point[:, :, axis], slope, atol=1e-6)
    for unknown in range(7):
        step = 1e-7 * np.eye(7)[unknown]
        there, back = (pose.moved(s, (0, 1)).project(points) for s in (step, -step))
        np.testing.assert_allclose(by_pose[:, :, unknown], (there - back) / 2e-7, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("outliers", [0.0, 0.2, 0.4])
def test_weak_perspective_is_exact_whatever_a_part_of_the_points_says(model, outliers):
    points = encode(model.mean, 32).reshape(-1, 3)
    for number, turn in enumerate(TURNS + ((85, 0, 45), (0, 0, 180))):
        rng = np.random.default_rng(number)
        truth = Pose(rotation_from_euler(*turn), 0.7, np.array([60.0, 70.0]))
        pixels = truth.project(points)
        bad = rng.random(len(points)) < outliers
        pixels[bad] = rng.uniform(0, 128, (bad.sum(), 2))
        pose = weak_perspective(points, pixels)
        assert angle(pose.rotation, truth.rotation) < (1e-3 if not outliers else 0.5)
        assert abs(pose.scale / truth.scale - 1) < (1e-5 if not outliers else 0.005)
        assert np.abs(pose.translation - truth.translation).max() < (1e-3 if not outliers else 0.2)
        assert abs(np.linalg.det(pose.rotation) - 1) < 1e-9 and pose.perspective == 0


# The fit against a slow twin


def sparse_photo(model, seed, size=128):
    """60 pairs in as many cells of the grid, so that nothing is averaged."""
    rng = np.random.default_rng(seed)
    cell = rng.permutation(256)[:60]
    positions = np.stack(np.divmod(cell, 16), 1) * 8.0 + rng.uniform(0.5, 6.5, (60, 2))
    shape = model.shape(2 * subject(model, 3)[:6], np.pad([0.6], (24, 59)))
    grid = bilinear_matrix(positions, 128) @ encode(shape).reshape(-1, 3)
    pose = Pose(rotation_from_euler(*TURNS[seed]), 0.7, np.array([60.0, 66.0]), 1 / 600)
    pixels = pose.project(grid) + rng.normal(0, 0.5, (60, 2))
    return Correspondences(positions, pixels, rng.uniform(0.2, 0.6, 60), size)


def twin(model, photos, options):
    """The same objective, dense, by scipy, over all unknowns at once, derivatives by differences."""
    bases, n, m = bases_of(model), options.components, 84
    parts = []
    for photo in photos:
        lattice = bilinear_matrix(photo.grid * 47 / 127, 48)
        rows = (lattice @ bases.basis.reshape(48 ** 2, -1)).reshape(len(photo.grid), 3, -1)
        means = bilinear_matrix(photo.grid, 128) @ bases.mean.reshape(-1, 3)
        apart = np.linalg.norm(photo.grid[:, None] - photo.grid, axis=-1)
        fraction = options.correlated if options.correlation else 0
        sigma = photo.weights ** -0.5
        covariance = fraction * np.exp(-apart / max(options.correlation, 1e-9)) * np.outer(sigma, sigma)
        covariance += np.diag((1 - fraction) / photo.weights + options.noise_floor ** 2)
        parts.append((photo, means, rows.astype(float), np.linalg.inv(np.linalg.cholesky(covariance))))
    units = np.arange(m if options.expression else 0)

    def residuals(x):
        out = [x[:n] / options.identity_sigma]
        for t, (photo, means, rows, whiten) in enumerate(parts):
            own = x[n + t * (7 + len(units)):][:7 + len(units)]
            pose = Pose(Rotation.from_rotvec(own[:3]).as_matrix(), np.exp(own[3]), own[4:6], own[6] / 1000)
            points = means + rows[..., :n] @ x[:n] + rows[..., bases.count + units] @ own[7:]
            miss = photo.pixels - pose.project(points)
            if np.isfinite(options.robust):
                squared = (miss ** 2).sum(-1) * photo.weights / options.robust ** 2
                out.append(options.robust * np.sqrt(squared / (1 + squared)))
            else:
                out.append((whiten @ miss).ravel())
            out += [own[7:] / options.expression_sigma,
                    [(own[6] / 1000 * options.distance - 1) / options.distance_sigma]]
        return np.concatenate(out)
    starts = [weak_perspective(means, photo.pixels) for photo, means, _, _ in parts]
    first = np.concatenate([np.zeros(n)] + [np.concatenate([
        Rotation.from_matrix(s.rotation).as_rotvec(), [np.log(s.scale)], s.translation, [1.0],
        np.full(len(units), 0.01)]) for s in starts])
    low, high = np.full(len(first), -np.inf), np.full(len(first), np.inf)
    for t in range(len(photos)):
        own = slice(n + t * (7 + len(units)) + 6, n + (t + 1) * (7 + len(units)))
        low[own], high[own] = 0, [4.0] + [1.0] * len(units)
    found = least_squares(residuals, first, bounds=(low, high), xtol=1e-12, ftol=1e-12, gtol=1e-10, x_scale="jac")
    return found.x[:n], found.x[n:].reshape(len(photos), -1)


@pytest.mark.parametrize("settings", [{}, {"correlation": 40.0}, {"robust": 1.5}, {"expression": True}])
def test_the_same_as_a_dense_optimiser(model, settings, monkeypatch):
    monkeypatch.setattr("Dataset.fitting.multi_view.CONVERGED", 1e-5)
    photos = [sparse_photo(model, seed) for seed in ((1,) if settings.get("expression") else (1, 2))]
    options = FitOptions(**{"components": 6, "correlation": 0.0, "robust": np.inf, "expression": False,
                            "iterations": 99, "noise_floor": 0.01, **settings})
    fit = joint_fit(photos, model, options)
    identity, own = twin(model, photos, options)
    np.testing.assert_allclose(fit.expressions, own[:, 7:] if options.expression else 0, atol=0.01)
    assert not options.expression or (fit.expressions > 0.01).sum() > 5
    np.testing.assert_allclose(fit.identity[:6], identity, atol=0.002)
    assert not fit.identity[6:].any() and np.abs(identity).max() > 0.5
    for t, truth in enumerate(own):
        assert angle(fit.rotations[t], Rotation.from_rotvec(truth[:3]).as_matrix()) < 0.01
        np.testing.assert_allclose([fit.scales[t], fit.perspective[t] * 1000],
                                   [np.exp(truth[3]), truth[6]], rtol=0.002)


# Truth made and recovered


@pytest.mark.parametrize("expression, perspective, robust, correlation, components",
                         list(itertools.product((True, False), (True, False), (3.0, np.inf), (40.0, 0.0), (200, 60))))
def test_truth_is_recovered_whatever_the_options(model, expression, perspective, robust, correlation, components):
    rng = np.random.default_rng(3)
    truth = np.where(np.arange(200) < components, subject(model), 0)
    made = [see(model, truth, rng, expression=model.sample_expression(rng) if expression else None, angles=TURNS[t],
                distance=(500.0 if perspective else 1e5), errors=Errors(white=0.05)) for t in range(3)]
    options = FitOptions(components=components, expression=expression, perspective=perspective, robust=robust,
                         correlation=correlation, noise_floor=0.05, iterations=8)
    fit = joint_fit([m.photo._replace(weights=m.photo.weights * 400) for m in made], model, options)
    assert squared_error(model, fit.identity, truth) < 0.03
    assert not fit.identity[components:].any() and (fit.perspective > 0).all() == perspective
    for t, m in enumerate(made):
        assert angle(fit.rotations[t], m.rotation) < 1.5
        off = np.abs(fit.landmarks(t, model) - m.landmarks)     # lips and lids, where the lattice is coarse, the most
        assert fit.residuals[t] < 0.4 and np.median(off) < 0.2 and off.max() < 3.0
        assert fit.expressions.any() == expression
        if perspective:
            assert abs(fit.perspective[t] * 500 - 1) < 0.1


def test_a_fifth_of_outliers_has_no_say(model):
    clean, spoilt = (album(model, 3, errors=Errors(white=0.3, outliers=outliers), strength=1.0)
                     for outliers in (0, 0.2))
    errors = [squared_error(model, joint_fit([m.photo for m in made], model).identity, subject(model))
              for made in (clean, spoilt)]
    assert errors[0] < 0.25 and errors[1] < errors[0] + 0.05
    fit = joint_fit([m.photo for m in spoilt], model)
    for kept, made in zip(fit.kept, spoilt):
        far = made.bad & (np.linalg.norm(made.photo.pixels - made.photo.size / 2, axis=1) > 60)
        assert far.sum() > 20 and kept[far].max() < 0.05 and np.median(kept[~made.bad]) > 0.7


def test_more_photos_know_more_and_a_start_saves_the_way(model):
    photos = [m.photo for m in album(model, 8, errors=Errors(white=0.3, field=1.0), strength=1.0)]
    fits = [joint_fit(photos[:count], model) for count in (1, 4, 8)]
    errors = [squared_error(model, fit.identity, subject(model)) for fit in fits]
    assert errors[0] < 0.9 and errors[1] < 0.6 * errors[0] and errors[2] < 0.8 * errors[1]
    on = joint_fit(photos[:5], model, FitOptions(iterations=2), start=fits[1])
    whole, short = (joint_fit(photos[:5], model, FitOptions(iterations=n)) for n in (12, 2))

    def off(fit):
        return np.linalg.norm(fit.identity - whole.identity)
    assert off(on) < 0.5 * off(short) and off(on) < 1.0
    assert len(on.rotations) == 5 and on.kept[4].shape == (800,)


def test_errors_that_are_alike_are_not_counted_as_many(model):
    """A smooth field of errors: taken for independent ones, it is taken for a face."""
    def errors(options):
        return [squared_error(model, joint_fit([m.photo for m in album(
            model, 2, seed, errors=Errors(white=0.1, field=1.5))], model, options).identity, subject(model, seed))
            for seed in range(3)]
    assert np.mean(errors(FitOptions())) < 0.75 * np.mean(errors(FitOptions(correlation=0)))


def test_uncertain_points_count_less(model):
    made = album(model, 2)
    rng, photos = np.random.default_rng(0), []
    for m in made:
        sigma = np.where(m.photo.grid[:, 1] > 70, 6.0, 0.3)
        photos.append(m.photo._replace(pixels=m.photo.pixels + sigma[:, None] * rng.standard_normal((len(sigma), 2)),
                                       weights=sigma ** -2))
    known, unknown = (squared_error(model, joint_fit(p, model).identity, subject(model))
                      for p in (photos, [p._replace(weights=np.ones(len(p.weights))) for p in photos]))
    assert known < 0.75 * unknown


def test_without_any_knowledge_it_is_the_mean_face(model):
    photo = album(model, 1)[0].photo
    fit = joint_fit([photo._replace(weights=np.full(len(photo.weights), 1e-8))], model)
    assert np.abs(fit.identity).max() < 1e-3 and np.abs(fit.expressions).max() < 1e-3
    np.testing.assert_allclose(fit.perspective, 1 / 800, rtol=1e-2)
    np.testing.assert_allclose(fit.neutral(model), model.mean, atol=0.01)


def test_it_is_the_same_face_in_larger_crops(model):
    photo = album(model, 1)[0].photo
    twice = photo._replace(pixels=2 * photo.pixels, weights=photo.weights / 4, size=256)
    small, large = joint_fit([photo], model), joint_fit([twice], model)
    np.testing.assert_allclose(large.identity, small.identity, atol=1e-6)
    np.testing.assert_allclose(large.scales, 2 * small.scales, rtol=1e-6)
    np.testing.assert_allclose(large.residuals, 2 * small.residuals, rtol=1e-6)
    np.testing.assert_allclose(large.landmarks(0, model), 2 * small.landmarks(0, model), atol=1e-4)


def test_weight_zero_is_not_there_and_the_bytes_are_the_same(model):
    photo = album(model, 1)[0].photo
    more = Correspondences(*(np.concatenate([old, new]) for old, new in zip(
        photo[:3], ([[64.0, 64.0]], [[900.0, -900.0]], [0.0]))), photo.size)
    first, second = joint_fit([photo], model), joint_fit([more], model)
    assert all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(first[:-1], second[:-1]))
    assert second.kept[0][-1] == 0 and first.kept[0].tobytes() == second.kept[0][:-1].tobytes()


def test_the_results_shapes_and_views(model):
    fit = joint_fit([m.photo for m in album(model, 2, strength=1.0)], model)
    assert [np.shape(x) for x in fit[:-1]] == [(200,), (2, 84), (2, 3, 3), (2,), (2, 2), (2,), (2,)]
    assert fit.expressions.min() >= 0 and fit.expressions.max() <= 1
    np.testing.assert_allclose(fit.neutral(model), model.shape(fit.identity))
    np.testing.assert_allclose(fit.face(1, model), model.shape(fit.identity, fit.expressions[1]))
    np.testing.assert_allclose(fit.landmarks(1, model), fit.project(1, model.landmarks(fit.face(1, model))))


# Landmarks


def test_landmarks_alone_make_a_face(model):
    made = album(model, 6)
    fit = joint_fit([from_landmarks(m.landmarks, 128, model=model) for m in made], model)
    assert squared_error(model, fit.identity, subject(model)) < 0.8
    for t, m in enumerate(made):
        assert angle(fit.rotations[t], m.rotation) < 4 and np.abs(fit.landmarks(t, model) - m.landmarks)[17:].max() < 3
    photo = from_landmarks(made[0].landmarks, 128, np.full(68, 4.0), model)
    assert photo.weights.tolist() == [0.4] * 17 + [4.0] * 51
    with pytest.raises(ValueError, match=r"^landmarks must be \(68, 2\) with \(68,\) weights, received \(5, 2\)"):
        from_landmarks(np.zeros((5, 2)), 128)


# Bad input


def broken(photo, **changes):
    return photo._replace(**{name: np.asarray(value) if name != "size" else value for name, value in changes.items()})


@pytest.mark.parametrize("spoil, message", [
    (lambda p: broken(p, pixels=np.full_like(p.pixels, np.nan)), "photo 1: .* finite, received NaN"),
    (lambda p: broken(p, weights=np.full_like(p.weights, np.inf)), "photo 1: .* finite"),
    (lambda p: broken(p, weights=-p.weights), "photo 1: weights must not be negative, received -1"),
    (lambda p: broken(p, weights=0 * p.weights),
     "photo 1: at least 6 weights must be positive, received 800 that are 0"),
    (lambda p: broken(p, grid=p.grid[:5], pixels=p.pixels[:5], weights=p.weights[:5]),
     "photo 1: at least 6 points with a weight are needed, received 5"),
    (lambda p: broken(p, grid=p.grid[:0], pixels=p.pixels[:0], weights=p.weights[:0]), "photo 1: .* received 0"),
    (lambda p: broken(p, grid=p.grid[:-1]), r"photo 1: grid and pixels must be \(K, 2\)"),
    (lambda p: broken(p, weights=1.0), r"photo 1: grid and pixels must be"),
    (lambda p: broken(p, grid=p.grid + 90), "photo 1: positions must lie within 0 and 127 on the grid, received"),
    (lambda p: broken(p, size=0), "photo 1: the crop's size must be at least 1 px, received 0"),
    (lambda p: broken(p, pixels=0 * p.pixels), "photo 1: points must not all coincide")])
def test_a_bad_photo_is_named(model, spoil, message):
    photo = album(model, 1)[0].photo
    with pytest.raises(ValueError, match="^" + message) as error:
        joint_fit([photo, spoil(photo)], model)
    assert "\n" not in str(error.value)


def test_no_photo_and_too_long_a_start(model):
    photo = album(model, 1)[0].photo
    assert checked(photo).grid.dtype == np.float64
    with pytest.raises(ValueError, match="^a joint fit needs at least one photo, received none$"):
        joint_fit([], model)
    with pytest.raises(ValueError, match="^the start must be a fit of the first photos, received one of 2 for 1$"):
        joint_fit([photo], model, start=joint_fit([photo, photo], model))


@pytest.mark.parametrize("name, value", [("components", -1), ("identity_sigma", 0), ("expression_sigma", np.nan),
                                         ("distance", 10), ("noise_floor", 0), ("correlated", 1), ("robust", 0),
                                         ("correlation", -1), ("iterations", 0)])
def test_options_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be within .*, got {value}"):
        FitOptions(**{name: value})


def test_six_points_are_enough_not_to_fail(model):
    made = album(model, 1)[0]
    some = np.linspace(0, len(made.photo.weights) - 1, 6).astype(int)
    photo = Correspondences(made.photo.grid[some], made.photo.pixels[some], made.photo.weights[some], 128)
    fit = joint_fit([photo], model)
    assert np.isfinite(fit.identity).all() and angle(fit.rotations[0], made.rotation) < 25
