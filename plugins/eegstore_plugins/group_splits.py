"""Splits that keep groups of trials whole: subjects, sessions, blocks, concepts, stimuli."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError, Splits, Stimuli, Trials, hookimpl, nearest
from eegstore_plugins.partition import Numbers, deal, nearest_subset
from eegstore_plugins.split_options import (
    N_FOLDS,
    SEED,
    TEST_SIZE,
    TRAIN,
    UNPAIRED,
    USUAL_TEST_SIZE,
    VAL_SIZE,
    as_text,
    check_sizes,
    column_of,
)

Names = NDArray[np.str_]


class Groups(NamedTuple):
    """Which group a trial is in.

    Attributes
    ----------
    number
        int64, (trial,): the trial's group, -1 where it is in none.
    value
        str, (group,): the value that a recipe names a group by.
    unit
        str, (group,): groups of one unit are drawn among each other.
    """

    number: Numbers
    value: Names
    unit: Names


def _grouped(
    value: NDArray[Any], *others: NDArray[Any], unit: NDArray[Any] | None = None
) -> Groups:
    """Groups of the trials that have one value, and one of each other column."""
    number = np.zeros(len(value), dtype=np.int64)
    for column in (value, *others):
        _, codes = np.unique(column, return_inverse=True)
        _, number = np.unique(number * (codes.max() + 1) + codes, return_inverse=True)
    first = np.unique(number, return_index=True)[1]
    units = np.full(len(first), "") if unit is None else as_text(unit)[first]
    return Groups(number, as_text(value)[first], units)


@dataclass(frozen=True)
class GroupSplit:
    """What splits that keep groups whole share: no group is ever in two splits, or in two folds."""

    name: ClassVar[str]
    version: ClassVar[str]
    groups_are: ClassVar[str]

    test: tuple[str | int, ...] = field(
        default=(), metadata={"description": "Values in 'test', in place of a draw."}
    )
    val: tuple[str | int, ...] = field(
        default=(), metadata={"description": "Values in 'val', in place of a draw."}
    )
    test_size: float | None = field(default=None, metadata=TEST_SIZE)
    val_size: float = field(default=0.0, metadata=VAL_SIZE)
    seed: int = field(default=0, metadata=SEED)
    n_folds: int = field(default=0, metadata=N_FOLDS)
    leave_one_out: bool = field(
        default=False, metadata={"description": "A fold for each group, in their order."}
    )

    def __post_init__(self) -> None:
        check_sizes(self.test_size, self.val_size, self.n_folds)
        if self.test and self.test_size is not None:
            raise ValueError("test and test_size are both given, expected one of them")
        if self.val and self.val_size:
            raise ValueError("val and val_size are both given, expected one of them")
        if self.n_folds and self.leave_one_out:
            raise ValueError("n_folds and leave_one_out are both given, expected one of them")
        if both := sorted({*map(str, self.test)} & {*map(str, self.val)}):
            raise ValueError(f"{both[0]!r} is in test and in val, expected in one of them")

    def __call__(
        self, trials: Trials, stimulus: NDArray[np.int64], stimuli: Stimuli | None
    ) -> Names | Splits:
        groups = self._groups(trials, stimulus, stimuli)
        sizes = np.bincount(groups.number[groups.number >= 0], minlength=len(groups.value))
        named, fold = self._named(groups.value), np.full(len(sizes), -1, dtype=np.int64)
        chance = np.random.Generator(np.random.PCG64(self.seed))
        for unit in np.unique(groups.unit):
            members = np.flatnonzero(groups.unit == unit)
            named[members] = self._drawn(named[members], sizes[members], chance)
            rest = members[named[members] == TRAIN]
            fold[rest] = self._folds(sizes[rest], chance)
        inside = groups.number >= 0
        split = np.where(inside, named[groups.number], self._outside)
        if not (self.n_folds or self.leave_one_out):
            return split
        return Splits(split, np.where(inside, fold[groups.number], -1))

    def _groups(
        self, trials: Trials, stimulus: NDArray[np.int64], stimuli: Stimuli | None
    ) -> Groups:
        raise NotImplementedError

    @property
    def _outside(self) -> str:
        """The split of trials that are in no group."""
        return TRAIN

    def _named(self, values: Names) -> Names:
        """str, (group,): the split of the groups that the options name, '' of the others."""
        named = np.full(len(values), "", dtype="<U8")
        known = np.unique(values)
        for split in ("test", "val"):
            for value in map(str, getattr(self, split)):
                if value not in known:
                    raise InputError(
                        f"split {self.name!r}: {split} names {value!r}, which is none of the "
                        f"{len(known)} {self.groups_are}; {nearest(value, known.tolist())}"
                    )
                named[values == value] = split
        return named

    def _drawn(self, named: Names, sizes: Numbers, chance: np.random.Generator) -> Names:
        """str, (group,): the split of each group of a unit."""
        is_folded = bool(self.n_folds or self.leave_one_out)
        usual = 0.0 if self.test or is_folded else USUAL_TEST_SIZE
        shares = {"test": self.test_size or usual, "val": self.val_size}
        wanted = [split for split, share in shares.items() if share]
        free = named == ""
        self._refuse_few(int(free.sum()), [*wanted, TRAIN], named)
        for place, split in enumerate(wanted):
            free = np.flatnonzero(named == "")
            n_trials = round(shares[split] * int(sizes.sum()))
            target = min(n_trials, int(sizes[free].sum()) - 1)
            taken = nearest_subset(sizes[free], target, chance, len(wanted) - place)
            named[free[taken]] = split
        named[named == ""] = TRAIN
        return named

    def _refuse_few(self, n_groups: int, splits: list[str], named: Names) -> None:
        if n_groups < len(splits):
            rest = "" if (named == "").all() else " that test and val do not name"
            raise InputError(
                f"split {self.name!r}: {n_groups} {self.groups_are}{rest}, expected "
                f"{len(splits)} or more: one at least in each of {', '.join(reversed(splits))}"
            )

    def _folds(self, sizes: Numbers, chance: np.random.Generator) -> Numbers:
        """int64, (group,): the folds of a unit's groups that are not held out."""
        if self.leave_one_out:
            n_folds, folds = 2, np.arange(len(sizes))
        elif self.n_folds:
            n_folds, folds = self.n_folds, deal(sizes, self.n_folds, chance)
        else:
            return np.full(len(sizes), -1)
        if len(sizes) < n_folds:
            raise InputError(
                f"split {self.name!r}: {len(sizes)} {self.groups_are} are not held out, expected "
                f"{n_folds} or more: one at least in each fold"
            )
        return folds


