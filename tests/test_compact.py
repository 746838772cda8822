"""The compact network: its geometry against slow twins, its memory against the batch, its size."""
import dataclasses

import keras
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from Network.layers.canonical import CanonicalFeatures
from Network.layers.grid import grid_normals, interpolation, resample, texels
from Network.layers.heat_maps import MARGIN, BilinearSampling, KeypointCorrection, SoftArgmax
from Network.losses.points import KEYPOINT_UNIT, keypoint_loss
from Network.models import compact
from Network.models.registry import get_network

TINY = compact.Config(image_size=32, encoder_filters=(4, 6, 8, 8), encoder_blocks=(0, 0, 1, 1), pyramid_filters=8,
                      appearance=3, fine_filters=4, refine_filters=5)


def _orthonormal_twin(affine):
    """Polar factor by SVD, and the mean singular value."""
    u, s, vt = np.linalg.svd(affine, full_matrices=False)
    return u @ vt, s.mean()


def test_size_of_the_preset():
    model = compact.build(compact.COMPACT)
    assert model.count_params() == 3_781_300
    shapes = {name: output.shape for name, output in model.output.items()}
    assert shapes == {"keypoints": (None, None, 256, 2), "log_variance": (None, None, 256)}
    assert get_network("compact") is compact.NETWORK


def test_correspondences_find_the_centre_of_mass():
    maps = np.full((1, 4, 4, 2), -50.0, np.float32)
    maps[0, 1, 2, 0] = 50                           # all heat in row 1, column 2
    maps[0, 0, 0, 1] = maps[0, 0, 3, 1] = 50        # half at either end of row 0
    features = np.arange(32, dtype=np.float32).reshape(1, 4, 4, 2)
    keypoints, log_variance, appearance = SoftArgmax()(maps, features)
    reach = 1 + 2 * MARGIN
    expected = [[2.5 / 4 * reach - MARGIN, 1.5 / 4 * reach - MARGIN], [0.5, 0.5 / 4 * reach - MARGIN]]
    np.testing.assert_allclose(keypoints[0], expected, atol=1e-6)
    np.testing.assert_allclose(appearance[0, :, 0], [2 * 6 + 1, 4], atol=1e-5)       # feature 1 of cell 6, of 0 and 3
    np.testing.assert_allclose(log_variance[0], [6, 3], atol=1e-5)                     # clipped at 6; mean of 0 and 6


def test_sampling_is_bilinear_interpolation():
    rng = np.random.default_rng(11)
    features = rng.random((2, 6, 9, 3), np.float32)
    positions = rng.uniform(-0.2, 1.2, (2, 40, 2)).astype(np.float32)
    cells = positions * [9, 6] - 0.5
    expected = [[map_coordinates(image[..., k], cell.T[::-1], order=1, mode="nearest") for k in range(3)]
                for image, cell in zip(features, cells)]
    # the last cell of either axis is reached to a thousandth
    np.testing.assert_allclose(BilinearSampling()(features, positions), np.moveaxis(expected, 1, 2), atol=2e-3)
    inner = (np.abs(positions - 0.5) < 0.4).all(-1)
    np.testing.assert_allclose(np.asarray(BilinearSampling()(features, positions))[inner],
                               np.moveaxis(expected, 1, 2)[inner], atol=1e-5)


def test_correction_by_hand():
    keypoints, log_variance = np.full((1, 4, 2), 0.5, np.float32), np.full((1, 4), 5.5, np.float32)
    by = np.zeros((1, 2, 2, 4), np.float32)
    by[0, 1, 0] = [1, -2, 3, 7]                     # keypoint 2
    moved, updated, appearance = KeypointCorrection()(keypoints, log_variance, np.ones((1, 4, 1), np.float32), by)
    np.testing.assert_allclose(moved[0, 2], [0.5 + KEYPOINT_UNIT, 0.5 - 2 * KEYPOINT_UNIT], rtol=1e-6)
    np.testing.assert_allclose(np.ravel(updated), [5.5, 5.5, 6, 5.5])         # clipped at 6
    np.testing.assert_allclose(np.ravel(appearance), [1, 1, 8, 1])


