"""Checks that what belongs together is in one split: stimuli, concepts, blocks and sessions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore.audit_rows import RECORDING, SITTING, Rows
from eegstore.findings import Finding, NotCheckedError, Severity, few
from eegstore.rounds import first_of_content
from eegstore.wording import plural

Codes = NDArray[np.int64]
# Splits that divide what was recorded in a session, of which some may be whole by chance.
WITHIN: Final = ("random", "block", "chronological", "concept", "stimulus")
# Those of them that hold out something else than blocks, and so divide blocks.
THROUGH_BLOCKS: Final = tuple(one for one in WITHIN if one != "block")
MEND_BLOCKS: Final = 'Split with [split] plugin = "block", which keeps a block whole.'
SAY_BLOCKS: Final = (
    "Say that trials of the test share a recording block, and its slow drifts, with those of train."
)


@dataclass(frozen=True, eq=False)
class Spread:
    """Which groups lie in which parts.

    Parameters
    ----------
    group
        int64, (entry,): the group of each entry, from 0 in the order of their first entries.
    counts
        int64, (group, part): entries.
    """

    group: Codes
    counts: Codes

    @property
    def torn(self) -> Codes:
        """int64, (torn group,): groups with entries in more than one part."""
        return np.flatnonzero((self.counts > 0).sum(axis=1) > 1)

    @property
    def torn_entries(self) -> NDArray[np.bool_]:
        """bool, (entry,): whether the entry's group is torn."""
        torn: NDArray[np.bool_] = ((self.counts > 0).sum(axis=1) > 1)[self.group]
        return torn

    def first(self, group: int) -> int:
        """The first entry of a group."""
        return int(np.argmax(self.group == group))

    def shares(self, group: int, names: list[str]) -> str:
        """How many entries of a group are in each part."""
        counts = self.counts[group].tolist()
        return ", ".join(f"{name}: {n}" for name, n in zip(names, counts, strict=True) if n)


def spread(group: NDArray[Any], part: Codes, n_parts: int) -> Spread:
    """Count the entries of each group in each part."""
    _, first, code = np.unique(group, return_index=True, return_inverse=True)
    # Groups are numbered in the order in which they come.
    n_groups, number = len(first), np.empty(len(first), dtype=np.int64)
    number[np.argsort(first)] = np.arange(n_groups)
    codes = number[code.reshape(-1)]
    counts = np.bincount(codes * n_parts + part, minlength=n_groups * n_parts)
    return Spread(codes, counts.reshape(n_groups, n_parts))


def _over(rows: Rows, group: NDArray[Any], at: Codes | None = None) -> Spread:
    part = rows.part if at is None else rows.part[at]
    return spread(group, part, len(rows.part_names))


def stimulus_across_splits(rows: Rows) -> Iterator[Finding]:
    """One image in trials of more than one split, whatever its rows are called."""
    rows.need_parts()
    row, stimulus = rows.shown
    found = _over(rows, first_of_content(rows.store)[stimulus], row)
    if not len(found.torn):
        return
    path = rows.store.stimuli["image_path"][:]
    torn, meant = len(found.torn), rows.shares_stimuli
    n_trials = len(np.unique(row[found.torn_entries]))
    what = f"{plural(torn, 'stimulus')} paired with trials of more than one split ({n_trials:,})"
    what += f"; the split holds out {meant}, not images" if meant else ""
    examples = (
        f"{path[stimulus[found.first(group)]]} ({found.shares(group, rows.part_names)})"
        for group in found.torn.tolist()
    )
    yield Finding(
        "stimulus-across-splits",
        "note" if meant else "error",
        torn,
        what,
        few(examples),
        "Say that the images of the test were seen in training."
        if meant
        else 'Split with [split] plugin = "stimulus", or "concept" for a zero-shot test.',
    )


def concept_overlap(rows: Rows) -> Iterator[Finding]:
    """One concept in trials of more than one split."""
    rows.need_parts()
    names, concept = _concepts(rows)
    at = np.flatnonzero(concept >= 0)
    found = _over(rows, concept[at], at)
    if not len(found.torn):
        return
    shared, zero_shot = len(found.torn), rows.is_zero_shot
    what = f"{shared:,} of {plural(len(found.counts), 'concept')} in more than one split"
    what += ", and the split is to hold out concepts" if zero_shot else ""
    examples = (
        f"{names[concept[at[found.first(group)]]]} ({found.shares(group, rows.part_names)})"
        for group in found.torn.tolist()
    )
    yield Finding(
        "concept-overlap",
        "error" if zero_shot else "note",
        shared,
        what,
        few(examples),
        'Split with [split] plugin = "concept", and check that a concept has one name.'
        if zero_shot
        else 'A score is of known concepts; for new ones use [split] plugin = "concept".',
    )


