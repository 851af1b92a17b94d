"""Extractors that learn: ``ridge`` at the size of THINGS-EEG2, and ``contrastive`` an epoch.

    python tests/benchmarks/bench_learned.py [--quick] [--only ridge]

``ridge`` is fitted to 66,160 trials of 63 channels and 250 samples with 1,024-d embeddings of
16,540 stimuli, made up, and predicts them all; both in blocks of 16 trials, as a build has them,
of a file that is mapped. Its seconds are given as a share of a minute, its memory (RssAnon +
RssShmem) as one of 2 GB. ``contrastive`` is compared with the same training written out as a bare
loop on tensors in memory: the passes, the loss on what is held out, and nothing else.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from eegstore import Block
from eegstore_plugins.checkpoints import Checkpoint
from eegstore_plugins.contrastive import Contrastive
from eegstore_plugins.encoder import Encoder
from eegstore_plugins.ridge import Ridge
from eegstore_plugins.training import MOST_SCALE, WEIGHT_DECAY, Schedule, Training, info_nce
from eegstore_plugins.training_rows import TrainRows, collected

Row = tuple[str, float, str]
N_CHANNELS, N_TIMES, WIDTH, SFREQ = 63, 250, 1024, 250.0
REPETITIONS = 4
BLOCK_ROWS = 16
EPOCHS = 2
GB = 1e9
NOTES: list[str] = []


class Trials:
    """Train trials in a file that is mapped, as ``fit`` gets them."""

    def __init__(self, folder: Path, n_stimuli: int) -> None:
        self.n_rows = REPETITIONS * n_stimuli
        rng = np.random.default_rng(0)
        shape = (self.n_rows, N_CHANNELS, N_TIMES)
        path = folder / "eeg.f32"
        with path.open("wb") as file:
            for start in range(0, self.n_rows, 1024):
                n = min(1024, self.n_rows - start)
                rng.standard_normal((n, *shape[1:]), dtype=np.float32).tofile(file)
        self.eeg = np.memmap(path, np.float32, "r", shape=shape)
        targets = folder / "targets.f32"
        rng.standard_normal((n_stimuli, WIDTH), dtype=np.float32).tofile(targets)
        self.targets = np.memmap(targets, np.float32, "r", shape=(n_stimuli, WIDTH))
        self.stimulus = np.arange(self.n_rows) // REPETITIONS
        self.content = np.array([f"{number:064x}" for number in range(n_stimuli)])
        self.times = np.arange(N_TIMES) / SFREQ

    def __iter__(self) -> Iterator[Block]:
        for start in range(0, self.n_rows, BLOCK_ROWS):
            yield self.take(np.arange(start, min(start + BLOCK_ROWS, self.n_rows)))

    def take(self, numbers: Any) -> Block:
        """Any of the rows."""
        stimulus = self.stimulus[numbers]
        columns = {
            "eeg": np.asarray(self.eeg[numbers]),
            "stimulus": stimulus,
            "split": np.full(len(numbers), "train"),
            "fold": np.full(len(numbers), -1),
            "stimuli/clip_image": np.asarray(self.targets[stimulus]),
            "stimuli/content_id": self.content[stimulus],
        }
        return Block(columns, 0, len(numbers), sfreq=SFREQ, times=self.times)


def rows(quick: bool, only: str | None = None) -> list[Row]:
    """What is measured, and its limit."""
    parts = {"ridge": of_ridge, "contrastive": of_contrastive}
    folder = os.environ.get("EEGSTORE_BENCH_FOLDER")
    with tempfile.TemporaryDirectory(prefix="eegstore-learned-", dir=folder) as place:
        chosen = [part for name, part in parts.items() if only in (None, name)]
        return [row for part in chosen for row in part(Path(place), quick)]


def of_ridge(folder: Path, quick: bool) -> list[Row]:
    """Seconds and memory of a fit and of the predictions of all trials."""
    trials = Trials(folder, 16_540 // (8 if quick else 1))
    ridge = Ridge()
    with peak_memory() as peak:
        start, used = time.perf_counter(), time.process_time()
        state = ridge.fit(trials)
        fitted = time.perf_counter() - start
        ridge.restore(state)
        for block in trials:
            ridge(block)
        taken, used = time.perf_counter() - start, time.process_time() - used
    size = f"{trials.n_rows:,} trials, {N_CHANNELS} x {N_TIMES} to {WIDTH:,}"
    n_bytes = sum(one.nbytes for one in state.values())
    NOTES.append(
        f"ridge: fit {fitted:.1f} s, predictions {taken - fitted:.1f} s, in all {used:.0f} s of "
        f"processors; {peak() / GB:.2f} GB; a state of {n_bytes / 1e6:.0f} MB"
    )
    return [
        (f"ridge, {size}: of a minute", taken / 60, "<= 1"),
        (f"ridge, {size}: of 2 GB", peak() / (2 * GB), "<= 1"),
    ]


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Most of this process' memory, in bytes, without the pages of files."""
    before, most, is_over = held_bytes(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not is_over.wait(0.02):
            most = max(most, held_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: most
    finally:
        is_over.set()
        watcher.join()
    NOTES.append(f"before it the process had {before / GB:.2f} GB")


def held_bytes() -> int:
    """RssAnon + RssShmem of this process."""
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    return sum(1024 * int(line[1]) for line in lines if line[0] in ("RssAnon:", "RssShmem:"))


def of_contrastive(folder: Path, quick: bool) -> list[Row]:
    """A training's seconds over those of the same one as a bare loop, both from memory."""
    trials = Trials(folder, 256 if quick else 1024)
    extractor = Contrastive(device="cuda" if torch.cuda.is_available() else "cpu")
    kept, _ = collected(extractor, lambda block: block["eeg"], trials, 1 << 40, extractor.device)
    read, _ = collected(extractor, lambda block: block["eeg"], trials, 0, extractor.device)
    whole = kept.batch(torch.arange(len(kept.part)))
    found: dict[str, list[float]] = {"memory": [], "store": []}
    bare(kept, whole, 0)  # torch's first steps are its slowest
    for number in range(3 if quick else 7):
        ways = {
            "bare": lambda: bare(kept, whole, number),  # noqa: B023
            "memory": lambda: ours(kept, number, folder),  # noqa: B023
            "store": lambda: ours(read, number, folder),  # noqa: B023
        }
        order = list(ways)[:: -1 if number % 2 else 1]
        taken = {name: seconds(ways[name]) for name in order}
        for name, ratios in found.items():
            ratios.append(taken[name] / taken["bare"])
    NOTES.append(f"contrastive: batches read from a file, {np.median(found['store']):.2f} times")
    what = f"contrastive on {extractor.device}, {len(kept.part):,} trials: vs a bare loop"
    return [(what, float(np.median(found["memory"])), "<= 1.1")]


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def encoder_of(kept: TrainRows, seed: int) -> Encoder:
    """A network before its training."""
    torch.manual_seed(seed)
    return Encoder(N_CHANNELS, N_TIMES, SFREQ, WIDTH, 64, 0.25).to(kept.targets.device)


def ours(kept: TrainRows, seed: int, folder: Path) -> None:
    """The training as ``fit`` does it, with its checkpoints."""
    schedule = Schedule(256, EPOCHS, EPOCHS, 1e-3, 1, seed)
    checkpoint = Checkpoint(folder / "training.safetensors", f"{seed} {id(kept)} {time.time()}")
    chosen = torch.arange(len(kept.part))
    Training(encoder_of(kept, seed), kept, chosen, schedule, 0, checkpoint).run()


def bare(kept: TrainRows, whole: torch.Tensor, seed: int) -> None:
    """The same written out: no checkpoint, no weights, no choice of the best."""
    eeg, targets, content = whole, kept.targets, kept.content
    encoder, device = encoder_of(kept, seed), kept.targets.device
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=1e-3, weight_decay=WEIGHT_DECAY)
    n_held_out = round(0.1 * len(targets))
    is_fit = content >= n_held_out
    fit, held_out = is_fit.nonzero()[:, 0], (~is_fit).nonzero()[:, 0]
    bf16 = torch.autocast(device.type, torch.bfloat16, device.type == "cuda")
    for _ in range(EPOCHS):
        encoder.train()
        for some in fit[torch.randperm(len(fit), device=device)].split(256):
            with bf16:
                found = encoder(eeg[some])
            scaled = found * encoder.log_scale.clamp(max=MOST_SCALE).exp()
            of = content[some]
            loss = info_nce(scaled, targets[of], of, torch.ones(len(of), device=device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        encoder.eval()
        with torch.no_grad():
            found = torch.cat([encoder(eeg[some]) for some in held_out.split(1024)])
            loss = cross_entropy(found @ targets[:n_held_out].T, content[held_out])
            assert math.isfinite(float(loss))


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=("ridge", "contrastive"))
    given = parser.parse_args()
    for what, ratio, limit in rows(given.quick, given.only):
        print(f"{ratio:9.2f}  {limit:8}  {what}")
    print("\n".join(NOTES))


if __name__ == "__main__":
    main()
