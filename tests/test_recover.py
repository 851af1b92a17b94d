"""Builds that end early, one after the other and with other recipes, and what the next one makes.

A build is ended at its k-th rename, removal or new mark, in the test's own process: those are
the moments at which the disk changes. ``test_resume`` kills real processes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eegstore
from eegstore import IncompleteError, InputError, blocks, extract, plan
from samples import DIGITS, EEG, data_files, recipe, write_npy


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the package catches it."""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards a table, and several chunks a shard, of little input."""
    monkeypatch.setattr(plan, "SHARD_BYTES", 1 << 15)
    monkeypatch.setattr(plan, "STIMULI_SHARD_ROWS", 4)
    for module in (plan, blocks):
        monkeypatch.setattr(module, "CHUNK_BYTES", 1 << 13)


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the k-th change of the disk raise, before or after it is done; 0 for none."""
    steps: Iterator[int] = itertools.count(1)
    last = 0

    def watched(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*args: Any, **kwargs: Any) -> Any:
            step = next(steps)
            if last and step == last and step % 2:
                raise Killed
            result = change(*args, **kwargs)
            if last and step == last:
                raise Killed
            return result

        return changed

    for name in ("replace", "unlink", "rmdir", "touch"):
        monkeypatch.setattr(Path, name, watched(getattr(Path, name)))
    monkeypatch.setattr(shutil, "rmtree", watched(shutil.rmtree))

    def set_last(step: int) -> None:
        nonlocal steps, last
        steps, last = itertools.count(1), step

    return set_last


def variants(folder: Path) -> dict[str, dict[str, Any]]:
    """Recipes that share some columns and differ in others."""
    spectral, hog = {"plugin": "spectral"}, {"plugin": "hog"}
    temporal = {"plugin": "temporal"}
    holes = np.random.default_rng(0).standard_normal((60, 4, 128)).astype(np.float32)
    holes[[7, 33], 2, 5] = np.nan
    write_npy(folder, train_data=holes, train_labels=np.arange(60) % 10)
    npy = {"plugin": "npy", "path": str(folder), "sfreq": 128, "allow_skips": True}
    return {
        "plain": recipe(),
        "longer": recipe(extract=[spectral, hog, temporal]),
        "shorter": recipe(extract=[temporal]),
        "boxcar": recipe(extract=[spectral | {"window": "boxcar"}, hog | {"orientations": 6}]),
        "swapped": recipe(extract=[spectral | {"as": "temporal"}, temporal | {"as": "spectral"}]),
        "seed": recipe(split={"plugin": "random", "test_size": 0.25, "seed": 5}),
        "caption": recipe(stimuli=DIGITS | {"caption": "{label}"}),
        "fewer trials": recipe(source=EEG | {"n_trials": 30}),
        "shorter trials": recipe(source=EEG | {"n_times": 64}),
        "more images": recipe(stimuli=DIGITS | {"per_label": 2}),
        "codec": recipe(store={"codec": "fast"}),
        "holes": recipe(source=npy),
        "no images": recipe(stimuli=None, pairing=None, extract=[temporal]),
    }


def build(made: dict[str, Any], store: Path) -> None:
    eegstore.build(made, store, executor="serial", overwrite=True)


@pytest.mark.parametrize("seed", range(12))
def test_builds_that_end_anywhere_leave_what_a_fresh_build_makes(
    tmp_path: Path, kill_at: Callable[[int], None], seed: int
) -> None:
    chance = random.Random(seed)
    recipes = variants(tmp_path / "in")
    store = tmp_path / "a.zarr"
    n_killed = 0
    for _ in range(6):
        kill_at(chance.choice([0, chance.randint(1, 12), chance.randint(1, 90)]))
        try:
            build(recipes[chance.choice(sorted(recipes))], store)
        except Killed:
            n_killed += 1
            with contextlib.suppress(InputError, IncompleteError):
                eegstore.open_store(store)
    kill_at(0)
    assert n_killed >= 1
    final = chance.choice(sorted(recipes))
    build(recipes[final], store)
    build(recipes[final], tmp_path / "fresh.zarr")
    assert data_files(store) == data_files(tmp_path / "fresh.zarr"), final
    assert eegstore.open_store(store).digest == eegstore.open_store(tmp_path / "fresh.zarr").digest
    assert eegstore.verify(store, deep=True) == []
    assert eegstore.build(recipes[final], store).up_to_date


