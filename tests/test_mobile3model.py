"""Network/mobile3model.py: the thesis's network against its listing, any T, any backend, states."""
import dataclasses
import importlib.util
import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from Network import mobile3model
from Network.layers.convlstm import RECURRENT_ACTIVATIONS
from Network.losses.points import mean_squared_error
from Network.mobile3model import QUICK, SMALL, THESIS, Config, build, build_step, get_keras_model, initial_states
from tests import forkserver
from tests.bench import listing

#: The thesis's layers on images of 32 pixels with few channels: every test but those of Table 1 runs on it
TINY = dict(image_size=32, points=256, lstm_filters=(8, 4, 4, 5, 6), block_filters=(4, 8, 8),
            block_expansion=(2, 3, 2), squeeze_ratio=4, link_filters=(8, 6), decoder_filters=(8, 8, 6, 6, 5, 4, 3))


#: The listing with `divide=4`, that is with a quarter of its filters
QUARTER = dict(image_size=32, points=256, images=2, squeeze_ratio=4, lstm_filters=(8, 6, 8, 16, 24),
               block_filters=(4, 40, 80), link_filters=(128, 128), decoder_filters=(128, 64, 32, 16, 8, 4, 2))


def images(batch: int, steps: int, size: int = 32, seed: int = 0) -> np.ndarray:
    """Coarse random patches: fine noise would average out before it reaches the decoder."""
    rng = np.random.default_rng(seed)
    return rng.random((batch, steps, 4, 4, 3), np.float32).repeat(size // 4, axis=2).repeat(size // 4, axis=3)


def lively(model: keras.Model, seed: int = 0) -> keras.Model:
    """Random weights under which every layer and image counts; as built, the output is about 1e-11 everywhere."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        value = rng.normal(size=weight.shape) * 0.1
        if len(weight.shape) > 1:
            depthwise = weight.name == "kernel" and weight.shape[-1] == 1
            fan = np.prod(weight.shape[:2]) if depthwise else np.prod(weight.shape[:-1])
            value = value * 10.0 * 2.0 / np.sqrt(fan)
        elif weight.name == "gamma":
            value = 1.5 + value
        elif weight.name == "moving_variance":
            value = 0.1 + 0.1 * np.abs(value)
        weight.assign(value)
    return model


def thesis_network() -> keras.Model:
    """The full network, of zeros: its orthogonal initialisation takes ten seconds and is nothing to a shape."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.initializers.Orthogonal, "__call__", lambda self, shape, dtype=None: tf.zeros(shape, dtype))
        return get_keras_model((8, 256, 256, 3), N=2**14, alpha=1.0, squeeze=True)


def test_parameters_and_weights_of_the_listing(monkeypatch):
    thesis = thesis_network()
    assert thesis.count_params() == 43_359_947
    assert sum(int(np.prod(v.shape)) for v in thesis.non_trainable_variables) == 11_424
    assert thesis.input_shape == (None, 8, 256, 256, 3) and thesis.output_shape == (None, 16384, 3)
    monkeypatch.setattr(keras.initializers.Orthogonal, "__call__",
                        lambda self, shape, dtype=None: tf.zeros(shape, dtype))
    theirs = listing.get_keras_model((8, 256, 256, 3), squeeze=True)
    assert [(w.name, w.shape) for w in thesis.weights] == [(w.name, w.shape) for w in theirs.weights]


@pytest.mark.parametrize("alpha,squeeze", [(1.0, True), (0.5, False), (1.4, True)])
def test_same_weights_as_the_listing(alpha, squeeze):
    """Same weights, same output: in inference, and in training with the images merged, as TF 2.4 did."""
    ours = build(Config(**QUARTER, alpha=alpha, squeeze=squeeze, batch_norm_unbiased=False))
    theirs = lively(listing.get_keras_model((2, 32, 32, 3), 256, alpha, squeeze, merged=True, divide=4))
    ours.set_weights(theirs.get_weights())
    x = images(2, 2)
    expected = np.asarray(theirs(x))
    assert expected.std() > 0.01 and np.abs(expected[0] - expected[1]).max() > 0.01
    np.testing.assert_allclose(ours(x), expected, atol=1e-4)     # float32 rounding; 5e-5 measured without AVX-512
    np.testing.assert_allclose(ours(x, training=True), theirs(x, training=True), atol=1e-4)
    for a, b in zip(ours.non_trainable_weights, theirs.non_trainable_weights):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)     # float32 rounding; 5e-5 measured without AVX-512


@pytest.mark.parametrize("activation", list(RECURRENT_ACTIVATIONS))
def test_recurrent_activation_is_a_setting(activation):
    ours = build(Config(**QUARTER, recurrent_activation=activation))
    squash = {"hard_sigmoid_keras2": listing.hard_sigmoid_keras2}.get(activation, activation)
    theirs = lively(listing.get_keras_model((2, 32, 32, 3), 256, squeeze=True, recurrent_activation=squash, divide=4))
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(images(1, 2)), theirs(images(1, 2)), atol=1e-4)


