"""Stores that released versions wrote stay readable, to the value; those of later ones are refused.

``golden/format-N`` holds a store of each codec profile as the first release of the format N wrote
it, and ``values.npz``: every column and coordinate in it, computed without a store. They are made
by ``python make_golden.py`` when a format is released, and never again.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import zarr
from numpy.typing import NDArray

import eegstore
from command import check_refused, run_command
from eegstore import verify
from eegstore.attributes import FORMAT
from every_kind import PROFILES, unpacked
from samples import modified

pytestmark = pytest.mark.promise("P12")

GOLDEN = Path(__file__).parent / "golden"
DIGESTS = {
    "format-1/raw": "fbc2f6b6546b9021cf1b3388ea8b572a57f753376b97d8ed8321b22daa438cf9",
    "format-1/fast": "a2e00bf7309c4b2399729ee49eb2d2a7a3051b2968da8679cb242af651db6083",
    "format-1/random": "59c538268bbd3e649e39c4ed3e82d4f0df54604ca12b4c369b2e2369132f35ca",
    "format-1/small": "db8e107a799ffec1de34fc6494a4754cf25be48061e1f25bee5edae61d533c0e",
    "format-1/archive": "6d6e72b9577e6cc246bf60de2e1866481e1159d94c6b790032579232f6033efe",
    "format-2/raw": "fbc2f6b6546b9021cf1b3388ea8b572a57f753376b97d8ed8321b22daa438cf9",
    "format-2/fast": "a2e00bf7309c4b2399729ee49eb2d2a7a3051b2968da8679cb242af651db6083",
    "format-2/random": "0ca5059f74f6318c6993ac4041dedcf36ce904468bb68e89aca62bed642c46ac",
    "format-2/small": "c8440d783361dadaa72000432dc99db7ab4b0afeb1694ba2232e167916c1c601",
    "format-2/archive": "79c63161e9022eeb62dafa9250e88a59f3d0a49b448a46d70addd0675e261c8a",
    "format-2/int16": "365cff4a1006fd15b69795d19a2cb2a41e5fbde649e1a73452871749e401203f",
}
Values = dict[str, NDArray[Any]]


def unpack(name: str, folder: Path) -> Path:
    with tarfile.open(GOLDEN / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / f"{Path(name).name}.zarr"


@pytest.fixture(scope="module", params=DIGESTS)
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A golden store, unpacked."""
    return unpack(request.param, tmp_path_factory.mktemp("golden"))


