"""What the volume network costs:

    python -m tests.bench.vrn --parameters
    python -m tests.bench.vrn --variants plain guided multitask --runs float32 bfloat16+remat --repeats 0
    python -m tests.bench.vrn --sizes small --batch 8

The parameters of each variant, at the paper's size and `vrn-small`'s. Milliseconds to fill a solid at both sizes,
beside Open3D's first hits of the same solid (the baseline). Then peak memory and processor seconds of training steps,
each in a process of its own: float32 (the baseline), bfloat16, and both with rematerialisation.
"""
from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402

RUNS = {"float32": ("float32", False), "bfloat16": ("mixed_bfloat16", False), "float32+remat": ("float32", True),
        "bfloat16+remat": ("mixed_bfloat16", True)}
USUAL = {"paper": 1, "small": 16}       # size -> images of a step
VARIANTS = ("plain", "guided", "multitask")


def train(size: str, variant: str, precision: str, remat: bool, steps: int, batch: int) -> tuple[float, float]:
    """GiB at the peak, processor seconds of a step (the first, which traces, is left out)."""
    import keras
    import tensorflow as tf

    from Network.losses.volume import volume_and_landmarks
    from Network.models import vrn
    from Network.training.settings import Settings
    from Network.training.step import GradientStep, make_optimizer
    from tests.bench.network_step import peak
    keras.config.set_dtype_policy(precision)
    base, batch = vrn.VRN if size == "paper" else vrn.SMALL, batch or USUAL[size]
    config = dataclasses.replace(base, variant=variant, remat=remat)
    step = GradientStep(vrn.build_training(config), make_optimizer(Settings(optimizer="rmsprop")), volume_and_landmarks)
    rng, side, cells = np.random.default_rng(0), config.image_size, config.image_size // 4
    x = tf.constant(rng.random((batch, side, side, 3), np.float32))
    y = {"volume": tf.cast(rng.random((batch, side, side, config.layers)) < 0.1, tf.float32),
         "heat_maps": tf.constant(rng.random((batch, cells, cells, 68), np.float32))}
    step.train([(x, y)])
    start = time.process_time()
    for _ in range(steps):
        step.train([(x, y)])
    return peak(), (time.process_time() - start) / steps


def data(repeats: int) -> None:
    from Dataset.face_model.model import load_face_model
    from Dataset.geometry.camera import look_at_face
    from Dataset.rendering.raycast import Scene
    from Dataset.representations.volume import fill, frame_of, solid, solid_matrix
    model = load_face_model()
    closed, matrix = solid(model.mean, model), solid_matrix(model)
    mean = np.asarray(model.mean, np.float64)
    for size, layers in ((96, 100), (192, 200)):
        camera = look_at_face(size, 800.0, 4.2 * size)
        voxels = frame_of(closed.vertices, camera, layers).voxels(closed.vertices)
        runners: dict[str, Callable] = {
            "first hits": lambda: Scene(closed.vertices, closed.triangles, 1).cast(camera),
            "solid of a head": lambda: matrix @ mean, "fill": lambda: fill(voxels, closed.triangles, size, layers)}
        times: dict[str, list[float]] = {name: [] for name in runners}
        for _ in range(repeats + 1):
            for name, run in runners.items():
                start = time.process_time()
                run()
                times[name].append(time.process_time() - start)
        base = float(np.median(times["first hits"][1:]))
        for name, values in times.items():
            value = float(np.median(values[1:]))
            print(f"{size:4d} px  {name:16s} {1e3 * value:7.1f} ms   {value / base:.2f} of first hits", flush=True)


def parameters() -> None:
    """Of the networks that are trained, in millions, beside the part that predicts."""
    from Network.models import vrn
    print("parameters | paper | of it, predicts | small | of it, predicts")
    for variant in VARIANTS:
        cells = []
        for base in (vrn.VRN, vrn.SMALL):
            model = vrn.build_training(dataclasses.replace(base, variant=variant))
            cells += [f"{model.count_params():,}", f"{vrn.predicting_part(model).count_params():,}"]
        print(" | ".join([variant, *cells]), flush=True)


def costs(sizes: list[str], variants: list[str], runs: list[str], steps: int, batch: int) -> None:
    """Each run in a process of its own, so that its peak is its own."""
    print("size | variant | run | images | GiB at the peak | processor s a step | memory, time of the first run")
    for size in sizes:
        for variant in variants:
            first: tuple[float, float] | None = None
            for name in runs:
                command = [sys.executable, "-m", "tests.bench.vrn", "--sizes", size, "--variants", variant, "--steps",
                           str(steps), "--batch", str(batch), "--one", name]
                out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
                memory, seconds = float(out[-2]), float(out[-1])
                first = first or (memory, seconds)
                print(f"{size} | {variant} | {name} | {batch or USUAL[size]} | {memory:.2f} | {seconds:.2f} | "
                      f"{memory / first[0]:.2f}, {seconds / first[1]:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", choices=USUAL, nargs="+", default=["paper"])
    parser.add_argument("--variants", choices=VARIANTS, nargs="+", default=["plain"])
    parser.add_argument("--runs", choices=RUNS, nargs="*", default=list(RUNS))
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--batch", type=int, default=0, help="images of a step; default 1 (paper), 16 (small)")
    parser.add_argument("--repeats", type=int, default=15, help="of each way to fill a solid; 0: none")
    parser.add_argument("--parameters", action="store_true", help="only the table of parameters")
    parser.add_argument("--one", choices=RUNS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(*train(arguments.sizes[0], arguments.variants[0], *RUNS[arguments.one], arguments.steps,
                     arguments.batch))
        return
    parameters()
    if arguments.parameters:
        return
    if arguments.repeats:
        data(arguments.repeats)
    costs(arguments.sizes, arguments.variants, arguments.runs, arguments.steps, arguments.batch)


if __name__ == "__main__":
    main()