def test_a_second_look_begins_as_none_and_learns_to_correct():
    images = np.random.default_rng(12).random((1, 2, 32, 32, 3), np.float32)
    once = compact.build_training(dataclasses.replace(TINY, refinements=0))
    twice = compact.build_training(dataclasses.replace(TINY, refinements=2))
    for layer in once.layers:
        twice.get_layer(layer.name).set_weights(layer.get_weights())
    a, b = once(images), twice(images)
    assert "first_keypoints" not in a
    for name in a:
        np.testing.assert_allclose(a[name], b[name], atol=1e-6, err_msg=name)
    kernel = twice.get_layer("refinement_1_correction").kernel
    kernel.assign(keras.random.normal(kernel.shape, seed=0))
    np.testing.assert_array_equal(twice(images)["first_keypoints"], b["first_keypoints"])
    assert np.abs(twice(images)["keypoints"] - b["keypoints"]).max() > 1e-3


def test_face_frame_undoes_a_camera():
    """Keypoints made by scaled orthography of a deformed template give back the deformation, as the camera sees it."""
    rng = np.random.default_rng(0)
    template = rng.normal(size=(256, 3))
    frame = CanonicalFeatures()
    frame.build((None, 256, 2), (None, 256), (None, 256, 2))
    frame.set_template(template)
    template = template - template.mean(0)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    deformed = template + 0.01 * rng.normal(size=template.shape)
    seen = 0.3 * deformed @ rotation[:2].T + [0.4, -0.6]
    keypoints = (seen * [1, -1]).astype(np.float32)[None]
    out = np.asarray(frame(keypoints, np.zeros((1, 256), np.float32), np.zeros((1, 256, 2), np.float32)))[0]
    affine = np.linalg.lstsq(template, seen - seen.mean(0), rcond=None)[0].T
    rows, scale = _orthonormal_twin(affine)
    np.testing.assert_allclose(out[0, 9:15].reshape(2, 3), rows, atol=1e-4)
    np.testing.assert_allclose(np.exp(out[0, 15]), scale, rtol=1e-4)
    residual = 20 * ((seen - seen.mean(0)) / scale - template @ rows.T)
    np.testing.assert_allclose(out[:, :2], residual, atol=5e-3)
    np.testing.assert_allclose(out[:, 2:5], residual @ rows, atol=5e-3)
    np.testing.assert_allclose(out[:, 8], 0.5, atol=1e-6)
    assert np.abs(rows @ rows.T - np.eye(2)).max() < 1e-6


def test_a_collapsed_camera_stays_finite():
    frame = CanonicalFeatures()
    out = frame(np.full((2, 64, 2), 0.5, np.float32), np.zeros((2, 64), np.float32), np.zeros((2, 64, 1), np.float32))
    assert np.isfinite(np.asarray(out)).all()


def test_training_model_shares_the_weights():
    model, training = compact.build(TINY), compact.build_training(TINY)
    training.set_weights(model.get_weights())
    images = np.random.default_rng(2).random((1, 2, 32, 32, 3), np.float32)
    out = training(images)
    assert set(out) == {"keypoints", "log_variance", "first_keypoints"}
    for name, value in model(images).items():
        np.testing.assert_array_equal(out[name], value)
    alone = model(images[:, 1:])["keypoints"]
    np.testing.assert_allclose(alone[:, 0], out["keypoints"][:, 1], atol=1e-6)      # photos do not see each other


def test_keypoints_of_the_example_photo():
    """The bundled weights find what those with a memory and a head behind the keypoints found."""
    from Dataset.io.images import crop_resize, minmax
    from Dataset.io.inputs import example_image
    from Network.readout.finder import keypoint_finder
    from Network.engine.loaded import DEFAULT_MODEL
    crop = crop_resize(example_image().image, (167, 57, 113, 113), 128, "area")
    keypoints, log_variance = keypoint_finder(DEFAULT_MODEL)(minmax(crop)[None])
    known = [[0.179155, 0.069515], [0.324294, 0.120507], [0.241625, 0.373650], [0.552521, 0.537564],
             [0.543569, 0.768458], [0.821220, 0.872574]]
    np.testing.assert_allclose(keypoints[0, [0, 37, 100, 136, 200, 255]], known, atol=1e-5)
    np.testing.assert_allclose(log_variance[0, [0, 37, 100]], [-0.30650, -1.37378, -2.32387], atol=1e-4)


