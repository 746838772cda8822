"""A trained network's linear layers by least squares, `compact`'s last ones foremost:
python -m Network.solve RUN SHARDS -o SOLVED

A face is a linear map of two things, the head's hidden units and the triangulated offsets. Descent finds that map
slowly, since the offsets of 256 places all but repeat each other; ridge regression over the same people finds it at
once (docs/results.md: the error it takes away). The basis becomes the principal directions of the training people's
ground truths. People of the lowest numbers stay held out as in training; they choose the ridge. SOLVED is a run folder
for evaluate.py, demo.py and Network.pack. `pix2pix` with places: Network/solve_dense.py.
"""
from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple

import keras
import numpy as np
from keras import ops

from Dataset.face_model import load_face_model
from Dataset.images import minmax
from Dataset.shards import Shards, open_shards
from Dataset.truths import Truths
from Network import compact
from Network.checkpoints import CHECKPOINTS, RunFolder, model_from_config
from Network.flags import exit_code, from_dict
from Network.grid import interpolation
from Network.loading import Loaded, load_model
from Network.ridge import ridge_solution
from Network.solve_dense import solve_dense
from Network.streaming import compiled

RIDGES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)     # of the mean square of what is mapped
CHUNK = 8                                   # people at a time
log = logging.getLogger(__name__)


class Sums(NamedTuple):
    """Normal equations of a linear map from features (F,) to offsets on the control grid (C,)."""

    inputs: np.ndarray      # (F, F)
    outputs: np.ndarray     # (F, C)
    count: int


def features_of(loaded: Loaded) -> Callable[[np.ndarray], np.ndarray]:
    """pictures (B, T, S, S, 3) float32 -> (B, T, F) float32: after each picture what the last linear layers get, the
    head's hidden units, the offsets of the places (with `triangulate`), and 1."""
    config = dataclasses.replace(from_dict(compact.Config, loaded.config["model"]), images=1)
    model = compact.build_step(config)
    model.set_weights(loaded.model.get_weights())
    parts = [model.get_layer(name).output for name in ("head_2", "offsets")[:1 + config.triangulate]]
    step = keras.Model(model.input, {"features": ops.concatenate([ops.cast(p, "float32") for p in parts], axis=-1),
                                     "states": model.output["states"]})
    run = compiled(lambda images, states: step({"images": images, "states": states}, training=False))

    def features(pictures: np.ndarray) -> np.ndarray:
        states, found = compact.initial_states(config, len(pictures)), []
        for t in range(pictures.shape[1]):
            output = run(ops.convert_to_tensor(pictures[:, t:t + 1]), states)
            states = output["states"]
            found.append(np.asarray(output["features"]))
        return np.pad(np.stack(found, axis=1), ((0, 0), (0, 0), (0, 1)), constant_values=1.0)
    return features


def control_offsets(truths: np.ndarray, template: np.ndarray, control: int) -> np.ndarray:
    """Ground truths (P, N, 3) -> offsets from the template on the control grid (P, control^2 * 3) float32, whose
    bilinear refinement is nearest to them."""
    side = round(truths.shape[1] ** 0.5)
    back = np.linalg.pinv(interpolation(control, side))                                     # (control, side)
    grid = (truths - template).reshape(-1, side, side, 3)
    return np.einsum("ir,prsc,js->pijc", back, grid, back, optimize=True).reshape(len(truths), -1).astype(np.float32)


def normal_equations(batches: Iterator[tuple[np.ndarray, np.ndarray]]) -> Sums:
    """Sum over batches of features (B, T, F) and offsets (B, C): every T counts alike."""
    inputs = outputs = 0.0
    count = 0
    for x, y in batches:
        x = x.astype(np.float64)
        inputs = inputs + np.einsum("btf,btg->fg", x, x, optimize=True)
        outputs = outputs + x.sum(axis=1).T @ y.astype(np.float64)
        count += x.shape[0] * x.shape[1]
    return Sums(inputs, outputs, count)


def ridge_map(sums: Sums, ridge: float) -> np.ndarray:
    """(F, C) float64: the least squares map; every feature but the last, the constant, is pulled to zero in
    proportion to its own mean square. ValueError when there is nothing to solve."""
    if not sums.count:
        raise ValueError("nobody to solve for")
    return ridge_solution(sums.inputs, sums.outputs, ridge)


def solve(model: keras.Model, mapped: np.ndarray, basis: np.ndarray) -> None:
    """Write a map (F, C) and an orthonormal basis (R, C) of what it gives into a compact network's last layers; R may
    be less than the network's rank."""
    layer, code = model.get_layer("points"), model.get_layer("code")
    hidden, rank = code.kernel.shape
    codes = np.zeros((len(mapped), rank), np.float32)
    codes[:, :len(basis)] = mapped @ basis.T
    directions = np.zeros(layer.basis.shape, np.float32)
    directions[:len(basis)] = basis
    layer.basis.assign(directions)
    code.set_weights([codes[:hidden], codes[-1]])
    if len(codes) > hidden + 1:
        model.get_layer("linear_code").set_weights([codes[hidden:-1]])


