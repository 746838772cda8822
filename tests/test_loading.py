"""Model files of every kind, and files that are none: weights round trips, safe mode, one-line refusals."""
import dataclasses
import json

import h5py
import keras
import numpy as np
import pytest

from Network.mobile3model import QUICK, build
from Network.training.checkpoints import RunFolder
from Network.engine.loaded import DEFAULT_MODEL, bundled_models
from Network.training.loading import load_model, read_h5_weights
from tests import forkserver

TINY = dataclasses.replace(QUICK, image_size=32, points=64, batch_norm="merged", lstm_filters=(4, 4, 4),
                           block_filters=(4, 4, 4), link_filters=(4,), decoder_filters=(4, 4, 4, 4), shape_head=2)


def tiny_model() -> keras.Model:
    keras.utils.set_random_seed(3)
    model = build(TINY)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(scale=0.3, size=w.shape).astype("float32") ** 2 for w in model.get_weights()])
    return model


def images(count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).random((1, count, 32, 32, 3), dtype=np.float32)


def run_folder(path, model) -> RunFolder:
    run = RunFolder(path)
    run.start({"network": "convlstm", "model": dataclasses.asdict(TINY), "order": "grid"})
    run.save_weights(model, "best_validation")
    return run


def write_keras2_h5(path, model: keras.Model) -> None:
    """The layout of Keras 2's model.save("x.h5"): groups by layer, names in attributes, an evil config."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Lambda", "config": {"function": "os.system"}})
        root = file.create_group("model_weights")
        names = []
        for number, layer in enumerate(layer for layer in model.layers if layer.weights):
            group = root.create_group(f"layer_{number}")
            weights = [f"w{i}:0".encode() for i, _ in enumerate(layer.weights)]
            for name, weight in zip(weights, layer.weights):
                group[name.decode()] = weight.numpy()
            group.attrs["weight_names"] = weights
            names.append(f"layer_{number}".encode())
        root.attrs["layer_names"] = names


def test_run_folder_in_a_fresh_process(tmp_path):
    model = tiny_model()
    run_folder(tmp_path / "run", model)
    np.save(tmp_path / "images.npy", images())
    script = ("import sys, numpy as np\nfrom Network.training.loading import load_model\n"
              "loaded = load_model(sys.argv[1])\nassert loaded.order == 'grid' and loaded.points == 64\n"
              "np.save(sys.argv[3], loaded.model(np.load(sys.argv[2]), training=False))")
    forkserver.run("-c", script, tmp_path / "run", tmp_path / "images.npy", tmp_path / "out.npy", check=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), model(images(), training=False), atol=1e-6)


def test_bare_keras_file(tmp_path):
    model = tiny_model()
    model.save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras")
    assert loaded.order == "random" and loaded.image_size == 32 and loaded.images is None
    np.testing.assert_allclose(loaded.model(images(5), training=False), model(images(5), training=False), atol=1e-6)


def test_keras2_h5_gives_its_arrays_and_its_config_is_not_read(tmp_path):
    model = tiny_model()
    run_folder(tmp_path, build(TINY))
    write_keras2_h5(tmp_path / "old.h5", model)
    assert [w.shape for w in read_h5_weights(tmp_path / "old.h5")] == [tuple(w.shape) for w in model.weights]
    loaded = load_model(tmp_path / "old.h5")
    np.testing.assert_allclose(loaded.model(images(), training=False), model(images(), training=False), atol=1e-6)


def test_keras3_weights_h5(tmp_path):
    model = tiny_model()
    run_folder(tmp_path, build(TINY))
    model.save_weights(tmp_path / "m.weights.h5")
    loaded = load_model(tmp_path / "m.weights.h5")
    np.testing.assert_allclose(loaded.model(images(), training=False), model(images(), training=False), atol=1e-6)


def test_h5_of_another_network(tmp_path):
    write_keras2_h5(tmp_path / "small.h5", tiny_model())
    with pytest.raises(ValueError, match=r"small.h5: is no model of this project: its \d+ weights do not fit"):
        load_model(tmp_path / "small.h5")


def test_a_lambda_in_a_keras_file_is_not_run(tmp_path):
    inputs = keras.Input((None, 8, 8, 3))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x)(inputs))
    model.save(tmp_path / "evil.keras")
    with pytest.raises(ValueError, match="evil.keras: is no model of this project"):
        load_model(tmp_path / "evil.keras")


def test_a_model_of_another_kind(tmp_path):
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "dense.keras")
    with pytest.raises(ValueError, match=r"dense.keras: must map \(B, T, H, W, 3\) images"):
        load_model(tmp_path / "dense.keras")


@pytest.mark.parametrize("name, content, message", [
    ("missing.keras", None, "no such model file or run folder"),
    ("broken.keras", b"PK not a zip", "is no model of this project"),
    ("broken.h5", b"\x89HDF nothing", "is no model of this project"),
    ("empty.keras", b"", "is no model of this project"),
    ("photo.jpg", b"\xff\xd8", "a model is a run folder, a .keras or an .h5 file")])
def test_files_that_are_none(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        load_model(tmp_path / name)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_folders_that_are_no_runs(tmp_path):
    with pytest.raises(ValueError, match="is no run folder: config.json is missing"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json: is no JSON"):
        load_model(tmp_path)
    for text in ("{}", "[1]", '{"network": "convlstm"}', '{"network": "convlstm", "model": {}, "settings": 3}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match="config.json: (is no config of this program|must hold a JSON object)"):
            load_model(tmp_path)
    (tmp_path / "config.json").write_text('{"network": "convlstm", "model": {}}')
    with pytest.raises(ValueError, match="holds no best_validation.keras yet"):
        load_model(tmp_path)
    with pytest.raises(ValueError, match="checkpoint must be one of best_validation, best_training, last, got 'x'"):
        load_model(tmp_path, "x")


def test_a_name_in_the_box(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    box = bundled_models()
    assert box["compact"] == DEFAULT_MODEL == next(iter(box.values()))
    named, there = load_model("compact"), load_model(DEFAULT_MODEL)
    assert named.source == DEFAULT_MODEL and named.config == there.config
    for ours, theirs in zip(named.model.get_weights(), there.model.get_weights()):
        np.testing.assert_array_equal(ours, theirs)
    run_folder(tmp_path / "compact", tiny_model())          # what lies here comes first
    assert load_model("compact").points == 64
    for name in ("compactt", "../compact", "nothing/compact", "."):
        with pytest.raises(ValueError, match=r"model file or run folder; bundled are compact|is no run folder"):
            load_model(name)
