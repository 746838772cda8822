"""A training step of pix2pix-small beside one of `compact`, the baseline, on as many images:

    python -m tests.bench.gan_step [--rounds 6] [--paper]

Both run in turn in one run (bfloat16, 16 made-up images of 128 px); their ratio is what counts. CPU seconds are those
of all threads: on a machine that does other things too they say more than the clock. --paper adds one step of the
paper's networks (float32, one image of 256 px).
"""
from __future__ import annotations

import argparse
import os
import time
from typing import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402

from Network.losses.points import keypoint_loss  # noqa: E402
from Network.models import compact, pix2pix  # noqa: E402
from Network.training.gan_step import GanStep, make_optimizers  # noqa: E402
from Network.training.settings import Settings  # noqa: E402
from Network.training.step import GradientStep  # noqa: E402

IMAGES = 16


def gan(config: pix2pix.Config, policy: str, images: int = IMAGES) -> Callable[[], object]:
    """One update of both networks."""
    keras.config.set_dtype_policy(policy)
    step = GanStep(pix2pix.build_training(config), make_optimizers(Settings()), config)
    rng, shape = np.random.default_rng(0), (images, config.image_size, config.image_size)
    batch = rng.random((*shape, 3), np.float32), {"depth": 2 * rng.random((*shape, 1), np.float32) - 1}
    return lambda: step.train([batch])


def baseline() -> Callable[[], object]:
    """One update of `compact`: subjects of 4 images."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    config, subjects = compact.COMPACT, IMAGES // 4
    step = GradientStep(compact.build_training(config), keras.optimizers.Adam(1e-4), keypoint_loss)
    x = np.random.default_rng(0).random((subjects, 4, config.image_size, config.image_size, 3), np.float32)
    y = {"keypoints": np.zeros((subjects, 4, 256, 2), np.float32), "seen": np.ones((subjects, 4, 256), np.float32)}
    return lambda: step.train([(x, y)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--paper", action="store_true")
    arguments = parser.parse_args()
    steps = {"compact": baseline(), "pix2pix-small": gan(pix2pix.SMALL, "mixed_bfloat16")}
    if arguments.paper:
        steps["pix2pix"] = gan(pix2pix.PIX2PIX, "float32", 1)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for number in range(arguments.rounds + 2):
        for name, step in steps.items():
            begin = time.perf_counter(), time.process_time()
            step()
            if number >= 2:         # the first ones compile
                times[name].append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    for name, rows in times.items():
        wall, cpu = np.median(rows, axis=0)
        count = 1 if name == "pix2pix" else IMAGES
        print(f"{name:16} {count / wall:6.1f} images/s, best {count / min(rows)[0]:6.1f};"
              f" {count / cpu:6.1f} per CPU second")
    ratios = sorted(a[1] / b[1] for a, b in zip(times["compact"], times["pix2pix-small"]))
    print(f"pix2pix-small trains {ratios[len(ratios) // 2]:.2f} times as many images per CPU second as compact "
          f"(median of {len(ratios)} rounds; {ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
