"""How near a joint fit comes to a subject's own face, and what it costs:

    python -m tests.bench.joint_fit [--subjects 16] [--photos 8] [--seed 31] [--points 5000]

Subjects over the full range of poses, expressions and distances (Dataset/synthesis/renders.py; nothing is drawn):
visible points of the grid in 128 px crops, with errors. Printed: squared error of the neutral face, ratio to the mean
face (after a similarity, over the grid), and its Chamfer distance likewise (Evaluation/metrics/surface.py), mean over
subjects; landmarks in the image; ms. Baselines in the same run: errors taken for independent ones, 68 landmarks with
the same errors, no depth term; for the time of one photo more, all photos again.
"""
from __future__ import annotations

import argparse
import time
from typing import Iterator

import numpy as np

from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.fitting.multi_view import FitOptions, joint_fit
from Dataset.geometry.camera import Camera
from Dataset.representations.correspondences import Correspondences, from_landmarks
from Dataset.representations.points import encode
from Dataset.synthesis.framing import predict_box
from Dataset.synthesis.renders import RenderOptions, sample_angles, visible
from Dataset.synthesis.scene import RenderContext, SceneSubject, sample_view, view_camera
from Dataset.synthesis.skin import sample_appearance
from Evaluation.metrics.surface import surface_scores
from tests.seen import Errors, disturbed, pixels_of, squared_error

CASES = {"white 1 px": Errors(white=1.0), "field 1 px": Errors(white=0.3, field=1.0),
         "field 1 px, 20 % outliers": Errors(white=0.3, field=1.0, outliers=0.2)}


def cameras(number: int, seed: int, photos: int,
            context: RenderContext) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of subject `number`: identity, then per photo pixels (16384, 2), visible (16384,), landmarks (68, 2)."""
    rng, model = np.random.default_rng([seed, number, 0]), context.model
    identity = model.sample_identity(rng)
    scene_subject, options = SceneSubject(context, identity, sample_appearance(rng)), RenderOptions()
    yield identity
    for photo in range(photos):
        rng = np.random.default_rng([seed, number, 1, photo])
        angles = sample_angles(rng, options)
        posed = scene_subject.set(sample_view(rng, model.sample_expression(rng), angles=angles))
        camera = crop(posed, options)
        grid = encode(posed.vertices[:len(model.mean)], model=model).reshape(-1, 3)
        yield pixels_of(camera, grid), visible(posed.scene, camera, grid), pixels_of(camera, posed.landmarks())


def crop(posed, options: RenderOptions) -> Camera:
    """The camera of the box that the detector would give."""
    x, y, side, _ = predict_box(posed)
    by = side * (options.margin - 1) / 2
    return view_camera(posed.view).crop((x - by, y - by, side + 2 * by, side + 2 * by), options.size)


def chamfer(model: FaceModel, identity: np.ndarray, truth: np.ndarray) -> float:
    """The neutral face's Chamfer distance, % of the diagonal."""
    faces = [encode(model.shape(x), model=model).reshape(-1, 3) for x in (identity, truth)]
    return surface_scores(*faces).chamfer


def sparse(landmarks: np.ndarray, rng: np.random.Generator, errors: Errors, model: FaceModel) -> Correspondences:
    """68 landmarks, each off by as much as a point of the dense ones; the field is white there."""
    sigma = np.hypot(errors.white, errors.field)
    pixels = landmarks + rng.normal(0, sigma, landmarks.shape)
    bad = rng.random(68) < errors.outliers
    pixels[bad] = rng.uniform(0, 128, (bad.sum(), 2))
    return from_landmarks(pixels, 128, model=model)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("subjects", 16), ("photos", 8), ("seed", 31), ("points", 5000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--chamfer", type=int, default=0, metavar="N", help="of the first N people (a second each)")
    arguments = parser.parse_args(argv)
    model = load_face_model()
    context, counts = RenderContext(model, 1), (1, arguments.photos)
    subjects = [tuple(cameras(n, arguments.seed, arguments.photos, context)) for n in range(arguments.subjects)]
    ways = {"fit": FitOptions(), "errors independent": FitOptions(correlation=0), "68 landmarks": FitOptions(),
            "no depth term": FitOptions(perspective=False)}
    for case, errors in CASES.items():
        for count in counts:
            squared = {way: [] for way in ways}
            near, ms, more, marks = [], [], [], []
            for number, (identity, *photos) in enumerate(subjects):
                rng = np.random.default_rng([arguments.seed, number, 2])
                dense = [disturbed(pixels, seen, rng, arguments.points, 128, errors)[0] for pixels, seen, _ in
                         photos[:count]]
                few = [sparse(landmarks, rng, errors, model) for _, _, landmarks in photos[:count]]
                for way, options in ways.items():
                    begin = time.process_time()
                    fit = joint_fit(few if "68" in way else dense, model, options)
                    if way == "fit":
                        ms.append(1e3 * (time.process_time() - begin))
                        marks.append(np.mean([np.linalg.norm(fit.landmarks(t, model) - photos[t][2], axis=1).mean()
                                              for t in range(count)]))
                        if number < arguments.chamfer:
                            near.append([chamfer(model, x, identity) for x in (fit.identity, np.zeros(1))])
                    squared[way].append(squared_error(model, fit.identity, identity))
                if count > 1:
                    before = joint_fit(dense[:-1], model)
                    begin = time.process_time()
                    joint_fit(dense, model, FitOptions(iterations=2), start=before)
                    more.append(1e3 * (time.process_time() - begin))
            surface = f"; Chamfer {np.sum(near, 0)[0] / np.sum(near, 0)[1]:.3f}" if near else ""
            print(f"{case}, {count} photos: squared error " + ", ".join(
                f"{way} {np.mean(values):.3f}" for way, values in squared.items())
                + f" of the mean face's{surface}; landmarks {np.mean(marks):.2f} px; {np.median(ms[1:] or ms):.0f} ms"
                + (f", one more photo {np.median(more):.0f} ms" if more else ""), flush=True)


if __name__ == "__main__":
    main()
