"""Arrays that are not what they should be, through the command line, and their odd but good kin."""

from __future__ import annotations

import io
import json
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import eegstore
from command import check_build_refused, run_command
from eegstore import InputError
from eegstore.registry import create
from eegstore_plugins.rounding import rounding_hints
from samples import recipe, write_npy

Maker = Callable[[Path], object]

NPY = '[source]\nplugin = "npy"\npath = "in"\nsfreq = 100\n'
HDF5 = '[source]\nplugin = "hdf5"\npath = "in/lab.h5"\neeg = "x"\nlabels = "y"\nsfreq = 100\n'
MNE = '[source]\nplugin = "mne"\npath = "in/lab-epo.fif"\n'
DIGITS = '[stimuli]\nplugin = "digits"\n'
EEG = np.random.default_rng(0).integers(-800, 800, (4, 3, 5)).astype(np.float32) / 8
LABELS = np.array([0, 1, 2, 3])


def npy_bytes(array: NDArray[Any]) -> bytes:
    """A file as ``numpy.save`` writes it."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def headed(text: str, body: bytes = b"", version: int = 1) -> bytes:
    """A .npy file with a header of one's own."""
    length = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode("latin-1") + body


def header(shape: object = EEG.shape, descr: object = "<f4") -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n"


def data(content: bytes | NDArray[Any], labels: NDArray[Any] = LABELS) -> Maker:
    """A folder with this for a signal."""

    def make(folder: Path) -> None:
        whole = content if isinstance(content, bytes) else npy_bytes(content)
        (folder / "train_data.npy").write_bytes(whole)
        (folder / "train_labels.npy").write_bytes(npy_bytes(labels))

    return make


def labels(values: object) -> Maker:
    return data(EEG, np.asarray(values))


def instead(name: str, put: Callable[[Path], object]) -> Maker:
    """A good folder, one file of which is something else."""

    def make(folder: Path) -> None:
        data(EEG)(folder)
        (folder / name).unlink(missing_ok=True)
        put(folder / name)

    return make


def npz_bytes() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, EEG)
    return buffer.getvalue()


WHOLE = npy_bytes(EEG)
OBJECTS = np.array([EEG[0], None], dtype=object)
PAIRS = np.zeros(EEG.shape, dtype=[("left", "f4"), ("right", "f4")])
SIGNAL = "train_data.npy: "
AXES = "expected (trial, channel, time) with no empty axis"
KINDS = "expected floats or integers"

BAD_NPY: dict[str, tuple[Maker, tuple[str, ...]]] = {
    "empty": (data(b""), (SIGNAL + "empty, expected .npy",)),
    "header truncated": (data(WHOLE[:50]), (SIGNAL + "ends inside its header; copy it again",)),
    "header unclosed": (
        data(headed(header()[:40])),
        (SIGNAL + "its header b\"{'descr': '<f4',", "does not give descr, fortran_order and shape"),
    ),
    "header of 2 MB": (
        data(headed(header() + " " * 2_000_000, WHOLE[128:], version=2)),
        (SIGNAL + "a header of 2000063 bytes, expected at most 10000",),
    ),
    "9,000 nested signs": (
        data(headed(header(f"({'-' * 9000}4, 3, 5)"), WHOLE[128:])),
        (SIGNAL + "its header b", "does not give descr, fortran_order and shape"),
    ),
    "axis over 2**63": (
        data(headed(header((2**63, 3, 5)), WHOLE[128:])),
        (SIGNAL + "an axis of 2**63 or more values",),
    ),
    "shape over 2**63": (
        data(headed(header((2**40, 2**40, 5)), WHOLE[128:])),
        (SIGNAL + "has 337 bytes, its header promises 24178516392292583494123617 (shape",),
    ),
    "3.6 TiB in a small file": (
        data(headed(header((1_000_000, 1000, 1000)), WHOLE[128:])),
        (SIGNAL + "has 325 bytes, its header promises 4000000000085 (shape (1000000, 1000, 1000)",),
    ),
    "negative axes": (
        data(headed(header((-4, -3, 5)), WHOLE[128:])),
        (SIGNAL + f"shape (-4, -3, 5), {AXES}",),
    ),
    "data truncated": (
        data(WHOLE[:-1]),
        (SIGNAL + "has 367 bytes, its header promises 368", "it is truncated, copy it again"),
    ),
    "trailing bytes": (
        data(WHOLE + WHOLE),
        (SIGNAL + "has 736 bytes, its header promises 368", "followed by something else"),
    ),
    "objects": (data(OBJECTS), (SIGNAL + "a pickled object array", "never loaded")),
    "pickle": (
        data(pickle.dumps(EEG)),
        (SIGNAL + "a pickle under the name .npy", "save the array inside as plain .npy"),
    ),
    "npz": (data(npz_bytes()), (SIGNAL + "a .npz archive under the name .npy; save the array",)),
    "structured": (data(PAIRS), (SIGNAL + "dtype [('left', '<f4'), ('right', '<f4')], " + KINDS,)),
    "complex": (data(EEG.astype(complex)), (SIGNAL + f"dtype complex128, {KINDS}",)),
    "S0": (data(headed(header(descr="|S0"))), (SIGNAL + f"dtype |S0, {KINDS}",)),
    "no trial": (data(EEG[:0]), (SIGNAL + f"shape (0, 3, 5), {AXES}",)),
    "two axes": (data(EEG[0]), (SIGNAL + f"shape (3, 5), {AXES}",)),
    "four axes": (data(EEG[None]), (SIGNAL + f"shape (1, 4, 3, 5), {AXES}",)),
    "pipe": (instead("train_data.npy", os.mkfifo), (SIGNAL + "a pipe, a socket or a device",)),
    "folder": (instead("train_data.npy", Path.mkdir), (SIGNAL + "a folder in",)),
    "name that is no text": (
        lambda folder: write_npy(folder, **{"\udcff\n_data": EEG, "\udcff\n_labels": LABELS}),
        (r"in: the name '\udcff\n_data.npy' is no text",),
    ),
}

