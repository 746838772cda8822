"""How much faster is our step than the thesis's?  python -m tests.bench.network_step [--repeats 5] [--memory]

Both networks, batch 1, 8 images of 256x256, taking turns in one process, so that whatever else
the machine does hits both; medians. The baseline is tests/bench/listing.py, eager, float32, as the thesis ran it.
--memory measures the peak resident memory of each, in a process of its own.
"""
from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from Network import mobile3model  # noqa: E402
from Network.losses.points import mean_squared_error  # noqa: E402
from tests.bench import listing  # noqa: E402

SHAPE = (8, 256, 256, 3)
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
Pair = tuple[Callable[[], None], Callable[[], None]]


def data() -> tuple[tf.Tensor, tf.Tensor]:
    """Images (1, 8, 256, 256, 3) and points (1, 16384, 3), float32."""
    rng = np.random.default_rng(0)
    return (tf.constant(rng.random((1, *SHAPE), np.float32)), tf.constant(rng.random((1, 2**14, 3), np.float32) - 0.5))


def baseline() -> Pair:
    """The listing's training step and its inference, both eager."""
    images, points = data()
    model, adam = listing.get_keras_model(SHAPE, squeeze=True), keras.optimizers.Adam(1e-4)
    return (lambda: listing.eager_step(model, adam, images, points), lambda: model(images, training=False).numpy())


def ours(precision: str) -> Pair:
    """Our training step (one gradient step inside tf.function, no XLA) and inference."""
    keras.config.set_dtype_policy(PRECISIONS[precision])
    images, points = data()
    model, adam = mobile3model.get_keras_model(SHAPE, squeeze=True), keras.optimizers.Adam(1e-4)
    keras.config.set_dtype_policy("float32")
    adam.build(model.trainable_variables)

    @tf.function
    def train(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(mean_squared_error(y, model(x, training=True)))
        adam.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    infer = tf.function(lambda x: model(x, training=False))
    return lambda: train(images, points).numpy(), lambda: infer(images).numpy()


def seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def peak() -> float:
    """This process's highest resident memory in GiB (Linux). Not getrusage, which inherits its parent's."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=PRECISIONS, nargs="*", default=list(PRECISIONS))
    parser.add_argument("--memory", action="store_true", help="peak memory too, each in a process of its own")
    parser.add_argument("--peak-of", choices=("thesis", *PRECISIONS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak_of:
        train, _ = baseline() if arguments.peak_of == "thesis" else ours(arguments.peak_of)
        for _ in range(3):
            train()
        print(peak())
        return
    runners = {"thesis": baseline(), **{p: ours(p) for p in arguments.precision}}
    for kind, index in (("training step", 0), ("inference", 1)):
        for pair in runners.values():       # trace and warm up
            pair[index]()
        times = {name: [] for name in runners}
        for _ in range(arguments.repeats):
            for name, pair in runners.items():
                times[name].append(seconds(pair[index]))
        for name, values in times.items():
            ratio = statistics.median(a / b for a, b in zip(times["thesis"], values))
            print(f"{kind:14s} {name:9s} median {statistics.median(values):6.2f} s   {ratio:.2f}x the thesis's speed",
                  flush=True)
    if arguments.memory:
        for name in runners:
            command = [sys.executable, "-m", "tests.bench.network_step", "--peak-of", name]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            print(f"peak memory    {name:9s} {float(out.split()[-1]):.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
