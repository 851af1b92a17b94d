"""What an evaluation cannot show, however well a column does: few stimuli, an empty question."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore.pool import Score
from eegstore.resampling import MEDIAN
from eegstore.rounds import Round, Target, concepts
from eegstore.store import Store
from eegstore.tautology import n_in_several, train_stimuli

FEW: Final = 10
EMPTY: Final = "all candidates are of one concept, so every answer is right"
BELOW: Final = (
    "lies wholly below chance: that is no sign of decoding, and need not be an error. Predictions "
    "that are fitted on the other trials or folds lean towards their mean, and so away from the "
    "mean of those held out (a known bias, which docs/evaluate.md explains); and intervals over "
    "few stimuli are narrower than they should be"
)


def is_empty(asked: Sequence[Round], target: Target) -> bool:
    """Whether nothing is asked: all candidates are of the concept that is to be found."""
    return target == "concept" and all(len(np.unique(one.item_class)) == 1 for one in asked)


class Smallest(NamedTuple):
    """The smallest p-value that is possible, and whether the stimuli are why it is no smaller."""

    p: float
    by_stimuli: bool


def smallest_p(asked: Sequence[Round], n_permuted: int) -> Smallest | None:
    """The smallest p-value that the permutations allow; None where there are none.

    It is 1 / (1 + permutations), or the share of all permutations that give every stimulus a right
    answer as it is: these do as well as the truth, which a perfect column finds too.
    """
    if not n_permuted:
        return None
    of_draws = 1 / (1 + n_permuted)
    of_stimuli = math.prod(_unchanged(one.group_class) for one in asked)
    return Smallest(max(of_draws, of_stimuli), of_stimuli > (1 - 1e-9) * of_draws)


def _unchanged(classes: NDArray[np.int64]) -> float:
    """The share of all permutations of some classes that change none."""
    same = sum(math.lgamma(1 + count) for count in np.unique(classes, return_counts=True)[1])
    return math.exp(same - math.lgamma(1 + len(classes)))


def too_few(smallest: Smallest, target: Target) -> str:
    """The verdict where the p-value could not have been small, whatever was measured."""
    of_stimuli = "stimuli" if target == "stimulus" else "stimuli or concepts"
    what = of_stimuli if smallest.by_stimuli else "permutations"
    return f"too few {what} to tell: p cannot be below {smallest.p:.2g}"


def few_concepts(store: Store, asked: Sequence[Round]) -> Iterator[str]:
    """That a zero-shot test, whose concepts train has not, has few of them."""
    which = concepts(store)[1]
    of_round = [np.unique(which[one.stimulus]) for one in asked]
    own = np.unique(np.concatenate(of_round))
    n_stimuli = len(np.unique(np.concatenate([one.stimulus for one in asked])))
    if (own < 0).any() or not len(own) < min(FEW, n_stimuli):
        return  # few stimuli are told of anyway
    if len(asked) > 1:
        is_zero_shot = not n_in_several(of_round)
    else:
        train = train_stimuli(store)
        is_zero_shot = bool(len(train)) and not np.isin(own, which[train]).any()
    if is_zero_shot:
        count = "one concept" if len(own) == 1 else f"{len(own)} concepts"
        yield f"the test is zero-shot and of {count} alone, so it says little of other new concepts"


def below_chance(scores: Mapping[str, Score]) -> Iterator[str]:
    """A note on a measure whose interval lies on the wrong side of chance: on the first of them."""
    for name, one in scores.items():
        wrong = one.low > one.chance if name in (MEDIAN, "median_rank") else one.high < one.chance
        if wrong:
            yield f"the 95 % interval of {_shown(name)} {BELOW}"
            return


def _shown(name: str) -> str:
    return name.replace("top", "top-").replace("_", " ").replace("mrr", "MRR").replace("map", "mAP")