ROWS = "expected a whole number from 0 to 2**53, or -1 for none (rows count from 0)"
VALUES = "train_labels.npy: "
BAD_LABELS: dict[str, tuple[Maker, tuple[str, ...]]] = {
    "wrong length": (labels([0, 1]), (VALUES + "2 labels for the 4 trials of train_data.npy",)),
    "3.5": (labels([0, 3.5, 1, 2]), (VALUES + f"row 1 is 3.5, {ROWS}",)),
    "NaN": (labels([0, 1, np.nan, 2]), (VALUES + f"row 2 is nan, {ROWS}",)),
    "negative": (labels([0, 1, -1, -2]), (VALUES + f"row 3 is -2, {ROWS}",)),
    "without stimulus": (
        labels([0, 12, -1, 12]),
        ("no stimulus has label 12 (2 trials)", "have 10 labels, 0 to 9", 'unmatched = "keep"'),
    ),
    "pipe": (instead("train_labels.npy", os.mkfifo), (VALUES + "a pipe, a socket or a device",)),
}


# The same in kind as others, so that the plugin alone is asked.
FURTHER_NPY: dict[str, tuple[Maker, tuple[str, ...]]] = {
    "not npy": (data(b"id,volt\n1,2.5\n"), (SIGNAL + r"begins with b'id,volt\n', expected .npy",)),
    "header of 4 GB that is not there": (
        data(b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + WHOLE[10:]),
        (SIGNAL + "a header of 4294967295 bytes",),
    ),
    "version 3": (data(WHOLE[:6] + b"\x03" + WHOLE[7:]), (SIGNAL, "of version 1 or 2")),
    "axis of 9,000 digits": (
        data(headed(header(f"(0x{'f' * 9000}, 3, 5)"), WHOLE[128:])),
        (SIGNAL + "an axis of 2**63 or more values",),
    ),
    "device": (
        instead("train_data.npy", lambda path: path.symlink_to("/dev/zero")),
        (SIGNAL + "a pipe, a socket or a device in",),
    ),
    "dangling link": (
        instead("train_data.npy", lambda path: path.symlink_to("absent")),
        (SIGNAL + "no such file",),
    ),
    "label Inf": (labels(np.array([0, 1, 2, np.inf], "f2")), (VALUES + f"row 3 is inf, {ROWS}",)),
    "label over 2**53": (
        labels([0, 1, 2, 2**60]),
        (VALUES + f"row 3 is 1152921504606846976, {ROWS}",),
    ),
    "labels and trailing bytes": (
        instead("train_labels.npy", lambda path: path.write_bytes(npy_bytes(LABELS) + b"?")),
        (VALUES + "has 161 bytes, its header promises 160", "followed by something else"),
    ),
    "labels missing": (instead("train_labels.npy", lambda _: None), (VALUES + "no such file",)),
}


def hdf5(x: Any = EEG, y: Any = LABELS, **options: Any) -> Maker:
    """A file with these as signal and labels; ``options`` go to h5py."""

    def make(folder: Path) -> None:
        import h5py

        with h5py.File(folder / "lab.h5", "w") as file:
            file.create_dataset("x", data=x, **options)
            file.create_dataset("y", data=y)

    return make


