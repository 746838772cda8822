"""Bundled weights are the result of the training that their card names: nothing of another network's, and the
decoder of each does the work."""
import itertools
import re
from functools import lru_cache

import keras
import numpy as np
import pytest

from Datagenerator.evaluation_data import dense_targets, iteration_samples_of
from Dataset.face_model.model import load_face_model
from Dataset.io.archives.npz import read_npz
from Dataset.representations.points import grid_of, mean_face
from Dataset.synthesis.renders import RenderOptions
from Dataset.synthesis.shards import make_shards, open_shards
from Evaluation.reports.dense import dense_table
from Evaluation.reports.iterations import iteration_table
from Network.config.run_config import read_config
from Network.engine.loaded import WEIGHTS, began, bundled_models
from Network.inference.registry import from_run, predictor_of
from Network.models.registry import get_network
from Network.training.checkpoints import model_from_config
from Network.training.named_weights import named_weights
from tests.forkserver import ROOT

BUNDLED = bundled_models()
PAPERS = [name for name in BUNDLED if name != "compact"]
FEW = 256           # numbers: fewer may follow another kernel's by chance
FOLLOWS = 0.5       # |cosine|
#: network -> the layers of its decoder, and the metric of `evaluate.py` in which it is measured; True: more is better
DECODERS = {"uvnet": (r"up_|last_|maps", "uv_l1", False), "pix2pix": (r"up_|depth", "mae_of_face", False),
            "vrn": (r"hourglass_|head_|volume", "iou", True), "coarse": (r"coefficients", "landmarks", False),
            "convlstm": (r"decoder_", "distance", False)}


#: what is no better than the constant baseline yet (its card says so), and by how much worse it may be
CONSTANT = {"convlstm-small": 1.02}


def kernels(name: str) -> dict[str, np.ndarray]:
    """Name -> kernel, float32, of every kernel of a bundled network that is not constant."""
    return {key: values.astype(np.float32) for key, values in read_npz(BUNDLED[name] / WEIGHTS).items()
            if "kernel" in key and values.size >= FEW and np.ptp(values) > 0}


@pytest.mark.parametrize("name", PAPERS)
def test_its_card_names_where_it_began(name):
    config = read_config(BUNDLED[name])
    card = (ROOT / "docs" / "cards" / f"{name}.md").read_text()
    start = config["settings"]["warm_start"]
    assert not start or start == name, "initial weights of another network"
    first = began(config)
    assert first["initial_weights"] in card and f"seed {first['seed']}" in card
    assert config["preset"] == f"{config['network']}-small" and f"`{config['preset']}`" in card
    assert f"{config['training']['samples']:,}" in card and str(config["training"]["cpu_hours"]) in card


@pytest.mark.parametrize("name", PAPERS)
def test_it_has_moved_from_where_it_began(name):
    """Every layer: kernels are not constant, and the statistics of normalisation are not those of new weights."""
    weights = read_npz(BUNDLED[name] / WEIGHTS)
    for key, values in weights.items():
        if "kernel" in key and values.size > 1:
            assert np.ptp(values) > 0, key
        if key.endswith("moving_mean"):
            assert np.abs(values).max() > 0, key
        if key.endswith("moving_variance"):
            assert np.any(values != 1), key
    assert any(np.abs(values).max() > 0 for key, values in weights.items() if re.search("beta|bias", key))


@pytest.mark.parametrize("one, other", list(itertools.combinations(BUNDLED, 2)))
def test_no_kernel_is_or_follows_another_networks(one, other):
    """But for what both began with: the same seed draws the same values where shapes and order agree. What training
    made of these must differ."""
    first, second = kernels(one), kernels(other)
    assert first and second
    for (a, mine), (b, theirs) in itertools.product(first.items(), second.items()):
        if mine.shape == theirs.shape and abs(cosine(mine, theirs)) >= FOLLOWS:
            began = initial(one)[a], initial(other)[b]
            np.testing.assert_allclose(*began, atol=1e-5, err_msg=f"{one} {a} follows {other} {b}")
            apart = cosine(mine - began[0], theirs - began[1])
            assert abs(apart) < FOLLOWS, f"{one} {a} was trained as {other} {b} was: {apart:.2f}"


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.vdot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other)))


@lru_cache(maxsize=None)
def initial(name: str) -> dict[str, np.ndarray]:
    """The weights that a network's training began with, by its seed."""
    config = read_config(BUNDLED[name])
    keras.utils.set_random_seed(began(config)["seed"])
    model = get_network(config["network"]).predicting_part(model_from_config(config, training=True))
    return {key: np.asarray(weight) for key, weight in named_weights(model).items()}


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """Shards of eight subjects that no network was trained on, near the front."""
    out = tmp_path_factory.mktemp("bundled") / "faces"
    make_shards(out, RenderOptions(subjects=8, images=2, seed=314, yaw=30, pitch=15, roll=15, detect=0,
                                   buffers=("uv", "mask", "visible_mask", "depth")))
    return out


def measured(predictor, folder, metric) -> tuple[float, float]:
    """The network's number and the constant baseline's."""
    if predictor.network == "convlstm":
        return _distances(predictor, folder)
    if predictor.network == "coarse":
        table = iteration_table(predictor.run_iterations(3), iteration_samples_of(folder, predictor.size, 2), "t")
        column = list(table.columns).index(metric)
        return table.rows[-1][column], table.rows[0][column]
    table = dense_table(lambda kind: dense_targets(kind, folder, predictor.size, 2, predictor.input_scaling,
                                                   predictor.layers), predictor, "t")
    rows = {row[0]: row for row in table.rows}
    return rows[metric][1], rows[metric][2]


def _distances(predictor, folder) -> tuple[float, float]:
    """Mean distance of the points, unit sphere, of subjects from two images each; of the mean face."""
    shards, model = open_shards(folder), load_face_model()
    found, floor, mean = [], [], mean_face(predictor.points)
    for subject in range(len(shards)):
        truth = grid_of(model.shape(shards.gather("identity", [subject])[0]), model, predictor.points)
        images = shards.gather("images", np.full(2, subject), np.arange(2))
        for face, kept in ((predictor.subject(list(images)), found), (mean, floor)):
            kept.append(np.linalg.norm(face - truth, axis=-1).mean())
    return float(np.mean(found)), float(np.mean(floor))


@pytest.mark.parametrize("name", PAPERS)
def test_without_its_decoder_it_knows_nothing(name, subjects):
    """Trained it is better than the constant baseline; with the decoder's kernels drawn anew it is not."""
    predictor = from_run(BUNDLED[name], engine="keras")
    layers, metric, more = DECODERS[predictor.network]
    sign = -1 if more else 1
    mine, floor = measured(predictor, subjects, metric)
    assert sign * mine < sign * floor * CONSTANT.get(name, 1.0)
    model, rng, drawn = predictor.loaded.model, np.random.default_rng(0), 0
    for key, weight in named_weights(model).items():
        if re.match(layers, key) and "kernel" in key:
            values = rng.normal(0, np.sqrt(2 / np.prod(weight.shape[:-1])), weight.shape)
            weight.assign(values)
            drawn += 1
    assert drawn
    without, _ = measured(predictor_of(predictor.loaded.with_model(model)), subjects, metric)
    assert not sign * without < sign * floor        # NaN: it sees no face at all
