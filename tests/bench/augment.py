"""Time of augmentation beside JPEG encoding and decoding of the same image:

    python -m tests.bench.augment [--rounds 7]

Baseline and each step run in turn, again and again in one run, on one thread; the ratio of each round to the baseline
of that round is what counts.
"""
from __future__ import annotations

import argparse
import time
from typing import Callable

import cv2
import numpy as np

from Datagenerator.augmentation.augment import (DEFAULT, AugmentConfig, Sample, add_noise, augment, blur, coarsen,
                                                colours, jitter, jpeg, light, occlude)
from tests.test_augment import soft_image


def through_jpeg(image: np.ndarray) -> np.ndarray:
    """The baseline: quality 70, encoded and decoded."""
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], cv2.IMREAD_COLOR)


def milliseconds(call: Callable[[Sample], object], samples: list[Sample]) -> float:
    begin = time.perf_counter()
    for sample in samples:
        call(sample)
    return (time.perf_counter() - begin) / len(samples) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--samples", type=int, default=400, help="samples a round")
    parser.add_argument("--size", type=int, default=128)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 4, (arguments.size, arguments.size, 3))
    images = [np.clip(soft_image(arguments.size, i) + grain, 0, 255).astype(np.uint8) for i in range(32)]
    points = rng.uniform(0, arguments.size, (68, 2)).astype(np.float32)
    samples = [Sample(images[i % 32], points, np.ones(68, bool)) for i in range(arguments.samples)]
    every = AugmentConfig(blob=1.0, hand=1.0, bar=1.0, blur=1.0, motion=1.0, coarse=1.0, jpeg=1.0, shuffle=1.0)
    calls: dict[str, Callable[[Sample], object]] = {
        "JPEG encode + decode": lambda s: through_jpeg(s.image),
        "augment, default": lambda s: augment(s, rng, other=images[0]),
        "augment, every step": lambda s: augment(s, rng, every, other=images[0]),
        "  jitter": lambda s: jitter(s, rng, DEFAULT),
        "  occlude": lambda s: occlude(s, rng, DEFAULT, images[0]),
        "  light": lambda s: light(s.image, rng, DEFAULT),
        "  colours": lambda s: colours(s.image, rng, DEFAULT),
        "  blur": lambda s: blur(s.image, rng, DEFAULT),
        "  coarsen": lambda s: coarsen(s.image, rng, DEFAULT),
        "  jpeg": lambda s: jpeg(s.image, rng, DEFAULT),
        "  add_noise": lambda s: add_noise(s.image, rng, DEFAULT),
    }
    for call in calls.values():         # planes of noise are made once
        call(samples[0])
    times = {name: [] for name in calls}
    for _ in range(arguments.rounds):
        for name, call in calls.items():
            times[name].append(milliseconds(call, samples))
    print(f"{arguments.size} px, {arguments.rounds} rounds of {arguments.samples}; median ms a sample, ratio")
    for name, values in times.items():
        ratio = np.array(values) / times["JPEG encode + decode"]
        print(f"{name:24s} {np.median(values):7.3f}   {np.median(ratio):6.2f}x  "
              f"({ratio.min():.2f} to {ratio.max():.2f})")


if __name__ == "__main__":
    main()
