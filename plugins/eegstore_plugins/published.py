"""Splits that others have published, from a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError, Stimuli, Trials, hookimpl, nearest
from eegstore_plugins.names import as_path, by_end, ends
from eegstore_plugins.split_options import UNPAIRED

MAX_BYTES: Final = 1 << 28
By = Literal["trial", "stimulus_key", "image_path", "concept", "label"]
Keys = NDArray[np.str_]
KeysAndValues = tuple[Keys, Keys]
SplitOf = Mapping[str, str]  # by key


@dataclass(frozen=True, eq=False)
class Reading:
    """The file, where its keys are taken to be of one kind.

    Parameters
    ----------
    by
        The kind.
    keys
        str, (trial,): the key of each trial; '' of one without.
    given
        The split of each key of the file.
    named
        Of each value of the kind that the file names: the keys that do, and their splits.
    """

    by: str
    keys: Keys
    given: SplitOf
    named: Mapping[str, SplitOf]

    @property
    def n_used(self) -> int:
        """How many of the file's keys name a value."""
        return len({key for splits in self.named.values() for key in splits})

    @property
    def n_named(self) -> int:
        """How many trials the file names."""
        return sum(key in self.named for key in self.keys.tolist())


@dataclass(frozen=True)
class PublishedSplit:
    """Splits of a file that names the split of each trial, stimulus or concept.

    Notes
    -----
    JSON is an object of lists, ``{"train": [key, …], "test": [key, …]}``, or of names,
    ``{key: "train"}``, or a list of one name a trial. CSV has a header with the column ``split``
    and one more, which is named after what its keys are (see ``by``). A key is a row of trials,
    counted from 0; what the source says was shown; the path of the paired image; its concept; or
    the label of the trial.

    A path may be in other folders than the image's: what counts is the longest end that the image
    shares with a key. An end of several images or of several keys names none of them, such as the
    ``0.png`` of each folder, and two keys that end in the whole of an image's path have to agree.

    Keys that no trial has are no error: a list may name images that were left out.
    """

    name: ClassVar[str] = "published"
    version: ClassVar[str] = "2"

    path: Path = field(metadata={"description": "The file, .json or .csv."})
    by: By | None = field(
        default=None,
        metadata={
            "description": "What a key is; of CSV the other column's name by default, of JSON the "
            "first of these that every key is one of, else the one that names most trials. It has "
            "to be said where every key is one of two and they give a trial different splits."
        },
    )
    unnamed: str | None = field(
        default=None,
        metadata={
            "description": "Split of trials that the file does not name; by default they are an "
            "error.",
            "min_length": 1,
        },
    )

    def __call__(
        self, trials: Trials, stimulus: NDArray[np.int64], stimuli: Stimuli | None
    ) -> NDArray[np.str_]:
        given, by = self._read(trials.n_trials)
        said = self.by or by
        readings = _readings(given, [said] if said else list(KINDS), trials, stimulus, stimuli)
        if not readings:
            raise InputError(
                f"split 'published': {self.path.name} goes by {said}, which trials of this "
                "recipe do not have; set by"
            )
        chosen = self._chosen(readings, len(given))
        if fault := self._fault(chosen, "" if said else ", or what a key is (by)"):
            raise InputError(f"split 'published': {self.path.name} {fault}")
        return self._split(chosen)

    def _chosen(self, readings: Sequence[Reading], n_keys: int) -> Reading:
        """The first way to read the file that takes every key, else the one that names most."""
        fitting = [one for one in readings if one.n_used == n_keys]
        if not fitting:
            return max(readings, key=lambda one: one.n_named)
        # One that fails gives no splits, so none that differ from those of the others.
        first, *others = [one for one in fitting if not self._fault(one)] or fitting[:1]
        for other in others:
            both = (first.keys != "") & (other.keys != "")
            if (self._split(first)[both] != self._split(other)[both]).any():
                raise InputError(
                    f"split 'published': every key of {self.path.name} is a {first.by} and a "
                    f"{other.by}, which give different splits; say by = {first.by!r} or by = "
                    f"{other.by!r}"
                )
        return first

    def _fault(self, reading: Reading, besides: str = "") -> str:
        """Why the file gives a key of the trials no split, or two; empty where it does not."""
        for key in np.unique(reading.keys[reading.keys != ""]).tolist():
            splits = reading.named.get(key, {})
            if len(set(splits.values())) > 1:
                (one, split), (other, rival) = list(splits.items())[:2]
                return (
                    f"gives the {reading.by} {key!r:.200} two splits: {one!r:.200} is in "
                    f"{split!r}, {other!r:.200} in {rival!r}; use the store's own paths as keys"
                )
            if not splits and self.unnamed is None:
                n_trials = np.count_nonzero(reading.keys == key)
                near = "" if key.isdecimal() else f"{nearest(key, reading.given)}; "
                return (
                    f"names no split of the {reading.by} {key!r:.200} (trials: {n_trials}); {near}"
                    f'add it, or say where such trials go, as unnamed = "train"{besides}'
                )
        return ""

    def _split(self, reading: Reading) -> Keys:
        """str, (trial,): the split of each trial's key; of one without a key, 'unpaired'."""
        found = {key: next(iter(splits.values())) for key, splits in reading.named.items()}
        found[""] = self.unnamed or UNPAIRED
        return np.array([found.get(key, self.unnamed) for key in reading.keys.tolist()], np.str_)

    def _read(self, n_trials: int) -> tuple[dict[str, str], str | None]:
        """The split of each key, and what keys are, where the file says it."""
        size = self.path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{self.path.name}: {size:,} bytes, expected at most {MAX_BYTES:,}")
        try:
            text = self.path.read_text(encoding="utf-8-sig")
            if self.path.suffix.lower() == ".csv":
                return self._from_csv(text)
            return self._from_json(json.loads(text), n_trials)
        except (ValueError, RecursionError, csv.Error) as error:
            raise InputError(f"{self.path.name}: is no JSON or CSV ({error})") from error

    def _from_json(self, content: Any, n_trials: int) -> tuple[dict[str, str], str | None]:
        if isinstance(content, list):
            if len(content) != n_trials:
                raise InputError(
                    f"{self.path.name}: {len(content)} names of splits, expected one for each of "
                    f"{n_trials} trials"
                )
            return self._pairs((str(row), split) for row, split in enumerate(content)), "trial"
        if not isinstance(content, dict):
            raise InputError(f"{self.path.name}: is a {type(content).__name__}, expected an object")
        return self._pairs(_flat(content)), None

    def _from_csv(self, text: str) -> tuple[dict[str, str], str | None]:
        rows = csv.reader(text.splitlines())
        header = [name.strip() for name in next(rows, [])]
        others = [name for name in header if name != "split"]
        if header.count("split") != 1 or len(others) != 1 or others[0] not in (*KINDS, self.by):
            raise InputError(
                f"{self.path.name}: begins with {', '.join(header) or 'nothing'}, expected two "
                f"columns: split, and one of {', '.join(KINDS)}"
            )
        at = header.index("split")
        lines = [row for row in rows if row]
        if bad := next((row for row in lines if len(row) != 2), None):
            raise InputError(f"{self.path.name}: a row has {len(bad)} values, expected 2: {bad}")
        return self._pairs((row[1 - at], row[at]) for row in lines), others[0]

    def _pairs(self, pairs: Iterator[tuple[Any, Any]]) -> dict[str, str]:
        """The split of each key; no key has two."""
        found: dict[str, str] = {}
        for key, split in pairs:
            if not isinstance(split, str) or not isinstance(key, str | int) or not split:
                raise InputError(
                    f"{self.path.name}: gives {key!r:.80} the split {split!r:.80}, expected a key "
                    "and a name"
                )
            text = as_path(str(key))
            if found.setdefault(text, split) != split:
                raise InputError(
                    f"{self.path.name}: {text!r:.80} is in {found[text]!r} and in {split!r}, "
                    "expected in one split"
                )
        if not found:
            raise InputError(f"{self.path.name}: is empty, expected keys and their splits")
        return found


