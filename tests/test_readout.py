"""Network/readout/: faces are recovered from their own keypoints, wrong keypoints are found, the file is bounded."""
import numpy as np
import pytest

from Dataset.errors import NotFittable
from Dataset.face_model.model import load_face_model
from Dataset.geometry.pose import Pose
from Dataset.geometry.transforms import rotation_from_euler
from Network.readout.canonical import added, features_of, observe, sums_of
from Network.readout.estimate import MAX_TYPICALITY, face_keypoints, fitted_pose, yaw_of, yaw_weights
from Network.readout.fit import Part, fit
from Network.readout.gaussian import Prior, apply, learn, moments_of, posterior
from Network.readout.model import FILE, read_keypoint_model, write_keypoint_model
from Network.readout.outliers import clean
from Network.readout.subject import SubjectReadout

SUBJECTS, PHOTOS = 400, 4


@pytest.fixture(scope="module")
def subjects() -> Part:
    """Subjects whose keypoints lie where scaled orthography sees them, but for a smooth error; neutral but for one unit
    of 20 identity directions: few subjects tell what these do."""
    rng, face = np.random.default_rng(0), face_keypoints(load_face_model())
    identity = np.zeros((SUBJECTS, 200), np.float32)
    identity[:, :20] = rng.standard_normal((SUBJECTS, 20))
    expression = np.zeros((SUBJECTS, PHOTOS, 84), np.float32)
    expression[..., :2] = rng.random((SUBJECTS, PHOTOS, 2))
    keypoints = np.zeros((SUBJECTS, PHOTOS, 256, 2), np.float32)
    smooth = np.linalg.cholesky(np.exp(-np.square(np.linalg.norm(
        face.template.points[:, None] - face.template.points, axis=-1) / 0.4)) + 0.01 * np.eye(256))
    for p in range(SUBJECTS):
        for t in range(PHOTOS):
            pose = Pose(rotation_from_euler(*rng.uniform([-60, -20, -20], [60, 20, 20])), 0.005, np.array([0.5, 0.45]))
            shape = face.keypoints(np.concatenate([identity[p], expression[p, t]]))
            keypoints[p, t] = pose.project(shape) + 0.002 * smooth @ rng.standard_normal((256, 2))
    return Part(np.arange(SUBJECTS), keypoints, np.full((SUBJECTS, PHOTOS, 256), -2.0, np.float32), identity,
                expression)


@pytest.fixture(scope="module")
def fitted(subjects):
    return fit([subjects.take(np.arange(40, SUBJECTS))], subjects.take(np.arange(40)), "0" * 64)


def test_posterior_against_the_formula():
    """Bishop 2006, 2.116 written another way: gain P S (S^T P S + N)^-1."""
    rng = np.random.default_rng(1)
    slopes, offset = rng.normal(size=(3, 8)), rng.normal(size=8)
    half = rng.normal(size=(8, 8))
    prior = Prior(np.array([1.0, -2.0, 0.5]), np.diag([1.0, 2.0, 0.5]))
    x = prior.mean + rng.standard_normal((20000, 3)) * np.sqrt(np.diag(prior.covariance))
    y = offset + (x - prior.mean) @ slopes + rng.standard_normal((20000, 8)) @ half
    model = learn(moments_of(y, x), prior, 20000)
    np.testing.assert_allclose(model.slopes, slopes, atol=0.15)
    np.testing.assert_allclose(model.offset, offset, atol=0.15)
    np.testing.assert_allclose(model.noise, half.T @ half, atol=0.6)
    found, _ = posterior(model, prior, np.full(8, 0.1))
    gain = prior.covariance @ model.slopes @ np.linalg.inv(
        model.slopes.T @ prior.covariance @ model.slopes + model.noise + (0.1 + 1e-9) * np.eye(8))
    np.testing.assert_allclose(apply(found, y[:5]), prior.mean + (y[:5] - model.offset) @ gain.T, atol=1e-8)


def test_triangulation_by_normal_equations(subjects):
    face = face_keypoints(load_face_model())
    seen = observe(subjects.keypoints[0, :2], face.template)
    log_variance = np.stack([np.full(256, -2.0), np.full(256, 1.0)])
    photos = [sums_of(type(seen)(*(array[t] for array in seen)), log_variance[t]) for t in range(2)]
    offsets = features_of(added(*photos))[:768].reshape(256, 3)
    weights = 0.3 * np.exp(-log_variance[:, 7])
    across = [rows.T @ rows for rows in seen.rows]
    known = np.eye(3) + weights[0] * across[0] + weights[1] * across[1]
    right = weights[0] * seen.offsets[0, 7] + weights[1] * seen.offsets[1, 7]
    np.testing.assert_allclose(offsets[7], np.linalg.solve(known, right), atol=1e-10)


def test_pose_is_recovered():
    face, rotation = face_keypoints(load_face_model()), rotation_from_euler(30, -10, 5)
    pose = Pose(rotation, 0.006, np.array([0.4, 0.6]))
    seen = pose.project(face.mean)
    found = fitted_pose(face.mean, seen, np.ones(256))
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-5)
    np.testing.assert_allclose([found.scale, *found.translation], [0.006, 0.4, 0.6], atol=1e-5)
    assert float(yaw_of(observe(seen, face.template))) == pytest.approx(30, abs=1)
    np.testing.assert_allclose(yaw_weights(np.array([-80.0, -25.0, 10.0])), [[1, 0, 0], [.5, .5, 0], [0, .8, .2]])