def solve_run(run: Path, shards: Shards, which: str, out: Path, seed: int = 0, people: int = 0,
              progress: Callable[..., Any] = lambda chunks, total: chunks) -> dict[str, Any]:
    """Solve a run's checkpoint on shards and write the run folder `out` -> what config.json says of it.

    people  how many training people, a seeded draw; 0: all of them

    ValueError when the run has no layer to solve, was trained on other shards, or `out` holds a run.
    """
    loaded, folder = load_model(run, which), RunFolder(out)
    name = loaded.config.get("network")
    if name != "compact" and not any(layer.name == "shape_code" for layer in loaded.model.layers):
        raise ValueError(f"{run}: only compact, and pix2pix with places, have linear layers that can be solved")
    held_out = int(loaded.config.get("data", {}).get("validation_people", 0))
    small = shards.size != loaded.image_size if name == "compact" else shards.size < loaded.image_size
    if loaded.config.get("shards", {}).get("seed") != shards.settings.seed or small:
        raise ValueError(f"{shards.path}: not the shards (seed, size) that {run} was trained on")
    if (out / "config.json").exists():
        raise ValueError(f"{out}: holds a run already")
    if name != "compact":
        held, others = (np.flatnonzero(side) for side in (shards.people < held_out, shards.people >= held_out))
        if not len(held) or not len(others):
            raise ValueError(f"{shards.path}: people on both sides of number {held_out} are needed")
        others = np.sort(np.random.default_rng(seed).permutation(others)[:people or None])
        return solve_dense(loaded, shards, out, others, held, progress)
    points = loaded.model.get_layer("points")
    template, control = np.asarray(points.template), points.control
    truths = Truths(load_face_model(), loaded.points, template)
    features = features_of(loaded)

    def batches(people: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(seed)
        for begin in progress(range(0, len(people), CHUNK), total=-(-len(people) // CHUNK)):
            chosen = people[begin:begin + CHUNK]
            order = np.stack([rng.permutation(shards.images) for _ in chosen])
            pictures = np.stack([[minmax(image) for image in row] for row in shards.gather("images", chosen, order)])
            yield features(pictures), control_offsets(truths(shards.gather("identity", chosen)), template, control)
    held = shards.people < held_out
    if held.all() or not held.any():
        raise ValueError(f"{shards.path}: people on both sides of number {held_out} are needed")
    everybody = np.random.default_rng(seed).permutation(np.flatnonzero(~held))
    chosen = np.sort(everybody[:people or None])
    sums = normal_equations(batches(chosen))
    validation = list(batches(np.flatnonzero(held)))
    some = everybody[:2000]
    basis = np.linalg.svd(control_offsets(truths(shards.gather("identity", some)), template, control),
                          full_matrices=False)[2][:points.basis.shape[0]]

    def errors(mapped: np.ndarray) -> np.ndarray:
        """(T,) squared error after each number of pictures, of the mean face's."""
        off = sum(np.square(x @ mapped - y[:, None]).sum(axis=(0, 2)) for x, y in validation)
        return off / sum(np.square(y).sum() for _, y in validation)
    sums = sums._replace(outputs=sums.outputs @ basis.T)       # columns of the map do not mix: solved in the basis
    tried = {ridge: ridge_map(sums, ridge) @ basis for ridge in RIDGES}
    best = min(RIDGES, key=lambda ridge: errors(tried[ridge]).mean())
    code, linear = loaded.model.get_layer("code"), ()
    if any(layer.name == "linear_code" for layer in loaded.model.layers):
        linear = loaded.model.get_layer("linear_code").get_weights()
    kernel, bias = code.get_weights()
    before = errors(np.vstack([kernel, *linear, bias]) @ np.asarray(points.basis))
    model = model_from_config(loaded.config, training=True)
    model.set_weights(loaded.model.get_weights())
    solve(model, tried[best], basis)
    about = {"people": len(chosen), "ridge": best, "seed": seed, "of_mean_face_before": before.tolist(),
             "of_mean_face_after": errors(tried[best]).tolist()}
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.save_weights(model, "best_validation")
    folder.start({**{k: v for k, v in loaded.config.items() if k != "versions"}, "solved": about})
    return about


def main(argv: list[str] | None = None) -> int:
    from tqdm import tqdm

    parser = argparse.ArgumentParser(prog="python -m Network.solve", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("shards", metavar="SHARDS", type=Path)
    parser.add_argument("-o", "--output", metavar="SOLVED", type=Path, required=True)
    parser.add_argument("--checkpoint", choices=CHECKPOINTS, default="best_validation")
    parser.add_argument("--seed", type=int, default=0, help="of the order of each person's pictures")
    parser.add_argument("--people", type=int, default=0, metavar="N", help="of the training people; default all")

    def work(arguments: argparse.Namespace) -> None:
        if arguments.people < 0:
            raise ValueError(f"--people must be at least 1, or 0 for all, got {arguments.people}")
        about = solve_run(arguments.run, open_shards(arguments.shards, partial=True), arguments.checkpoint,
                          arguments.output, arguments.seed, arguments.people,
                          lambda chunks, total: tqdm(chunks, total=total, disable=None))
        if "loss_after" in about:
            print(f"ridge {about['ridge']:g}; loss of the validation people after each pass:")
            for name in ("before", "after"):
                print(f"{name:7}" + " ".join(f"{value:.4f}" for value in about[f"loss_{name}"]))
            return
        what = "by number of pictures" if len(about["of_mean_face_after"]) > 1 else "as they lie in their pictures"
        print(f"ridge {about['ridge']:g}; squared error of the mean face's, validation people, {what}:")
        for name in ("before", "after"):
            print(f"{name:7}" + " ".join(f"{value:.3f}" for value in about[f"of_mean_face_{name}"]))
    return exit_code("python -m Network.solve", work, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
