"""Pairs of trials and stimuli that are chosen together: entropic coupling and assignment."""

from __future__ import annotations

from typing import Final

import numpy as np

from eegstore import InputError
from eegstore_plugins.nearness import Numbers, Values

MAX_VALUES: Final = 1 << 27
MAX_ROUNDS: Final = 1000
TOLERANCE: Final = 1e-4
# The smallest exponent whose power of e is no 0 in double precision, and has an inverse.
LOWEST: Final = -700.0


def sinkhorn(similarity: Values, temperature: float) -> Values:
    """The coupling of most entropy in which each trial has one share, and each stimulus as much.

    Cuturi 2013, Sinkhorn distances: lightspeed computation of optimal transport.

    Parameters
    ----------
    similarity
        float64, (trial, stimulus); it is overwritten.
    temperature
        What similarities are divided by.

    Returns
    -------
    float64, (trial, stimulus): each row sums to 1, each column to trials / stimuli.

    Raises
    ------
    InputError
        Where it does not settle.
    """
    n_trials, n_stimuli = similarity.shape
    kernel = similarity
    kernel -= kernel.max(axis=1, keepdims=True)
    kernel /= temperature
    np.exp(np.maximum(kernel, LOWEST, out=kernel), out=kernel)
    share = n_trials / n_stimuli
    of_stimulus = np.ones(n_stimuli)
    for _ in range(MAX_ROUNDS):
        of_trial = 1 / (kernel @ of_stimulus)
        total = (of_trial @ kernel) * of_stimulus
        off = np.abs(total / share - 1).max()
        if off < TOLERANCE:
            kernel *= of_trial[:, np.newaxis]
            kernel *= of_stimulus
            return kernel
        of_stimulus *= share / total
    raise InputError(
        f"[pairing] Sinkhorn's coupling is still {off:.0%} off after {MAX_ROUNDS} rounds, expected "
        f"{TOLERANCE:g}; raise temperature, which is {temperature:g}"
    )


def assignment(similarity: Values, capacity: int) -> Numbers:
    """int64, (trial,): the stimulus of each trial so that the similarities' sum is largest.

    No stimulus has more trials than ``capacity``; where that leaves too few, trials have -1.
    Crouse 2016, On implementing 2D rectangular assignment algorithms, as in scipy.
    """
    from scipy.optimize import linear_sum_assignment

    places = np.repeat(similarity, capacity, axis=1) if capacity > 1 else similarity
    trials, chosen = linear_sum_assignment(places, maximize=True)
    stimulus = np.full(len(similarity), -1, dtype=np.int64)
    stimulus[trials] = chosen // capacity
    return stimulus


def capacity_of(n_trials: int, n_stimuli: int) -> int:
    """The fewest trials a stimulus has to take so that none is left."""
    return -(-n_trials // n_stimuli)
