"""The source ``mindbigdata``, against a parser that knows nothing of it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eegstore import InputError, digest_files
from eegstore.registry import create
from eegstore_plugins.mindbigdata import MindBigData
from eegstore_plugins.mindbigdata_rows import DEVICES, NUMBER, is_plain

MUSE = ("TP9", "FP1", "FP2", "TP10")


def naive_events(path: Path) -> dict[str, dict[str, list[float]]]:
    """Event to channel to values, and ``code`` under the empty channel."""
    events: dict[str, dict[str, list[float]]] = {}
    for line in path.read_text().splitlines():
        _, event, _, channel, code, size, data = line.split("\t")
        values = [float(value) for value in data.split(",")]
        if int(size) == len(values):
            events.setdefault(event, {"": [float(code)]})[channel] = values
    return events


def naive_eeg(path: Path, ch_names: Sequence[str], n_times: int) -> np.ndarray:
    rows = [
        [(channels[name] + [math.nan] * n_times)[:n_times] for name in ch_names]
        for channels in naive_events(path).values()
    ]
    return np.array(rows).astype(np.float32)


def row(
    event: object = 1,
    channel: str = "FP1",
    values: Sequence[object] = (1, 2, 3),
    *,
    device: str = "MW",
    code: object = 5,
    size: object = None,
) -> str:
    size = len(values) if size is None else size
    data = ",".join(map(str, values))
    return f"7\t{event}\t{device}\t{channel}\t{code}\t{size}\t{data}"


def muse(event: int, values: Sequence[object] = (1, 2, 3), code: int = 5) -> list[str]:
    return [row(event, channel, values, device="MU", code=code) for channel in MUSE]


def write(path: Path, *lines: str) -> Path:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
    return path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return tmp_path / "brain.txt"


def refused(path: Path, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        MindBigData(path, **options).scan()
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("file", "device", "n_trials", "sfreq", "n_times"),
    [
        ("mindbigdata-raw/MU_excerpt.txt", "MU", 10, 220.0, 440),
        ("epoc-derived/EP_derived_eyestate.txt", "EP", 57, 128.0, 256),
    ],
)
def test_real_recordings_equal_a_naive_parser(
    shared_data: Path, file: str, device: str, n_trials: int, sfreq: float, n_times: int
) -> None:
    path = shared_data / file
    source = MindBigData(path)
    trials = source.scan()
    events = naive_events(path)
    assert trials.n_trials == n_trials == len(events)
    assert trials.sfreq == sfreq
    assert trials.ch_names == DEVICES[device].ch_names
    assert trials.units == "1"
    assert trials.stimulus_key is None
    np.testing.assert_allclose(trials.times, np.arange(n_times) / sfreq, rtol=1e-12)
    np.testing.assert_array_equal(trials.label, [int(one[""][0]) for one in events.values()])
    np.testing.assert_array_equal(trials.columns["event"], [int(event) for event in events])
    lengths = [len(one[trials.ch_names[0]]) for one in events.values()]
    np.testing.assert_array_equal(trials.columns["n_samples"], lengths)
    eeg = source.read(0, n_trials)
    assert eeg.dtype == np.float32
    np.testing.assert_array_equal(eeg, naive_eeg(path, trials.ch_names, n_times))


@pytest.mark.shared_data
def test_the_mindwave_excerpt_is_refused_by_line(shared_data: Path) -> None:
    message = refused(shared_data / "mindbigdata-raw" / "MW_excerpt.txt")
    assert "20 of 40 events are damaged" in message
    assert "line 1: event 0: FP1 has 952 values, declares 1017" in message
    assert "line 5: event 141: FP1 has 952 values, declares 1017" in message
    assert "line 6" not in message
    assert "allow_skips = true leaves them out" in message


@pytest.mark.shared_data
def test_allow_skips_builds_the_sound_half_of_the_mindwave_excerpt(shared_data: Path) -> None:
    path = shared_data / "mindbigdata-raw" / "MW_excerpt.txt"
    source = MindBigData(path, allow_skips=True)
    trials = source.scan()
    assert trials.n_trials == 20
    assert trials.n_times == 1024
    declared = [line.split("\t")[5] for line in path.read_text().splitlines()]
    events = [line.split("\t")[1] for line in path.read_text().splitlines()]
    assert trials.skipped == tuple(
        f"line {at}: event {events[at - 1]}: FP1 has 952 values, declares {declared[at - 1]}"
        for at in range(1, 21)
    )
    np.testing.assert_array_equal(trials.columns["n_samples"], [952] * 20)
    eeg = source.read(0, 20)
    np.testing.assert_array_equal(eeg, naive_eeg(path, ("FP1",), 1024))
    assert np.isnan(eeg[:, :, 952:]).all()
    assert np.isfinite(eeg[:, :, :952]).all()


@pytest.mark.parametrize("device", DEVICES)
def test_rows_in_any_order_come_out_in_the_devices_order(text: Path, device: str) -> None:
    names = DEVICES[device].ch_names
    lines = [
        row(event, channel, [event * 100 + names.index(channel)] * 2, device=device)
        for channel in reversed(names)
        for event in (8, 3)
    ]
    source = MindBigData(write(text, *lines), n_times=2)
    trials = source.scan()
    assert trials.ch_names == names
    np.testing.assert_array_equal(trials.columns["event"], [8, 3])
    expected = [[event * 100 + channel for channel in range(len(names))] for event in (8, 3)]
    np.testing.assert_array_equal(source.read(0, 2)[:, :, 1], expected)


@pytest.mark.parametrize(
    ("device", "sfreq", "n_times"),
    [("MW", 512.0, 1024), ("EP", 128.0, 256), ("MU", 220.0, 440), ("IN", 128.0, 256)],
)
def test_a_device_has_two_seconds_by_default(
    text: Path, device: str, sfreq: float, n_times: int
) -> None:
    lines = [row(1, channel, device=device) for channel in DEVICES[device].ch_names]
    trials = MindBigData(write(text, *lines)).scan()
    assert (trials.sfreq, trials.n_times) == (sfreq, n_times)


@pytest.mark.parametrize(
    ("pad", "tail"), [("nan", [math.nan] * 2), ("zero", [0.0] * 2), ("edge", [7.5] * 2)]
)
def test_short_trials_are_padded_and_long_ones_cropped(
    text: Path, pad: str, tail: list[float]
) -> None:
    write(text, row(1, values=[1, -2, 7.5]), row(2, values=[1, 2, 3, 4, 5, 6]))
    source = MindBigData(text, n_times=5, pad=pad)
    np.testing.assert_array_equal(source.scan().columns["n_samples"], [3, 6])
    np.testing.assert_array_equal(source.scan().n_valid, [3, 5])
    np.testing.assert_array_equal(source.read(0, 2), [[[1, -2, 7.5, *tail]], [[1, 2, 3, 4, 5]]])


def test_code_minus_one_is_a_trial_without_label(text: Path) -> None:
    trials = MindBigData(write(text, row(1, code=-1), row(2, code=9))).scan()
    np.testing.assert_array_equal(trials.label, [-1, 9])


def test_line_ends_blank_lines_and_a_missing_last_newline_are_harmless(text: Path) -> None:
    write(text, row(1, values=[1, 2]), row(2, values=[3, 4]))
    plain = MindBigData(text, n_times=2)
    expected = plain.read(0, plain.scan().n_trials)
    for name, content in {
        "crlf": text.read_bytes().replace(b"\n", b"\r\n"),
        "unended": text.read_bytes().rstrip(b"\n"),
        "blank": text.read_bytes() + b"\n\r\n\n",
    }.items():
        other = text.with_name(f"{name}.txt")
        other.write_bytes(content)
        source = MindBigData(other, n_times=2)
        assert source.scan().n_trials == 2
        np.testing.assert_array_equal(source.read(0, 2), expected)
    np.testing.assert_array_equal(expected[:, 0], [[1, 2], [3, 4]])


def test_a_byte_order_mark_is_no_part_of_the_text(text: Path) -> None:
    write(text, row(1, values=[1, 2]), row(2, values=[3, 4]))
    text.write_bytes(b"\xef\xbb\xbf" + text.read_bytes())
    source = MindBigData(text, n_times=2)
    assert source.scan().n_trials == 2
    np.testing.assert_array_equal(source.read(0, 2)[:, 0], [[1, 2], [3, 4]])
    text.write_bytes(row(1).encode("utf-16"))
    assert "brain.txt: UTF-16 text, expected ASCII or UTF-8" in refused(text)


def test_a_last_line_without_end_is_hinted_at_for_its_last_value_may_be_cut(text: Path) -> None:
    write(text, row(1, values=[1, 2]), row(2, values=[3, 444]))
    assert MindBigData(text, n_times=2).scan().hints == ()
    text.write_bytes(text.read_bytes()[:-3])
    cut = MindBigData(text, n_times=2)
    np.testing.assert_array_equal(cut.read(1, 2), [[[3, 4]]])
    (hint,) = cut.scan().hints
    assert hint.startswith("brain.txt: the last line has no end; if the file was cut there, the")


DAMAGED_ROWS = {
    "line 2: event 3: FP1 has 3 values, declares 4": row(3, size=4),
    "line 2: event 3: FP1 has 0 values, declares 4": row(3, values=(), size=4),
    "line 2: event 3: FP1 has no values": row(3, values=(), size=0),
    "line 2: event 3: value 2 of FP1 is 'x2', expected a number": row(3, values=(1, "x2", 3)),
    "line 2: event 3: value 3 of FP1 is '', expected a number": row(3, values=(1, 2, "")),
    "line 2: event 3: value 1 of FP1 is '1.2.3', expected a number": row(3, values=("1.2.3", 2)),
    "line 2: event 3: value 1 of FP1 is 'nan', expected a number": row(3, values=("nan", 2)),
    "line 2: event 3: value 1 of FP1 is '\\x00', expected a number": row(3, values=("\0", 2)),
    "line 2: event 3: value 1 of FP1 is '\\xb5V', expected a number": row(3, values=("\udcb5V", 2)),
    "line 2: event 3: value 1 of FP1 is 'µV', expected a number": row(3, values=("µV", 2)),
    "line 2: event 3: the row has 6 fields, expected 7": row(3).rpartition("\t")[0],
    "line 2: event 3: the row has 8 fields, expected 7": row(3) + "\t1",
    "line 2: event 3: the row has 107 fields, expected 7": row(3) + "\t1" * 100,
    "line 2: event unknown: the row has 1 fields, expected 7": "PK-zip",
    "line 2: event unknown: event is '3x', expected an integer": row("3x"),
    "line 2: event unknown: event is '٣', expected an integer": row("٣"),
    "line 2: event 3: id is '', expected an integer": row(3)[1:],
    "line 2: event 3: code is '5.0', expected an integer": row(3, code="5.0"),
    "line 2: event 3: code is -2, expected a digit, or -1 for none": row(3, code=-2),
    "line 2: event 3: size is '3_0', expected an integer": row(3, size="3_0"),
    "line 2: event 3: device is 'XX', expected one of MW, EP, MU, IN": row(3, device="XX"),
    "line 2: event 3: channel is 'O9', expected one of MW's FP1": row(3, channel="O9"),
}


@pytest.mark.parametrize("problem", DAMAGED_ROWS)
def test_a_damaged_row_is_named_by_line_and_left_out_on_request(text: Path, problem: str) -> None:
    lines = [row(1, values=[1, 2, 3]), DAMAGED_ROWS[problem], row(4, values=[4, 5, 6])]
    write(text, *lines)
    message = refused(text)
    assert "1 of 3 events are damaged" in message
    assert problem in message
    source = MindBigData(text, n_times=3, allow_skips=True)
    trials = source.scan()
    assert len(trials.skipped) == 1
    assert trials.skipped[0].startswith(problem)
    np.testing.assert_array_equal(trials.columns["event"], [1, 4])
    np.testing.assert_array_equal(source.read(0, 2), [[[1, 2, 3]], [[4, 5, 6]]])


DAMAGED_EVENTS = {
    "line 1: event 1: no row of FP1, TP10": muse(1)[::2],
    "line 1: event 1: no row of TP9": muse(1)[1:],
    "line 5: event 1: a second row of TP9": [*muse(1), muse(1)[0]],
    "line 3: event 1: FP2 has size 4, TP9 has 3": [
        *muse(1)[:2],
        row(1, "FP2", [1, 2, 3, 4], device="MU"),
        muse(1)[3],
    ],
    "line 3: event 1: FP2 has code 8, TP9 has 5": [
        *muse(1)[:2],
        row(1, "FP2", device="MU", code=8),
        muse(1)[3],
    ],
    # What is wrong with the row says more than that its channel is then missing.
    "line 3: event 1: FP2 has 3 values, declares 9": [
        *muse(1)[:2],
        row(1, "FP2", device="MU", size=9),
        muse(1)[3],
    ],
}


@pytest.mark.parametrize("problem", DAMAGED_EVENTS)
def test_a_damaged_event_is_named_once_and_left_out_on_request(text: Path, problem: str) -> None:
    write(text, *DAMAGED_EVENTS[problem], *muse(2, [4, 5, 6]))
    message = refused(text)
    assert "1 of 2 events are damaged" in message
    assert problem in message
    source = MindBigData(text, n_times=3, allow_skips=True)
    assert source.scan().skipped == (problem,)
    np.testing.assert_array_equal(source.scan().columns["event"], [2])
    np.testing.assert_array_equal(source.read(0, 1), [[[4, 5, 6]] * 4])


def test_a_file_without_a_sound_event_is_refused_even_with_skips(text: Path) -> None:
    message = refused(write(text, row(1, size=9), row(2, device="XX")), allow_skips=True)
    assert "2 of 2 events are damaged" in message
    assert "no event is sound" in message
    assert "allow_skips" not in message
    assert "no event is sound" in refused(write(text, *muse(1)[1:]), allow_skips=True)


def test_damage_of_another_device_does_not_matter(text: Path) -> None:
    write(text, row(1, size=9), *muse(1, [4, 5, 6]), row(2, "O9"))
    source = MindBigData(text, device="MU", n_times=3)
    assert source.scan().skipped == ()
    np.testing.assert_array_equal(source.read(0, 1), [[[4, 5, 6]] * 4])


def test_a_file_of_something_else_is_refused_before_its_damage_fills_the_memory(text: Path) -> None:
    write(text, row(1), *["a,b"] * 100_000)
    assert "100000 of 100001 events are damaged" in refused(text)
    write(text, row(1), *["a,b"] * 100_001, row(1, size=9))
    for options in ({}, {"allow_skips": True}):
        message = refused(text, **options)
        assert (
            "more than 100000 events are damaged (line 2: event unknown: the row has 1" in message
        )
        assert message.endswith("; name a file of MindBigData's text")


def test_a_value_of_a_million_digits_is_refused_at_once(text: Path) -> None:
    write(text, row(1, values=["1" * (1 << 20) + "x"]))
    start = time.process_time()
    assert f"value 1 of FP1 is '{'1' * 40}', expected a number" in refused(text)
    assert time.process_time() - start < 2


def test_more_than_one_device_needs_the_option(text: Path) -> None:
    write(text, row(1, values=[9, 8, 7]), *muse(1, [4, 5, 6]))
    message = refused(text)
    assert "holds the devices MU, MW" in message
    assert "device =" in message
    np.testing.assert_array_equal(MindBigData(text, "MW", 3).read(0, 1), [[[9, 8, 7]]])
    assert "no row of device EP" in refused(text, device="EP")


def test_a_file_that_is_none_is_refused(tmp_path: Path, text: Path) -> None:
    assert "no such file" in refused(tmp_path / "absent.txt")
    assert "a folder, expected Mind" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.txt")
    assert "a pipe, a socket or a device, expected Mind" in refused(tmp_path / "pipe.txt")
    assert "no row; expected at least one event" in refused(write(text))
    text.write_bytes(bytes(1 << 25))
    assert "line 1 is longer than 16 MiB" in refused(text)


def test_a_file_that_changes_after_the_scan_is_refused_by_line(text: Path) -> None:
    write(text, row(1), row(2, values=[4, 5, 6]))
    source = MindBigData(text, n_times=3)
    source.scan()
    content = text.read_bytes()
    for damage in (content.replace(b"4,5,6", b"4,x,6"), content[:-4], content[:10]):
        text.write_bytes(damage)
        with pytest.raises(InputError, match=r"brain\.txt: line 2: no longer holds the 3 values"):
            source.read(1, 2)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_range_in_any_process_is_the_slice_of_all(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    n_trials = data.draw(st.integers(1, 6))
    values = st.one_of(
        st.integers(-9999, 9999), st.floats(-1e9, 1e9, allow_nan=False, allow_subnormal=False)
    )
    signals = [
        data.draw(st.lists(st.tuples(*[values] * 4), min_size=1, max_size=8))
        for _ in range(n_trials)
    ]
    lines = [
        row(event, channel, column, device="MU")
        for event, signal in enumerate(signals)
        for channel, column in zip(MUSE, zip(*signal, strict=True), strict=True)
    ]
    text = tmp_path_factory.mktemp("any") / "brain.txt"
    write(text, *data.draw(st.permutations(lines)))
    source = MindBigData(text, n_times=5)
    trials = source.scan()
    whole = source.read(0, n_trials)
    for event, signal in zip(trials.columns["event"], whole, strict=True):
        expected = np.full((4, 5), np.nan, dtype=np.float32)
        recorded = np.array(signals[event], dtype=np.float64)[:5].T
        expected[:, : recorded.shape[1]] = recorded
        np.testing.assert_array_equal(signal, expected)
    start = data.draw(st.integers(0, n_trials - 1))
    stop = data.draw(st.integers(start + 1, n_trials))
    worker = MindBigData(text, n_times=5)
    worker.restore(source.state())
    np.testing.assert_array_equal(worker.read(start, stop), whole[start:stop])


@settings(max_examples=500)
@given(st.lists(st.text("0123456789-.+eE, x", max_size=6), min_size=1, max_size=4))
def test_only_plain_numbers_pass_the_quick_check(values: list[str]) -> None:
    data = ",".join(values).encode()
    every_matches = all(NUMBER.fullmatch(value) for value in data.split(b","))
    if is_plain(data):
        assert every_matches
    for value in data.split(b","):
        if NUMBER.fullmatch(value):
            float(value)


@settings(max_examples=200)
@given(st.lists(st.decimals(-9999, 9999, places=3) | st.integers(), min_size=1, max_size=9))
def test_plain_numbers_always_pass_the_quick_check(values: list[object]) -> None:
    assert is_plain(",".join(map(str, values)).encode())


def test_exponents_and_integers_are_read_exactly(text: Path) -> None:
    values = ["1e-05", "+2.5E2", "16777215", "-16777215", "0.1", ".5", "3.", "4329.230000"]
    source = MindBigData(write(text, row(1, values=values)), n_times=len(values))
    source.scan()
    expected = np.array([float(value) for value in values]).astype(np.float32)
    np.testing.assert_array_equal(source.read(0, 1)[0, 0], expected)


def test_a_value_beyond_float32_is_left_to_the_host_as_infinite(text: Path) -> None:
    source = MindBigData(write(text, row(1, values=["1e39", 2])), n_times=2)
    source.scan()
    np.testing.assert_array_equal(source.read(0, 1)[0, 0], [np.inf, 2])


def test_fingerprint_is_the_content_and_not_the_place(tmp_path: Path) -> None:
    here, there = (write(tmp_path / name, row(1)) for name in ("here.txt", "there.txt"))
    assert MindBigData(here).fingerprint() == digest_files([here])
    assert MindBigData(here).fingerprint() == MindBigData(there).fingerprint()
    write(there, row(2))
    assert MindBigData(here).fingerprint() != MindBigData(there).fingerprint()


def test_a_recipe_makes_the_source(text: Path) -> None:
    write(text, row(1, values=[4, 5, 6]))
    options = {"path": "brain.txt", "n_times": 2, "pad": "edge", "allow_skips": True}
    source = create("source", "mindbigdata", options, text.parent)
    assert source == MindBigData(text, n_times=2, pad="edge", allow_skips=True)
    np.testing.assert_array_equal(source.read(0, 1), [[[4, 5]]])
