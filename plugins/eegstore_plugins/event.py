"""Pairs a trial with the stimulus that its source names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import ClassVar, Final, Literal

import numpy as np

from eegstore import Column, InputError, Pairs, Stimuli, Trials, hookimpl
from eegstore_plugins.good_trials import MIN_QUALITY, QUALITY, good_trials, reads_of
from eegstore_plugins.names import as_path, by_end, composed, ends

Rows = list[int]
Matcher = Callable[[str], Rows]

INTEGER: Final = re.compile(r"[0-9]{1,18}")


def _by_path(stimuli: Stimuli) -> Matcher:
    """By the whole path, else by the end of the stimulus', else by the key's longest end."""
    paths = [composed(path) for path in stimuli.image_path.tolist()]
    having = by_end(paths)
    whole: dict[str, Rows] = {}
    for row, path in enumerate(paths):
        whole.setdefault(path, []).append(row)

    def rows(key: str) -> Rows:
        path = as_path(key)
        found = whole.get(path) or having.get(path)
        return found or next((whole[end] for end in ends(path) if end in whole), [])

    return rows


def _by_name(stimuli: Stimuli) -> Matcher:
    """By the file's name, with or without its suffix, or by the concept."""
    named: dict[str, Rows] = {}
    for row, (path, concept) in enumerate(
        zip(stimuli.image_path.tolist(), stimuli.concept.tolist(), strict=True)
    ):
        file = PurePosixPath(path)
        for name in set(map(composed, (file.name, file.stem, concept))):
            named.setdefault(name, []).append(row)
    return lambda key: named.get(key, [])


def _by_id(stimuli: Stimuli) -> Matcher:
    """By the label where every stimulus has one of its own, else by the row."""
    label = stimuli.label
    own = label.min() >= 0 and len(np.unique(label)) == len(label)
    ids = label.tolist() if own else range(stimuli.n_stimuli)
    row_of = {id_: [row] for row, id_ in enumerate(ids)}
    return lambda key: row_of.get(int(key), []) if INTEGER.fullmatch(key) else []


MATCHERS: Final[dict[str, Callable[[Stimuli], Matcher]]] = {
    "path": _by_path,
    "name": _by_name,
    "id": _by_id,
}


@dataclass(frozen=True)
class EventPairing:
    """Pairs each trial with the stimulus of its ``stimulus_key``; one without key stays unpaired.

    The score is 1. A trial of less ``quality`` than ``min_quality`` stays unpaired.
    """

    name: ClassVar[str] = "event"
    version: ClassVar[str] = "1"
    made_from: ClassVar[tuple[str, ...]] = ("stimulus_key",)
    cardinality: ClassVar[Literal["one"]] = "one"

    match: Literal["path", "name", "id", "auto"] = field(
        default="auto",
        metadata={
            "description": "What a key is. path: the image's path, or the end of it, or a path "
            "that ends with it; name: the file's name, with or without suffix, or the concept; "
            "id: the label's integer where every stimulus has another label, else the stimulus' "
            "row, from 0; auto: the first of these that finds a stimulus for the most keys."
        },
    )
    unmatched: Literal["error", "keep"] = field(
        default="error",
        metadata={
            "description": "A key without stimulus: reject the build, or keep the trial unpaired."
        },
    )

    quality: str = field(default="", metadata=QUALITY)
    min_quality: float = field(default=0.5, metadata=MIN_QUALITY)

    @property
    def reads(self) -> tuple[str, ...]:
        """The wide column of the quality."""
        return reads_of(self.quality)

    def __call__(self, trials: Trials, stimuli: Stimuli, columns: Mapping[str, Column]) -> Pairs:
        if trials.stimulus_key is None:
            raise InputError(
                "pairing 'event': the source does not name the stimuli of its trials "
                "(no stimulus_key); give them under [source] (npy: stimulus_keys, hdf5: "
                'stimulus_key, or a source of your own), or use [pairing] plugin = "label"'
            )
        good = good_trials(self.quality, self.min_quality, columns, trials.n_trials)
        keys = np.where(good, trials.stimulus_key, "").tolist()
        n_trials = Counter(keys)
        found = self._find(n_trials, stimuli)
        row_of = {key: self._row(key, found[key], n_trials[key], stimuli) for key in n_trials}
        stimulus = np.fromiter(map(row_of.__getitem__, keys), dtype=np.int64, count=len(keys))
        score = np.where(stimulus >= 0, 1, np.nan).astype(np.float32)
        return Pairs(stimulus=stimulus, score=score)

    def _row(self, key: str, rows: Rows, n_trials: int, stimuli: Stimuli) -> int:
        """The one row that fits a key, -1 for none where that is allowed."""
        paths = stimuli.image_path
        if len(rows) > 1:
            raise InputError(
                f"pairing 'event': the key {key!r} ({n_trials} trials) fits two stimuli, "
                f"{paths[rows[0]].item()!r} and {paths[rows[1]].item()!r}; "
                "set match to path, name or id, or give them different names"
            )
        if key and not rows and self.unmatched == "error":
            raise InputError(
                f"pairing 'event': no stimulus fits the key {key!r} ({n_trials} trials), "
                f'expected one like {paths[0].item()!r}; set match, or unmatched = "keep"'
            )
        return rows[0] if rows else -1

    def _find(self, keys: Iterable[str], stimuli: Stimuli) -> dict[str, Rows]:
        """The rows of stimuli that fit each key; none fits the empty key."""
        matches = [self.match] if self.match != "auto" else list(MATCHERS)
        matchers = [MATCHERS[match](stimuli) for match in matches]
        found = [{key: fits(composed(key)) if key else [] for key in keys} for fits in matchers]
        return max(found, key=lambda rows: sum(map(bool, rows.values())))


@hookimpl
def eegstore_pairings() -> list[type[EventPairing]]:
    """The pairing of this module."""
    return [EventPairing]
