"""The coarse network: sizes by hand, every trunk and head, its loss by hand and against a slow twin."""
import dataclasses

import keras
import numpy as np
import pytest

from Dataset.face_model import load_face_model
from Dataset.representations.coefficients import COUNT, linear
from Network import coarse, compact
from Network.coarse_losses import POSE_UNITS, coarse_loss
from Network.loading import begin_with

TINY = coarse.Config(image_size=16, stem_filters=8, stem_pool=False, filters=(8, 16), blocks=(1, 1))


def test_the_default_is_hes_18_layers():
    model = coarse.build(coarse.COARSE)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len([x for x in convolutions if not x.name.endswith("_side")]) == 17 and model.output_shape == (None, COUNT)
    assert model.input_shape == (None, 200, 200, 9)
    # 7x7 of 9 channels in place of 3, 290 numbers in place of 1,000, moving averages counted: ResNet-18 has 11,689,512
    assert model.count_params() == 11_689_512 + 49 * 6 * 64 - 513 * 1000 + 513 * 290 + 4800 * 2


def test_the_compact_one_fits_its_box():
    model = coarse.build(coarse.COMPACT)
    assert model.count_params() == 4_234_632      # 7.9 MB as packed float16 (tests/test_weights.py)
    assert model.get_layer("head_seen").output.shape == (None, 3 * 256 + 7 + 3 * 256)


def test_the_head_of_places_begins_with_the_cameras_pose():
    """To which the last layer adds: without it, the pose of the places that were found is all there is."""
    keras.utils.set_random_seed(2)
    config = dataclasses.replace(TINY, image_size=32, trunk="plain", filters=(4, 6, 8, 8), blocks=(0, 0, 1, 0),
                                 head="places", head_filters=8, head_units=8, places=(8, 4, 6, 8), guess_at_places=True)
    model, mean = coarse.build(config), load_face_model().mean
    places = linear(load_face_model(), "places").mean.reshape(3, -1).T
    code = np.random.default_rng(1).random((256, 3))
    coarse.set_template(model, np.concatenate([places, code], axis=1))
    np.testing.assert_allclose(model.get_layer("misfit").code, code, atol=1e-6)
    np.testing.assert_allclose(model.get_layer("camera_pose").ball[:3], places.mean(0), atol=1e-4)
    template = np.asarray(model.get_layer("face_frame").template)
    assert np.linalg.norm(template, axis=1).max() == pytest.approx(1, abs=1e-5) and len(mean) > 256
    images = np.random.default_rng(0).random((3, 32, 32, 9), np.float32)
    pose = np.asarray(keras.Model(model.input, model.get_layer("camera_pose").output)(images))
    assert not pose[:, :284].any() and np.abs(pose[:, 284:]).max() > 0.05
    layer, before = model.get_layer("coefficients"), np.asarray(model(images, training=False))
    layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    np.testing.assert_allclose(model(images, training=False), pose, atol=1e-6)
    assert np.abs(before - pose).max() > 1e-3
    with pytest.raises(ValueError, match="head places wants trunk plain"):
        dataclasses.replace(config, places=(1, 2))


def test_the_misfit_is_what_the_guess_shows_elsewhere():
    """A guess whose PNCC grows by 0.01 a pixel: half a pixel off is 0.005, by a tenth, a little less; far off and
    beside the face, nothing."""
    images = np.zeros((1, 16, 16, 9), np.float32)
    images[0, ..., 3] = 0.3 + 0.01 * np.arange(16)
    images[0, ..., 4:6] = 0.5
    images[0, :, 12:] = 0                               # no face there
    x = np.array([4.5, 4.5, 4.5, 13.5, 12.0], np.float32)
    places = np.stack([x / 16, np.full(5, 0.5)], -1)[None].astype(np.float32)
    layer = coarse.Misfit()
    assert np.asarray(layer(images, places)).shape == (1, 15)
    layer.code.assign([[0.34, 0.5, 0.5], [0.335, 0.5, 0.5], [0.34, 0.5, 0.65], [0.43, 0.5, 0.5], [0.41, 0.5, 0.5]])
    found = np.asarray(layer(images, places)).reshape(5, 3)
    np.testing.assert_allclose(found[:2], [[0, 0, 0], [0.05 * (1 - 0.05 ** 2) ** 2, 0, 0]], atol=1e-5)
    assert not found[2:].any()
    near = np.asarray(layer(images, places + np.float32(1e-4)))[0, 3] - np.asarray(layer(images, places))[0, 3]
    assert near == pytest.approx(16 * 1e-4 * 0.1 * (1 - 0.05 ** 2) ** 2, rel=0.02)      # so places learn from it


def test_the_plain_trunk_is_the_encoder_of_compact(tmp_path):
    """Its weights fill the first three channels' kernels: PNCC and normals change nothing until they are learnt."""
    config = compact.Config(image_size=32, points=64, encoder_filters=(4, 6, 8, 8), encoder_blocks=(0, 0, 1, 1))
    first = compact.build(config)
    first.save(tmp_path / "first.keras")
    model = coarse.build(dataclasses.replace(TINY, trunk="plain", image_size=32, filters=(4, 6, 8, 8),
                                             blocks=(0, 0, 1, 1)))
    assert begin_with(model, str(tmp_path / "first.keras"), ("down_", "block_")) == 16
    images = np.random.default_rng(3).random((2, 32, 32, 9), np.float32)
    images[1, ..., :3] = images[0, ..., :3]
    found = np.asarray(keras.Model(model.input, model.get_layer("block_3_0").output)(images))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    theirs = keras.Model(first.input, first.get_layer("block_3_0").output)(images[None, :1, ..., :3])
    np.testing.assert_allclose(found[:1], theirs, atol=1e-5)


