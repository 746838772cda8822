"""Network/prune.py: a known convolution is found, channels go as by a slow twin, a block that has too many loses
nothing, a pruned run is a run; bad input."""
import dataclasses
import json

import keras
import numpy as np
import pytest

from Dataset.renders import RenderOptions
from Dataset.shards import make_shards, open_shards
from Network import compact, prune, uvnet
from Network.checkpoints import RunFolder
from Network.loading import load_model
from Network.prune import best_features, equations, narrower_blocks, prune_block, prune_run, second_convolution, taps
from tests.test_compact import TINY

WIDE = dataclasses.replace(TINY, encoder_blocks=(0, 0, 1, 2))
NARROW = uvnet.Config(image_size=32, levels=3, filters=(3,), encoder="residual", stem=4, features=(6, 8, 8),
                      blocks=(0, 1, 2), block_features=(6, 8, 5), up_features=(4, 6, 8), up_convolutions=(1,),
                      places=(TINY.pyramid_filters, TINY.looks, TINY.fine_filters, TINY.refine_filters),
                      last_convolutions=0, normalisation="batch", upsampling="nearest", skips="add")


def _sums(rng, features, kernel, bias):
    convolution = keras.layers.Conv2D(kernel.shape[-1], 3, padding="same")
    convolution.build(features.shape)
    convolution.set_weights([kernel, bias])
    return equations(iter([(part, np.asarray(convolution(part))) for part in np.array_split(features, 2)]))


def test_a_known_convolution_is_found():
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(3, 3, 4, 2)).astype(np.float32), np.array([0.5, -2.0], np.float32)
    sums = _sums(rng, rng.normal(size=(40, 6, 6, 4)).astype(np.float32), kernel, bias)
    found, constant, lost = second_convolution(sums, np.arange(4))
    np.testing.assert_allclose(found, kernel, atol=0.01)        # the ridge draws it to 0 by a thousandth
    np.testing.assert_allclose(constant, bias, atol=0.02)
    assert 0 <= lost < 1e-5
    assert second_convolution(sums, np.arange(3))[2] > 0.1


def test_channels_go_one_by_one_as_by_a_slow_twin():
    rng = np.random.default_rng(1)
    mixed = rng.normal(size=(30, 5, 5, 6)) @ rng.normal(size=(6, 6))        # not independent
    kernel = rng.normal(size=(3, 3, 6, 3)) * rng.uniform(0.2, 2.0, (6, 1))
    sums = _sums(rng, mixed.astype(np.float32), kernel.astype(np.float32), np.zeros(3, np.float32))

    def error(left):
        """Ridge regression from those features alone."""
        columns = np.append((np.arange(9)[:, None] * 6 + left).ravel(), 54)
        inputs, outputs = sums.inputs[np.ix_(columns, columns)], sums.outputs[columns]
        pull = np.diag(np.append(prune.RIDGE * np.diag(inputs)[:-1], 0)) + 1e-9 * np.trace(sums.inputs) / 55 * np.diag(
            np.append(np.ones(len(columns) - 1), 0))
        return -np.sum(outputs * np.linalg.solve(inputs + pull, outputs))
    left = list(range(6))
    for keep in (5, 4, 3, 2, 1):
        left = min(([i for i in left if i != gone] for gone in left), key=error)
        assert best_features(sums, keep).tolist() == left
    for keep in (0, 7):
        with pytest.raises(ValueError, match="between 1 and 6"):
            best_features(sums, keep)
    with pytest.raises(ValueError, match="no picture"):
        equations(iter(()))


def test_taps_are_what_a_convolution_reads():
    rng = np.random.default_rng(2)
    features, kernel = rng.normal(size=(2, 4, 5, 3)), rng.normal(size=(3, 3, 3, 2))
    seen = keras.ops.conv(features.astype(np.float32), kernel.astype(np.float32), padding="same")
    read = taps(features)[:, :-1] @ kernel.reshape(27, 2)
    np.testing.assert_allclose(read, np.asarray(seen).reshape(-1, 2), atol=1e-4)


def _networks(doubled):
    """A wide network whose blocks of the last level hold, where `doubled`, but five features, some twice; a narrow one.
    """
    keras.utils.set_random_seed(3)
    wide, narrow = compact.build(WIDE), uvnet.build_training(NARROW)
    rng = np.random.default_rng(4)
    for layer in wide.layers:
        if layer.name.endswith("_norm"):
            gamma, beta, mean, variance = (np.array(w) for w in layer.get_weights())
            layer.set_weights([rng.uniform(0.5, 1.5, gamma.shape), rng.normal(0, 0.2, beta.shape),
                               rng.normal(0, 0.2, mean.shape), rng.uniform(0.5, 1.5, variance.shape)])
    for name in ("block_3_0_1", "block_3_1_1") if doubled else ():
        for layer in (wide.get_layer(name), wide.get_layer(f"{name}_norm")):
            layer.set_weights([w[..., [0, 1, 2, 3, 4, 0, 1, 2]] for w in layer.get_weights()])
    return wide, narrow


