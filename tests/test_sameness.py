"""The same recipe gives the same bytes, whoever runs its tasks, and in whatever order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import eegstore
import orders
from eegstore import registry
from every_kind import PROFILES, RECIPE, TRIAL_BYTES, build_in_shards, write_input
from samples import data_files
from tiny_clip import write_tiny_clip


@dataclass(frozen=True)
class Case:
    """A recipe, and how finely its columns are cut into tasks."""

    recipe: dict[str, Any]
    shard_bytes: int
    stimuli: int = 32


DIGITS = {"plugin": "digits", "per_label": 10, "size": 16, "caption": "a dig {concept}"}
FEATURES = [{"plugin": "spectral"}, {"plugin": "temporal"}, {"plugin": "hog", "size": 16}]
CYCLE = {"plugin": "label", "choose": "cycle"}
SYNTHETIC = {"plugin": "synthetic", "n_trials": 150, "n_channels": 64, "n_times": 256}


def synthetic(folder: Path) -> Case:
    """Tasks of several blocks each: an extractor sees them one by one."""
    recipe = {"name": "s", "source": SYNTHETIC, "stimuli": DIGITS, "pairing": CYCLE}
    return Case({**recipe, "extract": FEATURES}, 64 * 64 * 256 * 4)


def clip(folder: Path) -> Case:
    """Ten trials; each image and caption goes through a small CLIP of random weights."""
    model = str(write_tiny_clip(folder / "clip"))
    extract = [{"plugin": f"clip-{side}", "model": model} for side in ("image", "text")]
    recipe = {"name": "c", "source": SYNTHETIC | {"n_trials": 10}, "stimuli": DIGITS}
    return Case({**recipe, "pairing": CYCLE, "extract": extract}, 64 * 256 * 4)


def eyes(shared_data: Path) -> Case:
    """Real EEG in MindBigData's text, of which most trials are padded with NaN."""
    path = str(shared_data / "epoc-derived" / "EP_derived_eyestate.txt")
    source = {"plugin": "mindbigdata", "path": path, "n_times": 300}
    recipe = {"name": "e", "source": source, "stimuli": DIGITS, "pairing": CYCLE}
    return Case({**recipe, "extract": FEATURES}, 8 * 14 * 300 * 4)


def attention(shared_data: Path) -> Case:
    """Real epochs of EEGLAB."""
    path = str(shared_data / "eeglab-epochs" / "eeglab_data_epochs_ica.set")
    recipe = {"name": "a", "source": {"plugin": "mne", "path": path}, "extract": FEATURES[:2]}
    return Case(recipe, 16 * 32 * 384 * 4)


@pytest.fixture(autouse=True)
def orders_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The executors of ``orders`` are a distribution that is installed."""
    facts = tmp_path / "site" / "orders-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: orders\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[eegstore]\norders = orders\n")
    monkeypatch.syspath_prepend(facts.parent)
    registry.plugins.cache_clear()
    yield
    registry.plugins.cache_clear()


def documents(store: Path) -> dict[str, Any]:
    """Every document of a store; of the root's, all but what tells when and by whom it was made."""
    found: dict[str, Any] = {
        path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("zarr.json")
    }
    root = json.loads(found["zarr.json"])
    for fact in ("history", "seal"):
        del root["attributes"]["eegstore"][fact]
    return found | {"zarr.json": root}


def n_tasks(store: Path) -> int:
    """How many row ranges a build of the store had."""
    firsts: dict[str, str] = {}
    for column in eegstore.open_store(store).attributes.columns:
        if column.kind == "wide":
            firsts.setdefault(column.table, column.path)
    return sum(len([*(store / path / "c").iterdir()]) for path in firsts.values())


WAYS: dict[str, tuple[str, int | None]] = {
    "one worker": ("processes", 1),
    "two workers": ("processes", 2),
    "four workers": ("processes", 4),
    "backwards": ("backwards", None),
    "shuffled": ("shuffled", None),
    "each in a new process": ("alone", None),
}


def check_same(
    case: Case, folder: Path, ways: list[str], figure: Callable[[str, int, int], None]
) -> None:
    """Build serially and in other ways; compare files, digest and documents."""

    def built(executor: str, n_workers: int | None) -> Path:
        store = folder / f"{executor}{n_workers}.zarr"
        how = {"executor": executor, "n_workers": n_workers}
        build_in_shards(case.recipe, store, case.shard_bytes, case.stimuli, **how)
        return store

    first = built("serial", None)
    files, facts, count = data_files(first), documents(first), n_tasks(first)
    assert count >= 5, "so few tasks have no order"
    different = []
    for way in ways:
        executor, n_workers = WAYS[way]
        orders.ran.clear()
        other = built(executor, n_workers or count)
        if n_workers is None:
            assert sorted(orders.ran) == [*range(count)] != orders.ran
        assert eegstore.open_store(other).digest == eegstore.open_store(first).digest
        if (data_files(other), documents(other)) != (files, facts):
            different.append(way)
    figure("builds of the bytes of the serial one", len(ways) - len(different), len(ways))
    assert different == []
    assert eegstore.verify(first, deep=True) == []


NIGHTLY = [pytest.mark.nightly, pytest.mark.timeout(3600)]


@pytest.mark.promise("P9")
@pytest.mark.parametrize(
    ("profile", "ways"),
    [
        ("raw", [*WAYS][:-1]),
        *(pytest.param(profile, [*WAYS], marks=NIGHTLY) for profile in PROFILES),
    ],
)
def test_any_executor_and_order_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str, ways: list[str],
    figure: Callable[[str, int, int], None],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write_input(tmp_path)
    recipe = RECIPE | {"store": PROFILES[profile]}
    check_same(Case(recipe, 8 * TRIAL_BYTES, 4), tmp_path, ways, figure)


@pytest.mark.promise("P9")
@pytest.mark.parametrize(
    "make", [synthetic, pytest.param(clip, marks=NIGHTLY)], ids=lambda make: make.__name__
)
def test_blocks_and_models_give_the_same_bytes_in_any_order(
    tmp_path: Path, make: Callable[[Path], Case], figure: Callable[[str, int, int], None]
) -> None:
    check_same(make(tmp_path), tmp_path, ["two workers", "shuffled"], figure)


@pytest.mark.promise("P9")
@pytest.mark.nightly
@pytest.mark.shared_data
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("make", [eyes, attention], ids=lambda make: make.__name__)
def test_real_recordings_give_the_same_bytes_in_any_order(
    tmp_path: Path, shared_data: Path, make: Callable[[Path], Case],
    figure: Callable[[str, int, int], None],
) -> None:  # fmt: skip
    check_same(make(shared_data), tmp_path, [*WAYS], figure)
