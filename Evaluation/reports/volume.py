"""Volumes evaluated voxel by voxel, and by equation (2) of Jackson et al. 2017, beside a constant baseline."""
from __future__ import annotations

import math
from typing import Callable, Iterable, NamedTuple

import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.geometry.sampling import sample
from Dataset.geometry.transforms import umeyama
from Dataset.representations.points import encode
from Dataset.representations.volume import LEVEL, decode, front
from Evaluation.metrics.landmarks import landmark_nme
from Evaluation.metrics.overlap import iou
from Evaluation.metrics.volume_nme import DEFINITION, OUTER_CORNERS, volume_nme
from Evaluation.reports.tables import BASELINE, Table, baseline_rows

SAMPLES = 60_000        # points of a predicted surface


class Targets(NamedTuple):
    """Of B images: volumes (B, S, S, D), 1 inside the face, else 0; the faces' vertices (B, N, 3) and landmarks
    (B, 68, 3) in voxel coordinates. As in the paper, a volume is evaluated aligned with its image, with perspective, so
    that no camera is estimated."""

    volumes: np.ndarray
    faces: np.ndarray
    landmarks: np.ndarray


class VolumeScores(NamedTuple):
    """The numbers of one image; NaN means "not measured": without a surface there is no nme and no front, and most
    networks predict no landmarks."""

    iou: float
    nme: float
    front: float
    landmarks: float = np.nan


Batch = tuple[np.ndarray, Targets]
DEFINITIONS = {
    "iou": "intersection over union of the voxels inside at 0.5; baseline: the mean volume of the evaluated images",
    "nme": f"equation (2), %, in the volume's own space, of {SAMPLES} points of its surface: {DEFINITION}; baseline: "
           "the mean face, aligned with the true one",
    "front": "mean distance along the view between the front surfaces, where both are, after a shift by the median; "
             "voxels, of the image's width; baseline: the mean volume",
    "landmarks": "68 landmarks of the heat maps in the image, hidden ones too: mean distance / sqrt(w h) of the true "
                 "ones' bounding box, in %; baseline: the mean position of each in the evaluated images"}


def volume_scores(values: np.ndarray, volume: np.ndarray, face: np.ndarray, landmarks: np.ndarray
                  ) -> VolumeScores:
    """One prediction (S, S, D) of sigmoid values against one image of `Targets`."""
    inside = np.asarray(values) > LEVEL
    overlap = iou(inside, np.asarray(volume) > LEVEL)
    if not inside.any() or inside.all():
        return VolumeScores(overlap, np.nan, np.nan)
    # uniform over the surface: its own vertices are a voxel apart, which would count as an error
    surface = sample(decode(values), SAMPLES, np.random.default_rng(0)).points
    nme = volume_nme(surface, face, landmarks[list(OUTER_CORNERS)])
    apart = front(values) - front(np.asarray(volume, np.float32))
    known = apart[np.isfinite(apart)]
    return VolumeScores(overlap, 100 * nme, float(np.abs(known - np.median(known)).mean()) if len(known) else np.nan)


def mean_targets(batches: Iterable[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the true volumes (S, S, D) float32 and of the true landmarks (68, 3) float64. ValueError for no
    images."""
    total, marks, count = np.zeros(()), np.zeros(()), 0
    for _, (volumes, _, landmarks) in batches:
        total, count = total + np.sum(volumes, axis=0, dtype=np.float32), count + len(volumes)
        marks = marks + np.sum(landmarks, axis=0)
    if not count:
        raise ValueError("a mean volume needs at least one image, got none")
    return np.asarray(total / count, np.float32), marks / count


def volume_table(batches: Callable[[], Iterable[Batch]], predict: Callable[[np.ndarray], np.ndarray], title: str,
                 marks: Callable[[np.ndarray], np.ndarray] | None = None) -> Table:
    """`baseline_rows` of `VolumeScores`. The constant baseline is the mean volume, or the aligned mean face.

    batches  called twice, with the same batches each time
    predict  images (B, S, S, 3) -> sigmoid values (B, S, S, D)
    marks    of a network that predicts landmarks: images -> (B, 68, 2) in normalised coordinates
    """
    model = load_face_model()
    mean_face = encode(model.mean, model=model).reshape(-1, 3)
    (mean_volume, mean_marks), ours, baseline = mean_targets(batches()), [], []
    for images, targets in batches():
        found = np.full((len(images), 68, 2), np.nan) if marks is None else images.shape[1] * marks(images)
        for values, mine, volume, face, landmarks in zip(predict(images), found, *targets):
            ours.append(volume_scores(values, volume, face, landmarks)._replace(
                landmarks=landmark_nme(mine, landmarks)))
            constant = volume_scores(mean_volume, volume, face, landmarks)
            aligned = umeyama(mean_face, face).apply(mean_face)     # the pose does not count
            floor = volume_nme(aligned, face, landmarks[list(OUTER_CORNERS)])
            off = math.nan if marks is None else landmark_nme(mean_marks, landmarks)
            baseline.append(constant._replace(nme=100 * floor, landmarks=off))
    rows = baseline_rows([scores._asdict() for scores in ours], [scores._asdict() for scores in baseline], DEFINITIONS)
    return Table(f"{title}: {len(ours)} images", BASELINE, rows,
                 ["nme and front: over the images in which the network sees a face"])
