"""In which order the trials of an epoch are read, batch by batch.

The order follows from a sampler's arguments and the epoch alone: it is the same on every machine,
with any number of workers, and after a resumption. All ranks of a distributed training get as many
batches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eegstore.errors import InputError
from eegstore.tables import is_whole

WINDOW_CHUNKS: Final = 32
Rows = NDArray[np.int64]


class Sampler(ABC):
    """Batches of trials; for a ``DataLoader``'s ``batch_sampler``.

    Parameters
    ----------
    n_trials
        Trials of the data set.
    batch_size
        Trials a batch and rank.
    seed
        Of the order.
    rank, world_size
        Of a distributed training.
    drop_last
        Leave out trials that make no whole batch on every rank. By default the last batch is
        short, and the ranks that lack a trial for it get one that was had before.

    Each pass is another epoch; ``set_epoch`` says which.
    """

    def __init__(
        self,
        n_trials: int,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        numbers = {"batch_size": batch_size, "seed": seed, "rank": rank, "world_size": world_size}
        for name, number in numbers.items():
            if not is_whole(number):
                raise InputError(f"{name} is {number!r:.80}, expected a whole number")
        if seed < 0:
            raise InputError(f"seed is {seed}, expected 0 or more")
        if batch_size < 1 or not 0 <= rank < world_size:
            raise InputError(
                f"batch_size is {batch_size}, rank {rank} of world_size {world_size}; "
                "expected a batch_size of 1 or more, and a rank from 0 to world_size - 1"
            )
        self.n_trials = n_trials
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.drop_last = drop_last
        self._epoch = 0

    @abstractmethod
    def batches(self, epoch: int) -> Sequence[Rows]:
        """The rank's batches of an epoch, each int64 (trial,)."""

    @abstractmethod
    def __len__(self) -> int:
        """Batches of an epoch."""

    def __iter__(self) -> Epoch:
        return Epoch(self)

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next pass is."""
        self._epoch = epoch

    def next_epoch(self) -> int:
        """The epoch of a pass that begins now; the pass after it is the next one."""
        self._epoch += 1
        return self._epoch - 1

    def state_dict(self) -> dict[str, Any]:
        """Of which epoch the next pass is, and what the order follows from."""
        return {"epoch": self._epoch, "sampler": self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the epoch that a sampler of the same arguments was at.

        Raises
        ------
        InputError
            Where the sampler had others: batches would repeat or be missed.
        """
        if list(state["sampler"]) != self._identity():
            raise InputError(
                f"the state is of a sampler {state['sampler']}, this one is {self._identity()}; "
                "make it with the same arguments"
            )
        self._epoch = state["epoch"]

    def _identity(self) -> list[Any]:
        sizes = [self.n_trials, self.batch_size, self.world_size]
        return [type(self).__name__, *sizes, self.seed, self.drop_last]

    def _random(self, epoch: int, *more: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, epoch, *more))


class Epoch(Iterator[Rows]):
    """One pass over a sampler's batches, which can be left and resumed anywhere."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._epoch: int | None = None
        self._batches: Sequence[Rows] | None = None
        self.position = 0

    def __next__(self) -> Rows:
        if self._batches is None:
            # Loaders make iterators that they do not use: the pass begins with its first batch.
            if self._epoch is None:
                self._epoch = self._sampler.next_epoch()
            self._batches = self._sampler.batches(self._epoch)
        if self.position >= len(self._batches):
            raise StopIteration
        self.position += 1
        return self._batches[self.position - 1]

    def state_dict(self) -> dict[str, Any]:
        """The epoch, and how many of its batches were given."""
        state = self._sampler.state_dict()
        epoch = state["epoch"] if self._epoch is None else self._epoch
        return state | {"epoch": epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue behind the batches that were given; errors as a sampler's."""
        self._sampler.load_state_dict(state)
        self._epoch, self.position = self._sampler.next_epoch(), state["position"]
        self._batches = None


