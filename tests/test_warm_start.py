"""A run that begins with another's weights: by layer, of another size."""
import dataclasses
import json

import keras
import numpy as np
import pytest

from Network.export.pack import pack
from Network.models import compact, pix2pix
from Network.training.checkpoints import RunFolder
from Network.config.run_config import digest
from Network.training.loading import WEIGHTS_VERSION, freeze, warm_start
from Network.training.named_weights import named_weights
from tests.test_compact import TINY
from tests.test_streaming import _loaded


def _run(path, config):
    """A run folder with a best_validation checkpoint of the training model."""
    keras.utils.set_random_seed(7)
    model = compact.build_training(config)
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"network": "compact", "model": dataclasses.asdict(config)}))
    RunFolder(path).save_weights(model, "best_validation")
    return model


def test_another_size_takes_every_layer(tmp_path):
    first = _run(tmp_path / "first", dataclasses.replace(TINY, image_size=64))
    keras.utils.set_random_seed(8)
    model = compact.build_training(TINY)
    taken = warm_start(model, str(tmp_path / "first"))
    np.testing.assert_array_equal(model.get_layer("maps").get_weights()[0], first.get_layer("maps").get_weights()[0])
    assert taken == sum(bool(layer.weights) for layer in first.layers)


def test_only_the_layers_that_are_named(tmp_path):
    first = _run(tmp_path / "first", TINY)
    keras.utils.set_random_seed(8)
    model = compact.build_training(TINY)
    fresh = model.get_layer("maps").get_weights()[0]
    named = [layer.name for layer in first.layers if layer.weights and layer.name.startswith(("down", "top"))]
    assert warm_start(model, str(tmp_path / "first"), ("down", "top")) == len(named) >= 2
    np.testing.assert_array_equal(model.get_layer("down_0").get_weights()[0],
                                  first.get_layer("down_0").get_weights()[0])
    np.testing.assert_array_equal(model.get_layer("maps").get_weights()[0], fresh)
    with pytest.raises(ValueError, match="transfer: the network has no layer whose name begins with 'nose'"):
        warm_start(model, str(tmp_path / "first"), ("nose",))


def test_a_wider_encoder_keeps_the_function(tmp_path):
    first = _run(tmp_path / "first", TINY)
    keras.utils.set_random_seed(9)
    wider = compact.build_training(dataclasses.replace(TINY, encoder_filters=(7, 6, 8, 8), refine_filters=9))
    assert warm_start(wider, str(tmp_path / "first")) == sum(bool(layer.weights) for layer in first.layers)
    images = np.random.default_rng(1).random((1, 2, 32, 32, 3), np.float32)
    for name, value in first(images).items():
        np.testing.assert_allclose(wider(images)[name], value, atol=1e-5, err_msg=name)
    narrower = compact.build_training(dataclasses.replace(TINY, encoder_filters=(3, 6, 8, 8)))
    assert warm_start(narrower, str(tmp_path / "first")) == sum(bool(layer.weights) for layer in first.layers) - 3


def test_a_weight_folder_and_nothing(tmp_path):
    loaded = _loaded(compact, TINY)
    pack(loaded, tmp_path / "box", np.zeros((1, 1, 32, 32, 3), np.float32))
    model = compact.build_training(TINY)
    before = model.get_weights()
    assert warm_start(model, "") == 0
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)
    warm_start(model, str(tmp_path / "box"))
    for a, b in zip(loaded.model.get_weights(), model.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


def test_nothing_in_common_and_broken(tmp_path):
    _run(tmp_path / "first", TINY)
    with pytest.raises(ValueError, match="shares no layer"):
        warm_start(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="other")]), str(tmp_path / "first"))
    (tmp_path / "first" / "best_validation.npz").write_bytes(b"x")
    with pytest.raises(ValueError, match="best_validation.npz: holds no weights of this program"):
        warm_start(compact.build_training(TINY), str(tmp_path / "first"))


def test_frozen_layers_keep_their_weights_and_statistics():
    model = compact.build_training(TINY)
    freeze(model, ("down", "maps"))
    names = {v.path.split("/")[0] for v in model.trainable_variables}
    assert not any(name.startswith(("down", "maps")) for name in names) and "top" in names
    before = model.get_layer("down_0_norm").get_weights()
    model(np.random.default_rng(0).random((2, 1, 32, 32, 3), np.float32), training=True)
    for a, b in zip(before, model.get_layer("down_0_norm").get_weights()):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="no layer whose name begins with 'nose'"):
        freeze(model, ("nose",))


def test_a_generator_from_the_box_and_both_networks_from_a_run(tmp_path):
    """pix2pix trains a model of two models; the weight folder holds the generator alone."""
    config = pix2pix.Config(image_size=32, filters=(4, 6, 8), discriminator_filters=(4, 6), dropout=0.0)
    text = json.dumps({"network": "pix2pix", "model": dataclasses.asdict(config)})
    keras.utils.set_random_seed(3)
    first = pix2pix.build_training(config)
    for folder in (tmp_path / "run", tmp_path / "box"):
        folder.mkdir()
        (folder / "config.json").write_text(text)
    RunFolder(tmp_path / "run").save_weights(first, "best_validation")
    made = first.get_layer("generator")
    np.savez(tmp_path / "box" / "weights.npz", version=WEIGHTS_VERSION, config=digest(text),
             **{name: np.asarray(weight) for name, weight in named_weights(made).items()})
    parts = {name: sum(bool(layer.weights) for layer in first.get_layer(name).layers)
             for name in ("generator", "discriminator")}
    image = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    for folder, prefixes, taken in (
            ("box", (), parts["generator"]), ("run", (), sum(parts.values())), ("box", ("down_0",), 1),
            ("run", ("discriminator",), parts["discriminator"]), ("box", ("generator/up",), 4)):
        keras.utils.set_random_seed(4)
        model = pix2pix.build_training(config)
        assert warm_start(model, str(tmp_path / folder), prefixes) == taken, (folder, prefixes)
        ours = pix2pix.predicting_part(model)
        if not prefixes:
            np.testing.assert_allclose(ours(image), made(image), atol=1e-6)
        same = np.array_equal(ours.get_layer("down_0").kernel, made.get_layer("down_0").kernel)
        assert same == (prefixes in ((), ("down_0",)))
    with pytest.raises(ValueError, match="transfer: the network has no layer whose name begins with 'nose'"):
        warm_start(model, str(tmp_path / "box"), ("nose",))


def test_layers_of_a_part_can_be_frozen():
    model = pix2pix.build_training(pix2pix.Config(image_size=32, filters=(4, 6, 8), discriminator_filters=(4, 6)))
    count = len(model.trainable_variables)
    freeze(model, ("down_1", "discriminator/patch_0"))
    assert len(model.trainable_variables) == count - 3 - 1      # kernel, gamma, beta; a kernel
