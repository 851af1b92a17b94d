"""Looks in a store for what makes a score say more than it should, and says what mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from eegstore.audit_baselines import identity_baseline, time_baseline
from eegstore.audit_groups import (
    block_across_splits,
    concept_overlap,
    session_across_splits,
    stimulus_across_splits,
)
from eegstore.audit_images import near_duplicate_images
from eegstore.audit_labels import class_imbalance
from eegstore.audit_rows import Listener, Rows
from eegstore.audit_signal import fitted_on_test, near_duplicate_trials
from eegstore.audit_time import overlapping_windows
from eegstore.findings import SEVERITIES, Finding, NotCheckedError
from eegstore.store import Store
from eegstore.wording import plural


class Check(NamedTuple):
    """A check: its name, what it looks for, and what does it."""

    name: str
    looks_for: str
    find: Callable[[Rows], Iterator[Finding]]


CHECKS: Final = (
    Check("stimulus-across-splits", "one stimulus in two splits", stimulus_across_splits),
    Check("concept-overlap", "one concept in two splits", concept_overlap),
    Check("block-across-splits", "one recording block in two splits", block_across_splits),
    Check("session-across-splits", "one session in two splits", session_across_splits),
    Check("overlapping-windows", "trials of two splits that share samples", overlapping_windows),
    Check("near-duplicate-trials", "copies of a trial's EEG", near_duplicate_trials),
    Check("near-duplicate-images", "images that look the same", near_duplicate_images),
    Check("fitted-on-test", "what was fitted or normalised with the test", fitted_on_test),
    Check("class-imbalance", "labels that guessing scores with", class_imbalance),
    Check("time-baseline", "labels that follow from the time", time_baseline),
    Check("identity-baseline", "labels that follow from who was recorded", identity_baseline),
)


@dataclass(frozen=True)
class Audit:
    """What an audit found, and what it could not look at.

    Parameters
    ----------
    findings
        The worst first.
    not_checked
        Name of each check that could not be made, and why.
    """

    findings: list[Finding]
    not_checked: dict[str, str]

    def count(self, severity: str) -> int:
        """How many findings there are of a severity."""
        return sum(one.severity == severity for one in self.findings)

    @property
    def is_clean(self) -> bool:
        """Whether there is neither an error nor a warning."""
        return not (self.count("error") or self.count("warning"))

    def document(self) -> dict[str, Any]:
        """What ``eegstore audit --json`` prints, the store's name aside."""
        return {
            "findings": [one.document() for one in self.findings],
            "counts": {severity: self.count(severity) for severity in SEVERITIES},
            "checks": [
                {
                    "check": check.name,
                    "looks_for": check.looks_for,
                    "ran": check.name not in self.not_checked,
                    "reason": self.not_checked.get(check.name, ""),
                }
                for check in CHECKS
            ],
        }


def unmade(found: Audit) -> str:
    """How many checks could not be made, in words."""
    return f"{len(found.not_checked)} of {len(CHECKS)} checks could not be made"


def verdict(found: Audit) -> str:
    """The audit in a line: what there is, or what was looked for and is not there."""
    counts = [plural(found.count(one), one) for one in SEVERITIES if found.count(one)]
    if not found.is_clean:
        return ", ".join(counts)
    ran = [one for one in CHECKS if one.name not in found.not_checked]
    if not ran:
        return "nothing could be checked"
    notes = f" ({counts[0]})" if counts else ""
    looked_for = ", ".join(one.looks_for for one in ran)
    rest = f"; {unmade(found)}" if found.not_checked else ""
    return f"no leaks found{notes}; what was looked for: {looked_for}{rest}"


def examine(
    store: Store, *, zero_shot: bool | None = None, listener: Listener | None = None
) -> Audit:
    """Make every check that the store allows.

    The EEG is read once, block by block, and each image once; those that may be copies are read
    again. Time grows with the rows, memory by some 300 bytes a trial and 1 kB a stimulus.

    Parameters
    ----------
    store
        The store.
    zero_shot
        Whether the concepts of a test are to be new; by default where the split's plugin is
        ``concept``.
    listener
        Called with what is done, how much is, and of how much.
    """
    from threadpoolctl import threadpool_limits

    rows, found, not_checked = Rows(store, zero_shot, listener), list[Finding](), dict[str, str]()
    # Products are small, and made in threads of our own.
    with threadpool_limits(1):
        for number, check in enumerate(CHECKS):
            rows.tell(check.name, number, len(CHECKS))
            try:
                found += check.find(rows)
            except NotCheckedError as error:
                not_checked[check.name] = str(error)
    return Audit(sorted(found, key=lambda one: SEVERITIES.index(one.severity)), not_checked)


def audit(store: Store, *, zero_shot: bool | None = None) -> list[Finding]:
    """What ``examine`` finds, the worst first."""
    return examine(store, zero_shot=zero_shot).findings