@pytest.mark.parametrize("change", [{}, {"block": "bottleneck"}, {"trunk": "mobilenet"}, {"trunk": "plain"},
                                    {"stem_pool": True}, {"head": "flatten"}, {"image_size": 20}])
def test_every_trunk_begins_near_the_mean_face(change):
    keras.utils.set_random_seed(1)
    config = dataclasses.replace(TINY, **change)
    model = coarse.build(config)
    images = np.random.default_rng(0).random((3, config.image_size, config.image_size, 9), np.float32)
    found = np.asarray(model(images, training=False))
    assert found.shape == (3, COUNT) and found.dtype == np.float32 and 0 < np.abs(found).max() < 0.5
    assert all(np.abs(w).max() > 0 for w in model.get_weights() if w.ndim == 4)


def test_answers_are_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = coarse.build(TINY)
    finally:
        keras.config.set_dtype_policy("float32")
    assert str(np.asarray(model(np.zeros((1, 16, 16, 9), np.float32))).dtype) == "float32"


def test_a_saved_network_gives_the_same(tmp_path):
    model = coarse.build(TINY)
    model.save(tmp_path / "m.keras")
    images = np.random.default_rng(0).random((2, 16, 16, 9), np.float32)
    again = keras.models.load_model(tmp_path / "m.keras", compile=False)
    assert np.array_equal(np.asarray(model(images)), np.asarray(again(images)))


@pytest.mark.parametrize("change, what", [({"trunk": "vgg"}, "trunk must be"), ({"block": "x"}, "block must be"),
                                          ({"filters": (8,)}, "one value for each level"),
                                          ({"stem_filters": 0}, "stem_filters must be positive"),
                                          ({"image_size": 4}, "image_size must be at least"),
                                          ({"geometry_norm": "l3"}, "geometry_norm must be")])
def test_bad_settings_are_refused(change, what):
    with pytest.raises(ValueError, match=what):
        dataclasses.replace(TINY, **change)


def numbers(*changes):
    out = np.zeros((1, COUNT), np.float32)
    for place, value in changes:
        out[0, place] = value
    return out


@pytest.fixture(scope="module")
def small_basis():
    return np.random.default_rng(0).normal(0, 1, (284, 15)).astype(np.float32)


def test_the_loss_by_hand(small_basis):
    basis = np.zeros((284, 3), np.float32)
    basis[0], basis[200] = (3, 0, 0), (-1, 0, 2)
    x = numbers((0, 1.0), (200, 0.5), (284, 0.2), (289, 0.02))
    parts = {k: float(np.asarray(v)[0]) for k, v in coarse_loss(basis)(numbers(), x).items()}
    # |3 - 0.5| + |2 * 0.5| of three coordinates; (0.2 / 0.1)^2 + (0.02 / 0.02)^2 of six numbers
    assert parts == {"geometry": pytest.approx(3.5 / 3), "pose": pytest.approx(5 / 6)}
    parts = {k: float(np.asarray(v)[0]) for k, v in coarse_loss(basis, "l2", "apart", 2.0)(numbers(), x).items()}
    assert parts == {"identity": pytest.approx(3), "expression": pytest.approx((0.25 + 1) / 3),
                     "pose": pytest.approx(10 / 6)}


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("geometry", ["whole", "apart"])
def test_the_loss_equals_a_slow_twin_on_vertices(norm, geometry):
    model, rng = load_face_model(), np.random.default_rng(4)
    truth, found = rng.normal(0, 0.5, (2, 3, COUNT)).astype(np.float32)
    parts = coarse_loss(linear(model, "vertices").basis, norm, geometry)(truth, found)

    def distance(i, *kinds):
        a, b = (model.shape(x[i, :200] * ("id" in kinds), x[i, 200:284] * ("exp" in kinds)) for x in (truth, found))
        return np.abs(a - b).mean() if norm == "l1" else ((a - b) ** 2).mean()
    for i in range(3):
        expected = {"geometry": distance(i, "id", "exp")} if geometry == "whole" else {
            "identity": distance(i, "id"), "expression": distance(i, "exp")}
        for name, value in expected.items():
            assert float(np.asarray(parts[name])[i]) == pytest.approx(value, rel=1e-3)
        miss = (truth[i, 284:] - found[i, 284:]) / POSE_UNITS
        assert float(np.asarray(parts["pose"])[i]) == pytest.approx((miss ** 2).mean(), rel=1e-4)


def test_no_error_costs_nothing(small_basis):
    x = np.random.default_rng(0).normal(0, 1, (2, COUNT)).astype(np.float32)
    assert all((np.asarray(v) == 0).all() for v in coarse_loss(small_basis)(x, x).values())


def test_bad_losses_are_refused(small_basis):
    for bad in (small_basis[:283], small_basis[0]):
        with pytest.raises(ValueError, match="basis must be"):
            coarse_loss(bad)
    with pytest.raises(ValueError, match="norm must be"):
        coarse_loss(small_basis, "l0")
    with pytest.raises(ValueError, match="must be .B, 290."):
        coarse_loss(small_basis)(np.zeros((1, 289), np.float32), np.zeros((1, 290), np.float32))