def test_per_step_is_the_listing_on_keras_3():
    ours = build(Config(**QUARTER, batch_norm="per_step", batch_norm_unbiased=False))
    theirs = lively(listing.get_keras_model((2, 32, 32, 3), 256, squeeze=True, merged=False, divide=4))
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(images(2, 2), training=True), theirs(images(2, 2), training=True), atol=1e-4)
    for a, b in zip(ours.non_trainable_weights, theirs.non_trainable_weights):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=5e-4)     # float32 rounding; 2.7e-4 measured without AVX-512


def test_settings_change_what_they_say():
    def shape(name: str, **changed) -> tuple:
        return tuple(build(Config(**{**TINY, **changed})).get_layer(name).weights[0].shape)

    assert shape("decoder_2") == (4, 4, 8, 8) and shape("decoder_2", decoder_kernel=3) == (3, 3, 8, 8)
    names = [layer.name for layer in build(Config(**TINY, block_repeats=(1, 1, 1))).layers]
    assert "block_2_2_add" not in names and "block_2_2_add" in [la.name for la in build(Config(**TINY)).layers]
    assert build(Config(**{**TINY, "points": 16})).output_shape == (None, 16, 3)
    assert shape("lstm_1", alpha=0.5)[-1] == 4 * 8 and shape("block_1_1_project", alpha=0.5)[-1] == 2
    assert QUICK.points == 1024 and build(QUICK).count_params() < 1_100_000
    assert SMALL.shape_head == 0 and build(SMALL).count_params() == 2_007_411
    assert THESIS == Config() and mobile3model.PRESETS == {"thesis": THESIS, "quick": QUICK, "convlstm-small": SMALL}


def test_deeper_decoder_begins_as_the_published_one():
    """Section 6.2.2's wish: residual blocks behind every layer of the decoder, two 3x3 convolutions each."""
    tiny = Config(image_size=32, points=64, lstm_filters=(4, 4), lstm_strides=(2, 2), block_filters=(4, 6),
                  block_strides=(1, 2), block_expansion=(1, 2), block_repeats=(1, 1), link_filters=(6,),
                  decoder_filters=(6, 4, 4))
    plain, deeper = build(tiny), build(dataclasses.replace(tiny, decoder_blocks=2))
    assert deeper.count_params() - plain.count_params() == sum(2 * 2 * (9 * f * f + f) for f in (6, 4, 4))
    for layer in plain.layers:
        deeper.get_layer(layer.name).set_weights(layer.get_weights())
    images = np.random.default_rng(0).random((1, 2, 32, 32, 3), np.float32)
    published = np.asarray(plain(images))
    assert np.abs(deeper(images) - published).max() < 1e-3 * np.abs(published).max()
    kernel = deeper.get_layer("decoder_2_block_1_2").kernel
    kernel.assign(keras.random.normal(kernel.shape, seed=0))
    assert np.abs(deeper(images) - published).max() > 0.1 * np.abs(published).max()


def test_residual_adds_its_input():
    """With a projection of zero and shift 0, the second repeat of a block is the identity."""
    model = lively(build(Config(**TINY)))
    for weight in model.get_layer("block_2_2_project").weights:
        weight.assign(np.zeros(weight.shape))
    norm = model.get_layer("block_2_2_project_norm")
    norm.set_weights([np.ones(8), np.zeros(8), np.zeros(8), np.ones(8)])
    inner = keras.Model(model.input, [model.get_layer("block_2_1_project_norm").output,
                                      model.get_layer("block_2_2_add").output])
    before, after = inner(images(1, 2))
    assert np.asarray(before).std() > 1e-2
    np.testing.assert_array_equal(before, after)


def test_any_number_of_images():
    """The network for T=None on T images is the network for T images, traced with T known or not."""
    free = lively(build(Config(**TINY)))
    traced = tf.function(lambda x: free(x), input_signature=[tf.TensorSpec((None, None, 32, 32, 3))])
    trained = tf.function(lambda x: free(x, training=True), input_signature=[tf.TensorSpec((None, None, 32, 32, 3))])
    for steps in (1, 3, 5):
        fixed = build(Config(**TINY, images=steps))
        fixed.set_weights(free.get_weights())
        x = images(2, steps)
        np.testing.assert_allclose(free(x), fixed(x), atol=1e-6)
        np.testing.assert_allclose(traced(x), fixed(x), atol=1e-5)
    start = free.get_weights()
    for steps in (1, 3):
        free.set_weights(start)
        expected, moved = np.asarray(free(images(2, steps), training=True)), free.get_weights()
        free.set_weights(start)
        np.testing.assert_allclose(trained(images(2, steps)), expected, atol=1e-5)
        for a, b in zip(free.get_weights(), moved):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_samples_and_images_are_distinguished():
    """Folding time must not mix samples: each of a batch alone gives its own row; the order of images matters."""
    model = lively(build(Config(**TINY)))
    x = images(3, 4)
    batched = np.asarray(model(x))
    for i in range(3):
        np.testing.assert_allclose(model(x[i:i + 1])[0], batched[i], atol=1e-5)
    assert np.abs(np.asarray(model(x[:, ::-1])) - batched).max() > 1e-2
    assert np.abs(batched[0] - batched[1]).max() > 1e-2


