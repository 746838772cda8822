"""Images per second of the listing's generator and of ours:  python -m tests.bench.generators [--rounds 5]

All loaders go over the same folder of 256x256 JPEGs in turn, again and again in one run, so that a busy machine slows
all of them; the ratio of each round to the listing's loader of that round is what counts. `cold` decodes each image at
each use; `first epoch` fills the cache on the way; `warm` has it filled. The last part times a trainer that computes
for a while after each batch, and prints the fraction of its time that it waits.
"""
from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Callable, Iterable

import cv2
import numpy as np
import open3d
import tensorflow as tf

from Datagenerator.dataset import DataConfig, SubjectSequence
from Datagenerator.loading.pipeline import make_pipeline
from tests.bench.generator_port import GeneratorPort


def write_folder(root: Path, subjects: int, images: int, size: int = 256) -> None:
    """Soft random images with fine noise: about the bytes, and so the decoding time, of a photographed face."""
    rng = np.random.default_rng(0)
    for subject in range(subjects):
        folder = root / f"P{subject:02d}"
        folder.mkdir(parents=True)
        for image in range(images):
            soft = cv2.resize(rng.integers(0, 256, (12, 12, 3), np.uint8), (size, size), interpolation=cv2.INTER_CUBIC)
            noisy = soft + rng.normal(0, 4, soft.shape)
            cv2.imwrite(str(folder / f"{image:03d}.jpg"), noisy.clip(0, 255).astype(np.uint8))
        cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(rng.normal(0, 60, (2**14, 3))))
        open3d.io.write_point_cloud(str(folder / "truth.ply"), cloud)


def tensorflow_ops(sequence: SubjectSequence, epoch: int) -> Iterable:
    """The same batches by tf.data's own operations: the plain port of the listing's loader to tf.data."""
    groups = sequence.groups(epoch)
    files = [[str(sequence.subjects[s].images[i]) for i in row] for s, row in zip(*groups)]

    def image(name: tf.Tensor) -> tf.Tensor:
        pixels = tf.io.decode_jpeg(tf.io.read_file(name), channels=3, dct_method="INTEGER_ACCURATE")
        pixels = tf.cast(tf.reverse(pixels, [-1]), tf.float32)
        low, high = tf.reduce_min(pixels), tf.reduce_max(pixels)
        return (pixels - low) / (high - low)
    names = tf.data.Dataset.from_tensor_slices(np.concatenate(files))
    per_batch = sequence.config.images * sequence.config.batch_size
    return names.map(image, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).batch(per_batch).prefetch(2)


def images_per_second(batches: Callable[[], Iterable], images: int) -> float:
    begin = time.perf_counter()
    for _ in batches():
        pass
    return images / (time.perf_counter() - begin)


def waiting_share(batches: Iterable, step_seconds: float, matrix: tf.Tensor) -> float:
    """Fraction of a trainer's time spent in `next`; its step keeps TensorFlow's threads busy for `step_seconds`."""
    waited, begin, iterator = 0.0, time.perf_counter(), iter(batches)
    while True:
        before = time.perf_counter()
        if next(iterator, None) is None:
            break
        waited += time.perf_counter() - before
        until = time.perf_counter() + step_seconds
        while time.perf_counter() < until:
            tf.linalg.matmul(matrix, matrix).numpy()
    return waited / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--subjects", type=int, default=6)
    parser.add_argument("--images", type=int, default=40, help="images per person")
    parser.add_argument("--folder", help="an existing folder of subject folders instead of made-up images")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or temporary
        if not arguments.folder:
            write_folder(Path(folder), arguments.subjects, arguments.images)
        compare(folder, arguments.rounds)


def compare(folder: str, rounds: int) -> None:
    port = GeneratorPort(folder, images=8, batch_size=5, points=2**14)
    cold = SubjectSequence(folder, DataConfig(cache="none"))
    warm = SubjectSequence(folder, DataConfig(cache="uint8"))
    per_epoch = len(port) * 40
    loaders: dict[str, Callable[[], Iterable]] = {
        "listing B-3": lambda: (port[i] for i in range(len(port))),
        "tf.data's own decoding": lambda: tensorflow_ops(cold, 0),
        "sequence, cold": lambda: (cold[i] for i in range(len(port))),
        "pipeline, cold": lambda: make_pipeline(cold, 0),
        "pipeline, first epoch": lambda: make_pipeline(SubjectSequence(folder, DataConfig(cache="uint8")), 0),
        "sequence, warm": lambda: (warm[i] for i in range(len(port))),
        "pipeline, warm": lambda: make_pipeline(warm, 0),
    }
    images_per_second(loaders["pipeline, warm"], 1)         # fills the cache
    speeds = {name: [] for name in loaders}
    for _ in range(rounds):
        for name, loader in loaders.items():
            speeds[name].append(images_per_second(loader, per_epoch))
    print(f"{len(port)} batches of 5x8 images an epoch, {rounds} rounds; median images/s and ratio to the listing")
    for name, values in speeds.items():
        ratios = np.array(values) / speeds["listing B-3"]
        print(f"{name:24s} {np.median(values):8.0f}   {np.median(ratios):6.2f}x  "
              f"({ratios.min():.2f} to {ratios.max():.2f})")
    matrix = tf.random.normal((512, 512), seed=0)
    for seconds in (0.05, 0.2, 0.5):
        shares = [waiting_share(make_pipeline(sequence, 1), seconds, matrix)
                  for sequence in (cold, warm)]
        print(f"waiting share, steps of {seconds:.2f} s: cold {shares[0]:.2%}, warm {shares[1]:.2%}")


if __name__ == "__main__":
    main()
