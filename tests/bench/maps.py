"""Time of a batch for per-pixel networks beside one for `compact` from the same shards, and how long a trainer waits:

    OMP_NUM_THREADS=1 python -m tests.bench.maps SHARDS [--rounds 7] [--busy 0.5]

SHARDS holds the buffers uv, mask, visible_mask and depth. Ways run in turn, batch by batch, in one run and on one
thread; the ratio to the baseline of processor time an image is what counts. --busy: seconds of other work on each core
with every batch of 40, in place of a training step; 0.4 to 0.7 are 100 to 60 images/s.
"""
from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from Datagenerator.loading.threads import ThreadPipeline
from Datagenerator.sequences.keypoints import ShardConfig, make_sequences
from Datagenerator.sequences.maps import DepthConfig, MapConfig, MapSequence, make_map_sequences
from Dataset.io.workers import cores
from Dataset.synthesis.shards import Shards, open_shards

IMAGES = 40


def race(shards: Shards, rounds: int) -> None:
    held = {"validation_subjects": 4, "image_size": min(128, shards.size)}
    maps = {"uv, nothing changed": MapConfig(augment=False, empty=0.0, **held), "uv, default": MapConfig(**held),
            "uv, all options": MapConfig(jitter=True, quarters=True, faces_in_image=3, **held),
            "depth, as published": DepthConfig(batch_size=IMAGES, **held),
            "depth, augmented": DepthConfig(batch_size=IMAGES, augment=True, empty=0.1, **held)}
    images = min(4, shards.images)
    compact = ShardConfig(min_images=images, max_images=images, batch_images=IMAGES, **held)
    ways = {"compact (baseline)": make_sequences(shards, compact)[0],
            **{name: make_map_sequences(shards, config)[0] for name, config in maps.items()}}
    spent = {name: [] for name in ways}
    for turn in range(-1, rounds):
        for name, way in ways.items():
            begun = time.process_time()
            count = np.prod(way.batch(0, turn + 1)[0].shape[:-3])
            if turn >= 0:
                spent[name].append((time.process_time() - begun) / count * IMAGES * 1e3)
    base = np.median(spent["compact (baseline)"])
    for name, times in spent.items():
        print(f"{name:20s} {np.median(times):5.0f} ms of processor time for {IMAGES} images, "
              f"{np.median(times) / base:.2f} of the baseline")


def waiting(sequence: MapSequence, busy: float, batches: int = 12) -> None:
    """The fraction of its time that a trainer waits, from the second batch on."""
    stop = time.perf_counter
    work = np.random.default_rng(0).standard_normal((400, 400))

    def step(seconds: float) -> None:
        begun = time.thread_time()          # of the processor: the load of other programs slows both sides alike
        while time.thread_time() - begun < seconds:
            work @ work
    waited, begun = 0.0, stop()
    with ThreadPoolExecutor(cores()) as pool:
        asked = begun
        for number, _ in enumerate(ThreadPipeline(lambda i: sequence.batch(0, i), 0, batches, min(4, cores()), 2)):
            if number == 0:
                begun = stop()
            else:
                waited += stop() - asked
            list(pool.map(step, [busy] * cores()))
            asked = stop()
    print(f"a trainer busy for {busy:g} s a batch on {cores()} cores waits {100 * waited / (stop() - begun):.2f} % "
          f"of its time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--busy", type=float, default=0.5)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    shards = open_shards(arguments.shards, partial=True)
    race(shards, arguments.rounds)
    waiting(make_map_sequences(shards, MapConfig(validation_subjects=4, image_size=min(128, shards.size)))[0],
            arguments.busy)


if __name__ == "__main__":
    main()
