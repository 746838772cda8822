"""Network/solve.py: a known map is found, the network computes it, held-out people gain, bad input."""
import json

import keras
import numpy as np
import pytest

from Dataset.renders import RenderOptions
from Dataset.shards import make_shards, open_shards
from Network import compact, solve
from Network.checkpoints import RunFolder
from Network.grid import resample
from Network.inference.registry import from_run, predictor_of
from Network.loading import load_model
from Network.solve import control_offsets, features_of, normal_equations, ridge_map, solve_run
from tests.test_compact import TINY
from tests.test_streaming import _loaded

RENDERS = RenderOptions(people=18, images=2, size=32, seed=3, detect=0.0)


def test_a_known_map_is_found():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3, 7))
    x[:, 1:] = x[:, :1]                                 # the truth does not depend on the number of pictures
    x[..., -1] = 1.0
    true = rng.normal(size=(7, 4))
    sums = normal_equations((x[i:i + 10], x[i:i + 10, 0] @ true) for i in range(0, 50, 10))
    assert sums.count == 150
    np.testing.assert_allclose(ridge_map(sums, 0.0), true, atol=1e-6)
    pulled = ridge_map(sums, 1.0)
    assert np.abs(pulled[:-1]).mean() < 0.7 * np.abs(true[:-1]).mean()
    with pytest.raises(ValueError, match="nobody to solve for"):
        ridge_map(normal_equations(iter(())), 0.1)


def test_control_offsets_are_refined_back():
    rng = np.random.default_rng(1)
    coarse, template = rng.normal(size=(2, 5 * 5, 3)), rng.normal(size=(17 * 17, 3))
    fine = np.stack([resample(values, 17) for values in coarse]) + template
    np.testing.assert_allclose(control_offsets(fine, template, 5).reshape(2, 25, 3), coarse, atol=1e-5)


@pytest.mark.parametrize("triangulate", [True, False])
def test_the_network_computes_the_map(triangulate):
    loaded = _loaded(compact, dataclasses.replace(TINY, triangulate=triangulate))
    rng = np.random.default_rng(2)
    images = rng.random((2, 3, 32, 32, 3), np.float32)
    features = features_of(loaded)(images)
    basis = np.linalg.qr(rng.normal(size=(3 * 64, 4)))[0].T
    mapped = rng.normal(size=(features.shape[-1], 4)) @ basis
    solve.solve(loaded.model, mapped, basis)
    template = np.asarray(loaded.model.get_layer("points").template)
    for count in (1, 2, 3):
        expected = template + (features[:, count - 1] @ mapped).reshape(2, 64, 3)
        np.testing.assert_allclose(predictor_of(loaded).predict(images[:, :count]), expected, atol=1e-3)     # of about 30


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    out = tmp_path_factory.mktemp("solve") / "shards"
    make_shards(out, RENDERS)
    return open_shards(out)


@pytest.fixture
def run(tmp_path, shards):
    """An untrained network's run folder: all that it knows is how to look."""
    keras.utils.set_random_seed(5)
    model = compact.build_training(TINY)
    compact.set_template(model, np.random.default_rng(3).normal(size=(64, 3)).astype(np.float32) * 0.5)
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.save_weights(model, "best_validation")
    folder.start({"network": "compact", "model": dataclasses.asdict(TINY), "order": "grid",
                  "data": {"validation_people": 4}, "shards": {"seed": 3}})
    return folder.path


def test_a_solved_run_is_a_run_and_better(run, shards, tmp_path):
    out = tmp_path / "solved"
    assert solve.main([str(run), str(shards.path), "-o", str(out)]) == 0
    about = json.loads((out / "config.json").read_text())["solved"]
    assert about["people"] == 14 and about["ridge"] in solve.RIDGES
    # the template here is noise, so that even an untrained network gains: by its constant
    assert np.mean(about["of_mean_face_after"]) < 0.1 < np.mean(about["of_mean_face_before"])
    images = np.random.default_rng(4).random((1, 2, 32, 32, 3), np.float32)
    assert np.abs(from_run(out).predict(images) - from_run(run).predict(images)).max() > 0.01
    old, new = load_model(run).model, load_model(out).model
    for layer in old.layers:
        if layer.name not in ("points", "code", "linear_code"):
            for a, b in zip(layer.get_weights(), new.get_layer(layer.name).get_weights()):
                np.testing.assert_array_equal(a, b)


def test_a_draw_of_the_people(run, shards, tmp_path):
    everybody = int((shards.people >= json.loads((run / "config.json").read_text())["data"]["validation_people"]).sum())
    one = solve_run(run, shards, "best_validation", tmp_path / "some", people=everybody - 2)
    other = solve_run(run, shards, "best_validation", tmp_path / "others", people=everybody - 2, seed=1)
    assert one["people"] == other["people"] == everybody - 2
    assert one["of_mean_face_after"] != other["of_mean_face_after"]


def test_bad_input(run, shards, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        solve.main([str(run), str(shards.path), "-o", str(run)])
    assert stopped.value.code == 2
    assert "holds a run already" in capsys.readouterr().err
    config = json.loads((run / "config.json").read_text())
    for change, message in (({"network": "convlstm"}, ""), ({"shards": {"seed": 4}}, "not the shards"),
                            ({"data": {"validation_people": 0}}, "both sides of number 0"),
                            ({"data": {"validation_people": 99}}, "both sides of number 99")):
        (run / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match=message):
            solve_run(run, shards, "best_validation", tmp_path / "none")
        assert not (tmp_path / "none").exists()
