"""What ``audit`` costs next to reading the same EEG once.

    python tests/benchmarks/bench_audit.py [--trials 16384] [--repeats 5] [--folder DIR] [--keep]

Builds a store of synthetic EEG (64 kB a trial) with ten digit images, and prints the median of the
rounds' ratios: an audit of all of it to reading its EEG in blocks, whole and in the same process,
in turn; with that the least seconds a GB of both, and of the audit's parts. A second store of
twice the trials shows that the time grows with them.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from rounds import in_turn, seconds, times_faster, warm
from threadpoolctl import threadpool_limits

import eegstore
from eegstore import Store
from eegstore.audit import CHECKS, Check, examine
from eegstore.audit_rows import Rows
from eegstore.findings import NotCheckedError

SHAPE = {"n_channels": 64, "n_times": 256}
ROW_BYTES = 4 * SHAPE["n_channels"] * SHAPE["n_times"]
BLOCK_ROWS = (1 << 24) // ROW_BYTES


def build(path: Path, n_trials: int) -> Store:
    """A store of synthetic EEG in which a quarter of the trials are held out."""
    recipe = {
        "name": "bench",
        "source": {"plugin": "synthetic", "n_trials": n_trials, **SHAPE},
        "stimuli": {"plugin": "digits"},
        "split": {"plugin": "random", "test_size": 0.25},
    }
    eegstore.build(recipe, path)
    return eegstore.open_store(path)


def read(store: Store) -> None:
    """Read the EEG once, in the blocks of an audit, and do nothing with it."""
    eeg = store.trials["eeg"]
    for start in range(0, len(eeg), BLOCK_ROWS):
        eeg.take(np.arange(start, min(start + BLOCK_ROWS, len(eeg))))


def parts(store: Store) -> dict[str, float]:
    """Seconds of the pass over the EEG, and of each check after it."""
    rows = Rows(store)

    def look(check: Check) -> None:
        with suppress(NotCheckedError):
            list(check.find(rows))

    with threadpool_limits(1):
        taken = {"the pass over the EEG": seconds(lambda: rows.signal)}
        for check in CHECKS:
            taken[check.name] = seconds(partial(look, check))
    return taken


def measure(store: Store, repeats: int) -> float:
    """Print seconds a GB of an audit and of reading; the median of their ratios."""
    n_bytes = store.trials.n_rows * ROW_BYTES
    examine(store)
    ways = [lambda: seconds(lambda: read(store)), lambda: seconds(lambda: examine(store))]
    taken = in_turn(ways, repeats)
    theirs, ours = (min(one) / n_bytes * 1e9 for one in taken)
    (ratio,) = times_faster(taken)
    print(
        f"{n_bytes / 1e9:.2f} GB: audit {ours:.2f} s/GB, read once {theirs:.2f} s/GB, "
        f"ratio {ratio:.1f}"
    )
    return ratio


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=16384, help="trials of 64 kB")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write (a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="keep the files")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="eegstore-bench-"))
    try:
        for n_trials in (arguments.trials // 2, arguments.trials):
            store = build(folder / f"{n_trials}.zarr", n_trials)
            warm(store.folder)
            measure(store, arguments.repeats)
        for name, taken in parts(store).items():
            print(f"  {taken:6.2f} s  {name}")
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
