"""The gradient step against a hand-written eager twin, in one process and in two workers."""
import json
import os
import socket

import keras
import numpy as np
import pytest
import tensorflow as tf

from Network.layers.normalisation import TimeBatchNormalization
from Network.training.settings import Settings
from Network.training.step import GradientStep, make_strategy, prepare
from tests import forkserver


def mse(y_true, y_pred):
    return tf.reduce_mean(tf.square(y_true - y_pred), axis=-1)


def small_model(batch_norm: bool = False, replicas: int = 1) -> keras.Model:
    keras.utils.set_random_seed(7)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(5, activation="tanh", name="hidden")(inputs)
    if batch_norm:
        x = keras.layers.Reshape((1, 1, 1, 5))(x)       # the project's own layer takes (B, T, H, W, C)
        x = keras.layers.Flatten()(TimeBatchNormalization(replicas=replicas, name="norm")(x))
    return keras.Model(inputs, keras.layers.Dense(2, dtype="float32", name="out")(x))


def data(batches: int, size: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(size, 4)).astype("float32"), rng.normal(size=(size, 2)).astype("float32"))
            for _ in range(batches)]


def eager_twin(model, batches, rate=1e-2):
    """The listing's step: eager tape, mean over the batch, Adam."""
    optimizer, losses = keras.optimizers.Adam(rate), []
    for x, y in batches:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(mse(y, model(x, training=True)))
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_weights), model.trainable_weights))
        losses.append(float(loss))
    return losses


def close(a: keras.Model, b: keras.Model, tolerance: float = 1e-6) -> None:
    for v, w in zip(a.variables, b.variables):
        np.testing.assert_allclose(v.numpy(), w.numpy(), atol=tolerance, err_msg=v.path)


def test_equals_the_eager_step():
    ours, twin = small_model(True), small_model(True)
    step = GradientStep(ours, keras.optimizers.Adam(1e-2), mse)
    losses = [step.train([batch]) for batch in data(5, 3)]
    np.testing.assert_allclose(losses, eager_twin(twin, data(5, 3)), rtol=1e-6)
    close(ours, twin)
    assert losses[0] != losses[1]


def test_four_micro_batches_are_one_batch():
    whole = data(3, 8)
    cut = [[(x[i:i + 2], y[i:i + 2]) for i in range(0, 8, 2)] for x, y in whole]
    ours, twin = small_model(), small_model()
    step = GradientStep(ours, keras.optimizers.Adam(1e-2), mse)
    losses = [step.train(group) for group in cut]
    np.testing.assert_allclose(losses, eager_twin(twin, whole), rtol=1e-5)
    close(ours, twin)


def test_uneven_micro_batches_weigh_by_samples():
    (x, y), = data(1, 5)
    ours, twin = small_model(), small_model()
    loss = GradientStep(ours, keras.optimizers.Adam(1e-2), mse).train([(x[:3], y[:3]), (x[3:], y[3:])])
    np.testing.assert_allclose([loss], eager_twin(twin, [(x, y)]), rtol=1e-5)
    close(ours, twin)


def test_evaluate_gives_one_value_per_sample():
    model = small_model()
    (x, y), = data(1, 5)
    losses = GradientStep(model, keras.optimizers.Adam(), mse).evaluate(x, y)["loss"]
    expected = np.square(y - model(x).numpy()).mean(-1)
    assert losses.shape == (5,)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_float16_scales_the_loss_and_recovers_from_an_overflow():
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = small_model()
    finally:
        keras.config.set_dtype_policy(previous)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-2), initial_scale=2.0 ** 60)
    step = GradientStep(model, optimizer, mse)
    before = model.get_weights()
    step.train(data(1, 4))
    for a, b in zip(before, model.get_weights()):       # the scaled gradient overflows: no update, half the scale
        np.testing.assert_array_equal(a, b)
    losses = [step.train(data(1, 4)) for _ in range(80)]
    assert losses[-1] < 0.7 * losses[0]


def test_unknown_strategy():
    with pytest.raises(ValueError, match="strategy must be one of none, mirrored, multiworker, got 'tpu'"):
        make_strategy("tpu")


def test_a_backend_without_a_step(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match="^training needs KERAS_BACKEND tensorflow or jax, got torch$"):
        prepare(Settings())


WORKER = """
import json, sys
import numpy as np
from Network.layers.normalisation import TimeBatchNormalization
from Network.training.step import GradientStep, make_strategy
strategy = make_strategy("multiworker")
import keras
from tests.test_step import data, mse, small_model
with strategy.scope():
    model = small_model(True, replicas=2)
    optimizer = keras.optimizers.Adam(1e-2)
step = GradientStep(model, optimizer, mse, strategy=strategy)
half = slice(step.worker * 4, step.worker * 4 + 4)
losses = [step.train([(x[half], y[half])]) for x, y in data(4, 8)]
(x, y), (u, v) = data(2, 8)
losses.append(step.train([(x[half], y[half]), (u[half], v[half])]))
print(json.dumps({"losses": losses, "agreed": step.agree(float(step.worker)), "workers": step.workers,
                  "weights": [np.asarray(v.numpy()).tolist() for v in model.variables]}))
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def test_two_workers_are_one_process():
    """Two local workers with synchronized BatchNormalization give the single process's losses, weights, statistics."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    processes = [forkserver.Popen(
        "-c", WORKER, stdout=forkserver.PIPE, stderr=forkserver.PIPE,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1",
             "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})})
        for i in range(2)]
    results = []
    for process in processes:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err[-2000:]
        results.append(json.loads(out.strip().splitlines()[-1]))
    a, b = results
    assert a["workers"] == 2 and a["agreed"] == b["agreed"] == 0.5
    assert a["losses"] == b["losses"]
    for v, w in zip(a["weights"], b["weights"]):
        np.testing.assert_array_equal(v, w)
    twin = small_model(True)
    step = GradientStep(twin, keras.optimizers.Adam(1e-2), mse)
    losses = [step.train([batch]) for batch in data(4, 8)] + [step.train(data(2, 8))]
    np.testing.assert_allclose(a["losses"], losses, rtol=2e-5)
    for variable, value in zip(twin.variables, a["weights"]):
        np.testing.assert_allclose(variable.numpy(), value, atol=2e-5, err_msg=variable.path)