def test_a_subject_is_recovered(fitted, subjects):
    model, about = fitted
    assert about["subjects"] == SUBJECTS - 40 and about["photo"] < 0.5 and about["subject"][4] < 0.3
    readout = SubjectReadout(model)
    assert readout.subject()[1] == 0.0
    for t in range(PHOTOS):
        photo = readout.add(subjects.keypoints[3, t], subjects.log_variance[3, t])
    identity, typicality = readout.subject()
    assert np.corrcoef(identity[:20], subjects.identity[3, :20])[0, 1] > 0.85 and 0 < typicality < 1.5
    np.testing.assert_array_equal(photo.identity, identity)
    face = face_keypoints(load_face_model())
    shown = photo.pose().project(face.landmarks(np.concatenate([subjects.identity[3], subjects.expression[3, -1]])))
    assert np.linalg.norm(photo.landmarks - shown, axis=1).mean() < 0.02
    readout.reset()
    assert readout.subject()[1] == 0.0


def test_wrong_regions_are_replaced(fitted, subjects):
    """Any 3x3 patch moved by 5 to 15 % of the crop, or a quarter shuffled: found, replaced, and the face stays."""
    model, rng = fitted[0], np.random.default_rng(2)
    for p in range(12):
        keypoints, log_variance = subjects.keypoints[p, 0].astype(np.float64), subjects.log_variance[p, 0]
        right = SubjectReadout(model).add(keypoints, log_variance)
        assert right.inliers.mean() > 0.95
        corner, angle = rng.integers(0, 14, 2), rng.uniform(0, 6.28)
        patch = ((corner[0] + np.arange(3))[:, None] * 16 + corner[1] + np.arange(3)).ravel()
        moved, shuffled, some = keypoints.copy(), keypoints.copy(), rng.choice(256, 64, replace=False)
        moved[patch] += rng.uniform(0.05, 0.15) * np.array([np.cos(angle), np.sin(angle)])
        shuffled[some] = shuffled[rng.permutation(some)]
        for wrong, which in ((moved, patch), (shuffled, some)):
            far = np.linalg.norm(wrong - keypoints, axis=1)[which] > 0.04
            found = SubjectReadout(model).add(wrong, log_variance)
            assert not found.inliers[which][far].any() and found.typicality <= MAX_TYPICALITY
            assert np.linalg.norm(found.landmarks - right.landmarks, axis=1).mean() < 0.01


def test_a_clean_field_stays_as_it_is(fitted, subjects):
    face = face_keypoints(load_face_model())
    seen = observe(subjects.keypoints[5, 1], face.template)
    field = seen.offsets @ seen.rows.T
    found = clean(field, fitted[0].precision)
    assert found.inliers.all()
    np.testing.assert_array_equal(found.field, field)


def test_noise_makes_no_monster(fitted, subjects, caplog):
    keypoints = subjects.keypoints[0, 0] + np.random.default_rng(3).normal(size=(256, 2)) * 0.3
    assert SubjectReadout(fitted[0]).add(keypoints, subjects.log_variance[0, 0]).typicality <= MAX_TYPICALITY


def test_keypoints_that_are_not_finite_are_not_kept(fitted, subjects):
    readout = SubjectReadout(fitted[0])
    readout.add(subjects.keypoints[0, 0], subjects.log_variance[0, 0])
    before, wrong = readout.subject()[0], subjects.keypoints[0, 1].copy()
    wrong[17, 1] = np.nan
    with pytest.raises(NotFittable, match="must be finite"):
        readout.add(wrong, subjects.log_variance[0, 1])
    with pytest.raises(ValueError, match=r"received \(255, 2\)"):
        readout.add(wrong[1:], subjects.log_variance[0, 1])
    np.testing.assert_array_equal(readout.subject()[0], before)
    assert readout.count == 1


def test_the_file(fitted, tmp_path, subjects):
    (tmp_path / "weights.npz").write_bytes(b"weights")
    import hashlib
    model = fitted[0]._replace(weights=hashlib.sha256(b"weights").hexdigest())
    write_keypoint_model(tmp_path, model)
    found = read_keypoint_model(tmp_path)
    photos = [SubjectReadout(m).add(subjects.keypoints[0, 0], subjects.log_variance[0, 0]) for m in (model, found)]
    np.testing.assert_allclose(photos[0].vertices(), photos[1].vertices(), atol=0.1)        # mm: float16
    (tmp_path / "weights.npz").write_bytes(b"others")
    with pytest.raises(ValueError, match=f"{FILE}: was fitted to other weights"):
        read_keypoint_model(tmp_path)
    (tmp_path / FILE).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=f"{FILE}: holds no keypoint model"):
        read_keypoint_model(tmp_path)
    with pytest.raises(ValueError, match=f"{FILE}: holds no keypoint model"):
        read_keypoint_model(tmp_path / "missing")
