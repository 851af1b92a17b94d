"""How cost grows: with trials, with channels, and with an empty page cache.

    python tests/benchmarks/bench_scale.py

Builds and reads an epoch of 8,192 trials, and of 4 and 16 times as many, each in a process of its
own. Time is linear where a trial of 16 times costs as much as one of 4 times; what is paid once,
such as starting, is measured with 256 trials, and subtracted from both. Random rows of more memory
take longer whoever reads them: the bound of an epoch is how np.memmap's grows, that of a build how
plain output of as many bytes does. Memory of an epoch is that of 16 times next to the first. A
build keeps the narrow columns, some 100 bytes a trial: what 64 times take more than 16 times is
given as a share of the trials' samples. (Of fewer trials the workers have not yet come to what they
keep, some five shards each; the 64 times are zeros, which take no room but the store's.) The rest
are figures without a limit; not in the quick run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
from bench_build import plain_write, run
from bench_read import ours, peak_bytes, theirs
from bench_verify import forget
from eeg_like import labels_of
from material import CHANNELS, TIMES, Material, folder, material
from peers import MemoryMap
from rounds import BATCH, in_turn, seconds, times_faster, warm

import eegstore.torch

T = TypeVar("T")
Row = tuple[str, float, str] | tuple[str, float, str, float]
TRIALS, TIMES_MORE, MOST_TIMES = 8_192, (1, 4, 16), 64
NEXT_TO_NONE = 256  # trials
TRIALS_OF_CHANNELS = {14: 32_768, 64: 7_168, 128: 3_584}  # trials of as many bytes
WAYS = ("random", "in order")
REPEATS = 3
NOTES: list[str] = []


def rows(quick: bool) -> list[Row]:
    """What is compared, the measured ratio, and its limit."""
    if quick:
        return []
    NOTES.extend(cold(material(TRIALS * 4)))  # first: no pages are mapped here yet
    NOTES.extend(channels())
    sizes = [NEXT_TO_NONE, *(TRIALS * times for times in TIMES_MORE)]
    writers = [partial(kind, material(size)) for kind in (built, written) for size in sizes]
    builds = in_turn(writers, REPEATS)
    times = [median(taken for taken, _ in found) for found in builds]
    building, writing = times[: len(sizes)], times[len(sizes) :]
    peaks = [min(peak for _, peak in found) for found in builds[: len(sizes)]]
    readers = [kind(material(size)) for kind in (epoch_of, mapped_epoch) for size in sizes]
    epochs = [median(found) for found in in_turn([partial(seconds, one) for one in readers], 15)]
    reading, mapped = epochs[: len(sizes)], epochs[len(sizes) :]
    held = [min(peak_bytes(material(size).store()) for _ in range(REPEATS)) for size in sizes]
    for size, build_s, peak, epoch_s, of_epoch in zip(
        sizes, building, peaks, reading, held, strict=True
    ):
        NOTES.append(
            f"{size:,} trials: build {build_s:.2f} s, {peak / 1e6:.0f} MB; "
            f"an epoch {epoch_s:.3f} s, {of_epoch / 1e6:.0f} MB"
        )
    _, most = built(blank(TRIALS * MOST_TIMES))
    n_bytes = 4 * CHANNELS * TIMES * TRIALS * (MOST_TIMES - TIMES_MORE[-1])
    what = "seconds a trial, 16 / 4 times the trials"
    return [
        (f"build: {what}", growth(building), "<= 1.1", growth(writing)),
        (f"epoch: {what}", growth(reading), "<= 1.1", growth(mapped)),
        (
            "build: memory of a further trial, of its samples",
            (most - peaks[-1]) / n_bytes,
            "<= 0.01",
        ),
        ("epoch: peak memory, 16 / 1 times the trials", held[-1] / held[1], "<= 1.1"),
    ]


def growth(measured: list[float]) -> float:
    """Seconds of a trial of the last size, to those of one of the size before it."""
    once, _, fewer, more = measured
    if fewer <= once:
        return float("nan")  # the machine was too busy to tell
    return (more - once) / (fewer - once) * TIMES_MORE[1] / TIMES_MORE[2]


def toml(recipe: dict[str, Any]) -> str:
    """A recipe as the command reads it."""
    lines = [f"name = {json.dumps(recipe['name'])}"]
    for name, section in recipe.items():
        for one in section if isinstance(section, list) else [section]:
            if isinstance(one, dict):
                lines.append(f"[[{name}]]" if isinstance(section, list) else f"[{name}]")
                lines += [f"{key} = {json.dumps(value)}" for key, value in one.items()]
    return "\n".join(lines)


def blank(n_trials: int) -> Material:
    """Trials of zeros, in a file that takes no room."""
    path = folder() / f"blank-{n_trials}"
    data, labels = path / "npy" / "train_data.npy", labels_of(n_trials)
    data.parent.mkdir(parents=True, exist_ok=True)
    np.save(data.with_name("train_labels.npy"), labels)
    eeg = np.lib.format.open_memmap(data, "w+", np.float32, (n_trials, CHANNELS, TIMES))
    return Material(path, eeg, labels)


def built(trials: Material) -> tuple[float, float]:
    """Seconds of a build, and its peak of memory in bytes."""
    recipe, store = trials.path / "recipe.toml", trials.path / "again.zarr"
    recipe.write_text(toml(trials.recipe()))
    warm(trials.path / "npy")
    shutil.rmtree(store, ignore_errors=True)
    found = run("build", str(recipe), str(store), "--quiet")[:2]
    shutil.rmtree(store)
    return found


def written(trials: Material) -> tuple[float, float]:
    """Seconds of plain output of as many bytes as the store's, synced; no memory is counted."""
    n_bytes = sum(one.stat().st_size for one in trials.store().rglob("*") if one.is_file())
    return plain_write(trials.path / "plain", n_bytes), 0.0


