"""Weight folders: float16 on disk, what that costs, and what is refused."""
import json

import keras
import numpy as np
import pytest

from Network.config.run_config import read_config
from Network.export.pack import main, pack, rounding_error, surface_moved, trained, uv_moved
from Network.models import compact
from Network.engine.loaded import WEIGHTS, began
from Network.training.loading import load_model
from Network.training.named_weights import weights_hash
from tests.test_compact import TINY
from tests.test_streaming import _loaded


@pytest.fixture()
def folder(tmp_path):
    loaded = _loaded(compact, TINY)
    return loaded, pack(loaded, tmp_path / "box", IMAGES, onnx=False), tmp_path / "box"


IMAGES = np.random.default_rng(0).random((2, 4, 32, 32, 3), np.float32)


def test_round_trip_costs_what_is_reported(folder):
    loaded, error, path = folder
    again = load_model(path)
    apart = np.linalg.norm(again.model(IMAGES)["keypoints"] - loaded.model(IMAGES)["keypoints"], axis=-1).max()
    assert 2 * apart == pytest.approx(error, rel=1e-4) and 0 < error < 2e-3
    for exact, stored in zip(loaded.model.get_weights(), again.model.get_weights()):
        np.testing.assert_allclose(stored, exact, rtol=1e-3, atol=1e-7)         # half precision: 11 bits
    assert (path / WEIGHTS).stat().st_size < 2.5 * loaded.model.count_params() + 40_000


def test_exact_weights_cost_nothing(folder):
    loaded = folder[0]
    assert rounding_error(loaded, loaded.model, IMAGES) == 0


@pytest.mark.parametrize("field, value", [("appearance", 7), ("crop_margin", 1.3)])
def test_of_another_config(folder, field, value):
    """Other shapes, or the same shapes and another meaning."""
    _, _, path = folder
    config = json.loads((path / "config.json").read_text())
    config["model"][field] = value
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"{WEIGHTS}: belongs to another config.json"):
        load_model(path)


@pytest.mark.parametrize("spoil, message", [
    (lambda data: data.update(version=np.array(9)), "weights of version 2 are needed, received 9"),
    (lambda data: data.pop("version"), "holds no weights of this program"),
    (lambda data: data.pop("top/bias"), r"weights.npz: does not fit this network: lacks top/bias$"),
    (lambda data: data.update({"nose/kernel": np.ones(3)}), "does not fit this network: holds unknown nose/kernel$"),
    (lambda data: data.update({"top/bias": np.ones(7)}), r"has another shape: top/bias is \(7,\), must be \(8,\)$"),
    (lambda data: data["top/bias"].fill(np.nan), "is not finite: top/bias$")])
def test_spoilt_weights(folder, spoil, message):
    _, _, path = folder
    with np.load(path / WEIGHTS) as stored:
        data = {name: stored[name] for name in stored.files}
    spoil(data)
    np.savez(path / WEIGHTS, **data)
    with pytest.raises(ValueError, match=message):
        load_model(path)


