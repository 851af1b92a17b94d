"""The rows of a store that an audit looks at, and the parts that a score keeps apart."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore.findings import NotCheckedError
from eegstore.rounds import concepts, first_of_content
from eegstore.sketching import Signal, read_signal
from eegstore.store import Store
from eegstore.tautology import tells_shown

TRAIN: Final = "train"
# Where built-in splits put what is neither trained on nor scored.
APART: Final = ("unpaired", "gap")
# What tells one recording from another, and one time that a person sat down from another.
RECORDING: Final = ("subject", "session", "run")
SITTING: Final = ("subject", "session")
STIMULUS: Final = re.compile(r"stimulus(_[0-9]+)?")
# What a split of this name holds out, whose images and concepts are meant to be in all parts.
HOLDS_OUT: Final = {
    "subject": "subjects",
    "session": "sessions",
    "block": "blocks",
    "chronological": "the end of each recording",
}
# Those of which it is known that they hold out none of these.
DRAWN: Final = ("random", "stimulus", "concept")
TO_DO: Final = "give the source labels"
Listener = Callable[[str, int, int], None]
Rows_ = NDArray[np.int64]


class HeldOut(NamedTuple):
    """Rows that a model is trained on, and those that it is then scored on; int64, (row,)."""

    train: Rows_
    test: Rows_
    is_fold: bool


@dataclass(frozen=True, eq=False)
class Rows:
    """The trials of a store that are trained on or scored; arrays of ``(row,)`` are over them.

    Parameters
    ----------
    store
        The store.
    zero_shot
        Whether the split is to hold out concepts; None: where its plugin is ``concept``.
    listener
        Called with what is read, how many rows are, and of how many.
    """

    store: Store
    zero_shot: bool | None = None
    listener: Listener | None = None

    def __len__(self) -> int:
        return len(self.trial)

    @functools.cached_property
    def trial(self) -> Rows_:
        """int64, (row,): the rows of the table, but for those that are invalid or left apart."""
        apart = np.isin(self.store.trials["split"][:], APART)
        return np.flatnonzero(self.store.trials["valid"][:] & ~apart)

    def has(self, name: str) -> bool:
        """Whether the table of trials has a column."""
        return name in self.store.trials

    def column(self, name: str) -> NDArray[Any]:
        """A narrow column of the trials, (row,).

        Raises
        ------
        NotCheckedError
            Where there is none of that name.
        """
        if not self.has(name):
            raise NotCheckedError(f"trials have no column {name!r}")
        values: NDArray[Any] = self.store.trials[name][:][self.trial]
        return values

    @property
    def n_valid(self) -> Rows_:
        """int64, (row,): samples of each trial that are recorded; the rest is padding."""
        n_times = self.store.trials["eeg"].spec.shape[1]
        if not self.has("n_samples"):
            return np.full(len(self), n_times, dtype=np.int64)
        return np.minimum(self.column("n_samples").astype(np.int64), n_times)

    @property
    def label(self) -> Rows_:
        """int64, (row,): the labels, -1 for none; where no trial has one, the concepts shown.

        Raises
        ------
        NotCheckedError
            Where no trial has a label, nor is known to show a concept.
        """
        return self._labels[0]

    def label_name(self, label: int) -> str:
        """A label as a finding names it: a concept by its name."""
        if label < 0:
            return "no label"
        names = self._labels[1]
        return names[label] if names else f"label {label}"

    @functools.cached_property
    def _labels(self) -> tuple[Rows_, list[str]]:
        """The labels; and their names, where they are concepts."""
        label = self.column("label")
        if (label >= 0).any():
            return label, []
        stimulus = self.column("stimulus")
        is_paired = stimulus >= 0
        # What a model of the EEG, or chance, has chosen says nothing of what was shown.
        if is_paired.any() and tells_shown(self.store) is False:
            raise NotCheckedError(
                f"no trial has a label, and the pairs were not made from what was shown; {TO_DO}"
            )
        names, of_stimulus = concepts(self.store) if is_paired.any() else ([], stimulus)
        concept = np.where(is_paired, of_stimulus[stimulus], -1)
        if not (concept >= 0).any():
            raise NotCheckedError(
                f"no trial has a label or shows a stimulus with a concept; {TO_DO}"
            )
        return concept, names

    @property
    def fold(self) -> Rows_:
        """int64, (row,): the fold of each, -1 where it is in none."""
        if not self.has("fold"):
            return np.full(len(self), -1, dtype=np.int64)
        return self.column("fold").astype(np.int64)

    @functools.cached_property
    def _parts(self) -> tuple[list[str], Rows_]:
        split = self.column("split").tolist()
        names = [_part_name(*one) for one in zip(split, self.fold.tolist(), strict=True)]
        found, part = np.unique(np.array(names, dtype=np.str_), return_inverse=True)
        return found.tolist(), part.astype(np.int64)

    @property
    def part_names(self) -> list[str]:
        """Name of each part: of a split, or of a fold of one."""
        return self._parts[0]

    @property
    def part(self) -> Rows_:
        """int64, (row,): the part of each; a score keeps any two of them apart."""
        return self._parts[1]

    def part_of(self, row: int) -> str:
        """Name of a row's part."""
        return self.part_names[int(self.part[row])]

    def need_parts(self) -> None:
        """Refuse a store whose trials are in one part."""
        if len(self.part_names) < 2:
            name = self.part_names[0] if self.part_names else "no"
            raise NotCheckedError(f"all trials are in one split ({name})")

    @functools.cached_property
    def held_out(self) -> list[HeldOut]:
        """What is trained on and what is scored, for each fold and for the splits beside train."""
        self.need_parts()
        split, fold = self.column("split"), self.fold
        names, counts = np.unique(split, return_counts=True)
        is_train = split == (TRAIN if TRAIN in names else names[np.argmax(counts)])
        in_folds = (fold >= 0) & is_train
        told = [(in_folds & (fold != one), fold == one, True) for one in np.unique(fold[fold >= 0])]
        told.append((is_train, ~is_train, False))
        pairs = [
            HeldOut(np.flatnonzero(train), np.flatnonzero(test), is_fold)
            for train, test, is_fold in told
        ]
        return [pair for pair in pairs if len(pair.train) and len(pair.test)]

    def groups(self, names: Sequence[str]) -> Rows_:
        """int64, (row,): number of the combination of values in those of the columns there are."""
        code = np.zeros(len(self), dtype=np.int64)
        for name in [one for one in names if self.has(one)]:
            values = np.unique(self.column(name), return_inverse=True)[1]
            code = np.unique(code * (values.max(initial=0) + 1) + values, return_inverse=True)[1]
        return code

    @functools.cached_property
    def shown(self) -> tuple[Rows_, Rows_]:
        """int64, (pair,): row, and stimulus; a trial may have several.

        Raises
        ------
        NotCheckedError
            Where no trial is paired.
        """
        names = [one for one in self.store.trials if STIMULUS.fullmatch(one)]
        stimulus = np.stack([self.column(name) for name in names], axis=1)
        row, place = np.nonzero(stimulus >= 0)
        if not len(row):
            raise NotCheckedError("no trial is paired with a stimulus")
        return row, stimulus[row, place]

    @property
    def split_plugin(self) -> str:
        """Name of the plugin that made the split; empty where the recipe has none."""
        section = self.store.recipe.get("split") or {}
        return str(section.get("plugin", ""))

    @property
    def is_zero_shot(self) -> bool:
        """Whether the concepts of a test are to be new."""
        return self.split_plugin == "concept" if self.zero_shot is None else self.zero_shot

    @property
    def shares_stimuli(self) -> str:
        """What the split holds out where that is not images; else empty.

        Of a split of which nobody knows, it is told by the trials: whole subjects or whole sessions
        are held out, and shown what train was shown.
        """
        if self.is_zero_shot:
            return ""
        if self.split_plugin in HOLDS_OUT or self.split_plugin in DRAWN:
            return HOLDS_OUT.get(self.split_plugin, "")
        held_out = {"subjects": ("subject",), "sessions": SITTING}
        whole = [what for what, names in held_out.items() if self._is_whole(self.groups(names))]
        return whole[0] if whole and self._all_are_known else ""

    def _is_whole(self, group: Rows_) -> bool:
        """Whether there are several groups, each of them in one part."""
        pairs = np.unique(np.stack([group, self.part], axis=1), axis=0)
        return 1 < len(np.unique(group)) == len(pairs)

    @property
    def _all_are_known(self) -> bool:
        """Whether every stimulus that is scored is one that train was shown."""
        row, stimulus = self.shown
        content = first_of_content(self.store)[stimulus]
        return all(
            np.isin(content[np.isin(row, pair.test)], content[np.isin(row, pair.train)]).all()
            for pair in self.held_out
        )

    @functools.cached_property
    def signal(self) -> Signal:
        """What the one pass over the EEG gives."""
        eeg = self.store.trials["eeg"]
        return read_signal(eeg, self.trial, self.part, self.n_valid, self.tell)

    @functools.cached_property
    def recording(self) -> Rows_:
        """int64, (row,): the recording of each, as far as the columns tell."""
        return self.groups(RECORDING)

    @functools.cached_property
    def onset(self) -> NDArray[np.float64]:
        """float64, (row,): seconds from a recording's start.

        Raises
        ------
        NotCheckedError
            Where there is none, or where it is not told which recording they count from.
        """
        onset = self.column("onset")
        if onset.dtype.kind not in "if" or not np.isfinite(onset).all():
            raise NotCheckedError("the column 'onset' is not of finite numbers")
        order = np.argsort(self.recording, kind="stable")
        same = np.diff(self.recording[order]) == 0
        steps = np.diff(onset[order].astype(np.float64))[same]
        if len(steps) and not steps.any():
            raise NotCheckedError("the column 'onset' has one value in all trials of a recording")
        if not self.has("run") and (steps < 0).any():
            raise NotCheckedError(
                "the column 'onset' runs backwards from row to row, and there is no column 'run' "
                "that says where another recording starts"
            )
        return onset.astype(np.float64)

    def tell(self, what: str, done: int, total: int) -> None:
        """Say how far reading is."""
        if self.listener:
            self.listener(what, done, total)

    def where(self, row: int) -> str:
        """A trial as an example names it."""
        return f"trial {self.trial[row]} ({self.part_of(row)})"

    def place(self, row: int, names: Sequence[str]) -> str:
        """A row's values in those of the columns that there are."""
        facts = [(name, self.store.trials[name][int(self.trial[row])])
                 for name in names if self.has(name)]  # fmt: skip
        return ", ".join(f"{name} {value}" for name, value in facts)


def _part_name(split: str, fold: int) -> str:
    """A split, and the fold of it where there is one; of a k-fold split all rows are train."""
    if fold < 0:
        return split
    return f"fold {fold}" if split == TRAIN else f"{split}, fold {fold}"
