"""The GAN's losses against NumPy, its step against the published order of things, kill and resume, what it learns."""
import dataclasses
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from Network.losses import gan as gan_losses
from Network.models import pix2pix
from Network.training.checkpoints import RunFolder, model_from_config
from Network.training.gan_step import BETA_1, GanStep, TwoOptimizers, make_optimizers
from Network.training.loading import freeze
from Network.training.settings import Settings, TrainConfig
from Network.training.step import GradientStep, make_step
from Network.training.trainer import Trainer, fixed_epoch
from tests import forkserver
from tests.test_pix2pix import TINY, noise_images


def batches(count: int, size: int = 2, side: int = 32, seed: int = 0) -> list:
    """(images, {"depth": ...}) of a ball before a wall, lit by its depth; the wall is -1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / (side - 1)
    made = []
    for _ in range(count):
        cx, cy, r = (rng.uniform(*span, (size, 1, 1)) for span in ((0.35, 0.65), (0.35, 0.65), (0.25, 0.4)))
        inside = 1 - ((x - cx) ** 2 + (y - cy) ** 2) / r ** 2
        depth = np.where(inside > 0, np.sqrt(np.maximum(inside, 0)) * 1.2 - 0.4, -1.0)[..., None].astype(np.float32)
        image = np.repeat((depth + 1) / 2, 3, -1) * rng.uniform(0.6, 1, (size, 1, 1, 3))
        made.append((image.astype(np.float32), {"depth": depth}))
    return made


def make(config=TINY, rate=2e-4, settings=Settings()) -> GanStep:
    keras.utils.set_random_seed(7)
    step = GanStep(pix2pix.build_training(config), make_optimizers(settings), config)
    step.optimizer.learning_rate = rate
    return step


def sigmoid_cross_entropy(logits, label):
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return -(label * np.log(p) + (1 - label) * np.log(1 - p)).mean((1, 2, 3))


def test_losses_by_hand():
    rng = np.random.default_rng(3)
    real, made = (rng.normal(0, 3, (4, 5, 5, 1)).astype(np.float32) for _ in range(2))
    np.testing.assert_allclose(gan_losses.generator_loss(made), sigmoid_cross_entropy(made, 1), rtol=1e-5)
    np.testing.assert_allclose(gan_losses.discriminator_loss(real, made),
                               sigmoid_cross_entropy(real, 1) + sigmoid_cross_entropy(made, 0), rtol=1e-5)
    np.testing.assert_allclose(gan_losses.generator_loss(np.zeros((1, 2, 2, 1))), [np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(gan_losses.generator_loss(np.full((1, 2, 2, 1), -1e4)), [1e4])    # no infinity
    truth, depth = (rng.uniform(-1, 1, (4, 6, 6, 1)).astype(np.float32) for _ in range(2))
    truth[:, :2] = -1
    truth[3] = -1                               # no face at all
    apart = np.abs(depth - truth)
    np.testing.assert_allclose(gan_losses.distance(truth, depth), apart.mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(gan_losses.distance(truth, depth, "l2"), (apart ** 2).mean((1, 2, 3)), rtol=1e-5)
    masked = gan_losses.distance(truth, depth, masked=True)
    np.testing.assert_allclose(masked[:3], apart[:3, 2:].mean((1, 2, 3)), rtol=1e-5)
    assert masked[3] == 0
    with pytest.raises(ValueError, match="must have one shape"):
        gan_losses.distance(truth, depth[..., 0])


def tutorial_twin(config, data, rate=2e-4):
    """Two tapes, each network called as the paper tells it, eagerly."""
    keras.utils.set_random_seed(7)
    model = pix2pix.build_training(config)
    generator, discriminator = model.get_layer("generator"), model.get_layer("discriminator")
    optimizers, losses = [keras.optimizers.Adam(rate, beta_1=0.5) for _ in range(2)], []
    entropy = tf.nn.sigmoid_cross_entropy_with_logits
    for images, truth in data:
        images, depth = tf.constant(images), tf.constant(truth["depth"])
        with tf.GradientTape() as one, tf.GradientTape() as two:
            made = generator(images, training=True)
            real = discriminator({"images": images, "depth": depth}, training=True)
            fake = discriminator({"images": images, "depth": made}, training=True)
            loss = tf.reduce_mean(entropy(tf.ones_like(fake), fake)) + 100 * tf.reduce_mean(
                tf.abs(depth - made))
            other = tf.reduce_mean(entropy(tf.ones_like(real), real)) + tf.reduce_mean(
                entropy(tf.zeros_like(fake), fake))
        gradients = [(tape.gradient(value, network.trainable_variables), network.trainable_variables)
                     for tape, value, network in ((one, loss, generator), (two, other, discriminator))]
        for optimizer, (grads, variables) in zip(optimizers, gradients):
            optimizer.apply_gradients(zip(grads, variables))
        losses.append(float(loss))
    return model, losses


def test_equals_the_published_step():
    data = batches(3)
    step = make()
    losses = [step.train([batch]) for batch in data]
    model, expected = tutorial_twin(TINY, data)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for ours, theirs in zip(step.model.variables, model.variables):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=2e-5, err_msg=ours.path)
    assert BETA_1 == 0.5 == step.optimizer.generator.beta_1 == step.optimizer.discriminator.beta_1


@pytest.mark.parametrize("change, names", [({}, ("l1", False)), ({"distance": "l2"}, ("l2", False)),
                                           ({"masked": True}, ("l1", True))])
def test_evaluate(change, names):
    step = make(dataclasses.replace(TINY, distance_weight=7.0, **change))
    (images, truth), = batches(1, size=3)
    before = [v.numpy() for v in step.model.variables]
    found = step.evaluate(images, truth)
    for ours, same in zip(step.model.variables, before):
        np.testing.assert_array_equal(ours, same)
    assert all(value.shape == (3,) and value.dtype == np.float32 for value in found.values())
    outputs = step.model({"images": images, "depth": truth["depth"]}, training=False)
    np.testing.assert_allclose(found["adversarial"], gan_losses.generator_loss(outputs["generated"]), rtol=1e-5)
    np.testing.assert_allclose(found["discriminator"],
                               gan_losses.discriminator_loss(outputs["real"], outputs["generated"]),
                               rtol=1e-5)
    np.testing.assert_allclose(found["l1"], np.abs(outputs["depth"] - truth["depth"]).mean((1, 2, 3)), rtol=1e-5)
    apart = gan_losses.distance(truth["depth"], outputs["depth"], *names)
    np.testing.assert_allclose(found["loss"], found["adversarial"] + 7 * apart, rtol=1e-5)


def test_another_optimizer_is_refused():
    with pytest.raises(ValueError, match="optimizer rmsprop is not supported for a GAN; use adam"):
        make_optimizers(Settings(optimizer="rmsprop"))


def test_two_optimizers_keep_step():
    step = make()
    pair = step.optimizer
    assert isinstance(pair, TwoOptimizers) and pair.built
    pair.learning_rate = 0.25
    assert float(pair.learning_rate) == float(pair.discriminator.learning_rate) == 0.25
    assert len(pair.variables) == 4 + 2 * len(step.model.trainable_variables)      # iterations, rate, two moments
    assert not make_optimizers(Settings()).built


def test_a_frozen_discriminator_stays():
    keras.utils.set_random_seed(7)
    model = pix2pix.build_training(TINY)
    freeze(model, ("discriminator",))
    kept = model.get_layer("discriminator").get_weights()
    before = model.get_layer("generator").get_weights()
    GanStep(model, make_optimizers(Settings()), TINY).train(batches(1))
    for a, b in zip(kept, model.get_layer("discriminator").get_weights()):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(before[0], model.get_layer("generator").get_weights()[0])


def test_what_a_gan_does_not_do(monkeypatch):
    step = make()
    with pytest.raises(ValueError, match="accumulate must be 1 for a GAN, got 2 batches"):
        step.train(batches(2))
    with pytest.raises(ValueError, match="mixed_float16 is not supported for a GAN"):
        make_optimizers(Settings(precision="mixed_float16"))
    with pytest.raises(ValueError, match="strategy mirrored is not supported for a GAN"):
        make_optimizers(Settings(strategy="mirrored"))
    with pytest.raises(ValueError, match="TwoOptimizers has none"):
        Trainer(step, RunFolder("none"), TrainConfig(schedule="plateau"), None, None, 1).fit()

    class Several:
        num_replicas_in_sync = 2
    with pytest.raises(ValueError, match="one device .*got 2 replicas"):
        GanStep(step.model, step.optimizer, TINY, strategy=Several())
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow only, got jax"):
        make_step({"network": "pix2pix", "model": {}}, step.model, Settings(), None)
    with pytest.raises(ValueError, match="KERAS_BACKEND tensorflow only, got jax"):
        GanStep(step.model, step.optimizer, TINY)


def test_the_network_decides_the_step():
    config = {"network": "pix2pix", "model": dataclasses.asdict(dataclasses.replace(TINY, distance_weight=3.0))}
    step = make_step(config, model_from_config(config, training=True), Settings(), None)
    assert isinstance(step, GanStep) and step.config.distance_weight == 3
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    assert isinstance(make_step({"network": "convlstm", "model": {}}, plain, Settings(), None), GradientStep)


def test_bfloat16():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        step = make(dataclasses.replace(TINY, noise_channels=1))
    finally:
        keras.config.set_dtype_policy("float32")
    (images, truth), = batches(1)
    before = [v.numpy() for v in step.model.trainable_variables]
    assert np.isfinite(step.train([(images, truth)]))
    found = step.model({"images": images, "depth": truth["depth"]})
    assert {value.dtype.name for value in found.values()} == {"float32"}
    assert all(v.dtype == "float32" for v in step.model.trainable_variables)
    moved = [not np.array_equal(a, b.numpy()) for a, b in zip(before, step.model.trainable_variables)]
    assert np.mean(moved) > 0.9


def test_a_small_gan_learns_its_samples():
    config = dataclasses.replace(TINY, filters=(8, 16, 16, 16), batch_norm_momentum=0.8, dropout=0.1)
    step, (batch,) = make(config, rate=4e-3), batches(1, size=4)
    before = step.evaluate(*batch)["l1"].mean()
    for _ in range(120):
        step.train([batch])
    after = step.evaluate(*batch)["l1"].mean()
    assert before > 0.4 and after < before / 6, (before, after)


def trainer(folder) -> Trainer:
    config = dataclasses.replace(TINY, noise_channels=1)
    return Trainer(make(config), RunFolder(folder), TrainConfig(epochs=2, learning_rate=1e-3, choose_by="l1"),
                   lambda epoch, start: batches(4, seed=100 + epoch)[start:],
                   fixed_epoch(lambda epoch, start: batches(2, seed=5)[start:]), 4, progress_bar=False)


RUNS = """
import os, signal, sys
import tensorflow as tf
tf.config.experimental.enable_op_determinism()
from tests.test_gan_step import trainer
folder, mode = sys.argv[1:]
if mode == "killed":
    run = trainer(folder)
    run.run.start({"network": "pix2pix", "model": {}})
    train, calls = run.step.train, []
    def dying(batches):
        calls.append(1)
        if len(calls) == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return train(batches)
    run.step.train = dying
    run.fit()
