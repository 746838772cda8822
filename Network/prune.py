"""A wide network's residual blocks in a narrower one:  python -m Network.prune RUN WIDE SHARDS -o PRUNED

Channel pruning as in He, Zhang and Sun 2017 ("Channel pruning for accelerating very deep neural networks"): of the
features between a block's two convolutions those stay without which the block's output is lost most, and the second
convolution is solved anew by least squares for what the wide block gives. What goes is chosen one by one, each the one
that costs least, by the exact rise of the squared error (Hassibi and Stork 1993, "Optimal brain surgeon"). Blocks are
done in their order, each from what the pruned ones before it give, so that it mends some of what they lost.

RUN is a run folder of the narrow network, begun from anything; every layer that WIDE shares with it takes its weights
from there. PRUNED is a run folder for train.py --init, evaluate.py and Network.pack.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple

import keras
import numpy as np
from keras import ops

from Dataset.images import minmax
from Dataset.shards import Shards, open_shards
from Network.checkpoints import RunFolder, model_from_config
from Network.flags import exit_code
from Network.loading import begin_with, load_model
from Network.ridge import pulled, ridge_solution
from Network.streaming import compiled

RIDGE = 1e-3        # of a feature's mean square
CHUNK = 8           # people at a time


class Equations(NamedTuple):
    """Normal equations of a block's second convolution, 3x3, of C features in: inputs (9 C + 1, 9 C + 1), outputs
    (9 C + 1, F), float64; columns are tap by tap, the features of a tap together, and last the constant; squares: of
    what is wanted, about its mean."""

    inputs: np.ndarray
    outputs: np.ndarray
    squares: float


def taps(features: np.ndarray) -> np.ndarray:
    """(n, H, W, C) -> (n H W, 9 C + 1): what a 3x3 convolution with zero padding reads at each pixel, and 1."""
    n, height, width, _ = features.shape
    padded = np.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)))
    columns = [padded[:, i:i + height, j:j + width] for i in range(3) for j in range(3)]
    columns.append(np.ones((n, height, width, 1), features.dtype))
    return np.concatenate(columns, axis=-1).reshape(n * height * width, -1)


def equations(pairs: Iterator[tuple[np.ndarray, np.ndarray]]) -> Equations:
    """Of features between the convolutions (n, H, W, C) and what is wanted of the second (n, H, W, F). ValueError for
    none."""
    inputs = outputs = total = squares = 0.0
    count = 0
    for features, wanted in pairs:
        x, y = taps(features.astype(np.float64)), wanted.reshape(-1, wanted.shape[-1]).astype(np.float64)
        inputs, outputs, total = inputs + x.T @ x, outputs + x.T @ y, total + y.sum(axis=0)
        squares, count = squares + float(np.square(y).sum()), count + len(y)
    if not count:
        raise ValueError("no picture to prune by")
    return Equations(inputs, outputs, squares - float(np.square(total).sum()) / count)


def best_features(sums: Equations, keep: int) -> np.ndarray:
    """Which `keep` of the C features serve the second convolution best, (keep,) in their order, taken away one by one.

    With P the inverse of the normal equations' matrix and W the solution, taking away the columns g raises the squared
    error by tr(W_g^T P_gg^-1 W_g); P and W of the columns that are left follow by elimination.
    """
    size = len(sums.inputs) - 1
    count = size // 9
    if not 1 <= keep <= count:
        raise ValueError(f"between 1 and {count} features can be kept, got {keep}")
    inverse = np.linalg.inv(pulled(sums.inputs, RIDGE))
    solution = inverse @ sums.outputs
    left = np.arange(count)
    while len(left) > keep:
        columns = np.arange(9)[:, None] * len(left) + np.arange(len(left))          # (9, features left)
        groups = inverse[columns.T[:, :, None], columns.T[:, None, :]]              # (features, 9, 9)
        weights = solution[columns.T]                                               # (features, 9, F)
        rise = np.einsum("gif,gif->g", weights, np.linalg.solve(groups, weights))
        gone = int(np.argmin(rise))
        out = columns[:, gone]
        stay = np.setdiff1d(np.arange(len(inverse)), out)
        across = np.linalg.solve(groups[gone], inverse[np.ix_(out, stay)])          # (9, rest)
        solution = solution[stay] - across.T @ solution[out]
        inverse = inverse[np.ix_(stay, stay)] - inverse[np.ix_(stay, out)] @ across
        left = np.delete(left, gone)
    return left


def second_convolution(sums: Equations, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """-> kernel (3, 3, K, F) and bias (F,), float64, of those features alone, and the share of the squares of what is
    wanted that they leave."""
    count, features = (len(sums.inputs) - 1) // 9, sums.outputs.shape[1]
    columns = np.append((np.arange(9)[:, None] * count + kept).ravel(), 9 * count)
    inputs, outputs = sums.inputs[np.ix_(columns, columns)], sums.outputs[columns]
    solution = ridge_solution(inputs, outputs, RIDGE)
    # of the squares about 0; the constant brings them about the mean
    explained = float(np.sum(solution * (2 * outputs - inputs @ solution)))
    about_zero = float(np.square(outputs[-1]).sum()) / inputs[-1, -1]
    lost = (sums.squares + about_zero - explained) / sums.squares
    return solution[:-1].reshape(3, 3, len(kept), features), solution[-1], lost


def prune_block(narrow: keras.Model, wide: keras.Model, name: str, batches: Callable[[], Iterator[np.ndarray]]
                ) -> float:
    """Fill a block of the narrow network from the wide one's, on batches of pictures (n, S, S, 3) -> the share of what
    the wide block gives that is lost, in squares."""
    first = [f"{name}_1", f"{name}_1_norm", f"{name}_1_relu"]
    entry = narrow.get_layer(first[0]).input
    between = entry
    for layer in first:
        between = wide.get_layer(layer)(between)
    taken = compiled(keras.Model(narrow.input, [entry, between]))
    given = compiled(keras.Model(wide.input, wide.get_layer(f"{name}_add").output))
    sums = equations((np.asarray(features), _flat(given(_as(wide, pictures))) - np.asarray(x))
                     for pictures in batches() for x, features in [taken(ops.convert_to_tensor(pictures))])
    kept = best_features(sums, narrow.get_layer(first[0]).filters)
    kernel, bias, lost = second_convolution(sums, kept)
    convolution, norm = (wide.get_layer(layer).get_weights() for layer in first[:2])
    narrow.get_layer(first[0]).set_weights([convolution[0][..., kept]])
    narrow.get_layer(first[1]).set_weights([values[kept] for values in norm])
    _set_normalised(narrow, f"{name}_2", kernel, bias, sums, kept)
    return lost


def _set_normalised(model: keras.Model, name: str, kernel: np.ndarray, bias: np.ndarray, sums: Equations,
                    kept: np.ndarray) -> None:
    """Kernel and bias as a convolution without bias and its batch normalisation, whose statistics are those of the
    pictures: it does the same in training."""
    count = (len(sums.inputs) - 1) // 9
    columns = (np.arange(9)[:, None] * count + kept).ravel()
    flat, rows = kernel.reshape(len(columns), -1), sums.inputs[-1, -1]
    mean = sums.inputs[-1, columns] @ flat / rows
    square = np.einsum("if,ij,jf->f", flat, sums.inputs[np.ix_(columns, columns)], flat, optimize=True) / rows
    variance = np.maximum(square - mean ** 2, 1e-12)
    norm = model.get_layer(f"{name}_norm")
    model.get_layer(name).set_weights([kernel.astype(np.float32)])
    norm.set_weights([value.astype(np.float32) for value in
                      (np.sqrt(variance + norm.epsilon), mean + bias, mean, variance)])


def _as(model: keras.Model, pictures: np.ndarray) -> Any:
    """Pictures (n, S, S, 3) as a model takes them, with or without an axis of photos."""
    return ops.convert_to_tensor(pictures if len(model.input_shape) == 4 else pictures[:, None])


def _flat(values: Any) -> np.ndarray:
    return np.asarray(values).reshape(-1, *values.shape[-3:])


def narrower_blocks(narrow: keras.Model, wide: keras.Model) -> list[str]:
    """Blocks of both whose first convolution has fewer features in the narrow network, in their order."""
    ours, theirs = ({layer.name[:-2]: layer.filters for layer in model.layers
                     if layer.name.startswith("block_") and layer.name.endswith("_1")
                     and isinstance(layer, keras.layers.Conv2D) and layer.name.count("_") == 3}
                    for model in (narrow, wide))
    return [name for name, filters in ours.items() if name in theirs and filters < theirs[name]]


def prune_run(run: Path, wide: Path, shards: Shards, out: Path, people: int = 500,
              progress: Callable[..., Any] = lambda items, total: items) -> dict[str, float]:
    """Prune `wide` into the network of `run` and write the run folder `out` -> of each block the share that is lost.

    people  of the shards' training people, the first ones
    ValueError when no block is narrower, when the shards are not those of the run, or `out` holds a run.
    """
    loaded, source = load_model(run), load_model(wide)
    below = int(loaded.config.get("data", {}).get("validation_people", 0))
    if loaded.config.get("shards", {}).get("seed") != shards.settings.seed or shards.size != loaded.image_size:
        raise ValueError(f"{shards.path}: not the shards (seed, size) that {run} was trained on")
    if (out / "config.json").exists():
        raise ValueError(f"{out}: holds a run already")
    who = np.flatnonzero(shards.people >= below)[:people]
    narrow = model_from_config(loaded.config, training=True)
    narrow.load_weights(loaded.source)
    blocks = narrower_blocks(narrow, source.model)
    if not blocks:
        raise ValueError(f"{run}: has no block narrower than {wide}'s")
    begin_with(narrow, str(wide))

    def batches() -> Iterator[np.ndarray]:
        for begin in progress(range(0, len(who), CHUNK), total=-(-len(who) // CHUNK)):
            pictures = shards.gather("images", who[begin:begin + CHUNK])
            yield np.stack([minmax(image) for image in pictures.reshape(-1, *pictures.shape[2:])])
    lost = {name: prune_block(narrow, source.model, name, batches) for name in blocks}
    folder = RunFolder(out)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.save_weights(narrow, "best_validation")
    folder.start({**{k: v for k, v in loaded.config.items() if k != "versions"}, "pruned": lost})
    return lost


def main(argv: list[str] | None = None) -> int:
    from tqdm import tqdm

    parser = argparse.ArgumentParser(prog="python -m Network.prune", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("wide", metavar="WIDE", type=Path, help="a run or weight folder")
    parser.add_argument("shards", metavar="SHARDS", type=Path)
    parser.add_argument("-o", "--output", metavar="PRUNED", type=Path, required=True)
    parser.add_argument("--people", type=int, default=500, metavar="N", help="of the training people (500)")

    def work(arguments: argparse.Namespace) -> None:
        if arguments.people < 1:
            raise ValueError(f"--people must be at least 1, got {arguments.people}")
        lost = prune_run(arguments.run, arguments.wide, open_shards(arguments.shards, partial=True), arguments.output,
                         arguments.people, lambda items, total: tqdm(items, total=total, disable=None))
        for name, share in lost.items():
            print(f"{name}: {share:.4f} of what the wide block adds is lost, in squares")
    return exit_code("python -m Network.prune", work, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
