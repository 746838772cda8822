"""Network/engine/lite.py: the same numbers as the model, of any network; what TFLite cannot convert runs in Keras."""
import logging

import keras
import numpy as np
import pytest
from keras import ops

from Network.engine import lite
from Network.engine.lite import converter_of, missing_operations, one_by_one
from Network.models import uvnet
from tests.test_uvnet import UNET

needs_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TFLite comes with TensorFlow")


@keras.saving.register_keras_serializable("tests")
class Crossed(keras.layers.Layer):
    """An operation that TFLite has not."""

    def call(self, x):
        return ops.cross(x, ops.roll(x, 1, axis=1))


def _strange():
    images = keras.Input((4, 4, 3))
    return keras.Model(images, Crossed()(images))


@pytest.mark.parametrize("make", [lambda: uvnet.build(UNET), _strange])
def test_one_by_one_gives_what_the_model_gives(make):
    keras.utils.set_random_seed(1)
    model = make()
    run, images = one_by_one(model), np.random.default_rng(1).random((3, *model.input_shape[1:])).astype(np.float32)
    expected = np.asarray(model(images, training=False))
    found = np.concatenate([np.array(run(image[None])) for image in images])
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_an_answer_stays_when_the_next_one_comes():
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    run = one_by_one(model)
    first = run(np.ones((1, 5), np.float32))
    kept = first.copy()
    run(np.zeros((1, 5), np.float32))
    np.testing.assert_array_equal(first, kept)


@needs_tensorflow
def test_what_is_missing_is_named(caplog):
    with pytest.raises(ValueError, match="TFLite has no operation for tf.Cross"), missing_operations():
        converter_of(_strange()).convert()
    with pytest.raises(KeyError), missing_operations():         # any other failure stays what it is
        raise KeyError("another")
    with caplog.at_level(logging.INFO, "Network.engine.lite"):
        one_by_one(_strange())
    assert "tf.Cross" in caplog.text


@needs_tensorflow
def test_without_tensorflow_as_the_backend(monkeypatch):
    monkeypatch.setattr(lite, "converter_of", None)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    x = np.ones((1, 5), np.float32)
    np.testing.assert_allclose(one_by_one(model)(x), model(x), atol=1e-6)