def hdf5_file(put: Callable[[Path], object]) -> Maker:
    return lambda folder: put(folder / "lab.h5")


def cut(folder: Path) -> None:
    hdf5()(folder)
    os.truncate(folder / "lab.h5", (folder / "lab.h5").stat().st_size - 100)


BAD_HDF5: dict[str, tuple[Maker, tuple[str, ...]]] = {
    "empty": (hdf5_file(Path.touch), ("lab.h5: not readable as HDF5 trials: ",)),
    "truncated": (cut, ("lab.h5: not readable as HDF5 trials: ", "truncated file")),
    "pipe": (hdf5_file(os.mkfifo), ("lab.h5: a pipe, a socket or a device",)),
    "folder": (hdf5_file(Path.mkdir), ("lab.h5: a folder, expected an HDF5 file",)),
    "3.6 TiB, in chunks never written": (
        hdf5(None, shape=(1_000_000, 1000, 1000), dtype="f4", chunks=(1, 1000, 1000)),
        ("lab.h5: x: of its shape", "1000000 of 1000000 parts were never written"),
    ),
    "label 3.5": (hdf5(y=[0, 1, 2, 3.5]), (f"lab.h5: y: row 3 is 3.5, {ROWS}",)),
    "label without stimulus": (hdf5(y=[0, 1, 2, 12]), ("no stimulus has label 12 (1 trials)",)),
}

BAD_MNE: dict[str, tuple[Maker, tuple[str, ...]]] = {
    "empty": (lambda folder: (folder / "lab-epo.fif").touch(), ("lab-epo.fif: MNE cannot use it",)),
    "pipe": (
        lambda folder: os.mkfifo(folder / "lab-epo.fif"),
        ("lab-epo.fif: a pipe, a socket or a device",),
    ),
    "folder": (lambda folder: (folder / "lab-epo.fif").mkdir(), ("lab-epo.fif: a folder",)),
}

CASES = [
    pytest.param(text, *case, id=f"{kind}: {name}")
    for kind, text, table in (
        ("npy", NPY, BAD_NPY),
        ("labels", NPY + DIGITS, BAD_LABELS),
        ("hdf5", HDF5 + DIGITS, BAD_HDF5),
        ("mne", MNE, BAD_MNE),
    )
    for name, case in table.items()
]


@pytest.mark.promise("P14")
@pytest.mark.parametrize(("text", "make", "parts"), CASES)
def test_a_bad_array_is_rejected_before_a_byte_is_written(
    tmp_path: Path, text: str, make: Maker, parts: tuple[str, ...]
) -> None:
    (tmp_path / "in").mkdir()
    make(tmp_path / "in")
    outcome = check_build_refused(text, tmp_path, 3, *parts)
    assert len(outcome.err.splitlines()) == 1
    left = {path.name for path in tmp_path.iterdir()} - {"out.zarr.lock"}
    assert left == {"in", "recipe.toml"}


@pytest.mark.parametrize(("make", "parts"), FURTHER_NPY.values(), ids=FURTHER_NPY)
def test_a_bad_array_is_named(tmp_path: Path, make: Maker, parts: tuple[str, ...]) -> None:
    make(tmp_path)
    with pytest.raises(InputError) as caught:
        create("source", "npy", {"path": ".", "sfreq": 100}, tmp_path).scan()
    for part in parts:
        assert part in str(caught.value)


def spoiled(value: float, dtype: str = "f4") -> NDArray[Any]:
    """A signal whose trials 1 and 3 have one such value."""
    eeg = EEG.astype(dtype)
    eeg[[1, 3], 2, 4] = value
    return eeg


def save_epochs(folder: Path) -> None:
    import mne

    eeg = spoiled(1e39, "f8")
    eeg[1, 0, 0] = np.nan
    epochs = mne.EpochsArray(eeg, mne.create_info(3, 100.0, "eeg"), verbose="error")
    epochs.save(folder / "lab-epo.fif", fmt="double", verbose="error")


NOT_FINITE = [
    pytest.param(NPY, data(spoiled(np.nan)), id="npy: NaN"),
    pytest.param(NPY, data(spoiled(-np.inf, "f2")), id="npy: Inf of float16"),
    pytest.param(NPY, data(spoiled(1e39, ">f8")), id="npy: beyond float32"),
    pytest.param(HDF5, hdf5(spoiled(-1e300, "f8")), id="hdf5: beyond float32"),
    pytest.param(MNE, save_epochs, id="mne: NaN, and beyond float32"),
]


