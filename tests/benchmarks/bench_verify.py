"""What ``verify`` costs next to reading and digesting the same files in a plain way.

    python tests/benchmarks/bench_verify.py [--trials 16384] [--repeats 5] [--folder DIR] [--keep]

Builds a store of synthetic EEG (64 kB a trial) and one of many small files. In one run, in turn,
each of these goes through every data file of the first: plain reads and SHA-256 by
``hashlib.file_digest``, each in one thread and in one a processor, and ``verify(deep=True)``; once
with the files' pages dropped from the cache (where the kernel does so when asked) and once with
all of them in it. Prints the least of the repeats, and the ratio to SHA-256 on all processors.
``verify`` without ``--deep`` goes through the second.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import eegstore
from eegstore import plan
from eegstore.machine import n_cpus

BLOCK = 1 << 22
SHAPE = {"n_channels": 64, "n_times": 256}
SMALL = {"n_channels": 4, "n_times": 32}
SMALL_TRIALS = 2000


def build(store: Path, n_trials: int, shape: dict[str, int]) -> None:
    """A store of synthetic EEG, without images."""
    source = {"plugin": "synthetic", "n_trials": n_trials, **shape}
    eegstore.build({"name": "bench", "source": source}, store)


def build_small(store: Path) -> None:
    """A store whose every trial is a shard."""
    usual, plan.SHARD_BYTES = plan.SHARD_BYTES, 4 * SMALL["n_channels"] * SMALL["n_times"]
    try:
        build(store, SMALL_TRIALS, SMALL)
    finally:
        plan.SHARD_BYTES = usual


def files_of(store: Path) -> list[Path]:
    """Every file of a store, synced: only then can its pages be dropped."""
    os.sync()
    return sorted(path for path in store.rglob("*") if path.is_file())


def forget(files: Iterable[Path]) -> None:
    """Ask the kernel to drop the files' pages."""
    if not hasattr(os, "posix_fadvise"):
        return
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def read(file: Path) -> None:
    """Read a file and do nothing with it."""
    buffer = bytearray(BLOCK)
    with file.open("rb", buffering=0) as stream:
        while stream.readinto(buffer):
            pass


def digest(file: Path) -> str:
    """SHA-256 of a file, as the standard library makes it."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def each(call: Callable[[Path], object], files: list[Path], n_threads: int) -> None:
    """Call a function for each file, in so many threads."""
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in pool.map(call, files):
            pass


def check(store: Path, deep: bool) -> None:
    """Verify a store that has no damage."""
    if eegstore.verify(store, deep=deep):
        raise SystemExit(f"{store}: damaged")


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(store: Path, repeats: int) -> dict[str, tuple[float, float]]:
    """Least seconds of each way through a store's files, with a cold and with a warm cache."""
    files, n = files_of(store), n_cpus()
    ways: dict[str, Callable[[], object]] = {
        "plain read, 1 thread": lambda: each(read, files, 1),
        f"plain read, {n} threads": lambda: each(read, files, n),
        "SHA-256, 1 thread": lambda: each(digest, files, 1),
        f"SHA-256, {n} threads": lambda: each(digest, files, n),
        "verify --deep": lambda: check(store, deep=True),
    }
    cold: dict[str, list[float]] = {name: [] for name in ways}
    warm: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            forget(files)
            cold[name].append(seconds(way))
            warm[name].append(seconds(way))
    return {name: (min(cold[name]), min(warm[name])) for name in ways}


def table(results: dict[str, tuple[float, float]], n_bytes: int) -> str:
    """The results in Markdown; the ratios are to SHA-256 in one thread a processor."""
    floor = results[f"SHA-256, {n_cpus()} threads"]
    lines = ["| | cold | GB/s | ratio | warm | GB/s | ratio |", "|---|---|---|---|---|---|---|"]
    for name, times in results.items():
        cells: list[Any] = [name]
        for taken, least in zip(times, floor, strict=True):
            cells += [f"{taken:.2f} s", f"{n_bytes / taken / 1e9:.2f}", f"{taken / least:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=16384, help="trials of 64 kB")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write (a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="keep the files")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="eegstore-bench-"))
    large, small = folder / "large.zarr", folder / "small.zarr"
    try:
        build(large, arguments.trials, SHAPE)
        build_small(small)
        n_bytes = sum(file.stat().st_size for file in files_of(large))
        n_files = len(files_of(small))
        print(f"{n_bytes / 1e9:.2f} GB, {n_cpus()} processors\n")
        print(table(measure(large, arguments.repeats), n_bytes))
        taken = min(seconds(lambda: check(small, deep=False)) for _ in range(arguments.repeats))
        print(f"\nverify without --deep: {taken:.2f} s for {n_files:,} files, ", end="")
        print(f"{taken / n_files * 1e6:.0f} µs a file")
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
