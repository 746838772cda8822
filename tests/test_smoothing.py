"""Dataset/geometry/smoothing.py: numbers pinned by hand, a slow twin, known lags, angles that come round."""
import math

import numpy as np
import pytest

from Dataset.geometry.smoothing import Average, OneEuro, SmoothingConfig, Unsmoothed, Unwrapped

STEP = 1 / 30


def run(smoother, values, step=STEP):
    return np.array([smoother(value, n * step) for n, value in enumerate(values)])


def one_euro_slowly(values, cutoff, beta, derivative, step):
    """The paper's algorithm for one number, line by line."""
    def alpha(frequency):
        tau = 1 / (2 * math.pi * frequency)
        return 1 / (1 + tau / step)
    out, speed = [values[0]], 0.0
    for value in values[1:]:
        speed = alpha(derivative) * (value - out[-1]) / step + (1 - alpha(derivative)) * speed
        weight = alpha(cutoff + beta * abs(speed))
        out.append(weight * value + (1 - weight) * out[-1])
    return out


@pytest.mark.parametrize("cutoff, beta", [(1.0, 0.0), (0.5, 0.3), (4.0, 2.0)])
def test_one_euro_is_the_papers_algorithm_for_each_number(cutoff, beta):
    values = np.random.default_rng(0).normal(size=(50, 2, 3))
    fast = run(OneEuro(cutoff, beta, 1.2), values)
    for index in np.ndindex(2, 3):
        slow = one_euro_slowly(values[(slice(None), *index)], cutoff, beta, 1.2, STEP)
        np.testing.assert_allclose(fast[(slice(None), *index)], slow, rtol=1e-9, atol=1e-12)


def test_a_step_without_beta_rises_by_the_weight_of_its_cutoff():
    # 2 pi 1 Hz / 30 fps = 0.20944: weight 0.173171
    np.testing.assert_allclose(run(OneEuro(1.0), [0.0, 1.0, 1.0]), [0, 0.173171, 0.316353], atol=1e-6)


def test_beta_takes_the_lag_from_a_ramp_and_leaves_the_calm_of_rest():
    ramp = np.arange(120) / 30
    lags = [float(ramp[-1] - run(OneEuro(1.0, beta), ramp)[-1]) for beta in (0.0, 5.0)]
    assert lags[0] == pytest.approx(1 / (2 * math.pi), rel=0.01)        # the time constant, s
    # the speed is taken from the last filtered value, so it counts the lag, too
    assert lags[1] == pytest.approx(1 / (2 * math.pi * (1 + 5 * (1 + 30 * lags[1]))), rel=0.01) and lags[1] < 0.02
    noise = 0.01 * np.random.default_rng(1).standard_normal(600)
    assert run(OneEuro(1.0, 0.0), noise)[60:].std() < 0.4 * noise.std()


def test_speed_is_measured_in_units():
    values = np.random.default_rng(2).normal(size=20)
    big = [OneEuro(1.0, 2.0), OneEuro(1.0, 2.0)]
    ours = [big[0](v, n * STEP) for n, v in enumerate(values)]
    scaled = [big[1](80 * v, n * STEP, 80.0) for n, v in enumerate(values)]
    np.testing.assert_allclose(scaled, 80 * np.array(ours))


def test_average_of_two_is_the_papers():
    np.testing.assert_allclose(run(Average(2), [0, 1, 3, 3, 3.0]), [0, 0.5, 2, 3, 3])
    np.testing.assert_allclose(run(Average(2, recursive=True), [0, 1, 3, 3, 3.0]), [0, 0.5, 1.75, 2.375, 2.6875])


@pytest.mark.parametrize("recursive, lag", [(False, 1.5), (True, 3.0)])
def test_an_average_lags_by_its_window(recursive, lag):
    ramp = np.arange(100.0)
    assert ramp[-1] - run(Average(4, recursive), ramp)[-1] == pytest.approx(lag)


@pytest.mark.parametrize("smoother", [Average(3), Average(3, True), OneEuro(1.0, 1.0), Unsmoothed()])
def test_nothing_stays_nothing_and_begins_anew(smoother):
    out = run(smoother, [[0.0, 0], [1, 1], [np.nan, 2], [5, 3], [5, 4]])
    assert np.isnan(out[2, 0]) and np.isfinite(np.delete(out, 4)).all()
    assert out[3, 0] == 5 and out[4, 0] == 5
    np.testing.assert_array_equal(out[:, 1], run(_fresh(smoother), [0.0, 1, 2, 3, 4]))


def _fresh(smoother):
    smoother.reset()
    return smoother


@pytest.mark.parametrize("config", [SmoothingConfig("average"), SmoothingConfig("one-euro"), SmoothingConfig("none")])
def test_reset_forgets_and_the_input_is_left_alone(config):
    smoother, values = config.filter(), np.ones(3)
    smoother(np.full(3, 100.0), 5.0)
    smoother.reset()
    given = smoother(values, 0.0)
    given += 7
    np.testing.assert_array_equal(values, 1)
    np.testing.assert_array_equal(smoother(values, 1.0), 1)         # nor does what was given reach back


def test_angles_come_round():
    angles = np.array([170.0, 178, -174, -166])         # eight degrees a frame
    out = run(Unwrapped(Average(2), [360.0]), angles[:, None])[:, 0]
    np.testing.assert_allclose(out, [170, 174, -178, -170])
    pose = run(SmoothingConfig("one-euro").filter([360, 0]), np.stack([angles, 360 * np.arange(4.0)], 1))
    assert pose[3, 1] > 300 and np.abs(pose[:, 0]).min() > 165


def test_bad_values():
    with pytest.raises(ValueError, match="smoothing must be one of none, average, one-euro, got 'kalman'"):
        SmoothingConfig("kalman")
    with pytest.raises(ValueError, match="window must be within 1 to 1000, got 0"):
        SmoothingConfig(window=0)
    with pytest.raises(ValueError, match="cutoff must be within 0.001 to 1000, got nan"):
        OneEuro(math.nan)
    smoother = OneEuro()
    smoother([0.0], 1.0)
    with pytest.raises(ValueError, match="time must grow from frame to frame, got 1.0 after 1.0"):
        smoother([0.0], 1.0)
    with pytest.raises(ValueError, match=r"values must keep their shape \(1,\), got \(2,\)"):
        smoother([0.0, 1.0], 2.0)
    with pytest.raises(ValueError, match="unit must be above 0"):
        smoother([0.0], 2.0, 0.0)