@pytest.mark.promise("P14")
@pytest.mark.parametrize(("text", "make"), NOT_FINITE)
def test_a_trial_that_is_not_finite_fails_by_index_or_stays_invalid(
    tmp_path: Path, text: str, make: Maker
) -> None:
    (tmp_path / "in").mkdir()
    make(tmp_path / "in")
    name = text.split('"')[1]
    check_build_refused(text, tmp_path, 3, f"[source] {name}: NaN or Inf in trials 1, 3 (counted")
    (tmp_path / "recipe.toml").write_text(text + "allow_skips = true\n")
    outcome = run_command("build", "recipe.toml", "out.zarr", cwd=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    assert "2 trials with NaN or Inf, kept in the split 'skipped'" in outcome.out
    trials = eegstore.open_store(tmp_path / "out.zarr").trials
    assert trials["valid"][:].tolist() == [True, False, True, False]
    assert trials["split"][:].tolist()[1::2] == ["skipped", "skipped"]
    eeg = trials["eeg"][:]
    assert np.isfinite(eeg).all(axis=(1, 2)).tolist() == [True, False, True, False]
    np.testing.assert_array_equal(eeg[::2], EEG[::2])


def build(folder: Path, **arrays: NDArray[Any]) -> eegstore.Store:
    """A store of one split of an npy folder, with no extractor."""
    source = {"plugin": "npy", "path": str(write_npy(folder / "in", **arrays)), "sfreq": 100}
    eegstore.build(recipe(source=source, split=None, extract=None), folder / "out.zarr")
    return eegstore.open_store(folder / "out.zarr")


WHOLE_NUMBERS = np.abs(EEG * 8)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> eegstore.Store:
    """The store of an array as numpy saves it by default."""
    folder = tmp_path_factory.mktemp("plain")
    return build(folder, train_data=WHOLE_NUMBERS, train_labels=LABELS)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<f2", "<i2", ">i2", "<u8"])
def test_a_store_holds_the_same_values_whatever_numbers_came(
    tmp_path: Path, plain: eegstore.Store, dtype: str, order: str
) -> None:
    eeg = np.asarray(WHOLE_NUMBERS, dtype=dtype, order=order)
    store = build(tmp_path, train_data=eeg, train_labels=LABELS)
    np.testing.assert_array_equal(store.trials["eeg"][:], WHOLE_NUMBERS)
    assert store.digest == plain.digest


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "i1", ">i8"])
def test_labels_that_are_whole_are_taken_and_minus_one_is_no_label(
    tmp_path: Path, dtype: str
) -> None:
    given = np.array([3.0, -1.0, 0.0, 9.0]).astype(dtype)
    store = build(tmp_path, train_data=EEG, train_labels=given)
    assert store.trials["label"][:].tolist() == [3, -1, 0, 9]
    stimulus = store.trials["stimulus"][:].tolist()
    assert stimulus[1] == -1
    assert store.stimuli["label"][:][[stimulus[0], *stimulus[2:]]].tolist() == [3, 0, 9]


