"""What two papers tried and left out, as options: Ronkainen 2017 (4.4, 3.5, 3.6) and Endrawis 2018 (3.1.3)."""
import dataclasses

import keras
import numpy as np
import pytest

from Datagenerator.augmentation.maps import MAPS, MapAugmentConfig
from Datagenerator.sequences.maps import MapConfig
from Network.losses.points import maps_of_the_face
from Network.models import coarse, uvnet
from Network.models.registry import get_network
from Network.training.gan_step import make_optimizers
from Network.training.optimizers import make_optimizer
from Network.training.settings import Settings, TrainConfig
from Network.training.trainer import learning_rate

UVNET = uvnet.Config(image_size=16, levels=2, first_features=4, kernel_sizes=(3,))
COARSE = coarse.Config(image_size=32, stem_filters=8, stem_pool=False, filters=(8, 16), blocks=(1, 1))


def layers_of(**changes) -> dict[str, keras.layers.Layer]:
    return {layer.name: layer for layer in uvnet.build(dataclasses.replace(UVNET, **changes)).layers}


def test_without_skips_nothing_passes_beside_the_lowest_level():
    assert {"skip_0", "skip_1"} <= set(layers_of()) and not {"skip_0", "skip_1"} & set(layers_of(skips=False))
    x = np.random.default_rng(0).random((1, 16, 16, 3), np.float32)
    y = x.copy()
    y[:, 1::2] = y[:, ::2]           # another image
    model = uvnet.build(dataclasses.replace(UVNET, skips=False))
    model.get_layer("pool_1")        # the lowest level is all that the rest sees
    rest = keras.Model(model.input, model.get_layer("pool_1").output)
    assert not np.allclose(rest(x), rest(y)) and model.count_params() < uvnet.build(UVNET).count_params()


def test_elu_stands_behind_every_convolution_but_the_last():
    found = layers_of(activation="elu")
    kinds = {getattr(layer, "activation", None) for layer in found.values() if hasattr(layer, "kernel")}
    assert kinds == {keras.activations.elu, keras.activations.linear} and found["maps"].activation.__name__ == "linear"
    behind = layers_of(activation="elu", normalisation="batch")
    assert isinstance(behind["down_0_0_elu"], keras.layers.ELU)


def test_unpooling_puts_a_value_where_the_maximum_was():
    before = np.array([[[1, 5], [2, 3]], [[7, 0], [7, -1]]], np.float32).reshape(1, 4, 2, 1)
    maxima, x = np.float32([5, 7]).reshape(1, 2, 1, 1), np.float32([10, 20]).reshape(1, 2, 1, 1)
    found = np.asarray(uvnet.Unpooling()([x, before, maxima]))[0, ..., 0]
    np.testing.assert_array_equal(found, [[0, 10], [0, 0], [20, 0], [20, 0]])       # of equal maxima each
    built = layers_of(upsampling="unpooling")
    assert "unpool_1" in built and not any(isinstance(layer, keras.layers.Conv2DTranspose) for layer in built.values())
    model = uvnet.build(dataclasses.replace(UVNET, upsampling="unpooling"))
    assert model(np.zeros((1, 16, 16, 3), np.float32)).shape == (1, 16, 16, 4)


