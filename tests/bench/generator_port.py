"""The thesis's generator, step for step (Thomassen 2022, listing B-3), on Keras 3: the baseline of all data ratios.

Kept as slow, as unchecked and as wrong as printed: one image after the other through float32, the whole epoch drawn
anew by the global random state, and `index + batch` in place of `index*batch_size + batch`.
"""
from __future__ import annotations

from pathlib import Path

import cv2
import keras
import numpy as np
import open3d


def unit_sphere(points: np.ndarray) -> np.ndarray:
    points = points - np.mean(points, axis=0)
    return points / np.max(np.sqrt(np.sum(abs(points)**2, axis=1)))


def origin(points: np.ndarray) -> np.ndarray:
    return points - np.array([np.min(points[:, axis]) for axis in range(3)])


class GeneratorPort(keras.utils.Sequence):
    """X (B, T, 256, 256, 3) float32 and Y (B, N, 3) float64 of a folder of subject folders."""

    def __init__(self, folder: str, images: int = 5, batch_size: int = 1, norm: bool = True, points: int = 27508):
        super().__init__()
        self.images, self.batch_size, self.points = images, batch_size, points
        self.subjects = []
        for subject in sorted(Path(folder).iterdir()):       # os.listdir in the listing: sorted, to be repeatable
            files = [str(file) for file in sorted(subject.iterdir()) if file.name.endswith(".jpg")]
            truth, = (file for file in subject.iterdir() if file.name.endswith(".ply"))
            truth = np.array(open3d.io.read_point_cloud(str(truth)).points)
            self.subjects.append((files, unit_sphere(truth) if norm else origin(truth)))
        self.on_epoch_end()

    def __len__(self) -> int:
        return int(np.floor(len(self.order) / self.batch_size))

    def on_epoch_end(self) -> None:
        self.inputs, self.targets = [], []
        for files, truth in self.subjects:
            truth = np.expand_dims(truth, axis=0)
            for _ in range(5):
                np.random.shuffle(files)
                for start in range(0, len(files), self.images):
                    group = files[start:start + self.images]
                    if len(group) == self.images:
                        self.inputs.append(group)
                        self.targets.append(truth)
        self.order = list(range(len(self.inputs)))
        for _ in range(np.random.randint(3, 10)):
            np.random.shuffle(self.order)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        x = np.zeros((self.batch_size, self.images, 256, 256, 3), dtype=np.float32)
        y = np.zeros((self.batch_size, self.points, 3))
        for batch in range(self.batch_size):
            y[batch] = self.targets[self.order[index + batch]]
            for i, file in enumerate(self.inputs[self.order[index + batch]]):
                image = cv2.imread(file).astype(np.float32)
                cv2.normalize(image, x[batch, i], 0.0, 1.0, cv2.NORM_MINMAX)
        return x, y
