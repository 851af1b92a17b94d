"""Rows of the tables as extractors get them: blocks with what they read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore.calls import check_images
from eegstore.shards import CHUNK_BYTES, rows_near
from eegstore.tables import Block, Table
from eegstore.worker import Worker

IMAGES_A_BLOCK: Final = 256


def trials_a_block(me: Worker) -> int:
    """Trials of about a megabyte of EEG."""
    return rows_near(CHUNK_BYTES, me.columns["trials", "eeg"].spec.row_bytes)


def trial_block(
    me: Worker, rows: NDArray[np.int64], inputs: dict[str, Any], n_valid: NDArray[np.int64]
) -> Block:
    """A block of trials; ``inputs`` are the columns that are read."""
    return Block(
        inputs, *span(rows), n_valid=n_valid, sfreq=me.plan.sfreq,
        times=np.asarray(me.plan.times), ch_names=me.plan.ch_names,
        units=me.columns["trials", "eeg"].spec.units,
    )  # fmt: skip


def part_of(block: Block, first: int, stop: int) -> Block:
    """A block of some rows of a block, counted within it."""
    start, end = block.start, block.stop
    if block.n_rows == end - start:  # else some rows of the range stand for others
        start, end = start + first, min(start + stop, end)
    return Block(
        {name: block[name][first:stop] for name in block}, start, end,
        n_valid=block.n_valid[first:stop], sfreq=block.sfreq, times=block.times,
        ch_names=block.ch_names, units=block.units,
    )  # fmt: skip


def parts(plugin: Any, block: Block) -> Iterator[Block]:
    """A block, in pieces where a plugin wants fewer rows at a time (``block_rows``)."""
    most = getattr(plugin, "block_rows", None) or block.n_rows
    if most >= block.n_rows:
        yield block
        return
    for first in range(0, block.n_rows, most):
        yield part_of(block, first, first + most)


def stored_blocks(
    me: Worker, table: Table, reads: Iterable[str], rows: NDArray[np.int64]
) -> Iterator[Block]:
    """Blocks of any rows of a table, from what is written of the columns that are read."""
    step = IMAGES_A_BLOCK if table == "stimuli" else trials_a_block(me)
    for start in range(0, len(rows), step):
        yield stored_block(me, table, reads, rows[start : start + step])


def stored_block(me: Worker, table: Table, reads: Iterable[str], rows: NDArray[np.int64]) -> Block:
    """A block of these rows, in any order and repeated or not; none of them is computed."""
    if table == "trials":
        inputs = {name: joined(me, name, rows) for name in reads}
        return trial_block(me, rows, inputs, me.rows["n_valid"][rows])
    return Block(stimulus_inputs(me, rows, reads), *span(rows))


def joined(me: Worker, name: str, trials: NDArray[np.int64]) -> NDArray[Any]:
    """A column of some trials; ``stimuli/NAME`` is of the stimuli that they are paired with."""
    if name.startswith("stimuli/"):
        stimulus = me.rows["trials/stimulus"][trials]
        return me.stored("stimuli", name.removeprefix("stimuli/"), stimulus)
    return me.stored("trials", name, trials)


def span(rows: NDArray[np.int64]) -> tuple[int, int]:
    """The range that rows lie in."""
    return (int(rows.min()), int(rows.max()) + 1) if len(rows) else (0, 0)


def stimulus_blocks(
    me: Worker, rows: NDArray[np.int64], reads: Iterable[str]
) -> Iterator[tuple[NDArray[np.int64], dict[str, Any]]]:
    """Blocks of the given rows with what the extractors read."""
    for start in range(0, len(rows), IMAGES_A_BLOCK):
        chosen = rows[start : start + IMAGES_A_BLOCK]
        yield chosen, stimulus_inputs(me, chosen, reads)


def stimulus_inputs(me: Worker, rows: NDArray[np.int64], reads: Iterable[str]) -> dict[str, Any]:
    """What extractors read of some stimuli."""
    inputs: dict[str, Any] = {}
    for name in reads:
        if name == "image":
            inputs[name] = _images(me, rows)
        else:
            values = me.stored("stimuli", name, rows)
            inputs[name] = values.tolist() if name == "caption" else values
    return inputs


def _images(me: Worker, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
    """The images of some rows, read by runs of consecutive ones."""
    if not len(rows):
        return []
    section = me.recipe.stimuli
    assert section is not None
    runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    images: list[NDArray[np.uint8]] = []
    for run in runs:
        start, stop = int(run[0]), int(run[-1]) + 1
        read = me.call("stimuli", me.provider, section, me.provider.read, start, stop)
        images += check_images(me.provider, start, stop, read)
    return images
