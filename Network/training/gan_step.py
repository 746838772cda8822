"""The step of a conditional GAN on TensorFlow: either network by its own Adam, both from one forward pass.

Baby et al. 2020, section IV.F: both losses are taken, their gradients with respect to either network, and both are
applied: a simultaneous update, in which neither network sees the other's new weights. The interface is
tf_step.GradientStep's, so training.Trainer and RunFolder take it as it is.
"""
from __future__ import annotations

from typing import Any, Sequence

import keras
import numpy as np
import tensorflow as tf

from Network.losses.gan import distance, generator_loss, discriminator_loss
from Network.training.batches import Batch
from Network.training.optimizers import TwoOptimizers
from Network.training.settings import Settings

BETA_1 = 0.5        # of Adam; Isola et al. 2017, 3.3. The paper gives none


def make_optimizers(settings: Settings) -> TwoOptimizers:
    """Two Adams; the trainer sets the rate. ValueError for float16, whose loss scale two losses cannot share,
    for replicas, for other optimizers and for weight decay."""
    if settings.precision == "mixed_float16":
        raise ValueError("precision mixed_float16 is not supported for a GAN; use float32 or mixed_bfloat16")
    if settings.strategy != "none":
        raise ValueError(f"strategy {settings.strategy} is not supported for a GAN; use none")
    if settings.optimizer != "adam":
        raise ValueError(f"optimizer {settings.optimizer} is not supported for a GAN; use adam")
    if settings.weight_decay:
        raise ValueError(f"weight_decay is not supported for a GAN; got {settings.weight_decay}")
    return TwoOptimizers(*(keras.optimizers.Adam(beta_1=BETA_1) for _ in range(2)))


class GanStep:
    """Trains and evaluates a model of `pix2pix.build_training` on batches (images (B, S, S, 3), {"depth": ...}).

    model        both networks, as its layers "generator" and "discriminator"
    optimizer    from `make_optimizers`
    config       with the fields `distance`, `distance_weight`, `masked` and `adversarial_weight` of `pix2pix.Config`;
                 of weight 0 the generator alone is trained, by the distance (the ablation of Isola et al. 2017, 4.1)
    jit          compile the step by XLA, for GPUs
    strategy     None, or one of a single replica: ValueError for more
    """

    worker, workers, local_replicas = 0, 1, 1

    def __init__(self, model: keras.Model, optimizer: TwoOptimizers, config: Any, *, jit: bool = False,
                 strategy: tf.distribute.Strategy | None = None) -> None:
        if keras.backend.backend() != "tensorflow":
            raise ValueError(f"a GAN trains with KERAS_BACKEND tensorflow only, got {keras.backend.backend()}")
        if strategy is not None and strategy.num_replicas_in_sync > 1:
            raise ValueError("a GAN trains on one device (strategy none), "
                             f"got {strategy.num_replicas_in_sync} replicas")
        self.model, self.optimizer, self.config = model, optimizer, config
        self.strategy = strategy or tf.distribute.get_strategy()
        trained = [model.get_layer(name).trainable_variables for name in ("generator", "discriminator")]
        optimizers = optimizer.generator, optimizer.discriminator
        for one, variables in zip(optimizers, trained):
            if not one.built:
                one.build(variables)

        def update(images: tf.Tensor, depth: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape(persistent=True) as tape:
                parts = self._losses(images, depth, training=True)
                losses = [tf.reduce_mean(parts[name]) for name in ("loss", "discriminator") if name in parts]
            gradients = [tape.gradient(loss, variables) for loss, variables in zip(losses, trained)]
            for one, grads, variables in zip(optimizers, gradients, trained):
                if variables:           # a frozen network has none
                    one.apply(grads, variables)
            return losses[0]

        compiled = {"jit_compile": jit or None}
        self._update = tf.function(update, **compiled)
        self._evaluate = tf.function(lambda images, depth: self._losses(images, depth, training=False), **compiled)

    def _losses(self, images: tf.Tensor, depth: tf.Tensor, training: bool) -> dict[str, tf.Tensor]:
        """(B,) each; see `evaluate`. Equation 4 for "loss"."""
        config = self.config
        if not config.adversarial_weight:
            made = self.model.get_layer("generator")(images, training=training)
            return {"loss": config.distance_weight * distance(depth, made, config.distance, config.masked),
                    "l1": distance(depth, made)}
        found = self.model({"images": images, "depth": depth}, training=training)
        parts = {"adversarial": generator_loss(found["generated"]), "l1": distance(depth, found["depth"]),
                 "discriminator": discriminator_loss(found["real"], found["generated"])}
        apart = distance(depth, found["depth"], config.distance, config.masked)
        return {"loss": config.adversarial_weight * parts["adversarial"] + config.distance_weight * apart, **parts}

    def train(self, batches: Sequence[Batch]) -> float:
        """One update of both networks from one batch -> the generator's mean loss, from before the update.

        ValueError for several micro-batches: batch normalisation would see other batches.
        """
        if len(batches) != 1:
            raise ValueError(f"accumulate must be 1 for a GAN, got {len(batches)} batches for one update")
        (images, truth), = batches
        return float(self._update(tf.convert_to_tensor(images), tf.convert_to_tensor(truth["depth"])))

    def evaluate(self, x: Any, y: Any) -> dict[str, np.ndarray]:
        """Losses (B,) float32 without training. "loss": the generator's, the cross-entropy "adversarial" + lambda times
        the distance; "l1": the mean absolute difference over the whole map in [0, 2], whatever the distance is, to
        choose a checkpoint by; "discriminator": the other network's loss. The parts do not add up. Of adversarial
        weight 0 there are "loss" and "l1" alone."""
        parts = self._evaluate(tf.convert_to_tensor(x), tf.convert_to_tensor(y["depth"]))
        return {name: np.asarray(value) for name, value in parts.items()}

    def agree(self, value: float) -> float:
        """The number itself: there is one worker."""
        return value
