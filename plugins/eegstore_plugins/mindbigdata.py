"""Reads MindBigData's raw text, "the MNIST of brain digits", without ever holding the file."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError, Trials, digest_files, hookimpl
from eegstore_plugins.files import what_is_there
from eegstore_plugins.mindbigdata_rows import DEVICES, Damage, Device, is_ended, rows_by_device

TRIAL_S: Final = 2.0
SHOWN: Final = 5


class Index(NamedTuple):
    """Where the signal lies.

    ``rows`` is int64, (trial, channel, 4): line, byte offset, byte length, number of values.
    """

    rows: NDArray[np.int64]
    n_times: int


class Scan(NamedTuple):
    """What one pass over the file found; the vectors are int64, (trial,)."""

    device: Device
    event: NDArray[np.int64]
    code: NDArray[np.int64]
    n_samples: NDArray[np.int64]
    where: Index
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class MindBigData:
    """MindBigData's raw text: tab-separated ``id event device channel code size data``, no header.

    The rows of one event are one trial; channels come in the device's order, trials in the order
    in which the file first names them. ``code`` is the label, -1 where no digit was shown. Values
    are what the headset sent, in no physical unit, hence the unit ``"1"``. The format, the devices
    and their rates are described at http://www.mindbigdata.com/opendb/index.html.
    """

    name: ClassVar[str] = "mindbigdata"
    version: ClassVar[str] = "1"

    path: Path = field(metadata={"description": "The text file."})
    device: Literal["MW", "EP", "MU", "IN"] | None = field(
        default=None,
        metadata={"description": "Device to read; needed where the file holds more than one."},
    )
    n_times: int | None = field(
        default=None,
        metadata={
            "description": "Samples a trial, cropped or padded; 2 s of the device by default.",
            "ge": 1,
            "le": 10**7,
            "json_schema_extra": {"unit": "sample"},
        },
    )
    pad: Literal["nan", "zero", "edge"] = field(
        default="nan",
        metadata={"description": "What follows the last sample of a trial that is too short."},
    )
    allow_skips: bool = field(
        default=False,
        metadata={"description": "Leave damaged events out in place of rejecting the file."},
    )

    def scan(self) -> Trials:
        found = self._scan
        return Trials(
            n_trials=len(found.event),
            ch_names=found.device.ch_names,
            sfreq=found.device.sfreq,
            times=np.arange(found.where.n_times) / found.device.sfreq,
            units="1",
            label=found.code,
            columns={"event": found.event, "n_samples": found.n_samples},
            skipped=found.skipped,
            hints=tuple(self._hints(found.n_samples, found.where.n_times)),
        )

    def _hints(self, n_samples: NDArray[np.int64], n_times: int) -> Iterator[str]:
        """What a user should know of the padding, and of a file that may have been cut."""
        n_padded = int((n_samples < n_times).sum())
        if n_padded:
            yield (
                f"{n_padded} of {len(n_samples)} trials are shorter than n_times = {n_times} and "
                f"are padded (pad = {self.pad!r}); n_times = {n_samples.min()} needs no padding"
            )
        if not is_ended(self.path):
            yield (
                f"{self.path.name}: the last line has no end; if the file was cut there, the last "
                "value may lack digits: compare it with the original"
            )

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        rows, n_times = self._index
        wanted = rows[start:stop]
        fill = 0.0 if self.pad == "zero" else np.nan
        eeg = np.full((*wanted.shape[:2], n_times), fill, dtype=np.float32)
        for signal, row in zip(eeg.reshape(-1, n_times), wanted.reshape(-1, 4), strict=True):
            values = self._values(*row.tolist())[:n_times]
            signal[: len(values)] = values
            if self.pad == "edge":
                signal[len(values) :] = signal[len(values) - 1]
        return eeg

    def state(self) -> dict[str, NDArray[np.int64]]:
        """The index of the file, so that only one process passes over it."""
        return {"rows": self._index.rows, "n_times": np.array([self._index.n_times])}

    def restore(self, state: Mapping[str, NDArray[np.int64]]) -> None:
        """Take an index in place of a pass over the file."""
        vars(self)["_index"] = Index(state["rows"], int(state["n_times"][0]))

    def fingerprint(self) -> str:
        """Digest of the file's bytes."""
        return digest_files([self.path])

    @cached_property
    def _index(self) -> Index:
        return self._scan.where

    @cached_property
    def _scan(self) -> Scan:
        damage = Damage(self.path.name)
        device, rows = self._rows_of_one_device(damage)
        place = _place(rows, device, damage)
        place = place[~np.isin(rows["event"][place.max(axis=1)], damage.events())]
        skipped = damage.lines()
        if skipped and not (self.allow_skips and len(place)):
            raise self._refusal(skipped, len(place))
        first = rows[place[:, 0]]
        index = np.stack([rows[place][name] for name in ("line", "offset", "length", "size")], -1)
        n_times = self.n_times or round(TRIAL_S * device.sfreq)
        return Scan(
            device, first["event"], first["code"], first["size"], Index(index, n_times), skipped
        )

    def _rows_of_one_device(self, damage: Damage) -> tuple[Device, NDArray[Any]]:
        """The sound rows, as ``ROW``, of the one device that the file or the option names."""
        if not self.path.is_file():
            there = what_is_there(self.path)
            raise InputError(f"{self.path}: {there}, expected MindBigData's text")
        found = rows_by_device(self.path, self.device, damage)
        if len(found) > 1:
            raise InputError(
                f"{self.path.name}: holds the devices {', '.join(sorted(found))}, expected one; "
                'choose with device = "…"'
            )
        if not found and damage.lines():
            raise self._refusal(damage.lines(), 0)
        if not found:
            of_device = f" of device {self.device}" if self.device else ""
            raise InputError(f"{self.path.name}: no row{of_device}; expected at least one event")
        ((name, rows),) = found.items()
        return DEVICES[name], rows

    def _refusal(self, lines: tuple[str, ...], n_sound: int) -> InputError:
        """What to say of damage that the recipe does not allow."""
        shown = "; ".join(lines[:SHOWN]) + ("; …" if len(lines) > SHOWN else "")
        remedy = "allow_skips = true leaves them out" if n_sound else "no event is sound"
        return InputError(
            f"{self.path.name}: {len(lines)} of {len(lines) + n_sound} events are damaged "
            f"({shown}); {remedy}"
        )

    @cached_property
    def _descriptor(self) -> int:
        descriptor = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, descriptor)
        return descriptor

    def _values(self, line: int, offset: int, length: int, size: int) -> NDArray[np.float32]:
        """float32, (time,): the numbers of one row, parsed as Python's ``float`` does."""
        try:
            values = np.fromstring(os.pread(self._descriptor, length, offset), sep=",")
        except ValueError:
            values = np.empty(0)
        if len(values) != size:
            raise InputError(
                f"{self.path.name}: line {line}: no longer holds the {size} values that were there "
                "when it was scanned; build again, and leave the file alone meanwhile"
            )
        with np.errstate(over="ignore"):
            return values.astype(np.float32)


