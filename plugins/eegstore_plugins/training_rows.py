"""Train trials as batches of tensors: from memory where they fit into it, else from the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from eegstore import Block
from eegstore_plugins.parts import Parts, refuse_unfit
from eegstore_plugins.targets import TargetExtractor

AT_ONCE: Final = 1024
Samples = Callable[[Block], NDArray[np.float32]]


@dataclass(eq=False)
class TrainRows:
    """The paired train trials, of which any may be asked for.

    Parameters
    ----------
    content
        int64, (row,): which stimulus each shows, from 0.
    part
        int64, (row,): the part that each is in.
    weight
        float32, (row,): how much each counts.
    targets
        float32, (content, embedding), of length 1.
    batch
        From row numbers to float32, (row, channel, time).
    sfreq
        Sampling rate in Hz.
    """

    content: Tensor
    part: Tensor
    weight: Tensor
    targets: Tensor
    batch: Callable[[Tensor], Tensor] = field(repr=False)
    sfreq: float

    def chunks(self, rows: Tensor) -> Iterator[Tensor]:
        """Row numbers, a thousand at a time."""
        for start in range(0, len(rows), AT_ONCE):
            yield rows[start : start + AT_ONCE]

    def moments(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel, float32, (channel, 1); 1 where it is flat."""
        sums = torch.zeros(3, 1, dtype=torch.float64)
        for some in self.chunks(rows):
            eeg = self.batch(some).double().cpu()
            n = torch.full(eeg.shape[1:2], float(eeg.shape[0] * eeg.shape[2]), dtype=torch.float64)
            sums = sums + torch.stack([n, eeg.sum(dim=(0, 2)), eeg.square().sum(dim=(0, 2))])
        mean, square = sums[1] / sums[0], sums[2] / sums[0]
        variance = square - mean.square()
        flat = variance <= 1e-12 * square
        scale = torch.where(flat, 1.0, variance.clamp_min(0).sqrt())
        return mean.float()[:, None], scale.float()[:, None]


def collected(
    extractor: TargetExtractor, samples: Samples, blocks: Iterable[Block], memory_bytes: int,
    device: str,
) -> tuple[TrainRows, Parts]:  # fmt: skip
    """Go through the train trials once, and keep what training needs of them.

    Parameters
    ----------
    samples
        From a block to float32, (row, channel, time).
    blocks
        What ``fit`` was given.
    memory_bytes
        Most bytes of EEG that are kept; with more, each batch is read from the store.

    Raises
    ------
    InputError
        Where there are fewer than two parts that count.
    """
    parts, kept = Parts(extractor.n_folds), _Kept(blocks, memory_bytes)
    pieces: list[tuple[NDArray[Any], ...]] = []
    targets: dict[int, NDArray[np.float32]] = {}
    position, sfreq = 0, float("nan")
    for block in blocks:
        paired = extractor.paired(block, parts)
        kept.add(samples(block)[paired.rows])
        for content, target in zip(paired.content.tolist(), paired.target, strict=True):
            targets.setdefault(content, target)
        pieces.append((paired.content, paired.part, paired.weight, position + paired.rows))
        position, sfreq = position + block.n_rows, block.sfreq
    content, part, weight, positions = (np.concatenate(one) for one in zip(*pieces, strict=True))
    weight = weight.astype(np.float32)
    sums = {one: weight[part == one].sum(dtype=np.float64) for one in np.unique(part).tolist()}
    refuse_unfit(extractor.name, sums)
    unit = functional.normalize(torch.from_numpy(np.stack(list(targets.values()))), dim=-1)
    rows = TrainRows(
        torch.from_numpy(content).to(device),
        torch.from_numpy(part),
        torch.from_numpy(weight).to(device),
        unit.to(device),
        kept.batches(samples, positions, device),
        sfreq,
    )
    return rows, parts


class _Kept:
    """The EEG of the paired train trials, as far as it is kept in memory."""

    def __init__(self, blocks: Any, memory_bytes: int) -> None:
        self._take = getattr(blocks, "take", None)
        self._n_rows = getattr(blocks, "n_rows", 0)
        self._memory_bytes = memory_bytes
        self._pieces: list[NDArray[np.float32]] = []
        self._whole: NDArray[np.float32] | None = None
        self._n_kept = 0

    def add(self, eeg: NDArray[np.float32]) -> None:
        """Keep some, where all will fit."""
        if self._take is None:
            self._pieces.append(eeg)
            return
        if self._n_rows * eeg[:1].nbytes > self._memory_bytes:
            return
        if self._whole is None:
            self._whole = np.empty((self._n_rows, *eeg.shape[1:]), np.float32)
        self._whole[self._n_kept : self._n_kept + len(eeg)] = eeg
        self._n_kept += len(eeg)

    def batches(
        self, samples: Samples, positions: NDArray[np.int64], device: str
    ) -> Callable[[Tensor], Tensor]:
        """What gives the EEG of any rows, on the device."""
        if self._take is None:
            self._whole = np.concatenate(self._pieces)
        if self._whole is not None:
            eeg = torch.from_numpy(self._whole[: len(positions)]).to(device)
            return lambda rows: eeg[rows.to(device)]
        take = self._take

        def read(rows: Tensor) -> Tensor:
            block = take(positions[rows.cpu().numpy()])  # type: ignore[misc]
            return torch.tensor(samples(block), device=device)

        return read
