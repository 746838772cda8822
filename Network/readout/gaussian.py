"""A linear-Gaussian model: keypoint features as a linear function of the face's coefficients, inverted by Bayes' rule.

Bishop 2006, "Pattern recognition and machine learning", 2.3.3: with coefficients x ~ N(m, P) and features
y = offset + x S + noise, noise ~ N(0, N), the posterior mean of x is linear in y.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Prior(NamedTuple):
    """mean (n,), covariance (n, n) of the coefficients, float64."""

    mean: np.ndarray
    covariance: np.ndarray


class LinearGaussian(NamedTuple):
    """offset (F,): the features of the prior's mean; slopes (n, F); noise (F, F): covariance of the features' rest."""

    offset: np.ndarray
    slopes: np.ndarray
    noise: np.ndarray


class Moments(NamedTuple):
    """Sums over rows of features y (F,) and coefficients x (n,), of which a model is learnt; they add up over parts of
    the data. xx (n + 1, n + 1) and xy (n + 1, F) with x extended by 1, yy (F, F); count, of rows or of weights."""

    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray
    count: float


def moments_of(features: np.ndarray, coefficients: np.ndarray) -> Moments:
    """features (M, F), coefficients (M, n)."""
    x = np.pad(np.asarray(coefficients, np.float64), ((0, 0), (0, 1)), constant_values=1.0)
    y = np.asarray(features, np.float64)
    return Moments(x.T @ x, x.T @ y, y.T @ y, len(x))


def total(parts: list[Moments]) -> Moments:
    """The sum. ValueError for nothing."""
    if not parts:
        raise ValueError("a linear-Gaussian model needs at least one training subject, received none")
    return Moments(*(sum(column) for column in zip(*parts)))


def learn(sums: Moments, prior: Prior, subjects: int) -> LinearGaussian:
    """Least squares of the features from the coefficients, with as little ridge as one row of the prior's.

    subjects: how many stand behind the rows. What n coefficients explain of their own rows is too much: the noise is
    enlarged by subjects / (subjects - n).
    """
    count = len(prior.mean)
    shift = np.eye(count + 1)
    shift[-1, :-1] = -prior.mean                        # coefficients about the prior's mean
    xx, xy = shift.T @ sums.xx @ shift, shift.T @ sums.xy
    ridge = np.zeros(count + 1)
    ridge[:-1] = 1 / np.maximum(np.diag(prior.covariance), 1e-4)
    found = np.linalg.solve(xx + np.diag(ridge), xy)
    rest = sums.yy - found.T @ xy - xy.T @ found + found.T @ xx @ found
    return LinearGaussian(found[-1], found[:-1], rest / sums.count * (subjects / max(subjects - count, 1)))


def posterior(model: LinearGaussian, prior: Prior, extra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-> map (F + 1, n) and precision (n, n) float64: (y, 1) @ map is the posterior mean.

    extra (F,): added to the noise's variances, against chance in what was learnt.
    """
    gain = np.linalg.solve(model.noise + np.diag(extra + 1e-9), model.slopes.T)             # (F, n)
    precision = np.linalg.inv(prior.covariance) + model.slopes @ gain
    found = np.linalg.solve(precision, gain.T).T
    return np.concatenate([found, (prior.mean - model.offset @ found)[None]]), precision


def apply(found: np.ndarray, features: np.ndarray) -> np.ndarray:
    """A map (F + 1, n), whose last row is the constant, of features (..., F): (..., n)."""
    return features @ found[:-1] + found[-1]