def test_half_a_file_and_a_pickle(folder):
    _, _, path = folder
    whole = (path / WEIGHTS).read_bytes()
    (path / WEIGHTS).write_bytes(whole[:len(whole) // 2])
    with pytest.raises(ValueError, match="holds no weights of this program"):
        load_model(path)
    np.savez(path / WEIGHTS, version=np.array(1), config=np.array(""), a=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="holds no weights of this program"):
        load_model(path)


def test_what_float16_cannot_hold_is_refused(tmp_path):
    loaded = _loaded(compact, TINY)
    loaded.model.get_layer("top").bias.assign(keras.ops.full((8,), 1e6))
    with pytest.raises(ValueError, match="float16 cannot hold, top/bias"):
        pack(loaded, tmp_path / "box", IMAGES, onnx=False)
    loaded.model.get_layer("top").bias.assign(keras.ops.zeros((8,)))
    kernel = loaded.model.get_layer("maps").kernel
    kernel.assign(3000.3 * keras.ops.sign(kernel))
    with pytest.raises(ValueError, match="float16 moves a point by .* at most 0.002 is allowed"):
        pack(loaded, tmp_path / "box", IMAGES, onnx=False)
    assert not (tmp_path / "box").exists()


def test_a_file_that_unpacks_to_far_too_much(folder):
    _, _, path = folder
    np.savez_compressed(path / WEIGHTS, version=np.array(1), config=np.array(""), a=np.zeros(2**24, np.float16))
    assert (path / WEIGHTS).stat().st_size < 100_000
    with pytest.raises(ValueError, match="holds no weights of this program .unpacks to"):
        load_model(path)


def test_a_packed_model_is_not_overwritten_silently(folder):
    loaded, _, path = folder
    before = (path / WEIGHTS).read_bytes()
    loaded.model.get_layer("top").bias.assign(keras.ops.ones((8,)))
    with pytest.raises(ValueError, match="box: holds a model already; name another folder with -o, or add --overwrite"):
        pack(loaded, path, IMAGES, onnx=False)
    assert (path / WEIGHTS).read_bytes() == before
    pack(loaded, path, IMAGES, overwrite=True, onnx=False)
    np.testing.assert_array_equal(load_model(path).model.get_layer("top").bias, np.ones(8))


def test_the_default_folder_is_the_networks_name_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("Network.export.pack.load_model", lambda run, checkpoint: _loaded(compact, TINY))
    monkeypatch.setattr("Network.export.pack._renders", lambda size: IMAGES)
    monkeypatch.setattr("Network.export.pack.model_onnx", lambda *_: b"onnx")
    assert main(["run"]) == 0 and (tmp_path / "compact" / WEIGHTS).is_file()


def test_command_line(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "no such model file or run folder" in capsys.readouterr().err


def test_no_path_of_the_machine_that_trained_goes_along(tmp_path):
    loaded = _loaded(compact, TINY)
    loaded.config["settings"] = {"seed": 0, "warm_start": "/somewhere/else/first"}
    pack(loaded, tmp_path / "box", IMAGES, onnx=False)
    assert json.loads((tmp_path / "box" / "config.json").read_text())["settings"] == {"seed": 0, "warm_start": "first"}
    assert loaded.config["settings"]["warm_start"] == "/somewhere/else/first"


def test_how_far_uv_maps_move():
    maps = np.zeros((2, 20, 20, 4), np.float32)
    maps[:, 4:16, 4:16, 2] = 1
    other = maps.copy()
    other[..., 0] += 0.003
    other[..., 1] += 0.004
    other[0, 5, 5, 0] = 0.9             # one of 288
    assert uv_moved(maps, other) == pytest.approx(0.01, rel=1e-3)      # the atlas is the sphere's diameter, 2, wide
    other[:, :4, :4, 0] = 7             # beside the face
    assert uv_moved(maps, other) == pytest.approx(0.01, rel=1e-3)
    other[0, 4:6, 4:16, 2] = 0
    assert uv_moved(maps, other) == np.inf
    assert uv_moved(np.zeros_like(maps), np.zeros_like(maps)) == 0


def test_how_far_a_surface_moves():
    depth = np.full((2, 20, 20, 1), -1.0, np.float32)
    depth[:, 4:16, 4:16] = 0.5
    other = depth.copy()
    other[:, 4:16, 4:16] += 0.001
    other[0, 5, 5] = 0.9                # one of 288 at a fold
    assert surface_moved(depth, other) == pytest.approx(0.001, rel=1e-3)
    other[0, 4:6, 4:16] = -1
    assert surface_moved(depth, other) == np.inf
    assert surface_moved(np.full_like(depth, -1), depth) == np.inf
    assert surface_moved(np.full_like(depth, -1), np.full_like(depth, -1)) == 0
    logits = np.full((1, 20, 20, 30), -5.0, np.float32)
    logits[:, 4:16, 4:16, 10:20] = 5
    more = logits.copy()
    more[:, 4:10, 4:16, 20] = 5         # a voxel more on half of the rays: 2 / 20 of the unit sphere
    assert surface_moved(logits, more) == pytest.approx(0.05)


def test_what_the_training_cost(folder, tmp_path):
    """The last row of history.csv, and what the initial weights had cost before; packed, it is kept."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "history.csv").write_text("epoch,samples,cpu_seconds\n1,500,900.0\n2,1000,1800.0\n")
    loaded = folder[0]._replace(source=run / "best_validation.keras")
    assert trained(loaded) == {"samples": 1000, "cpu_hours": 0.5}
    pack(loaded, tmp_path / "first", IMAGES)
    assert trained(load_model(tmp_path / "first")) == {"samples": 1000, "cpu_hours": 0.5}
    later = loaded._replace(config={**loaded.config, "settings": {"warm_start": str(tmp_path / "first"), "seed": 7}})
    assert trained(later) == {"samples": 2000, "cpu_hours": 1.0}
    first = json.loads((tmp_path / "first" / "config.json").read_text())["began"]
    assert first == {"seed": loaded.config.get("settings", {}).get("seed"),
                     "initial_weights": loaded.config.get("initial_weights")}
    assert began({**later.config, "initial_weights": "of the second"}) == first       # the first of the chain
    assert began({"settings": {"seed": 3}, "initial_weights": "ab"}) == {"seed": 3, "initial_weights": "ab"}
    assert trained(loaded._replace(source=tmp_path / "elsewhere.keras")) == {}


@pytest.mark.parametrize("text, rule", [
    ("", "must hold the column samples"), ("samples,cpu_seconds\n", "must hold a row for each epoch"),
    ("epoch,samples\n1,5\n", "must hold the column cpu_seconds"),
    ("samples,cpu_seconds\n1\n", "every row must have the header's 2 columns, the last has 1"),
    ("samples,cpu_seconds\n1,nan\n", "from 0 to"), ("samples,cpu_seconds\n1,inf\n", "from 0 to"),
    ("samples,cpu_seconds\n-1,2\n", "from 0 to"), ("samples,cpu_seconds\nx,2\n", "invalid literal"),
    (f"samples,cpu_seconds\n{'1' * 200_000},2\n", "field larger"), ("\0", "column samples|NUL")])
def test_a_history_that_is_none_is_one_line(text, rule, folder, tmp_path):
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(ValueError, match=f"history.csv: no history of a run that can be read \\(.*({rule})"):
        trained(folder[0]._replace(source=tmp_path))


def test_a_broken_history_ends_the_command_with_one_line(folder, tmp_path, monkeypatch, capsys):
    from Network.export import pack as module
    (tmp_path / "history.csv").write_text("epoch,samples,cpu_seconds\n")
    monkeypatch.setattr(module, "load_model", lambda *_: folder[0]._replace(source=tmp_path))
    assert main([str(tmp_path), "-o", str(tmp_path / "out")]) == 2 and not (tmp_path / "out").exists()
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{tmp_path / 'history.csv'}: no history of a run" in error


@pytest.mark.parametrize("training", [None, 5, "x", [], {"samples": 1}, {"samples": "1", "cpu_hours": 1},
                                      {"samples": 1, "cpu_hours": float("nan")}, {"samples": 1.5, "cpu_hours": 1},
                                      {"samples": -1, "cpu_hours": 1}, {"samples": True, "cpu_hours": 1}])
def test_what_a_training_cost_is_checked(training, folder, tmp_path):
    """In the config itself, and in that of the initial weights."""
    loaded = folder[0]._replace(source=tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**loaded.config, "training": training}))
    (tmp_path / "history.csv").write_text("samples,cpu_seconds\n1,2\n")
    started = loaded._replace(config={**loaded.config, "settings": {"warm_start": str(tmp_path)}})
    for call in (lambda: read_config(tmp_path), lambda: trained(started),
                 lambda: trained(loaded._replace(config={**loaded.config, "training": training}))):
        with pytest.raises(ValueError, match="config.json: training must be an object of samples"):
            call()


def test_the_hash_of_weights(folder):
    model = folder[0].model
    before = weights_hash(model)
    assert before == weights_hash(model) and len(before) == 64
    kernel = next(weight for weight in model.weights if weight.path.endswith("kernel"))
    kernel.assign(np.asarray(kernel) + np.eye(*kernel.shape[-2:], dtype=np.float32)[None, None] * 1e-6)
    assert weights_hash(model) != before


def test_multitask_keeps_its_landmarks(tmp_path, monkeypatch):
    """A weight folder holds the heat maps' part, too; the volume is what it was."""
    from Network.export import pack as module
    from Network.inference.registry import from_run
    from Network.models import vrn
    from tests.tiny_runs import write_run
    config = vrn.Config(variant="multitask", image_size=32, layers=36, features=8, stem=(4, 8), head=(8,), depth=1,
                        landmark_features=8)
    monkeypatch.setattr(module, "rounding_error", lambda *_: 0.0)       # a fit to noise
    run = write_run(tmp_path / "run", "vrn", vrn_training(vrn), config)
    assert main([str(run), "-o", str(tmp_path / "box")]) == 0
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    whole, packed = from_run(run), from_run(tmp_path / "box")
    np.testing.assert_allclose(packed.answers(images), whole.answers(images), atol=0.3)      # logits of drawn weights
    maps = [predictor.heat_landmarks()(images) for predictor in (whole, packed)]
    assert maps[0].shape == maps[1].shape == (2, 68, 2)     # of drawn weights: a maximum may jump when they are rounded


def vrn_training(module):
    """The module, whose `build` makes the training model: what a run keeps."""
    class Training:
        build = staticmethod(module.build_training)
    return Training