class _Ordered(Sampler):
    """The trials in an order, of which each rank gets a piece."""

    @abstractmethod
    def order(self, epoch: int) -> Rows:
        """All ranks' trials, one rank's behind the other's, but for what makes them as many."""

    def batches(self, epoch: int) -> Sequence[Rows]:
        """The rank's piece of the order, cut."""
        order = self._mixed(self._piece(self.order(epoch)), epoch)
        starts = range(0, len(self) * self.batch_size, self.batch_size)
        return [order[start : start + self.batch_size] for start in starts]

    def __len__(self) -> int:
        n_trials = self._n_a_rank()
        return n_trials // self.batch_size if self.drop_last else -(-n_trials // self.batch_size)

    def _n_a_rank(self) -> int:
        n_trials, n_ranks = self._n_ordered(), self.world_size
        return n_trials // n_ranks if self.drop_last else -(-n_trials // n_ranks)

    def _n_ordered(self) -> int:
        return self.n_trials

    def _mixed(self, piece: Rows, epoch: int) -> Rows:
        return piece

    def _piece(self, order: Rows) -> Rows:
        n_trials = self._n_a_rank()
        order = np.resize(order, n_trials * self.world_size)  # the first again, where too few
        return order[self.rank * n_trials : (self.rank + 1) * n_trials]


class InOrder(_Ordered):
    """The trials as they are stored; each rank reads a range of them."""

    def order(self, epoch: int) -> Rows:
        """The same in every epoch."""
        return np.arange(self.n_trials)


class Shuffle(_Ordered):
    """The trials in an order of which each is as likely."""

    def order(self, epoch: int) -> Rows:
        """Another in every epoch."""
        return self._random(epoch).permutation(self.n_trials)


class WindowShuffle(_Ordered):
    """The trials of a few inner chunks at a time, in a random order: each chunk is decoded once.

    The chunks are permuted before they are dealt to ranks and windows, because recordings are
    stored subject by subject.

    Parameters
    ----------
    chunks
        int, (trial,): in which chunk each trial lies.
    window_chunks
        Chunks that are shuffled together. A reader holds 64 MiB of decoded chunks.
    batch_size, seed, rank, world_size, drop_last
        As for every sampler.
    """

    def __init__(
        self,
        chunks: ArrayLike,
        batch_size: int,
        *,
        window_chunks: int = WINDOW_CHUNKS,
        **options: Any,
    ) -> None:
        names, self._chunks = np.unique(np.asarray(chunks), return_inverse=True)
        super().__init__(len(self._chunks), batch_size, **options)
        if window_chunks < 1:
            raise InputError(f"window_chunks is {window_chunks}, expected 1 or more")
        self._n_chunks = len(names)
        self.window_chunks = window_chunks

    def order(self, epoch: int) -> Rows:
        """The chunks permuted; within each the trials as they are stored."""
        rank = self._random(epoch).permutation(self._n_chunks)
        return np.argsort(rank[self._chunks], kind="stable")

    def _mixed(self, piece: Rows, epoch: int) -> Rows:
        """Window by window; a batch may lie in two."""
        chunks = self._chunks[piece]
        windows = np.cumsum(np.diff(chunks, prepend=chunks[:1]) != 0) // self.window_chunks
        keys = self._random(epoch, self.rank + 1).random(len(piece))
        return piece[np.lexsort((keys, windows))]

    def _identity(self) -> list[Any]:
        return [*super()._identity(), self.window_chunks]


