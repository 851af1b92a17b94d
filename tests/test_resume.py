"""A build killed at any moment resumes to the same bytes, and computes only what is left."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import eegstore
from eegstore import IncompleteError, InputError, plan
from samples import DIGITS, EEG, data_files, recipe
from tiny_clip import write_tiny_clip

# Small shards: a build of some ten tasks a table that is over in seconds.
SHARDS = {"SHARD_BYTES": 1 << 20, "STIMULI_SHARD_ROWS": 64}
SCRIPT = f"""
import json, sys, eegstore
from eegstore import plan
vars(plan).update({SHARDS})
print("started", flush=True)
eegstore.build(json.loads(sys.argv[1]), sys.argv[2], executor="processes", n_workers=2)
"""


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SHARDS.items():
        monkeypatch.setattr(plan, name, value)


def start(made: dict[str, Any], store: Path) -> subprocess.Popen[bytes]:
    """A build in a process of its own, which has just begun."""
    arguments = [sys.executable, "-c", SCRIPT, json.dumps(made), str(store)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"started\n"
    return process


def nothing_partial(store: Path) -> None:
    """Whoever opens the store sees committed columns whole, or no store at all."""
    try:
        opened = eegstore.open_store(store)
    except (InputError, IncompleteError):
        return
    for table in (opened.trials, opened.stimuli):
        for name in table:
            assert len(table[name][:]) == len(table[name])


@pytest.fixture
def made() -> dict[str, Any]:
    """A recipe of several tasks a table: EEG, features of it, and features of images."""
    return recipe(
        source=EEG | {"n_trials": 300, "n_channels": 16, "n_times": 500},
        stimuli=DIGITS | {"per_label": 20},
        pairing={"plugin": "label", "choose": "cycle"},
        extract=[{"plugin": "temporal"}, {"plugin": "hog"}],
    )


@pytest.mark.parametrize(
    "n_kills",
    [
        pytest.param(2, marks=pytest.mark.timeout(900)),
        pytest.param(100, marks=[pytest.mark.nightly, pytest.mark.timeout(7200)]),
    ],
)
@pytest.mark.promise("P1")
@pytest.mark.parametrize("committed_before", [False, True])
def test_a_build_killed_at_any_moment_resumes_to_the_same_bytes(
    tmp_path: Path, figure: Callable[[str, int, int], None], made: dict[str, Any],
    committed_before: bool, n_kills: int,
) -> None:  # fmt: skip
    whole, store = tmp_path / "whole.zarr", tmp_path / "killed.zarr"
    clip = {"plugin": "clip-image", "model": str(write_tiny_clip(tmp_path / "clip"))}
    first = made | {"extract": [{"plugin": "temporal"}, clip]}
    last = made | {"extract": [*first["extract"], {"plugin": "hog"}]}
    if committed_before:
        last["extract"].append({"plugin": "spectral"})
        for path in (whole, store):
            eegstore.build(first, path)
    begin = time.monotonic()
    assert start(last, whole).wait() == 0
    duration = time.monotonic() - begin
    moments = random.Random(int(committed_before))
    n_killed = 0
    while n_killed < n_kills:
        process = start(last, store)
        time.sleep(moments.uniform(0, duration))
        process.kill()
        if process.wait() == -signal.SIGKILL:
            n_killed += 1
            nothing_partial(store)
        else:  # it was faster: begin again
            shutil.rmtree(store)
            if committed_before:
                eegstore.build(first, store)
    assert start(last, store).wait() == 0
    assert eegstore.open_store(store).digest == eegstore.open_store(whole).digest
    assert data_files(store) == data_files(whole)
    assert eegstore.verify(store, deep=True) == []
    assert not store.with_name(store.name + ".build").exists()
    what = "a column's addition" if committed_before else "a first build"
    figure(f"kills of {what} were resumed to the same bytes", n_killed, n_kills)


def kill_after_the_first_receipt(made: dict[str, Any], store: Path, pattern: str) -> Path:
    """Kill a build once a task has left its receipt; the receipt."""
    receipts = store.with_name(store.name + ".build") / "receipts"
    process = start(made, store)
    while process.poll() is None and not list(receipts.glob(pattern)):
        time.sleep(0.005)
    process.kill()
    process.wait()
    return min(receipts.glob(pattern))


def test_a_resumed_build_computes_only_what_is_left(tmp_path: Path, made: dict[str, Any]) -> None:
    store = tmp_path / "a.zarr"
    receipt = json.loads(kill_after_the_first_receipt(made, store, "trials-*.json").read_text())
    shard = store / "trials" / "eeg" / "c" / str(receipt["shard"]) / "0" / "0"
    before = shard.stat().st_mtime_ns
    planned = {task.name for task in eegstore.builder.plan(made, store).tasks}
    assert receipt["task"] not in planned
    assert planned
    eegstore.build(made, store)
    assert shard.stat().st_mtime_ns == before


def test_a_shard_without_a_valid_receipt_is_computed_again(
    tmp_path: Path, made: dict[str, Any]
) -> None:
    store = tmp_path / "a.zarr"
    receipt = kill_after_the_first_receipt(made, store, "*.json")
    receipt.write_text(receipt.read_text().replace('"shard": ', '"shard": 1'))
    assert receipt.stem in {task.name for task in eegstore.builder.plan(made, store).tasks}
