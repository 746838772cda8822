"""The rendering unit (PNCC and normals) beside Open3D's ray caster and OpenCV's painter, one core:

    OMP_NUM_THREADS=1 taskset -c 0 python -m tests.bench.rendering_unit [--rounds 15]

All draw the same face in turn in one run; medians of processor time and the ratio to the ray caster. The painter draws
six flat channels in two images, far to near.
"""
from __future__ import annotations

import argparse
import statistics
import time
from typing import Callable

import cv2
import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.geometry.camera import FLIP, Camera
from Dataset.geometry.normals import vertex_normals
from Dataset.rendering.raycast import Scene
from Dataset.representations import coefficients as c
from Dataset.representations.pncc import RenderingUnit
from tests.rays import interpolate

FAR = 1e5       # mm: weak perspective, nearly


def ways(unit: RenderingUnit, face: np.ndarray, size: int, subdivided: bool) -> dict[str, Callable[[], object]]:
    """Three ways to the same six channels."""
    triangles, pose = unit._triangles.T, c.decode_pose(face[c.POSE], size)
    camera = Camera(size, size, FAR * pose.scale, tuple(pose.translation), FLIP.copy(), np.array([0, 0, FAR]))

    def shape() -> np.ndarray:
        vertices = unit.linear(face).T.astype(float)
        return (unit.model.subdivide(vertices) if subdivided else vertices) @ pose.rotation.T

    def values(vertices: np.ndarray) -> np.ndarray:
        return np.concatenate([unit.code.T, 0.5 + 0.5 * vertex_normals(vertices, triangles)], 1).astype(np.float32)

    def caster() -> np.ndarray:
        vertices = shape()
        return np.nan_to_num(interpolate(Scene(vertices, triangles, 1).cast(camera), triangles, values(vertices)))

    def painter() -> np.ndarray:
        vertices = shape()
        corners = vertices[triangles]
        seen = np.flatnonzero(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 0)
        order = seen[np.argsort(corners[seen, :, 2].mean(1))]
        flat = corners[order, :, :2] * (pose.scale, -pose.scale) + pose.translation
        colours = (255 * values(vertices)[triangles[order]].mean(1)).tolist()
        out = np.zeros((2, size, size, 3), np.uint8)
        for points, colour in zip(np.rint(16 * (flat - 0.5)).astype(np.int32), colours):
            cv2.fillConvexPoly(out[0], points, colour[:3], shift=4)
            cv2.fillConvexPoly(out[1], points, colour[3:], shift=4)
        return out
    return {"z-buffer": lambda: unit(face, size), "ray caster": caster, "painter": painter}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    model, rng = load_face_model(), np.random.default_rng(0)
    face = c.mean_face(np.array([0.5, 0.15, 0.1, 0.0, 0.0, -0.1]))
    face[c.IDENTITY], face[c.EXPRESSION] = model.sample_identity(rng), model.sample_expression(rng)
    print("vertices  px  way         ms    of the ray caster's")
    for subdivided in (False, True):
        unit = RenderingUnit(model, subdivided)
        for size in (96, 128, 200):
            found = ways(unit, face, size, subdivided)
            times: dict[str, list[float]] = {name: [] for name in found}
            for number in range(rounds + 1):
                for name, draw in found.items():
                    begin = time.process_time()
                    draw()
                    if number:          # the first one warms up
                        times[name].append(1e3 * (time.process_time() - begin))
            caster = statistics.median(times["ray caster"])
            for name, taken in times.items():
                middle = statistics.median(taken)
                print(f"{unit.code.shape[1]:8d} {size:3d}  {name:10s} {middle:5.1f}  {middle / caster:.2f}")


if __name__ == "__main__":
    main()
