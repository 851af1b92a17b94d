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
    wrong = ~((values >= -1) & (values <= MAX_LABEL) & (values == np.trunc(values)))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{where}: row {row} is {values[row]}, expected a whole label, or -1 for none"
        )
    return values.astype(np.int64)
