"""A build that is killed or interrupted resumes to the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import eegstore
from eegstore import IncompleteError, InputError, LockedError
from samples import DIGITS, EEG, data_files, recipe

SCRIPT = """
import json, sys, eegstore
print("started", flush=True)
eegstore.build(json.loads(sys.argv[1]), sys.argv[2], executor="processes", n_workers=2)
"""


def start(made: dict[str, Any], store: Path) -> subprocess.Popen[str]:
    """A build in a process of its own."""
    arguments = [sys.executable, "-c", SCRIPT, json.dumps(made), str(store)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def finish(process: subprocess.Popen[str]) -> int:
    """Wait for a process to end; its exit status."""
    process.communicate(timeout=120)
    return process.returncode


def nothing_partial(store: Path) -> None:
    """Whoever opens the store sees committed columns whole, or no store at all."""
    try:
        opened = eegstore.open_store(store)
    except (InputError, IncompleteError):
        return
    for table in (opened.trials, opened.stimuli):
        for name in table:
            assert len(table[name][:]) == len(table[name])


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """A recipe of several tasks a table: EEG, features and embeddings."""
    return recipe(
        source=EEG | {"n_trials": 900, "n_channels": 32, "n_times": 1500},
        stimuli=DIGITS | {"per_label": 60},
        pairing={"plugin": "label", "choose": "cycle"},
        extract=[{"plugin": "temporal"}, {"plugin": "hog"}],
    )


@pytest.mark.parametrize(
    "n_kills", [5, pytest.param(100, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)])]
)
@pytest.mark.promise("P1")
@pytest.mark.parametrize("committed_before", [False, True])
def test_a_build_killed_at_any_moment_resumes_to_the_same_bytes(
    tmp_path: Path, made: dict[str, Any], committed_before: bool, n_kills: int
) -> None:
    whole, store = tmp_path / "whole.zarr", tmp_path / "killed.zarr"
    first = made | {"extract": made["extract"][:1]}
    if committed_before:
        for path in (whole, store):
            eegstore.build(first, path)
    begin = time.monotonic()
    assert finish(start(made, whole)) == 0
    duration = time.monotonic() - begin
    digest = eegstore.open_store(whole).digest
    moments = random.Random(int(committed_before))
    n_killed = 0
    while n_killed < n_kills:
        process = start(made, store)
        time.sleep(moments.uniform(0, duration))
        process.kill()
        if finish(process) == -signal.SIGKILL:
            n_killed += 1
            nothing_partial(store)
        else:  # it was faster: begin again
            shutil.rmtree(store)
            if committed_before:
                eegstore.build(first, store)
    assert finish(start(made, store)) == 0
    assert eegstore.open_store(store).digest == digest
    assert data_files(store) == data_files(whole)
    assert eegstore.verify(store, deep=True) == []
    assert not store.with_name(store.name + ".build").exists()


def test_a_resumed_build_computes_only_what_is_left(tmp_path: Path, made: dict[str, Any]) -> None:
    store = tmp_path / "a.zarr"
    receipts = tmp_path / "a.zarr.build" / "receipts"
    process = start(made, store)
    while process.poll() is None and not list(receipts.glob("trials-*.json")):
        time.sleep(0.01)
    process.kill()
    finish(process)
    receipt = json.loads(min(receipts.glob("trials-*.json")).read_text())
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
    receipts = tmp_path / "a.zarr.build" / "receipts"
    process = start(made, store)
    while process.poll() is None and not list(receipts.glob("*.json")):
        time.sleep(0.01)
    process.kill()
    finish(process)
    receipt = min(receipts.glob("*.json"))
    receipt.write_text(receipt.read_text().replace('"shard": ', '"shard": 1'))
    assert receipt.stem in {task.name for task in eegstore.builder.plan(made, store).tasks}


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_says_so_and_resumes(
    tmp_path: Path, made: dict[str, Any], sent: signal.Signals
) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(made))
    store = tmp_path / "a.zarr"
    script = (
        "import json, sys; from eegstore import builder, cli; "
        "builder.load_recipe = lambda *_: (builder.parse_recipe("
        "json.load(open('recipe.json')), 'r'), builder.Path.cwd()); "
        "sys.argv = ['eegstore', 'build', 'r', 'a.zarr', '--workers', '2']; cli.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    receipts = tmp_path / "a.zarr.build" / "receipts"
    while process.poll() is None and not list(receipts.glob("*.json")):
        time.sleep(0.01)
    begin = time.monotonic()
    os.killpg(process.pid, sent) if sent == signal.SIGINT else process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - begin < 5
    assert process.returncode == 130
    assert errors.count("\n") == 1
    assert "run the same command again to resume" in errors
    eegstore.build(made, store)
    assert eegstore.verify(store, deep=True) == []


def test_a_second_writer_is_told_who_holds_the_store(tmp_path: Path, made: dict[str, Any]) -> None:
    store = tmp_path / "a.zarr"
    process = start(made, store)
    lock = tmp_path / "a.zarr.lock"
    while not lock.exists() or not lock.read_text():
        time.sleep(0.01)
    with pytest.raises(LockedError, match=rf"pid {process.pid}, since "):
        eegstore.build(made, store)
    process.kill()
    finish(process)
    eegstore.build(made, store)
    assert lock.exists()


def test_ctrl_c_ends_an_export_that_a_c_library_writes(tmp_path: Path) -> None:
    many = recipe(source=EEG | {"n_trials": 6000, "n_channels": 32, "n_times": 512}, extract=[])
    eegstore.build(many, tmp_path / "a.zarr")
    command = ["export", "a.zarr", "a.h5", "--format", "hdf5", "--level", "9"]
    process = subprocess.Popen(
        [sys.executable, "-m", "eegstore", *command],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and not list(tmp_path.glob(".a.h5-*/a.h5")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - begin < 5
    assert process.returncode == 130
    assert errors == "eegstore: interrupted; run the same command again\n"
    assert not list(tmp_path.glob("*.h5*"))
    assert not list(tmp_path.glob(".a.h5*"))