@pytest.fixture
def values(request: pytest.FixtureRequest) -> Values:
    """What the golden store holds."""
    name = request.node.callspec.params["golden"]
    with np.load(GOLDEN / Path(name).parent / "values.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture
def _no_specification() -> Iterator[None]:
    """What zarr-python says of pcodec, and so of the profile ``archive``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Numcodecs codecs are not in the Zarr version 3")
        yield


def check_equal(found: NDArray[Any], expected: NDArray[Any]) -> None:
    assert found.shape == expected.shape
    if expected.dtype.kind != "U":
        assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found.astype(expected.dtype), expected)


def test_every_format_has_a_store_of_every_profile() -> None:
    names = {path.relative_to(GOLDEN).as_posix() for path in GOLDEN.rglob("*.tar.xz")}
    assert names == {f"{name}.tar.xz" for name in DIGESTS}
    assert {name.split("/")[0] for name in names} == {f"format-{n}" for n in range(1, FORMAT + 1)}
    assert {f"format-{FORMAT}/{profile}" for profile in PROFILES} <= set(DIGESTS)


def test_a_golden_store_is_whole(golden: Path, request: pytest.FixtureRequest) -> None:
    assert verify(golden, deep=True) == []
    digest = DIGESTS[request.node.callspec.params["golden"]]
    assert eegstore.open_store(golden).digest == digest, "golden stores are never made again"


def test_the_values_are_those_that_were_written(
    golden: Path, values: Values, figure: Callable[[str, int, int], None]
) -> None:
    store = eegstore.open_store(golden)
    rows = np.array([3, 0, 2, 2])
    names = set()
    for table in ("trials", "stimuli"):
        view = getattr(store, table)
        for name, column in view.items():
            check_equal(column[:], values[f"{table}/{name}"])
            check_equal(column[rows], values[f"{table}/{name}"][rows])
            names.add(f"{table}/{name}")
        for name, coordinate in view.coords.items():
            check_equal(np.array(coordinate), values[f"{table}/{name}"])
            names.add(f"{table}/{name}")
    figure("columns and coordinates of golden stores read", len(names), len(values))
    assert names == set(values)


@pytest.mark.usefixtures("_no_specification")
def test_the_values_are_the_same_to_zarr(golden: Path, values: Values) -> None:
    group = zarr.open_group(golden, mode="r")
    arrays = {name for name, _ in group.members(max_depth=None) if name.count("/") == 1}
    assert {name for name in arrays if not name.startswith("digests/")} == set(values)
    for name, expected in values.items():
        array = group[name]
        check_equal(unpacked(np.asarray(array[...]), array.attrs), expected)


@pytest.mark.usefixtures("_no_specification")
def test_the_values_are_the_same_to_xarray(golden: Path, values: Values) -> None:
    read = set()
    for table in ("trials", "stimuli"):
        opened = xarray.open_zarr(golden, group=table)
        for name in opened.variables:
            # Packed values are unpacked as float64; rounded once, they are ours.
            is_packed = "scale_factor" in opened[name].encoding
            found = opened[name].astype(np.float32) if is_packed else opened[name]
            check_equal(found.values, values[f"{table}/{name}"])
            read.add(f"{table}/{name}")
    assert read == set(values)
    eeg = xarray.open_zarr(golden, group="trials")["eeg"]
    assert eeg.dims == ("trial", "channel", "time")


def test_the_values_have_what_is_easily_lost(values: Values, golden: Path) -> None:
    assert values["trials/eeg"].dtype == np.float32
    assert np.isnan(values["trials/eeg"]).sum() == 1
    invalid = np.flatnonzero(~values["trials/valid"])
    assert values["trials/split"][invalid].tolist() == ["skipped"]
    assert values["trials/stimulus"][invalid].tolist() == [-1]
    assert np.isnan(values["trials/spectral"][invalid]).all()
    assert "雪/1.png" in values["stimuli/image_path"]
    assert {"", "a\tb", "Øyvind"} <= {*values["trials/subject"].tolist()}
    counts = [len([*(golden / "trials" / name / "c").iterdir()]) for name in ("eeg", "temporal")]
    assert counts == [3, 3]


def write_format(store: Path, written: Any) -> None:
    """Make a store one of another format, of which no more is known than where its number is."""
    attributes = {"eegstore": {"format": written, "rows": 19}}
    root = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    (store / "zarr.json").write_text(json.dumps(root))


COMMANDS = {
    "info": ["info", "s.zarr"],
    "verify": ["verify", "s.zarr", "--deep"],
    "export": ["export", "s.zarr", "out", "--format", "npy"],
    "build": ["build", "demo", "s.zarr"],
    "overwrite": ["build", "demo", "s.zarr", "--overwrite"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_later_format_is_refused_by_every_command(tmp_path: Path, command: str) -> None:
    shutil.move(unpack("format-1/raw", tmp_path), tmp_path / "s.zarr")
    write_format(tmp_path / "s.zarr", FORMAT + 1)
    before = modified(tmp_path / "s.zarr")
    outcome = run_command(*COMMANDS[command], cwd=tmp_path)
    said = f"s.zarr: store format {FORMAT + 1} is newer than this eegstore reads ({FORMAT})"
    check_refused(outcome, 3, said, "upgrade eegstore")
    assert modified(tmp_path / "s.zarr") == before
    assert {path.name for path in tmp_path.iterdir()} <= {"s.zarr", "s.zarr.lock"}


@pytest.mark.parametrize("written", [0, -1, 1.0, 1.5, True, "1", "2", None, [1], {}, "\x1b" * 999])
def test_a_format_that_was_never_written_is_refused(tmp_path: Path, written: Any) -> None:
    store = unpack("format-1/raw", tmp_path)
    write_format(store, written)
    said = rf"^{store}: zarr.json says store format .*, which no eegstore has written; restore"
    for call in (eegstore.open_store, verify, lambda path: eegstore.build("demo", path)):
        with pytest.raises(eegstore.InputError, match=said) as refused:
            call(store)
        assert len(str(refused.value)) < 400


@pytest.mark.parametrize("written", [FORMAT + 1, 10, 10**30])
def test_any_later_format_is_refused_by_name(tmp_path: Path, written: int) -> None:
    store = unpack("format-1/raw", tmp_path)
    write_format(store, written)
    with pytest.raises(eegstore.InputError, match=rf"store format {written} is newer .* upgrade"):
        eegstore.open_store(store)
