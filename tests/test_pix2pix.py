"""The two networks of pix2pix: sizes against formulas, what a patch sees, what inference draws, save and load."""
import argparse
import dataclasses

import keras
import numpy as np
import pytest

from Network.config.flags import add_flags
from Network.models import pix2pix
from Network.models.pix2pix import PIX2PIX, SMALL, BatchNorm, Config, WithNoise
from Network.models.registry import get_network
from Network.training.checkpoints import RunFolder, model_from_config
from Network.training.presets import SHARED, resolve
from Network.training.settings import Settings, TrainConfig
from Network.training.trainer import learning_rate

TINY = Config(image_size=32, filters=(4, 6, 8, 8), dropout_levels=2, discriminator_filters=(4, 6, 8))


def noise_images(count: int, size: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, size, size, 3), np.float32)


def generator_size(filters: tuple[int, ...]) -> int:
    """Weights of the generator by hand: 4x4 kernels without bias, four numbers a channel of normalisation."""
    down = 16 * sum(i * o for i, o in zip((3, *filters), filters)) + 4 * sum(filters[1:])
    lower = filters[::-1]
    inputs = (lower[0], *(2 * f for f in lower[1:]))        # the lowest has no skip beside it
    up = 16 * sum(i * o for i, o in zip(inputs, lower[1:])) + 4 * sum(lower[1:])
    return down + up + 16 * inputs[-1] + 1


def discriminator_size(filters: tuple[int, ...]) -> int:
    pairs = zip((4, *filters), filters)
    return 16 * sum(i * o for i, o in pairs) + 4 * sum(filters[1:]) + 16 * filters[-1] + 1


def test_sizes_of_the_paper():
    """pix2pix's own with three channels out has 54,425,859 and 2,770,433: 2 x (16 x 128 + 1) and 2 x 1,024 more."""
    generator, discriminator = pix2pix.build(PIX2PIX), pix2pix.build_discriminator(PIX2PIX)
    assert generator.count_params() == generator_size(PIX2PIX.filters) == 54_421_761 == 54_425_859 - 2 * 2049
    assert discriminator.count_params() == discriminator_size(PIX2PIX.discriminator_filters) == 2_768_385
    assert generator.output_shape == (None, 256, 256, 1) and generator.get_layer("down_7").output.shape[1:3] == (1, 1)
    assert discriminator.output_shape == (None, 30, 30, 1)
    assert sum(isinstance(layer, keras.layers.Dropout) for layer in generator.layers) == 3
    assert get_network("pix2pix") is pix2pix.NETWORK


def test_size_of_small():
    generator = pix2pix.build(SMALL)
    assert generator.count_params() == generator_size(SMALL.filters) == 1_925_761        # 3.9 MB in float16
    assert generator.output_shape == (None, 64, 64, 1)
    assert generator.get_layer("down_5").output.shape == (None, 1, 1, 96)
    discriminator = pix2pix.build_discriminator(SMALL)
    assert discriminator.output_shape == (None, 6, 6, 1)
    assert discriminator.count_params() == discriminator_size(SMALL.discriminator_filters)
    assert all(size % 16 == 0 for size in SMALL.filters)        # the fused normalisation's


@pytest.mark.parametrize("config", [PIX2PIX, SMALL])
def test_the_generator_is_the_papers_and_nothing_else(config):
    """No layer of another network, whatever the Config."""
    kinds = {type(layer).__name__ for layer in pix2pix.build(config).layers}
    own = {"InputLayer", "Rescaling", "Conv2D", "Conv2DTranspose", "BatchNorm", "ReLU", "Concatenate"}
    assert kinds == own | ({"Dropout"} if config.dropout else set())


def test_images_become_minus_one_to_one():
    generator = pix2pix.build(TINY)
    scaled = keras.Model(generator.input, generator.get_layer("scaled").output)
    x = np.zeros((1, 32, 32, 3), np.float32) + np.array([0.0, 0.5, 1.0], np.float32)
    np.testing.assert_allclose(np.asarray(scaled(x))[0, 0, 0], [-1, 0, 1])
    assert pix2pix.data_settings(TINY) == {"scaling": "unit"}