def test_the_blocks_that_are_narrower():
    wide, narrow = _networks(False)
    assert narrower_blocks(narrow, wide) == ["block_3_0", "block_3_1"]
    assert narrower_blocks(narrow, narrow) == []


def test_features_that_repeat_each_other_go_for_nothing():
    wide, narrow = _networks(True)
    for layer in narrow.layers:
        if layer.name in {other.name for other in wide.layers} and not layer.name.startswith("block_3"):
            if [w.shape for w in layer.get_weights()] == [w.shape for w in wide.get_layer(layer.name).get_weights()]:
                layer.set_weights(wide.get_layer(layer.name).get_weights())
    pictures = np.random.default_rng(5).random((300, 32, 32, 3), np.float32)

    def batches():
        return iter(np.array_split(pictures, 5))
    for name in ("block_3_0", "block_3_1"):
        assert prune_block(narrow, wide, name, batches) < 1e-3
    fresh = np.random.default_rng(6).random((8, 32, 32, 3), np.float32)
    seen = keras.Model(narrow.input, narrow.get_layer("block_3_1").output)
    theirs = np.asarray(keras.Model(wide.input, wide.get_layer("block_3_1").output)(fresh[:, None]))
    ours = np.asarray(seen(fresh))
    assert np.abs(ours - theirs).mean() < 0.02 * np.abs(theirs).mean()
    # what it normalises by is what the pictures have: it does the same in training
    second = np.asarray(keras.Model(narrow.input, narrow.get_layer("block_3_1_2").output)(pictures)).reshape(-1, 8)
    _, _, mean, variance = narrow.get_layer("block_3_1_2_norm").get_weights()
    np.testing.assert_allclose(mean, second.mean(0), atol=1e-3)
    np.testing.assert_allclose(variance, second.var(0), rtol=1e-3)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    out = tmp_path_factory.mktemp("prune") / "shards"
    make_shards(out, RenderOptions(people=10, images=2, size=32, seed=3, detect=0.0))
    return open_shards(out)


@pytest.fixture
def folders(tmp_path, shards):
    """Run folders of a wide and of a narrow network."""
    for name, network, config, model in zip(("wide", "narrow"), ("compact", "uvnet"), (WIDE, NARROW), _networks(False)):
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir()
        folder.save_weights(model, "best_validation")
        folder.start({"network": network, "model": dataclasses.asdict(config), "order": "grid",
                      "data": {"validation_people": 2}, "shards": {"seed": 3}})
    return tmp_path


def test_a_pruned_run_is_a_run(folders, shards, capsys):
    arguments = [str(folders / "narrow"), str(folders / "wide"), str(shards.path), "-o"]
    assert prune.main([*arguments, str(folders / "out")]) == 0
    lost = json.loads((folders / "out" / "config.json").read_text())["pruned"]
    assert list(lost) == ["block_3_0", "block_3_1"] and all(0 < share < 1 for share in lost.values())
    assert f"block_3_0: {lost['block_3_0']:.4f}" in capsys.readouterr().out
    assert prune.main([*arguments, str(folders / "again")]) == 0
    one, two = load_model(folders / "out").model, load_model(folders / "again").model
    for a, b in zip(one.get_weights(), two.get_weights()):
        np.testing.assert_array_equal(a, b)
    wide = load_model(folders / "wide").model
    np.testing.assert_array_equal(one.get_layer("down_3").get_weights()[0], wide.get_layer("down_3").get_weights()[0])
    with pytest.raises(SystemExit) as stopped:
        prune.main([*arguments, str(folders / "out")])
    assert stopped.value.code == 2 and "holds a run already" in capsys.readouterr().err


def test_bad_input(folders, shards):
    narrow, wide, out = folders / "narrow", folders / "wide", folders / "none"
    with pytest.raises(ValueError, match="has no block narrower"):
        prune_run(narrow, narrow, shards, out)
    config = json.loads((narrow / "config.json").read_text())
    (narrow / "config.json").write_text(json.dumps({**config, "shards": {"seed": 4}}))
    with pytest.raises(ValueError, match="not the shards"):
        prune_run(narrow, wide, shards, out)
    (narrow / "config.json").write_text(json.dumps({**config, "data": {"validation_people": 99}}))
    with pytest.raises(ValueError, match="no picture"):
        prune_run(narrow, wide, shards, out)
    assert not out.exists()
