"""An opened store: rows by number, and a refusal of every row or folder that is not there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import eegstore
from eegstore import DamageError, IncompleteError, InputError, open_store, plan
from eegstore.store import Store
from eegstore_plugins.digits import Digits
from eegstore_plugins.synthetic import Synthetic
from samples import DIGITS, EEG, recipe

N_TRIALS = 60
SOME_UNPAIRED = recipe(
    source=EEG | {"n_classes": 12}, pairing={"plugin": "label", "unmatched": "keep"}
)


def build_in_shards(given: dict[str, Any], out: Path, **options: Any) -> eegstore.builder.Report:
    """Build with shards of sixteen trials."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SHARD_BYTES", 1 << 15)
        return eegstore.build(given, out, executor="serial", **options)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in four shards; the trials of labels 10 and 11 have no digit."""
    store = tmp_path_factory.mktemp("store") / "s.zarr"
    build_in_shards(SOME_UNPAIRED, store)
    return store


@pytest.fixture(scope="module")
def store(path: Path) -> Store:
    return open_store(path)


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray[Any, Any]]:
    source = Synthetic(
        **{key: value for key, value in EEG.items() if key != "plugin"}, n_classes=12
    )
    return {"eeg": source.read(0, N_TRIALS), "label": source.scan().label}


ROWS = st.one_of(
    st.slices(N_TRIALS),
    st.lists(st.integers(0, N_TRIALS - 1)),
    st.lists(st.booleans(), min_size=N_TRIALS, max_size=N_TRIALS).map(np.array),
    st.integers(0, N_TRIALS - 1),
    st.integers(0, N_TRIALS - 1).map(np.uint8),
)


@settings(deadline=None, max_examples=200)
@given(rows=ROWS)
def test_rows_are_those_of_numpy(
    store: Store, expected: dict[str, np.ndarray[Any, Any]], rows: Any
) -> None:
    given = np.asarray(rows, dtype=np.int64) if isinstance(rows, list) else rows
    for name, values in expected.items():
        found = store.trials[name][rows]
        assert found.dtype == values.dtype
        assert found.shape == values[given].shape
        np.testing.assert_array_equal(found, values[given])


def test_a_table_tells_its_columns_and_rows(store: Store) -> None:
    assert list(store.trials)[:2] == ["eeg", "spectral"]
    assert {*store.trials} == {
        *("eeg", "spectral", "label", "stimulus", "score", "split", "valid", "repetition", "block")
    }
    assert {*store.stimuli} == {*("hog", "image_path", "label", "concept", "caption", "content_id")}
    assert (store.trials.n_rows, store.stimuli.n_rows) == (N_TRIALS, 10)
    assert len(store.trials["eeg"]) == N_TRIALS
    assert "time" not in store.trials
    assert store.trials.coords["channel"] == ["ch1", "ch2", "ch3", "ch4"]
    np.testing.assert_array_equal(store.trials.coords["time"], np.arange(128) / 128)
    spec = store.trials["eeg"].spec
    assert (spec.dims, spec.shape, spec.dtype, spec.units) == (
        *(("channel", "time"), (4, 128), "float32", "uV"),
    )
    assert sum(store.splits.values()) == N_TRIALS
    assert store.name == "tiny"
    assert store.recipe["source"]["n_classes"] == 12
    assert store.notice.startswith("synthetic EEG")


BAD_ROWS: dict[str, tuple[Any, str]] = {
    "the row of an unpaired trial": (-1, "row -1 of"),
    "a negative row in a list": ([0, -1], "row -1 of"),
    "a numpy row below zero": (np.int8(-3), "row -3 of"),
    "the row past the last": (60, "row 60 of"),
    "a far row": ([1, 2**62], f"row {2**62} of"),
    "a huge unsigned row": (np.uint64(2**64 - 1), f"row {2**64 - 1} of"),
    "a float": (1.0, "rows must be integers"),
    "floats": (np.array([0.0, 1.0]), "rows must be integers"),
    "NaN": (np.nan, "rows must be integers"),
    "a short mask": (np.ones(3, dtype=bool), r"a mask of \(3,\) for"),
    "a long mask": (np.ones(61, dtype=bool), r"a mask of \(61,\) for"),
    "one truth": (True, r"a mask of \(1,\) for"),
    "a mask of two axes": (np.ones((60, 4), dtype=bool), r"a mask of \(60, 4\) for"),
    "a table of rows": ([[0, 1], [2, 3]], "rows must be integers"),
    "a name": ("eeg", "rows must be integers"),
    "nothing": (None, "rows must be integers"),
    "everything": (..., "rows must be integers"),
    "a row and a channel": ((0, 1), "takes one index, of rows"),
    "rows and a channel": ((slice(None), 1), "takes one index, of rows"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
@pytest.mark.parametrize("column", ["trials/eeg", "trials/label", "stimuli/hog", "stimuli/caption"])
def test_rows_that_are_not_there_are_refused(store: Store, column: str, case: str) -> None:
    table, name = column.split("/")
    rows, message = BAD_ROWS[case]
    with pytest.raises(IndexError, match=f"^{column}: {message}"):
        getattr(store, table)[name][rows]


def test_an_unpaired_trial_never_reads_as_the_last_image(store: Store) -> None:
    stimulus = store.trials["stimulus"][:]
    label = store.trials["label"][:]
    np.testing.assert_array_equal(stimulus == -1, label >= 10)
    assert np.count_nonzero(stimulus == -1) == 10
    np.testing.assert_array_equal(np.isnan(store.trials["score"][:]), stimulus == -1)
    with pytest.raises(IndexError, match=r"row -1 of 10; .*an unpaired trial .* has none"):
        store.stimuli["hog"][stimulus]
    with pytest.raises(IndexError, match="row -1 of 10"):
        store.image(stimulus[label == 11][0])
    paired = stimulus >= 0
    np.testing.assert_array_equal(store.stimuli["label"][stimulus[paired]], label[paired])


def test_an_unknown_column_is_answered_with_the_known_ones(store: Store) -> None:
    with pytest.raises(KeyError, match=r"stimuli has no column 'hgo'; it has .*hog"):
        store.stimuli["hgo"]


def test_images_are_the_providers(store: Store) -> None:
    digits = Digits(caption=DIGITS["caption"])
    for row, image in enumerate(digits.read(0, 10)):
        np.testing.assert_array_equal(store.image(row), image)
    with pytest.raises(IndexError, match="row 10 of 10"):
        store.image(10)
    with pytest.raises(TypeError):
        store.image(1.0)  # type: ignore[arg-type]


def test_without_stimuli_there_is_no_image(tmp_path: Path) -> None:
    eegstore.build(recipe(stimuli=None, pairing=None, extract=[]), tmp_path / "s.zarr")
    opened = open_store(tmp_path / "s.zarr")
    assert (len(opened.stimuli), opened.stimuli.n_rows) == (0, 0)
    assert opened.trials["stimulus"][:].tolist() == [-1] * N_TRIALS
    with pytest.raises(InputError, match="the store has no stimuli"):
        opened.image(0)


def test_the_digest_is_the_contents_whatever_the_folder(tmp_path: Path) -> None:
    digests = [
        eegstore.build(recipe(), tmp_path / name / "s.zarr").digest for name in ("one", "other")
    ]
    assert digests[0] == digests[1] == open_store(tmp_path / "one" / "s.zarr").digest
    for changed in (
        recipe(source=EEG | {"seed": 4}),
        recipe(split={"plugin": "random", "test_size": 0.25, "seed": 1}),
        recipe(stimuli=DIGITS | {"caption": "{concept}"}),
    ):
        out = tmp_path / f"{len(digests)}.zarr"
        digests.append(eegstore.build(changed, out).digest)
    assert len({*digests}) == 4
    named = eegstore.build(recipe(name="another"), tmp_path / "named.zarr")
    assert named.digest == digests[0]


def edit_root(store: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    root = json.loads((store / "zarr.json").read_bytes())
    edit(root)
    (store / "zarr.json").write_text(json.dumps(root, indent=2, ensure_ascii=False))


def make_nothing(path: Path) -> None:
    """No folder."""


def make_file(path: Path) -> None:
    path.write_bytes(b"x")


def make_plain_group(path: Path) -> None:
    zarr.create_group(path, attributes={"subject": "01"})


def make_plain_array(path: Path) -> None:
    zarr.create_array(path, shape=(2,), dtype="int64")


def make_interrupted(path: Path) -> None:
    path.mkdir()
    path.with_name(path.name + ".build").mkdir()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (make_nothing, InputError, "not an eegstore store (there is no such folder)"),
        (make_file, InputError, "not an eegstore store (there is no zarr.json in it)"),
        (Path.mkdir, InputError, "not an eegstore store (there is no zarr.json in it)"),
        (make_plain_group, InputError, "not an eegstore store (its zarr.json is not ours)"),
        (make_plain_array, InputError, "not an eegstore store (its zarr.json is not ours)"),
        (make_interrupted, IncompleteError, "its build has not finished; run it again to resume"),
    ],
)
def test_what_is_no_store_is_refused_in_one_line(
    tmp_path: Path, make: Callable[[Path], None], error: type[Exception], message: str
) -> None:
    path = tmp_path / "s.zarr"
    make(path)
    with pytest.raises(error) as refused:
        open_store(path)
    assert str(refused.value) == f"{path}: {message}"
    assert type(refused.value) is error


@pytest.mark.parametrize(
    "edit",
    [
        lambda root: root["attributes"].update(mine=1),
        lambda root: root["attributes"]["eegstore"].update(name="another"),
        lambda root: root["attributes"]["eegstore"].pop("seal"),
        lambda root: root["attributes"]["eegstore"]["columns"].pop(),
        lambda root: root.update(consolidated_metadata=None),
        lambda root: root["consolidated_metadata"]["metadata"].clear(),
        lambda root: root["attributes"]["eegstore"].update(seal="0" * 64),
        lambda root: root["consolidated_metadata"]["metadata"]["trials/eeg"].update(shape=[1]),
    ],
)
def test_an_edited_root_breaks_the_seal(
    tmp_path: Path, path: Path, edit: Callable[[dict[str, Any]], Any]
) -> None:
    copy = Path(shutil.copytree(path, tmp_path / "s.zarr"))
    edit_root(copy, edit)
    with pytest.raises(DamageError, match=r"zarr\.json was changed since the commit \(its seal"):
        open_store(copy)


def test_attributes_written_with_zarr_break_the_seal(tmp_path: Path, path: Path) -> None:
    copy = Path(shutil.copytree(path, tmp_path / "s.zarr"))
    zarr.open_group(copy, mode="a")["trials/eeg"].attrs["units"] = "V"
    with pytest.raises(DamageError, match=r"trials/eeg/zarr\.json was changed since the commit"):
        open_store(copy)


@pytest.mark.parametrize("end", [0, 1, 1000, -1])
def test_a_root_that_is_not_whole_is_damage(tmp_path: Path, path: Path, end: int) -> None:
    copy = Path(shutil.copytree(path, tmp_path / "s.zarr"))
    (copy / "zarr.json").write_bytes((path / "zarr.json").read_bytes()[:end])
    with pytest.raises(DamageError, match=r"zarr.json is not whole"):
        open_store(copy)


def test_values_of_another_column_of_equal_size_are_not_read(tmp_path: Path, path: Path) -> None:
    copy = Path(shutil.copytree(path, tmp_path / "s.zarr"))
    shutil.copy(copy / "trials/repetition/c/0", copy / "trials/stimulus/c/0")
    with pytest.raises(DamageError, match="trials/stimulus/c/0 is not what was committed"):
        open_store(copy).trials["stimulus"][:]


def test_an_open_store_never_reads_what_a_later_build_has_put_in_its_place(tmp_path: Path) -> None:
    out = tmp_path / "s.zarr"
    build_in_shards(recipe(), out)
    opened = open_store(out)
    before = opened.trials["eeg"][:16]
    spectral = opened.trials["spectral"][:16]
    build_in_shards(recipe(source=EEG | {"seed": 4}), out, overwrite=True)
    # What was mapped before is read on; a shard that was not is another build's now.
    np.testing.assert_array_equal(opened.trials["eeg"][:16], before)
    np.testing.assert_array_equal(opened.trials["spectral"][:16], spectral)
    for name in ("eeg", "spectral"):
        with pytest.raises(DamageError, match=rf"trials/{name}: was replaced by a later build"):
            opened.trials[name][16:]
    assert not np.array_equal(open_store(out).trials["eeg"][:16], before)
    # What the second build did not change is still the same column.
    np.testing.assert_array_equal(opened.stimuli["hog"][:], open_store(out).stimuli["hog"][:])


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]", b"\xff"])
def test_a_document_that_is_damaged_once_the_store_is_open_stops_its_column(
    tmp_path: Path, path: Path, content: bytes | None
) -> None:
    copy = Path(shutil.copytree(path, tmp_path / "s.zarr"))
    opened = open_store(copy)
    (copy / "trials/eeg/zarr.json").unlink()
    if content is not None:
        (copy / "trials/eeg/zarr.json").write_bytes(content)
    with pytest.raises(DamageError, match="trials/eeg: was replaced by a later build; open"):
        opened.trials["eeg"][:]
    with pytest.raises(DamageError, match=r"trials/eeg/zarr\.json"):
        open_store(copy)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Without root's right to read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_store_that_may_not_be_read_is_refused_and_no_damage(tmp_path: Path, path: Path) -> None:
    copy = Path(shutil.copytree(path, tmp_path / "s.zarr"))
    copy.chmod(0)
    try:
        for call in (open_store, eegstore.verify):
            with unprivileged(), pytest.raises(InputError) as refused:
                call(copy)
            said = f"{copy}: zarr.json cannot be read (Permission denied)"
            assert str(refused.value) == said
    finally:
        copy.chmod(0o755)


def test_opening_a_store_imports_neither_zarr_nor_a_plugin(path: Path) -> None:
    script = (
        "import sys, eegstore\n"
        f"eegstore.open_store({str(path)!r}).trials['eeg'][[3, 1]]\n"
        "heavy = ('zarr', 'torch', 'scipy', 'xarray', 'eegstore_plugins')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
