"""The coarse network in 8 bits: the float file says what Keras says, the int8 file nearly so, and both are judged."""
import json

import keras
import numpy as np
import pytest

from Dataset.representations import coefficients as c
from Network import coarse
from Network.quantise import Inputs, calibration, convert, judge, quantise, runner
from tests.test_coefficient_dataset import Made

CONFIG = coarse.Config(image_size=32, stem_filters=8, stem_pool=False, filters=(8, 16), blocks=(1, 1), head="flatten",
                       head_filters=8)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    made = coarse.build(CONFIG)
    weights = made.get_weights()
    weights[-2] = weights[-2] * 30          # answers as large as a trained network's
    made.set_weights(weights)
    return made


@pytest.fixture(scope="module")
def files(model) -> dict[str, bytes]:
    ranges = calibration(Made(), 32, 4, 4)
    return {form: convert(model, form, ranges.x) for form in ("float", "int8")}


def test_calibration_shows_what_an_iteration_sees():
    made = Made()
    found = calibration(made, 32, 4, 2)
    np.testing.assert_allclose(found.truths, [made.truth[k, k % 2] for k in range(2, 6)], atol=5e-4)
    assert found.x.shape == (4, 32, 32, 9) and np.array_equal(found.x[1, ..., 3:], found.x[3, ..., 3:])
    assert not np.array_equal(found.x[0, ..., 3:], found.x[2, ..., 3:])
    with pytest.raises(ValueError, match="asked for 9 from number 0"):
        calibration(made, 32, 9)


def test_float_is_keras_and_int8_is_near_and_small(model, files):
    test = calibration(Made(), 32, 4)
    says = np.asarray(model(test.x, training=False))
    found = {form: np.concatenate([runner(content)(x[None]) for x in test.x]) for form, content in files.items()}
    np.testing.assert_allclose(found["float"], says, atol=1e-4)
    off = np.abs(found["int8"] - says).mean() / np.abs(says).mean()
    assert 0 < off < 0.1 and len(files["int8"]) < 0.5 * len(files["float"])


def test_the_judgement_by_hand(model, files):
    test = calibration(Made(), 32, 2)
    says = np.asarray(model(test.x, training=False))
    truths = says.copy()
    truths[:, c.POSE][:, :3] += np.radians(2)
    report = judge("float", files["float"], Inputs(test.x, truths), says)
    assert report.form == "float" and report.size == len(files["float"]) and report.ms > 0
    assert report.geometry < 1e-3 and report.apart < 1e-3 and report.pose == pytest.approx(2, abs=0.02)


def test_bad_forms_and_networks_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="int8 with samples"):
        convert(model, "int8")
    with pytest.raises(ValueError, match="form must be"):
        convert(model, "int4")
    (tmp_path / "config.json").write_text(json.dumps({}))
    with pytest.raises(ValueError):
        quantise(tmp_path, tmp_path, tmp_path / "out")
    assert not list(tmp_path.glob("*.tflite"))
