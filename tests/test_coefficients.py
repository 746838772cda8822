"""290 numbers: what they mean, there and back, cameras to weak perspective, another crop."""
import numpy as np
import pytest

from Dataset.face_model.model import load_face_model
from Dataset.geometry.camera import look_at_face
from Dataset.geometry.pose import Pose
from Dataset.geometry.transforms import rotation_from_euler
from Dataset.representations import coefficients as c, points
from Dataset.synthesis.renders import coarse_grid

MODEL = load_face_model()


def random_face(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    face = np.zeros(290, np.float32)
    face[c.IDENTITY], face[c.EXPRESSION] = MODEL.sample_identity(rng), MODEL.sample_expression(rng)
    face[c.POSE] = rng.normal(0, (0.6, 0.3, 0.35, 0.1, 0.06, 0.06))
    return face


def test_the_positions_of_the_numbers():
    assert (c.IDENTITY.stop, c.EXPRESSION.stop, c.POSE.stop, c.COUNT) == (200, 284, 290, 290)


def test_a_pose_by_hand():
    # 100 px crop; 200 mm as long as the crop: scale 0.5 px per mm; origin in the middle, 10 px up
    pose = c.decode_pose([0, 0, 0, 0, 0, -0.1], 100)
    assert pose.scale == pytest.approx(0.5) and pose.perspective == 0
    np.testing.assert_allclose(pose.translation, [50, 40])
    np.testing.assert_allclose(pose.project(np.array([[20, 10, 99.0]])), [[60, 35]])
    turned = c.decode_pose([np.radians(90), 0, 0, np.log(2), 0.5, 0.5], 100)
    np.testing.assert_allclose(turned.project(np.array([[0, 0, 10.0]])), [[110, 100]], atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_poses_come_back(seed):
    rng = np.random.default_rng(seed)
    angles = rng.uniform((-170, -80, -170), (170, 80, 170))
    pose = Pose(rotation_from_euler(*angles), float(rng.uniform(0.2, 2)), rng.uniform(0, 128, 2))
    numbers = c.encode_pose(pose, 128)
    np.testing.assert_allclose(np.degrees(numbers[:3]), angles, atol=1e-4)
    again = c.decode_pose(numbers, 128)
    np.testing.assert_allclose(again.rotation, pose.rotation, atol=1e-6)
    assert again.scale == pytest.approx(pose.scale, rel=1e-6)
    np.testing.assert_allclose(again.translation, pose.translation, atol=1e-4)


def test_any_finite_numbers_are_a_pose():
    pose = c.decode_pose([900, -1e6, 3, 1e9, -1e9, 1e9], 100)
    assert pose.scale == pytest.approx(100 * np.exp(1.5) / 200) and (pose.translation == [-150, 250]).all()


@pytest.mark.parametrize("what", ["vertices", "keypoints", "landmarks", "grid"])
def test_linear_points_are_the_models(what):
    face = random_face(3)
    vertices = MODEL.shape(face[c.IDENTITY], face[c.EXPRESSION])
    expected = {"vertices": lambda: vertices, "keypoints": lambda: coarse_grid(MODEL) @ vertices,
                "landmarks": lambda: MODEL.landmarks(vertices),
                "grid": lambda: points.encode(vertices, model=MODEL).reshape(-1, 3)}[what]()
    found = c.linear(MODEL, what)(face)
    np.testing.assert_allclose(found.T, expected, atol=2e-3)
    both = c.linear(MODEL, what)(np.stack([face, c.mean_face()]))
    np.testing.assert_allclose(both[0], found, atol=1e-4)
    np.testing.assert_allclose(c.vertices(face), vertices, atol=1e-9)
    assert c.decode(face, 64).shape == (4096, 3)


@pytest.mark.parametrize("seed", range(3))
def test_a_weakly_seen_face_is_encoded_exactly(seed):
    face = random_face(seed)
    seen = c.project(face, "keypoints", 128)
    again = c.encode(face[None, c.IDENTITY], face[None, c.EXPRESSION], seen[None], 128)[0]
    np.testing.assert_allclose(again, face, atol=2e-4)


def test_a_pinhole_becomes_the_nearest_weak_perspective():
    face = random_face(7)
    shown = c.linear(MODEL, "keypoints")(face).T.astype(float) @ rotation_from_euler(20, -10, 5).T
    for distance, most in ((400, 3.5), (1600, 0.8), (1e6, 1e-2)):
        camera = look_at_face(128, distance, 0.6 * distance, (3, -8))
        seen = camera.project(shown)
        pixels = np.stack([seen.x, seen.y], 1)
        found = c.encode(face[None, c.IDENTITY], face[None, c.EXPRESSION], pixels[None], 128)[0]
        miss = np.linalg.norm(c.project(found, "keypoints", 128) - pixels, axis=1).mean()
        assert miss < most
        # no other pose nearby is nearer
        for k in range(284, 290):
            for step in (-0.02, 0.02):
                other = found.copy()
                other[k] += step
                off = np.sqrt(((c.project(other, "keypoints", 128) - pixels) ** 2).sum(-1).mean())
                assert off > np.sqrt(((c.project(found, "keypoints", 128) - pixels) ** 2).sum(-1).mean()) - 0.02
    np.testing.assert_allclose(np.degrees(found[284:287]), [20, -10, 5], atol=0.02)


def test_the_same_head_in_another_crop():
    face, old, new = random_face(1), (100, 50, 200, 200), (130, 20, 160, 160)
    moved = c.recropped(face, old, new)
    before = c.project(face, "landmarks") * 200 + (100, 50)
    np.testing.assert_allclose(c.project(moved, "landmarks") * 160 + (130, 20), before, atol=1e-3)
    np.testing.assert_allclose(c.recropped(moved, new, old), face, atol=1e-5)


def test_difference_is_in_sides_of_the_crop():
    face = random_face(2)
    moved = face.copy()
    moved[288] += 0.03
    assert c.difference(face, moved) == pytest.approx(0.03, rel=1e-4) and c.difference(face, face) == 0


@pytest.mark.parametrize("bad, what", [(np.zeros(289), "290"), (np.full(290, np.nan), "finite"), (0.0, "290")])
def test_bad_numbers_are_refused(bad, what):
    with pytest.raises(ValueError, match=what):
        c.vertices(bad)


def test_an_unknown_word_is_refused():
    with pytest.raises(ValueError, match="what must be"):
        c.linear(MODEL, "nose")