def _place(rows: NDArray[Any], device: Device, damage: Damage) -> NDArray[np.int64]:
    """int64, (trial, channel): the row of each, -1 for none; trials in the file's order.

    Events that are not one sound row a channel, all of one size and code, go to ``damage``.
    """
    _, first, inverse = np.unique(rows["event"], return_index=True, return_inverse=True)
    order = np.argsort(first)
    trial = np.argsort(order)[inverse]
    leaders = rows[first[order]]
    place = np.full((len(first), len(device.ch_names)), -1)
    cells, occupants = np.unique(trial * len(device.ch_names) + rows["channel"], return_index=True)
    place.flat[cells] = occupants

    def note(row: Any, problem: str) -> None:
        damage.add(int(row["line"]), int(row["event"]), problem)

    for row in np.delete(rows, occupants):
        note(row, f"a second row of {device.ch_names[row['channel']]}")
    for name in ("size", "code"):
        for number in np.flatnonzero(rows[name] != leaders[name][trial]):
            row, leader = rows[number], leaders[trial[number]]
            ours, other = (device.ch_names[one["channel"]] for one in (row, leader))
            note(row, f"{ours} has {name} {row[name]}, {other} has {leader[name]}")
    for leader, present in zip(leaders, place >= 0, strict=True):
        if not present.all():
            absent = [ch for ch, here in zip(device.ch_names, present, strict=True) if not here]
            note(leader, f"no row of {', '.join(absent)}")
    return place


@hookimpl
def eegstore_sources() -> list[type[MindBigData]]:
    """Offer the source."""
    return [MindBigData]
