"""UV maps against the truth of rendered people, pixel by pixel: what `evaluate.py --maps` tells.

Ronkainen 2017, 3.5, judges by the sum of |du| + |dv| over the face; here it is divided by the face's pixels, so that
pictures can be compared, and beside it stands what a network would score that does not look: the mean of the true maps
of the very pictures it is judged on.
"""
from __future__ import annotations

from typing import Callable, Iterable, NamedTuple, Protocol

import numpy as np

from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.representations import points
from Dataset.representations.uvmap import SIZE, grid_uv
from Evaluation.metrics.locate import locate

THRESHOLD = 0.5
FREEDOM = 4.0           # of the Student's t whose squared scale a network calls its variance (Network/losses/points.py)
VARIANCE = FREEDOM / (FREEDOM - 2)      # of such a t of scale 1


class Batch(Protocol):
    """images (B, S, S, 3) float32; maps uv (B, S, S, 2), mask and visible_mask (B, S, S, 1); landmarks (B, 68, 2) in
    sides of the picture."""

    images: np.ndarray
    maps: dict[str, np.ndarray]
    landmarks: np.ndarray


class MapScores(NamedTuple):
    """One picture's numbers; NaN is "not measured". uv_l1: mean of |du| + |dv| over the true face's pixels, in sides of
    the atlas; uv_cells: mean distance there, in cells of the 128x128 grid; uv_median: its median; mask_iou,
    visible_iou: of the masks at 0.5, 1 where both are empty; variance: mean predicted variance, that of the Student's
    t that the network was trained with, over mean squared error of u and v in the face; surprise: mean of squared error
    over predicted variance (both 1 where it knows how wrong it is); landmarks: mean distance, per cent of the picture's
    side, of the landmarks that both maps show; found: share of the landmarks shown by the true map that the predicted
    one shows."""

    uv_l1: float
    uv_cells: float
    uv_median: float
    mask_iou: float
    visible_iou: float
    variance: float
    surprise: float
    landmarks: float
    found: float


def landmark_places(model: FaceModel | None = None) -> np.ndarray:
    """u, v (68, 2) float64 of the landmarks in the atlas; NaN for those that lie off it by more than 2 mm on the mean
    face (the upper ends of the jaw line)."""
    model = model or load_face_model()
    mean = np.asarray(model.mean, np.float64)
    nearest = points.grid_landmarks(points.encode(mean, model=model), model)
    uv = grid_uv(model.grid_landmarks)
    uv[np.linalg.norm(nearest - model.landmarks(mean), axis=-1) > 2.0] = np.nan
    return uv


def score_map(output: np.ndarray, uv: np.ndarray, mask: np.ndarray, visible_mask: np.ndarray, landmarks: np.ndarray,
              places: np.ndarray) -> MapScores:
    """One picture's answer (S, S, C), C from 4 (u, v, mask, visible mask) on, of which from 6 on the last two are the
    logarithm of the squared scale of u and v; its truth uv (S, S, 2), mask and visible_mask (S, S) bool, landmarks
    (68, 2) in sides; places: of `landmark_places`. ValueError for shapes that disagree."""
    size = np.shape(mask)
    if np.ndim(output) != 3 or output.shape[2] < 4 or not (output.shape[:2] == size == np.shape(visible_mask)) \
            or np.shape(uv) != (*size, 2):
        raise ValueError(f"maps must be (S, S, C), (S, S, 2) and twice (S, S), got {np.shape(output)}, {np.shape(uv)}, "
                         f"{size} and {np.shape(visible_mask)}")
    output, nan = np.asarray(output, np.float64), float("nan")
    found = output[..., 2] > THRESHOLD
    ious = [_iou(mask, found), _iou(visible_mask, found & (output[..., 3] > THRESHOLD))]
    if not mask.any():
        return MapScores(nan, nan, nan, *ious, nan, nan, nan, nan)
    error = output[mask][:, :2] - uv[mask]
    cells = SIZE * np.hypot(*error.T)
    calibration = [nan, nan]
    if output.shape[2] >= 6:
        predicted, squared = VARIANCE * np.exp(output[mask][:, -2:]), error ** 2
        calibration = [predicted.mean() / max(squared.mean(), 1e-12), (squared / predicted).mean()]
    return MapScores(np.abs(error).sum(-1).mean(), cells.mean(), np.median(cells), *ious, *calibration,
                     *_landmarks(output, found, uv, mask, landmarks, places))


def score_maps(batches: Iterable[Batch], answers: Callable[[np.ndarray], np.ndarray]) -> list[MapScores]:
    """Every picture's numbers, in order; answers: images (B, S, S, 3) float32 -> (B, S, S, C)."""
    places, rows = landmark_places(), []
    for batch in batches:
        outputs = answers(batch.images)
        maps = (batch.maps[name] for name in ("uv", "mask", "visible_mask"))
        for output, uv, mask, visible_mask, marks in zip(outputs, *maps, batch.landmarks):
            masks = mask[..., 0] > THRESHOLD, visible_mask[..., 0] > THRESHOLD
            rows.append(score_map(output, uv, *masks, marks, places))
    return rows


def mean_map(batches: Iterable[Batch]) -> np.ndarray:
    """What a network that does not look could say (S, S, 4) float32: of each pixel the mean of u and v where the true
    maps have a face, and how often they have one, and one that nothing hides. ValueError for no pictures."""
    total: np.ndarray | None = None
    count = 0
    for batch in batches:
        uv, mask, visible_mask = (np.asarray(batch.maps[k], np.float64) for k in ("uv", "mask", "visible_mask"))
        part = np.concatenate([uv * mask, mask, visible_mask], -1).sum(0)
        total, count = part if total is None else total + part, count + len(mask)
    if total is None:
        raise ValueError("no pictures to take a mean map of")
    shown = total[..., 2:3]
    middle = total[..., :2].sum((0, 1)) / max(shown.sum(), 1e-12)
    uv = np.where(shown > 0, total[..., :2] / np.maximum(shown, 1e-12), middle)
    return np.concatenate([uv, total[..., 2:] / count], -1).astype(np.float32)


def _landmarks(output: np.ndarray, found: np.ndarray, uv: np.ndarray, mask: np.ndarray, landmarks: np.ndarray,
               places: np.ndarray) -> tuple[float, float]:
    """Mean distance in per cent of the picture's side, and the share found."""
    known = np.isfinite(places).all(-1)
    ours, true = (locate(np.where(where[..., None], values, np.nan).astype(np.float32), places[known])
                  for values, where in ((output[..., :2], found), (uv, mask)))
    shown = np.isfinite(true).all(-1)
    both = shown & np.isfinite(ours).all(-1)
    if not shown.any():
        return float("nan"), float("nan")
    away = np.linalg.norm(ours[both] / len(mask) - landmarks[known][both], axis=-1)
    return float(100 * away.mean()) if both.any() else float("nan"), float(both.sum() / shown.sum())


def _iou(true: np.ndarray, found: np.ndarray) -> float:
    either = np.count_nonzero(true | found)
    return np.count_nonzero(true & found) / either if either else 1.0
