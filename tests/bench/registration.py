"""How near registration comes to the truth, and how long it takes, on made scans; interleaved with two baselines.

    python -m tests.bench.registration [--subjects 4] [--threads 1]

Semantic error: recovered grid to true grid, mean over the grid and scans, mm. Surface error: grid points with scan
underneath to the scan. Baselines: the mean face moved and scaled onto the landmarks; the model's fit without the
non-rigid step. Landmarks are 51, placed 1.5 mm off.
"""
from __future__ import annotations

import argparse
import time

import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.fitting.nonrigid_icp import has_scan, register
from Dataset.fitting.scan_fit import Landmarks, start_from_landmarks
from Dataset.geometry.scan_surface import ScanSurface
from Dataset.representations.points import encode
from tests.scans import MadeScan, make_scan

CASES = {"plain": {"bumps": 0.0, "noise": 0.0, "holes": 0, "hair": 0}, "bumps of 2 mm, noise 0.1, holes, hair": {},
         "and expressions": {"expression": 0.8}, "bumps of 4 mm": {"bumps": 4.0}, "noise 0.3 mm": {"noise": 0.3},
         "6,000 triangles": {"triangles": 6_000}, "60,000 triangles": {"triangles": 60_000},
         "20 holes, 600 strands": {"holes": 20, "hair": 600}, "turned by up to 20 degrees": {"turn": 20.0}}


def score(made: MadeScan, grid: np.ndarray) -> tuple[float, float]:
    """Semantic and surface error, mm."""
    found, under = has_scan(ScanSurface(made.scan), grid.reshape(-1, 3))
    return float(np.linalg.norm(grid - made.grid, axis=2).mean()), float(found.distance[under].mean())


def run(made: MadeScan, marked: bool, rng: np.random.Generator, threads: int) -> dict[str, tuple[float, ...]]:
    """Errors of the three ways, and wall and processor seconds, faults and coverage of the last."""
    noise = rng.normal(0, 1.5 / 3**0.5, (51, 3))
    landmarks = Landmarks(np.arange(17, 68), made.landmarks[17:] + noise)
    model = load_face_model()
    begin, processor = time.perf_counter(), time.process_time()
    result = register(made.scan, landmarks if marked else None, threads=threads)
    seconds = time.perf_counter() - begin, time.process_time() - processor
    mean = start_from_landmarks(landmarks, model).apply(encode(model.mean))
    return {"mean face": score(made, mean), "model alone": score(made, encode(result.fit.vertices())),
            "registered": (*score(made, result.grid), *seconds, len(result.quality.faults()), result.quality.covered)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print(f"{options.subjects} people a case; semantic / surface error in mm")
    print(f"{'case':40s} {'landmarks':9s} {'mean face':>13s} {'model alone':>13s} {'registered':>13s} {'worst':>5s} "
          f"{'covered':>7s} {'s':>5s} {'CPU s':>5s} {'bad':>3s}")
    for number, (name, settings) in enumerate(CASES.items()):
        subjects = [make_scan(1000 + 100 * number + i, **settings) for i in range(options.subjects)]
        for marked in (True, False):
            rng = np.random.default_rng(number)
            results = [run(made, marked, rng, options.threads) for made in subjects]
            cells = ["{:6.2f} /{:5.2f}".format(*np.mean([r[way][:2] for r in results], axis=0))
                     for way in ("mean face", "model alone", "registered")]
            last = np.array([r["registered"] for r in results])
            print(f"{name:40s} {'51' if marked else 'none':9s} {' '.join(cells)} {last[:, 0].max():5.2f} "
                  f"{last[:, 5].mean():7.2f} {np.median(last[:, 2]):5.2f} {np.median(last[:, 3]):5.2f} "
                  f"{int((last[:, 4] > 0).sum()):3d}", flush=True)


if __name__ == "__main__":
    main()
