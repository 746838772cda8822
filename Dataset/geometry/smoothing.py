"""Causal smoothing of signals that arrive frame by frame: the One-Euro filter and the moving average.

One-Euro: Casiez, Roussel and Vogel 2012, "1 Euro filter: a simple speed-based low-pass filter for noisy input in
interactive systems": an exponential mean whose cutoff grows with the signal's speed, so that slow signals have little
jitter and fast ones little lag. Average: Endrawis 2018 (3.2) shows the mean of the previous and the current box, and of
the geometries. The thesis does not say whether the previous *measured* or *shown* one is meant.

A filter is called with values (any fixed shape) and their time, and returns smoothed values of the same shape. NaN
marks a missing value: it stays NaN, and the filter restarts there with the next number. Deterministic.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

WAYS = ("none", "average", "one-euro")
_LIMITS = {"window": (1, 1000), "cutoff": (1e-3, 1e3), "beta": (0.0, 1e6), "derivative_cutoff": (1e-3, 1e3)}


class Filter(Protocol):
    """`smooth = filter(values, time, unit)`; `filter.reset()` clears the state."""

    def __call__(self, values: Any, time: float, unit: Any = 1.0) -> np.ndarray: ...

    def reset(self) -> None: ...


@dataclass(frozen=True)
class SmoothingConfig:
    """Temporal smoothing of what is shown. ValueError for a value out of range."""

    smoothing: str = "one-euro"         # none, average or one-euro
    window: int = 2                     # average: frames
    recursive: bool = False             # average: of the frame and the last output (infinite impulse response)
    cutoff: float = 1.5                 # one-euro: Hz at rest; lower is smoother
    beta: float = 50.0                  # one-euro: Hz of cutoff per speed of one face size a second
    derivative_cutoff: float = 1.0      # one-euro: Hz, of the speed itself (the paper's 1)

    def __post_init__(self) -> None:
        if self.smoothing not in WAYS:
            raise ValueError(f"smoothing must be one of {', '.join(WAYS)}, got {self.smoothing!r}")
        for name, (low, high) in _LIMITS.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be within {low:g} to {high:g}, got {getattr(self, name)}")

    def filter(self, periods: Any = None) -> Filter:
        """A new filter; periods: see :class:`Unwrapped`."""
        if self.smoothing == "none":
            made: Filter = Unsmoothed()
        elif self.smoothing == "average":
            made = Average(self.window, self.recursive)
        else:
            made = OneEuro(self.cutoff, self.beta, self.derivative_cutoff)
        return made if periods is None else Unwrapped(made, periods)


class Unsmoothed:
    """The identity filter."""

    def __call__(self, values: Any, time: float, unit: Any = 1.0) -> np.ndarray:
        return np.array(values, np.float64)

    def reset(self) -> None:
        pass


class Average:
    """The mean of the last `window` values, fewer at the beginning; lags (window - 1) / 2 frames.

    recursive: the weighted mean of the new value (1 / window) and the last output; lags (window - 1) frames for slow
    signals. The time is not used.
    """

    def __init__(self, window: int = 2, recursive: bool = False) -> None:
        if not _LIMITS["window"][0] <= window <= _LIMITS["window"][1]:
            raise ValueError(f"window must be within 1 to 1000, got {window}")
        self.window, self.recursive = int(window), recursive
        self.reset()

    def reset(self) -> None:
        self._last: list[np.ndarray] = []

    def __call__(self, values: Any, time: float, unit: Any = 1.0) -> np.ndarray:
        """values (...) float -> (...) float64. ValueError for another shape than before."""
        values = np.array(values, np.float64)
        _same_shape(values, self._last)
        if self.recursive:
            if self._last:
                before = self._last[0]
                mean = before + (values - before) / self.window
                values = np.where(np.isfinite(before), mean, values)
            self._last = [values]
            return values.copy()
        if self._last:      # a missing value clears its history
            gone = ~np.isfinite(values)
            self._last = [np.where(gone, np.nan, old) for old in self._last]
        self._last = [*self._last, values][-self.window:]
        stack = np.stack(self._last)
        known = np.isfinite(stack)
        mean = np.where(known, stack, 0).sum(0) / np.maximum(known.sum(0), 1)
        return np.where(np.isfinite(values), mean, values)


class OneEuro:
    """An exponential mean with cutoff + beta * |speed| in Hz, for each number by itself.

    The speed is smoothed with `derivative_cutoff`. It is measured in multiples of `unit` a second: the side of the face
    in px, for example, so that one beta serves faces of any size; a scalar, or one number for each value.
    """

    def __init__(self, cutoff: float = 1.0, beta: float = 0.0, derivative_cutoff: float = 1.0) -> None:
        for name, value in (("cutoff", cutoff), ("beta", beta), ("derivative_cutoff", derivative_cutoff)):
            if not _LIMITS[name][0] <= value <= _LIMITS[name][1]:
                raise ValueError(f"{name} must be within {_LIMITS[name][0]:g} to {_LIMITS[name][1]:g}, got {value}")
        self.cutoff, self.beta, self.derivative_cutoff = cutoff, beta, derivative_cutoff
        self.reset()

    def reset(self) -> None:
        self._time: float | None = None
        self._value = self._speed = np.zeros(0)

    def __call__(self, values: Any, time: float, unit: Any = 1.0) -> np.ndarray:
        """values (...) float, time in seconds, later than the last -> (...) float64. ValueError for another shape than
        before, a time that is not later, or a unit that is not above 0."""
        values = np.array(values, np.float64)
        if not np.all(np.asarray(unit) > 0) or not np.isfinite(time):
            raise ValueError(f"unit must be above 0 and time finite, got {unit} and {time}")
        if self._time is None:
            self._time, self._value, self._speed = time, values, np.zeros_like(values)
            return values.copy()
        _same_shape(values, [self._value])
        step = time - self._time
        if not step > 0:
            raise ValueError(f"time must grow from frame to frame, got {time} after {self._time}")
        new = ~np.isfinite(self._value)
        before = np.where(new, values, self._value)
        # the paper's listing takes the difference from the last filtered value
        speed = (values - before) / (step * unit)
        speed = np.where(new | ~np.isfinite(speed), 0.0, speed)
        speed = self._speed + _smoothing_factor(step, self.derivative_cutoff) * (speed - self._speed)
        smooth = before + _smoothing_factor(step, self.cutoff + self.beta * np.abs(speed)) * (values - before)
        self._time, self._value = time, smooth
        self._speed = np.where(np.isfinite(smooth), speed, 0.0)
        return smooth.copy()


class Unwrapped:
    """A filter for periodic numbers: periods (K,) of the last axis of the values, 0 for numbers that are not periodic.

    Angles of 179 and -179 degrees (period 360) are 2 degrees apart. Outputs lie within half a period of 0.
    """

    def __init__(self, inner: Filter, periods: Any) -> None:
        self._inner, self._periods = inner, np.asarray(periods, np.float64)
        self.reset()

    def reset(self) -> None:
        self._inner.reset()
        self._last: np.ndarray | None = None

    def __call__(self, values: Any, time: float, unit: Any = 1.0) -> np.ndarray:
        """As the inner filter's; values (..., K)."""
        values = np.array(values, np.float64)
        if self._last is not None:
            values = values - self._turns(values - np.where(np.isfinite(self._last), self._last, values))
        smooth = self._inner(values, time, unit)
        self._last = values
        return smooth - self._turns(smooth)

    def _turns(self, values: np.ndarray) -> np.ndarray:
        """Whole periods in values, in their unit."""
        round_ = self._periods > 0
        return np.where(round_, self._periods * np.rint(values / np.where(round_, self._periods, 1)), 0)


def _smoothing_factor(step: float, cutoff: Any) -> Any:
    """Weight of a new value: equations of the exponential mean with time constant 1 / (2 pi cutoff)."""
    turn = 2 * np.pi * cutoff * step
    return turn / (turn + 1)


def _same_shape(values: np.ndarray, before: list[np.ndarray]) -> None:
    if before and values.shape != before[0].shape:
        raise ValueError(f"values must keep their shape {before[0].shape}, got {values.shape}; reset() begins anew")
