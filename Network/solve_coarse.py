"""The last layer of a trained `coarse` by least squares: `Network.solve` for coefficients.

The layer is linear, and so is the way from how 256 places lie to a person's identity; descent finds it slowly. Each
training picture is looked at as an iteration does, from the mean face on; after every pass what goes into the layer is
an equation whose right side is the truth, so that the same layer serves the first pass and the last.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterator

import keras
import numpy as np
from keras import ops

from Dataset.face_model import load_face_model
from Dataset.representations.coefficients import encode, linear
from Dataset.shards import Shards
from Network import coarse
from Network.checkpoints import RunFolder, model_from_config
from Network.coarse_losses import coarse_loss
from Network.coarse_stream import iterated_of
from Network.compared import fitted
from Network.flags import from_dict
from Network.loading import Loaded
from Network.ridge import ridge_solution
from Network.streaming import compiled

RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)   # of the mean square of what is mapped
PASSES = 3
CHUNK = 8                                   # people at a time


class Seen:
    """What goes into the layer "coefficients", pictures by the chunk.

    of(pictures (B, S, S, 3)) -> features (PASSES, B, F + 1) float64, the last 1, and the poses (PASSES, B, 290) float32
    to which the layer adds: 0 where the network has none.
    """

    def __init__(self, loaded: Loaded) -> None:
        model, self._iterated = loaded.model, iterated_of(loaded)
        names = {layer.name for layer in model.layers}
        pose = model.get_layer("camera_pose").output if "camera_pose" in names else ops.zeros((1, coarse.COUNT))
        whole = keras.Model(model.input, [model.get_layer("coefficients").input, model.output]
                            + ([pose] if "camera_pose" in names else []))
        self._run = compiled(lambda images: whole(images, training=False))

    def of(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As the class says."""
        guesses = self._iterated.many(pictures, 0)[0]
        features, poses = [], []
        for _ in range(PASSES):
            seen, faces, *pose = (np.asarray(a) for a in self._run(
                ops.convert_to_tensor(self._iterated.inputs(pictures, guesses))))
            features.append(np.pad(seen.astype(np.float64), ((0, 0), (0, 1)), constant_values=1.0))
            poses.append(pose[0] if pose else np.zeros_like(faces))
            guesses = faces.copy()
            guesses[:, 200:284] = np.clip(guesses[:, 200:284], 0, 1)
        return np.stack(features), np.stack(poses)


def solve_coarse(loaded: Loaded, shards: Shards, out: Path, people: np.ndarray, held: np.ndarray,
                 progress: Callable[..., Any]) -> dict[str, Any]:
    """Solve the layer on the pictures of `people` (places in the shards), choose the ridge on `held`, write the run
    folder `out` -> what config.json says of it: the loss (`Network.coarse_losses`) of the held-out people before and
    after, by number of passes from the mean face."""
    model, spread, seen = load_face_model(), np.array(coarse.SPREAD), Seen(loaded)

    def batches(chosen: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for begin in progress(range(0, len(chosen), CHUNK), total=-(-len(chosen) // CHUNK)):
            who = chosen[begin:begin + CHUNK]
            each = np.repeat(who, shards.images)
            which = np.tile(np.arange(shards.images), len(who))
            pictures = np.stack([fitted(image / np.float32(255), loaded.image_size)
                                 for image in shards.gather("images", each, which)])
            truth = encode(shards.gather("identity", each), shards.gather("expression", each, which),
                           shards.gather("image_points", each, which), shards.size, model)
            yield *seen.of(pictures), truth
    inputs = outputs = 0.0
    for features, poses, truth in batches(people):
        for x, pose in zip(features, poses):
            inputs, outputs = inputs + x.T @ x, outputs + x.T @ ((truth - pose) / spread)
    validation = list(batches(held))
    config = from_dict(coarse.Config, loaded.config["model"])
    loss = coarse_loss(linear(model, "vertices").basis, config.geometry_norm, config.geometry, config.pose_weight)

    def losses(mapped: np.ndarray) -> np.ndarray:
        """(PASSES,) mean loss of the held-out people."""
        rows = [[sum(np.asarray(part).sum() for part in loss(truth, (pose + (x @ mapped) * spread).astype(np.float32)
                                                             ).values()) for x, pose in zip(features, poses)]
                for features, poses, truth in validation]
        return np.sum(rows, 0) / sum(len(truth) for *_, truth in validation)
    layer = loaded.model.get_layer("coefficients")
    before = losses(np.vstack(layer.get_weights()))
    tried = {ridge: ridge_solution(inputs, outputs, ridge) for ridge in RIDGES}
    best = min(RIDGES, key=lambda ridge: losses(tried[ridge]).mean())
    network = model_from_config(loaded.config, training=True)
    network.set_weights(loaded.model.get_weights())
    network.get_layer("coefficients").set_weights([tried[best][:-1], tried[best][-1]])
    about = {"people": len(people), "ridge": best, "loss_before": before.tolist(),
             "loss_after": losses(tried[best]).tolist()}
    folder = RunFolder(out)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.save_weights(network, "best_validation")
    folder.start({**{k: v for k, v in loaded.config.items() if k != "versions"}, "solved": about})
    return about
