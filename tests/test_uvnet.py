"""Network/models/uvnet.py and its loss: the listing's sizes, what a pixel sees, maps read and refused, a slow twin."""
import dataclasses

import keras
import numpy as np
import pytest

from Network.inference.readings import read_maps
from Network.losses.points import MIN_LOG_VARIANCE, maps_of_the_face
from Network.models import uvnet
from Network.models.registry import get_network
from Network.training.presets import resolve
from Network.training.settings import Settings
from Network.training.step import GradientStep, make_optimizer
from tests.test_uvnet_loss import sample

TINY = uvnet.Config(image_size=16, levels=2, first_features=4)
UNET = dataclasses.replace(uvnet.SMALL, image_size=16, levels=2, stem=6, features=(6, 8), up_features=(6, 8),
                           batch_norm_momentum=0.8, confidence=True)


@pytest.mark.parametrize("levels, parameters, up", [
    (6, 43_749_632, (40, 70, 122, 215, 375, 656)), (7, 58_729_775, (40, 70, 122, 215, 375, 656, 1149))])
def test_size_is_the_papers(levels, parameters, up):
    config = uvnet.Config(levels=levels)
    model = uvnet.build(config)
    assert model.count_params() == parameters
    assert model.get_layer("pool_5").output.shape == (None, 2, 2, 525)
    assert config.down() == (32, 56, 98, 172, 300, 525, 919)[:levels] and config.up() == up
    assert model.output_shape == (None, 128, 128, 4) and model.get_layer("skip_0").output.shape[-1] == 40 + 3
    assert [model.get_layer(f"skip_{i}").output.shape[1:] for i in (5, 4, 1)] == [
        (4, 4, 656 + 300), (8, 8, 375 + 172), (64, 64, 70 + 32)]
    assert model.get_layer("up_0").activation is keras.activations.relu
    assert model.get_layer("maps").activation is keras.activations.linear


def test_the_presets():
    assert get_network("uvnet") is uvnet.NETWORK and uvnet.PRESETS["uvnet"] == uvnet.Config()
    model = uvnet.build(uvnet.SMALL)
    assert model.count_params() == 1_932_720 and model.output_shape == (None, 64, 64, 4)
    assert model.get_layer("pool_3").output.shape == (None, 2, 2, 112)
    assert all(size % 16 == 0 for size in uvnet.SMALL.down() + uvnet.SMALL.up())        # the fused normalisation's
    paper, small = resolve("uvnet", {}), resolve("uvnet-small", {})
    assert paper["train"]["learning_rate"] == 1e-4 and paper["train"]["schedule"] == "plateau"
    assert paper["train"]["plateau_factor"] == 0.1 and paper["train"]["plateau_beta1"] == 0.99
    assert paper["data"] == {"batch_size": 40, "image_size": 128, "scaling": "unit"}
    assert paper["model"] == dataclasses.asdict(uvnet.UVNET)
    assert small["model"] == dataclasses.asdict(uvnet.SMALL) and small["data"]["scaling"] == "unit"
    assert small["data"]["fade_epochs"] < small["train"]["epochs"] and small["train"]["choose_by"] == "uv"
    data = small["data"]
    assert small["train"]["epochs"] * data["batches"] * data["batch_size"] >= 150_000
    assert not small["model"]["confidence"] and "photos" not in data      # neither is the paper's
    assert uvnet.NETWORK.loss(uvnet.UVNET, None).func is maps_of_the_face
    typed = resolve("uvnet-small", {"data": {"scaling": "minmax"}})
    assert typed["model"]["scaling"] == typed["data"]["scaling"] == "minmax"


@pytest.mark.parametrize("config", [uvnet.UVNET, uvnet.SMALL])
def test_the_network_is_a_u_net_and_nothing_else(config):
    """No layer of another network, whatever the Config."""
    kinds = {type(layer).__name__ for layer in uvnet.build(config).layers}
    own = {"InputLayer", "Conv2D", "Conv2DTranspose", "MaxPooling2D", "Concatenate"}
    small = {"BatchNormalization", "ReLU", "Reshape", "Permute"}       # normalisation, and the way back from the stem
    assert kinds == (own if config is uvnet.UVNET else own | small)


def test_any_size_that_the_levels_divide():
    model = uvnet.build(dataclasses.replace(TINY, image_size=24))
    model.set_weights(uvnet.build(TINY).get_weights())
    assert model(np.zeros((2, 24, 24, 3), np.float32)).shape == (2, 24, 24, 4)


