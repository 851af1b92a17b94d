"""Sums of products of features and targets, part by part, in one pass over the trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from eegstore_plugins.cores import Background
from eegstore_plugins.targets import Paired

Values = NDArray[np.float64]
Singles = NDArray[np.float32]

BUFFER_BYTES: Final = 1 << 26
FIRST: Final = 256  # trials


@dataclass(eq=False)
class Sums:
    """Weighted sums over some trials of features x and targets y, both less an origin.

    Parameters
    ----------
    n
        Sum of the weights.
    x, y
        float64, (feature,) and (embedding,).
    xx, xy
        float64, (feature, feature) and (feature, embedding): of products.
    yy
        float64, (embedding, embedding); or of squares alone, (embedding,).
    """

    n: float
    x: Values
    y: Values
    xx: Values
    xy: Values
    yy: Values

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.n + other.n, self.x + other.x, self.y + other.y, self.xx + other.xx,
            self.xy + other.xy, self.yy + other.yy,
        )  # fmt: skip


Buffer = tuple[NDArray[Any], ...]  # of features, targets, parts and weights


class Gram:
    """Collects trials, and adds them to the sums of their part, many at a time.

    Products are made in single precision, of some thousand trials less the median of the first of
    them, and added in double, while the next trials are read. The result depends on the trials'
    order alone, not on how they come in blocks. It is used in a ``with``, at whose end all are
    added.

    Parameters
    ----------
    of_targets
        Whether the targets' products with one another are wanted too, or their squares alone.
    """

    def __init__(self, of_targets: bool = False) -> None:
        self.parts: dict[int, Sums] = {}
        self.origin: tuple[Singles, ...] | None = None
        self._of_targets = of_targets
        self._buffer: Buffer | None = None
        self._n_held = 0
        self._background = Background()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, cls: type[BaseException] | None, *error: object) -> None:
        try:
            if cls is None and self._n_held:
                self._flush()
            self._background.wait()
        finally:
            self._buffer = None
            self._background.close()

    def add(self, features: Singles, paired: Paired) -> None:
        """Take some trials: float32, (row, feature), and what they are paired with."""
        given: Buffer = (features, paired.target, paired.part, paired.weight)
        taken = 0
        while taken < len(features):
            if self._buffer is None:
                self._buffer = _buffer(features.shape[1], paired.target.shape[1])
            n = min(len(self._buffer[0]) - self._n_held, len(features) - taken)
            for held, values in zip(self._buffer, given, strict=True):
                held[self._n_held : self._n_held + n] = values[taken : taken + n]
            self._n_held, taken = self._n_held + n, taken + n
            if self._n_held == len(self._buffer[0]):
                self._flush()

    def _flush(self) -> None:
        """Have the trials added that are held; the ones before them are, when this returns."""
        assert self._buffer is not None
        x, y, part, weight = (held[: self._n_held] for held in self._buffer)
        if self.origin is None:
            # The mean would follow a single trial that is far from all others.
            self.origin = tuple(np.median(values[:FIRST], axis=0) for values in (x, y))
        self._background.wait()
        for number in np.unique(part).tolist():
            rows = np.flatnonzero(part == number)
            if number not in self.parts:
                self.parts[number] = self._empty(x.shape[1], y.shape[1])
            self._background.call(self._add_rows, self.parts[number], x, y, weight, rows)
        self._buffer, self._n_held = None, 0

    def _add_rows(
        self, sums: Sums, x: Singles, y: Singles, weight: Values, rows: NDArray[np.int64]
    ) -> None:
        assert self.origin is not None
        x, y, weight = x[rows] - self.origin[0], y[rows] - self.origin[1], weight[rows]
        sums.n += float(weight.sum())
        sums.x += weight @ x
        sums.y += weight @ y
        if not (weight == 1).all():
            root = np.sqrt(weight).astype(np.float32)[:, np.newaxis]
            x, y = x * root, y * root
        sums.xx += x.T @ x
        sums.xy += x.T @ y
        sums.yy += y.T @ y if self._of_targets else np.square(y, dtype=np.float64).sum(axis=0)

    def _empty(self, n_features: int, width: int) -> Sums:
        zeros = np.zeros
        return Sums(
            0.0, zeros(n_features), zeros(width), zeros((n_features, n_features)),
            zeros((n_features, width)), zeros((width, width) if self._of_targets else width),
        )  # fmt: skip


def _buffer(n_features: int, width: int) -> Buffer:
    """Room for some trials: features, targets, parts and weights."""
    n = max(256, BUFFER_BYTES // (4 * (n_features + width)))
    return (
        np.empty((n, n_features), np.float32), np.empty((n, width), np.float32),
        np.empty(n, np.int64), np.empty(n),
    )  # fmt: skip
