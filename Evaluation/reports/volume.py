"""Volumes judged: voxel by voxel, and by equation (2) of Jackson et al. 2017, beside who does not look."""
from __future__ import annotations

from typing import Callable, Iterable, NamedTuple

import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.geometry.sampling import sample
from Dataset.geometry.transforms import umeyama
from Dataset.representations.points import encode
from Dataset.representations.volume import LEVEL, decode, front
from Evaluation.metrics.volume_nme import DEFINITION, OUTER_CORNERS, volume_nme
from Evaluation.reports.tables import Cell, Table

SAMPLES = 60_000        # points of a predicted surface


class Targets(NamedTuple):
    """Of B pictures: volumes (B, S, S, D), 1 inside the face, else 0; the faces' vertices (B, N, 3) and landmarks
    (B, 68, 3) in voxel coordinates: as the paper, we judge the volume as it stands over the picture, its perspective
    left in it, so that no camera need be guessed."""

    volumes: np.ndarray
    faces: np.ndarray
    landmarks: np.ndarray


class VolumeScores(NamedTuple):
    """One picture's numbers; NaN is "not measured": without a surface there is no nme and no front, and few networks
    say landmarks."""

    iou: float
    nme: float
    front: float
    landmarks: float = np.nan


Batch = tuple[np.ndarray, Targets]
DEFINITIONS = {
    "iou": "intersection over union of the voxels inside at 0.5; 'does not look': the mean volume of these very "
           "pictures",
    "nme": f"equation (2), %, in the volume's own space, of {SAMPLES} points of its surface: {DEFINITION}; 'does not "
           "look': the mean face, laid on the true one",
    "front": "mean distance along the view between the front surfaces, where both are, after a shift by the median; "
             "voxels, of the picture's width; 'does not look': the mean volume",
    "landmarks": "68 landmarks of the heat maps in the picture, hidden ones too: mean distance / sqrt(w h) of the true "
                 "ones' bounding box, in %; 'does not look': each one's mean place in these very pictures"}


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


def landmarks_off(found: np.ndarray, truth: np.ndarray) -> float:
    """Landmarks (68, 2) against the true ones (68, 2 or 3), same unit: in % of sqrt(w h) of the true ones' box; NaN
    where any is not finite."""
    side = np.sqrt(np.ptp(truth[:, :2], axis=0).prod())
    return float(100 * np.linalg.norm(np.asarray(found, np.float64) - truth[:, :2], axis=1).mean() / side)


def mean_targets(batches: Iterable[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the true volumes (S, S, D) float32 and of the true landmarks (68, 3) float64. ValueError for no
    pictures."""
    total, places, count = np.zeros(()), np.zeros(()), 0
    for _, (volumes, _, landmarks) in batches:
        total, count = total + np.sum(volumes, axis=0, dtype=np.float32), count + len(volumes)
        places = places + np.sum(landmarks, axis=0)
    if not count:
        raise ValueError("no pictures to take a mean volume of")
    return np.asarray(total / count, np.float32), places / count


def volume_table(batches: Callable[[], Iterable[Batch]], answers: Callable[[np.ndarray], np.ndarray], title: str,
                 marks: Callable[[np.ndarray], np.ndarray] | None = None) -> Table:
    """A row for each of `VolumeScores`: the mean over the pictures that have it, that of who does not look, and over
    how many pictures. Who does not look says the pictures' mean volume, or the mean face, laid on each.

    batches: called twice, the same both times; answers: images (B, S, S, 3) -> sigmoid values (B, S, S, D); marks: of a
    network that says landmarks, images -> (B, 68, 2) in the picture's sides.
    """
    model = load_face_model()
    mean_face = encode(model.mean, model=model).reshape(-1, 3)
    (same, places), ours, theirs = mean_targets(batches()), [], []
    for images, targets in batches():
        found = np.full((len(images), 68, 2), np.nan) if marks is None else images.shape[1] * marks(images)
        for values, mine, volume, face, landmarks in zip(answers(images), found, *targets):
            ours.append(volume_scores(values, volume, face, landmarks)._replace(
                landmarks=landmarks_off(mine, landmarks)))
            constant = volume_scores(same, volume, face, landmarks)
            placed = umeyama(mean_face, face).apply(mean_face)      # the pose is no part of what is judged
            floor = volume_nme(placed, face, landmarks[list(OUTER_CORNERS)])
            theirs.append(constant._replace(nme=100 * floor, landmarks=landmarks_off(places[:, :2], landmarks)))
    rows: list[list[Cell]] = []
    for name, definition in DEFINITIONS.items():
        if name == "landmarks" and marks is None:
            continue
        mine, other = (np.array([getattr(scores, name) for scores in table]) for table in (ours, theirs))
        known = np.isfinite(mine)
        rows.append([name, *(float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else float("nan")
                             for values in (mine, other)), int(known.sum()), definition])
    return Table(f"{title}: {len(ours)} pictures", ["metric", "model", "does not look", "pictures", "definition"], rows,
                 ["nme and front of the pictures in which the network sees a face"])
