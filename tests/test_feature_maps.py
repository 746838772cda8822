"""Network/inspection/feature_maps.py, Evaluation/views/feature_collage.py: the layers' values, tiles of a collage."""
import dataclasses

import cv2
import keras
import numpy as np
import pytest

from Dataset.io.images import scaled
from Evaluation.views.feature_collage import MAX_SIDE, collage, write_collages
from Network.inspection import feature_maps
from Network.inspection.feature_maps import layer_names
from Network.models import uvnet

TINY = uvnet.Config(image_size=16, levels=2, first_features=4)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return uvnet.build(TINY)


def test_layers_are_named(model):
    assert layer_names(model) == ["down_0_0", "down_0_1", "down_1_0", "down_1_1", "up_1", "up_1_0", "up_1_1", "up_0",
                                  "up_0_0", "up_0_1", "last_0", "last_1", "maps"]
    assert layer_names(model, ["pool", "maps"]) == ["pool_0", "pool_1", "maps"]
    with pytest.raises(ValueError, match="has a name that begins with 'hat'; there are down"):
        layer_names(model, ["maps", "hat"])
    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="has no layer with feature maps"):
        layer_names(flat)


def test_values_are_the_layers(model, monkeypatch):
    image = np.random.default_rng(0).random((16, 16, 3), np.float32)
    found = feature_maps.feature_maps(model, image, ["down_0_0", "pool_1", "maps"])
    assert {name: maps.shape for name, maps in found.items()} == {"down_0_0": (16, 16, 4), "pool_1": (4, 4, 7),
                                                                  "maps": (16, 16, 4)}
    np.testing.assert_allclose(found["maps"], model(image[None])[0], atol=1e-6)
    kernel, bias = model.get_layer("down_0_0").get_weights()
    window = np.pad(image, ((2, 2), (2, 2), (0, 0)))[5:10, 7:12]        # about row 5, column 7
    np.testing.assert_allclose(found["down_0_0"][5, 7],
                               np.maximum(np.einsum("ijk,ijkc->c", window, kernel) + bias, 0), atol=1e-5)
    one = feature_maps.feature_maps(model, image, ["pool_1"])
    np.testing.assert_array_equal(one["pool_1"], found["pool_1"])
    with pytest.raises(ValueError, match="layers with feature maps are needed, got hat"):
        feature_maps.feature_maps(model, image, ["maps", "hat"])
    monkeypatch.setattr(feature_maps, "MAX_VALUES", 1000)
    with pytest.raises(ValueError, match="more than 1000 values"):
        feature_maps.feature_maps(model, image, ["maps"])


def test_a_collage_by_hand():
    """Four ramps of 32x32, the second upside down: two by two below the caption, each from dark to bright."""
    ramp = np.linspace(3, 5, 32)[:, None].repeat(32, 1)
    image = collage(np.stack([ramp, -7 * ramp, 0.01 * ramp, np.full((32, 32), 9.0)], -1), "x")
    assert image.shape == (22 + 2 * 34, 160, 3) and image.dtype == np.uint8
    dark, bright = cv2.applyColorMap(np.array([[0, 255]], np.uint8), cv2.COLORMAP_VIRIDIS)[0]
    for y, x, top, bottom in ((22, 0, dark, bright), (22, 34, bright, dark), (56, 0, dark, bright),
                              (56, 34, dark, dark)):
        np.testing.assert_array_equal(image[y, x:x + 32], [top] * 32)
        np.testing.assert_array_equal(image[y + 31, x:x + 32], [bottom] * 32)
    assert (image[22:54, 32:34] == 255).all() and (image[54:56] == 255).all()


def test_a_collage_is_bounded():
    rng = np.random.default_rng(1)
    for shape in ((256, 256, 300), (2, 2, 525), (1, 900, 5), (3000, 40, 2)):
        image = collage(rng.normal(size=shape).astype(np.float32))
        assert max(image.shape[:2]) <= MAX_SIDE, (shape, image.shape)
    quiet = rng.normal(size=(8, 8, 30)) * (np.arange(30) % 3 == 1)
    few = collage(quiet, limit=10)                       # the ten that vary, in their order
    np.testing.assert_array_equal(few[22:], collage(quiet[..., 1::3], limit=10)[22:])
    odd = quiet.copy()
    odd[0, 0, 1], odd[:, :, 4] = np.inf, np.nan
    assert collage(odd).shape == collage(quiet).shape
    for bad in (np.zeros((3, 3)), np.zeros((0, 3, 3))):
        with pytest.raises(ValueError, match=r"feature maps must be \(h, w, C\)"):
            collage(bad)


def test_collages_are_written_whole_or_not_at_all(tmp_path):
    maps = np.random.default_rng(0).normal(size=(4, 4, 6)).astype(np.float32)
    paths = write_collages(tmp_path / "out", {"down_0": maps, "a/b c": maps[..., :2]})
    assert [p.name for p in paths] == ["00_down_0.png", "01_a_b_c.png"]
    np.testing.assert_array_equal(cv2.imread(str(paths[0])), collage(maps, "down_0"))
    with pytest.raises(ValueError, match="feature maps must be"):
        write_collages(tmp_path / "no", {"fine": maps, "bad": maps[0]})
    assert not (tmp_path / "no").exists()


def test_the_demo_writes_the_layers_of_the_last_photo(tmp_path, monkeypatch, capsys):
    """--view features: NAME_features.png is the answer's collage, beside it a folder with every layer's, of the square
    that the network saw; a network that does not show its layers has none."""
    import demo
    from Network.inference.base import Predictor
    from Network.training.checkpoints import RunFolder
    config = uvnet.Config(image_size=32, levels=2, first_features=4)
    network, run = uvnet.build(config), RunFolder(tmp_path / "run")
    last, rng = network.get_layer("maps"), np.random.default_rng(0)
    last.kernel.assign(np.concatenate([rng.normal(0, 0.3, (5, 5, 5, 2)), np.zeros((5, 5, 5, 2))], -1))
    last.bias.assign([0.5, 0.5, 1.0, 1.0])              # all is face
    run.start({"network": "uvnet", "model": dataclasses.asdict(config), "order": "grid"})
    run.save_weights(network, "best_validation")
    seen, plain = [], Predictor.add
    monkeypatch.setattr(Predictor, "add", lambda self, crop: seen.append(plain(self, crop)) or seen[-1])
    words = ["--example", "-o", str(tmp_path / "face.ply"), "--view", "features", "--model"]
    assert demo.main([*words, str(tmp_path / "run")]) == 0
    names = layer_names(network)
    files = sorted((tmp_path / "face_features").iterdir())
    assert [file.name for file in files] == [f"{i:02d}_{name}.png" for i, name in enumerate(names)]
    maps = feature_maps.feature_maps(network, scaled(seen[-1].crop.image, "unit"), [names[0], names[-1]])
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "face_features.png")), collage(maps[names[-1]], names[-1]))
    drawn = cv2.imread(str(files[0])).astype(int)
    assert np.abs(drawn - collage(maps[names[0]], names[0])).mean() < 8         # the finer square, shrunk again
    assert demo.main([*words, "compact"]) == 2
    assert "--view features is not of compact" in capsys.readouterr().err
