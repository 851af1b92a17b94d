"""Splits that others have published, from a file."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError, Stimuli, Trials, hookimpl, nearest
from eegstore_plugins.split_options import UNPAIRED

MAX_BYTES: Final = 1 << 28
By = Literal["trial", "stimulus_key", "image_path", "concept", "label"]
Keys = NDArray[np.str_]


@dataclass(frozen=True)
class PublishedSplit:
    """Splits of a file that names the split of each trial, stimulus or concept.

    Notes
    -----
    JSON is an object of lists, ``{"train": [key, …], "test": [key, …]}``, or of names,
    ``{key: "train"}``, or a list of one name a trial. CSV has a header with the column ``split``
    and one more, which is named after what its keys are (see ``by``). A key is a row of trials,
    counted from 0; what the source says was shown; the path of the paired image, whole or its
    last part; its concept; or the label of the trial.

    Keys that no trial has are no error: a list may name images that were left out.
    """

    name: ClassVar[str] = "published"
    version: ClassVar[str] = "1"

    path: Path = field(metadata={"description": "The file, .json or .csv."})
    by: By | None = field(
        default=None,
        metadata={
            "description": "What a key is; of CSV the other column's name by default, of JSON the "
            "first of these that fits all keys, else most."
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
        chosen = self.by or by
        keys = {name: of(trials, stimulus, stimuli) for name, of in KEYS.items()}
        if chosen is None:
            chosen = max(keys, key=lambda name: _n_found(given, keys[name]))
        of_trial = keys[chosen]
        if of_trial is None:
            raise InputError(
                f"split 'published': {self.path.name} goes by {chosen}, which trials of this "
                "recipe do not have; set by"
            )
        return self._named(given, chosen, of_trial)

    def _named(self, given: Mapping[str, str], by: str, keys: Keys) -> NDArray[np.str_]:
        """str, (trial,): the split of each trial's key; of one without a key, 'unpaired'."""
        short = {_name(key): split for key, split in given.items()} if by == "image_path" else {}
        found: dict[str, str] = {"": self.unnamed or UNPAIRED}
        for key in np.unique(keys[keys != ""]).tolist():
            split = given.get(key) or short.get(_name(key)) or self.unnamed
            if split is None:
                n_trials = np.count_nonzero(keys == key)
                near = "" if key.isdecimal() else f"{nearest(key, given)}; "
                raise InputError(
                    f"split 'published': {self.path.name} names no split of the {by} {key!r:.200} "
                    f"(trials: {n_trials}); {near}add it, or say where such trials go, as "
                    'unnamed = "train"'
                )
            found[key] = split
        return np.array([found[key] for key in keys.tolist()])

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
        if header.count("split") != 1 or len(others) != 1 or others[0] not in (*KEYS, self.by):
            raise InputError(
                f"{self.path.name}: begins with {', '.join(header) or 'nothing'}, expected two "
                f"columns: split, and one of {', '.join(KEYS)}"
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
            text = _composed(str(key))
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


def _composed(text: str) -> str:
    """The text in one Unicode form, with the separators of a path."""
    return unicodedata.normalize("NFC", text).replace("\\", "/").removeprefix("./")


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _n_found(given: Mapping[str, str], keys: Keys | None) -> int:
    """How many trials' keys the file has; by the last part too, lest a folder decide."""
    if keys is None:
        return -1
    names = given.keys() | {_name(key) for key in given}
    values, counts = np.unique(keys, return_counts=True)
    return sum(
        count
        for key, count in zip(values.tolist(), counts.tolist(), strict=True)
        if key and (key in names or _name(key) in names)
    )


def _texts(values: NDArray[Any]) -> Keys:
    return np.array([_composed(str(value)) for value in values.tolist()], dtype=np.str_)


def _of_stimulus(name: str) -> Callable[..., Keys | None]:
    """Keys of the paired stimuli; '' of trials without."""

    def keys(trials: Trials, stimulus: NDArray[np.int64], stimuli: Stimuli | None) -> Keys | None:
        if stimuli is None:
            return None
        return np.where(stimulus >= 0, _texts(getattr(stimuli, name))[stimulus], "")

    return keys


def _of_label(trials: Trials, *_: Any) -> Keys:
    return np.where(trials.label >= 0, trials.label.astype(np.str_), "")


def _of_key(trials: Trials, *_: Any) -> Keys | None:
    return None if trials.stimulus_key is None else _texts(trials.stimulus_key)


KEYS: Final[Mapping[str, Callable[..., Keys | None]]] = {
    "trial": lambda trials, *_: np.arange(trials.n_trials).astype(np.str_),
    "stimulus_key": _of_key,
    "image_path": _of_stimulus("image_path"),
    "concept": _of_stimulus("concept"),
    "label": _of_label,
}


@hookimpl
def eegstore_splits() -> list[type[PublishedSplit]]:
    """The split of this module."""
    return [PublishedSplit]
