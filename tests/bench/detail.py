"""What detail from shading gains, on rendered faces whose relief is known:

    python -m tests.bench.detail [--seeds 100 107] [--size 192] [--image detail.jpg]

Faces of tests/relief.py: real skin textures, lamps and skies, waves of 6 to 14 mm and 0.35 mm RMS. Mean angle to the
true normals before and after, in how many images it fell, and processor seconds of an image: from the true coarse
face, and from one whose identity is 0.5 standard deviations off (normal, each component). Then what is taken for relief
on the same faces without any, with the weight by tint and without. The settings were chosen on seeds 0 to 5.
"""
from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.fitting.shape_from_shading import Detail, DetailOptions, refine
from Dataset.io.images import write_image
from Dataset.representations.coefficients import IDENTITY
from Dataset.synthesis.scene import RenderContext
from Evaluation.views.detail import detail_image
from tests.relief import Relief, angle, relief

OFF = 0.5               # standard deviations of a wrong identity


def from_true(true: Relief, seed: int) -> Detail:
    return refine(true.image, true.face, true.mask)


def from_wrong(true: Relief, seed: int) -> Detail:
    face = true.face.copy()
    face[IDENTITY] += np.random.default_rng([seed, 1]).normal(0, OFF, face[IDENTITY].shape).astype(np.float32)
    return refine(true.image, face, true.mask)


def without_tint(true: Relief, seed: int) -> Detail:
    return refine(true.image, true.face, true.mask, DetailOptions(tint=1e6))


#: what it is called, who finds it, and the waves' height, mm RMS
WAYS: dict[str, tuple[Callable[[Relief, int], Detail], float]] = {
    "from the true coarse face": (from_true, 0.35),
    f"from one of which the identity is {OFF} off": (from_wrong, 0.35),
    "no relief there": (from_true, 0.0), "no relief there, tint not looked at": (without_tint, 0.0)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs=2, default=(100, 107), metavar=("FIRST", "LAST"))
    parser.add_argument("--size", type=int, default=192, help="pixels")
    parser.add_argument("--picture", metavar="FILE", help="draw the first face, before, after and true")
    arguments = parser.parse_args(argv)
    context, seeds = RenderContext(load_face_model(), threads=1), range(arguments.seeds[0], arguments.seeds[1] + 1)
    print(f"{len(seeds)} faces, {arguments.size} px | degrees before | after | of it | better on | processor s")
    for way, (find, height) in WAYS.items():
        angles, seconds = [], []
        for seed in seeds:
            true = relief(seed, arguments.size, height, context=context)
            begun = time.process_time()
            found = find(true, seed)
            seconds.append(time.process_time() - begun)
            angles.append([angle(normals, true.normals, found.mask) for normals in (found.coarse, found.normals)])
            if arguments.image and seed == seeds[0] and way == next(iter(WAYS)):
                write_image(arguments.image, detail_image(true.image, found, true.normals))
        before, after = np.array(angles).T
        fraction = f"{after.mean() / before.mean():.3f}" if before.mean() > 0.5 else "-"
        print(way, f"{before.mean():.2f}", f"{after.mean():.2f}", fraction, f"{(after < before).sum()} of {len(seeds)}",
              f"{np.median(seconds):.2f}", sep=" | ", flush=True)


if __name__ == "__main__":
    main()