@pytest.mark.promise("P14")
@pytest.mark.parametrize(
    ("text", "make", "where"),
    [(NPY, data, "train_data.npy"), (HDF5, hdf5, "lab.h5: x")],
    ids=["npy", "hdf5"],
)
def test_a_build_reports_what_float32_changes_most(
    tmp_path: Path, text: str, make: Callable[[NDArray[Any]], Maker], where: str
) -> None:
    eeg = np.random.default_rng(1).standard_normal((200, 14, 64)) * 2e-5
    eeg[150, 3, 7] = 1.0 + 2.0**-25
    (tmp_path / "in").mkdir()
    make(eeg, np.zeros(200))(tmp_path / "in")
    (tmp_path / "recipe.toml").write_text(text)
    outcome = run_command("build", "recipe.toml", "out.zarr", cwd=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    note = f"{where}: float64 is stored as float32, which changes a value by 3e-08 at most (at 1)"
    assert f"note: {note}" in " ".join(outcome.out.split())
    again = run_command("build", "recipe.toml", "out.zarr", "--json", cwd=tmp_path)
    assert json.loads(again.out)["hints"] == [note]


@settings(deadline=None, max_examples=100)
@given(
    values=st.lists(
        st.floats(-1e30, 1e30) | st.integers(-(2**62), 2**62) | st.just(np.nan) | st.just(1e300),
        min_size=1,
        max_size=30,
    ),
    dtype=st.sampled_from(["f8", ">f8", "i4", "i8", "f4", "f2", "i2"]),
    step=st.integers(1, 30),
)
def test_the_largest_rounding_is_found_in_any_blocks(
    values: list[float], dtype: str, step: int
) -> None:
    with np.errstate(all="ignore"):
        numbers = np.array(values, dtype="f8").astype(dtype)
        stored = numbers.astype("f4")
    finite = np.isfinite(stored)
    changes = np.abs(numbers[finite].astype("f8") - stored[finite])
    blocks = (numbers[start : start + step] for start in range(0, len(numbers), step))
    hints = rounding_hints("a.npy", numbers.dtype, blocks)
    if changes.max(initial=0) == 0:
        assert hints == ()
    else:
        (hint,) = hints
        assert f"changes a value by {changes.max():.2g} at most" in hint


def test_a_source_in_fortran_order_that_is_cut_during_the_build_is_refused(tmp_path: Path) -> None:
    write_npy(tmp_path, train_data=np.asfortranarray(EEG), train_labels=LABELS)
    source = create("source", "npy", {"path": ".", "sfreq": 100}, tmp_path)
    source.scan()
    os.truncate(tmp_path / "train_data.npy", 200)
    with pytest.raises(InputError, match=r"train_data\.npy: ends at byte 200; it was cut during"):
        source.read(0, 1)


def test_a_file_that_python_2_wrote_is_read_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    data(headed(header("(4L, 3L, 5L)"), EEG.tobytes()))(tmp_path / "in")
    (tmp_path / "recipe.toml").write_text(NPY)
    outcome = run_command("build", "recipe.toml", "out.zarr", cwd=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    store = eegstore.open_store(tmp_path / "out.zarr")
    np.testing.assert_array_equal(store.trials["eeg"][:], EEG)


GOOD_FILES = [
    npy_bytes(np.asarray(EEG, dtype, order=order))
    for dtype in ("<f4", ">f8", "i2")
    for order in "CF"
]
# As many bytes as EEG has are read as any of the first shapes and types.
SHAPES = [EEG.shape, (60, 1, 1), (True, 60, 1), "(4L, 3L, 5L)", "(0b100, 0x3, 5,)",
          (2**63, 1, 1), (1.5,), (-4, -3, 5), "x", None, (), (60,), (4, 3, 10)]  # fmt: skip
TYPES = ["<f4", ">f4", "<i4", ">u4", "=f4", "|f4", "f4", "<f8", "O", "V0", "f999", "(", "<f4,<f4",
         "T", None, 3, ("<f4", 2), [("a", "f4")]]  # fmt: skip
LETTERS = st.sampled_from([*b"{}[]()'\",:<>|=-LOfiuSVTrue0123456789xe \n"])


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A good file of which some bytes, most of them in the header, are others, gone or new."""
    content = bytearray(draw(st.sampled_from(GOOD_FILES)))
    for at in draw(st.lists(st.integers(8, 75) | st.integers(0, len(content) - 1), max_size=3)):
        content[at] = draw(LETTERS | st.integers(0, 255))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 9))] = draw(st.binary(max_size=9))
    return bytes(content)


ANY_FILE = st.one_of(
    mutations(),
    st.builds(header, st.sampled_from(SHAPES), st.sampled_from(TYPES)).map(
        lambda text: headed(text, EEG.tobytes())
    ),
    st.lists(LETTERS, max_size=80).map(lambda text: headed(bytes(text).decode())),
    st.binary(max_size=40).map(lambda tail: b"\x93NUMPY" + tail),
    st.binary(max_size=200),
)


@pytest.mark.promise("P14")
@pytest.mark.parametrize(
    "n", [500, pytest.param(20_000, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)])]
)
def test_any_bytes_are_refused_in_a_line_or_read_as_numpy_reads_them(
    tmp_path: Path, n: int, figure: Callable[[str, int, int], None]
) -> None:
    path = tmp_path / "train_data.npy"
    data(EEG)(tmp_path)
    held = 0

    @settings(max_examples=n, deadline=None, database=None)
    @given(content=ANY_FILE)
    def check(content: bytes) -> None:
        nonlocal held
        path.write_bytes(content)
        source = create("source", "npy", {"path": ".", "sfreq": 100}, tmp_path)
        refused, eeg = "", None
        try:
            eeg = source.read(0, source.scan().n_trials)
        except InputError as error:
            refused = str(error)
        assert len(refused.splitlines()) == (eeg is None)
        assert len(refused) < 400
        if eeg is not None:
            with warnings.catch_warnings(action="ignore"):
                expected = np.load(path, allow_pickle=False).astype(np.float32)
            np.testing.assert_array_equal(eeg, expected)
        held += 1

    check()
    figure("files of any bytes refused or read rightly", held, held)
    assert held >= n
