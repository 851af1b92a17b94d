"""Reads MindBigData's raw text, "the MNIST of brain digits", without ever holding the file."""

from __future__ import annotations

import os
import re
import weakref
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError, Trials, digest_files, hookimpl


class Device(NamedTuple):
    """A headset: its sampling rate in Hz, and its channels in the order that the data set names."""

    sfreq: float
    ch_names: tuple[str, ...]


DEVICES: Final = {
    "MW": Device(512.0, ("FP1",)),
    "EP": Device(
        128.0,
        ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4"),
    ),
    "MU": Device(220.0, ("TP9", "FP1", "FP2", "TP10")),
    "IN": Device(128.0, ("AF3", "AF4", "T7", "T8", "PZ")),
}
TRIAL_S: Final = 2.0

N_FIELDS: Final = 7
INTEGER_FIELDS: Final = {"id": 0, "event": 1, "code": 4, "size": 5}
INTEGER: Final = re.compile(rb"-?\d{1,18}")
NUMBER: Final = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

# One sound row of the file; offset and length are its data's, in bytes.
ROW_FIELDS: Final = ("event", "channel", "line", "code", "size", "offset", "length")
ROW: Final = np.dtype([(name, np.int64) for name in ROW_FIELDS])
READ_BYTES: Final = 1 << 20
MAX_LINE_BYTES: Final = 1 << 24
SHOWN: Final = 5


def _byte_table(bits: Mapping[bytes, int]) -> bytes:
    """The bits of each of the 256 bytes, as ``bytes.translate`` takes them."""
    return bytes(sum(bit for chars, bit in bits.items() if byte in chars) for byte in range(256))


# A list of plain numbers, such as -12 or 4329.23: what each byte is, and what may come after it.
DIGITS: Final = b"0123456789"
DIGIT, COMMA, SIGN, POINT = 1, 2, 4, 8
KIND: Final = _byte_table({DIGITS: DIGIT, b",": COMMA, b"-": SIGN, b".": POINT})
AFTER: Final = _byte_table(
    {DIGITS: DIGIT | COMMA | POINT, b",": DIGIT | SIGN, b"-": DIGIT, b".": DIGIT}
)


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


class Damage:
    """The first problem of each event; a row that names no event stands for one."""

    def __init__(self) -> None:
        self._first: dict[int | str, tuple[int, str]] = {}

    def add(self, line: int, event: int | None, problem: str) -> None:
        """Keep a problem, unless the event has one."""
        key: int | str = f"line {line}" if event is None else event
        shown = "event unknown" if event is None else f"event {event}"
        self._first.setdefault(key, (line, f"line {line}: {shown}: {problem}"))

    def events(self) -> list[int]:
        """The damaged events that are known by number."""
        return [event for event in self._first if isinstance(event, int)]

    def lines(self) -> tuple[str, ...]:
        """One line an event, in the file's order."""
        return tuple(text for _, text in sorted(self._first.values()))


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
            hints=self._hints(found.n_samples, found.where.n_times),
        )

    def _hints(self, n_samples: NDArray[np.int64], n_times: int) -> tuple[str, ...]:
        """What a user should know of the padding."""
        n_padded = int((n_samples < n_times).sum())
        if not n_padded:
            return ()
        return (
            f"{n_padded} of {len(n_samples)} trials are shorter than n_times = {n_times} and are "
            f"padded (pad = {self.pad!r}); n_times = {n_samples.min()} needs no padding",
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
        damage = Damage()
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
            raise InputError(f"{self.path}: no such file, expected MindBigData's text")
        found = _rows_by_device(self.path, self.device, damage)
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


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Each line that is not blank: its number, its byte offset, and its bytes without the end."""
    offset = 0
    with path.open("rb", buffering=READ_BYTES) as file:
        for number, line in enumerate(iter(partial(file.readline, MAX_LINE_BYTES), b""), start=1):
            if len(line) == MAX_LINE_BYTES:
                raise InputError(
                    f"{path.name}: line {number} is longer than {MAX_LINE_BYTES >> 20} MiB, "
                    "expected MindBigData's tab-separated text"
                )
            content = line.rstrip(b"\r\n")
            if content:
                yield number, offset, content
            offset += len(line)


def _rows_by_device(path: Path, wanted: str | None, damage: Damage) -> dict[str, NDArray[Any]]:
    """The sound rows of each device, or of the wanted one alone, as ``ROW`` in the file's order."""
    found: dict[str, array[int]] = {}
    for line, offset, content in _lines(path):
        fields = content.split(b"\t")
        device = _text(fields[2]) if len(fields) > 2 else ""
        if wanted is not None and device != wanted and device in DEVICES:
            continue
        problem = _problem(fields)
        if problem:
            damage.add(line, _event(fields), problem)
            continue
        _, event, _, channel, code, size, data = fields
        place = DEVICES[device].ch_names.index(channel.decode())
        start = offset + len(content) - len(data)
        row = (int(event), place, line, int(code), int(size), start, len(data))
        found.setdefault(device, array("q")).extend(row)
    return {device: np.frombuffer(rows, dtype=ROW) for device, rows in found.items()}


def _event(fields: list[bytes]) -> int | None:
    """The number of a damaged row's event, if it can be told."""
    return int(fields[1]) if len(fields) > 1 and INTEGER.fullmatch(fields[1]) else None


def _text(field: bytes) -> str:
    return field.decode("utf-8", "backslashreplace")


def _problem(fields: list[bytes]) -> str:
    """Why a row cannot be one channel of a trial, or an empty string."""
    if len(fields) != N_FIELDS:
        return f"the row has {len(fields)} fields, expected {N_FIELDS} separated by tabs"
    for name, at in INTEGER_FIELDS.items():
        if not INTEGER.fullmatch(fields[at]):
            return f"{name} is {_text(fields[at])!r:.40}, expected an integer"
    device, channel, code = _text(fields[2]), _text(fields[3]), int(fields[4])
    if device not in DEVICES:
        return f"device is {device!r:.40}, expected one of {', '.join(DEVICES)}"
    if channel not in DEVICES[device].ch_names:
        known = ", ".join(DEVICES[device].ch_names)
        return f"channel is {channel!r:.40}, expected one of {device}'s {known}"
    if code < -1:
        return f"code is {code}, expected a digit, or -1 for none"
    return _data_problem(channel, int(fields[5]), fields[6])


def _data_problem(channel: str, size: int, data: bytes) -> str:
    """Why a row's data is not ``size`` numbers, or an empty string."""
    n_values = data.count(b",") + 1 if data else 0
    if n_values != size:
        return f"{channel} has {n_values} values, declares {size}"
    if size == 0:
        return f"{channel} has no values"
    if _is_plain(data):
        return ""
    for at, value in enumerate(data.split(b","), start=1):
        if not NUMBER.fullmatch(value):
            return f"value {at} of {channel} is {_text(value)!r:.40}, expected a number"
    return ""


def _is_plain(data: bytes) -> bool:
    """Whether data is plain numbers alone, told some ten times faster than by matching each."""
    text = b",%b," % data
    kind = np.frombuffer(text.translate(KIND), dtype=np.uint8)
    after = np.frombuffer(text.translate(AFTER), dtype=np.uint8)
    if not (after[:-1] & kind[1:]).all():
        return False
    return b".." not in text.translate(None, DIGITS + b"-")


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