def _concepts(rows: Rows) -> tuple[list[str], Codes]:
    """Names of concepts, and int64, (row,): that of the stimulus shown; -1 for none.

    Of an unpaired trial it is the label. Rows have numbers, as names would take more memory than
    all else that is kept of a trial.
    """
    stimulus = rows.column("stimulus")
    values, code = np.unique(rows.column("label"), return_inverse=True)
    names = [f"label {one}" if one >= 0 else "" for one in values.tolist()]
    if (stimulus >= 0).any():
        concepts, of_stimulus = np.unique(rows.store.stimuli["concept"][:], return_inverse=True)
        code = np.where(stimulus >= 0, len(names) + of_stimulus[stimulus], code)
        names += concepts.tolist()
    # One name has one number, and "" is the first.
    known, number = np.unique(["", *names], return_inverse=True)
    concept = number[1:][code] - 1
    if not (concept >= 0).any():
        raise NotCheckedError("no trial has a label or is paired with a stimulus")
    return known[1:].tolist(), concept


def block_across_splits(rows: Rows) -> Iterator[Finding]:
    """Trials of one block in more than one split; worst where the block shows one label.

    Where blocks show several, and the split is known to hold out something else, it is how most
    studies of single trials are made, to be said beside a score.
    """
    rows.need_parts()
    rows.column("block")
    found = _over(rows, rows.groups((*RECORDING, "block")))
    is_single, unknown = _of_one_label(rows, found)
    single = found.torn[is_single[found.torn]]
    mixed = found.torn[~is_single[found.torn]]
    is_usual = rows.split_plugin in THROUGH_BLOCKS and not unknown
    doubt = f"; whether they show one label each is not known: {unknown}" if unknown else ""
    if len(single):
        yield _torn_blocks(rows, found, single, "error", (" of one label each", ""))
    if len(mixed):
        yield _torn_blocks(rows, found, mixed, "note" if is_usual else "warning", ("", doubt))


def _of_one_label(rows: Rows, blocks: Spread) -> tuple[NDArray[np.bool_], str]:
    """bool, (block,): whether its labelled trials have one label; and why that is not known."""
    try:
        label = rows.label
    except NotCheckedError as error:
        return np.zeros(len(blocks.counts), dtype=np.bool_), str(error)
    at = np.flatnonzero(label >= 0)
    values, code = np.unique(label[at], return_inverse=True)
    pairs = np.unique(blocks.group[at] * len(values) + code)
    n_labels = np.bincount(pairs // len(values), minlength=len(blocks.counts))
    return (n_labels == 1) & (len(values) > 1), ""


def _torn_blocks(
    rows: Rows, found: Spread, torn: Codes, severity: Severity, remarks: tuple[str, str]
) -> Finding:
    n_trials, (kind, doubt) = int(np.isin(found.group, torn).sum()), remarks
    where = f"in more than one split ({n_trials:,} trials)"
    return Finding(
        "block-across-splits",
        severity,
        len(torn),
        f"{plural(len(torn), 'block')}{kind} {where}{doubt}",
        few(_groups(rows, found, torn, (*RECORDING, "block"))),
        SAY_BLOCKS if severity == "note" else MEND_BLOCKS,
    )


def _groups(rows: Rows, found: Spread, torn: Codes, names: tuple[str, ...]) -> Iterator[str]:
    for group in torn.tolist():
        place = rows.place(found.first(group), names)
        yield f"{place} ({found.shares(group, rows.part_names)})"


def session_across_splits(rows: Rows) -> Iterator[Finding]:
    """Trials of one session in more than one split.

    Where that holds of every session, or the split is known to ask for something else, it is how
    most studies of a subject are made, to be said beside a score. Where some are whole and others
    torn, or the split is by session, it is a slip.
    """
    rows.need_parts()
    rows.column("session")
    found = _over(rows, rows.groups(SITTING))
    torn, n_sessions = found.torn, len(found.counts)
    if not len(torn):
        return
    is_by_session = rows.split_plugin == "session"
    is_usual = not is_by_session and (len(torn) == n_sessions or rows.split_plugin in WITHIN)
    what = f"{len(torn):,} of {plural(n_sessions, 'session')} in more than one split"
    yield Finding(
        "session-across-splits",
        "note" if is_usual else "error" if is_by_session else "warning",
        len(torn),
        what,
        few(_groups(rows, found, torn, SITTING)),
        'A score is within sessions; [split] plugin = "session" tells how it is on another day.'
        if is_usual
        else 'Split with [split] plugin = "session", which keeps a session whole.',
    )
