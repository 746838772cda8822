"""Network/training/trainer.py: learning rates by number. Cosine, drop and plateau, each after its warm-up."""
import math

import numpy as np
import pytest

from Network.training.settings import TrainConfig
from Network.training.trainer import learning_rate


def rates(epochs: int, history=(), **settings) -> np.ndarray:
    config = TrainConfig(learning_rate=1e-3, epochs=epochs, **settings)
    return np.array([learning_rate(config, epoch, history) for epoch in range(epochs)])


def test_cosine_falls_from_the_full_rate_to_a_hundredth():
    """Loshchilov and Hutter 2017, equation 5, with 0.01 of the rate as its least."""
    found = rates(5, schedule="cosine")
    fractions = [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0]
    np.testing.assert_allclose(found, [1e-3 * (0.01 + 0.99 * fraction) for fraction in fractions])
    assert (np.diff(rates(40, schedule="cosine")) < 0).all()


def test_cosine_begins_when_the_warm_up_ends():
    """Three epochs rise in even steps: a quarter, a half, three quarters; the fourth has the full rate, and from there
    the half cosine takes the remaining epochs."""
    found = rates(8, schedule="cosine", warmup_epochs=3)
    np.testing.assert_allclose(found[:4], [0.25e-3, 0.5e-3, 0.75e-3, 1e-3])
    np.testing.assert_allclose(found[3:], rates(5, schedule="cosine"))


@pytest.mark.parametrize("settings, expected", [
    (dict(schedule="drop", drop_after=4, drop_factor=0.2), [1 / 3, 2 / 3, 1, 1, 0.2, 0.2]),
    (dict(schedule="halve", halve_every=2), [1 / 3, 2 / 3, 1, 0.5, 0.5, 0.25]),
    (dict(schedule="plateau", plateau_epochs=2, plateau_factor=0.1), [1 / 3, 2 / 3, 1, 0.1, 0.1, 0.1])])
def test_each_schedule_has_its_warm_up(settings, expected):
    """The plateau's history is no better after its first epoch: after three epochs the rate falls."""
    history = [{"loss": 1.0, "val_loss": 1.0}] * 6
    np.testing.assert_allclose(rates(6, history, warmup_epochs=2, **settings) / 1e-3, expected)


def test_a_rate_depends_on_the_epochs_before_it_alone():
    config = TrainConfig(learning_rate=1e-3, schedule="plateau", plateau_epochs=1, plateau_factor=0.1)
    history = [{"loss": 1.0, "val_loss": value} for value in (3.0, 2.0, 2.5, 1.0)]
    assert [learning_rate(config, epoch, history) for epoch in range(5)] == pytest.approx([1e-3] * 3 + [1e-4] * 2)
