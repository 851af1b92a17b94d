"""What is done to signals as they are read: repetitions averaged, amplitudes normalised."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from eegstore.tables import is_whole

# A channel whose deviation is below this part of its mean is flat: the rest is rounding.
FLAT: Final = 1e-6


@dataclass(frozen=True, eq=False)
class Scale:
    """Mean and standard deviation of each channel, by which signals are normalised.

    Parameters
    ----------
    mean, std
        float32, (channel,): in the unit of the signals.
    ch_names
        Of these channels.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    ch_names: tuple[str, ...]

    @classmethod
    def of(
        cls,
        blocks: Iterable[tuple[NDArray[np.float32], NDArray[np.int64]]],
        ch_names: Sequence[str],
    ) -> Self | None:
        """Over all trials of blocks; None where there are none.

        Parameters
        ----------
        blocks
            Signals, float32 (trial, channel, time), each with its number of valid samples, int64
            (trial,). They are merged by Chan, Golub and LeVeque (1979).
        ch_names
            Of their channels.
        """
        n, mean, squares = 0, np.zeros(1), np.zeros(1)  # those of the channels, once there are any
        for eeg, n_valid in blocks:
            signals = np.moveaxis(eeg, 1, 0)[:, _is_valid(eeg, n_valid)].astype(np.float64)
            n_here = signals.shape[1]
            if not n_here:
                continue
            mean_here = signals.mean(axis=1)
            apart = mean_here - mean
            squares = squares + ((signals - mean_here[:, np.newaxis]) ** 2).sum(axis=1)
            squares = squares + apart**2 * n * n_here / (n + n_here)
            mean = mean + apart * n_here / (n + n_here)
            n += n_here
        if not n:
            return None
        std = np.sqrt(squares / n).astype(np.float32)
        divisor = _divisor(mean.astype(np.float32), std)
        return cls(mean.astype(np.float32), divisor, tuple(ch_names))

    def apply(self, eeg: NDArray[np.float32]) -> None:
        """Normalise float32, (trial, channel, time), in place."""
        eeg -= self.mean[:, np.newaxis]
        eeg /= self.std[:, np.newaxis]


def normalize_trials(eeg: NDArray[np.float32], n_valid: NDArray[np.int64]) -> None:
    """Give each channel of each trial mean 0 and standard deviation 1, in place.

    A flat channel, and the padding behind a trial's valid samples, become 0.

    Parameters
    ----------
    eeg
        float32, (trial, channel, time).
    n_valid
        int64, (trial,).
    """
    n_times = eeg.shape[-1]
    is_padded = n_valid.min(initial=n_times) < n_times
    where: Any = _is_valid(eeg, n_valid)[:, np.newaxis] if is_padded else True
    n_samples = np.clip(n_valid, 1, n_times).astype(np.float32)[:, np.newaxis, np.newaxis]
    mean = eeg.sum(axis=-1, keepdims=True, where=where) / n_samples
    eeg -= mean
    std = np.sqrt(np.square(eeg).sum(axis=-1, keepdims=True, where=where) / n_samples)
    eeg /= _divisor(mean, std)
    if is_padded:
        eeg *= where


def _is_valid(eeg: NDArray[np.float32], n_valid: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(trial, time)."""
    found: NDArray[np.bool_] = np.arange(eeg.shape[-1]) < n_valid[:, np.newaxis]
    return found


def _divisor(mean: NDArray[np.float32], std: NDArray[np.float32]) -> NDArray[np.float32]:
    """The deviation; 1 for what is flat."""
    return np.where(std > FLAT * np.abs(mean), std, np.float32(1))


class Repetitions:
    """The trials that show one stimulus to one subject in one split, taken together.

    Parameters
    ----------
    rows
        int64, (trial,): the trials, as rows of the store.
    *same
        What the trials of one group have in common; each (trial,).

    Attributes
    ----------
    first
        int64, (group,): the first trial of each, in their order.
    """

    def __init__(self, rows: NDArray[np.int64], *same: NDArray[Any]) -> None:
        codes = [np.unique(values, return_inverse=True)[1] for values in same]
        _, first, group = np.unique(
            np.stack(codes, axis=1), axis=0, return_index=True, return_inverse=True
        )
        by_first = np.argsort(first)
        rank = np.argsort(by_first)[group.reshape(-1)]
        order = np.argsort(rank, kind="stable")
        self.first = rows[first[by_first]]
        self._members = rows[order]
        self._counts = np.bincount(rank, minlength=len(first))
        self._starts = np.cumsum(self._counts) - self._counts

    def members(self, groups: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The trials of groups, one group behind the other, and how many each has."""
        counts = self._counts[groups]
        ends = np.cumsum(counts)
        steps = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
        return self._members[np.repeat(self._starts[groups], counts) + steps], counts


def averaged(
    values: NDArray[Any], counts: NDArray[np.int64], out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """The means of runs of rows.

    Parameters
    ----------
    values
        Floating, (row, …).
    counts
        int64, (run,): rows of each run; none is empty.
    """
    if not len(counts):
        return np.empty((0, *values.shape[1:]), values.dtype) if out is None else out
    starts = np.cumsum(counts) - counts
    sums = np.add.reduceat(values, starts, axis=0, out=out)
    sums /= counts.reshape(-1, *[1] * (values.ndim - 1))
    found: NDArray[Any] = sums
    return found


def chosen_channels(names: Sequence[str], wanted: Sequence[str | int]) -> list[int]:
    """Numbers of the channels that are named, or numbered.

    Raises
    ------
    KeyError
        With the first that is not there.
    """
    places = {name: number for number, name in enumerate(names)}
    numbers = range(len(names))
    found = []
    for channel in wanted:
        number = places.get(channel, -1) if isinstance(channel, str) else channel
        if not is_whole(number) or number not in numbers:  # a mask is of no numbers
            raise KeyError(channel)
        found.append(int(number))
    return found
