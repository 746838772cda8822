"""Network/models/vrn.py, its layers and losses: sizes counted, variants, twins by hand, remat, reading, training."""
import dataclasses

import keras
import numpy as np
import pytest

from Network.inference.readings import read_landmarks
from Network.layers.hourglass import EPSILON, Residual
from Network.losses.volume import HEAT_WEIGHT, cross_entropy, volume_and_landmarks
from Network.models import vrn
from Network.training.settings import Settings
from Network.training.step import GradientStep, make_optimizer
from tests import forkserver

TINY = vrn.Config(image_size=16, layers=12, features=8, stem=(4, 6), depth=2, head=(6,), landmark_features=4,
                  batch_norm_momentum=0.8)


def tiny(variant: str = "plain", **changes) -> vrn.Config:
    return dataclasses.replace(TINY, variant=variant, **changes)


def batch(config: vrn.Config, count: int = 2, seed: int = 0):
    rng, size, cells = np.random.default_rng(seed), config.image_size, config.image_size // 4
    x = rng.random((count, size, size, 3), np.float32)
    return x, {"volume": (rng.random((count, size, size, config.layers)) < 0.2).astype(np.float32),
               "heat_maps": rng.random((count, cells, cells, 68)).astype(np.float32)}


@pytest.mark.parametrize("variant, paper, small_count", [
    ("plain", 6_928_264, 1_049_504), ("guided", 10_589_068, 1_308_868), ("multitask", 10_237_900, 1_193_188)])
def test_parameters(variant, paper, small_count):
    model = vrn.build_training(dataclasses.replace(vrn.VRN, variant=variant))
    assert model.count_params() == paper
    assert model.output["volume"].shape == (None, 192, 192, 200)
    small = vrn.build_training(dataclasses.replace(vrn.SMALL, variant=variant))
    assert small.count_params() == small_count
    assert small.output["volume"].shape == (None, 64, 64, 64)


def test_the_papers_sizes():
    model = vrn.build(vrn.VRN)
    assert vrn.PRESETS["vrn"] == vrn.Config()
    assert model.input_shape == (None, 192, 192, 3)
    assert model.get_layer("stem_2").output.shape == (None, 48, 48, 256)
    assert [model.get_layer(f"hourglass_1_down_{d}").output.shape[1] for d in (4, 3, 2, 1)] == [24, 12, 6, 3]
    assert model.get_layer("hourglass_1_out").filters == 256
    assert model.get_layer("volume").kernel.shape == (2, 2, 200, 256)


@pytest.mark.parametrize("variant", vrn.VARIANTS)
def test_variants_shapes_and_the_part_that_predicts(variant):
    keras.utils.set_random_seed(1)
    config = tiny(variant)
    model, (x, _) = vrn.build_training(config), batch(config)
    outputs = model(x)
    assert set(outputs) == ({"volume"} if variant == "plain" else {"volume", "heat_maps"})
    assert outputs["volume"].shape == (2, 16, 16, 12) and outputs["volume"].dtype == "float32"
    if variant != "plain":
        assert outputs["heat_maps"].shape == (2, 4, 4, 68)
    part = vrn.predicting_part(model)
    np.testing.assert_allclose(part(x), outputs["volume"], atol=1e-5)
    fresh = vrn.build(config)
    assert [w.shape for w in fresh.weights] == [w.shape for w in part.weights]
    fresh.set_weights(part.get_weights())
    np.testing.assert_allclose(fresh(x), outputs["volume"], atol=1e-5)
    bias = np.asarray(model.get_layer("volume").bias)
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), 0.1, rtol=1e-5)      # of a new network: a tenth of the voxels


def test_guided_looks_at_its_maps_and_multitask_does_not():
    for variant, matters in (("guided", True), ("multitask", False)):
        keras.utils.set_random_seed(2)
        config = tiny(variant)
        model, (x, _) = vrn.build_training(config), batch(config)
        before = np.asarray(model(x)["volume"])
        layer = next(layer for layer in model.layers if layer.name.endswith("_maps"))
        layer.set_weights([10 * layer.get_weights()[0], layer.get_weights()[1] + 3])
        assert (np.abs(np.asarray(model(x)["volume"]) - before).max() > 1e-3) == matters


@pytest.mark.parametrize("change, message", [
    ({"variant": "both"}, "variant must be one of plain, guided, multitask, got 'both'"),
    ({"image_size": 100}, "image_size must be a multiple of 64, got 100"), ({"layers": 0}, "layers must be positive"),
    ({"features": 255}, "features must be even, got 255"), ({"head": (8, 8)}, "head at most one"),
    ({"stem": ()}, "stem must have at least one value"),
    ({"variant": "multitask", "hourglasses": 1}, "hourglasses must be at least 2 for multitask")])
def test_bad_config(change, message):
    with pytest.raises(ValueError, match=message):
        vrn.Config(**change)


