"""The rows of MindBigData's raw text: where each lies in the file, or why it is none."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError


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

N_FIELDS: Final = 7
INTEGER_FIELDS: Final = {"id": 0, "event": 1, "code": 4, "size": 5}
INTEGER: Final = re.compile(rb"-?\d{1,18}")
NUMBER: Final = re.compile(rb"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")

# One sound row of the file; offset and length are its data's, in bytes.
ROW_FIELDS: Final = ("event", "channel", "line", "code", "size", "offset", "length")
ROW: Final = np.dtype([(name, np.int64) for name in ROW_FIELDS])
READ_BYTES: Final = 1 << 20
MAX_LINE_BYTES: Final = 1 << 24
MAX_DAMAGED: Final = 100_000
SHOWN_BYTES: Final = 40
UTF8_MARK: Final = b"\xef\xbb\xbf"
UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


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


class Damage:
    """The first problem of each event; a row that names no event stands for one."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._first: dict[int | str, tuple[int, str]] = {}

    def add(self, line: int, event: int | None, problem: str) -> None:
        """Keep a problem, unless the event has one; refuse the file that has too many."""
        key: int | str = f"line {line}" if event is None else event
        shown = "event unknown" if event is None else f"event {event}"
        self._first.setdefault(key, (line, f"line {line}: {shown}: {problem}"))
        if len(self._first) > MAX_DAMAGED:
            raise InputError(
                f"{self._file}: more than {MAX_DAMAGED} events are damaged ({self.lines()[0]}); "
                "name a file of MindBigData's text"
            )

    def events(self) -> list[int]:
        """The damaged events that are known by number."""
        return [event for event in self._first if isinstance(event, int)]

    def lines(self) -> tuple[str, ...]:
        """One line an event, in the file's order."""
        return tuple(text for _, text in sorted(self._first.values()))


def is_ended(path: Path) -> bool:
    """Whether a file that is not empty ends as its lines do."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Each line that is not blank: its number, its byte offset, and its bytes without the end."""
    with path.open("rb", buffering=READ_BYTES) as file:
        offset = _skip_mark(file, path.name)
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


def _skip_mark(file: BinaryIO, name: str) -> int:
    """Go past the byte order mark that some editors begin a file with; where the text begins."""
    start = file.read(len(UTF8_MARK))
    if start.startswith(UTF16_MARKS):
        raise InputError(f"{name}: UTF-16 text, expected ASCII or UTF-8; save it as such")
    return file.seek(len(UTF8_MARK) if start == UTF8_MARK else 0)


def rows_by_device(path: Path, wanted: str | None, damage: Damage) -> dict[str, NDArray[Any]]:
    """The sound rows of each device, or of the wanted one alone, as ``ROW`` in the file's order."""
    found: dict[str, array[int]] = {}
    for line, offset, content in _lines(path):
        fields = content.split(b"\t", N_FIELDS)
        device = _name(fields[2]) if len(fields) > 2 else ""
        if wanted is not None and device != wanted and device in DEVICES:
            continue
        problem = _problem(fields, content.count(b"\t") + 1)
        if problem:
            damage.add(line, _event(fields), problem)
            continue
        _, event, _, channel, code, size, data = fields
        place = DEVICES[device].ch_names.index(_name(channel))
        start = offset + len(content) - len(data)
        row = (int(event), place, line, int(code), int(size), start, len(data))
        found.setdefault(device, array("q")).extend(row)
    return {device: np.frombuffer(rows, dtype=ROW) for device, rows in found.items()}


def _event(fields: list[bytes]) -> int | None:
    """The number of a damaged row's event, if it can be told."""
    return int(fields[1]) if len(fields) > 1 and INTEGER.fullmatch(fields[1]) else None


def _name(field: bytes) -> str:
    """A field that may name a device or a channel; the names that are known are ASCII."""
    return field.decode("latin-1")


def _shown(field: bytes) -> str:
    """The start of a field, quoted; what is not UTF-8 is escaped."""
    start = field[:SHOWN_BYTES]
    try:
        return repr(start.decode())
    except UnicodeDecodeError:
        return repr(start).removeprefix("b")


def _problem(fields: list[bytes], n_fields: int) -> str:
    """Why a row cannot be one channel of a trial, or an empty string."""
    if n_fields != N_FIELDS:
        return f"the row has {n_fields} fields, expected {N_FIELDS} separated by tabs"
    for name, at in INTEGER_FIELDS.items():
        if not INTEGER.fullmatch(fields[at]):
            return f"{name} is {_shown(fields[at])}, expected an integer"
    device, channel, code = _name(fields[2]), _name(fields[3]), int(fields[4])
    if device not in DEVICES:
        return f"device is {_shown(fields[2])}, expected one of {', '.join(DEVICES)}"
    if channel not in DEVICES[device].ch_names:
        known = ", ".join(DEVICES[device].ch_names)
        return f"channel is {_shown(fields[3])}, expected one of {device}'s {known}"
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
    if is_plain(data):
        return ""
    for at, value in enumerate(data.split(b","), start=1):
        if not NUMBER.fullmatch(value):
            return f"value {at} of {channel} is {_shown(value)}, expected a number"
    return ""


def is_plain(data: bytes) -> bool:
    """Whether data is plain numbers alone, told some ten times faster than by matching each."""
    text = b",%b," % data
    kind = np.frombuffer(text.translate(KIND), dtype=np.uint8)
    after = np.frombuffer(text.translate(AFTER), dtype=np.uint8)
    if not (after[:-1] & kind[1:]).all():
        return False
    return b".." not in text.translate(None, DIGITS + b"-")
