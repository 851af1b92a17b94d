"""The readers that are fuzzed, and what must hold of each, whatever bytes it is given.

A check writes bytes into a folder and has them read. Where the reader accepts them, their values
must be those that a naive parser finds; where it refuses them, it does so in one line.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import math
import re
import struct
import time
import tomllib
import warnings
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eegstore import EegStoreError, InputError, registry
from eegstore.recipe import Recipe, load_recipe, parse_recipe
from eegstore_plugins.idx import MAX_LENGTHS, Idx
from eegstore_plugins.mindbigdata import MindBigData
from eegstore_plugins.npy import NpyFolder

SEEDS = Path(__file__).parent / "seeds"
LIMIT_S = 3.0
MAX_MESSAGE = 2000
N_TIMES = 3
LEFT_OUT = re.compile(r"(line \d+): event unknown: .*|line \d+: (event -?\d+): .*")
MANY = b"\x02"
MANY_BYTES = 1 << 15


def as_they_are(content: bytes) -> bytes:
    return content


def stretched(content: bytes) -> bytes:
    """What is between two ``MANY``, over and over: it shows what takes more than linear time."""
    before, _, rest = content.partition(MANY)
    part, end, after = rest.partition(MANY)
    return before + part * (MANY_BYTES // len(part)) + after if part and end else content


def packed(content: bytes) -> bytes:
    return gzip.compress(stretched(content), 1, mtime=0)


def framed(content: bytes) -> bytes:
    """The first line as the header of an npy file, all else as its values."""
    header, _, values = content.partition(b"\n")
    header = stretched(header) + b"\n"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header + values


@contextlib.contextmanager
def no_refusal() -> Iterator[None]:
    try:
        yield
    except EegStoreError as error:
        raise AssertionError(f"refuses what it had accepted: {error}") from error


@dataclass(frozen=True)
class Reader:
    """How a reader is checked, the forms in which it is given bytes, and words of its format."""

    check: Callable[[bytes, Path], None]
    forms: tuple[Callable[[bytes], bytes], ...]
    words: tuple[bytes, ...]

    def examine(self, content: bytes, folder: Path) -> bool:
        """Whether the reader accepts any form of the bytes; raises what is a finding."""
        refusals = [self._refusal(form(content), folder) for form in self.forms]
        return None in refusals

    def _refusal(self, content: bytes, folder: Path) -> str | None:
        """The line with which the reader refuses one form of the bytes, None if it does not."""
        start = time.thread_time()
        refusal = None
        try:
            self.check(content, folder)
        except InputError as error:
            refusal = str(error)
        seconds = time.thread_time() - start
        assert seconds < LIMIT_S, f"{len(content)} bytes took {seconds:.1f} s"
        if refusal is not None:
            assert 0 < len(refusal) < MAX_MESSAGE, f"{len(refusal)} letters: {refusal:.200}"
            assert "\n" not in refusal, f"several lines: {refusal:.200}"
        return refusal


def check_mindbigdata(content: bytes, folder: Path) -> None:
    path = folder / "brain.txt"
    path.write_bytes(content)
    source = MindBigData(path, n_times=N_TIMES, allow_skips=True)
    trials = source.scan()
    with no_refusal():
        eeg = source.read(0, trials.n_trials)
        worker = MindBigData(path, n_times=N_TIMES)
        worker.restore(source.state())
        last = worker.read(trials.n_trials - 1, trials.n_trials)
    np.testing.assert_array_equal(last, eeg[-1:])

    rows = naive_rows(content)
    events = [f"event {event}" for event in trials.columns["event"]]
    for event, code, size, signals in zip(
        events, trials.label, trials.columns["n_samples"], eeg, strict=True
    ):
        own = rows.pop(event)
        assert sorted(row[3].decode() for row in own) == sorted(trials.ch_names)
        for row in own:
            assert (int(row[4]), int(row[5]), row[6].count(b",") + 1) == (code, size, size)
            values = [float(value) for value in row[6].split(b",")[:N_TIMES]]
            signal = signals[trials.ch_names.index(row[3].decode())]
            with np.errstate(over="ignore"):
                expected = np.array(values + [math.nan] * (N_TIMES - len(values)), np.float32)
            np.testing.assert_array_equal(signal, expected)
    # What is no trial is named, each once; nothing is lost in silence.
    named = [LEFT_OUT.sub(r"\1\2", line) for line in trials.skipped]
    assert sorted(named) == sorted(rows)
    if trials.skipped:
        with contextlib.suppress(EegStoreError):
            MindBigData(path).scan()
            raise AssertionError("damage that is not allowed is accepted")


def naive_rows(content: bytes) -> dict[str, list[list[bytes]]]:
    """The fields of each line that is not blank, by event, or by line where that is no number."""
    rows = defaultdict(list)
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        fields = line.rstrip(b"\r").split(b"\t")
        if fields == [b""]:
            continue
        digits = fields[1].removeprefix(b"-") if len(fields) > 1 else b""
        known = digits.isdigit() and len(digits) <= 18
        rows[f"event {int(fields[1])}" if known else f"line {number}"].append(fields)
    return rows


def check_idx(content: bytes, folder: Path) -> None:
    whole = naive_idx(content)
    labels, images = folder / "labels", folder / "images"
    if whole is not None and whole.ndim == 1:
        labels.write_bytes(content)
        images.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, len(whole), 1, 1) + bytes(len(whole)))
        with no_refusal():
            assert Idx(images, labels).scan().label.tolist() == whole.tolist()
        return
    images.write_bytes(content)
    if whole is None:
        Idx(images).scan()
        raise AssertionError("what is no IDX file of images or labels is accepted")
    with no_refusal():
        assert Idx(images).scan().n_stimuli == len(whole)
        read = Idx(images).read(0, len(whole))
    np.testing.assert_array_equal(read, np.stack([whole] * 3, axis=-1))


def naive_idx(content: bytes) -> np.ndarray[Any, Any] | None:
    """The array of labels or images, None where it is not as the specification says."""
    try:
        whole = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        zeros, kind, n_axes = struct.unpack(">HBB", whole[:4])
        shape = struct.unpack(f">{n_axes}I", whole[4 : 4 + 4 * n_axes])
    except (OSError, EOFError, zlib.error, struct.error):
        return None
    values = whole[4 + 4 * n_axes :]
    if (zeros, kind) != (0, 8) or n_axes not in (1, 3) or not values:
        return None
    fits = all(length <= most for length, most in zip(shape, MAX_LENGTHS, strict=False))
    sound = math.prod(shape) == len(values) and fits
    return np.array(list(values), np.uint8).reshape(shape) if sound else None


def check_npy(content: bytes, folder: Path) -> None:
    whole = naive_npy(content)
    n_trials = len(whole) if whole is not None and whole.ndim and whole.size else 1
    is_labels = whole is not None and whole.ndim == 1
    others = np.zeros((n_trials, 1, 1)) if is_labels else np.arange(n_trials)
    names = ["train_labels.npy", "train_data.npy"]
    (folder / names[not is_labels]).write_bytes(content)
    np.save(folder / names[is_labels], others)
    source = NpyFolder(folder, sfreq=100.0)
    trials = source.scan()
    with no_refusal():
        eeg = source.read(0, n_trials)
        last = NpyFolder(folder, sfreq=100.0).read(n_trials - 1, n_trials)
    np.testing.assert_array_equal(last, eeg[-1:])
    assert whole is not None, "what numpy does not load is accepted"
    labels, signal = (whole, others) if is_labels else (others, whole)
    np.testing.assert_array_equal(trials.label, labels)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(eeg, signal.astype(np.float32))


def naive_npy(content: bytes) -> np.ndarray[Any, Any] | None:
    """What numpy loads, None where it loads nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception:  # numpy's parser fails in any of many ways
        return None
    return whole if isinstance(whole, np.ndarray) else None