def convolved(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """(h, w, C) with (k, k, C, F), zero padding, pixel by pixel."""
    half, padded = len(kernel) // 2, np.pad(x, ((len(kernel) // 2,) * 2,) * 2 + ((0, 0),))
    return np.array([[np.einsum("ijc,ijcf->f", padded[r:r + 2 * half + 1, c:c + 2 * half + 1], kernel)
                      for c in range(x.shape[1])] for r in range(x.shape[0])])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("filters", [4, 6])
def test_residual_by_hand(training, filters):
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(3)
    layer, x = Residual(filters, momentum=0.9), rng.normal(1, 2, (3, 4, 4, 4)).astype(np.float32)
    layer(x)
    layer.set_weights([np.abs(rng.normal(1, 0.3, w.shape)).astype(np.float32) if len(w.shape) == 1 else w
                       for w in layer.get_weights()])
    weights = {w.path.split("/")[-1]: np.asarray(w, np.float64) for w in layer.weights}
    y, moved = x.astype(float), {}
    for n in range(3):
        mean, variance = weights[f"moving_mean_{n}"], weights[f"moving_variance_{n}"]
        if training:
            mean, variance = y.mean((0, 1, 2)), y.var((0, 1, 2))
            moved[n] = [0.9 * weights[f"moving_{name}_{n}"] + 0.1 * now
                        for name, now in (("mean", mean), ("variance", variance))]
        y = (y - mean) / np.sqrt(variance + EPSILON) * weights[f"gamma_{n}"] + weights[f"beta_{n}"]
        y = np.stack([convolved(one, weights[f"kernel_{n}"]) for one in np.maximum(y, 0)])
    expected = y + (x if filters == 4 else np.stack([convolved(one, weights["shortcut"]) for one in x.astype(float)]))
    np.testing.assert_allclose(layer(x, training=training), expected, atol=2e-4)
    for n, (mean, variance) in moved.items():
        np.testing.assert_allclose(layer.norms[n][2], mean, atol=1e-5)
        np.testing.assert_allclose(layer.norms[n][3], variance, atol=1e-5)
    with pytest.raises(ValueError, match="filters must be even"):
        Residual(5)


@pytest.mark.parametrize("precision", ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)])
def test_remat_changes_nothing_but_memory(precision):
    keras.config.set_dtype_policy(precision)
    try:
        results = []
        for remat in (False, True):
            keras.utils.set_random_seed(4)
            config = tiny("multitask", remat=remat)
            model = vrn.build_training(config)
            # not RMSProp, which makes a step of the last bit of a gradient that is 0
            step = GradientStep(model, keras.optimizers.SGD(0.01), volume_and_landmarks)
            losses = [step.train([batch(config, seed=k)]) for k in range(3)]
            results.append((losses, [np.asarray(v) for v in model.variables]))
    finally:
        keras.config.set_dtype_policy("float32")
    if precision != "float32":      # what is computed again may be rounded in another order: the losses agree roughly
        np.testing.assert_allclose(results[0][0], results[1][0], rtol=5e-3)
        return
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    for plain, again in zip(results[0][1], results[1][1]):      # moving statistics too: moved once an update
        if plain.size:
            np.testing.assert_allclose(plain, again, rtol=1e-3, atol=2e-4)


def test_loss_by_hand_and_at_the_ends():
    truth = np.array([[0, 1], [1, 0], [1, 1]], np.float32).reshape(3, 1, 1, 2)
    logits = np.array([[0.3, -1.2], [2.0, 0.0], [1e4, -1e4]], np.float32).reshape(3, 1, 1, 2)
    s = 1 / (1 + np.exp(-logits[:2].astype(float)))
    expected = -(truth[:2] * np.log(s) + (1 - truth[:2]) * np.log(1 - s)).mean((1, 2, 3))
    found = np.asarray(cross_entropy(truth, logits))
    np.testing.assert_allclose(found[:2], expected, rtol=1e-6)
    assert found[2] == 5000 and found.dtype == np.float32
    maps = np.array([1, 0, 0.5, 0.5], np.float32).reshape(1, 2, 2, 1)
    parts = volume_and_landmarks({"volume": truth[:1], "heat_maps": maps},
                                 {"volume": logits[:1], "heat_maps": np.zeros_like(maps)})
    assert parts.keys() == {"volume", "heat_maps"}
    np.testing.assert_allclose(parts["heat_maps"], HEAT_WEIGHT, rtol=1e-6)
    assert volume_and_landmarks({"volume": truth}, {"volume": logits}).keys() == {"volume"}
    empty = volume_and_landmarks({"volume": truth[:1], "heat_maps": 0 * maps},
                                 {"volume": logits[:1], "heat_maps": maps})["heat_maps"]
    np.testing.assert_allclose(empty, 1.5 * HEAT_WEIGHT, rtol=1e-6)     # an image without a face
    with pytest.raises(ValueError, match=r"volume: truth and prediction must have one shape, got \(3, 1, 1, 2\)"):
        volume_and_landmarks({"volume": truth}, {"volume": logits[:1]})


