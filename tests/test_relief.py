"""Network/relief.py and what begins with it: the mean face's depths against its turned places, masks, slabs by hand."""
import keras
import numpy as np
import pytest
from keras import ops

from Dataset.face_model import load_face_model
from Dataset.renders import coarse_grid
from Dataset.representations.coefficients import POSE, mean_face, project
from Dataset.representations.depth import decode_depth, encode_depth
from Dataset.transforms import rotation_from_euler, to_unit_sphere
from Network.coarse import CameraPose
from Network.correspondence import FaceFrame
from Network.pix2pix import AsValues, OnFace
from Network.places import MovingMap
from Network.relief import HardMask, Relief, third_row
from Network.vrn import Middled, Slab


def posed(count: int, seed: int = 0):
    """The mean face's places mm (256, 3), poses (count, 6), where they are seen (count, 256, 2)."""
    rng, model = np.random.default_rng(seed), load_face_model()
    poses = rng.uniform([-1, -.5, -.5, -.3, -.1, -.1], [1, .5, .5, .3, .1, .1], (count, 6)).astype(np.float32)
    seen = np.stack([project(mean_face(pose)) for pose in poses]).astype(np.float32)
    return coarse_grid(model) @ model.mean, poses, seen


def framed(places: np.ndarray, seen: np.ndarray):
    frame, nothing = FaceFrame(), np.zeros((*seen.shape[:2], 2), np.float32)
    frame(seen, nothing[..., 0], nothing)
    frame.set_template(to_unit_sphere(places)[0])
    return frame(seen, nothing[..., 0], nothing)


def test_the_third_row_is_the_cross_product():
    rows = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    np.testing.assert_allclose(third_row(rows.reshape(4, 6)), np.cross(rows[:, 0], rows[:, 1]), atol=1e-6)


def test_depths_are_those_of_the_turned_mean_face():
    places, poses, seen = posed(5)
    frame, layer, by = framed(places, seen), Relief(), np.zeros((5, 16, 16, 1), np.float32)
    layer(frame, by)
    layer.set_template(to_unit_sphere(places)[0])
    found = np.asarray(layer(frame, by))
    for pose, depths in zip(poses, found):
        towards = (places @ rotation_from_euler(*np.degrees(pose[:3])).T)[:, 2] * np.exp(pose[3]) / 200
        np.testing.assert_allclose(depths, towards - towards.mean(), atol=2e-4)
    by[0, 3, 4] = 0.5           # in units of the face's own size
    changed = np.asarray(layer(frame, by)) - found
    radius = 1 / to_unit_sphere(places)[1].scale
    assert np.count_nonzero(changed) == 1
    assert changed[0, 52] == pytest.approx(0.5 * radius * np.exp(poses[0, 3]) / 200, rel=1e-3)


def test_the_cameras_pose_is_the_true_one():
    places, poses, seen = posed(6, 1)
    frame, layer = framed(places, seen), CameraPose()
    layer(frame, seen)
    layer.set_template(places)
    found = np.asarray(layer(frame, seen))
    np.testing.assert_allclose(found[:, POSE], poses, atol=1e-4)
    assert not found[:, :POSE.start].any()


def test_values_between_the_places():
    rng = np.random.default_rng(2)
    seen = rng.uniform(0.1, 0.9, (2, 256, 2)).astype(np.float32)
    doubt, trust = rng.normal(size=(2, 256)).astype(np.float32), rng.normal(size=(2, 256, 1)).astype(np.float32)
    layer = MovingMap(12)
    plain = np.asarray(layer(seen, doubt, trust))
    slope = np.stack([0.3 * seen[..., 0] - 0.2 * seen[..., 1] + 0.1, np.full((2, 256), 0.7)], -1).astype(np.float32)
    both = np.asarray(layer(seen, doubt, trust, slope))
    assert both.shape == (2, 12, 12, 5)
    np.testing.assert_allclose(both[..., [0, 1, 4]], plain, atol=1e-5)
    centres = (np.arange(12) + 0.5) / 12
    x, y = np.meshgrid(centres, centres)
    inside = (x > 0.2) & (x < 0.8) & (y > 0.2) & (y < 0.8)
    np.testing.assert_allclose(both[:, inside, 2], np.stack([0.3 * x - 0.2 * y + 0.1] * 2)[:, inside], atol=0.02)
    np.testing.assert_allclose(both[..., 3], 0.7, atol=1e-3)


