"""Features of each channel in the time domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec, hookimpl
from eegstore_plugins.valid_samples import (
    Signals,
    features_spec,
    over_valid_samples,
    power_of_unit,
)

Values = NDArray[np.float64]


def _mean(samples: Signals) -> Values:
    mean: Values = np.add.reduce(samples, axis=-1) / max(samples.shape[-1], 1)
    return mean


def _mean_product(left: Signals, right: Signals) -> Values:
    # einsum, not a BLAS product: its order of summation knows no other signal and no thread.
    mean: Values = np.einsum("st,st->s", left, right) / max(left.shape[-1], 1)
    return mean


def _centre(samples: Signals) -> Signals:
    return samples - _mean(samples)[:, np.newaxis]


def _steps(samples: Signals) -> Signals:
    return samples[:, 1:] - samples[:, :-1]


def _ratio(numerator: Values, denominator: Values) -> Values:
    """The quotient, 0 where the denominator is 0: a flat signal has no shape."""
    flat = np.zeros_like(numerator)
    return np.divide(numerator, denominator, out=flat, where=denominator != 0)


@dataclass(frozen=True, eq=False)
class _Moments:
    """What several features of some signals, float64 (signal, time), are made of."""

    samples: Signals

    @cached_property
    def mean(self) -> Values:
        return _mean(self.samples)

    @cached_property
    def centred(self) -> Signals:
        return self.samples - self.mean[:, np.newaxis]

    @cached_property
    def squares(self) -> Signals:
        return np.square(self.centred)

    @cached_property
    def variance(self) -> Values:
        return _mean(self.squares)

    @cached_property
    def steps(self) -> Signals:
        return _steps(self.samples)

    @cached_property
    def step_variance(self) -> Values:
        steps = _centre(self.steps)
        return _mean_product(steps, steps)

    @cached_property
    def bend_variance(self) -> Values:
        bends = _centre(_steps(self.steps))
        return _mean_product(bends, bends)


def _skewness(of: _Moments) -> Values:
    third = _mean_product(of.squares, of.centred)
    return _ratio(third, of.variance * np.sqrt(of.variance))


def _kurtosis(of: _Moments) -> Values:
    return _ratio(_mean_product(of.squares, of.squares), np.square(of.variance))


def _zero_crossings(of: _Moments) -> Values:
    below = of.centred < 0
    count: NDArray[np.int64] = np.count_nonzero(below[:, 1:] != below[:, :-1], axis=-1)
    return count.astype(np.float64)


def _mobility(of: _Moments) -> Values:
    return np.sqrt(_ratio(of.step_variance, of.variance))


def _complexity(of: _Moments) -> Values:
    return _ratio(np.sqrt(of.bend_variance * of.variance), of.step_variance)


def _teager_kaiser(of: _Moments) -> Values:
    inner, before, after = of.centred[:, 1:-1], of.centred[:, :-2], of.centred[:, 2:]
    return _mean_product(inner, inner) - _mean_product(before, after)


# Name: the power of the signal's unit, and the values.
FEATURES: Final[Mapping[str, tuple[int, Callable[[_Moments], Values]]]] = {
    "mean": (1, lambda of: of.mean),
    "std": (1, lambda of: np.sqrt(of.variance)),
    "rms": (1, lambda of: np.sqrt(of.variance + np.square(of.mean))),
    "ptp": (1, lambda of: of.samples.max(axis=-1) - of.samples.min(axis=-1)),
    "skewness": (0, _skewness),
    "kurtosis": (0, _kurtosis),
    "line_length": (1, lambda of: _mean(np.abs(of.steps))),
    "zero_crossings": (0, _zero_crossings),
    "hjorth_mobility": (0, _mobility),
    "hjorth_complexity": (0, _complexity),
    "mad": (1, lambda of: _mean(np.abs(of.centred))),
    "teager_kaiser": (2, _teager_kaiser),
}


def _features(signals: Signals) -> NDArray[np.float64]:
    moments = _Moments(signals)
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
    version: ClassVar[str] = "1"
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
