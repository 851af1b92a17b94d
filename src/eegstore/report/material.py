"""What the sections of a report share: a store, its concepts, and seeded samples of its rows."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore.audit import Audit
from eegstore.findings import Finding
from eegstore.quality import VOLTS
from eegstore.report.markup import Markup
from eegstore.report.scales import counted
from eegstore.store import Store, StoredColumn

BLOCK_BYTES: Final = 1 << 24
MICROVOLT: Final = "µV"

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Omitted:
    """Why a section is not in the report: one sentence."""

    why: str


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading of its own."""

    key: str
    title: str
    body: Markup


@dataclass(frozen=True)
class Sample:
    """Some rows, drawn without replacement, in their order; and of how many they are."""

    rows: Rows
    n_rows: int

    def told(self, noun: str = "trial", plural: str | None = None) -> str:
        """How many of how many, for a caption."""
        if len(self.rows) == self.n_rows:
            return f"all {counted(self.n_rows, noun, plural)}"
        return f"{len(self.rows):,} of {counted(self.n_rows, noun, plural)}"


@dataclass(frozen=True)
class Material:
    """A store as the sections read it.

    Parameters
    ----------
    store
        The store.
    seed
        Seed of every sample.
    max_rows
        Most rows that a figure is made from.
    evaluations
        Documents of ``evaluate``.
    audit
        What ``examine`` found; None where it was not asked.
    refused
        Why a column that was learnt was not evaluated, a line each.
    """

    store: Store
    seed: int = 0
    max_rows: int = 2000
    evaluations: Sequence[Mapping[str, Any]] = ()
    audit: Audit | None = None
    refused: Sequence[str] = ()

    @property
    def findings(self) -> Sequence[Finding]:
        """What the audit found."""
        return self.audit.findings if self.audit is not None else ()

    def sample(self, rows: Rows, most: int | None = None) -> Sample:
        """Rows drawn without replacement: always the same of the same rows."""
        limit = self.max_rows if most is None else most
        if len(rows) <= limit:
            return Sample(rows, len(rows))
        chance = np.random.Generator(np.random.PCG64(self.seed))
        return Sample(np.sort(chance.choice(rows, limit, replace=False)), len(rows))

    def narrow(self, name: str) -> NDArray[Any] | None:
        """A narrow column of the trials, where the store has it."""
        column = self.store.trials.get(name)
        return None if column is None or column.entry.kind != "narrow" else column[:]

    @functools.cached_property
    def valid(self) -> Rows:
        """Rows of the trials that are free of NaN and Inf."""
        return np.flatnonzero(self.store.trials["valid"][:])

    @property
    def has_stimuli(self) -> bool:
        """Whether there is a second table."""
        return self.store.stimuli.n_rows > 0

    @functools.cached_property
    def stimulus(self) -> Rows:
        """int64, (trial,): each trial's row of the stimuli, or -1."""
        return np.asarray(self.store.trials["stimulus"][:], dtype=np.int64)

    @functools.cached_property
    def concept(self) -> NDArray[np.object_]:
        """str, (trial,): the name of each trial's concept; empty where nothing is known of it."""
        if self._was_shown and self.has_stimuli:
            return self._shown()
        label = self.store.trials["label"][:]
        names = self._label_names(label)
        values, inverse = np.unique(label, return_inverse=True)
        of_label = [names.get(one, f"label {one}") if one >= 0 else "" for one in values.tolist()]
        named = np.array(of_label, dtype=object)[inverse]
        unnamed = (named == "") & (self.stimulus >= 0)
        if self.has_stimuli and unnamed.any():
            named[unnamed] = self._shown()[unnamed]
        return named

    @property
    def _was_shown(self) -> bool:
        """Whether the pairs say what was shown, whatever the labels are."""
        facts = self.store.trials["stimulus"].attrs["eegstore"]
        by_event = (facts.get("producer") or {}).get("name") == "event"
        return by_event and bool((self.stimulus >= 0).any())

    def _shown(self) -> NDArray[np.object_]:
        """str, (trial,): the concept of the paired stimulus."""
        concepts = np.array([*self.store.stimuli["concept"][:].tolist(), ""], dtype=object)
        return concepts[self.stimulus]

    def _label_names(self, label: NDArray[np.int64]) -> dict[int, str]:
        """Names of labels: of the stimuli's concepts, else of the key that all its trials have."""
        if self.has_stimuli:
            labels, first = np.unique(self.store.stimuli["label"][:], return_index=True)
            concepts = self.store.stimuli["concept"][:][first].tolist()
            return dict(zip(labels.tolist(), concepts, strict=True))
        keys = self.narrow("stimulus_key")
        if keys is None:
            return {}
        pairs = sorted(set(zip(label.tolist(), keys.tolist(), strict=True)))
        alone = len({one for one, _ in pairs}) == len({key for _, key in pairs}) == len(pairs)
        return {one: key for one, key in pairs if key} if alone else {}

    @functools.cached_property
    def concepts(self) -> list[tuple[str, int]]:
        """Name and number of trials of each concept, the most frequent first."""
        known = self.concept[self.concept != ""].astype(str)
        names, counts = np.unique(known, return_counts=True)
        order = np.lexsort((names, -counts))
        return [(str(names[one]), int(counts[one])) for one in order]

    @property
    def eeg(self) -> StoredColumn:
        """The signal."""
        return self.store.trials["eeg"]

    @functools.cached_property
    def channels(self) -> Rows:
        """Numbers of the channels that are EEG: all, where none is said to be."""
        types = self.eeg.attrs.get("ch_types") or []
        of_type = np.flatnonzero([one == "eeg" for one in types])
        return of_type if len(of_type) else np.arange(self.eeg.spec.shape[0])

    @functools.cached_property
    def ch_names(self) -> list[str]:
        """Names of the channels that are EEG."""
        names = self.eeg.spec.coords["channel"]
        return [str(names[channel]) for channel in self.channels]

    @functools.cached_property
    def times(self) -> NDArray[np.float64]:
        """float64, (time,): seconds from stimulus onset."""
        return np.asarray(self.eeg.spec.coords["time"], dtype=np.float64)

    @property
    def sfreq(self) -> float:
        """Sampling rate in Hz."""
        return float(self.eeg.attrs["sfreq"])

    @property
    def unit(self) -> str:
        """Unit of the signal as it is shown: volts as microvolts."""
        return MICROVOLT if self.eeg.spec.units in VOLTS else self.eeg.spec.units or "1"

    @property
    def baseline(self) -> str:
        """What is subtracted from each trial and channel, for captions."""
        if self._before.any():
            return "the mean of the time before the stimulus"
        return "its mean over the trial"

    @property
    def _before(self) -> NDArray[np.bool_]:
        return self.times < 0

    def signals(self, rows: Rows) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """The EEG of rows, a few megabytes at a time, in the unit that is shown.

        Yields
        ------
        Which of the rows, and float64, (trial, channel, time): each trial and channel less its
        mean over the time before the stimulus, or over the trial where it begins with the stimulus.
        Samples past a trial's recorded length are NaN.
        """
        factor = VOLTS.get(self.eeg.spec.units, 1e-6) / 1e-6
        row_values = int(np.prod(self.eeg.spec.shape))
        step = max(1, BLOCK_BYTES // (8 * row_values))
        lengths = self.narrow("n_samples")
        within = self._before if self._before.any() else np.ones(len(self.times), dtype=np.bool_)
        for start in range(0, len(rows), step):
            part = slice(start, min(start + step, len(rows)))
            eeg = self.eeg[rows[part]][:, self.channels].astype(np.float64) * factor
            if lengths is not None:
                past = np.arange(len(self.times)) >= lengths[rows[part], None]
                eeg[np.broadcast_to(past[:, None], eeg.shape)] = np.nan
            yield part, eeg - _means(eeg[..., within])


def _means(eeg: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64, (trial, channel, 1): the mean of what is recorded; 0 where nothing is."""
    known = np.isfinite(eeg)
    counts = np.maximum(known.sum(axis=-1, keepdims=True), 1)
    means: NDArray[np.float64] = np.where(known, eeg, 0.0).sum(axis=-1, keepdims=True) / counts
    return means
