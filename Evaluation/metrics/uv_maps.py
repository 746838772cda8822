"""UV maps against those of rendered subjects, pixel by pixel: the numbers of `evaluate.py --maps`.

Ronkainen 2017, 3.5, sums |du| + |dv| over the face. Here the sum is divided by the number of the face's pixels, so that
images compare. The constant baseline is the mean of the true maps of the evaluated images.
"""
from __future__ import annotations

from typing import Callable, Iterable, NamedTuple, Protocol

import numpy as np

from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.representations import points
from Dataset.representations.uvmap import SIZE, grid_uv
from Evaluation.metrics.locate import locate
from Evaluation.metrics.overlap import iou

THRESHOLD = 0.5
FREEDOM = 4.0           # degrees of the Student's t whose squared scale is predicted (Network/losses)
VARIANCE = FREEDOM / (FREEDOM - 2)      # of such a t of scale 1


class Batch(Protocol):
    """images (B, S, S, 3) float32; maps uv (B, S, S, 2), mask and visible_mask (B, S, S, 1); landmarks (B, 68, 2) in
    normalised coordinates."""

    images: np.ndarray
    maps: dict[str, np.ndarray]
    landmarks: np.ndarray


class MapScores(NamedTuple):
    """The numbers of one image; NaN means "not measured".

    uv_l1      mean of |du| + |dv| over the true face's pixels, u and v in [0, 1]
    uv_cells   mean distance there, in cells of the 128x128 grid; uv_median: its median
    mask_iou, visible_iou  of the masks at 0.5; 1 where both are empty
    variance   mean predicted variance (that of the Student's t of the loss) / mean squared error of u and v in the face
    surprise   mean of squared error / predicted variance; this and `variance` are 1 for calibrated predictions
    landmarks  mean distance, % of the image's side, of the landmarks that both maps show
    found      fraction of the landmarks shown by the true map that the predicted one shows, too
    """

    uv_l1: float
    uv_cells: float
    uv_median: float
    mask_iou: float
    visible_iou: float
    variance: float
    surprise: float
    landmarks: float
    found: float


def landmark_uv(model: FaceModel | None = None) -> np.ndarray:
    """u, v (68, 2) float64 of the landmarks; NaN for those more than 2 mm off the grid on the mean face (the upper ends
    of the jaw line)."""
    model = model or load_face_model()
    mean = np.asarray(model.mean, np.float64)
    nearest = points.grid_landmarks(points.encode(mean, model=model), model)
    uv = grid_uv(model.grid_landmarks)
    uv[np.linalg.norm(nearest - model.landmarks(mean), axis=-1) > 2.0] = np.nan
    return uv


def score_map(output: np.ndarray, uv: np.ndarray, mask: np.ndarray, visible_mask: np.ndarray, landmarks: np.ndarray,
              marks_uv: np.ndarray) -> MapScores:
    """Score the output for one image.

    output      (S, S, C): u, v, mask, visible mask, and from C = 6 on in the last two channels the logarithm of the
                squared scale of u and v
    uv          (S, S, 2), mask and visible_mask (S, S) bool, landmarks (68, 2) in normalised coordinates: the truth
    marks_uv    of `landmark_uv`
    ValueError for shapes that disagree.
    """
    size = np.shape(mask)
    if np.ndim(output) != 3 or output.shape[2] < 4 or not (output.shape[:2] == size == np.shape(visible_mask)) \
            or np.shape(uv) != (*size, 2):
        raise ValueError(f"maps must be (S, S, C), (S, S, 2) and twice (S, S), got {np.shape(output)}, {np.shape(uv)}, "
                         f"{size} and {np.shape(visible_mask)}")
    output, nan = np.asarray(output, np.float64), float("nan")
    found = output[..., 2] > THRESHOLD
    ious = [iou(mask, found), iou(visible_mask, found & (output[..., 3] > THRESHOLD))]
    if not mask.any():
        return MapScores(nan, nan, nan, *ious, nan, nan, nan, nan)
    error = output[mask][:, :2] - uv[mask]
    cells = SIZE * np.hypot(*error.T)
    calibration = [nan, nan]
    if output.shape[2] >= 6:
        predicted, squared = VARIANCE * np.exp(output[mask][:, -2:]), error ** 2
        calibration = [predicted.mean() / max(squared.mean(), 1e-12), (squared / predicted).mean()]
    return MapScores(np.abs(error).sum(-1).mean(), cells.mean(), np.median(cells), *ious, *calibration,
                     *_landmarks(output, found, uv, mask, landmarks, marks_uv))


def score_maps(batches: Iterable[Batch], predict: Callable[[np.ndarray], np.ndarray]) -> list[MapScores]:
    """The numbers of every image, in order. predict: images (B, S, S, 3) float32 -> (B, S, S, C)."""
    marks_uv, rows = landmark_uv(), []
    for batch in batches:
        outputs = predict(batch.images)
        maps = (batch.maps[name] for name in ("uv", "mask", "visible_mask"))
        for output, uv, mask, visible_mask, marks in zip(outputs, *maps, batch.landmarks):
            masks = mask[..., 0] > THRESHOLD, visible_mask[..., 0] > THRESHOLD
            rows.append(score_map(output, uv, *masks, marks, marks_uv))
    return rows


def mean_map(batches: Iterable[Batch]) -> np.ndarray:
    """The constant baseline (S, S, 4) float32: for each pixel the mean of u and v over the true maps with a face there,
    and the mean of mask and visible mask. ValueError for no images."""
    total: np.ndarray | None = None
    count = 0
    for batch in batches:
        uv, mask, visible_mask = (np.asarray(batch.maps[k], np.float64) for k in ("uv", "mask", "visible_mask"))
        part = np.concatenate([uv * mask, mask, visible_mask], -1).sum(0)
        total, count = part if total is None else total + part, count + len(mask)
    if total is None:
        raise ValueError("a mean map needs at least one image, got none")
    shown = total[..., 2:3]
    middle = total[..., :2].sum((0, 1)) / max(shown.sum(), 1e-12)
    uv = np.where(shown > 0, total[..., :2] / np.maximum(shown, 1e-12), middle)
    return np.concatenate([uv, total[..., 2:] / count], -1).astype(np.float32)


def _landmarks(output: np.ndarray, found: np.ndarray, uv: np.ndarray, mask: np.ndarray, landmarks: np.ndarray,
               marks_uv: np.ndarray) -> tuple[float, float]:
    """Mean distance in % of the image's side, and the fraction found."""
    known = np.isfinite(marks_uv).all(-1)
    ours, true = (locate(np.where(where[..., None], values, np.nan).astype(np.float32), marks_uv[known])
                  for values, where in ((output[..., :2], found), (uv, mask)))
    shown = np.isfinite(true).all(-1)
    both = shown & np.isfinite(ours).all(-1)
    if not shown.any():
        return float("nan"), float("nan")
    away = np.linalg.norm(ours[both] / len(mask) - landmarks[known][both], axis=-1)
    return float(100 * away.mean()) if both.any() else float("nan"), float(both.sum() / shown.sum())
