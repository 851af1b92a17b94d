"""What writing an array costs next to tensorstore, and what ``fast`` with ``random`` takes up.

    python tests/benchmarks/bench_write.py [--quick]

Both sides write the same array from memory, 51,900 x 14 x 256 float32 in steps of 0.51 uV, to
shards of 4,096 rows with the same codecs, a crc32c on every chunk, and sync every file; eegstore
digests each shard too. They take turns, and the median of the paired ratios is printed. Sizes are
of one-row chunks, for signals in steps and z-scored, against the smallest that any level, shuffle
and block size of lz4 gives.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray
from rounds import Row, in_turn, times_faster

from eegstore.shards import Layout, ShardWriter, codec_of, writing_threads

STEP = np.float32(0.51)
ROW = (14, 256)
SHARD_ROWS, CHUNK_ROWS = 4096, 64
Signals = NDArray[np.float32]


def signals(n_trials: int, seed: int = 0) -> Signals:
    """EEG as an amplifier gives it: 1/f, below 45 Hz, correlated, around 4.2 mV, in steps."""
    rng, n_times = np.random.default_rng(seed), ROW[1]
    hertz = np.fft.rfftfreq(n_times, 1 / 128)
    amplitude = np.where(hertz < 0.5, 0, 1 / np.sqrt(np.maximum(hertz, 0.5)))
    amplitude = amplitude * np.where(hertz > 45, 0.15, 1)
    shape = (n_trials, 10, len(hertz))
    sources = np.fft.irfft((rng.normal(size=shape) + 1j * rng.normal(size=shape)) * amplitude)
    mixed = np.einsum("cs,nst->nct", rng.normal(size=(ROW[0], 10)), sources)
    mixed = 20 * mixed / mixed.std() + 1.5 * rng.normal(size=mixed.shape)
    offset = 4200 + 30 * rng.normal(size=(n_trials, ROW[0], 1))
    return np.round((mixed + offset) / STEP).astype(np.float32) * STEP


def z_scored(eeg: Signals) -> Signals:
    """Each channel of each trial with mean 0 and standard deviation 1."""
    return (eeg - eeg.mean(-1, keepdims=True)) / eeg.std(-1, keepdims=True)


def ours(folder: Path, eeg: Signals, codec: str) -> None:
    """Write the shards as a task does: block by block."""
    layout = Layout(len(eeg), ROW, "float32", SHARD_ROWS, CHUNK_ROWS, codec)
    with writing_threads() as helpers:
        for shard in range(layout.n_shards):
            path = folder / layout.shard_name(shard)
            path.parent.mkdir(parents=True)
            start, stop = layout.shard_range(shard)
            with ShardWriter(path, layout, helpers) as writer:
                for row in range(start, stop, CHUNK_ROWS):
                    writer.append(eeg[row : min(row + CHUNK_ROWS, stop)])
                writer.finish()


def tensorstores(folder: Path, eeg: Signals, codec: str) -> None:
    """Write the array at once, as tensorstore is told to; it syncs each file."""
    import tensorstore

    number = {"name": "bytes", "configuration": {"endian": "little"}}
    lz4 = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0}
    compress = [{"name": "blosc", "configuration": lz4}] if codec == "fast" else []
    sharding = {
        "chunk_shape": [CHUNK_ROWS, *ROW],
        "codecs": [number, *compress, {"name": "crc32c"}],
        "index_codecs": [number, {"name": "crc32c"}],
    }
    grid = {"name": "regular", "configuration": {"chunk_shape": [SHARD_ROWS, *ROW]}}
    metadata = {
        "shape": list(eeg.shape),
        "data_type": "float32",
        "chunk_grid": grid,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
    }
    kvstore, context = {"driver": "file", "path": str(folder)}, {"file_io_sync": True}
    spec = {"driver": "zarr3", "kvstore": kvstore, "metadata": metadata, "context": context}
    tensorstore.open(spec, create=True).result().write(eeg).result()


def seconds(write: Callable[[Path, Signals, str], None], eeg: Signals, codec: str) -> float:
    """How long it takes until all is durable."""
    folder = Path(tempfile.mkdtemp(prefix="eegstore-bench-", dir=os.environ.get("BENCH_FOLDER")))
    try:
        os.sync()
        start = time.perf_counter()
        write(folder / "eeg", eeg, codec)
        return time.perf_counter() - start
    finally:
        shutil.rmtree(folder)


def plain(folder: Path, eeg: Signals, _codec: str) -> None:
    """Write the same bytes to as many files by plain file output, each synced."""
    folder.mkdir(parents=True)
    for start in range(0, len(eeg), SHARD_ROWS):
        with (folder / str(start)).open("wb", buffering=0) as file:
            for row in range(start, min(start + SHARD_ROWS, len(eeg)), CHUNK_ROWS):
                file.write(memoryview(eeg[row : row + CHUNK_ROWS]).cast("B"))
            os.fsync(file.fileno())


def times(eeg: Signals, rounds: int) -> list[Row]:
    """Medians of our seconds to tensorstore's; of raw, the bound is plain writes of the bytes."""
    ways = [
        (tensorstores, "raw"), (ours, "raw"), (plain, "raw"),
        (tensorstores, "fast"), (ours, "fast"),
    ]  # fmt: skip
    calls = [functools.partial(seconds, write, eeg, codec) for write, codec in ways]
    theirs, mine, bare, theirs_fast, mine_fast = in_turn(calls, rounds)
    (raw,), (most,), (fast,) = map(
        times_faster, [(theirs, mine), (theirs, bare), (theirs_fast, mine_fast)]
    )
    return [
        Row("write raw, seconds to tensorstore's", raw, "<= 1.2", most),
        Row("write fast, seconds to tensorstore's", fast, "<= 1.2"),
    ]


def size_ratio(eeg: Signals) -> float:
    """Bytes of one-row chunks to those of lz4's best setting."""
    codec = codec_of(Layout(len(eeg), ROW, "float32", SHARD_ROWS, 1, "fast"))
    mine = sum(memoryview(codec.encode(row)).nbytes for row in eeg)
    shuffles = (blosc.NOSHUFFLE, blosc.SHUFFLE, blosc.BITSHUFFLE)
    settings = itertools.product((1, 5, 9), shuffles, (0, eeg[0].nbytes))
    best = min(
        sum(len(blosc.compress(row, b"lz4", level, shuffle, size)) for row in eeg)
        for level, shuffle, size in settings
    )
    return mine / best


def rows(quick: bool) -> list[Row]:
    """What is compared, the ratio, its limit and bound."""
    block = signals(2048)
    eeg = np.tile(block, (4 if quick else 26, 1, 1))[:51_900]
    rounds, some = 3 if quick else 11, block[:256]
    kinds: dict[str, Any] = {"in steps": some, "z-scored": z_scored(some)}
    sizes = [
        Row(f"size of fast, random, {kind}, to lz4's best", size_ratio(one), "<= 1.05")
        for kind, one in kinds.items()
    ]
    return [*times(eeg, rounds), *sizes]


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="an array of 117 MB")
    for name, value, limit, most in rows(parser.parse_args().quick):
        print(f"{name:45} {value:6.2f}  {limit}  {most:6.2f}")


if __name__ == "__main__":
    main()
