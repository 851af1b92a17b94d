"""Features of each channel in the time domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec, hookimpl
from eegstore_plugins.sums import eighth, loops, totals
from eegstore_plugins.valid_samples import (
    Signals,
    features_spec,
    means,
    over_valid_samples,
    power_of_unit,
)

Values = NDArray[np.float64]


class _Moments(NamedTuple):
    """What the features of some signals are made of, each float64 (signal,).

    With the names of ``Temporal``: m; the means of y², y³, y⁴ and abs y; the mean of abs d; var d;
    var e; the mean of y[t]² - y[t - 1] y[t + 1]; the zero crossings of y; max x - min x.
    """

    mean: Values
    variance: Values
    third: Values
    fourth: Values
    deviation: Values
    step: Values
    step_variance: Values
    bend_variance: Values
    teager_kaiser: Values
    crossings: Values
    range: Values


def _totals(signals: Signals) -> NDArray[np.float64]:
    """The sums that the moments are means of, float64 (moment, signal), by numpy."""
    x = np.array(signals.T, dtype=np.float64, order="C")
    mean = means(x)
    y = x - mean
    squares, steps = y * y, x[1:] - x[:-1]
    below, inner = y < 0, y[1:-1]
    terms = (
        squares,
        squares * y,
        squares * squares,
        np.abs(y),
        np.abs(steps),
        np.square(steps - _mean_difference(x)),
        np.square(steps[1:] - steps[:-1] - _mean_difference(steps)),
        inner * inner - y[:-2] * y[2:],
    )
    width = eighth(len(x))
    crossings = np.count_nonzero(below[1:] != below[:-1], axis=0)
    sums = [totals(term, width) for term in terms]
    extent = np.where(np.isfinite(mean), y.max(axis=0) - y.min(axis=0), np.nan)
    return np.stack([mean, *sums, crossings, extent])


def _mean_difference(values: Values) -> Values | float:
    """The mean of the differences of float64 (time, signal), which follows from its ends."""
    return (values[-1] - values[0]) / (len(values) - 1) if len(values) > 1 else 0.0


def _moments(signals: Signals) -> _Moments:
    n, n_steps, n_bends = (max(signals.shape[1] - less, 1) for less in range(3))
    counts = np.array([1, n, n, n, n, n_steps, n_steps, n_bends, n_bends, 1, 1])
    return _Moments(*(_totals(signals) / counts[:, np.newaxis]))


def _ratio(numerator: Values, denominator: Values) -> Values:
    """The quotient; 0 where both are 0: a flat signal has no shape."""
    quotient: Values = numerator / (denominator + (denominator == 0))
    return quotient


def _skewness(of: _Moments) -> Values:
    return _ratio(of.third, of.variance * np.sqrt(of.variance))


def _kurtosis(of: _Moments) -> Values:
    return _ratio(of.fourth, np.square(of.variance))


def _mobility(of: _Moments) -> Values:
    return np.sqrt(_ratio(of.step_variance, of.variance))


def _complexity(of: _Moments) -> Values:
    return _ratio(np.sqrt(of.bend_variance * of.variance), of.step_variance)


# Name: the power of the signal's unit, and the values.
FEATURES: Final[Mapping[str, tuple[int, Callable[[_Moments], Values]]]] = {
    "mean": (1, lambda of: of.mean),
    "std": (1, lambda of: np.sqrt(of.variance)),
    "rms": (1, lambda of: np.sqrt(of.variance + np.square(of.mean))),
    "ptp": (1, lambda of: of.range),
    "skewness": (0, _skewness),
    "kurtosis": (0, _kurtosis),
    "line_length": (1, lambda of: of.step),
    "zero_crossings": (0, lambda of: of.crossings),
    "hjorth_mobility": (0, _mobility),
    "hjorth_complexity": (0, _complexity),
    "mad": (1, lambda of: of.deviation),
    "teager_kaiser": (2, lambda of: of.teager_kaiser),
}


def _features(signals: Signals) -> NDArray[np.float64]:
    """All features, float64 (feature, signal), in the order of ``FEATURES``."""
    compiled = loops.for_samples(signals.size)
    if compiled is not None:
        features = np.empty((len(signals), len(FEATURES)))
        compiled.temporal_features(signals, features)
        return features.T
    moments = _moments(signals)
    return np.stack([compute(moments) for _, compute in FEATURES.values()])


@dataclass(frozen=True)
class Temporal:
    """Statistics of each channel's recorded samples x, t = 0 … n - 1, in the time domain.

    Notes
    -----
    With m the mean, y = x - m, d the n - 1 differences of neighbouring samples and e the n - 2
    differences of neighbouring d; var and all moments are population ones (divided by the count):

    - ``mean`` m; ``std`` sqrt(var x); ``rms`` of x, its mean included; ``ptp`` max x - min x;
      ``mad`` the mean of abs y
    - ``skewness`` mean y³ / std³; ``kurtosis`` mean y⁴ / std⁴ (Pearson's: 3 for a Gaussian)
    - ``line_length`` the mean of abs d: Esteller et al. 2001, per sample, so that trials of
      different length compare
    - ``zero_crossings`` of y: neighbours of which exactly one is below 0
    - ``hjorth_mobility`` sqrt(var d / var x), per sample; ``hjorth_complexity``
      sqrt(var e / var d) / mobility (Hjorth 1970)
    - ``teager_kaiser`` the mean of y[t]² - y[t - 1] y[t + 1] (Kaiser 1990)

    A ratio of which the denominator is 0 (a flat signal, a straight line) is 0, and so is a
    feature that needs more samples than the trial has. All is computed in float64.
    """

    name: ClassVar[str] = "temporal"
    version: ClassVar[str] = "3"
    table: ClassVar[Literal["trials", "stimuli"]] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("eeg",)

    def describe(self, inputs: Mapping[str, ColumnSpec]) -> ColumnSpec:
        eeg = inputs["eeg"]
        units = {
            name: power_of_unit(eeg.units, exponent) for name, (exponent, _) in FEATURES.items()
        }
        return features_spec(eeg, units)

    def __call__(self, block: Block) -> NDArray[np.float32]:
        """Compute the features: float32, (trial, channel, feature)."""
        return over_valid_samples(block, len(FEATURES), _features)


@hookimpl
def eegstore_extractors() -> list[type[Temporal]]:
    """The extractor of this module."""
    return [Temporal]
