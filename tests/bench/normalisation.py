"""A training step of `compact` with TensorFlow's fused batch normalisation beside the same step with Keras's:

    python -m tests.bench.normalisation [--rounds 4]

Both run in turn in one run (bfloat16, 16 subjects of 4 images of 128 px); their ratio is what counts.
"""
from __future__ import annotations

import argparse
import os
import time
from typing import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from Network.layers.normalisation import BatchNormalization  # noqa: E402
from Network.losses.points import keypoint_loss  # noqa: E402
from Network.models import compact  # noqa: E402

SUBJECTS, IMAGES = 16, 4


def make_step(normalisation: type[keras.layers.Layer]) -> Callable[[], object]:
    """Forward, backward and Adam's update on made-up images."""
    compact.BatchNormalization = normalisation
    try:
        model = compact.build_training(compact.COMPACT)
    finally:
        compact.BatchNormalization = BatchNormalization
    optimizer, size = keras.optimizers.Adam(1e-4), compact.COMPACT.image_size
    x = tf.random.stateless_uniform((SUBJECTS, IMAGES, size, size, 3), (0, 1))
    truth = {"keypoints": tf.zeros((SUBJECTS, IMAGES, 256, 2)), "seen": tf.ones((SUBJECTS, IMAGES, 256))}

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            parts = keypoint_loss(truth, model(x, training=True))
            loss = tf.add_n([tf.reduce_mean(part) for part in parts.values()])
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))
        return loss
    step()
    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    rounds = parser.parse_args().rounds
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    steps = {"Keras's": make_step(keras.layers.BatchNormalization), "fused": make_step(BatchNormalization)}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            begin = time.perf_counter()
            for _ in range(3):
                step()
            times[name].append((time.perf_counter() - begin) / 3)
    for name, seconds in times.items():
        print(f"{name:8} {1e3 * min(seconds):7.0f} ms")
    ratios = sorted(a / b for a, b in zip(times["Keras's"], times["fused"]))
    print(f"fused is {ratios[len(ratios) // 2]:.2f} times as fast (median of {rounds} rounds; {ratios[0]:.2f} to "
          f"{ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
