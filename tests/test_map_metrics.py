"""Evaluation/metrics/uv_maps.py: numbers by hand, perfect maps of rendered subjects, and the floor beside them."""
from types import SimpleNamespace

import numpy as np
import pytest

from Datagenerator.sequences.maps import everybodys_maps
from Dataset.face_model.model import load_face_model
from Dataset.representations import points
from Dataset.representations.uvmap import grid_positions
from Dataset.synthesis.renders import RenderOptions
from Dataset.synthesis.shards import make_shards, open_shards
from Evaluation.metrics.uv_maps import FREEDOM, MapScores, landmark_uv, mean_map, score_map, score_maps
from Evaluation.reports.uv_maps import DEFINITIONS, maps_table
from Network.losses import points as losses

NONE = np.full((68, 2), np.nan)


def disc(size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    return np.stack([x, 1 - y], -1), np.hypot(x - 0.5, y - 0.5) < 0.4


def batch(outputs: np.ndarray) -> SimpleNamespace:
    """A truth (B, S, S, 4) as a batch."""
    maps = {"uv": outputs[..., :2], "mask": outputs[..., 2:3], "visible_mask": outputs[..., 3:4]}
    return SimpleNamespace(images=np.zeros((len(outputs), 1)), maps=maps, landmarks=np.zeros((len(outputs), 68, 2)))


def test_by_hand():
    uv, mask = disc()
    visible_mask = mask & (uv[..., 1] > 0.5)
    output = np.dstack([uv + [0.03, -0.04], mask, visible_mask, np.full((16, 16, 2), np.log(0.001))])
    output[~mask, :2] = 7                               # off the face nothing is compared
    output[0, 0, 2] = 1                                 # one pixel too many
    scores = score_map(output, uv, mask, visible_mask, NONE, NONE)
    n = mask.sum()
    np.testing.assert_allclose(scores[:5], [0.07, 128 * 0.05, 128 * 0.05, n / (n + 1), 1], rtol=1e-6)
    np.testing.assert_allclose(scores[5:7], [0.002 / 0.00125, 0.00125 / 0.002], rtol=1e-6)     # twice the squared scale
    assert np.isnan(scores[7:]).all()
    assert np.isnan(score_map(output[..., :4], uv, mask, visible_mask, NONE, NONE)[5:]).all()
    empty = score_map(output * 0, uv, mask & False, mask & False, NONE, NONE)
    assert empty[3:5] == (1, 1) and np.isnan(empty[:3]).all() and np.isnan(empty[5:]).all()
    with pytest.raises(ValueError, match="maps must be"):
        score_map(output[..., :3], uv, mask, visible_mask, NONE, NONE)


def test_errors_as_the_loss_takes_them_are_calibrated():
    """Of the distribution whose likelihood the network learns: the variance of a t, not its squared scale."""
    rng = np.random.default_rng(2)
    uv, mask = disc(256)
    found = uv + 0.02 * rng.standard_t(FREEDOM, uv.shape)
    output = np.dstack([found, mask, mask, np.full(uv.shape, np.log(0.02 ** 2))])
    scores = score_map(output, uv, mask, mask, NONE, NONE)
    assert scores.variance == pytest.approx(1, abs=0.1) and scores.surprise == pytest.approx(1, abs=0.1)
    assert FREEDOM == losses._FREEDOM


def test_landmarks_lie_where_the_atlas_has_them():
    model, points_uv = load_face_model(), landmark_uv()
    known = np.isfinite(points_uv).all(-1)
    assert 64 <= known.sum() <= 68 and known[17:].all()
    grid = points.encode(np.asarray(model.mean, float), model=model)
    rows, columns = np.rint(grid_positions(points_uv[known])).astype(int).T
    away = np.linalg.norm(grid[rows, columns] - model.landmarks(np.asarray(model.mean, float))[known], axis=-1)
    assert away.max() < 4                               # half a cell, and the 2 mm
    np.testing.assert_allclose(points_uv[36:48, 0], 1 - points_uv[[45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40], 0],
                               atol=0.01)               # eyes


def test_landmarks_are_read_off_the_map():
    """UV that a map shows at known pixels; the prediction is shifted by a pixel and hides the left half."""
    uv, mask = disc(64)
    points_uv = np.full((68, 2), np.nan)
    points_uv[:3] = [[0.5, 0.5], [0.3, 0.6], [0.99, 0.99]]         # the last is nowhere in the image
    landmarks = np.zeros((68, 2))
    landmarks[:3] = np.stack([points_uv[:3, 0], 1 - points_uv[:3, 1]], -1)
    perfect = np.dstack([uv, mask, mask])
    scores = score_map(perfect, uv, mask, mask, landmarks, points_uv)
    assert scores.landmarks == pytest.approx(0, abs=1e-4) and scores.found == 1
    shifted = np.roll(perfect, 1, 1)
    scores = score_map(shifted, uv, mask, mask, landmarks, points_uv)
    assert scores.landmarks == pytest.approx(100 / 64, abs=0.01)
    half = perfect.copy()
    half[:, :25, 2] = 0
    assert score_map(half, uv, mask, mask, landmarks, points_uv).found == 0.5


def test_the_mean_map():
    """Mean over the images that have a face at a pixel, the overall mean where none has one."""
    outputs = np.zeros((3, 4, 4, 4))
    outputs[0, 1, 1], outputs[1, 1, 1], outputs[2, 2, 3] = (0.2, 0.4, 1, 0), (0.6, 0.8, 1, 1), (0.1, 0.9, 1, 1)
    found = mean_map([batch(outputs[:2]), batch(outputs[2:])])
    np.testing.assert_allclose(found[1, 1], [0.4, 0.6, 2 / 3, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(found[2, 3], [0.1, 0.9, 1 / 3, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(found[0, 0], [0.3, 0.7, 0, 0], rtol=1e-6)
    with pytest.raises(ValueError, match="at least one image"):
        mean_map([])


def test_a_table_of_rendered_subjects(tmp_path):
    """The truth as an answer is perfect; the landmarks are where the shards say, to half a pixel."""
    make_shards(tmp_path / "subjects", RenderOptions(subjects=3, images=2, size=64, seed=5, detect=0.0, yaw=30,
                                                     buffers=("uv", "mask", "visible_mask")))
    shards = open_shards(tmp_path / "subjects")

    def batches():
        return everybodys_maps(shards, 64, 2, batch=4)
    truth = iter([np.concatenate([b.maps[k] for k in ("uv", "mask", "visible_mask")], -1) for b in batches()])
    table = maps_table(batches, lambda images: next(truth), "the truth")
    found = {row[0]: row[1:4] for row in table.rows}
    assert list(found) == ["uv_l1", "uv_cells", "uv_median", "mask_iou", "visible_iou", "landmarks", "found"]
    for name, value in (("uv_l1", 0), ("uv_cells", 0), ("mask_iou", 1), ("visible_iou", 1), ("found", 1)):
        assert found[name][0] == value and found[name][2] == 6
    assert found["landmarks"][0] < 0.8 < 4 < found["landmarks"][1]         # % of 64 px
    assert 0.02 < found["uv_l1"][1] and found["mask_iou"][1] < 0.95
    assert "the truth: 6 images" in table.text() and set(DEFINITIONS) == set(MapScores._fields)
    assert len(score_maps(batches(), lambda images: np.zeros((len(images), 64, 64, 4)))) == 6
