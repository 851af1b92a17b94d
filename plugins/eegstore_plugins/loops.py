"""Compiled loops over signals: the features of ``temporal`` and ``spectral``, in few passes.

Only where numba is installed is this module imported. Each loop gives the very bytes of the numpy
function that its docstring names: every sum has an order of ``sums``, and nothing may be contracted
or reordered (no fastmath).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from eegstore_plugins import logarithms, sums

Loop = TypeVar("Loop", bound=Callable[..., Any])
Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# Digest of the two modules above. What numba keeps on disk goes by this file's bytes alone: with
# this, a change of those makes the loops anew.
MADE_OF: Final = "31122ad82dd8dcdc"
# Trials may come from a mapped file, which cannot be written.
SIGNALS: Final = "Array(float32, 2, 'C', readonly=True)"


def _compiled(signature: str | None = None) -> Callable[[Loop], Loop]:
    jitted: Any = numba.njit(
        signature, nogil=True, cache=True, error_model="numpy", forceinline=signature is None
    )
    return jitted  # type: ignore[no-any-return]


_eighth = _compiled()(sums.eighth)
_eight = _compiled()(sums.eight)
_exponent = _compiled()(logarithms.exponent_bits)
_fraction = _compiled()(logarithms.fraction_bits)
_log = _compiled()(logarithms.log_of_parts)


@_compiled()
def _add_eighths(t: Any, parts: Vector) -> None:
    """Add float64 (part, value) over its eight parts."""
    for at in range(t.shape[1]):
        parts[at] = _eight(
            t[0, at], t[1, at], t[2, at], t[3, at], t[4, at], t[5, at], t[6, at], t[7, at]
        )


@_compiled()
def _add_sizes(t: Any, parts: Vector) -> None:
    """The same of absolute values."""
    for at in range(t.shape[1]):
        a, b, c, d = abs(t[0, at]), abs(t[1, at]), abs(t[2, at]), abs(t[3, at])
        e, f, g, h = abs(t[4, at]), abs(t[5, at]), abs(t[6, at]), abs(t[7, at])
        parts[at] = _eight(a, b, c, d, e, f, g, h)


@_compiled()
def _running(values: Vector) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


@_compiled()
def _mean(eighths: Any, parts: Vector, n_values: int) -> float:
    """``valid_samples.means`` of values that lie in eighths."""
    _add_eighths(eighths, parts)
    a = b = c = d = e = f = g = h = 0.0
    for at in range(0, parts.size, 8):
        a += parts[at]
        b += parts[at + 1]
        c += parts[at + 2]
        d += parts[at + 3]
        e += parts[at + 4]
        f += parts[at + 5]
        g += parts[at + 6]
        h += parts[at + 7]
    total: float = _eight(a, b, c, d, e, f, g, h)
    return total / n_values


@_compiled()
def _by_fours(values: Vector) -> float:
    """``sums.by_fours``."""
    a = b = c = d = 0.0
    left = values.size % 4
    stop = values.size - left
    for at in range(0, stop, 4):
        a += values[at]
        b += values[at + 1]
        c += values[at + 2]
        d += values[at + 3]
    a += values[stop] if left > 0 else 0.0
    b += values[stop + 1] if left > 1 else 0.0
    c += values[stop + 2] if left > 2 else 0.0
    return (a + b) + (c + d)


@_compiled()
def _add_powers(y: Any, parts: Matrix) -> None:
    """The first rows: y^2, y^3, y^4 and abs y, added over eight parts; last least and largest."""
    square, cube, fourth, size, low, high = (
        parts[0], parts[1], parts[2], parts[3], parts[8], parts[9]
    )  # fmt: skip
    for at in range(y.shape[1]):
        a, b, c, d = y[0, at], y[1, at], y[2, at], y[3, at]
        e, f, g, h = y[4, at], y[5, at], y[6, at], y[7, at]
        low[at] = min(a, b, c, d, e, f, g, h)
        high[at] = max(a, b, c, d, e, f, g, h)
        size[at] = _eight(abs(a), abs(b), abs(c), abs(d), abs(e), abs(f), abs(g), abs(h))
        a2, b2, c2, d2, e2, f2, g2, h2 = a * a, b * b, c * c, d * d, e * e, f * f, g * g, h * h
        square[at] = _eight(a2, b2, c2, d2, e2, f2, g2, h2)
        cube[at] = _eight(a2 * a, b2 * b, c2 * c, d2 * d, e2 * e, f2 * f, g2 * g, h2 * h)
        fourth[at] = _eight(a2 * a2, b2 * b2, c2 * c2, d2 * d2, e2 * e2, f2 * f2, g2 * g2, h2 * h2)


@_compiled()
def _last_sums(parts: Matrix, totals: Vector) -> None:
    """The sums of eight rows, and the range of the last two."""
    a = b = c = d = e = f = g = h = low = high = 0.0
    for at in range(parts.shape[1]):
        a += parts[0, at]
        b += parts[1, at]
        c += parts[2, at]
        d += parts[3, at]
        e += parts[4, at]
        f += parts[5, at]
        g += parts[6, at]
        h += parts[7, at]
        low = min(low, parts[8, at])
        high = max(high, parts[9, at])
    for row, total in enumerate((a, b, c, d, e, f, g, h, high - low)):
        totals[row] = total


@_compiled()
def _ratio(numerator: float, denominator: float) -> float:
    """``temporal._ratio``."""
    return numerator / (1.0 if denominator == 0 else denominator)


@_compiled()
def _of_moments(
    mean: float, totals: Vector, crossings: int, n_times: int, features: Vector
) -> None:
    """``temporal.FEATURES``, from what ``temporal._totals`` are."""
    n, n_steps, n_bends = n_times, max(n_times - 1, 1), max(n_times - 2, 1)
    variance, third, fourth = totals[0] / n, totals[1] / n, totals[2] / n
    step_variance, bend_variance = totals[5] / n_steps, totals[6] / n_bends
    features[0] = mean
    features[1] = np.sqrt(variance)
    features[2] = np.sqrt(variance + mean * mean)
    features[3] = totals[8] if np.isfinite(mean) else np.nan  # min and max pass over a NaN
    features[4] = _ratio(third, variance * np.sqrt(variance))
    features[5] = _ratio(fourth, variance * variance)
    features[6] = totals[4] / n_steps
    features[7] = crossings
    features[8] = np.sqrt(_ratio(step_variance, variance))
    features[9] = _ratio(np.sqrt(bend_variance * variance), step_variance)
    features[10] = totals[3] / n
    features[11] = totals[7] / n_bends


@_compiled(f"void({SIGNALS}, float64[:, ::1])")
def temporal_features(signals: NDArray[np.float32], features: Matrix) -> None:
    """``temporal._features``, into float64 (signal, feature)."""
    n_signals, n_times = signals.shape
    width = _eighth(n_times)
    n_padded, last = 8 * width, n_times - 1
    n_steps, n_bends = n_times - 1, max(n_times - 2, 0)
    terms, parts, totals = np.zeros((4, n_padded)), np.empty((10, width)), np.empty(9)
    eighths = terms.reshape(4, 8, width)
    step, step2, bend2, teager = terms[0], terms[1], terms[2], terms[3]
    step1 = terms.reshape(4 * n_padded)[1 : n_padded + 1]
    padded = np.zeros((2, n_padded + 2))
    x, x1 = padded[0, :n_padded], padded[0, 1:]
    y, y1, y2 = padded[1, :n_padded], padded[1, 1:], padded[1, 2:]
    x_eighths, y_eighths = x.reshape(8, width), y.reshape(8, width)
    for row in range(n_signals):
        samples = signals[row]
        for t in range(n_times):
            x[t] = samples[t]
        mean = _mean(x_eighths, parts[0], n_times)
        for t in range(n_times):
            y[t] = x[t] - mean
        mean_step = (x[last] - x[0]) / max(n_steps, 1)
        # Loops over the padding too, a multiple of what is computed at once, leave no rest to do
        # one by one. One loop for all would want more checks of overlap than LLVM makes.
        for t in range(n_padded):
            d = x1[t] - x[t]
            step[t] = d
            step2[t] = (d - mean_step) * (d - mean_step)
        crossings = 0
        for t in range(n_padded):
            crossings += (y[t] < 0) != (y1[t] < 0)
        crossings -= y[last] < 0  # to the padding
        mean_bend = ((x[last] - x[last - 1]) - (x[1] - x[0])) / n_bends if n_bends > 0 else 0.0
        for t in range(n_padded):
            e = (step1[t] - step[t]) - mean_bend
            bend2[t] = e * e
        for t in range(n_padded):
            teager[t] = y1[t] * y1[t] - y[t] * y2[t]
        for term in (step, step2):
            term[n_steps:] = 0.0
        for term in (bend2, teager):
            term[n_bends:] = 0.0
        _add_powers(y_eighths, parts)
        _add_sizes(eighths[0], parts[4])
        for number in range(1, 4):
            _add_eighths(eighths[number], parts[4 + number])
        _last_sums(parts, totals)
        _of_moments(mean, totals, crossings, n_times, features[row])


@_compiled()
def _larger(a: float, b: float) -> float:
    return a if a > b else b


@_compiled()
def _peak(eighths: Any, power: Vector, parts: Vector) -> int:
    """The first bin of most power, none being below 0."""
    for at in range(eighths.shape[1]):
        a, b = _larger(eighths[0, at], eighths[4, at]), _larger(eighths[2, at], eighths[6, at])
        c, d = _larger(eighths[1, at], eighths[5, at]), _larger(eighths[3, at], eighths[7, at])
        parts[at] = _larger(_larger(a, b), _larger(c, d))
    top = 0.0
    for part in parts:
        top = _larger(part, top)
    peak = 0
    while power[peak] != top and peak < power.size - 1:
        peak += 1
    return peak


@_compiled()
def _below(power: Vector, n_bins: int, edge: float, up_to: Vector) -> int:
    """``spectral._below``, of one signal; power has zeros after its bins, ``up_to`` one first.

    Nothing is left early: the processor cannot foresee where, and would begin anew.
    """
    cumulative, fours = 0.0, 0
    for four in range(n_bins // 4):
        at = 4 * four
        cumulative += (power[at] + power[at + 1]) + (power[at + 2] + power[at + 3])
        up_to[four + 1] = cumulative
        fours += cumulative < edge
    below = 4 * fours
    a = up_to[fours] + power[below]
    b = a + power[below + 1]
    c = b + power[below + 2]
    d = c + power[below + 3]
    ones: int = (a < edge) + (b < edge) + (c < edge) + (d < edge)
    return min(below + ones, n_bins - 1)


@_compiled(f"void({SIGNALS}, float64[::1], float64[:, ::1])")
def centred_and_tapered(signals: NDArray[np.float32], taper: Vector, result: Matrix) -> None:
    """``spectral._tapered``, into float64 (signal, time)."""
    n_times = signals.shape[1]
    width = _eighth(n_times)
    samples, parts = np.zeros(8 * width), np.empty(width)
    eighths = samples.reshape(8, width)
    for row in range(signals.shape[0]):
        x, made = signals[row], result[row]
        for t in range(n_times):
            samples[t] = x[t]
        mean = _mean(eighths, parts, n_times)
        for t in range(n_times):
            made[t] = (samples[t] - mean) * taper[t]


@_compiled(
    "void(complex128[:, ::1], int64, int64[:, ::1], float64[::1], float64[::1], float64, float64,"
    "float64, float64[:, ::1])"
)
def spectral_features(
    spectrum: NDArray[np.complex128], first: int, bands: NDArray[np.int64], freqs: Vector,
    weights: Vector, most_entropy: float, edge: float, rounding: float, features: Matrix,
) -> None:  # fmt: skip
    """``spectral._features`` from the spectrum on, into float64 (signal, feature)."""
    n_bands, n_bins = len(bands), len(weights)
    width = _eighth(n_bins)
    padded, parts, floored = np.zeros((4, 8 * width)), np.empty((3, width)), np.empty(n_bins + 1)
    power, plogp, slope = padded[0, :n_bins], padded[2], padded[3]  # zeros go on after the power
    eighths, up_to = padded.reshape(4, 8, width), np.zeros(n_bins // 4 + 1)
    bits = floored.view(np.uint64)
    exponents, fractions = np.empty((2, n_bins + 1), np.uint64)
    exponent, fraction = exponents.view(np.float64), fractions.view(np.float64)
    for row in range(len(spectrum)):
        bins = spectrum[row, first : first + n_bins]
        for at in range(n_bins):
            power[at] = bins[at].real * bins[at].real + bins[at].imag * bins[at].imag
        _add_eighths(eighths[0], parts[0])
        total = _running(parts[0])
        scale = total if total != 0 else 1.0
        floored[n_bins] = scale
        floor = rounding * scale
        for at in range(n_bins):
            floored[at] = power[at] if power[at] > floor else floor
        for at in range(n_bins + 1):
            exponents[at], fractions[at] = _exponent(bits[at]), _fraction(bits[at])
        # Apart from the products: together they are not vectorised, for the same reason as above.
        for at in range(n_bins + 1):
            floored[at] = _log(exponent[at], fraction[at])
        for at in range(n_bins):
            plogp[at] = power[at] * floored[at]
            slope[at] = weights[at] * floored[at]
        _add_eighths(eighths[2], parts[1])
        _add_eighths(eighths[3], parts[2])
        made, sign = features[row], 1.0 if total > 0 else total
        for band in range(n_bands):
            of_band = _by_fours(power[bands[band, 0] : bands[band, 1]])
            made[band], made[n_bands + band] = of_band, of_band / scale
        entropy = (floored[n_bins] - _running(parts[1]) / scale) / most_entropy
        made[2 * n_bands] = entropy * sign
        made[2 * n_bands + 1] = freqs[_peak(eighths[0], power, parts[0])] * sign
        made[2 * n_bands + 2] = freqs[_below(padded[0], n_bins, edge * total, up_to)] * sign
        made[2 * n_bands + 3] = _running(parts[2]) * sign