@pytest.mark.parametrize("change, message", [
    ({"image_size": 100}, "image_size must be a multiple of 64, got 100"), ({"image_size": 64, "stem": 16}, "of 128"),
    ({"levels": 0}, "levels must be positive"), ({"stem": -1}, "stem must be at least 0, got -1"),
    ({"last_convolutions": -1}, "last_convolutions must be at least 0"),
    ({"normalisation": "layer"}, "normalisation must be one of none, batch, got 'layer'"),
    ({"scaling": "sphere"}, "scaling must be one of unit, minmax, got 'sphere'"),
    ({"output_initializer": "ones"}, "output_initializer must be one of glorot_uniform, zeros"),
    ({"features": (8, 8)}, "features must have one value for each of the 6 levels"),
    ({"convolutions": 0}, "convolutions must be positive"),
    ({"auxiliary_features": 0}, "auxiliary_features must be positive"),
    ({"kernel_sizes": ()}, "kernel_sizes must have at least one value"),
    ({"kernel_sizes": (5, 0)}, r"kernel_sizes must be positive, got \(5, 0\)")])
def test_bad_config(change, message):
    with pytest.raises(ValueError, match=message):
        uvnet.Config(**change)


@pytest.mark.parametrize("config", [uvnet.SMALL, dataclasses.replace(uvnet.UVNET, first_features=12)])
def test_every_pixel_sees_the_whole_image(config):
    keras.utils.set_random_seed(0)
    model = uvnet.build(config)
    side = config.image_size
    images = np.random.default_rng(0).random((3, side, side, 3), np.float32)
    images[1:] = images[0]
    images[1, :4, :4], images[2, -4:, -4:] = 0, 0
    rng = np.random.default_rng(1)
    for kernel in (weight for weight in model.weights if weight.name == "kernel" and not np.any(weight)):
        kernel.assign(rng.normal(0, 0.1, kernel.shape))     # as after training: maps of 0 see nothing
    a, b, c = np.asarray(model(images))
    assert (a[-2:, -2:] != b[-2:, -2:]).any(-1).all() and (a[:2, :2] != c[:2, :2]).any(-1).all()


def test_after_a_stem_a_pixel_becomes_four():
    model = uvnet.build(UNET)
    head = model.get_layer("maps")
    head.set_weights([np.zeros(head.kernel.shape), np.arange(16)])
    maps = np.asarray(model(np.zeros((1, 16, 16, 3), np.float32)))[0, ..., :4]
    np.testing.assert_array_equal(maps[:2, :2].reshape(4, 4), np.arange(16).reshape(4, 4))  # row, column, channel
    np.testing.assert_array_equal(maps, np.tile(maps[:2, :2], (8, 8, 1)))


def test_confidence_adds_channels_only():
    plain, with_confidence = uvnet.build(TINY), uvnet.build(dataclasses.replace(TINY, confidence=True))
    for layer in plain.layers:
        with_confidence.get_layer(layer.name).set_weights(layer.get_weights())
    images = np.random.default_rng(1).random((2, 16, 16, 3), np.float32)
    np.testing.assert_array_equal(with_confidence(images)[..., :4], plain(images))
    x = np.array([-1e4, MIN_LOG_VARIANCE, 0, 50], np.float32)
    expected = np.log(np.exp(x.astype(float)) + np.exp(MIN_LOG_VARIANCE))
    np.testing.assert_allclose(uvnet.floored_log_variance(x), expected, atol=1e-5)


def test_output_is_float32_in_half_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = uvnet.build(UNET)
        assert model(np.zeros((1, 16, 16, 3), np.float32)).dtype == "float32"
        assert model.get_layer("up_0_0").compute_dtype == "bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")


OUTLOOK = dataclasses.replace(UNET, depth=True, landmarks=True, pose=True, auxiliary_features=8)


def test_the_outlooks_outputs():
    model = uvnet.build_training(OUTLOOK)
    images = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    output = model(images)
    assert {name: tuple(value.shape) for name, value in output.items()} == {
        "maps": (2, 16, 16, 7), "landmarks": (2, 68, 2), "pose": (2, 6)}
    only = uvnet.predicting_part(model)
    np.testing.assert_array_equal(only(images), output["maps"])
    built = uvnet.build(OUTLOOK)          # as a packed model is read
    built.set_weights(only.get_weights())
    np.testing.assert_array_equal(built(images), output["maps"])
    assert only.count_params() < model.count_params()
    assert uvnet.data_settings(OUTLOOK) == {"scaling": "unit", "extras": ("depth", "landmarks", "pose")}
    assert uvnet.data_settings(uvnet.SMALL) == {"scaling": "unit"}


