"""Text and IDX files that are damaged, through the command line: refused by file, line and value.

A case of each kind; more are asked of the plugins alone, in ``test_mindbigdata`` and ``test_idx``.
What is unusual and harmless (other line ends, a byte order mark) gives the plain file's values.
"""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import eegstore
from command import check_build_refused, run_command

File = bytes | Callable[[Path], None]
Cases = dict[str, tuple[File, tuple[str, ...]]]

MUSE = ("TP9", "FP1", "FP2", "TP10")
TEXT_RECIPE = '[source]\nplugin = "mindbigdata"\npath = "brain.txt"\nn_times = 3\n'
IDX_RECIPE = TEXT_RECIPE + '[stimuli]\nplugin = "idx"\nimages = "images"\nlabels = "labels"\n'


def trial(event: int, values: bytes = b"1,-2.5,30") -> list[bytes]:
    return [b"7\t%d\tMU\t%b\t%d\t3\t%b\n" % (event, ch.encode(), event, values) for ch in MUSE]


LINES = trial(4) + trial(5)
TEXT = b"".join(LINES)


def line_6(old: bytes, new: bytes) -> bytes:
    """The text with its sixth line (event 5, FP1) changed."""
    assert LINES[5].count(old) == 1
    return b"".join([*LINES[:5], LINES[5].replace(old, new), *LINES[6:]])


def long_line(path: Path) -> None:
    """Sound trials, and then 1 GB without a line's end (a hole, which takes no room)."""
    path.write_bytes(TEXT)
    os.truncate(path, 1 << 30)


def of_another_format(path: Path) -> None:
    """300 MB of lines that are none of MindBigData's."""
    with path.open("wb") as file:
        file.writelines([b"1,2,3\n" * 500_000] * 100)


def put(path: Path, file: File) -> None:
    if isinstance(file, bytes):
        path.write_bytes(file)
    else:
        file(path)


NO_FILE: Cases = {
    "a folder": (lambda path: path.mkdir(), ("a folder, expected ",)),
    "a pipe": (os.mkfifo, ("a pipe, a socket or a device, expected ",)),
    "missing": (lambda path: None, ("no such file, expected ",)),
}
BAD_TEXT: Cases = {
    "a field too few": (
        line_6(b"\t5\t3\t", b"\t3\t"),
        ("line 6: event 5: the row has 6 fields, expected 7 separated by tabs",),
    ),
    "a field too many": (
        line_6(b"MU\t", b"MU\tMU\t"),
        ("line 6: event 5: the row has 8 fields, expected 7 separated by tabs",),
    ),
    "16 million fields": (
        TEXT + b"\t" * 16_000_000,
        ("line 9: event unknown: the row has 16000001 fields, expected 7",),
    ),
    "commas for tabs": (
        TEXT.replace(b"\t", b","),
        ("8 of 8 events", "line 1: event unknown: the row has 1 fields", "no event is sound"),
    ),
    "a word for a value": (
        line_6(b"-2.5", b"n/a"),
        ("line 6: event 5: value 2 of FP1 is 'n/a', expected a number",),
    ),
    "a control character": (
        line_6(b"-2.5", b"\x1b[31m"),
        (r"line 6: event 5: value 2 of FP1 is '\x1b[31m', expected a number",),
    ),
    "1 GB without a line's end": (
        long_line,
        ("line 9 is longer than 16 MiB, expected MindBigData's tab-separated text",),
    ),
    "300 MB of another format": (
        of_another_format,
        ("more than 100000 events are damaged (line 1: event unknown: the row has 1 fields",),
    ),
    "UTF-16": (TEXT.decode().encode("utf-16"), ("UTF-16 text, expected ASCII or UTF-8",)),
    "a byte order mark in the middle": (
        line_6(b"7\t5", b"\xef\xbb\xbf7\t5"),
        (r"line 6: event 5: id is '\ufeff7', expected an integer",),
    ),
    "not UTF-8": (
        line_6(b"FP1", b"FP\xb9"),
        (r"line 6: event 5: channel is 'FP\xb9', expected one of MU's TP9, FP1, FP2, TP10",),
    ),
    "empty": (b"", ("no row; expected at least one event",)),
    "a row twice": (
        TEXT + LINES[5],
        ("1 of 2 events are damaged", "line 9: event 5: a second row of FP1"),
    ),
    "a row missing": (
        TEXT.replace(LINES[5], b""),
        ("line 5: event 5: no row of FP1", "allow_skips = true leaves them out"),
    ),
    "cut between values": (
        TEXT.removesuffix(b",30\n"),
        ("line 8: event 5: TP10 has 2 values, declares 3", "allow_skips = true leaves them out"),
    ),
    "cut after a comma": (
        TEXT.removesuffix(b"30\n"),
        ("line 8: event 5: value 3 of TP10 is '', expected a number",),
    ),
    "cut between fields": (
        TEXT.removesuffix(b"\t1,-2.5,30\n"),
        ("line 8: event 5: the row has 6 fields, expected 7",),
    ),
    **NO_FILE,
}


@pytest.mark.promise("P14")
@pytest.mark.parametrize("name", BAD_TEXT)
def test_bad_text_is_refused_by_line_and_value(tmp_path: Path, name: str) -> None:
    file, parts = BAD_TEXT[name]
    put(tmp_path / "brain.txt", file)
    check_build_refused(TEXT_RECIPE, tmp_path, 3, "brain.txt: ", *parts)