class Balanced(_Ordered):
    """Every label, or other class, as often as the others, in each batch and in the epoch.

    An epoch is about as long as there are trials: those of a rare label come several times, and of
    a frequent one some, others in each epoch. Trials without a label (-1) are left out.

    Parameters
    ----------
    labels
        int, (trial,).
    batch_size, seed, rank, world_size, drop_last
        As for every sampler.

    Raises
    ------
    InputError
        Where no trial has a label: an epoch would be empty.
    """

    def __init__(self, labels: ArrayLike, batch_size: int, **options: Any) -> None:
        values = np.asarray(labels)
        super().__init__(len(values), batch_size, **options)
        self._of_label = [
            np.flatnonzero(values == label) for label in np.unique(values[values >= 0])
        ]
        if not self._of_label:
            raise InputError(
                "'balanced' has nothing to go by: no trial has a label, nor a paired stimulus with "
                "a concept; give the source labels, or shuffle otherwise"
            )
        self._n_each = round(sum(map(len, self._of_label)) / len(self._of_label))

    def order(self, epoch: int) -> Rows:
        """Rounds of one trial of each label, the labels in a random order in each round."""
        random = self._random(epoch)
        columns = [self._drawn(trials, random) for trials in self._of_label]
        found: Rows = random.permuted(np.stack(columns, axis=1), axis=1).reshape(-1)
        return found

    def _drawn(self, trials: Rows, random: np.random.Generator) -> Rows:
        """Each trial before any comes again."""
        n_rounds = -(-self._n_each // len(trials))
        return np.concatenate([random.permutation(trials) for _ in range(n_rounds)])[: self._n_each]

    def _n_ordered(self) -> int:
        return self._n_each * len(self._of_label)


class Distinct(Sampler):
    """No stimulus twice in a batch, whichever rank has it.

    In a contrastive loss another trial of the same stimulus would be a false negative. Of a
    stimulus with more trials than an epoch has batches some are left out, others in each epoch;
    so are trials without a stimulus (-1). No batch is more than a trial longer than another.

    Parameters
    ----------
    stimulus
        int, (trial,): row of the stimulus.
    batch_size, seed, rank, world_size, drop_last
        As for every sampler.

    Raises
    ------
    InputError
        Where there are fewer stimuli than a batch of all ranks has trials.
    """

    def __init__(self, stimulus: ArrayLike, batch_size: int, **options: Any) -> None:
        values = np.asarray(stimulus)
        super().__init__(len(values), batch_size, **options)
        self._trials = np.flatnonzero(values >= 0)
        names, self._group = np.unique(values[self._trials], return_inverse=True)
        self._n_stimuli = len(names)
        self._n_together = batch_size * self.world_size
        if self._n_stimuli < self._n_together:
            raise InputError(
                f"a batch of {self._n_together} trials of different stimuli; there are "
                f"{self._n_stimuli}: make it smaller, or tell the loss which trials are positives "
                "(eegstore.torch.positives)"
            )
        self._n_batches = self._most_batches()

    def __len__(self) -> int:
        return self._n_batches

    def batches(self, epoch: int) -> Sequence[Rows]:
        """Trials ordered by stimulus and dealt to batches: those of one go to different ones."""
        random = self._random(epoch)
        order = random.permutation(len(self._trials))
        group = random.permutation(self._n_stimuli)[self._group[order]]
        order = order[np.argsort(group, kind="stable")]
        counts = np.bincount(group)
        number = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        order = self._trials[order[number < self._n_batches]]
        if self.drop_last:
            order = order[: self._n_batches * self._n_together]
        dealt = [order[start :: self._n_batches] for start in random.permutation(self._n_batches)]
        return [_share(batch, self.rank, self.world_size) for batch in dealt]

    def _most_batches(self) -> int:
        """As many as can be full, but for the rest of a division."""
        counts = np.bincount(self._group)
        n_batches, n_trials = -1, len(self._group)
        while True:
            fewer = n_trials // self._n_together
            if not self.drop_last and self.batch_size > 1:  # of one trial there is no short batch
                fewer = -(-n_trials // self._n_together)
            if fewer == n_batches:
                return n_batches
            n_batches = fewer
            n_trials = int(np.minimum(counts, n_batches).sum())


def _share(batch: Rows, rank: int, world_size: int) -> Rows:
    """As many of a batch as each other rank gets."""
    return batch[: len(batch) // world_size * world_size][rank::world_size]
