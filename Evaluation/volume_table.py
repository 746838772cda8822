"""Volumes judged: voxel by voxel, and by equation (2) of Jackson et al. 2017, beside who does not look."""
from __future__ import annotations

from typing import Callable, Iterable, NamedTuple

import numpy as np

from Dataset.representations.volume import LEVEL, decode, front
from Dataset.sampling import sample
from Dataset.transforms import umeyama
from Evaluation.tables import Cell, Table
from Evaluation.volume_nme import DEFINITION, OUTER_CORNERS, volume_nme

SAMPLES = 60_000        # points of a predicted surface


class Truths(NamedTuple):
    """Of B pictures: volumes (B, S, S, D), 1 inside the face, else 0; the faces' vertices (B, N, 3) and landmarks
    (B, 68, 3) in voxel coordinates: as the paper, we judge the volume as it stands over the picture, its perspective
    left in it, so that no camera need be guessed."""

    volumes: np.ndarray
    faces: np.ndarray
    landmarks: np.ndarray


class VolumeScores(NamedTuple):
    """One picture's numbers; NaN is "not measured": without a surface there is no nme and no front."""

    iou: float
    nme: float
    front: float


Batch = tuple[np.ndarray, Truths]
DEFINITIONS = {
    "iou": "intersection over union of the voxels inside at 0.5; 'does not look': the mean volume of these very "
           "pictures",
    "nme": f"equation (2), %, in the volume's own space, of {SAMPLES} points of its surface: {DEFINITION}; 'does not "
           "look': the mean face, laid on the true one",
    "front": "mean distance along the view between the front surfaces, where both are, after a shift by the median; "
             "voxels, of the picture's width; 'does not look': the mean volume"}


def volume_scores(values: np.ndarray, volume: np.ndarray, face: np.ndarray, landmarks: np.ndarray
                  ) -> VolumeScores:
    """One prediction (S, S, D) of sigmoid values against a picture's `Truths`."""
    inside, true = np.asarray(values) > LEVEL, np.asarray(volume) > LEVEL
    either = np.count_nonzero(inside | true)
    iou = np.count_nonzero(inside & true) / either if either else 1.0
    if not inside.any() or inside.all():
        return VolumeScores(iou, np.nan, np.nan)
    # even over the surface: its own vertices are a voxel apart, which would be taken for an error
    surface = sample(decode(values), SAMPLES, np.random.default_rng(0)).points
    nme = volume_nme(surface, face, landmarks[list(OUTER_CORNERS)])
    apart = front(values) - front(np.asarray(volume, np.float32))
    known = apart[np.isfinite(apart)]
    return VolumeScores(iou, 100 * nme, float(np.abs(known - np.median(known)).mean()) if len(known) else np.nan)


def mean_volume(batches: Iterable[Batch]) -> np.ndarray:
    """(S, S, D) float32, the mean of the true volumes. ValueError for no pictures."""
    total, count = np.zeros(()), 0
    for _, (volumes, _, _) in batches:
        total, count = total + np.sum(volumes, axis=0, dtype=np.float32), count + len(volumes)
    if not count:
        raise ValueError("no pictures to take a mean volume of")
    return np.asarray(total / count, np.float32)


def volume_table(batches: Callable[[], Iterable[Batch]], answers: Callable[[np.ndarray], np.ndarray],
                 mean_face: np.ndarray, title: str) -> Table:
    """A row for each of `VolumeScores`: the mean over the pictures that have it, that of who does not look, and over
    how many pictures.

    batches: called twice, the same both times; answers: images (B, S, S, 3) -> sigmoid values (B, S, S, D);
    mean_face (N, 3), whose vertices are those of the faces, any unit; it is laid on each.
    """
    same, ours, theirs = mean_volume(batches()), [], []
    for images, truths in batches():
        for values, volume, face, landmarks in zip(answers(images), *truths):
            ours.append(volume_scores(values, volume, face, landmarks))
            constant = volume_scores(same, volume, face, landmarks)
            placed = umeyama(mean_face, face).apply(mean_face)      # the pose is no part of what is judged
            floor = volume_nme(placed, face, landmarks[list(OUTER_CORNERS)])
            theirs.append(constant._replace(nme=100 * floor))
    rows: list[list[Cell]] = []
    for name, definition in DEFINITIONS.items():
        mine, other = (np.array([getattr(scores, name) for scores in table]) for table in (ours, theirs))
        known = np.isfinite(mine)
        rows.append([name, *(float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else float("nan")
                             for values in (mine, other)), int(known.sum()), definition])
    return Table(f"{title}: {len(ours)} pictures", ["metric", "model", "does not look", "pictures", "definition"], rows,
                 ["nme and front of the pictures in which the network sees a face"])
