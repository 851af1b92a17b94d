"""The images of a store, read again from the provider's own files as far as they can be."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from eegstore.errors import EegStoreError
from eegstore.store import Store

TRIED: Final = 3


class Images:
    """Reads images of a store one by one: what cannot be read is told, and stops nothing.

    Where the first three cannot, the provider itself is gone. No more are tried then: each would
    look for it again.

    Parameters
    ----------
    store
        The store.

    Attributes
    ----------
    lost
        Row of ``stimuli`` of each image that could not be read, and why.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._was_read = False
        self.lost: dict[int, EegStoreError] = {}

    @property
    def none_read(self) -> bool:
        """Whether images were asked for, and none of them could be read."""
        return bool(self.lost) and not self._was_read

    @property
    def is_gone(self) -> bool:
        """Whether no more are tried."""
        return self.none_read and len(self.lost) >= TRIED

    @property
    def problem(self) -> EegStoreError | None:
        """Why the first of those that are lost could not be read."""
        return next(iter(self.lost.values()), None)

    def read(self, stimulus: int) -> NDArray[np.uint8] | None:
        """uint8, (y, x, 3): the image of a row of ``stimuli``; None where it cannot be read."""
        if self.is_gone and self.problem is not None:
            self.lost.setdefault(stimulus, self.problem)
            return None
        try:
            image = self._store.image(stimulus)
        except EegStoreError as error:
            self.lost[stimulus] = error
            return None
        self._was_read = True
        return image
