"""Evaluation/metrics/depth.py: by hand, and against loops over pixels."""
import math

import numpy as np
import pytest

from Evaluation.metrics.depth import DEPTH_METRICS, align, coverage, delta, depth_scores, mae, mae_of_face, rmse

NAN = np.nan
TRUTH = np.array([[100, 200, NAN], [400, 500, 600.0]])
PREDICTED = np.array([[110, 200, 300], [NAN, 470, 800.0]])       # common: +10, 0, -30, +200


def slow(predicted, truth):
    errors, ratios, either = [], [], 0
    for p, t in zip(predicted.ravel(), truth.ravel()):
        either += not (math.isnan(p) and math.isnan(t))
        if not math.isnan(p) and not math.isnan(t):
            errors.append(p - t)
            ratios.append(max(p / t, t / p))
    n = len(errors)
    return {"mae": sum(abs(e) for e in errors) / n, "rmse": math.sqrt(sum(e * e for e in errors) / n),
            "delta": sum(r < 1.25 for r in ratios) / n, "coverage": n / either}


def test_by_hand():
    assert mae(PREDICTED, TRUTH) == (10 + 0 + 30 + 200) / 4
    assert rmse(PREDICTED, TRUTH) == math.sqrt((100 + 0 + 900 + 40000) / 4)
    assert delta(PREDICTED, TRUTH) == 3 / 4         # 800 / 600 fails
    assert coverage(PREDICTED, TRUTH) == 4 / 6
    assert delta(np.array([[125, 80.0]]), np.array([[100, 100.0]])) == 0        # 1.25 itself is not below 1.25
    assert delta(np.array([[-5, 99.0]]), np.array([[100, 100.0]])) == 0.5


def test_against_loops():
    rng = np.random.default_rng(0)
    truth, predicted = (rng.uniform(50, 150, (9, 7)) for _ in range(2))
    truth[rng.random(truth.shape) < 0.2] = NAN
    predicted[rng.random(truth.shape) < 0.3] = NAN
    scores = depth_scores(predicted, truth, "none")
    assert set(scores) == set(DEPTH_METRICS)
    for name, value in slow(predicted, truth).items():
        assert scores[name] == pytest.approx(value, abs=1e-12), name


def test_what_a_crop_does_not_tell_is_taken_away():
    rng = np.random.default_rng(1)
    truth = rng.uniform(600, 700, (8, 8)).astype(np.float32)
    truth[0] = NAN
    moved = align(truth - 55, truth)
    assert moved.offset == pytest.approx(55) and moved.scale == 1 and mae(moved.depth, truth) < 1e-4
    spoilt = truth - 55.0
    spoilt[4, 4] = 5000                             # the median does not mind one bad pixel
    assert align(spoilt, truth).offset == pytest.approx(55, abs=1e-4)
    line = align(truth / 2 + 30, truth, "offset and scale")
    assert (line.scale, line.offset) == pytest.approx((2, -60)) and rmse(line.depth, truth) < 1e-4
    flat = align(np.full((8, 8), 640.0), truth, "offset and scale")
    assert flat.scale == 1 and np.median(flat.depth) == pytest.approx(np.nanmedian(truth))
    assert depth_scores(truth - 55, truth)["rmse"] < 1e-4 < depth_scores(truth - 55, truth, "none")["rmse"]


def test_nothing_in_common_is_nan():
    empty = np.full((2, 3), NAN)
    assert all(math.isnan(value) for value in depth_scores(empty, empty).values())
    scores = depth_scores(empty, TRUTH)
    assert scores.pop("coverage") == 0 and all(math.isnan(value) for value in scores.values())
    assert align(empty, TRUTH)[1:] == (1, 0)


def test_of_the_whole_face_nothing_is_removed_and_what_is_missing_is_far():
    truth = np.array([[10.0, 12.0, NAN]])
    assert mae_of_face(np.array([[11.0, NAN, 5.0]]), truth, 20.0) == pytest.approx((1 + 8) / 2)
    assert math.isnan(mae_of_face(truth, np.full((1, 3), NAN), 20.0))


def test_bad_input():
    with pytest.raises(ValueError, match=r"two maps \(H, W\) of one size are needed, got \(2, 3\) and \(3, 2\)"):
        mae(TRUTH, TRUTH.T)
    with pytest.raises(ValueError, match="got 'scale'"):
        align(TRUTH, TRUTH, "scale")
    with pytest.raises(ValueError, match="true depths are positive"):
        delta(TRUTH, TRUTH - 100)
    for name, metric in DEPTH_METRICS.items():
        assert metric.name == name and metric.unit and len(metric.definition) > 15