def _flat(content: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Key and split of either form of an object."""
    for name, value in content.items():
        if isinstance(value, list):
            yield from ((key, name) for key in value)
        else:
            yield name, value


def _readings(
    given: SplitOf, kinds: Sequence[str], trials: Trials, stimulus: NDArray[np.int64],
    stimuli: Stimuli | None,
) -> list[Reading]:  # fmt: skip
    """The file read by each of some kinds of keys, but for those that the trials do not have."""
    found = []
    for by in kinds:
        of_trials = KINDS[by](trials, stimulus, stimuli)
        if of_trials is not None:
            keys, values = of_trials
            different = dict.fromkeys(value for value in values.tolist() if value)
            named = (_by_path if by == "image_path" else _by_value)(given, different)
            found.append(Reading(by, keys, given, named))
    return found


def _by_value(given: SplitOf, values: Collection[str]) -> dict[str, SplitOf]:
    """What names each value: the key that is equal to it."""
    return {value: {value: given[value]} for value in values if value in given}


def _by_path(given: SplitOf, paths: Collection[str]) -> dict[str, SplitOf]:
    """What names each path: the path itself, else the one key of its longest end.

    The keys that end in the whole of a path may be several; it is for others to see whether they
    agree. An end that other paths have too names none.
    """
    found: dict[str, SplitOf] = {}
    keys, keys_of, paths_of = list(given), by_end(given), by_end(paths)
    for path in paths:
        end = next((one for one in ends(path) if one in keys_of), None)
        if path in given:
            found[path] = {path: given[path]}
        elif end is None or len(paths_of[end]) > 1:
            continue
        elif end == path or len(keys_of[end]) == 1:
            found[path] = {keys[number]: given[keys[number]] for number in keys_of[end]}
    return found


def _texts(values: NDArray[Any]) -> Keys:
    return np.array([as_path(str(value)) for value in values.tolist()], dtype=np.str_)


def _of_trial(trials: Trials, *_: Any) -> KeysAndValues:
    rows = np.arange(trials.n_trials).astype(np.str_)
    return rows, rows


def _of_key(trials: Trials, *_: Any) -> KeysAndValues | None:
    if trials.stimulus_key is None:
        return None
    keys = _texts(trials.stimulus_key)
    return keys, keys


def _of_stimulus(name: str) -> Callable[..., KeysAndValues | None]:
    """Keys of the paired stimuli, '' of trials without; and of all stimuli."""

    def keys(
        trials: Trials, stimulus: NDArray[np.int64], stimuli: Stimuli | None
    ) -> KeysAndValues | None:
        if stimuli is None:
            return None
        values = _texts(getattr(stimuli, name))
        return np.where(stimulus >= 0, values[stimulus], ""), values

    return keys


def _of_label(trials: Trials, _: NDArray[np.int64], stimuli: Stimuli | None) -> KeysAndValues:
    keys = np.where(trials.label >= 0, trials.label.astype(np.str_), "")
    more = np.empty(0, np.int64) if stimuli is None else stimuli.label[stimuli.label >= 0]
    return keys, np.concatenate([keys, more.astype(np.str_)])


# From trials, the rows of their stimuli, and the stimuli: str, (trial,), the key of each trial, and
# all values that a key can have; None where trials have no such key.
KINDS: Final[Mapping[str, Callable[..., KeysAndValues | None]]] = {
    "trial": _of_trial,
    "stimulus_key": _of_key,
    "image_path": _of_stimulus("image_path"),
    "concept": _of_stimulus("concept"),
    "label": _of_label,
}


@hookimpl
def eegstore_splits() -> list[type[PublishedSplit]]:
    """The split of this module."""
    return [PublishedSplit]