CUT = "note: brain.txt: the last line has no end; if the file was cut there, the last value may"
ODD_TEXT = {
    "a byte order mark and CRLF": (b"\xef\xbb\xbf" + TEXT.replace(b"\n", b"\r\n"), ""),
    "blank lines and no end of the last": (TEXT.replace(b"\n", b"\n\n").rstrip(b"\n"), CUT),
}


@pytest.mark.promise("P14")
@pytest.mark.parametrize("name", ODD_TEXT)
def test_odd_text_gives_the_values_of_the_plain_file(tmp_path: Path, name: str) -> None:
    text, note = ODD_TEXT[name]
    (tmp_path / "brain.txt").write_bytes(text)
    (tmp_path / "recipe.toml").write_text(TEXT_RECIPE, encoding="utf-8")
    outcome = run_command("build", "recipe.toml", "out.zarr", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    assert ("note: " in outcome.out) == bool(note)
    assert note in " ".join(outcome.out.split())
    trials = eegstore.open_store(tmp_path / "out.zarr").trials
    assert trials["label"][:].tolist() == [4, 5]
    np.testing.assert_array_equal(trials["eeg"][:], [[[1, -2.5, 30]] * 4] * 2)


PIXELS = bytes(range(4 * 3 * 2))
LABELS = bytes([4, 5, 6, 7])


def idx(payload: bytes, *shape: int, kind: int = 8) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape) + payload


IMAGES = idx(PIXELS, 4, 3, 2)
PACKED = gzip.compress(IMAGES, mtime=0)
ZEROS = gzip.compress(bytes(1 << 24), mtime=0)


def bomb(*shape: int) -> bytes:
    """2 GiB of zeros under a header, packed into 2 MB."""
    return gzip.compress(idx(b"", *shape), mtime=0) + ZEROS * 128


def sparse(*shape: int) -> Callable[[Path], None]:
    """A file that holds as many zeros as its header promises, and takes no room."""

    def write(path: Path) -> None:
        path.write_bytes(idx(b"", *shape))
        os.truncate(path, 16 + shape[0] * shape[1] * shape[2])

    return write


BAD_IMAGES: Cases = {
    "empty": (b"", ("begins with nothing, expected 00 00 08 03",)),
    "labels": (idx(LABELS, 4), ("begins with 00 00 08 01, expected 00 00 08 03",)),
    "cut in the header": (IMAGES[:14], ("ends inside its header; fetch it again",)),
    "cut in the pixels": (
        IMAGES[:-1],
        ("has fewer than the 24 values that its header promises (shape (4, 3, 2))",),
    ),
    "something after the pixels": (IMAGES + b"\n", ("has more than the 24 values",)),
    "more than fits in memory": (
        sparse(1 << 20, 64, 64),
        ("promises 4294967296 values (shape (1048576, 64, 64)), expected at most 1073741824",),
    ),
    "a billion images of one pixel": (
        sparse(1 << 30, 1, 1),
        ("promises the shape (1073741824, 1, 1)", "at most (1048576, 1024, 1024)"),
    ),
    "gzip, cut": (PACKED[:-12], ("cannot be read (Compressed file ended before", "fetch it again")),
    "gzip, a flipped bit": (
        PACKED[:-8] + bytes([PACKED[-8] ^ 1]) + PACKED[-7:],
        ("cannot be read (CRC check failed", "fetch it again"),
    ),
    "a gzip bomb under a small header": (bomb(4, 3, 2), ("has more than the 24 values",)),
    "a gzip bomb under a large header": (
        bomb(1 << 20, 32, 64),
        ("promises 2147483648 values (shape (1048576, 32, 64)), expected at most 1073741824",),
    ),
}
BAD_LABELS: Cases = {
    "too few": (idx(LABELS[:3], 3), ("3 labels for the 4 images of", "name the two files of one")),
    "cut": (idx(LABELS[:3], 4), ("has fewer than the 4 values that its header promises",)),
    "a gzip bomb": (bomb(1 << 31), ("promises the shape (2147483648,)",)),
}


@pytest.mark.promise("P14")
@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_idx_images_are_refused_by_header_and_counts(tmp_path: Path, name: str) -> None:
    file, parts = BAD_IMAGES[name]
    put(tmp_path / "brain.txt", TEXT)
    put(tmp_path / "labels", idx(LABELS, 4))
    put(tmp_path / "images", file)
    check_build_refused(IDX_RECIPE, tmp_path, 3, "images': ", *parts)


@pytest.mark.promise("P14")
@pytest.mark.parametrize("name", BAD_LABELS)
def test_bad_idx_labels_are_refused_by_header_and_counts(tmp_path: Path, name: str) -> None:
    file, parts = BAD_LABELS[name]
    put(tmp_path / "brain.txt", TEXT)
    put(tmp_path / "images", IMAGES)
    put(tmp_path / "labels", file)
    check_build_refused(IDX_RECIPE, tmp_path, 3, "labels': ", *parts)


@pytest.mark.promise("P14")
def test_the_sound_files_that_were_damaged_above_are_built(tmp_path: Path) -> None:
    put(tmp_path / "brain.txt", TEXT)
    put(tmp_path / "images", PACKED)
    put(tmp_path / "labels", idx(LABELS, 4))
    (tmp_path / "recipe.toml").write_text(IDX_RECIPE, encoding="utf-8")
    outcome = run_command("build", "recipe.toml", "out.zarr", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    store = eegstore.open_store(tmp_path / "out.zarr")
    assert store.stimuli["label"][:].tolist() == [4, 5, 6, 7]
    assert store.trials["stimulus"][:].tolist() == [0, 1]
