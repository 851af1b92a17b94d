"""How much better than chance predictions are, where trials are not independent of each other."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

N_PERMUTATIONS: Final = 1999
ENOUGH: Final = 10  # as many permutations that score as well say that it is chance
MOST_TRIALS: Final = 20_000
LEAST_CLUSTERS: Final = 500  # of fewer no permutation is rare
Codes = NDArray[np.int64]


class Clusters(NamedTuple):
    """Trials that stand or fall together: what is predicted is predicted of a cluster.

    Parameters
    ----------
    label
        int64, (trial,): what trials have.
    cluster
        int64, (trial,): the cluster of each, from 0.
    predicted
        int64, (cluster,): the label that is predicted.
    stratum
        int64, (cluster,): predictions are exchanged among clusters of one stratum.
    """

    label: Codes
    cluster: Codes
    predicted: Codes
    stratum: Codes


class Score(NamedTuple):
    """Share of trials that are predicted, by chance too, and how often chance does as well."""

    accuracy: float
    chance: float
    p_value: float

    @property
    def above(self) -> float:
        """How far above chance: 0 at it, 1 where all is predicted (as Cohen's kappa)."""
        return (self.accuracy - self.chance) / (1 - self.chance) if self.chance < 1 else 0.0


def clusters(label: Codes, predicted: Codes, stratum: Codes, *joint: Codes) -> Clusters:
    """Join the trials that have prediction, stratum and all of ``joint`` in common.

    The arguments are int64, (trial,).
    """
    facts = np.stack([predicted, stratum, *joint], axis=1)
    rows, cluster = np.unique(facts, axis=0, return_inverse=True)
    return Clusters(label, cluster.reshape(-1), rows[:, 0], rows[:, 1])


def score(of: Clusters, least: float, seed: int = 0) -> Score:
    """Accuracy, and its p-value by permuting the predictions of clusters within their strata.

    Permutations end early where enough of them score as well (Besag and Clifford 1991). The
    p-value is 1 where the score is less than ``least`` above chance.
    """
    accuracy = float(np.mean(of.label == of.predicted[of.cluster]))
    found = Score(accuracy, float(_expected(of).mean()), 1.0)
    if found.above < least:
        return found
    return found._replace(p_value=_p_value(_some(of, seed), seed))


def _expected(of: Clusters) -> NDArray[np.float64]:
    """float64, (trial,): how often a prediction of the trial's stratum is the trial's label."""
    stratum = of.stratum[of.cluster]
    predicted = np.stack([of.stratum, of.predicted], axis=1)
    wanted = np.stack([stratum, of.label], axis=1)
    both = np.concatenate([predicted, wanted])
    code = np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)
    n_with = np.bincount(code[: len(predicted)], minlength=int(code.max()) + 1)
    n_all = np.bincount(of.stratum)
    return n_with[code[len(predicted) :]] / n_all[stratum]


def _some(of: Clusters, seed: int) -> Clusters:
    """The clusters, or a random choice of so many that they are soon permuted."""
    share = max(MOST_TRIALS / len(of.label), LEAST_CLUSTERS / len(of.predicted))
    if share >= 1:
        return of
    chance = np.random.Generator(np.random.PCG64(seed))
    kept = np.flatnonzero(chance.random(len(of.predicted)) < share)
    number = np.full(len(of.predicted), -1, dtype=np.int64)
    number[kept] = np.arange(len(kept))
    at = number[of.cluster] >= 0
    return Clusters(of.label[at], number[of.cluster[at]], of.predicted[kept], of.stratum[kept])


def _p_value(of: Clusters, seed: int) -> float:
    chance = np.random.Generator(np.random.PCG64(seed))
    place = np.argsort(of.stratum, kind="stable")
    observed = np.count_nonzero(of.label == of.predicted[of.cluster])
    permuted, n_as_good = np.empty_like(of.predicted), 0
    for number in range(1, N_PERMUTATIONS + 1):
        drawn = np.lexsort((chance.random(len(place)), of.stratum))
        permuted[place] = of.predicted[drawn]
        n_as_good += bool(np.count_nonzero(of.label == permuted[of.cluster]) >= observed)
        if n_as_good == ENOUGH:
            return ENOUGH / number
    return (n_as_good + 1) / (N_PERMUTATIONS + 1)
