"""Reading trials, next to a mapped ``.npy`` file and to the peers that read some at random.

    python tests/benchmarks/bench_read.py [--quick]

EEG of 14 channels × 256 samples of float32 (14 KB a trial), 51,900 trials, or 4,096 where quick,
and then without the peers that take long. The page cache is warm. Both sides give torch tensors,
and are measured in turn (``rounds.py``).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from bench_build import anonymous
from material import TRIALS, Material, material, usual
from peers import ARRAYS, TABLES, ArrowTorch, MemoryMap, Missing, Peer, check, opened
from rounds import (
    BATCH,
    MOST_CALLS,
    RandomBatches,
    Row,
    in_turn,
    no_collection,
    seconds,
    times_faster,
    warm,
)
from streams import LitData, Mosaic, TorchEeg

import eegstore
import eegstore.torch
from eegstore import samplers
from eegstore.crew import crew_for
from eegstore.decoding import KEPT_BYTES
from eegstore.part import Part
from eegstore.reader import ShardedArray

READERS = (*ARRAYS, *TABLES, LitData, Mosaic, TorchEeg)
SLOW = (ArrowTorch, LitData, Mosaic)  # left out where quick
BLOCK = 4096
# Of a shard of 64 trials one inner chunk is 1 MB, as ever; fewer are less to check.
SHARDS = {"quick": (1_024, 4), "full": (1_000, 64)}
MOST_BATCHES = 200
TURN = 200  # reads of one trial before it is the other's turn
NOTES: list[str] = []


def rows(quick: bool) -> list[Row]:
    """What is compared, the measured ratio, and its limit."""
    trials, n_rounds = usual(quick), 9 if quick else 25
    warm(trials.store(), trials.path / "npy")
    first, found = AgainstMemmap(trials), list[Row]()
    for row in _others(trials, quick, n_rounds):
        first.measure(3 if quick else 5)
        found.append(row)
    return [first.row(), *found]


def _others(trials: Material, quick: bool, n_rounds: int) -> Iterator[Row]:
    yield from against_peers(trials, quick)
    yield fast_random(trials, n_rounds)
    yield window(trials, "fast", ">= 0.6", n_rounds)
    yield window(trials, "small", ">= 0.2", n_rounds)
    yield from one_trial(trials, 2_000 if quick else 20_000)
    yield sequential(trials, n_rounds)
    yield opening(quick, n_rounds)
    yield memory(quick)


@functools.cache
def dataset(store: Path) -> eegstore.torch.Dataset:
    """The EEG of a store; every chunk was checked once."""
    made = eegstore.torch.Dataset(store, columns=["eeg"])
    for start in range(0, len(made), BLOCK):
        made.__getitems__(np.arange(start, min(start + BLOCK, len(made))))
    return made


def ours(trials: Material, store: Path, seed: int = 1) -> RandomBatches:
    """Random batches of a store."""
    data = dataset(store)

    def read(chosen: Any) -> Any:
        return data.__getitems__(chosen)["eeg"]

    check(read, trials)
    return RandomBatches(read, len(data), seed)


def theirs(peer: Peer, seed: int = 2) -> RandomBatches:
    """Random batches of a peer's."""
    return RandomBatches(peer.batch, len(peer.material.eeg), seed)


class AgainstMemmap:
    """Random batches of the default codec.

    A few rounds at a time, all through this part: a round takes some 0.1 s, and what the machine's
    neighbours do lasts longer than many.
    """

    def __init__(self, trials: Material) -> None:
        mapped = theirs(MemoryMap(trials))
        self._calls = ours(trials, trials.store()), BareCopies(trials), mapped
        self._taken: list[list[float]] = [[] for _ in self._calls]

    def measure(self, n_rounds: int) -> None:
        in_turn(self._calls, 1)  # what ran before has filled the caches
        for before, taken in zip(self._taken, in_turn(self._calls, n_rounds), strict=True):
            before.extend(taken)

    def row(self) -> Row:
        faster, most = times_faster(self._taken)
        return Row(f"random batches of {BATCH}: raw vs np.memmap", faster, ">= 1.4", most)


def against_peers(trials: Material, quick: bool) -> Iterator[Row]:
    """The same next to each peer that is there."""
    mine, bare = ours(trials, trials.store()), BareCopies(trials)
    for kind in READERS:
        if quick and kind in SLOW:
            continue
        try:
            peer = opened(kind, trials)
        except Missing as missing:
            NOTES.append(str(missing))
            continue
        warm(peer.path)
        faster, most = times_faster(in_turn([mine, bare, theirs(peer)], 3 if quick else 7))
        yield Row(f"random batches of {BATCH}: raw vs {peer.name}", faster, ">= 8", most)


