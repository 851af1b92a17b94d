"""Logarithms in one order of operations, so that numpy and compiled loops give the same bytes.

They are those of any machine: a C library's differ in the last bit. The number is cut into a power
of 2 and a fraction from sqrt(1/2) to sqrt(2), as FreeBSD's msun does it (e_log.c, K. C. Ng 1993:
log(1 + f) = f - s (f - R) with s = f / (2 + f) and R a polynomial in s squared); the error is
below one unit of the last place.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LN2_HIGH: Final = 6.93147180369123816490e-01
LN2_LOW: Final = 1.90821492927058770002e-10
LG1: Final = 6.666666666666735130e-01
LG2: Final = 3.999999999940941908e-01
LG3: Final = 2.857142874366239149e-01
LG4: Final = 2.222219843214978396e-01
LG5: Final = 1.818357216161805012e-01
LG6: Final = 1.531383769920937332e-01
LG7: Final = 1.479819860511658591e-01

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
    k, f = exponent - BIAS, fraction - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    odd = z * (LG1 + w * (LG3 + w * (LG5 + w * LG7)))
    even = w * (LG2 + w * (LG4 + w * LG6))
    half = 0.5 * f * f
    return k * LN2_HIGH - ((half - (s * (half + (odd + even)) + k * LN2_LOW)) - f)


def log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The natural logarithm of float64 values above 0 (normal ones; others give nonsense)."""
    bits = values.view(np.uint64)
    parts = exponent_bits(bits).view(np.float64), fraction_bits(bits).view(np.float64)
    logs: NDArray[np.float64] = log_of_parts(*parts)
    return logs
