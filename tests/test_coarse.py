"""The coarse network: sizes by hand, every trunk and head, its loss by hand and against a slow twin."""
import dataclasses

import keras
import numpy as np
import pytest

from Dataset.face_model.model import load_face_model
from Dataset.representations.coefficients import COUNT, linear
from Network.losses.coarse import POSE_UNITS, coarse_loss
from Network.models import coarse

TINY = coarse.Config(image_size=16, stem_filters=8, stem_pool=False, filters=(8, 16), blocks=(1, 1))


def test_the_default_is_hes_18_layers():
    model = coarse.build(coarse.COARSE)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len([x for x in convolutions if not x.name.endswith("_shortcut")]) == 17
    assert model.output_shape == (None, COUNT)
    assert model.input_shape == (None, 200, 200, 9)
    # 7x7 of 9 channels in place of 3, 290 numbers in place of 1,000, moving averages counted: ResNet-18 has 11,689,512
    assert model.count_params() == 11_689_512 + 49 * 6 * 64 - 513 * 1000 + 513 * 290 + 4800 * 2


@pytest.mark.parametrize("feedback, channels, count", [(True, 9, 1_866_754), (False, 3, 1_857_346)])
def test_the_small_one(feedback, channels, count):
    """Half of He's widths and less on top; without feedback the first convolution alone differs."""
    model = coarse.build(dataclasses.replace(coarse.SMALL, feedback=feedback))
    assert model.count_params() == count and model.input_shape == (None, 128, 128, channels)
    assert 1_866_754 - 1_857_346 == 7 * 7 * 6 * 32


@pytest.mark.parametrize("change", [{}, {"block": "bottleneck"}, {"trunk": "mobilenet"},
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
    for index, value in changes:
        out[0, index] = value
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