def epoch_of(trials: Material) -> Callable[[], None]:
    """An epoch of a store, of which all pages are mapped."""
    store = trials.store()
    data = eegstore.torch.Dataset(store, columns=["eeg", "clip", "label"])
    batches = eegstore.torch.loader(data, batch_size=BATCH, shuffle=True)

    def epoch() -> None:
        for _ in batches:
            pass

    warm(store)
    epoch()
    return epoch


def mapped_epoch(trials: Material) -> Callable[[], None]:
    """The same epoch of a mapped file."""
    mapped = MemoryMap(trials)

    def epoch() -> None:
        for _ in mapped.epoch():
            pass

    warm(trials.path / "npy")
    epoch()
    return epoch


def channels() -> list[str]:
    """Random batches of trials of more channels, next to a mapped file."""
    lines = []
    for n_channels, n_trials in TRIALS_OF_CHANNELS.items():
        trials = material(n_trials, n_channels)
        warm(trials.store(), trials.path / "npy")
        taken = in_turn([ours(trials, trials.store()), theirs(MemoryMap(trials))], 9)
        (faster,), rate = times_faster(taken), BATCH / median(taken[0])
        n_bytes = rate * trials.eeg[0].nbytes
        lines.append(
            f"{n_channels} channels: random batches {faster:.2f} × np.memmap, "
            f"{rate:,.0f} trials/s, {n_bytes / 1e9:.1f} GB/s"
        )
    return lines


def cold(trials: Material) -> list[str]:
    """Seconds of all trials with the files' pages dropped from the cache, and with them in it."""
    npy, store = trials.path / "npy" / "train_data.npy", trials.store()
    small = trials.store("small", codec="small")
    lines = []
    for way in WAYS:
        for name, path in (("np.memmap", npy), ("raw", store), ("small", small)):
            files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
            os.sync()  # only what is on the disk can be dropped
            forget(files)
            emptied, full = child(path, way), child(path, way)
            lines.append(f"{way}, cold cache: {name} {emptied:.2f} s, then warm {full:.2f} s")
    return lines


def child(path: Path, way: str) -> float:
    """Seconds of a pass in a process of its own: what another maps stays in the cache."""
    command = [sys.executable, __file__, "--pass", str(path), "--way", way]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def one_pass(path: Path, way: str) -> float:
    """Seconds of all trials once, in batches; a store is opened beforehand.

    "random" is a window shuffle in a store that is compressed.
    """
    take: Callable[[Any], object]
    if path.suffix == ".npy":
        mapped = np.load(path, mmap_mode="r")
        n_trials, take = len(mapped), lambda some: np.array(mapped[some])
    else:
        data = eegstore.torch.Dataset(path, columns=["eeg"])
        n_trials, take = len(data), data.__getitems__
    order = np.arange(n_trials)
    if way == "random" and path.name.startswith("small"):
        order = np.concatenate(list(eegstore.torch.sampler(data, BATCH, "window")))
    elif way == "random":
        order = np.random.default_rng(4).permutation(n_trials)

    def every() -> None:
        for start in range(0, n_trials, BATCH):
            take(order[start : start + BATCH])

    return seconds(every)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pass", type=Path, dest="path", help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.path:
        print(one_pass(arguments.path, arguments.way))
        return
    for what, ratio, limit, *bound in rows(quick=False):
        print(f"{ratio:9.2f}  {limit:8}  {what} {bound or ''}", flush=True)
    print("\n".join(NOTES))


if __name__ == "__main__":
    main()
