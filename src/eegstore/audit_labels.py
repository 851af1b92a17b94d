"""The check of how labels are distributed: what guessing scores, and whether splits differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eegstore.audit_rows import HeldOut, Rows
from eegstore.findings import Finding, NotCheckedError, few
from eegstore.wording import plural

P_VALUE: Final = 1e-3
EXCESS: Final = 0.15  # of the way from an even share to all trials
EFFECTIVE: Final = 0.5
DIFFERENCE: Final = 0.15  # total variation


def class_imbalance(rows: Rows) -> Iterator[Finding]:
    """Labels that are so frequent that guessing them scores, and splits that differ in that."""
    label = rows.label
    if len(np.unique(label[label >= 0])) < 2:
        raise NotCheckedError("all trials have one label")
    yield from _uneven(rows)
    if len(rows.part_names) > 1:
        yield from _differing(rows, label)


def _uneven(rows: Rows) -> Iterator[Finding]:
    """Parts whose labels are more uneven than chance makes them."""
    label, told, n_trials = rows.label, list[str](), 0
    for part, name in enumerate(rows.part_names):
        labels, counts = np.unique(label[(rows.part == part) & (label >= 0)], return_counts=True)
        if len(counts) < 2 or _is_even(counts, len(rows.part_names)):
            continue
        n_trials += int(counts.sum())
        most, share = rows.label_name(int(labels[np.argmax(counts)])), counts / counts.sum()
        told.append(
            f"{name}: {most} in {share.max():.1%} of {plural(int(counts.sum()), 'trial')}; "
            f"{len(counts):,} labels, as even as {1 / (share**2).sum():.1f}"
        )
    if told:
        yield Finding(
            "class-imbalance",
            "warning",
            n_trials,
            "labels so uneven that guessing the most frequent one scores",
            few(told),
            "Give balanced accuracy too, or what guessing the most frequent label scores.",
        )


def _is_even(counts: NDArray[np.int64], n_tests: int) -> bool:
    """Whether labels are about as frequent as each other, or may be so by chance."""
    from scipy import stats

    n, share = len(counts), counts / counts.sum()
    excess = (share.max() - 1 / n) / (1 - 1 / n)
    effective = 1 / (share**2).sum() / n
    small = excess < EXCESS and effective > EFFECTIVE
    return bool(small or stats.chisquare(counts).pvalue >= P_VALUE / n_tests)


def _differing(rows: Rows, label: NDArray[np.int64]) -> Iterator[Finding]:
    """Held-out rows whose labels are distributed otherwise than in train."""
    told, n_trials = [], 0
    pairs = rows.held_out
    for pair in pairs:
        distance, p_value = _difference(pair, label)
        if distance >= DIFFERENCE and p_value < P_VALUE / len(pairs):
            n_trials += len(pair.test)
            told.append(
                f"{rows.part_of(pair.test[0])} and {rows.part_of(pair.train[0])}: {distance:.0%} "
                "of the trials would have to change their label"
            )
    if told:
        yield Finding(
            "class-imbalance",
            "warning",
            n_trials,
            "labels are distributed otherwise where models are scored than where they are trained",
            few(told),
            'Split with an option that stratifies ([split] plugin = "random" does), or give '
            "balanced accuracy.",
        )


def _difference(pair: HeldOut, label: NDArray[np.int64]) -> tuple[float, float]:
    """Total variation between the labels that both have, and the p-value of homogeneity."""
    from scipy import stats

    train, test = (label[one][label[one] >= 0] for one in pair[:2])
    both = np.intersect1d(train, test)
    if len(both) < 2:
        return 0.0, 1.0
    table = np.array([np.bincount(np.searchsorted(both, one[np.isin(one, both)]),
                                  minlength=len(both)) for one in (train, test)])  # fmt: skip
    share = table / table.sum(axis=1, keepdims=True)
    distance = abs(share[0] - share[1]).sum() / 2
    return float(distance), float(stats.chi2_contingency(table, correction=False).pvalue)
