"""Training steps on this machine's NVIDIA GPUs:  python -m tests.bench.gpu [--out gpu.md] [--updates 20]

The thesis's step, `compact` and `uvnet`, in float32 and in mixed precision, with XLA off and on, on one GPU and on all
of them, under TensorFlow; the same on one GPU under JAX, where it is installed for GPUs. Each in a process of its own,
which first repeats the losses of three updates that a CPU in float32 gives from the same weights and made data.
Printed, and written as Markdown: samples/s, and the fraction of the speed of a large matrix product in the same
precision on the same GPU (of training's operations, three times those of a forward pass; "-" where they cannot be
counted).

Without a GPU it says so and ends with 0; it ends with 1 where losses differ or a configuration fails.
"""
from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

DEVICE = Path("/dev/nvidia0")           # there is no CUDA without it, and looking costs nothing
#: preset -> samples of an update: the thesis's, our own, Ronkainen's
NETWORKS = {"thesis": 1, "compact": 64, "uvnet": 40}
PRECISIONS = ("float32", "mixed_bfloat16")
BACKENDS = ("tensorflow", "jax")
CHECKED = 3                             # updates whose losses are compared
#: largest relative difference of a loss from the CPU's: rounding, and what three updates make of it
TOLERANCE = {"float32": 0.02, "mixed_bfloat16": 0.1}
WARM_UP, PRODUCT = 3, 8192
TIMEOUT = 1800                          # seconds of one configuration
COLUMNS = ("network", "backend", "precision", "XLA", "GPUs", "samples/s", "share of peak", "loss, GPU / CPU")


class Case(NamedTuple):
    """One process. devices: 0 the CPU, 1 one GPU, more: all; samples: of an update on all devices together."""

    preset: str
    backend: str
    precision: str
    jit: bool
    devices: int
    samples: int
    updates: int
    model: dict[str, Any] = {}


def cases(devices: int, updates: int, presets: list[str], backends: list[str]) -> list[Case]:
    """Every configuration for so many GPUs; JAX's step runs on one and always compiles by XLA."""
    found = []
    for preset, backend, precision in itertools.product(presets, backends, PRECISIONS):
        for jit, count in itertools.product((False, True) if backend == "tensorflow" else (True,),
                                            sorted({1, devices}) if backend == "tensorflow" else (1,)):
            found.append(Case(preset, backend, precision, jit, count, NETWORKS[preset] * count, updates))
    return found


