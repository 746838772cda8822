"""How many times as fast as the published evaluation ours is, at 16,384 points, interleaved in one run.

    python -m tests.bench.evaluation [--points 16384] [--rounds 3] [--workers -1]

The baseline (tests/bench/evaluation_port.py) uses scikit-learn's trees as the published code does when that package is
installed, else scipy's, whose single queries are about four times as fast; which one is printed.
"""
from __future__ import annotations

import argparse
import time

import numpy as np

from Dataset.geometry.transforms import rotation_from_euler
from Evaluation.evaluate_predictions import evaluate, prediction_evaluator
from tests.bench import evaluation_port as port
from tests.clouds import face


def cases(n: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Prediction and ground truth, (n, 3) each, in unit spheres."""
    truth, other = face(n, 1, nose=0.25, eyes=0.05), face(n, 2, nose=0.35, eyes=0.12)
    noise = np.random.default_rng(0).normal(0, 0.02, (n, 3))
    return {"near (a trained network)": (face(n, 3, nose=0.26, eyes=0.055), truth),
            "another face": (other, truth),
            "noisy (an untrained network)": (face(n, 4, nose=0.3) + noise, truth),
            "another face, 12 degrees off": (other @ rotation_from_euler(12, 6, 4).T, truth)}


def timed(function, *arguments) -> tuple[float, float, float]:
    """Wall seconds, processor seconds (of all threads), value."""
    wall, processor = time.perf_counter(), time.process_time()
    value = function(*arguments)
    return time.perf_counter() - wall, time.process_time() - processor, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=2 ** 14)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=-1)
    options = parser.parse_args()
    ours = prediction_evaluator(workers=options.workers)
    print(f"{options.points} points, {options.rounds} rounds interleaved, medians; the port's trees: {port.TREE}")
    for name, (predicted, truth) in cases(options.points).items():
        ours(predicted, truth)
        slow, fast = [], []
        for _ in range(options.rounds):
            slow.append(timed(port.nme, predicted, truth))
            fast.append(timed(ours, predicted, truth))
        wall, processor = (np.median([x[i] for x in slow]) / np.median([x[i] for x in fast]) for i in (0, 1))
        print(f"{name:28s} port {np.median([x[0] for x in slow]):.3f} s  ours {np.median([x[0] for x in fast]):.4f} s  "
              f"ratio {wall:5.1f} (processor time {processor:5.1f})  "
              f"number {fast[0][2]:.12f}  difference {abs(fast[0][2] - slow[0][2]):.0e}")
    predicted, truth = cases(options.points)["another face"]
    seconds = min(timed(lambda: evaluate(predicted, truth, ordered=False).chamfer)[0] for _ in range(options.rounds))
    print(f"all numbers of one pair, surface protocol included: {seconds:.2f} s")


if __name__ == "__main__":
    main()
