"""Labels as sources read them from arrays of numbers."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError

MAX_LABEL: Final = 2**53  # up to here a float64 holds every integer


def whole_labels(where: str, values: NDArray[Any]) -> NDArray[np.int64]:
    """int64, (trial,): labels, from any numbers that are whole.

    Raises
    ------
    InputError
        Where a number is no whole label; names ``where`` and the row.
    """
    # The limit is beyond float16, in which it would be infinite.
    numbers = values.astype(np.float64) if values.dtype.kind == "f" else values
    wrong = ~((numbers >= -1) & (numbers <= MAX_LABEL) & (numbers == np.trunc(numbers)))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{where}: row {row} is {values[row]}, expected a whole number from 0 to 2**53, or -1 "
            "for none (rows count from 0)"
        )
    return values.astype(np.int64)
