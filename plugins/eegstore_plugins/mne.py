"""Reads epochs and continuous recordings in every format that MNE-Python reads."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError, Trials, digest_files, hookimpl, nearest
from eegstore_plugins.files import what_is_there
from eegstore_plugins.mne_files import files_of
from eegstore_plugins.names import in_natural_order

TMIN_S: Final = -0.2
TMAX_S: Final = 0.8
MAX_HINTS: Final = 6
MAX_LINE: Final = 200
MAX_LISTED: Final = 12
SECONDS: Final = {"json_schema_extra": {"unit": "s"}}
HZ: Final = {"gt": 0, "json_schema_extra": {"unit": "Hz"}}
NOT_AN_EVENT: Final = re.compile("bad|edge", re.IGNORECASE)  # as MNE reads annotations
REASONS: Final = {
    "NO_DATA": "too close to an edge",
    "TOO_SHORT": "too close to an edge",
    "DROP DUPLICATE": "at the sample of another event",
}


class Recording(NamedTuple):
    """One file as processed MNE epochs, and what became of its events.

    ``onset`` is float64, (trial,), in s from the file's start; ``lost`` has a line an event that
    became no trial; ``seen`` names every event of the file, also those not asked for.
    """

    epochs: Any
    event: list[str]
    onset: NDArray[np.float64]
    lost: list[str]
    seen: set[str]


@dataclass(frozen=True)
class MneRecording:
    """Recordings that MNE-Python reads: epochs (FIF, EEGLAB) or continuous ones, cut at events.

    Each file is processed by itself and in this order: reference, picks, filter, cut (with
    baseline), resample. Continuous signals are filtered before they are cut; epochs as they are,
    which distorts their edges. Channels marked bad are kept. Channels come in the order of the
    first file; the others' are put in that order by name. Signals are in V.

    Events that MNE leaves out (too close to an edge, in a segment annotated ``BAD…``, at the
    sample of another event) are listed among the skipped. Annotations whose description starts
    with ``bad`` or ``edge`` are no events. Follows Gramfort et al. 2013,
    https://doi.org/10.3389/fnins.2013.00267.
    """

    name: ClassVar[str] = "mne"
    version: ClassVar[str] = "1"

    path: tuple[Path, ...] | Path = field(
        metadata={"description": "One file or a list of files, in the order of their trials."}
    )
    events: Literal["annotations", "stim"] = field(
        default="annotations",
        metadata={"description": "Where the events of a continuous recording are."},
    )
    stim_channel: str | None = field(
        default=None, metadata={"description": "Channel of the events; MNE's choice by default."}
    )
    event_id: dict[str, int] | None = field(
        default=None,
        metadata={
            "description": "Label of each event to keep, by its name (of a stim channel: the "
            "value as text). By default all are kept, labelled in the natural order of the names.",
            "min_length": 1,
        },
    )
    tmin: float | None = field(
        default=None,
        metadata={"description": f"Start of a trial; {TMIN_S} where not cut yet.", **SECONDS},
    )
    tmax: float | None = field(
        default=None,
        metadata={"description": f"End of a trial, kept; {TMAX_S} where not cut yet.", **SECONDS},
    )
    baseline: tuple[float, float] | None = field(
        default=None,
        metadata={"description": "Interval whose mean is subtracted; none by default.", **SECONDS},
    )
    picks: tuple[str, ...] | str = field(
        default="eeg", metadata={"description": "A channel type, or a list of names or of types."}
    )
    l_freq: float | None = field(
        default=None, metadata={"description": "Lower edge of the pass band.", **HZ}
    )
    h_freq: float | None = field(
        default=None, metadata={"description": "Upper edge of the pass band.", **HZ}
    )
    resample: float | None = field(
        default=None, metadata={"description": "Sampling rate to change the trials to.", **HZ}
    )
    reference: tuple[str, ...] | Literal["average"] | None = field(
        default=None,
        metadata={"description": '"average", or the channels whose mean is the reference.'},
    )

    def __post_init__(self) -> None:
        if not self.paths:
            raise ValueError("path is an empty list, expected one or more files")
        if self.tmin is not None and self.tmax is not None and self.tmin >= self.tmax:
            raise ValueError(f"tmin {self.tmin} s is not before tmax {self.tmax} s")
        if self.l_freq is not None and self.h_freq is not None and self.l_freq >= self.h_freq:
            raise ValueError(f"l_freq {self.l_freq} Hz is not below h_freq {self.h_freq} Hz")
        for name, label in (self.event_id or {}).items():
            if label < -1:
                raise ValueError(f"event_id: {name!r} has label {label}, expected -1 or more")
        if self.stim_channel is not None and self.events != "stim":
            raise ValueError(f'stim_channel {self.stim_channel!r} needs events = "stim"')

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, in the order of their trials."""
        return (self.path,) if isinstance(self.path, Path) else self.path

    def scan(self) -> Trials:
        return self._trials

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        run = self._index["run"]
        parts = []
        # A range of no rows has the axes of the first file.
        for number in np.unique(run[start:stop]).tolist() or run[:1].tolist():
            first = int(np.searchsorted(run, number))
            parts.append(self._signal(number)[max(start - first, 0) : stop - first])
        return np.concatenate(parts)

    def state(self) -> dict[str, NDArray[Any]]:
        """File of each trial, and the order of the channels."""
        trials = self._trials
        return {"run": trials.columns["run"], "ch_names": np.array(trials.ch_names)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take the index from ``state`` in place of a pass over the files."""
        vars(self)["_index"] = dict(state)

    def fingerprint(self) -> str:
        """Digest of the bytes of the files and of those that belong to them."""
        return digest_files(one for path in self.paths for one in files_of(path))

    @cached_property
    def _index(self) -> dict[str, NDArray[Any]]:
        return self.state()

    @cached_property
    def _loaded(self) -> dict[int, NDArray[np.float32]]:
        """The signal of the file that was read last, by the file's number."""
        return {}

    @cached_property
    def _trials(self) -> Trials:
        said: list[str] = []
        files = [self._load(path, said, signal=False) for path in self.paths]
        for path, file in zip(self.paths[1:], files[1:], strict=True):
            _refuse_difference(self.paths[0], files[0].epochs, path, file.epochs)
        epochs = files[0].epochs
        event = np.concatenate([file.event for file in files])
        label_of = self._label_of(set().union(*(file.seen for file in files)))
        return Trials(
            n_trials=len(event),
            ch_names=epochs.ch_names,
            ch_types=epochs.get_channel_types(),
            sfreq=epochs.info["sfreq"],
            times=epochs.times,
            units="V",
            label=np.array([label_of[name] for name in event.tolist()]),
            stimulus_key=event,
            columns={
                "run": np.repeat(np.arange(len(files)), [len(file.event) for file in files]),
                "onset": np.concatenate([file.onset for file in files]),
            },
            skipped=[line for file in files for line in file.lost],
            hints=tuple(dict.fromkeys(said))[:MAX_HINTS],
        )

    def _label_of(self, seen: set[str]) -> dict[str, int]:
        """The label of each event's name, the same whichever file it is in."""
        if self.event_id is None:
            return {name: label for label, name in enumerate(in_natural_order(seen))}
        for name in self.event_id:
            if name not in seen:
                raise InputError(f"event_id: no file has an event {name!r}; {nearest(name, seen)}")
        return self.event_id

    def _signal(self, number: int) -> NDArray[np.float32]:
        """float32, (trial, channel, time), in V: a file's trials, kept until another is read."""
        if number not in self._loaded:
            self._loaded.clear()
            path = self.paths[number]
            epochs = self._load(path, []).epochs
            order, run = self._index["ch_names"].tolist(), self._index["run"]
            if len(epochs) != np.count_nonzero(run == number) or {*order} != {*epochs.ch_names}:
                raise InputError(f"{path}: changed since it was scanned; build again")
            rows = [epochs.ch_names.index(name) for name in order]
            with np.errstate(over="ignore"):
                self._loaded[number] = epochs.get_data(copy=False)[:, rows].astype(np.float32)
        return self._loaded[number]

    def _load(self, path: Path, said: list[str], *, signal: bool = True) -> Recording:
        """A file as the options say, or its first trial alone; MNE's warnings go to ``said``."""
        with _quiet_mne(path, said) as mne:
            recording = _open(mne, path)
            cut = self._select if isinstance(recording, mne.BaseEpochs) else self._cut
            found = cut(mne, path, recording)
            if not found.event:
                raise InputError(f"{path}: no event is left as a trial: {found.lost[0]}")
            if found.lost:
                n_events = len(found.event) + len(found.lost)
                said.append(f"{len(found.lost)} of {n_events} events left out: {found.lost[0]}; …")
            if self.resample is not None:
                found.epochs.resample(self.resample)
            return found if signal else found._replace(epochs=found.epochs[:1])

    def _cut(self, mne: Any, path: Path, raw: Any) -> Recording:
        """The trials of a continuous recording."""
        events, names = self._events(mne, path, raw)
        rows = self._wanted(path, names, f"annotations {_listed(raw.annotations.description)}")
        onset = (events[:, 0] - raw.first_samp) / raw.info["sfreq"]
        self._clean(mne, path, raw)
        tmin = TMIN_S if self.tmin is None else self.tmin
        tmax = TMAX_S if self.tmax is None else self.tmax
        epochs = mne.Epochs(
            raw, events[rows], None, tmin, tmax, self.baseline, preload=True, event_repeated="drop"
        )
        lost = [
            f"{path.name}: {names[row]!r} at {onset[row]:.3f} s: {REASONS.get(why[0], why[0])}"
            for row, why in zip(rows, epochs.drop_log, strict=True)
            if why
        ]
        rows = [rows[i] for i in epochs.selection.tolist()]
        return Recording(epochs, [names[row] for row in rows], onset[rows], lost, set(names))

    def _select(self, mne: Any, path: Path, epochs: Any) -> Recording:
        """The trials of a recording that is cut already."""
        name_of = {code: name for name, code in epochs.event_id.items()}
        names = [name_of[code] for code in epochs.events[:, 2].tolist()]
        rows = self._wanted(path, names, _listed(names))
        onset = epochs.events[rows, 0] / epochs.info["sfreq"]
        epochs = epochs[rows]
        self._clean(mne, path, epochs)
        if self.tmin is not None or self.tmax is not None:
            epochs.crop(self.tmin, self.tmax)
        if self.baseline is not None:
            epochs.apply_baseline(self.baseline)
        return Recording(epochs, [names[row] for row in rows], onset, [], set(names))

    def _events(self, mne: Any, path: Path, raw: Any) -> tuple[NDArray[np.int64], list[str]]:
        """MNE's events, int64 (event, 3), and the name of each."""
        if self.events == "annotations":
            names = sorted({d for d in raw.annotations.description if not NOT_AN_EVENT.match(d)})
            codes = {name: code for code, name in enumerate(names)}
            if not names:
                return np.empty((0, 3), dtype=np.int64), []
            events = mne.events_from_annotations(raw, codes)[0]
            return events, [names[code] for code in events[:, 2].tolist()]
        stim = [raw.ch_names[i] for i in mne.pick_types(raw.info, stim=True)]
        if not stim or self.stim_channel not in {None, *raw.ch_names}:
            wanted = repr(self.stim_channel) if self.stim_channel else "of type stim"
            raise InputError(f"{path}: no channel {wanted}; its stim channels: {_listed(stim)}")
        events = mne.find_events(raw, self.stim_channel)
        return events, [str(value) for value in events[:, 2].tolist()]

    def _wanted(self, path: Path, names: list[str], there: str) -> list[int]:
        """Rows of the events to keep, at least one."""
        if not names:
            raise InputError(f"{path}: has no event among its {self.events}; it has {there}")
        if self.event_id is None:
            return list(range(len(names)))
        rows = [row for row, name in enumerate(names) if name in self.event_id]
        if not rows:
            asked = next(iter(self.event_id))
            raise InputError(f"{path}: has no event {asked!r}; {nearest(asked, set(names))}")
        return rows

    def _clean(self, mne: Any, path: Path, recording: Any) -> None:
        """Reference, pick and filter, in place."""
        if self.reference is not None:
            reference = self.reference if self.reference == "average" else list(self.reference)
            recording.load_data().set_eeg_reference(reference)
        recording.pick(self.picks)
        fiff = mne.io.constants.FIFF
        for one in recording.info["chs"]:
            if one["unit"] != fiff.FIFF_UNIT_V or one["kind"] == fiff.FIFFV_STIM_CH:
                raise InputError(f"{path}: channel {one['ch_name']!r} is not in V; set picks")
        if self.l_freq is not None or self.h_freq is not None:
            recording.load_data().filter(self.l_freq, self.h_freq, picks="all")


@contextlib.contextmanager
def _quiet_mne(path: Path, said: list[str]) -> Iterator[Any]:
    """MNE, with its warnings turned into ``said`` and its errors into one line about a file."""
    try:
        import mne
    except ImportError:
        raise InputError("MNE-Python is not there; run: pip install 'eegstore[mne]'") from None
    with (
        warnings.catch_warnings(record=True) as caught,
        mne.use_log_level("WARNING"),
        mne.utils.catch_logging(),
    ):
        warnings.simplefilter("always")
        try:
            yield mne
        except (InputError, MemoryError):
            raise
        except Exception as error:  # each of MNE's readers fails in its own way
            raise InputError(f"{path}: MNE cannot use it: {_one_line(repr(error))}") from error
    told = [str(one.message) for one in caught if issubclass(one.category, RuntimeWarning)]
    said += [f"{path.name}: {_one_line(message)}" for message in told]


def _open(mne: Any, path: Path) -> Any:
    """Epochs or a continuous recording, whichever the file holds."""
    files = files_of(path)
    for file in files:
        if not file.is_file():
            what = what_is_there(file)
            raise InputError(f"{file}: {what}, expected a recording; path lists their files")
    if ".fif" in path.suffixes and mne.what(path) == "epochs":
        return mne.read_epochs(path)
    try:
        raw = mne.io.read_raw(path)
    except TypeError:
        if path.suffix.lower() != ".set":
            raise
        return mne.read_epochs_eeglab(path)
    for file in filter(None, raw.filenames):
        if Path(file).resolve() not in [one.resolve() for one in files]:
            raise InputError(f"{path}: continues in {file}; rename that as MNE names the parts")
    return raw


def _refuse_difference(first_path: Path, first: Any, path: Path, epochs: Any) -> None:
    """Refuse epochs whose trials are not shaped as those of the first file."""
    odd = {*first.ch_names} ^ {*epochs.ch_names}
    if odd:
        raise InputError(f"{path}: it or {first_path.name} lacks {_listed(odd)}; set picks")
    if first.info["sfreq"] != epochs.info["sfreq"] or not np.array_equal(first.times, epochs.times):
        raise InputError(
            f"{path}: {_samples(epochs)}, but {first_path.name} has {_samples(first)}; "
            "set tmin, tmax and resample"
        )


def _samples(epochs: Any) -> str:
    times, sfreq = epochs.times, epochs.info["sfreq"]
    return f"{len(times)} samples from {times[0]:g} to {times[-1]:g} s at {sfreq} Hz"


def _listed(names: Iterable[str]) -> str:
    """The different names in their natural order, the first few of them."""
    ordered = [repr(name) for name in in_natural_order(set(names))]
    shown = ordered if len(ordered) <= MAX_LISTED else [*ordered[:MAX_LISTED], "…"]
    return ", ".join(shown) or "none"


def _one_line(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in " ".join(text.split()))[:MAX_LINE]


@hookimpl
def eegstore_sources() -> list[type[MneRecording]]:
    """Recordings in every format that MNE-Python reads."""
    return [MneRecording]