def fast_random(trials: Material, n_rounds: int) -> Row:
    """A compressed row is a chunk of its own."""
    store = trials.store("fast-random", codec="fast", random=True)
    warm(store)
    calls = ours(trials, store), BareDecoding(store, BATCH), theirs(MemoryMap(trials))
    faster, most = times_faster(in_turn(calls, n_rounds))
    what = f"random batches of {BATCH}: fast, random = true vs np.memmap"
    return Row(what, faster, ">= 0.5", most)


def window(trials: Material, codec: str, limit: str, n_rounds: int) -> Row:
    """Batches of shuffled windows: of compressed chunks, and of a mapped file."""
    store = trials.store(codec, codec=codec)
    warm(store)
    data, mapped = dataset(store), MemoryMap(trials)
    chunks, together = data.trials.chunks()

    def timed(read: Callable[[Any], object], seed: int) -> Callable[[], float]:
        order = samplers.WindowShuffle(chunks, BATCH, window_chunks=together, seed=seed)
        return lambda: _some_batches(read, order.batches(order.next_epoch())[:MOST_BATCHES])

    calls = timed(data.__getitems__, 1), BareDecoding(store, BATCH), timed(mapped.batch, 2)
    faster, most = times_faster(in_turn(calls, max(5, n_rounds // 3)))
    return Row(f"window shuffle: {codec} vs np.memmap in such an order", faster, limit, most)


class BareCopies(RandomBatches):
    """Seconds that a batch of random rows takes where nothing is done but to copy them.

    Compiled code copies in all threads, from memory that was checked, into one batch's memory.
    """

    def __init__(self, trials: Material) -> None:
        data = dataset(trials.store())
        values = eegstore.open_store(trials.store()).trials["eeg"].values
        assert isinstance(values, ShardedArray)
        crew = crew_for(1 << 30)
        assert crew is not None
        layout, part = values.layout, Part.whole(values.layout)
        out = np.zeros(BATCH * layout.row_bytes, np.uint8)
        sizes = layout.n_rows, layout.chunk_rows, layout.row_bytes
        for start in range(0, len(data), BLOCK):
            values.take(np.arange(start, min(start + BLOCK, len(data))))
        where = values._places, *sizes, part.starts, part.piece_bytes, out
        self._mapped = values  # what is read by its address must stay where it is
        super().__init__(lambda rows: crew.copy_rows(rows, *where), len(data), seed=7)


class BareDecoding:
    """Seconds that it takes to do nothing but decode the bytes of a batch, in all threads."""

    def __init__(self, store: Path, n_trials: int) -> None:
        values = eegstore.open_store(store).trials["eeg"].values
        assert isinstance(values, ShardedArray)
        self._values, layout = values, values.layout
        self._n_chunks = max(1, min(len(values), MOST_CALLS * n_trials) // layout.chunk_rows)
        self._batches = self._n_chunks * layout.chunk_rows / n_trials
        slots = max(1, min(self._n_chunks, KEPT_BYTES // layout.chunk_bytes))
        self._memory = np.zeros((slots, layout.chunk_bytes), np.uint8)
        self()

    def __call__(self) -> float:
        chunks = np.random.default_rng(8).permutation(self._n_chunks)
        parts = [
            chunks[at : at + len(self._memory)] for at in range(0, len(chunks), len(self._memory))
        ]

        def decode() -> None:
            for part in parts:
                self._values._decode(part, self._memory, np.arange(len(part)))

        return seconds(decode) / self._batches


def _some_batches(read: Callable[[Any], object], batches: Sequence[Any]) -> float:
    """Seconds a batch."""

    def each() -> None:
        for some in batches:
            read(some)

    return seconds(each) / len(batches)


def one_trial(trials: Material, n_reads: int) -> list[Row]:
    """A trial as a numpy array: what raw takes longer than a mapped file, in µs."""
    column, mapped = eegstore.open_store(trials.store()).trials["eeg"], trials.eeg
    column[:]  # checks all chunks
    mine, other = [], []
    for seed in range(0, n_reads // TURN, 2):
        mine += _each(lambda row: column[row], len(mapped), seed)
        other += _each(lambda row: np.array(mapped[row]), len(mapped), seed + 1)
    more = [np.percentile(mine, part) - np.percentile(other, part) for part in (50, 99)]
    return [
        Row("one random trial: p50 of raw - np.memmap, µs", float(more[0]), "<= 15"),
        Row("one random trial: p99 of raw - np.memmap, µs", float(more[1]), "<= 60"),
    ]


def _each(read: Callable[[int], Any], n_trials: int, seed: int) -> list[float]:
    """Microseconds of each of some reads."""
    found = []
    with no_collection():
        for row in np.random.default_rng(seed).integers(0, n_trials, TURN).tolist():
            start = time.perf_counter()
            read(row)
            found.append(1e6 * (time.perf_counter() - start))
    return found


def sequential(trials: Material, n_rounds: int) -> Row:
    """All trials in their order, a block at a time, as numpy arrays."""
    column, mapped = eegstore.open_store(trials.store()).trials["eeg"], trials.eeg
    column[:]

    def timed(read: Callable[[slice], object]) -> Callable[[], float]:
        starts = range(0, len(mapped), BLOCK)
        return lambda: _some_batches(read, [slice(start, start + BLOCK) for start in starts])

    calls = timed(lambda some: column[some]), timed(lambda some: np.array(mapped[some]))
    (faster,) = times_faster(in_turn(calls, n_rounds))
    return Row("in order, 4,096 trials at a time: raw vs np.memmap", faster, ">= 0.9")


def opening(quick: bool, n_rounds: int) -> Row:
    """From a path to the first random batch; the shards are mapped and their chunks checked."""
    n_shards, shard_trials = SHARDS["quick" if quick else "full"]
    trials = material(n_shards * shard_trials)
    store = trials.store("shards", shard_bytes=trials.eeg[:shard_trials].nbytes)
    warm(store)
    layout = eegstore.open_store(store).trials["eeg"].layout
    assert layout is not None
    assert layout.n_shards == n_shards
    random = np.random.default_rng(3)

    def first() -> None:
        data = eegstore.torch.Dataset(store, columns=["eeg"])
        data.__getitems__(random.choice(len(data), BATCH, False))

    taken = float(np.median([seconds(first) for _ in range(n_rounds)]))
    what = f"open {n_shards:,} shards of {shard_trials} trials, and the first batch: ms"
    return Row(what, 1e3 * taken, "<= 100")


def memory(quick: bool) -> Row:
    """Peak of an epoch's process at four times the trials to that at one time."""
    n_trials = TRIALS["quick" if quick else "full"]
    peaks = [peak_bytes(material(some).store()) for some in (n_trials // 4, n_trials)]
    what = f"peak memory of an epoch: {n_trials:,} trials / {n_trials // 4:,}"
    return Row(what, peaks[1] / peaks[0], "<= 1.1")


def peak_bytes(store: Path) -> int:
    """RssAnon + RssShmem of a process that reads an epoch of a store."""
    command = [sys.executable, __file__, "--epoch", str(store)]
    peak = 0
    with subprocess.Popen(command) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, anonymous(watched))
            time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"an epoch of {store} ended with {process.returncode}")
    return peak


def read_epoch(store: Path) -> None:
    """What ``peak_bytes`` watches."""
    data = eegstore.torch.Dataset(store, columns=["eeg", "clip", "label"])
    for _ in eegstore.torch.loader(data, batch_size=BATCH, shuffle=True):
        pass


def figures(trials: Material) -> None:
    """Trials a second, and µs for one, of every reader."""
    print(f"{'':16} {'random batches/s':>16} {'in order/s':>12} {'one trial µs':>14}")
    for kind in (MemoryMap, *READERS):
        with contextlib.suppress(Missing):
            peer = opened(kind, trials)
            many, some = theirs(peer)(), [(0, BLOCK)]
            order = _some_batches(lambda ends, read=peer.read: read(*ends), some)
            one = np.median(_each(peer.trial, len(trials.eeg), 5))
            print(f"{peer.name:16} {BATCH / many:16,.0f} {BLOCK / order:12,.0f} {one:14.0f}")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--figures", action="store_true", help="every reader's figures instead")
    parser.add_argument("--epoch", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.epoch:
        read_epoch(arguments.epoch)
    elif arguments.figures:
        figures(usual(arguments.quick))
    else:
        for what, ratio, limit, most in map(Row._make, rows(arguments.quick)):
            print(f"{ratio:9.2f}  {limit:8} {most:9.2f}  {what}", flush=True)
        print("\n".join(NOTES))


if __name__ == "__main__":
    main()