def test_a_receipt_never_vouches_for_bytes_that_were_replaced(
    tmp_path: Path, kill_at: Callable[[int], None]
) -> None:
    """Ended with one window, then with another, then built with the first again."""
    recipes = variants(tmp_path / "in")
    for k in range(3, 40):
        store = tmp_path / f"{k}.zarr"
        for name, step in (("plain", 30), ("boxcar", k)):
            kill_at(step)
            with pytest.raises(Killed):
                build(recipes[name], store)
        kill_at(0)
        build(recipes["plain"], store)
        assert eegstore.verify(store, deep=True) == []
        spectral = eegstore.open_store(store).trials["spectral"][:]
        if k == 3:
            expected = spectral
        np.testing.assert_array_equal(spectral, expected)


def test_invalid_trials_stay_invalid_after_a_build_that_failed(tmp_path: Path) -> None:
    recipes = variants(tmp_path / "in")
    store = tmp_path / "a.zarr"
    build(recipes["holes"], store)
    failing = recipes["holes"] | {
        "extract": [*recipes["holes"]["extract"], {"plugin": "temporal"},
                    {"plugin": "clip-image", "model": str(tmp_path)}]
    }  # fmt: skip
    with pytest.raises(eegstore.EegStoreError):
        build(failing, store)
    again = recipes["holes"] | {"split": {"plugin": "random", "test_size": 0.5, "seed": 9}}
    build(again, store)
    trials = eegstore.open_store(store).trials
    assert np.flatnonzero(~trials["valid"][:]).tolist() == [7, 33]
    assert trials["split"][[7, 33]].tolist() == ["skipped", "skipped"]


def test_a_store_whose_columns_are_being_replaced_says_so(
    tmp_path: Path, kill_at: Callable[[int], None]
) -> None:
    recipes = variants(tmp_path / "in")
    store = tmp_path / "a.zarr"
    build(recipes["plain"], store)
    kill_at(30)
    with pytest.raises(Killed):
        build(recipes["shorter trials"], store)
    kill_at(0)
    with pytest.raises(IncompleteError, match=r"replacing eeg.*run it again to resume"):
        eegstore.open_store(store)
    with pytest.raises(IncompleteError, match=r"replacing eeg"):
        eegstore.verify(store)


def test_a_folder_of_the_build_folders_name_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "a.zarr.build"
    theirs.mkdir()
    (theirs / "thesis.tex").write_text("three years")
    with pytest.raises(InputError, match=r"a\.zarr\.build: in the way.*nothing was touched"):
        build(recipe(), tmp_path / "a.zarr")
    assert (theirs / "thesis.tex").read_text() == "three years"
    assert not (tmp_path / "a.zarr").exists()


def test_what_an_interrupted_build_has_done_is_not_dropped_without_a_word(
    tmp_path: Path, kill_at: Callable[[int], None]
) -> None:
    recipes = variants(tmp_path / "in")
    store = tmp_path / "a.zarr"
    steps = itertools.count(20)
    while not list(tmp_path.glob("a.zarr.build/receipts/trials-*.json")):
        kill_at(next(steps))
        with pytest.raises(Killed):
            build(recipes["plain"], store)
    kill_at(0)
    before = data_files(store)
    with pytest.raises(InputError) as refused:
        eegstore.build(recipes["boxcar"], store)
    assert re.fullmatch(
        rf"{store}: would lose the finished shards of stimuli/hog \(3\), trials/spectral \(\d\) of "
        r"an interrupted build: \[\[extract\]\] 1: window \(none\) → 'boxcar', \[\[extract\]\] 2: "
        r"orientations \(none\) → 6; choose another OUT, or pass --overwrite to drop that",
        str(refused.value),
    )
    assert data_files(store) == before
    # What loses nothing goes on without asking, also with another split.
    assert eegstore.build(recipes["seed"], store).history is not None