PER_SUBJECT: Final = {
    "description": "Split the groups of each subject among themselves, so that all subjects are in "
    "all splits."
}


def _subjects(split: str, trials: Trials, wanted: bool) -> NDArray[Any] | None:
    """Each trial's subject, where groups of different subjects are drawn apart."""
    return column_of(split, trials, "subject") if wanted else None


@dataclass(frozen=True)
class SubjectSplit(GroupSplit):
    """Splits by subject: all trials of a subject are in one split, so test subjects are unknown.

    With ``leave_one_out`` a fold is a subject. Sizes are as near to those asked for as whole
    subjects allow, and every split that is asked for has one at least.
    """

    name: ClassVar[str] = "subject"
    version: ClassVar[str] = "1"
    groups_are: ClassVar[str] = "subjects"

    def _groups(
        self, trials: Trials, stimulus: NDArray[np.int64], stimuli: Stimuli | None
    ) -> Groups:
        return _grouped(column_of(self.name, trials, "subject"))


@dataclass(frozen=True)
class SessionSplit(GroupSplit):
    """Splits by session: all trials of a session are in one split.

    Sessions of one number but of different subjects are different ones, where the source has the
    column ``subject``. A session that ``test`` or ``val`` names is meant of every subject.
    """

    name: ClassVar[str] = "session"
    version: ClassVar[str] = "1"
    groups_are: ClassVar[str] = "sessions"

    per_subject: bool = field(default=False, metadata=PER_SUBJECT)

    def _groups(
        self, trials: Trials, stimulus: NDArray[np.int64], stimuli: Stimuli | None
    ) -> Groups:
        session = column_of(self.name, trials, "session")
        others = [trials.columns[name] for name in ("subject",) if name in trials.columns]
        return _grouped(session, *others, unit=_subjects(self.name, trials, self.per_subject))