def made_batch(network: str, model: dict[str, Any], samples: int, seed: int = 0) -> tuple[Any, Any]:
    """Inputs and targets in the layout of a network's data, made of random numbers. ValueError for another network."""
    rng, size = np.random.default_rng(seed), model["image_size"]
    if network == "uvnet":
        mask = np.zeros((samples, size, size, 1), np.float32)
        mask[:, size // 4:-size // 4, size // 4:-size // 4] = 1
        uv = rng.random((samples, size, size, 2), np.float32) * mask
        return rng.random((samples, size, size, 3), np.float32), {"uv": uv, "mask": mask, "eroded": mask,
                                                                  "visible_mask": mask}
    images = 8 if network == "convlstm" else 1
    photos = rng.random((samples, images, size, size, 3), np.float32)
    if network == "convlstm":
        return photos, rng.normal(0, 0.5, (samples, model["points"], 3)).astype(np.float32)
    if network == "compact":
        return photos, {"keypoints": rng.random((samples, images, 256, 2), np.float32),
                        "seen": np.ones((samples, images, 256), np.float32)}
    raise ValueError(f"network must be convlstm, compact or uvnet, got {network!r}")


def run_case(case: Case) -> dict[str, Any]:
    """In this process: losses of CHECKED updates, samples/s (NaN on the CPU), GFLOP of a sample's training."""
    from Network.inspection.flops import flops
    from Network.training.checkpoints import model_from_config
    from Network.training.presets import resolve
    from Network.training.settings import Settings
    from Network.training.step import make_step, prepare
    settings = Settings(precision=case.precision, jit=case.jit, strategy="mirrored" if case.devices > 1 else "none")
    sizes = {name: value for name, value in case.model.items() if name == "image_size"}     # that the data share
    config = resolve(case.preset, {"model": case.model, "data": sizes})
    strategy = prepare(settings)
    with strategy.scope():
        model = model_from_config(config, training=True)
        step = make_step(config, model, settings, strategy)
    batch = made_batch(config["network"], config["model"], case.samples)
    losses = [step.train([batch]) for _ in range(CHECKED)]
    try:
        operations = 3 * flops(step.model, np.shape(batch[0])[1] if np.ndim(batch[0]) == 5 else 1) / 1e9
    except (ValueError, AttributeError):        # a layer whose cost is unknown
        operations = math.nan
    speed = math.nan
    if case.devices:
        for _ in range(WARM_UP):
            step.train([batch])
        begun = time.perf_counter()
        for _ in range(case.updates):           # each waits for its loss
            step.train([batch])
        speed = case.samples * case.updates / (time.perf_counter() - begun)
    return {"losses": losses, "speed": speed, "gflop": operations}


def peak(precision: str, backend: str) -> float:
    """GFLOP/s of a product of two square matrices of PRODUCT rows on one GPU."""
    kind = "bfloat16" if precision == "mixed_bfloat16" else "float32"
    if backend == "jax":
        import jax
        matrix = jax.numpy.ones((PRODUCT, PRODUCT), kind)
        product: Callable[[], Any] = jax.jit(lambda: (matrix @ matrix).sum())
    else:
        import tensorflow as tf
        matrix = tf.ones((PRODUCT, PRODUCT), kind)
        product = tf.function(lambda: tf.reduce_sum(matrix @ matrix))
    best = math.inf
    for _ in range(5):
        begun = time.perf_counter()
        float(product())
        best = min(best, time.perf_counter() - begun)
    return 2 * PRODUCT ** 3 / best / 1e9


def child(words: dict[str, Any], devices: int, backend: str) -> dict[str, Any]:
    """Run one request in a process of its own -> its answer, or {"error": the last line of what it wrote}."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if devices == 0:
        environment |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    elif devices == 1:
        environment["CUDA_VISIBLE_DEVICES"] = (visible or "0").split(",")[0]
    try:
        done = subprocess.run([sys.executable, "-m", "tests.bench.gpu", "--request", json.dumps(words)],
                              env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {TIMEOUT} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"error": (done.stderr.strip().splitlines() or ["no answer"])[-1][:200]}
    return json.loads(lines[-1])


def answer(words: dict[str, Any]) -> dict[str, Any]:
    """What a child does: count the GPUs, measure the peak, or run a case."""
    if words["what"] == "devices":
        if words["backend"] == "jax":
            import jax
            found = [device.device_kind for device in jax.devices() if device.platform == "gpu"]
        else:
            import tensorflow as tf
            found = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
                     for gpu in tf.config.list_physical_devices("GPU")]
        return {"devices": found}
    if words["what"] == "peak":
        return {"peak": peak(words["precision"], words["backend"])}
    return run_case(Case(*words["case"]))


def row_of(case: Case, found: dict[str, Any], reference: list[float], top: float) -> tuple[list[str], bool]:
    """A row of the table, and whether it is right: losses within TOLERANCE of the CPU's."""
    start = [case.preset, case.backend, case.precision, "on" if case.jit else "off", str(case.devices)]
    if "error" in found:
        return [*start, "-", "-", found["error"].replace("|", "/")], False
    share = found["speed"] * found["gflop"] / (top * case.devices)
    ratios = [ours / theirs for ours, theirs in zip(found["losses"], reference)]
    good = len(ratios) == CHECKED and all(abs(ratio - 1) <= TOLERANCE[case.precision] for ratio in ratios)
    said = " ".join(f"{ratio:.4f}" for ratio in ratios) + ("" if good else " DIFFERS")
    return [*start, f"{found['speed']:.1f}", "-" if math.isnan(share) else f"{100 * share:.1f} %", said], good


def markdown(rows: list[list[str]], title: str) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS), *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join([f"**{title}**", "", *lines]) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--updates", type=int, default=20, help="timed updates of each configuration; default 20")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--request", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.request:
        print(json.dumps(answer(json.loads(arguments.request))))
        return 0
    if not DEVICE.exists():
        print("no NVIDIA GPU on this machine: nothing is measured")
        return 0
    named = {backend: child({"what": "devices", "backend": backend}, 2, backend) for backend in arguments.backends}
    usable = [backend for backend, found in named.items() if found.get("devices")]
    for backend in set(arguments.backends) - set(usable):
        print(f"{backend}: no GPU for it ({named[backend].get('error', 'its list is empty')}); "
              "pip install '.[gpu]' installs TensorFlow's libraries")
    if not usable:
        return 0
    devices = named[usable[0]]["devices"]
    reference, peaks, rows, right = {}, {}, [], True
    for case in cases(len(devices), arguments.updates, arguments.networks, usable):
        key = case.preset, case.backend, case.samples
        if key not in reference:        # each backend draws its own weights
            reference[key] = child({"what": "case", "case": case._replace(precision="float32", jit=False, devices=0)},
                                   0, case.backend)
        if (case.precision, case.backend) not in peaks:
            peaks[case.precision, case.backend] = child({"what": "peak", "precision": case.precision,
                                                         "backend": case.backend}, 1, case.backend)
        found = child({"what": "case", "case": case}, case.devices, case.backend)
        row, good = row_of(case, found, reference[key].get("losses", []),
                           peaks[case.precision, case.backend].get("peak", math.nan))
        rows.append(row)
        right &= good
        print("  ".join(row), flush=True)
    text = markdown(rows, f"{len(devices)} x {devices[0]}")
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
