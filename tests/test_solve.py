"""Network/solve.py: a known map is found, the network computes it, held-out people gain, bad input."""
import dataclasses
import json

import keras
import numpy as np
import pytest

from Dataset.face_model import load_face_model
from Dataset.images import minmax
from Dataset.renders import RenderOptions
from Dataset.representations.points import grid_landmarks
from Dataset.shards import make_shards, open_shards
from Dataset.truths import Truths
from Network import compact, get_network, pix2pix, solve
from Network.checkpoints import RunFolder
from Network.dense_face import CONTROL
from Network.grid import resample
from Network.loading import load_model
from Network.solve import control_offsets, features_of, normal_equations, ridge_map, solve_run
from Network.solve_dense import equations, true_grid
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
        np.testing.assert_allclose(loaded.predict(images[:, :count]), expected, atol=1e-3)     # of about 30


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
    assert np.abs(load_model(out).predict(images) - load_model(run).predict(images)).max() > 0.01
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


NETWORKS = {
    "pix2pix": pix2pix.Config(image_size=32, filters=(4, 6, 8, 8), encoder="residual", blocks=(0, 0, 1, 0),
                              places=(8, 4, 6, 8), directions=5, up_filters=(6, 4), dropout=0.0,
                              discriminator_filters=(4, 6, 8))}


@pytest.mark.parametrize("name", [pytest.param("pix2pix", marks=pytest.mark.slow)])
def test_dense_faces_are_solved(shards, tmp_path, name):
    """Cameras of places that mean nothing: what is found is the mean of the faces, which is better than the template;
    and the grid is where the equations say it is."""
    keras.utils.set_random_seed(6)
    network, config = get_network(name), NETWORKS[name]
    model = network.build_training(config)
    network.set_template(model, Truths(load_face_model(), 4096).make_template(np.zeros((1, 200))))
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir(parents=True)
    folder.save_weights(model, "best_validation")
    folder.start({"network": name, "model": dataclasses.asdict(config), "data": {"validation_people": 6},
                  "shards": {"seed": shards.settings.seed}})
    about = solve_run(tmp_path / "run", shards, "best_validation", tmp_path / "solved")
    assert about["people"] == 12 and about["of_mean_face_before"] == [pytest.approx(1)]
    assert about["of_mean_face_after"][0] < 1
    again = load_model(tmp_path / "solved")
    assert again.config["solved"] == about
    found = equations(again, shards, np.array([7, 3]), lambda items, total: items)
    assert found.features.shape == (4, 3 * 256 + 8) and found.offsets.shape == (4, CONTROL ** 2 * 3)
    dense, code = again.model.get_layer("dense_face"), again.model.get_layer("shape_code")
    pictures = np.stack([minmax(image) for image in shards.gather("images", [7, 3]).reshape(-1, 32, 32, 3)])
    codes = np.asarray(keras.Model(again.model.input, code.output)(pictures))
    np.testing.assert_allclose(found.features @ np.vstack(code.get_weights()), codes, atol=1e-3)
    along = np.asarray(dense.directions)
    np.testing.assert_allclose(along @ along.T, np.eye(5), atol=1e-4)
    held = equations(again, shards, np.flatnonzero(shards.people < 6), lambda items, total: items)
    off = np.square(held.features @ np.vstack(code.get_weights()) @ along - held.offsets).sum()
    assert about["of_mean_face_after"] == [pytest.approx(off / np.square(held.offsets).sum(), rel=1e-3)]


def test_the_true_grid_is_where_the_landmarks_are(shards):
    grid = true_grid(shards, 4, 1)
    landmarks = grid_landmarks(grid)[17:, :2] * [1, -1]
    true = shards.gather("landmarks", [4], [1])[0][17:] / shards.size
    assert np.linalg.norm(landmarks - true, axis=1).mean() < 0.012
    assert abs(resample(grid, 16)[:, 2].mean()) < 1e-6 and np.ptp(grid[:, 2]) > 0.2
