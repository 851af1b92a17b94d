"""Logarithms in one order of operations, so that numpy and compiled loops give the same bytes.

They are those of any machine: a C library's differ in the last bit. The number is cut into a power
of 2 and a fraction m from sqrt(1/2) to sqrt(2), whose logarithm is 2 atanh((m - 1) / (m + 1)), by
six terms of its series. The error is below 2e-11, a thousandth of what float32 features resolve;
more terms would cost time alone.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LN2: Final = 0.6931471805599453

FRACTION_BITS: Final = np.uint64(52)
FRACTION: Final = np.uint64((1 << 52) - 1)
# Bits of the float64 below sqrt(1/2), and from there to 1.
HALF_ROOT: Final = np.uint64(0x3FE6A09E00000000)
TO_ONE: Final = np.uint64(0x3FF0000000000000 - 0x3FE6A09E00000000)
# An integer in the last bits of 2 to the power of 52 is added to it.
INTEGER: Final = np.uint64(0x4330000000000000)
BIAS: Final = float(1 << 52) + 1023.0


def exponent_bits(bits: Any) -> Any:
    """From the bits of a float64, as uint64, to those of ``BIAS`` plus the power of 2."""
    return ((bits + TO_ONE) >> FRACTION_BITS) | INTEGER


def fraction_bits(bits: Any) -> Any:
    """From the bits of a float64, as uint64, to those of its fraction."""
    return ((bits + TO_ONE) & FRACTION) + HALF_ROOT


def log_of_parts(exponent: Any, fraction: Any) -> Any:
    """The natural logarithm, from both parts, float64."""
    s = (fraction - 1.0) / (fraction + 1.0)
    z = s * s
    series = 2.0 + z * (2 / 3 + z * (2 / 5 + z * (2 / 7 + z * (2 / 9 + z * (2 / 11)))))
    return (exponent - BIAS) * LN2 + s * series


def log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The natural logarithm of float64 values above 0 (normal ones; others give nonsense)."""
    bits = values.view(np.uint64)
    parts = exponent_bits(bits).view(np.float64), fraction_bits(bits).view(np.float64)
    logs: NDArray[np.float64] = log_of_parts(*parts)
    return logs
