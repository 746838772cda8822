"""The curve over the number of images, on networks whose error is known."""
import numpy as np
import pytest

from Evaluation.metrics.curve import Curve, error_curve, interval
from Evaluation.reports.curve import COLUMNS, curve_table

SUBJECTS, IMAGES, POINTS = 3, 4, 64


def _targets():
    return np.random.default_rng(0).normal(size=(SUBJECTS, POINTS, 3))


def _noise(subject, image):
    return np.random.default_rng((1, subject, image)).normal(0, 0.05, (POINTS, 3))


def _images(subject):
    """A "image" is its subject's and its own number."""
    return np.stack([np.full((2, 2, 3), 10 * subject + k, np.float32) for k in range(IMAGES)])


def _averaging(images):
    """A memory that is exactly the mean of single faces: truth and a noise of each image's own."""
    targets = _targets()
    codes = images[:, 0, 0, 0].astype(int)
    faces = np.array([targets[c // 10] + _noise(c // 10, c % 10) for c in codes])
    return np.cumsum(faces, axis=0) / np.arange(1, len(images) + 1)[:, None, None]


def test_a_memory_that_averages_is_the_mean_of_singles():
    targets = _targets()
    curve = error_curve(_averaging, _images, targets, targets.mean(0), orders=5, seed=3)
    np.testing.assert_allclose(curve.recurrent, curve.singles, rtol=1e-9)
    assert (np.diff(curve.recurrent.mean(0)) < 0).all()        # noise averages out
    np.testing.assert_allclose(curve.recurrent[:, 3], curve.recurrent[:, 0] / 2, rtol=0.2)    # as 1 / sqrt(images)
    # all orders end with the same four images: one number, whatever the seed
    again = error_curve(_averaging, _images, targets, targets.mean(0), orders=2, seed=9)
    np.testing.assert_allclose(again.recurrent[:, 3], curve.recurrent[:, 3], rtol=1e-9)
    assert not np.allclose(again.recurrent[:, 0], curve.recurrent[:, 0])


def test_errors_by_hand():
    """A constant prediction: its error does not fall, and equals the constant face's."""
    targets = _targets()
    constant = targets[0]
    curve = error_curve(lambda images: np.broadcast_to(constant, (len(images), POINTS, 3)), _images, targets,
                        constant, orders=2)
    np.testing.assert_allclose(curve.recurrent, np.repeat(curve.floor[:, None], IMAGES, 1), rtol=1e-12, atol=1e-12)
    assert curve.floor[0] == pytest.approx(0, abs=1e-10) and curve.floor[1] > 1
    table = curve_table(curve, "t")
    assert table.columns == COLUMNS and len(table.rows) == IMAGES
    assert table.rows[2][0] == 3 and table.rows[2][3] == pytest.approx(0)


def test_the_interval_holds_the_mean_and_shrinks_with_subjects():
    rng = np.random.default_rng(2)
    few, many = rng.normal(-1, 1, 20), rng.normal(-1, 1, 2000)
    mean, low, high = interval(few)
    assert mean == pytest.approx(few.mean()) and low < mean < high
    assert high - low == pytest.approx(2 * 1.96 * few.std() / np.sqrt(20), rel=0.1)
    assert interval(many)[2] - interval(many)[1] < 0.2 * (high - low)


def test_the_sign_says_who_is_better():
    curve = Curve(np.full((4, 1), 1.0), np.full((4, 1), 2.0), np.full(4, 3.0))
    row = curve_table(curve, "t").rows[0]
    assert row[1:] == (1.0, 2.0, -1.0, -1.0, -1.0, 3.0)
