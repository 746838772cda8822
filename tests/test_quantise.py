"""The coarse network in 8 bits: the float file agrees with Keras, the int8 file nearly so, and both are measured."""
import dataclasses
import json

import keras
import numpy as np
import pytest

from Dataset.face_model.model import load_face_model
from Dataset.representations import coefficients as c
from Dataset.representations.coefficients import linear
from Network.engine.lite import runner
from Network.export.quantise import (PASSES, Inputs, calibration, convert, iterated_faces, main, measured, quantise)
from Network.inference.iterate import Iterated
from Network.models import coarse
from Network.training.checkpoints import RunFolder
from tests.test_coefficient_dataset import Made

CONFIG = coarse.Config(image_size=32, stem_filters=8, stem_pool=False, filters=(8, 16), blocks=(1, 1), head="flatten",
                       head_filters=8)


MEAN = linear(load_face_model(), "vertices")(c.mean_face()[None])


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
    np.testing.assert_allclose(found.targets, [made.truth[k, k % 2] for k in range(2, 6)], atol=5e-4)
    assert found.x.shape == (4, 32, 32, 9) and np.array_equal(found.x[1, ..., 3:], found.x[3, ..., 3:])
    assert not np.array_equal(found.x[0, ..., 3:], found.x[2, ..., 3:])
    with pytest.raises(ValueError, match="holds 8 subjects, got 9 from number 0 on"):
        calibration(made, 32, 9)


def test_float_is_keras_and_int8_is_near_and_small(model, files):
    test = calibration(Made(), 32, 4)
    says = np.asarray(model(test.x, training=False))
    found = {form: np.concatenate([runner(content)(x[None]) for x in test.x]) for form, content in files.items()}
    np.testing.assert_allclose(found["float"], says, atol=1e-4)
    off = np.abs(found["int8"] - says).mean() / np.abs(says).mean()
    assert 0 < off < 0.1 and len(files["int8"]) < 0.5 * len(files["float"])


def test_the_report_by_hand(model, files):
    test = calibration(Made(), 32, 2)
    says = np.asarray(model(test.x, training=False))
    targets = says.copy()
    targets[:, c.POSE][:, :3] += np.radians(2)
    iterated = iterated_faces(lambda x: np.asarray(model(x, training=False)), test.x)
    assert np.abs(iterated - says).max() > 0.01         # three passes say another thing
    report = measured("float", files["float"], Inputs(test.x, targets), (says, iterated))
    assert report.form == "float" and report.size == len(files["float"]) and report.ms > 0
    assert report.once.geometry < 1e-3 and report.once.from_keras < 1e-3
    assert report.once.pose == pytest.approx(2, abs=0.02)
    assert report.iterated.from_keras < 1e-2 < report.iterated.geometry
    bits = measured("int8", files["int8"], Inputs(test.x, targets), (says, iterated))
    assert 0 < bits.once.from_keras < 0.5 * np.abs(linear(load_face_model(), "vertices")(says) - MEAN).mean()
    assert bits.iterated.from_keras > 0 and np.isfinite(bits.iterated).all()


def test_three_passes_are_three_calls_that_see_the_last_ones_face(model):
    test, seen = calibration(Made(), 32, 2), []

    def predict(x):
        seen.append(x[0])
        return np.asarray(model(x, training=False))
    faces = iterated_faces(predict, test.x)
    assert faces.shape == (2, 290) and len(seen) == 2 * PASSES
    iterated, image = Iterated(predict, 32, PASSES), test.x[:1, ..., :3]
    np.testing.assert_array_equal(seen[0], iterated.inputs(image, c.mean_face()[None])[0])
    passes = iterated.many(image)
    np.testing.assert_array_equal(seen[1], iterated.inputs(image, passes[1])[0])
    np.testing.assert_allclose(faces[0], passes[-1][0], atol=1e-5)


def test_the_command_writes_and_measures_both_forms(model, tmp_path, monkeypatch, capsys):
    """Of a run folder, end to end, on synthetic subjects."""
    run = RunFolder(tmp_path / "run")
    run.start({"network": "coarse", "model": dataclasses.asdict(CONFIG), "order": "grid"})
    run.save_weights(model, "best_validation")
    monkeypatch.setattr("Network.export.quantise.open_shards", lambda path, partial: Made())
    assert main([str(run.path), "--data", "made", "--images", "3", "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == [f"{tmp_path}/out_{form}.tflite" for form in ("float", "int8")]
    assert all("one pass: geometry" in line and "3 passes: geometry" in line for line in said)
    assert {file.name for file in tmp_path.glob("*.tflite")} == {"out_float.tflite", "out_int8.tflite"}


def test_bad_forms_and_networks_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="int8 with samples"):
        convert(model, "int8")
    with pytest.raises(ValueError, match="form must be"):
        convert(model, "int4")
    images = keras.Input((32, 32, 9))
    strange = keras.Model(images, keras.layers.Lambda(lambda x: keras.ops.arcsin(x[:, :1, 0, 0]))(images))
    with pytest.raises(ValueError, match="^TFLite has no operation for tf.Asin, which this network uses$"):
        convert(strange, "float")
    (tmp_path / "config.json").write_text(json.dumps({}))
    with pytest.raises(ValueError):
        quantise(tmp_path, tmp_path, tmp_path / "out")
    assert not list(tmp_path.glob("*.tflite"))
