"""A trained `compact` as a function that finds the keypoints of many images."""
from __future__ import annotations

from pathlib import Path
from typing import Callable

import numpy as np

from Network.training.loading import load_model

BATCH = 32


def keypoint_finder(folder: Path) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """images (M, S, S, 3) float32 in [0, 1] -> keypoints (M, 256, 2) in normalised coordinates, log_variance (M, 256),
    float32. folder: a weight folder, or a run folder for its best_validation. ValueError, naming the folder, when it
    holds no network that finds keypoints."""
    from keras import ops

    from Network.engine.graph import compiled
    model = load_model(folder).model
    if not isinstance(model.output, dict) or "log_variance" not in model.output:
        raise ValueError(f"{folder}: must hold a network that finds keypoints")
    run = compiled(lambda images: model(images, training=False))

    def find(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = [run(ops.convert_to_tensor(images[i:i + BATCH, None])) for i in range(0, len(images), BATCH)]
        keypoints, log_variance = (np.concatenate([np.asarray(part[name])[:, 0] for part in found])
                                   for name in ("keypoints", "log_variance"))
        return keypoints, log_variance
    return find
