"""Compiled loops over signals: the sums of ``temporal`` and ``spectral``, in few passes.

Only where numba is installed is this module imported. Each loop gives the very bytes of the numpy
function that its docstring names: every sum has the order of ``sums.totals`` or
``sums.running``, and nothing may be contracted or reordered (no fastmath).
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

# Trials may come from a mapped file, which cannot be written.
SIGNALS: Final = "Array(float32, 2, 'C', readonly=True)"


def _compiled(signature: str | None = None) -> Callable[[Loop], Loop]:
    jitted: Any = numba.njit(
        signature, nogil=True, cache=True, error_model="numpy", forceinline=signature is None
    )
    return jitted  # type: ignore[no-any-return]


_eighth = _compiled()(sums.eighth)
_exponent = _compiled()(logarithms.exponent_bits)
_fraction = _compiled()(logarithms.fraction_bits)
_log = _compiled()(logarithms.log_of_parts)


@_compiled()
def _eight(a: float, b: float, c: float, d: float, e: float, f: float, g: float, h: float) -> float:
    return ((a + e) + (c + g)) + ((b + f) + (d + h))


@_compiled()
def _add_eighths(t: Any, parts: Vector) -> None:
    """Add float64 (part, value) over its eight parts."""
    for at in range(t.shape[1]):
        parts[at] = _eight(
            t[0, at], t[1, at], t[2, at], t[3, at], t[4, at], t[5, at], t[6, at], t[7, at]
        )


@_compiled()
def _running(values: Vector) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


@_compiled()
def _by_fours(values: Vector, start: int, stop: int) -> float:
    """``sums.by_fours`` of a range."""
    a = b = c = d = 0.0
    left = max(stop - start, 0) % 4
    for at in range(start, stop - left, 4):
        a += values[at]
        b += values[at + 1]
        c += values[at + 2]
        d += values[at + 3]
    a += values[stop - left] if left > 0 else 0.0
    b += values[stop - left + 1] if left > 1 else 0.0
    c += values[stop - left + 2] if left > 2 else 0.0
    return (a + b) + (c + d)


@_compiled()
def _means(signals: NDArray[np.float32], means: Vector) -> None:
    """``valid_samples.means``."""
    n_signals, n_times = signals.shape
    width = _eighth(n_times)
    samples, parts = np.zeros(8 * width), np.empty(width)
    eighths = samples.reshape(8, width)
    for row in range(n_signals):
        for t in range(n_times):
            samples[t] = signals[row, t]
        _add_eighths(eighths, parts)
        means[row] = _running(parts) / n_times


@_compiled()
def _add_powers(y: Any, parts: Matrix) -> None:
    """The first rows: y^2, y^3, y^4 and abs y, added over eight parts; then least and largest."""
    square, cube, fourth, size, low, high = (
        parts[0], parts[1], parts[2], parts[3], parts[9], parts[10]
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
def _last_sums(parts: Matrix, totals: Matrix, column: int) -> None:
    """The sums of nine rows, and the range of the last two, into a column after its first row."""
    a = b = c = d = e = f = g = h = i = low = high = 0.0
    for at in range(parts.shape[1]):
        a += parts[0, at]
        b += parts[1, at]
        c += parts[2, at]
        d += parts[3, at]
        e += parts[4, at]
        f += parts[5, at]
        g += parts[6, at]
        h += parts[7, at]
        i += parts[8, at]
        low = min(low, parts[9, at])
        high = max(high, parts[10, at])
    for row, total in enumerate((a, b, c, d, e, f, g, h, i, high - low)):
        totals[1 + row, column] = total


@_compiled(f"void({SIGNALS}, float64[:, ::1])")
def temporal_totals(signals: NDArray[np.float32], totals: Matrix) -> None:
    """``temporal.totals``, into float64 (total, signal)."""
    n_signals, n_times = signals.shape
    width = _eighth(n_times)
    terms, parts = np.zeros((7, 8 * width)), np.empty((11, width))
    eighths = terms.reshape(7, 8, width)
    x, x1, x2 = terms[6], terms[6, 1:], terms[6, 2:]
    y, y1, y2 = terms[0], terms[0, 1:], terms[0, 2:]
    step, step2, bend2, teager, crossing = terms[1], terms[2], terms[3], terms[4], terms[5]
    n_steps, n_bends, end = n_times - 1, n_times - 2, n_times - 1
    for row in range(n_signals):
        samples = signals[row]
        for t in range(n_times):
            x[t] = samples[t]
        _add_eighths(eighths[6], parts[0])
        mean = _running(parts[0]) / n_times
        for t in range(n_times):
            y[t] = x[t] - mean
        mean_step = (x[end] - x[0]) / max(n_steps, 1)
        # One loop for all would want more checks of overlap than LLVM makes to vectorise it.
        for t in range(n_steps):
            d = x1[t] - x[t]
            step[t] = abs(d)
            step2[t] = (d - mean_step) * (d - mean_step)
        for t in range(n_steps):
            crossing[t] = 1.0 if (y[t] < 0) != (y1[t] < 0) else 0.0
        mean_bend = ((x[end] - x[end - 1]) - (x[1] - x[0])) / n_bends if n_bends > 0 else 0.0
        for t in range(n_bends):
            e = ((x2[t] - x1[t]) - (x1[t] - x[t])) - mean_bend
            bend2[t] = e * e
        for t in range(n_bends):
            teager[t] = y1[t] * y1[t] - y[t] * y2[t]
        _add_powers(eighths[0], parts)
        for term in range(1, 6):
            _add_eighths(eighths[term], parts[3 + term])
        totals[0, row] = mean
        _last_sums(parts, totals, row)


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
def _edge(power: Vector, edge: float) -> int:
    """The lowest bin up to which there is so much power."""
    below, cumulative = 0, power[0]
    while cumulative < edge and below < power.size - 1:
        below += 1
        cumulative += power[below]
    return below


@_compiled(f"void({SIGNALS}, float64[::1], float64[:, ::1])")
def centred_and_tapered(signals: NDArray[np.float32], taper: Vector, result: Matrix) -> None:
    """``spectral._tapered``, into float64 (signal, time)."""
    means = np.empty(len(signals))
    _means(signals, means)
    for row in range(signals.shape[0]):
        x, made, mean = signals[row], result[row], means[row]
        for t in range(signals.shape[1]):
            made[t] = (x[t] - mean) * taper[t]


@_compiled(
    "void(complex128[:, ::1], int64, int64[:, ::1], float64[::1], float64, float64, float64[:, :])"
)
def spectral_totals(
    spectrum: NDArray[np.complex128], first: int, bands: NDArray[np.int64], weights: Vector,
    edge: float, rounding: float, totals: Matrix,
) -> None:  # fmt: skip
    """``spectral._power``, ``spectral._power_totals`` and ``spectral._log_totals``."""
    n_bands, n_bins = len(bands), len(weights)
    width = _eighth(n_bins)
    padded, parts, floored = np.zeros((3, 8 * width)), np.empty((3, width)), np.empty(n_bins + 1)
    power, plogp, slope = padded[0, :n_bins], padded[1], padded[2]
    eighths = padded.reshape(3, 8, width)
    bits = floored.view(np.uint64)
    exponents, fractions = np.empty((2, n_bins + 1), np.uint64)
    exponent, fraction = exponents.view(np.float64), fractions.view(np.float64)
    for row in range(len(spectrum)):
        bins = spectrum[row, first : first + n_bins]
        for at in range(n_bins):
            power[at] = bins[at].real * bins[at].real + bins[at].imag * bins[at].imag
        _add_eighths(eighths[0], parts[0])
        total = _running(parts[0])
        floored[n_bins] = total if total != 0 else 1.0
        floor = rounding * floored[n_bins]
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
        _add_eighths(eighths[1], parts[1])
        _add_eighths(eighths[2], parts[2])
        for band in range(n_bands):
            totals[band, row] = _by_fours(power, bands[band, 0], bands[band, 1])
        totals[n_bands, row] = total
        totals[n_bands + 1, row] = _peak(eighths[0], power, parts[0])
        totals[n_bands + 2, row] = _edge(power, edge * total)
        totals[n_bands + 3, row] = floored[n_bins]
        totals[n_bands + 4, row] = _running(parts[1])
        totals[n_bands + 5, row] = _running(parts[2])
