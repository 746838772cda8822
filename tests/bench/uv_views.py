"""How long the four views of a UV map take on one core, and how many times as fast they are as their slow twins.

    OMP_NUM_THREADS=1 python -m tests.bench.uv_views [--rounds 9] [--size 512] [--twin-size 64]

Times are for a photo of `size` px whose face fills most of it. The ratio is to the pixel loops of
tests/test_uv_views.py, which are the paper's way (Ronkainen 2017, 3.8), both in turn in one run at `twin-size` px.
"""
from __future__ import annotations

import argparse
import time
from typing import Callable

import cv2
import numpy as np

from Evaluation.metrics.locate import locate
from Evaluation.views.uv import grid_lines, grid_points, project_texture, unproject
from tests.test_uv_views import photo_like, slow_locate, slow_projection, slow_unproject, smooth_texture, sphere_map

DENSITY, TWIN_POINTS = 16, 9


def ours(size: int) -> dict[str, Callable[[], object]]:
    uv, texture = sphere_map(size)[0], smooth_texture(1024)
    photo = photo_like(uv)
    return {"texture": lambda: project_texture(photo, uv, texture), "inverse": lambda: unproject(photo, uv),
            "lines": lambda: grid_lines(photo, uv, DENSITY), "points": lambda: grid_points(photo, uv, DENSITY)}


def pairs(size: int) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """view -> (fast, slow twin), the same work."""
    uv, texture = sphere_map(size)[0], smooth_texture(1024)
    photo, points = photo_like(uv), np.random.default_rng(0).uniform(0.2, 0.8, (TWIN_POINTS, 2))

    def look_up(point: np.ndarray) -> np.ndarray:
        return texture[int((1 - point[1]) * 1023), int(point[0] * 1023)]

    def line(point: np.ndarray) -> np.ndarray | None:
        return np.full(3, 255) if (np.abs(DENSITY * point - np.rint(DENSITY * point)) < 0.06).any() else None
    fast = ours(size)
    return {"texture": (fast["texture"], lambda: slow_projection(photo, uv, look_up)),
            "inverse": (lambda: unproject(photo, uv, 64), lambda: slow_unproject(photo, uv, 64)),
            "lines": (fast["lines"], lambda: slow_projection(photo, uv, line)),
            f"points ({TWIN_POINTS})": (lambda: locate(uv, points), lambda: [slow_locate(uv, p) for p in points])}


def seconds(function: Callable[[], object]) -> float:
    """Processor time: other work on the machine does not count."""
    begin = time.process_time()
    function()
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--twin-size", type=int, default=64)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    views = ours(options.size)
    times = {name: [seconds(view) for _ in range(options.rounds)] for name, view in views.items()}
    for name, values in times.items():
        print(f"{name:12} {1e3 * np.median(values):6.1f} ms  (least {1e3 * min(values):.1f})")
    print(f"all four     {1e3 * sum(np.median(values) for values in times.values()):6.1f} ms of one core, "
          f"{options.size} px, medians of {options.rounds}")
    for name, (fast, slow) in pairs(options.twin_size).items():
        fast()
        ratios = [seconds(slow) / max(seconds(fast), 1e-6) for _ in range(3)]
        print(f"{name:12} {np.median(ratios):6.0f} times as fast as its slow twin ({options.twin_size} px; "
              f"{min(ratios):.0f} to {max(ratios):.0f})")


if __name__ == "__main__":
    main()
