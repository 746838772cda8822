"""Network/losses/points.py: pinned numbers, one value per sample, and what must be refused."""
import keras
import numpy as np
import pytest

from Network.losses.points import mean_squared_error


def test_mse_pinned():
    """Sample 0 is off by 1 in every coordinate, sample 1 by 3 in one of its 6."""
    truth = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    prediction = truth.copy()
    prediction[0] += 1.0
    prediction[1, 1, 2] -= 3.0
    loss = np.asarray(mean_squared_error(truth, prediction))
    assert loss.shape == (2,) and loss.dtype == np.float32
    np.testing.assert_allclose(loss, [1.0, 9.0 / 6.0], rtol=1e-7)


def test_mse_is_the_listings_and_a_third_of_equation_8():
    rng = np.random.default_rng(0)
    truth, prediction = rng.normal(size=(2, 3, 50, 3)).astype(np.float32)
    loss = np.asarray(mean_squared_error(truth, prediction))
    np.testing.assert_allclose(loss.mean(), keras.losses.MeanSquaredError()(truth, prediction), rtol=1e-6)
    equation_8 = [np.mean([np.sum((y - p) ** 2) for y, p in zip(*pair)]) for pair in zip(truth, prediction)]
    np.testing.assert_allclose(3.0 * loss, equation_8, rtol=1e-5)


def test_mse_in_half_precision_is_summed_in_float32():
    truth = np.zeros((1, 4000, 3), np.float16)
    loss = np.asarray(mean_squared_error(truth, truth + np.float16(300.0)))
    np.testing.assert_allclose(loss, [90000.0])         # over float16's largest number
    assert loss.dtype == np.float32


@pytest.mark.parametrize("shapes", [((2, 4, 3), (2, 5, 3)), ((2, 4, 3), (2, 1, 3)), ((2, 4, 3), (2, 12)), ((2,), (2,))])
def test_mse_refuses_what_broadcasting_would_hide(shapes):
    truth, prediction = (np.zeros(shape, np.float32) for shape in shapes)
    with pytest.raises(ValueError, match=r"must have one shape \(B, \.\.\.\), got .* and "):
        mean_squared_error(truth, prediction)
