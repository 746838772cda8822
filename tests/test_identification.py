"""Evaluation/metrics/identification.py: known distances, the constant face's floor, bad input."""
import numpy as np
import pytest

from Dataset.geometry.transforms import rotation_from_euler, umeyama
from Evaluation.metrics.identification import distances, identify
from tests.clouds import face

TARGETS = np.stack([face(side=12, nose=0.1 + 0.02 * k, eyes=0.01 * k, skew=0.03 * (k % 3)) for k in range(6)])


def test_distances_against_a_loop():
    table = distances(TARGETS[:2] * 1.3, TARGETS[:4])
    for i in range(2):
        for j in range(4):
            moved = umeyama(TARGETS[i], TARGETS[j]).apply(TARGETS[i])
            mean = np.linalg.norm(moved - TARGETS[j], axis=1).mean()
            assert table[i, j] == pytest.approx(100 * mean / np.linalg.norm(np.ptp(TARGETS[j], axis=0)), abs=1e-9)


def test_targets_are_their_own_whatever_their_size_and_position():
    moved = TARGETS @ rotation_from_euler(20, 5).T * 3 + [1, -2, 0.5]
    result = identify(moved, TARGETS)
    assert result.own == pytest.approx(0, abs=1e-9) and result.others > 0.1
    assert (result.nearest, result.subjects) == (6, 6) and result.ratio < 1e-9


def test_a_constant_face_knows_nobody():
    result = identify(np.stack([TARGETS.mean(0)] * 6), TARGETS)
    assert result.ratio == pytest.approx(1) and result.nearest == 1
    swapped = identify(TARGETS[[1, 0, 2, 3, 4, 5]], TARGETS)
    assert swapped.nearest == 4
    assert identify(TARGETS[[0, 0]], TARGETS[[0, 0]]).nearest == 0        # a draw is none


def test_what_is_not_finite_knows_nobody():
    broken = TARGETS.copy()
    broken[2, 5] = np.nan
    result = identify(broken, TARGETS)
    assert np.isnan(result.ratio) and (result.nearest, result.subjects) == (0, 6)


def test_bad_input():
    with pytest.raises(ValueError, match="at least two subjects"):
        identify(TARGETS[:1], TARGETS[:1])
    with pytest.raises(ValueError, match="got 3 for 6"):
        identify(TARGETS[:3], TARGETS)
    with pytest.raises(ValueError, match=r"\(Q, N, 3\) are needed"):
        distances(TARGETS[:, :5], TARGETS)