def test_losses_of_the_ablations():
    rng = np.random.default_rng(1)
    mask = np.ones((2, 4, 4, 1), np.float32)
    truth = {"uv": rng.random((2, 4, 4, 2)).astype(np.float32), "mask": mask, "visible_mask": mask, "eroded": mask}
    prediction = rng.random((2, 4, 4, 4)).astype(np.float32)
    error = prediction[..., :2] - truth["uv"]
    plain = {name: np.asarray(value) for name, value in maps_of_the_face(truth, prediction).items()}
    squared = {name: np.asarray(value) for name, value in maps_of_the_face(truth, prediction, "l2").items()}
    without = maps_of_the_face(truth, prediction, gradient=False)
    np.testing.assert_allclose(plain["uv"], np.abs(error).sum((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(squared["uv"], (error ** 2).sum((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(squared["mask"], ((prediction[..., 2] - 1) ** 2).sum((1, 2)), rtol=1e-5)
    across, below = np.diff(error, axis=2), np.diff(error, axis=1)
    np.testing.assert_allclose(squared["gradient"], (across ** 2).sum((1, 2, 3)) + (below ** 2).sum((1, 2, 3)),
                               rtol=1e-5)
    assert set(plain) - set(without) == {"gradient"}
    chosen = get_network("uvnet").loss(dataclasses.replace(UVNET, distance="l2", gradient_loss=False), None)
    assert set(chosen(truth, prediction)) == set(without)
    np.testing.assert_allclose(np.asarray(chosen(truth, prediction)["uv"]), squared["uv"])
    assert set(get_network("uvnet").loss(UVNET, None)(truth, prediction)) == set(plain)


def test_steps_of_the_augmentation_are_left_out_by_name():
    off = MapAugmentConfig.off()
    for name in ("shuffle", "exposure", "gamma", "noise"):
        steps = MapConfig(without=(name,)).steps()
        assert getattr(steps, name) == getattr(off, name) != getattr(MAPS, name)
        assert dataclasses.replace(steps, **{name: getattr(MAPS, name)}) == MAPS
    assert MapConfig(without=("shuffle",), photos=True).steps().shuffle == 0
    assert MapConfig(occlusion=0.0).steps().crops == 0
    with pytest.raises(ValueError, match="without must be some of shuffle, exposure, gamma, noise, got blur"):
        MapConfig(without=("blur",))


def test_dropout_stands_before_the_coefficients():
    assert "dropout" not in [layer.name for layer in coarse.build(COARSE).layers]
    model = coarse.build(dataclasses.replace(COARSE, dropout=0.5))
    x = np.random.default_rng(0).random((4, 32, 32, 9), np.float32)
    assert np.array_equal(model(x, training=False), model(x, training=False))
    features = keras.Model(model.input, model.get_layer("dropout").output)
    drawn = np.asarray(features(x, training=True))
    assert 0.2 < np.mean(drawn == 0) - np.mean(np.asarray(features(x, training=False)) == 0) < 0.8
    with pytest.raises(ValueError, match="dropout must be below 1, got 1.0"):
        dataclasses.replace(COARSE, dropout=1.0)


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_weight_decay_shrinks_weights_by_the_rate(name):
    variable = keras.Variable(np.float32([2.0, -4.0]))
    optimizer = make_optimizer(Settings(optimizer=name, weight_decay=0.1))
    optimizer.build([variable])
    optimizer.learning_rate = 0.5
    optimizer.apply([np.zeros(2, np.float32)], [variable])
    np.testing.assert_allclose(np.asarray(variable), np.float32([2.0, -4.0]) * (1 - 0.1 * 0.5), rtol=1e-6)
    assert make_optimizer(Settings(optimizer=name)).weight_decay is None


def test_weight_decay_is_refused_where_it_is_not_meant():
    with pytest.raises(ValueError, match="weight_decay is not supported for a GAN"):
        make_optimizers(Settings(weight_decay=0.1))
    with pytest.raises(ValueError, match="weight_decay must be at least 0 and below 1, got -1"):
        Settings(weight_decay=-1)


def test_the_rate_decays_after_each_epoch():
    config = TrainConfig(learning_rate=1e-3, epochs=5, schedule="exponential", decay=0.5, warmup_epochs=1)
    found = [learning_rate(config, epoch) for epoch in range(5)]
    np.testing.assert_allclose(found, [0.5e-3, 1e-3, 0.5e-3, 0.25e-3, 0.125e-3])
    with pytest.raises(ValueError, match=r"decay must be in \(0, 1\], got 0"):
        TrainConfig(decay=0)
