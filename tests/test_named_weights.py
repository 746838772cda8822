"""Weights by name: names, what a file that does not fit says, run folders for prediction."""
import dataclasses

import keras
import numpy as np
import pytest

from Network.models import compact, pix2pix
from Network.models.registry import NETWORKS, get_network
from Network.training.checkpoints import Progress, RunFolder, predicting_model
from Network.training.gan_step import GanStep, make_optimizers
from Network.training.loading import load_model, warm_start
from Network.training.named_weights import copy_weights, fill, named_slots, named_variables, named_weights
from Network.training.settings import Settings
from Network.training.step import GradientStep
from tests.test_compact import TINY
from tests.test_step import data, mse, small_model

GAN = pix2pix.Config(image_size=32, filters=(4, 6, 8), discriminator_filters=(4, 6), noise_channels=1)


def test_names_of_a_small_model():
    model = small_model(True)
    names = named_variables(model)
    assert list(names) == ["hidden/kernel", "hidden/bias", "norm/gamma", "norm/beta", "norm/moving_mean",
                           "norm/moving_variance", "out/kernel", "out/bias"]
    assert names["out/kernel"] is model.get_layer("out").kernel
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    slots = named_slots(model, optimizer)
    assert list(slots)[:4] == ["iteration", "learning_rate", "hidden/kernel/momentum", "hidden/kernel/velocity"]
    assert slots["out/bias/velocity"].shape == (2,) and len(slots) == len(optimizer.variables)


def test_names_under_a_loss_scale_and_of_two_optimizers():
    model = small_model()
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.RMSprop())
    optimizer.build(model.trainable_variables)
    slots = named_slots(model, optimizer)
    assert {"iteration", "loss_scale/dynamic_scale", "out/kernel/velocity"} <= slots.keys()
    assert {id(slot) for slot in slots.values()} == {id(slot) for slot in optimizer.variables}
    gan = pix2pix.build_training(GAN)
    step = GanStep(gan, make_optimizers(Settings()), GAN)
    slots = named_slots(gan, step.optimizer)
    assert {"generator/iteration", "discriminator/iteration", "generator/down_0/kernel/momentum",
            "discriminator/patch_0/kernel/velocity"} <= slots.keys()
    assert len(slots) == len(step.optimizer.variables)


def test_two_weights_of_one_name():
    inputs = keras.Input((2,))
    shared = keras.layers.Dense(2, name="shared")
    inner = keras.Model(inputs, shared(inputs), name="inner")
    with pytest.raises(ValueError, match="model outer has 2 variables, its layers 4"):
        named_variables(keras.Model(inputs, shared(inner(inputs)), name="outer"))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_of_every_network_has_a_lasting_name(name):
    """Two models of one config have the same names: no layer with weights is named by Keras, which counts them."""
    network = get_network(name)
    preset, config = min(network.presets.items(), key=lambda pair: pair[0] in ("thesis", name))
    build = network.build_training
    one, two = build(config), build(config)
    assert list(named_variables(one)) == list(named_variables(two))
    assert len(named_weights(one)) == len(one.weights)
    predicting = network.build(config)
    copy_weights(one, predicting)       # a predicting model has no weight that a trained one lacks
    trained, part = named_weights(one), "generator/" if name == "pix2pix" else ""
    for key, weight in named_weights(predicting).items():
        np.testing.assert_array_equal(weight, trained[part + key])


def test_fill_goes_by_name_not_by_order():
    """Two kernels of one shape, given in the wrong order."""
    inputs = keras.Input((3,))
    x = keras.layers.Dense(3, use_bias=False, name="a")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, use_bias=False, name="b")(x))
    fill(named_weights(model), {"b/kernel": np.full((3, 3), 2.0), "a/kernel": np.full((3, 3), 1.0)}, "test")
    assert float(model.get_layer("a").kernel[0, 0]) == 1 and float(model.get_layer("b").kernel[0, 0]) == 2


@pytest.mark.parametrize("change, message", [
    (lambda a: [a.pop(name) for name in list(a)[:6]],
     "x: does not fit this network: lacks hidden/bias, hidden/kernel, norm/beta, norm/gamma and 2 more$"),
    (lambda a: a.update({"nose/bias": np.ones(1)}), "holds unknown nose/bias$"),
    (lambda a: a.update({"out/bias": np.ones((1, 2))}), r"another shape: out/bias is \(1, 2\), must be \(2,\)$"),
    (lambda a: a.update({"out/bias": np.array([0, np.inf])}), "is not finite: out/bias$")])
def test_what_does_not_fit_is_named_and_nothing_is_assigned(change, message):
    model = small_model(True)
    arrays = {name: np.full(weight.shape, 7.0) for name, weight in named_weights(model).items()}
    change(arrays)
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        fill(named_weights(model), arrays, "x")
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_a_runs_keras_file_predicts_and_init_finds_everything(tmp_path):
    """pix2pix trains two networks: the .keras file is the generator, for anybody's Keras; --warm-start finds both."""
    config = {"network": "pix2pix", "model": dataclasses.asdict(GAN)}
    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy("mixed_bfloat16")
    trained = pix2pix.build_training(GAN)
    run = RunFolder(tmp_path / "run", predicting_model(config))
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    run.start(config)
    run.save_weights(trained, "best_validation")
    keras.config.set_dtype_policy("float32")
    model = keras.saving.load_model(tmp_path / "run" / "best_validation.keras")
    assert model.output_shape == (None, 32, 32, 1) and model.dtype_policy.name == "float32"
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    np.testing.assert_array_equal(model(images), load_model(tmp_path / "run").model(images))
    for name, weight in named_weights(model).items():
        np.testing.assert_array_equal(weight, named_weights(trained)[f"generator/{name}"], err_msg=name)
    keras.utils.set_random_seed(2)
    fresh = pix2pix.build_training(GAN)
    warm_start(fresh, str(tmp_path / "run"))
    for name, weight in named_weights(fresh).items():
        np.testing.assert_array_equal(weight, named_weights(trained)[name], err_msg=name)


def test_the_last_state_predicts_too(tmp_path):
    config = {"network": "compact", "model": dataclasses.asdict(TINY)}
    model, optimizer = compact.build_training(TINY), keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    run = RunFolder(tmp_path, predicting_model(config))
    run.start(config)
    run.save_state(model, optimizer, Progress())
    images = np.random.default_rng(0).random((1, 2, 32, 32, 3), np.float32)
    found, loaded = keras.saving.load_model(tmp_path / "last.keras")(images), load_model(tmp_path, "last").model(images)
    assert set(found) == {"keypoints", "log_variance"}      # without "first_keypoints", which the loss alone reads
    for name, values in found.items():
        np.testing.assert_array_equal(values, loaded[name])
        np.testing.assert_allclose(values, model(images)[name], atol=1e-6)


def test_same_batches_same_state_by_name(tmp_path):
    """What a state holds is independent of the order of the model's layers in memory."""
    model = small_model(True)
    step = GradientStep(model, keras.optimizers.Adam(1e-2), mse)
    step.train([data(1, 4)[0]])
    RunFolder(tmp_path).save_state(model, step.optimizer, Progress(updates=1))
    with np.load(tmp_path / "state.npz") as state:
        np.testing.assert_array_equal(state["model/out/kernel"], model.get_layer("out").kernel)
        assert state["optimizer/iteration"] == 1