@dataclass(frozen=True)
class BlockSplit(GroupSplit):
    """Splits by recording block: all trials of a block are in one split.

    Trials of a block share drifts of electrodes and attention, by which a model can tell the block,
    and with it the label where a block has few labels (Li et al. 2021, The perils and pitfalls of
    block design for EEG classification experiments). Blocks of one number but of different
    subjects, sessions or runs are different ones, where the source has those columns. A block that
    ``test`` or ``val`` names is meant of all of them.
    """

    name: ClassVar[str] = "block"
    version: ClassVar[str] = "1"
    groups_are: ClassVar[str] = "blocks"

    column: str = field(
        default="block",
        metadata={
            "description": "Column of trials that numbers the blocks, such as 'run'.",
            "pattern": "^[a-z][a-z0-9_]*$",
        },
    )
    per_subject: bool = field(default=False, metadata=PER_SUBJECT)

    def _groups(
        self, trials: Trials, stimulus: NDArray[np.int64], stimuli: Stimuli | None
    ) -> Groups:
        block = column_of(self.name, trials, self.column)
        wider = ("subject", "session", "run")
        others = [trials.columns[name] for name in wider if name in trials.columns]
        return _grouped(block, *others, unit=_subjects(self.name, trials, self.per_subject))


@dataclass(frozen=True)
class PairedSplit(GroupSplit):
    """A split by what trials are paired with."""

    unpaired: Literal["apart", "train"] = field(
        default="apart",
        metadata={
            "description": "Trials that are paired with nothing to split by: apart, in a split "
            f"{UNPAIRED!r} of their own that nothing trains or tests with, or in 'train'."
        },
    )

    @property
    def _outside(self) -> str:
        return UNPAIRED if self.unpaired == "apart" else TRAIN


@dataclass(frozen=True)
class ConceptSplit(PairedSplit):
    """Splits by concept, for zero-shot tests: no concept of 'test' is in another split.

    The concept is that of the paired stimulus; its label, where no stimulus has a concept's name;
    and where nothing is paired at all, the trial's own label. A trial that has none of these is
    ``unpaired``.
    """

    name: ClassVar[str] = "concept"
    version: ClassVar[str] = "1"
    groups_are: ClassVar[str] = "concepts"

    def _groups(
        self, trials: Trials, stimulus: NDArray[np.int64], stimuli: Stimuli | None
    ) -> Groups:
        paired = stimulus >= 0
        if stimuli is None or not paired.any():
            return _of_some(trials.label, trials.label >= 0, self.name, "has a label")
        if (stimuli.concept != "").any():
            concept = stimuli.concept[stimulus]
            return _of_some(concept, paired & (concept != ""), self.name, "has a concept")
        label = stimuli.label[stimulus]
        return _of_some(label, paired & (label >= 0), self.name, "has a label")


@dataclass(frozen=True)
class StimulusSplit(PairedSplit):
    """Splits by stimulus: no image of 'test' is in another split.

    Images of the same content (``content_id``) are one. A value of ``test`` or ``val`` is the
    image's path, of several copies that of the first.
    """

    name: ClassVar[str] = "stimulus"
    version: ClassVar[str] = "1"
    groups_are: ClassVar[str] = "stimuli"

    def _groups(
        self, trials: Trials, stimulus: NDArray[np.int64], stimuli: Stimuli | None
    ) -> Groups:
        if stimuli is None:
            raise InputError("split 'stimulus': there are no stimuli; add [stimuli] to the recipe")
        # The first path of an image's content stands for all.
        _, first, copies = np.unique(stimuli.content_id, return_index=True, return_inverse=True)
        path = stimuli.image_path[first[copies]]
        return _of_some(path[stimulus], stimulus >= 0, self.name, "is paired")


def _of_some(value: NDArray[Any], inside: NDArray[np.bool_], split: str, what: str) -> Groups:
    """Groups of those trials that have a value."""
    if not inside.any():
        raise InputError(f"split {split!r}: no trial {what}, expected some; look at [pairing]")
    some = _grouped(value[inside])
    number = np.full(len(value), -1, dtype=np.int64)
    number[inside] = some.number
    return some._replace(number=number)


@hookimpl
def eegstore_splits() -> list[type[GroupSplit]]:
    """The splits of this module."""
    return [SubjectSplit, SessionSplit, BlockSplit, ConceptSplit, StimulusSplit]