def test_without_them_the_network_is_what_it_was():
    for config in (TINY, UNET):
        model = uvnet.build_training(config)
        assert uvnet.predicting_part(model) is model and not isinstance(model.output, dict)


@pytest.mark.parametrize("initializer", ["zeros", "glorot_uniform"])
def test_how_the_last_kernels_begin(initializer):
    model = uvnet.build(dataclasses.replace(UNET, output_initializer=initializer))
    for name in ("maps", "log_variance"):
        assert np.any(model.get_layer(name).kernel) != (initializer == "zeros"), name


@pytest.mark.parametrize("config", [dataclasses.replace(TINY, first_features=8), UNET,
                                    dataclasses.replace(OUTLOOK, auxiliary_features=32)])
def test_learns(config):
    """An image of its own coordinates: the error of u and v falls to a fraction; where the disc lies is learned."""
    keras.utils.set_random_seed(4)
    truth = sample(np.random.default_rng(4), 16, 8)
    centre = truth["uv"].sum((1, 2)) / truth["mask"].sum((1, 2))
    radius = np.sqrt(truth["mask"].sum((1, 2)) / np.pi) / 16
    truth |= {"landmarks": np.repeat(centre[:, None], 68, 1), "pose": np.repeat(radius, 6, 1).astype(np.float32),
              "depth": np.where(truth["mask"] > 0, truth["uv"][..., :1], -1)} if config.pose else {}
    images = np.concatenate([truth["uv"], truth["mask"]], -1)
    optimizer = make_optimizer(Settings())
    optimizer.learning_rate = 0.01
    step = GradientStep(uvnet.build_training(config), optimizer, maps_of_the_face)
    before = step.evaluate(images, truth)
    for _ in range(60):
        step.train([(images, truth)])
    after = step.evaluate(images, truth)
    assert after["uv"].mean() < 0.25 * before["uv"].mean()
    for name in ("landmarks", "pose", "depth") if config.pose else ():
        assert after[name].mean() < 0.3 * before[name].mean(), name


def test_the_papers_network_trains_a_step_and_reloads(tmp_path):
    model = uvnet.build(uvnet.UVNET)
    before = model.get_layer("up_5").get_weights()[0]
    truth = sample(np.random.default_rng(5), 128, 1)
    images = np.random.default_rng(5).random((1, 128, 128, 3), np.float32)
    step = GradientStep(model, make_optimizer(Settings()), maps_of_the_face)
    assert np.isfinite(step.train([(images, truth)]))
    assert (model.get_layer("up_5").get_weights()[0] != before).any()
    model.save_weights(tmp_path / "uvnet.weights.h5")
    again = uvnet.build(uvnet.UVNET)
    again.load_weights(tmp_path / "uvnet.weights.h5")
    np.testing.assert_array_equal(again(images), model(images))


def test_a_saved_model_needs_no_code_of_its_own(tmp_path):
    model = uvnet.build(UNET)
    model.save(tmp_path / "m.keras")
    images = np.random.default_rng(6).random((1, 16, 16, 3), np.float32)
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(images), model(images))


def test_maps_are_read():
    output = np.zeros((4, 4, 6), np.float32)
    output[1:3, 1:3] = [0.25, 1.5, 0.9, 0.4, -9, -8]
    output[2, 2, 3], output[1, 1, 0], output[0, 0, 2] = 0.7, np.nan, 0.5
    maps = read_maps(output)
    assert np.argwhere(maps.mask).tolist() == [[1, 2], [2, 1], [2, 2]]
    assert np.argwhere(maps.visible_mask).tolist() == [[2, 2]]
    np.testing.assert_array_equal(maps.uv[2, 2], [0.25, 1.0])
    np.testing.assert_array_equal(maps.log_variance[2, 1], [-9, -8])
    assert np.isnan(maps.uv[~maps.mask]).all() and np.isnan(maps.log_variance[~maps.mask]).all()
    seven = np.insert(output, 4, 1.2, axis=-1)
    seven[2, 1, 4] = 0.3
    deep = read_maps(seven)
    for a, b in zip(maps, deep[:4]):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(deep.depth[[2, 1], [1, 2]], [0.3, 1.0])
    assert maps.depth is None and np.isnan(deep.depth[~deep.mask]).all()
    np.testing.assert_array_equal(read_maps(seven[..., :5]).depth, deep.depth)
    nothing = read_maps(np.zeros((4, 4, 4), np.float32))
    assert not nothing.mask.any() and nothing.log_variance is None
    with pytest.raises(ValueError, match=r"maps must have shape \(S, S, 4\) or"):
        read_maps(np.zeros((1, 4, 4, 4), np.float32))