def test_a_hard_mask_learns_as_a_soft_one():
    tf = pytest.importorskip("tensorflow")
    logits = tf.constant([-3.0, -0.1, 0.0, 0.1, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        found = HardMask()(logits)
    assert np.asarray(found).tolist() == [0, 0, 0, 1, 1]
    share = np.asarray(ops.sigmoid(logits))
    np.testing.assert_allclose(tape.gradient(found, logits), share * (1 - share), rtol=1e-5)


def test_depths_become_the_values_of_a_depth_map():
    """As `encode_depth` has them: a plane that falls back by a quarter of the crop from the left to the right."""
    depths = np.linspace(0, -0.25, 64)[None].astype(np.float32)
    values = np.asarray(AsValues()(depths))
    near, focal = 800.0, 64 * 4.0
    true = np.tile(near - depths[0] * near / 4, (64, 1)).astype(np.float32)       # a side is near / 4 mm
    np.testing.assert_allclose(values[0, :, 0], encode_depth(true, focal=focal)[0, :, 0], atol=1e-5)
    found = np.stack([np.full((1, 1, 64), 5.0), np.full((1, 1, 64), -0.1)], -1).astype(np.float32)
    found[0, 0, :8, 0] = -1.0
    depth = np.asarray(OnFace()(found, values[:, None]))
    assert (depth[0, 0, :8] == -1).all() and np.isnan(decode_depth(np.tile(depth[0], (2, 1, 1)))[:, :8]).all()
    np.testing.assert_allclose(depth[0, 0, 8:, 0], np.maximum(values[0, 8:, 0] - 0.1, -1), atol=1e-6)


def test_a_slab_lies_between_its_front_and_its_back():
    surface = np.zeros((1, 10, 10, 1), np.float32)
    surface[0, 0, 0] = 0.2                          # two layers nearer to the viewer
    changes = np.zeros((1, 10, 10, 23), np.float32)
    changes[..., 20] = 9.0
    changes[0, 5, 5, 20] = -4.0                     # off the face
    changes[0, 1, 1, 21], changes[0, 2, 2, 22], changes[0, 3, 3, 0] = 1.0, 1.0, 99.0
    logits = np.asarray(Slab()(changes, surface))
    assert logits.shape == (1, 10, 10, 20)
    inside = logits[0] > 0
    thick = 10 * Slab.THICK

    def layers(front: float, back: float) -> list[bool]:
        return [front < k + 0.5 < back for k in range(20)]
    assert inside[4, 4].tolist() == layers(10, 10 + thick)
    assert inside[0, 0].tolist() == layers(8, 8 + thick)
    assert inside[1, 1].tolist() == layers(11, 11 + thick)
    assert inside[2, 2].tolist() == layers(10, 11 + thick)
    assert inside[3, 3, 0] and not inside[5, 5].any() and logits[0, 5, 5].max() == -4
    np.testing.assert_allclose(Middled()(np.array([[1.0, 2.0, 4.0]], np.float32))[0, :, 0], [-1.5, -0.5, 1.5])


@pytest.mark.parametrize("layer, shapes", [
    (Relief, [(256, 20), (16, 16, 1)]), (HardMask, [(4,)]), (AsValues, [(256,)]), (OnFace, [(8, 8, 2), (8, 8, 1)]),
    (Middled, [(256,)]), (Slab, [(8, 8, 13), (8, 8, 1)]), (CameraPose, [(256, 20), (256, 2)])])
def test_layers_survive_a_file(tmp_path, layer, shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    model = keras.Model(inputs, layer()(*inputs))
    arrays = [np.random.default_rng(i).normal(size=(2, *shape)).astype(np.float32) for i, shape in enumerate(shapes)]
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras", compile=False)
    found = np.asarray(model(arrays))
    assert found.shape == model.compute_output_shape([a.shape for a in arrays] if len(arrays) > 1 else arrays[0].shape)
    np.testing.assert_array_equal(found, again(arrays))
