"""What a plugin of each kind must be able to do.

A plugin class is a frozen dataclass with class variables ``name`` (kebab-case, permanent: stores
record it) and ``version`` (raise it whenever the values it computes change). Its fields are its
options; ``field(metadata=…)`` takes pydantic's ``Field`` arguments (``description``, ``gt``, …).
Options typed ``Path`` are resolved against the recipe's folder.

Every plugin may define ``fingerprint() -> str``: a digest of what its options name but do not
hold, such as the content of a file or the weights of a model. It becomes part of the column's
key. Without it the content of every option typed ``Path`` is digested. The path itself is never
part of a key, so that moved data keeps its columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor as FuturesExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from eegstore.answers import Pairs, Splits
from eegstore.tables import Block, Column, ColumnSpec, Stimuli, Trials

if TYPE_CHECKING:
    from eegstore.store import Store


class Plugin(Protocol):
    """What all kinds share."""

    name: ClassVar[str]
    version: ClassVar[str]


@runtime_checkable
class Fingerprinted(Protocol):
    """A plugin whose values depend on more than its options say."""

    def fingerprint(self) -> str:
        """Digest of the content that the options name."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """A source or provider whose scan is worth keeping, so that workers need not repeat it."""

    def state(self) -> Mapping[str, NDArray[Any]]:
        """Arrays (no objects) from which ``restore`` makes ``read`` work; called after ``scan``."""
        ...

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take the place of ``scan`` in another process."""
        ...


@runtime_checkable
class Fitted(Protocol):
    """An extractor that learns from the train rows before it computes."""

    def fit(self, blocks: Iterable[Block]) -> Mapping[str, NDArray[Any]]:
        """What it has learnt: arrays of numbers or strings, which the store keeps.

        It is called once a build, in one process. ``blocks`` are those of valid trials whose split
        is ``train``, or of the stimuli that they show; it may be iterated several times. In a
        build it has more: ``n_rows``, their number; ``rows``, int64, (row,), their numbers in the
        table; ``take(numbers)``, one block of any of them, by position, in any order and repeated
        or not; and ``folder``, a path for checkpoints, which an interrupted build keeps.
        """
        ...

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take what ``fit`` gave, before the first block, in each process."""
        ...


class Source(Plugin, Protocol):
    """EEG recordings, as trials (hook ``eegstore_sources``)."""

    def scan(self) -> Trials:
        """Everything but the signal; structural damage is found here.

        Raises
        ------
        InputError
            Where the input is missing, damaged, or not what the options say.
        """
        ...

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """float32, (trial, channel, time): the signal of any row range.

        It is called in any process, without ``scan`` before it.
        """
        ...


class StimulusProvider(Plugin, Protocol):
    """The images that people saw (hook ``eegstore_stimuli``)."""

    def scan(self) -> Stimuli:
        """Everything but the pixels.

        Raises
        ------
        InputError
            Where the input is missing, damaged, or not what the options say.
        """
        ...

    def read(self, start: int, stop: int) -> list[NDArray[np.uint8]]:
        """The images of a row range, each uint8 (y, x, 3) in sRGB.

        It is called in any process, without ``scan`` before it.
        """
        ...


class Extractor(Plugin, Protocol):
    """Computes a column from other columns, block by block (hook ``eegstore_extractors``).

    Row i of the result may depend on row i of the block alone.

    May define ``prepare()``, called once a worker before the first block (to load a model); the
    methods of ``Fitted``; ``fit_reads``, a tuple of names: what is read by the fit alone;
    ``out_of_fold``, a bool class variable: a train row's result is of a fit that has not seen it;
    ``imports``, a tuple class variable, of stimuli: modules that take long to import, which a
    worker may do while the recipe is planned; ``block_rows``, an int: most rows of a block; and
    ``device``, a str: a build where torch lacks such a device is refused before anything runs.
    What is not said to be a class variable may be an option too, or follow from options.
    """

    table: ClassVar[Literal["trials", "stimuli"]]

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that a block has; mostly a class variable."""
        ...

    def describe(self, inputs: Mapping[str, ColumnSpec]) -> ColumnSpec:
        """What one row of the result is, from what one row of each input is.

        The spec of ``eeg`` has the dims ``channel`` and ``time``, the coordinates of both, and the
        sampling rate in Hz as ``attrs["sfreq"]``. In the spec of ``image`` the lengths of ``y``
        and ``x`` are -1: they vary. ``inputs`` has the columns of ``fit_reads`` too.
        """
        ...

    def __call__(self, block: Block) -> NDArray[Any]:
        """The result for a block, one row a row of the block; finite where the input is."""
        ...


class Pairing(Plugin, Protocol):
    """Decides which stimulus a trial goes with (hook ``eegstore_pairings``).

    May define ``reads``, a tuple of wide columns, named with their tables; ``made_from``, a tuple
    that says what decides the pairs; and ``cardinality``, a str that says how many rows make a
    pair. Each may be a class variable, an option, or a property that follows from options.
    """

    def __call__(self, trials: Trials, stimuli: Stimuli, columns: Mapping[str, Column]) -> Pairs:
        """The pairs; ``columns`` holds the wide columns, named ``table/column``.

        Raises
        ------
        InputError
            Where a trial's label or key has no stimulus and the options do not allow it.
        """
        ...


class Split(Plugin, Protocol):
    """Decides which split a trial is in (hook ``eegstore_splits``)."""

    def __call__(
        self, trials: Trials, stimulus: NDArray[np.int64], stimuli: Stimuli | None
    ) -> NDArray[np.str_] | Splits:
        """The split's name, one a trial; ``stimulus`` is the paired row, -1 where unpaired.

        ``Splits`` where there are folds for a cross-validation too.
        """
        ...


class Exporter(Plugin, Protocol):
    """Writes a store in another format (hook ``eegstore_exporters``)."""

    def __call__(self, store: Store, out: Path) -> None:
        """Write to ``out``, which does not exist yet: a file or a folder, the exporter's choice.

        The host moves it to its final name once it is whole.
        """
        ...


class Executor(Plugin, Protocol):
    """A factory of ``concurrent.futures`` executors (hook ``eegstore_executors``)."""

    def __call__(self, n_workers: int) -> FuturesExecutor:
        """An executor of at most ``n_workers`` tasks at once."""
        ...
