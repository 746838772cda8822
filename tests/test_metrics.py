"""Evaluation/metrics/distances.py: by hand, and against double loops."""
import numpy as np
import pytest

from Evaluation.metrics.distances import (METRICS, bounding_box_diagonal, chamfer, mse, nme, point_to_point,
                                          reverse)
from tests.clouds import face


def slow_one_way(a, b):
    return sum(min(float(np.sqrt(((p - q) ** 2).sum())) for q in b) for p in a) / len(a)


def test_by_hand():
    truth = np.array([[0, 0, 0], [3, 4, 0], [3, 4, 12.0]])       # diagonal 13
    predicted = np.array([[1, 0, 0], [3, 4, 0.0]])
    assert bounding_box_diagonal(truth) == 13
    assert nme(predicted, truth) == pytest.approx((1 + 0) / 2 / 13)
    assert reverse(predicted, truth) == pytest.approx((1 + 0 + 12) / 3 / 13)
    assert chamfer(predicted, truth) == pytest.approx((1 / 2 + 13 / 3) / 2 / 13)
    shifted = truth + [0, 0, 2]
    assert point_to_point(shifted, truth) == pytest.approx(2 / 13) and mse(shifted, truth) == pytest.approx(4 / 3)


@pytest.mark.parametrize("n, m", [(60, 60), (40, 75), (1, 30)])
def test_against_double_loops(n, m):
    a, b = face(max(n, 2), 1)[:n], face(m, 2)
    diagonal = np.sqrt(((b.max(0) - b.min(0)) ** 2).sum())
    assert nme(a, b) == pytest.approx(slow_one_way(a, b) / diagonal, abs=1e-12)
    assert reverse(a, b) == pytest.approx(slow_one_way(b, a) / diagonal, abs=1e-12)
    assert chamfer(a, b) == pytest.approx(0.5 * (slow_one_way(a, b) + slow_one_way(b, a)) / diagonal, abs=1e-12)


def test_the_dictionary():
    a, b = face(50, 1), face(50, 3)
    for name, metric in METRICS.items():
        assert metric.name == name and len(metric.definition) > 15 and metric.unit and metric.function(a, b) > 0
    assert mse(a, b) == pytest.approx(((a - b) ** 2).mean(), abs=1e-15)     # Keras's MeanSquaredError


def test_bad_input():
    with pytest.raises(ValueError, match="as many predicted as true points, got 3 and 4"):
        point_to_point(face(3), face(4))
    with pytest.raises(ValueError, match="want a cloud with an extent, got 4 equal points"):
        nme(face(4), np.ones((4, 3)))
