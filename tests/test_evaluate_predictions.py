"""The thesis's number against its literal port; what it hides; the batches' bookkeeping."""
import math

import numpy as np
import pytest

from Dataset.geometry.transforms import rotation_from_euler
from Evaluation.evaluate_predictions import Scores, evaluate, prediction_evaluator, score_batches
from Evaluation.metrics.distances import mse
from tests.bench import evaluation_port as port
from tests.clouds import face


@pytest.mark.parametrize("n, m, angle, dtype", [(500, 500, 0, np.float64), (400, 650, 9, np.float64),
                                                (700, 300, -15, np.float64), (500, 500, 5, np.float32)])
def test_equals_the_literal_port(n, m, angle, dtype):
    predicted = (face(n, 1, nose=0.2) @ rotation_from_euler(angle, angle / 2).T).astype(dtype)
    truth = face(m, 2).astype(dtype)
    ours = prediction_evaluator()(predicted, truth)
    # the port takes means in the input's type; the definition is exact, so it is given float64
    assert ours == pytest.approx(port.nme(predicted.astype(float), truth.astype(float)), abs=1e-9)
    assert ours > 0.003
    assert prediction_evaluator(workers=1)(predicted, truth) == ours


def test_pinned_number():
    truth = face(side=24)
    predicted = truth * [1, 1, 0.9]
    assert prediction_evaluator()(predicted, truth) == pytest.approx(0.005694465930647, abs=1e-12)


def test_the_published_number_rewards_collapse():
    """Copies of one point score 0, the mean of randomly ordered clouds beats a true other face; the others tell."""
    truth = face(1500, 0)
    point = evaluate(np.repeat(truth[:1] + 0.3, 1500, axis=0), truth, ordered=False)
    other = evaluate(face(1500, 7, nose=0.2, eyes=0.02, skew=-0.1), truth, ordered=False)
    assert point.nme < 1e-12 < other.nme
    assert point.reverse > 0.2 and point.chamfer > 0.1 and point.surface_chamfer > 10
    assert other.reverse < 0.02 and other.surface_chamfer < 2.5
    # MSE by index: the centroid beats the perfect surface in another order, two to one
    centroid = np.zeros_like(truth)
    other_order = truth[np.random.default_rng(0).permutation(len(truth))]
    assert mse(other_order, truth) == pytest.approx(2 * mse(centroid, truth), rel=0.1)


def test_ordered_clouds_get_point_to_point():
    truth = face(side=20)
    moved = truth @ rotation_from_euler(4).T + 0.02
    scores = evaluate(moved, truth, ordered=True, surface=False)
    assert scores.point_to_point == pytest.approx(0, abs=1e-12)        # a rigid motion is undone
    assert scores.mse == pytest.approx(((moved - truth) ** 2).mean())
    assert math.isnan(scores.surface_chamfer)
    shuffled = evaluate(np.random.default_rng(0).permutation(truth), truth, ordered=True, surface=False)
    assert shuffled.nme < 1e-12 and shuffled.point_to_point > 0.2       # the order is wrong: only this number knows
    assert math.isnan(evaluate(truth, truth, ordered=False, surface=False).point_to_point)
    assert evaluate(truth, truth, ordered=False, surface=False).nme == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="ordered clouds .* got 399 predicted and 400 true points"):
        evaluate(truth[1:], truth, ordered=True)


def batches():
    for b in range(3):
        targets = np.stack([face(80, 10 * b + i) for i in range(2)])
        yield targets * (1 + 0.1 * b), targets, [f"F{b}/{i}" for i in range(2)]


def test_batches_are_scored_one_row_a_sample():
    results = score_batches(batches(), ordered=True, surface=False)
    assert [row.id for row in results.rows] == ["F0/0", "F0/1", "F1/0", "F1/1", "F2/0", "F2/1"]
    metric = prediction_evaluator()
    expected = [metric(p, t) for ps, ts, _ in batches() for p, t in zip(ps, ts)]
    assert np.allclose([row.scores.nme for row in results.rows], expected, atol=1e-12)
    assert results.means["nme"] == pytest.approx(np.mean(expected)) and results.counts["nme"] == 6
    assert math.isnan(results.means["surface_chamfer"]) and results.counts["surface_chamfer"] == 0
    assert set(results.definitions) == set(Scores._fields)
    text = results.definitions["nme"]
    for part in ("prediction -> nearest ground truth", "rigid ICP without scale", "diagonal",
                 "80 predicted and 80 true points", "6 samples scored, 0 skipped"):
        assert part in text


def test_as_published_takes_item_0_of_every_batch():
    results = score_batches(batches(), ordered=False, as_published=True, surface=False)
    assert [row.id for row in results.rows] == ["F0/0", "F1/0", "F2/0"]
    assert "3 left out (item 0 of each batch only, as published)" in results.definitions["nme"]


def test_what_cannot_be_scored_is_counted_with_its_reason():
    predictions = np.stack([face(60, 1), face(60, 2), face(60, 3)])
    targets = predictions.copy()
    predictions[1, 5] = np.nan
    targets[2] = 0.5
    results = score_batches([(predictions, targets, ["a", "b", "c"])], ordered=True, surface=False)
    assert [row.id for row in results.rows] == ["a"] and [name for name, _ in results.skipped] == ["b", "c"]
    assert "prediction: want finite coordinates, got NaN or infinity in 1 of 60" in results.skipped[0][1]
    assert "extent" in results.skipped[1][1]
    assert "1 samples scored, 2 skipped" in results.definitions["chamfer"]


def test_bad_batches():
    with pytest.raises(ValueError, match="want at least one batch, got none"):
        score_batches([], ordered=False)
    with pytest.raises(ValueError, match="as many predictions as ground truths and ids, got 1, 1 and 2"):
        score_batches([(np.zeros((1, 4, 3)), np.zeros((1, 4, 3)), ["a", "b"])], ordered=False)


@pytest.mark.parametrize("predicted, message", [
    (np.zeros((0, 3)), "want at least one point, got none"),
    (np.full((5, 3), np.nan), "NaN or infinity in 5 of 5 points"),
    (np.zeros((5, 4)), r"want an \(N, 3\) array, got shape \(5, 4\)"),
])
def test_bad_clouds(predicted, message):
    with pytest.raises(ValueError, match=message):
        prediction_evaluator()(predicted, face(20))