def check_recipe(content: bytes, folder: Path) -> None:
    """The first part is the file; each that follows a NUL is what ``--set`` takes."""
    text, *parts = content.split(b"\0")
    path = folder / "recipe.toml"
    path.write_bytes(text)
    recipe, _ = load_recipe(path, [part.decode("utf-8", "surrogateescape") for part in parts])
    document = recipe.document()
    with no_refusal():
        assert as_json(parse_recipe(document, "again").document()) == as_json(document)
    given = tomllib.loads(text.decode("utf-8-sig"))
    assert parts or as_json(given) == as_json(document)
    create_plugins(recipe, folder)


def as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


def create_plugins(recipe: Recipe, folder: Path) -> None:
    sections = [("source", recipe.source), ("stimuli", recipe.stimuli)]
    sections += [("pairing", recipe.pairing), ("split", recipe.split)]
    sections += [("extractor", section) for section in recipe.extract]
    for kind, section in sections:
        if section is not None:
            registry.create(kind, section.plugin, section.options, folder, f"[{kind}]")


READERS = {
    "npy": Reader(
        check_npy,
        (as_they_are, framed),
        (b"\x93NUMPY\x01\x00", b"{'descr': '<f4', ", b"'fortran_order': False, ", b"True", b"'|O'",
         b"'shape': (2, 3, 4), }", b"(2**64,)", b"[('a', '<f4')]", b"<f8", b">i2", b"|b1", b"<c8",
         b"<M8[s]", b"|V4", b"S0", b"'''", b"-1", b"9999999999999999999", b"1L", MANY),
    ),
    "mindbigdata": Reader(
        check_mindbigdata,
        (stretched,),
        (b"\t", b"\n", b"\r\n", b"\xef\xbb\xbf", b"MW\tFP1", b"MU\tTP9", b"MU\tFP1", b"MU\tFP2",
         b"MU\tTP10", b"EP\tAF3", b"IN\tPZ", b"1,2,3", b"-1", b"1e5", b"1e999", b".5", b"nan",
         b"7\t1\tMW\tFP1\t5\t1\t3", b"999999999999999999", b"-", b"+", b",", MANY),
    ),
    "idx": Reader(
        check_idx,
        (as_they_are, packed),
        (b"\0\0\x08\x01", b"\0\0\x08\x03", b"\0\0\0\x01", b"\0\0\0\x02", b"\0\x10\0\0", b"\x1f\x8b",
         b"\xff\xff\xff\xff", MANY),
    ),
    "recipe": Reader(
        check_recipe,
        (stretched,),
        (b"[source]\n", b"[stimuli]\n", b"[pairing]\n", b"[split]\n", b"[store]\n",
         b"[[extract]]\n", b'plugin = "synthetic"\n', b'plugin = "npy"\n', b'path = "', b" = ",
         b"name", b"codec", b"seed", b"allow_skips = true\n", b"as = ", b'"""', b"'''", b"#",
         b"1979-05-27T07:32:00Z", b"inf", b"nan", b"0x", b"1e9", b"{a = 1}", b"[1, 2]",
         b"\\u0000", b"\0a.b=", MANY),
    ),
}  # fmt: skip