def constant(model: keras.Model) -> None:
    """Every kernel a mean, every normalisation the identity: then what a logit sees is plain to see."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.kernel.assign(np.full(layer.kernel.shape, 1 / np.prod(layer.kernel.shape[:3])))


@pytest.mark.parametrize("filters", [(2, 2, 2, 2), (2, 2, 2)])
def test_a_patch_sees_70_pixels(filters):
    config = dataclasses.replace(PIX2PIX, image_size=128, filters=(2, 2), discriminator_filters=filters)
    model = pix2pix.build_discriminator(config)
    constant(model)
    depth, middle = np.zeros((1, 128, 128, 1), np.float32), config.patches() // 2

    def logit(row: int, column: int) -> float:
        moved = depth.copy()
        moved[0, row, column] = 1e8
        return float(model({"images": np.full((1, 128, 128, 3), 0.5), "depth": moved})[0, middle, middle, 0])
    before = logit(0, 0)
    seen = [i for i in range(128) if logit(i, 64) != before]
    side = len(seen)
    assert seen == list(range(seen[0], seen[0] + side))
    assert side == {4: 70, 3: 34}[len(filters)]
    first, last = seen[0], seen[-1]             # the patch is a square: its corners are seen, what lies outside is not
    assert all(logit(r, c) != before for r in (first, last) for c in (first, last))
    assert all(logit(r, c) == before for r, c in ((first - 1, first), (first, first - 1), (last, last + 1)))


def test_depth_is_within_the_range_and_the_same_each_time():
    model = pix2pix.build(TINY)
    images = noise_images(3)
    depth = np.asarray(model(images, training=False))
    assert depth.shape == (3, 32, 32, 1) and depth.dtype == np.float32 and np.abs(depth).max() <= 1
    np.testing.assert_array_equal(model(images), depth)
    np.testing.assert_allclose(model(images[:1]), depth[:1], atol=1e-6)     # whatever else is in the batch
    assert not np.array_equal(model(images, training=True), depth)


def test_inference_as_published_draws_dropout_and_looks_at_its_batch():
    model = pix2pix.build(dataclasses.replace(TINY, inference_as_published=True))
    images = noise_images(3)
    moving = [v.numpy() for v in model.non_trainable_variables if "moving" in v.path]
    first, second = (np.asarray(model(images, training=False)) for _ in range(2))
    assert not np.array_equal(first, second)
    for old, new in zip(moving, [v for v in model.non_trainable_variables if "moving" in v.path]):
        np.testing.assert_array_equal(old, new)
    again = pix2pix.build(dataclasses.replace(TINY, inference_as_published=True))
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(images, training=False), first)        # the same seed, the same draw
    still = pix2pix.build(dataclasses.replace(TINY, inference_as_published=True, dropout=0.0))
    still.set_weights(model.get_weights())
    batched, alone = np.asarray(still(images)), np.asarray(still(images[:1]))
    assert np.abs(batched[:1] - alone).max() > 1e-4


def test_statistics_of_the_batch():
    layer = BatchNorm(always=True, epsilon=1e-3)
    x = np.random.default_rng(1).normal(3, 2, (2, 4, 5, 3)).astype(np.float32)
    expected = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-3)
    np.testing.assert_allclose(layer(x, training=False), expected, atol=1e-5)
    np.testing.assert_allclose(layer(x, training=True), expected, atol=1e-5)
    one = layer(np.ones((1, 1, 1, 3), np.float32), training=True)      # one value: nothing is left, and nothing is NaN
    np.testing.assert_array_equal(one, np.zeros((1, 1, 1, 3)))


def test_noise_is_drawn_in_training_and_its_mean_in_inference():
    images = noise_images(8)
    layer = WithNoise(2, seed=5)
    drawn = np.asarray(layer(images, training=True))
    np.testing.assert_array_equal(drawn[..., :3], images)
    z = drawn[..., 3:]
    assert abs(z.mean()) < 0.05 and abs(z.std() - 1) < 0.05 and np.abs(np.corrcoef(z.reshape(-1, 2).T)[0, 1]) < 0.05
    assert not np.array_equal(layer(images, training=True), drawn)
    np.testing.assert_array_equal(WithNoise(2, seed=5)(images, training=True), drawn)
    assert not np.asarray(layer(images, training=False))[..., 3:].any()
    assert np.asarray(WithNoise(2, always=True)(images, training=False))[..., 3:].any()
    model = pix2pix.build(dataclasses.replace(TINY, noise_channels=1))
    assert model.count_params() == pix2pix.build(TINY).count_params() + 16 * TINY.filters[0]


@pytest.mark.parametrize("activation, slope", [("relu", 0.0), ("leaky_relu", 0.2)])
def test_activation_of_the_encoder(activation, slope):
    model = pix2pix.build(dataclasses.replace(TINY, encoder_activation=activation))
    for level in range(4):
        layer = model.get_layer(f"down_{level}_relu")
        np.testing.assert_allclose(layer(np.array([-1.0, 2.0], np.float32)), [-slope, 2])
    names = [layer.name for layer in model.layers]
    assert "down_0_norm" not in names and "down_3_norm" in names
    names = [layer.name for layer in pix2pix.build(dataclasses.replace(TINY, bottleneck_norm=False)).layers]
    assert "down_2_norm" in names and "down_3_norm" not in names


def test_the_training_model_holds_both_and_the_generator_comes_out(tmp_path):
    config = {"network": "pix2pix", "model": dataclasses.asdict(TINY)}
    model = model_from_config(config, training=True)
    images, depth = noise_images(2), np.zeros((2, 32, 32, 1), np.float32)
    for variable in model.variables:
        variable.assign(variable + np.arange(np.size(variable)).reshape(variable.shape).astype(variable.dtype) % 7)
    found = model({"images": images, "depth": depth})
    assert {name: value.shape for name, value in found.items()} == {
        "depth": (2, 32, 32, 1), "real": (2, 6, 6, 1), "generated": (2, 6, 6, 1)}
    discriminator = model.get_layer("discriminator")
    np.testing.assert_array_equal(found["real"], discriminator({"images": images, "depth": depth}))
    path = RunFolder(tmp_path).save_weights(model, "best_validation")
    other = model_from_config(config, training=True)
    other.load_weights(path)
    np.testing.assert_array_equal(pix2pix.predicting_part(other)(images), found["depth"])
    alone = model_from_config(config)           # weight folders hold the generator's weights in this order
    alone.set_weights(pix2pix.predicting_part(other).get_weights())
    np.testing.assert_array_equal(alone(images), found["depth"])
    loaded = keras.models.load_model(path, compile=False)
    np.testing.assert_array_equal(pix2pix.predicting_part(loaded)(images), found["depth"])


@pytest.mark.parametrize("change, message", [
    ({"image_size": 40}, "image_size must be at least 32 and a multiple of 16"),
    ({"image_size": 16}, "image_size must be at least 32"),
    ({"encoder_activation": "elu"}, "encoder_activation must be one of relu, leaky_relu"),
    ({"distance": "l3"}, "distance must be one of l1, l2"),
    ({"filters": (4,)}, "filters must be at least two positive numbers"),
    ({"discriminator_filters": (4, 0)}, "discriminator_filters must be at least two positive"),
    ({"discriminator_filters": (4,) * 6}, "discriminator_filters must be fewer at image_size 32"),
    ({"dropout": 1.0}, "dropout must be at least 0 and below 1"), ({"noise_channels": -1}, "noise_channels must be at"),
    ({"distance_weight": float("nan")}, "distance_weight must be at least 0"),
    ({"adversarial_weight": -1}, "adversarial_weight must be at least 0"), ({"scaling": "x"}, "scaling must be one of"),
    ({"batch_norm_replicas": 2}, "trains on one device .*got 2 replicas"), ({"crop_margin": 0.0}, "crop_margin")])
def test_bad_config(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **change)


@pytest.mark.parametrize("size, levels", [(32, 5), (64, 4), (512, 9)])
def test_other_sizes(size, levels):
    model = pix2pix.build_training(Config(image_size=size, filters=(2,) * levels, discriminator_filters=(2, 2, 2)))
    assert model.output_shape[0] == (None, size, size, 1)


def test_presets():
    paper = resolve("pix2pix", {})
    assert paper["network"] == "pix2pix" and paper["model"] == dataclasses.asdict(PIX2PIX)
    train = TrainConfig(**paper["train"])
    assert train.epochs == 90 == train.patience and {learning_rate(train, epoch) for epoch in range(90)} == {2e-4}
    assert paper["data"] == {"scaling": "unit"}
    small = resolve("pix2pix-small", {})
    assert small["model"] == dataclasses.asdict(SMALL) and small["train"]["choose_by"] == "l1"
    assert small["model"]["distance"] == "l1" and small["model"]["distance_weight"] == 100
    data = small["data"]
    assert data["image_size"] == SMALL.image_size and set(data) == {"image_size", "batch_size", "batches", "scaling"}
    assert small["train"]["epochs"] * data["batches"] * data["batch_size"] >= 150_000


def test_every_setting_is_a_flag_of_its_own():
    parser = argparse.ArgumentParser()          # raises where two of them share a name
    for title, config in (("settings", Settings), ("train", TrainConfig), ("model", Config)):
        add_flags(parser, config, title, [f.name for f in dataclasses.fields(config) if f.name not in SHARED])
    assert parser.parse_args(["--noise-channels", "2", "--inference-as-published"]).noise_channels == 2
