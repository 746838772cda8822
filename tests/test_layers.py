"""Network/layers/convlstm.py, normalisation.py: the fused ConvLSTM against Keras's and numpy's; normalisations."""
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from Network.layers.convlstm import RECURRENT_ACTIVATIONS, FusedConvLSTM2D, hard_sigmoid_keras2
from Network.layers.normalisation import BatchNormalization, TimeBatchNormalization
from Network.layers.time import FoldTime, UnfoldTime

ACTIVATIONS = list(RECURRENT_ACTIVATIONS)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def pair(activation: str = "hard_sigmoid_keras2", sequences: bool = True, kernel: int = 3, strides: int = 2,
         shape: tuple = (2, 4, 9, 8, 5), filters: int = 4) -> tuple[FusedConvLSTM2D, keras.layers.ConvLSTM2D]:
    """Our layer and Keras's with the same random weights."""
    ours = FusedConvLSTM2D(filters, kernel, strides, activation, sequences)
    theirs = keras.layers.ConvLSTM2D(filters, kernel, strides=strides, padding="same", return_sequences=sequences,
                                     recurrent_activation=RECURRENT_ACTIVATIONS[activation].squash)
    ours.build(shape)
    theirs.build(shape)
    weights = [random(*w.shape, seed=i) for i, w in enumerate(theirs.weights)]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    return ours, theirs