def test_gradient_of_the_loss():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("needs TensorFlow's tape")
    import tensorflow as tf
    rng = np.random.default_rng(5)
    truth = (rng.random((2, 3, 3, 4)) < 0.5).astype(np.float32)
    x = tf.constant(rng.normal(0, 3, (2, 3, 3, 4)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(cross_entropy(truth, x) * tf.constant([1.0, 3.0]))
    with tf.GradientTape() as other:
        other.watch(x)
        plain = tf.nn.sigmoid_cross_entropy_with_logits(truth, x)
        expected = tf.reduce_sum(tf.reduce_mean(plain, axis=(1, 2, 3)) * tf.constant([1.0, 3.0]))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, x), other.gradient(expected, x), atol=1e-6)


def test_landmarks_are_read_between_cells():
    cells = np.arange(24) + 0.5
    positions = np.array([[12.3, 7.9], [0.4, 23.6], [5.5, 5.5]])
    maps = np.stack([np.exp(-((cells - y) ** 2)[:, None] / 2 - ((cells - x) ** 2)[None] / 2) for x, y in positions], -1)
    found = read_landmarks(maps[None])
    assert found.shape == (1, 3, 2) and found.dtype == np.float32
    np.testing.assert_allclose(found[0] * 24, positions, atol=0.5)       # of a cell; worst in the corner
    np.testing.assert_allclose(found[0, 2] * 24, positions[2], atol=1e-5)
    assert np.isnan(read_landmarks(np.full((24, 24, 1), -1.0))).all()


def test_rmsprop_is_the_papers():
    """E = 0.9 E + 0.1 g^2, theta -= rate / sqrt(E + epsilon) g."""
    optimizer = make_optimizer(Settings(optimizer="rmsprop"))
    optimizer.learning_rate = 0.1
    variable, mean, value = keras.Variable([1.0, -2.0]), np.zeros(2), np.array([1.0, -2.0])
    optimizer.build([variable])
    for gradient in ([0.5, -3.0], [0.1, 4.0]):
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        mean = 0.9 * mean + 0.1 * np.square(gradient)
        value = value - 0.1 * np.array(gradient) / np.sqrt(mean + optimizer.epsilon)
    np.testing.assert_allclose(variable, value, rtol=1e-5)
    assert type(make_optimizer(Settings())).__name__ == "Adam"
    with pytest.raises(ValueError, match="optimizer must be one of adam, rmsprop, got 'sgd'"):
        Settings(optimizer="sgd")


def test_the_rate_falls_after_forty_epochs():
    from Network.training.settings import TrainConfig
    from Network.training.trainer import learning_rate
    config = TrainConfig(schedule="drop")
    assert [learning_rate(config, e) for e in (0, 39)] == [1e-4, 1e-4]
    assert learning_rate(config, 40) == learning_rate(config, 299) == pytest.approx(1e-5)
    with pytest.raises(ValueError, match="drop_factor must be in"):
        TrainConfig(drop_factor=0)
    with pytest.raises(ValueError, match="drop_after must be at least 1"):
        TrainConfig(drop_after=0)


def test_it_learns_a_disc():
    keras.utils.set_random_seed(6)
    config = tiny(features=16)
    step = GradientStep(vrn.build_training(config), keras.optimizers.Adam(3e-3), volume_and_landmarks)
    rng, cells = np.random.default_rng(6), np.arange(16) + 0.5
    y, x, centre = cells[:, None], cells[None], rng.uniform(5, 11, (8, 2))
    disc = np.stack([np.hypot(x - cx, y - cy) < 4 for cx, cy in centre])
    images = np.repeat(disc[..., None], 3, -1).astype(np.float32)
    truth = {"volume": (disc[..., None] & (np.arange(12) > 4) & (np.arange(12) < 9)).astype(np.float32)}
    losses = [step.train([(images, truth)]) for _ in range(150)]
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("variant", ["guided"])
def test_another_process_reads_it_and_says_the_same(tmp_path, variant):
    keras.utils.set_random_seed(7)
    config = tiny(variant)
    model, (x, _) = vrn.build_training(config), batch(config)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    code = ("import keras, numpy as np, Network.models.vrn as vrn\n"
            f"model = keras.models.load_model(r'{tmp_path / 'model.keras'}', compile=False, safe_mode=True)\n"
            f"np.save(r'{tmp_path / 'y.npy'}', vrn.predicting_part(model)(np.load(r'{tmp_path / 'x.npy'}')))\n")
    forkserver.run("-c", code, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model(x)["volume"], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("variant", vrn.VARIANTS)
def test_a_step_of_the_papers_size(variant):
    config = dataclasses.replace(vrn.VRN, variant=variant, remat=True)
    step = GradientStep(vrn.build_training(config), make_optimizer(Settings(optimizer="rmsprop")), volume_and_landmarks)
    step.optimizer.learning_rate = 1e-4
    before = step.train([batch(config, 1)])
    assert np.isfinite(before) and step.train([batch(config, 1)]) < before