def test_loss_by_hand():
    truth = {"keypoints": np.zeros((1, 1, 2, 2), np.float32), "seen": np.array([[[1, 0]]], np.float32)}
    keypoints = np.zeros((1, 1, 2, 2), np.float32)
    keypoints[0, 0, 1] = [KEYPOINT_UNIT * np.sqrt(3), 0]
    parts = keypoint_loss(truth, {"keypoints": keypoints, "log_variance": np.full((1, 1, 2), np.log(2), np.float32)})
    distance = 0.25 * (np.sqrt(1 + 3 / 0.25 ** 2) - 1)
    np.testing.assert_allclose(parts["keypoints"], 0.5 * 0.5 * distance / 0.75, rtol=1e-5)         # half weight
    np.testing.assert_allclose(parts["likelihood"], 0.1 * (np.log(2) + 0.5 * 1.5 / 2), rtol=1e-5)
    assert set(parts) == {"keypoints", "likelihood"}
    refined = keypoint_loss(truth, {"keypoints": 0 * keypoints, "first_keypoints": keypoints,
                                    "log_variance": np.zeros((1, 1, 2), np.float32)})
    np.testing.assert_allclose(refined["first"], 0.5 * parts["keypoints"], rtol=1e-6)
    assert float(refined["keypoints"][0]) == 0


def test_the_template_is_the_mean_faces():
    model = compact.build(TINY)
    mean = np.random.default_rng(3).normal(size=(1024, 3))
    compact.set_template(model, mean)
    few = resample(mean, 16)
    np.testing.assert_allclose(model.get_layer("canonical").template, few - few.mean(0), atol=1e-6)


@pytest.mark.parametrize("change, message", [
    ({"image_size": 100}, "multiple of 32"), ({"pyramid_filters": 0}, "pyramid_filters must be positive"),
    ({"encoder_blocks": (1,)}, "one value for each")])
def test_bad_config(change, message):
    with pytest.raises(ValueError, match=message):
        compact.Config(**change)


def test_resample_keeps_the_boundary_and_planes():
    side = 16
    rows, columns = np.mgrid[0:side, 0:side] / (side - 1)
    plane = np.stack([rows, columns, 2 * rows - columns], -1).reshape(-1, 3)
    for fine in (4, 31, 128):
        rows, columns = np.mgrid[0:fine, 0:fine] / (fine - 1)
        expected = np.stack([rows, columns, 2 * rows - columns], -1).reshape(-1, 3)
        np.testing.assert_allclose(resample(plane, fine), expected, atol=1e-12)
    np.testing.assert_allclose(interpolation(8, 8), np.eye(8), atol=1e-12)
    with pytest.raises(ValueError, match="square"):
        resample(plane[:-1], 4)


def test_texels_and_points_agree():
    """A texture made from points and read where grid_uv puts them gives them back, to the boundary."""
    side = 16
    rows, columns = np.mgrid[0:side, 0:side] / side
    values = np.stack([rows, columns], -1).reshape(-1, 2)
    texture = texels(values, 128)
    np.testing.assert_allclose(texels(texture, side), values, atol=2.5e-3)      # half a texel at the boundary
    inner = texture.reshape(128, 128, 2)[4:-4, 4:-4, 1]         # a ramp stays a ramp, half a cell from the border
    np.testing.assert_allclose(np.diff(inner, axis=1), 1 / 128, atol=1e-9)


def test_normals_point_out_of_the_face():
    from Dataset.face_model.model import load_face_model
    from Dataset.representations.points import encode
    normals = grid_normals(encode(load_face_model().mean).reshape(-1, 3))
    grid = normals.reshape(128, 128, 3)
    assert grid[64, 64, 2] > 0.5                # the middle of the face looks forwards
    assert grid[:, 5, 0].mean() < -0.5 and grid[:, -6, 0].mean() > 0.5