def test_a_recipe_that_is_built_already_asks_before_it_drops_an_interrupted_builds_work(
    tmp_path: Path, kill_at: Callable[[int], None]
) -> None:
    store = tmp_path / "a.zarr"
    wider = recipe(extract=[*recipe()["extract"], {"plugin": "temporal"}])
    eegstore.build(recipe(), store, executor="serial")
    receipts = store.with_name("a.zarr.build") / "receipts"
    for step in itertools.count(1):
        kill_at(step)
        with contextlib.suppress(Killed):
            eegstore.build(wider, store, executor="serial")
        kill_at(0)
        if list(receipts.glob("trials-*.json")):
            break
    with pytest.raises(InputError, match=r"would lose the finished shards of trials/temporal"):
        eegstore.build(recipe(), store, executor="serial")
    assert eegstore.build(recipe(), store, executor="serial", overwrite=True).up_to_date
    assert eegstore.verify(store, deep=True) == []
    assert not receipts.parent.exists()


def test_a_shard_that_no_receipt_was_left_for_is_dropped_by_a_build_of_the_recipe_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise Killed

    store = tmp_path / "a.zarr"
    wider = recipe(extract=[*recipe()["extract"], {"plugin": "temporal"}])
    eegstore.build(recipe(), store, executor="serial")
    with monkeypatch.context() as patch:
        patch.setattr(extract, "write_receipt", stop)
        with pytest.raises(Killed):
            eegstore.build(wider, store, executor="serial")
    assert list((store / "trials/temporal").rglob("0"))
    assert eegstore.build(recipe(), store, executor="serial").up_to_date
    assert eegstore.verify(store, deep=True) == []


def test_no_shard_is_committed_that_its_receipt_is_gone_for(tmp_path: Path) -> None:
    """As where a network's file system shows an old listing."""
    store = tmp_path / "a.zarr"
    receipts = store.with_name("a.zarr.build") / "receipts"

    def forget(stage: str, done: int, total: int) -> None:
        if stage == "extract" and done == total:
            next(receipts.glob("trials-*.json")).unlink()

    with pytest.raises(IncompleteError, match=r"1 tasks have ended, but their shards or receipts"):
        eegstore.build(recipe(), store, executor="serial", listener=forget)
    with pytest.raises(IncompleteError):
        eegstore.open_store(store)
    eegstore.build(recipe(), store, executor="serial")
    assert eegstore.verify(store, deep=True) == []


@pytest.mark.parametrize(("deep", "old"), [(False, False), (True, False), (True, True)])
def test_a_finished_shard_that_was_changed_since_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deep: bool, old: bool
) -> None:
    """One that was written after its receipt without being asked, any with ``deep``."""

    def stop(*_: object) -> None:
        raise Killed

    store, whole = tmp_path / "a.zarr", tmp_path / "whole.zarr"
    eegstore.build(recipe(), whole, executor="serial")
    with monkeypatch.context() as patch:
        patch.setattr("eegstore.builder._finish", stop)
        with pytest.raises(Killed):
            eegstore.build(recipe(), store, executor="serial")
    shard = store / "trials/eeg/c/1/0/0"
    before = shard.stat()
    content = bytearray(shard.read_bytes())
    content[100:103] = b"odd"
    shard.write_bytes(content)
    if old:
        os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    eegstore.build(recipe(), store, executor="serial", deep=deep)
    assert data_files(store) == data_files(whole)
    assert eegstore.verify(store, deep=True) == []


def test_columns_are_in_the_recipes_order_whatever_was_built_before(tmp_path: Path) -> None:
    """An export concatenates features in it."""
    a, b = tmp_path / "a.zarr", tmp_path / "b.zarr"
    made = recipe(extract=[{"plugin": "spectral"}, {"plugin": "temporal"}])
    boxcar = recipe(extract=[{"plugin": "spectral", "window": "boxcar"}, {"plugin": "temporal"}])
    eegstore.build(made, a, executor="serial")
    for one in (made, boxcar, made):
        eegstore.build(one, b, executor="serial")
    assert list(eegstore.open_store(b).trials) == list(eegstore.open_store(a).trials)
    for store in (a, b):
        eegstore.export(store, store.with_suffix(".npy"), "npy")
    features = [np.load(one.with_suffix(".npy") / "train_eeg_features.npy") for one in (a, b)]
    np.testing.assert_array_equal(*features)
    swapped = recipe(extract=made["extract"][::-1])
    assert eegstore.build(swapped, b, executor="serial").digest == eegstore.open_store(a).digest
    assert list(eegstore.open_store(b).trials)[:3] == ["eeg", "temporal", "spectral"]