else:
    trainer(folder + "/whole").fit()
    trainer(folder + "/part").fit(resume=True)
"""


def test_sigkill_and_resume_give_the_bytes_of_an_uninterrupted_run(tmp_path):
    """Both networks, both optimizers, the moving statistics and the seeds of dropout and z."""
    def start(folder, mode):
        return forkserver.run("-c", RUNS, folder, mode)
    assert start(tmp_path / "part", "killed").returncode == -signal.SIGKILL
    ended = start(tmp_path, "others")
    assert ended.returncode == 0, ended.stderr[-1500:]
    with np.load(tmp_path / "whole" / "state.npz") as whole, np.load(tmp_path / "part" / "state.npz") as part:
        assert set(whole.files) == set(part.files)
        for name in set(whole.files) - {"progress"}:
            np.testing.assert_array_equal(whole[name], part[name], err_msg=name)
    rows = [[line.split(",")[:4] for line in (tmp_path / name / "history.csv").read_text().splitlines()]
            for name in ("whole", "part")]
    assert rows[0] == rows[1] and len(rows[0]) == 3
    header = (tmp_path / "whole" / "history.csv").read_text().splitlines()[0]
    assert header.endswith("val_adversarial,val_l1,val_discriminator")
    model = pix2pix.build_training(dataclasses.replace(TINY, noise_channels=1))
    model.load_weights(tmp_path / "part" / "best_validation.keras")
    assert np.isfinite(pix2pix.predicting_part(model)(noise_images(1))).all()


def test_networks_of_the_papers_depth_train_a_step_and_come_back(tmp_path):
    """The paper's layers at its image size, an eighth of its filters."""
    sizes = {name: tuple(width // 8 for width in getattr(pix2pix.PIX2PIX, name))
             for name in ("filters", "discriminator_filters")}
    config = dataclasses.replace(pix2pix.PIX2PIX, **sizes)
    step = make(config)
    batch, = batches(1, size=1, side=256)
    first = step.train([batch])
    assert np.isfinite(first) and step.train([batch]) < first
    path = RunFolder(tmp_path).save_weights(step.model, "best_validation")
    again = model_from_config({"network": "pix2pix", "model": dataclasses.asdict(config)}, training=True)
    again.load_weights(path)
    expected = pix2pix.predicting_part(step.model)(batch[0])
    assert expected.shape == (1, 256, 256, 1)
    np.testing.assert_array_equal(pix2pix.predicting_part(again)(batch[0]), expected)


def test_the_distance_alone():
    """Of adversarial weight 0 the discriminator stays as it was drawn, and the generator's loss is 100 times L1."""
    config = dataclasses.replace(TINY, adversarial_weight=0.0)
    step, data = make(config), batches(2)
    before = [np.array(w) for w in step.model.get_layer("discriminator").get_weights()]
    generator = [np.array(w) for w in step.model.get_layer("generator").get_weights()]
    losses = step.evaluate(*data[0])
    assert set(losses) == {"loss", "l1"}
    np.testing.assert_allclose(losses["loss"], 100 * losses["l1"], rtol=1e-5)
    for batch in data:
        assert np.isfinite(step.train([batch]))
    for a, b in zip(before, step.model.get_layer("discriminator").get_weights()):
        np.testing.assert_array_equal(a, b)
    assert all((a != b).any() for a, b in zip(generator, step.model.get_layer("generator").get_weights()))