def by_hand(x: np.ndarray, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """ConvLSTM (Keras 2.4's defaults) with 1x1 kernels, in float64 numpy: (T, P, C) pixels -> (T, P, F)."""
    def squash(v: np.ndarray) -> np.ndarray:
        return np.clip(0.2 * v + 0.5, 0.0, 1.0)

    h = c = 0.0
    outputs = []
    for step in x:
        z = step @ kernel + bias + (h @ recurrent if outputs else 0.0)
        i, f, g, o = np.split(z, 4, axis=-1)
        c = squash(f) * c + squash(i) * np.tanh(g)
        h = squash(o) * np.tanh(c)
        outputs.append(h)
    return np.array(outputs)


def test_hard_sigmoid_pinned():
    """Keras 2: slope 0.2, ends at -2.5 and 2.5. Keras 3's has slope 1/6 and ends at -3 and 3."""
    x = np.array([-3.0, -2.5, -1.0, 0.0, 1.0, 2.5, 3.0], np.float32)
    np.testing.assert_allclose(hard_sigmoid_keras2(x), [0, 0, 0.3, 0.5, 0.7, 1, 1], atol=1e-7)
    assert abs(float(keras.activations.hard_sigmoid(np.float32(1.0))) - 0.7) > 0.02
    assert keras.activations.get(keras.activations.serialize(hard_sigmoid_keras2)) is hard_sigmoid_keras2


def test_convlstm_pinned():
    """One pixel, one channel, all weights 0.5, all biases 1: numbers worked out by hand."""
    layer = FusedConvLSTM2D(1, 1, return_sequences=True)
    layer.build((1, 3, 1, 1, 1))
    layer.set_weights([np.full(w.shape, 1.0 if w.name == "bias" else 0.5, np.float32) for w in layer.weights])
    out = np.asarray(layer(np.array([1.0, 2.0, 3.0], np.float32).reshape(1, 3, 1, 1, 1))).ravel()
    # t=1: z = 1.5,                gates 0.8,      c = 0.8 tanh z                  = 0.724119, h = 0.8 tanh c
    # t=2: z = 2.0 + h/2 = 2.247782, gates 0.949556, c = 0.949556 (0.724119 + tanh z) = 1.616191
    # t=3: z = 2.5 + h/2 = 2.938728, gates 1,        c = 1.616191 + tanh z            = 2.610602
    np.testing.assert_allclose(out, [0.495563, 0.877456, 0.989256], atol=1e-6)


def test_convlstm_arange_against_numpy():
    x = (np.arange(2 * 3 * 4 * 5).reshape(1, 2, 3, 4, 5) / 60.0 - 1.0).astype(np.float32)
    layer = FusedConvLSTM2D(2, 1, return_sequences=True)
    layer.build(x.shape)
    weights = [np.linspace(-1.0, 1.0, int(np.prod(w.shape))).reshape(w.shape).astype(np.float32)
               for w in layer.weights]
    layer.set_weights(weights)
    expected = by_hand(x[0].reshape(2, 12, 5).astype(np.float64), weights[0][0, 0], weights[1][0, 0], weights[2])
    np.testing.assert_allclose(np.asarray(layer(x))[0].reshape(2, 12, 2), expected, atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("kernel,strides", [(3, 2), (3, 1), (1, 1), (5, 1)])
def test_fused_equals_keras(activation, sequences, kernel, strides):
    """Bit by bit on a CPU with AVX-512; elsewhere oneDNN adds up a convolution of T times as many images in another
    order (measured with AVX2: 6e-6 of outputs of about 1)."""
    ours, theirs = pair(activation, sequences, kernel, strides)
    x = random(2, 4, 9, 8, 5)
    expected = np.asarray(theirs(x))
    np.testing.assert_allclose(ours(x), expected, atol=2e-5 * np.abs(expected).max())
    assert ours.compute_output_shape(x.shape) == tuple(theirs(x).shape)
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sequences,steps,kernel", [(True, 4, 3), (False, 4, 3), (True, 1, 3), (True, 3, 5)])
def test_gradients_are_those_of_keras(activation, sequences, steps, kernel):
    """The gradient by hand against automatic differentiation through Keras's layer, of every weight and the input."""
    ours, theirs = pair(activation, sequences, kernel)
    x = tf.constant(random(2, steps, 9, 8, 5))
    found = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(y * random(*y.shape, seed=9))
        found.append(tape.gradient(loss, [x, *(w.value for w in layer.trainable_variables)]))
    for ours_gradient, theirs_gradient in zip(*found):
        np.testing.assert_allclose(ours_gradient, theirs_gradient, atol=2e-5 * np.abs(theirs_gradient).max() + 1e-7)


@pytest.mark.parametrize("cut", [1, 3])
def test_gradients_through_states(cut):
    """A sequence cut in two has the gradients of the whole: the states carry them."""
    layer, _ = pair(sequences=True)
    cell = FusedConvLSTM2D(4, 3, 2, return_sequences=True, return_state=True)
    cell.build((2, 4, 9, 8, 5))
    cell.set_weights(layer.get_weights())
    x, found = tf.constant(random(2, 4, 9, 8, 5)), []
    for parts in ([x], [x[:, :cut], x[:, cut:]]):
        with tf.GradientTape() as tape:
            state, outputs = None, []
            for part in parts:
                output, *state = cell(part, initial_state=state)
                outputs.append(output)
            loss = tf.reduce_sum(tf.concat(outputs, 1) ** 3) + tf.reduce_sum(state[0]) + tf.reduce_sum(state[1] ** 2)
        found.append(tape.gradient(loss, [w.value for w in cell.trainable_variables]))
    for whole, halves in zip(*found):
        np.testing.assert_allclose(halves, whole, rtol=1e-4, atol=1e-4 * np.abs(whole).max())


def test_one_step_at_a_time_is_the_whole():
    layer, _ = pair(sequences=True)
    cell = FusedConvLSTM2D(4, 3, 2, return_state=True)
    cell.build((2, 4, 9, 8, 5))
    cell.set_weights(layer.get_weights())
    x = random(2, 4, 9, 8, 5)
    whole, state = np.asarray(layer(x)), None
    for t in range(4):
        output, *state = cell(x[:, t:t + 1], initial_state=state)
        np.testing.assert_allclose(output, whole[:, t], atol=1e-6)
        np.testing.assert_array_equal(output, state[0])
    assert state[1].shape == (2, 5, 4, 4)


@pytest.mark.parametrize("sequences", [True, False])
def test_unknown_time_gives_the_same(sequences):
    """T unknown while tracing: a loop, with the unrolled layer's output and gradients."""
    layer, _ = pair(sequences=sequences)
    spec = tf.TensorSpec((None, None, 9, 8, 5), tf.float32)

    def run(x):
        with tf.GradientTape() as tape:
            y = layer(x)
            loss = tf.reduce_sum(y ** 2)
        return y, tape.gradient(loss, [w.value for w in layer.trainable_variables])

    traced = tf.function(run, input_signature=[spec])
    for steps in (1, 4, 6):
        x = tf.constant(random(2, steps, 9, 8, 5))
        (y, grads), (z, expected) = traced(x), run(x)
        np.testing.assert_allclose(y, z, atol=1e-6)
        for a, b in zip(grads, expected):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_convlstm_in_half_precision():
    for policy, dtype in (("mixed_bfloat16", tf.bfloat16), ("mixed_float16", tf.float16)):
        exact, _ = pair()
        half = FusedConvLSTM2D(4, 3, 2, return_sequences=True, dtype=policy)
        half.build((2, 4, 9, 8, 5))
        half.set_weights(exact.get_weights())
        x = random(2, 4, 9, 8, 5)
        with tf.GradientTape() as tape:
            y = half(x)
            loss = tf.reduce_sum(tf.cast(y, tf.float32))
        assert y.dtype == dtype
        np.testing.assert_allclose(tf.cast(y, tf.float32), exact(x), atol=0.15)
        assert all(g.dtype == tf.float32 for g in tape.gradient(loss, [w.value for w in half.trainable_variables]))


JAX = """
import sys, jax, numpy as np
from Network.layers.convlstm import FusedConvLSTM2D
with np.load(sys.argv[1] + "/in.npz", allow_pickle=False) as given:
    x, factor, weights = given["x"], given["factor"], [given[f"w{i}"] for i in range(3)]
layer = FusedConvLSTM2D(4, 3, 2, return_sequences=True)
layer.build(x.shape)
def loss(weights):
    return (layer.stateless_call(weights, [], x)[0] * factor).sum()
gradients = jax.jit(jax.grad(loss))(weights)
np.savez(sys.argv[1] + "/out.npz", **{f"g{i}": np.asarray(g) for i, g in enumerate(gradients)})
"""


def test_gradients_under_jax(tmp_path):
    """The gradient by hand is keras.ops all through: under jax it gives TensorFlow's numbers."""
    pytest.importorskip("jax")
    layer, _ = pair()
    x, factor = random(2, 4, 9, 8, 5), random(2, 4, 5, 4, 4, seed=9)
    np.savez(tmp_path / "in.npz", x=x, factor=factor, **{f"w{i}": w for i, w in enumerate(layer.get_weights())})
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", JAX, str(tmp_path)], cwd=root, env=environment, capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x) * factor)
    expected = tape.gradient(loss, [w.value for w in layer.trainable_variables])
    with np.load(tmp_path / "out.npz", allow_pickle=False) as out:
        for i, gradient in enumerate(expected):
            np.testing.assert_allclose(out[f"g{i}"], gradient, atol=1e-5 * np.abs(gradient).max())


def test_convlstm_refuses():
    with pytest.raises(ValueError, match="recurrent_activation must be one of hard_sigmoid_keras2, sigmoid, .* 'relu'"):
        FusedConvLSTM2D(4, recurrent_activation="relu")
    with pytest.raises(ValueError, match="kernel_size must be odd and positive, got 4"):
        FusedConvLSTM2D(4, 4)
    with pytest.raises(ValueError, match=r"takes \(B, T, H, W, C\) with H, W, C known, got"):
        FusedConvLSTM2D(4).build((None, 3, None, 8, 3))


def test_fold_and_unfold():
    x = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    folded = FoldTime()(x)
    np.testing.assert_array_equal(folded, x.reshape(6, 4))
    np.testing.assert_array_equal(UnfoldTime()(folded, x), x)
    symbolic = keras.KerasTensor((None, None, 4))
    assert FoldTime()(symbolic).shape == (None, 4)
    assert UnfoldTime()(keras.KerasTensor((None, 7)), symbolic).shape == (None, None, 7)


def test_merged_batch_normalization_pinned():
    """0..7 in one channel, over B*T = 4 images of 2 pixels: mean 3.5, variance 5.25, of 8 values unbiased 6."""
    x = np.arange(8, dtype=np.float32).reshape(2, 2, 1, 2, 1)
    layer = TimeBatchNormalization(momentum=0.9)
    out = np.asarray(layer(x, training=True))
    np.testing.assert_allclose(out, (x - 3.5) / np.sqrt(5.25 + 1e-3), atol=1e-6)
    np.testing.assert_allclose(out.ravel()[0], -1.527380, atol=1e-6)
    np.testing.assert_allclose(layer.moving_mean, [0.35], rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, [0.9 + 0.6], rtol=1e-6)       # TF 2.4's fused kernel: 6, not 5.25
    biased = TimeBatchNormalization(momentum=0.9, unbiased=False)
    biased(x, training=True)
    np.testing.assert_allclose(biased.moving_variance, [0.9 + 0.525], rtol=1e-6)


def test_merged_batch_normalization_is_tensorflows_fused_kernel():
    """TF 2.4 called FusedBatchNormV3 on the merged images; TensorFlow still has it."""
    x = random(2, 3, 4, 5, 6) * 3.0 + 1.0
    layer = TimeBatchNormalization()
    out = layer(x, training=True)
    y, mean, variance = tf.raw_ops.FusedBatchNormV3(
        x=x.reshape(6, 4, 5, 6), scale=tf.ones(6), offset=tf.zeros(6), mean=tf.zeros(6), variance=tf.ones(6),
        epsilon=1e-3, exponential_avg_factor=0.01)[:3]
    np.testing.assert_allclose(out, tf.reshape(y, x.shape), atol=2e-5)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-5)


def test_per_step_batch_normalization_is_keras_3s():
    """Each step alone, and statistics that move T times a call: not what TF 2.4 did."""
    x = random(2, 3, 4, 5, 6) + np.arange(3, dtype=np.float32).reshape(1, 3, 1, 1, 1)
    ours = TimeBatchNormalization("per_step", unbiased=False)
    theirs = keras.layers.TimeDistributed(keras.layers.BatchNormalization())
    np.testing.assert_allclose(ours(x, training=True), theirs(x, training=True), atol=1e-6)
    for a, b in zip(ours.weights, theirs.weights):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    merged = TimeBatchNormalization(unbiased=False)
    assert np.abs(np.asarray(merged(x, training=True)) - np.asarray(ours(x, training=True))).max() > 0.5


def test_batch_normalization_in_inference():
    x = random(2, 3, 4, 5, 2)
    for mode in TimeBatchNormalization.MODES:
        layer = TimeBatchNormalization(mode)
        layer.build(x.shape)
        gamma, beta, mean, variance = np.array([[2, 3], [1, -1], [0.5, -0.5], [4, 9]], np.float32)
        layer.set_weights([gamma, beta, mean, variance])
        np.testing.assert_allclose(layer(x), (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta, atol=1e-5)


def test_batch_normalization_refuses():
    with pytest.raises(ValueError, match="mode must be one of merged, per_step, got 'time'"):
        TimeBatchNormalization("time")
    layer = TimeBatchNormalization("per_step", name="norm")
    traced = tf.function(lambda x: layer(x, training=True), input_signature=[tf.TensorSpec((1, None, 2, 2, 3))])
    with pytest.raises(ValueError, match="per_step batch normalisation needs a known number of images, got None"):
        traced.get_concrete_function()


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-4), ("mixed_bfloat16", 0.05)])
def test_fused_batch_normalization_is_keras_s(dtype, tolerance):
    """Outputs, all gradients, moving statistics, and what is inferred with them."""
    import tensorflow as tf
    x = tf.random.stateless_normal((3, 5, 4, 16), (0, 1)) * 3 + 1
    x = tf.cast(x, keras.DTypePolicy(dtype).compute_dtype)
    results = []
    for kind in (keras.layers.BatchNormalization, BatchNormalization):
        layer = kind(momentum=0.9, dtype=dtype)
        layer.build(x.shape)
        layer.gamma.assign(np.linspace(0.5, 2, 16))
        layer.beta.assign(np.linspace(-1, 1, 16))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(tf.sin(tf.cast(y, tf.float32)))
        grads = tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])
        results.append([y, *grads, layer.moving_mean, layer.moving_variance, layer(x, training=False)])
        layer.trainable = False                     # frozen: inference, and nothing moves
        results[-1] += [layer(x, training=True), keras.ops.copy(layer.moving_mean)]
    for keras_s, ours in zip(*results):
        a, b = (np.asarray(keras.ops.cast(v, "float32")) for v in (keras_s, ours))
        np.testing.assert_allclose(b, a, atol=tolerance * max(1, np.abs(a).max()))