def test_states_carry_on():
    """Image by image through `build_step` gives, after each, what the whole network gives for all so far."""
    config = Config(**TINY)
    model, step = lively(build(config)), build_step(config)
    step.set_weights(model.get_weights())
    x, states = tf.constant(images(2, 4)), initial_states(config, 2)
    assert len(states) == 14
    for t in range(4):
        out = step({"images": x[:, t:t + 1], "states": states})
        states = out["states"]
        np.testing.assert_allclose(out["points"], model(x[:, :t + 1]), atol=1e-5)
    half = step({"images": x[:, :2], "states": initial_states(config, 2)})
    np.testing.assert_allclose(step({"images": x[:, 2:], "states": half["states"]})["points"], model(x), atol=1e-5)
    assert [tuple(s.shape) for s in initial_states(THESIS, 1)[::2]] == [
        (1, 128, 128, 32), (1, 64, 64, 24), (1, 32, 32, 32), (1, 16, 16, 64), (1, 16, 16, 96), (1, 8, 8, 512),
        (1, 8, 8, 512)]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    exact = lively(build(Config(**TINY)))
    keras.config.set_dtype_policy(policy)
    try:
        half = build(Config(**TINY))
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(exact.get_weights())
    x = tf.constant(images(2, 3))
    with tf.GradientTape() as tape:
        out = half(x, training=True)
    assert out.dtype == tf.float32 and half.layers[-2].compute_dtype == "float32"
    assert half.get_layer("lstm_1").compute_dtype == policy.removeprefix("mixed_")
    assert all(g is not None and g.dtype == tf.float32
               for g in tape.gradient(out, [v.value for v in half.trainable_variables]))
    a, b = np.asarray(half(x)), np.asarray(exact(x))
    assert np.abs(a - b).mean() < 0.1 * b.std()


SAVED = """
import sys, numpy as np, keras
from Network import mobile3model
from tests.test_mobile3model import TINY, images
folder = sys.argv[1]
whole = keras.models.load_model(folder + "/model.keras", safe_mode=True)
fresh = mobile3model.build(mobile3model.Config(**TINY))
fresh.load_weights(folder + "/model.weights.h5")
np.savez(folder + "/out.npz", whole=whole(images(2, 3)), fresh=fresh(images(2, 3)), steps=whole(images(2, 5)))
"""


def test_save_then_a_fresh_process(tmp_path):
    model = lively(build(Config(**TINY)))
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    run(SAVED, tmp_path)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as out:
        np.testing.assert_array_equal(out["whole"], model(images(2, 3)))
        np.testing.assert_array_equal(out["fresh"], model(images(2, 3)))
        np.testing.assert_array_equal(out["steps"], model(images(2, 5)))


BACKEND = """
import json, sys, numpy as np, keras
from keras import ops
from Network import mobile3model
from Network.losses.points import mean_squared_error
folder, backend, differentiate = sys.argv[1:]
assert keras.backend.backend() == backend
with open(folder + "/config.json") as file:
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in json.load(file).items()}
# the weights are set below, and jax compiles an initialisation for every shape: a minute
nothing = lambda self, shape, dtype=None: np.zeros(shape, dtype)
keras.initializers.VarianceScaling.__call__ = keras.initializers.Orthogonal.__call__ = nothing
model = mobile3model.build(mobile3model.Config(**config))
with np.load(folder + "/in.npz", allow_pickle=False) as given:
    x, truth = given["x"], given["truth"]
    model.set_weights([given[f"w{i}"] for i in range(len(model.weights))])
call = model
if backend == "jax":
    import jax
    call = jax.jit(lambda x: model(x))
points = call(x)
out = {"points": ops.convert_to_numpy(points), "loss": ops.convert_to_numpy(mean_squared_error(truth, points))}
if differentiate == "True":
    def loss(trainable):
        fixed = [v.value for v in model.non_trainable_variables]
        points, moved = model.stateless_call(trainable, fixed, x, training=True)
        return ops.mean(mean_squared_error(truth, points)), moved
    grads, moved = jax.jit(jax.grad(loss, has_aux=True))([v.value for v in model.trainable_variables])
    out.update({f"g{i}": np.asarray(g) for i, g in enumerate(grads)})
    out.update({f"m{i}": np.asarray(m) for i, m in enumerate(moved)})
np.savez(folder + "/out.npz", **out)
"""


