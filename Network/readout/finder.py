"""A weight folder of `compact` as a function that finds keypoints in many pictures."""
from __future__ import annotations

from pathlib import Path
from typing import Callable

import numpy as np

from Network.readout.model import WEIGHTS
from Network.training.checkpoints import RunFolder, model_from_config

BATCH = 32


def keypoint_finder(folder: Path) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """pictures (M, S, S, 3) float32 in [0, 1] -> keypoints (M, 256, 2) crop sides, log_variance (M, 256), float32.
    ValueError, naming the folder, when it holds no packed weights of `compact`."""
    from keras import ops

    from Network.engine.graph import compiled
    from Network.training.loading import read_weights
    config = RunFolder(folder).config()
    model = model_from_config(config)
    if not (folder / WEIGHTS).is_file() or not isinstance(model.output, dict) or "log_variance" not in model.output:
        raise ValueError(f"{folder}: must hold packed weights of a network that finds keypoints "
                         "(python -m Network.export.pack)")
    read_weights(folder / WEIGHTS, model)
    run = compiled(lambda images: model(images, training=False))

    def find(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = [run(ops.convert_to_tensor(pictures[i:i + BATCH, None])) for i in range(0, len(pictures), BATCH)]
        keypoints, log_variance = (np.concatenate([np.asarray(part[name])[:, 0] for part in found])
                                   for name in ("keypoints", "log_variance"))
        return keypoints, log_variance
    return find
