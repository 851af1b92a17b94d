"""A shuffled epoch through a ``DataLoader``: EEG, an embedding and a label a trial.

    python tests/benchmarks/bench_train.py [--quick]

Batches are of 256 trials; the embedding is 512 floats an image. The store joins it as it reads,
``np.memmap`` finds it in memory, and the others hold it a trial. All run without workers, in the
main process: the peers through torch's ``DataLoader``, ours through ``eegstore.torch.loader``, a
``DataLoader`` without most of what torch does between batches.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from bench_read import BareCopies
from material import Material, usual
from peers import TABLES, MemoryMap, Missing, Peer, opened
from rounds import BATCH, Row, in_turn, seconds, times_faster, warm
from streams import STREAMS

import eegstore.torch

COLUMNS = ("eeg", "clip", "label")
NOTES: list[str] = []


def rows(quick: bool) -> list[Row]:
    """What is compared, the measured ratio, and its limit."""
    trials, n_rounds = usual(quick), 7 if quick else 15
    warm(trials.store(), trials.path / "npy")
    faster, most = against_memmap(trials, n_rounds)
    tables = [(kind, against(trials, kind, 3)) for kind in TABLES]
    streams = {kind.name: against(trials, kind, 1 if quick else 3) for kind in STREAMS}
    there = {name: faster for name, faster in streams.items() if faster is not None}
    what = "an epoch with its embeddings: raw vs np.memmap"
    found = [Row(what, faster, ">= 1.4", most)]
    found += [
        Row(f"an epoch: raw vs {kind.name}", faster, ">= 3") for kind, faster in tables if faster
    ]
    if there:
        fastest = min(there, key=lambda name: there[name])
        what = f"an epoch: raw vs {fastest}, the fastest of {', '.join(there)}"
        found.append(Row(what, there[fastest], ">= 10"))
    return found


def against(trials: Material, kind: type[Peer], n_rounds: int) -> float | None:
    """How many times longer a peer's epoch takes; None where the peer is not there."""
    try:
        peer = opened(kind, trials)
    except Missing as missing:
        NOTES.append(str(missing))
        return None
    warm(peer.path)
    timed = lambda: epoch_seconds(peer.epoch, len(trials.eeg))  # noqa: E731
    return times_faster(in_turn([ours(trials), timed], n_rounds))[0]


def against_memmap(trials: Material, n_rounds: int) -> list[float]:
    """How many times longer np.memmap takes; than copies of the same trials, and nothing else."""
    copies, rng = BareCopies(trials), np.random.default_rng(5)
    mapped = opened(MemoryMap, trials)
    warm(mapped.path)

    def epoch() -> None:
        order = rng.permutation(len(trials.eeg))
        for rows in np.split(order, range(BATCH, len(order), BATCH)):
            copies.read(rows)
            trials.embeddings[trials.labels[rows]]

    timed = lambda: epoch_seconds(mapped.epoch, len(trials.eeg))  # noqa: E731
    return times_faster(in_turn([ours(trials), lambda: seconds(epoch), timed], n_rounds))


def ours(trials: Material) -> Callable[[], float]:
    """Epochs of a store, each in another order."""
    data = eegstore.torch.Dataset(trials.store(), columns=COLUMNS)
    batches = eegstore.torch.loader(data, batch_size=BATCH, shuffle=True)
    epoch_seconds(lambda: batches, len(data))  # every chunk is checked once
    return lambda: epoch_seconds(lambda: batches, len(data))


def epoch_seconds(epoch: Callable[[], Iterable[Any]], n_trials: int) -> float:
    """Seconds of an epoch, from its first batch's order to its last batch, all trials counted."""
    count = 0

    def read() -> None:
        nonlocal count
        for batch in epoch():
            count += len(batch["label"])

    taken = seconds(read)
    if count != n_trials:
        raise SystemExit(f"an epoch of {count} trials, expected {n_trials}")
    return taken


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    for what, ratio, limit, most in rows(parser.parse_args().quick):
        print(f"{ratio:9.2f}  {limit:8}  {what} ({most:.2f})")
    print("\n".join(NOTES))


if __name__ == "__main__":
    main()