def run_backend(folder: Path, backend: str, differentiate: bool = False) -> tuple[keras.Model, dict, tuple]:
    """A model here, what the same weights gave in a process with another backend, and the data."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    model = lively(build(Config(**TINY)))
    x, truth = images(2, 2), np.random.default_rng(1).random((2, 256, 3), np.float32)
    np.savez(folder / "in.npz", x=x, truth=truth, **{f"w{i}": w for i, w in enumerate(model.get_weights())})
    (folder / "config.json").write_text(json.dumps(TINY))
    run(BACKEND, folder, backend, differentiate, backend=backend)
    with np.load(folder / "out.npz", allow_pickle=False) as file:
        return model, dict(file), (x, truth)


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_backends_agree(tmp_path, backend):
    """Same weights, same output."""
    model, out, (x, truth) = run_backend(tmp_path, backend)
    np.testing.assert_allclose(out["points"], model(x), atol=1e-5)
    np.testing.assert_allclose(out["loss"], mean_squared_error(truth, model(x)), rtol=1e-4)


@pytest.mark.slow
def test_jax_gradients_and_statistics_agree(tmp_path):
    """Of the whole network under jax.jit. Slow for its compilation."""
    model, out, (x, truth) = run_backend(tmp_path, "jax", differentiate=True)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(mean_squared_error(truth, model(x, training=True)))
    for i, gradient in enumerate(tape.gradient(loss, [v.value for v in model.trainable_variables])):
        np.testing.assert_allclose(out[f"g{i}"], gradient, atol=1e-3 * np.abs(gradient).max() + 1e-7)
    for i, moved in enumerate(model.non_trainable_variables):
        np.testing.assert_allclose(out[f"m{i}"], moved, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changed,message", [
    ({"image_size": 40}, "image_size must be a multiple of 32, got 40"),
    ({"points": 1000}, r"points must be one of \[64, 256, 1024, 4096, 16384, .*\] at image_size 256, got 1000"),
    ({"recurrent_activation": "tanh"}, "recurrent_activation must be one of .*, got 'tanh'"),
    ({"batch_norm": "none"}, "batch_norm must be one of merged, per_step, group, got 'none'"),
    ({"alpha": 0.0}, "alpha must be positive, got 0.0"),
    ({"images": 0}, "images must be positive, got 0"),
    ({"link_filters": ()}, "link_filters must not be empty"),
    ({"decoder_filters": (8, -1)}, r"decoder_filters must be positive, got \(8, -1\)"),
    ({"block_repeats": (1, 2)}, r"block_repeats must have one value for each of block_filters .*, got \(1, 2\)"),
])
def test_config_refuses(changed, message):
    with pytest.raises(ValueError, match=message):
        Config(**changed)


def test_unknown_setting_and_bad_shape_are_errors():
    with pytest.raises(TypeError, match="depth"):
        Config(depth=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        THESIS.points = 4
    with pytest.raises(ValueError, match=r"input_shape must be \(T, H, W, 3\) with H = W, got \(8, 256, 128, 3\)"):
        get_keras_model((8, 256, 128, 3))


def test_it_learns():
    """QUICK's layers in small: eight samples whose images tell which of two shapes to make, learnt by heart."""
    keras.utils.set_random_seed(0)
    model = build(Config(**{**TINY, "decoder_filters": (16, 16, 16, 16, 16, 16, 8), "batch_norm_momentum": 0.9}))
    rng = np.random.default_rng(0)
    shapes = rng.uniform(-0.6, 0.6, (2, 256, 3)).astype(np.float32)
    label = np.arange(8) % 2
    x = (images(8, 2) + label[:, None, None, None, None] * np.linspace(0, 1, 32).reshape(32, 1, 1)).astype(np.float32)
    adam = keras.optimizers.Adam(5e-3)
    adam.build(model.trainable_variables)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(mean_squared_error(y, model(x, training=True)))
        adam.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    floor = np.mean((shapes[label] - shapes.mean(axis=0)) ** 2)     # of an answer that ignores the images
    for _ in range(150):
        step(x, shapes[label])
    found = np.asarray(model(x))
    assert np.mean((found - shapes[label]) ** 2) < 0.5 * floor, (np.mean((found - shapes[label]) ** 2), floor)


def run(script: str, *arguments: object, backend: str = "tensorflow") -> None:
    """A fresh Python process on the script; its error is this test's."""
    environment = dict(os.environ) if backend == "tensorflow" else {**os.environ, "KERAS_BACKEND": backend}
    done = forkserver.run("-c", script, *arguments, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
