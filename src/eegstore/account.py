"""The account of a build: how it was started, what each stage took, what came of it."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, ParamSpec, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from eegstore import registry
from eegstore.attributes import VERSION, HistoryEntry, StageEntry
from eegstore.errors import RecipeError, UsageError
from eegstore.head_start import EXECUTOR, HeadStart
from eegstore.machine import n_cpus
from eegstore.prepare import Plan
from eegstore.recipe import nearest
from eegstore.tables import Table

LIBRARIES: Final = ("numpy", "scipy", "zarr", "numcodecs", "torch", "transformers", "mne")
WORTH_PROCESSES: Final = 2
BEFORE_TASKS: Final = ("scan",)
AFTER_TASKS: Final = ("pair", "split", "commit")
Listener = Callable[[str, int, int], None]
P = ParamSpec("P")
T = TypeVar("T")


class Stages:
    """What each stage took, summed over tasks."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, Table], list[float]] = {}

    def add(
        self, name: str, seconds: float, rows: int, bytes: int = 0, of: Table = "trials"
    ) -> None:
        """Add to a stage."""
        sums = self._sums.setdefault((name, of), [0.0, 0, 0])
        for number, value in enumerate((seconds, rows, bytes)):
            sums[number] += value

    def run(self, name: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Time a call as a stage."""
        start = time.perf_counter()
        result = call(*args, **kwargs)
        self.add(name, time.perf_counter() - start, 0)
        return result

    def entries(self, n_trials: int) -> list[StageEntry]:
        """The stages in the order of the data flow; the driver's own went through all trials."""
        entries = []
        for (name, of), (seconds, rows, n_bytes) in self._sums.items():
            own = name in (*BEFORE_TASKS, *AFTER_TASKS)
            entries.append(
                StageEntry(
                    name=name,
                    of=of,
                    seconds=seconds,
                    rows=n_trials if own else int(rows),
                    bytes=int(n_bytes),
                )
            )
        return sorted(
            entries,
            key=lambda entry: (
                entry.name not in BEFORE_TASKS,
                entry.name in AFTER_TASKS,
                entry.of == "stimuli",
            ),
        )


def library_versions() -> dict[str, str]:
    """Versions of the libraries that values may follow from."""
    versions = {}
    for name in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


@dataclass(frozen=True)
class Run:
    """How a build was started."""

    executor: str
    n_workers: int
    check_determinism: bool
    listener: Listener
    started: str
    clock: float
    begun: HeadStart | None = None

    @classmethod
    def start(
        cls,
        plan: Plan,
        executor: str | None,
        n_workers: int | None,
        check_determinism: bool,
        listener: Listener,
        begin: float,
        begun: HeadStart | None = None,
    ) -> Self:
        """Choose the executor: processes are worth their start from a few tasks on.

        Where it is another than that of the worker that has ``begun``, that one ends.
        """
        workers = n_cpus() if n_workers is None else n_workers
        if workers < 1:
            raise RecipeError(f"--workers {n_workers}: expected a positive number")
        most = max(Counter(task.phase for task in plan.tasks).values(), default=0)
        usual = EXECUTOR if most > WORTH_PROCESSES and workers > 1 else "serial"
        if executor is not None and not registry.named("executor", executor):
            known = [one.name for one in registry.usable("executor")]
            raise UsageError(f"no executor is called {executor!r}; {nearest(executor, known)}")
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        executor = executor or usual
        if begun is not None and executor != EXECUTOR:
            begun.close()
            begun = None
        return cls(executor, workers, check_determinism, listener, now, begin, begun)

    def history(
        self,
        plan: Plan,
        stages: Stages,
        valid: NDArray[np.bool_],
        stimulus: NDArray[np.int64],
    ) -> HistoryEntry:
        """What the store records of the build."""
        skipped = list(plan.found.trials.skipped)
        return HistoryEntry(
            started=self.started,
            seconds=time.perf_counter() - self.clock,
            eegstore=VERSION,
            libraries=library_versions(),
            folder=str(plan.folder),
            executor=self.executor,
            n_workers=self.n_workers,
            computed=list(plan.renewed),
            reused=[entry.path for entry in plan.reused if entry.kind == "wide"],
            dropped=[entry.path for entry in plan.dropped],
            mended=[damage.file for damage in plan.damage],
            counts={
                "trials": plan.found.n_rows["trials"],
                "stimuli": plan.found.n_rows["stimuli"],
                "invalid": int(np.sum(~valid)),
                "unpaired": int(np.sum(stimulus < 0)),
                "skipped": len(skipped),
            },
            skipped=skipped,
            stages=stages.entries(plan.found.n_rows["trials"]),
        )


@dataclass(frozen=True)
class Report:
    """What a build did; ``history`` is what the store recorded of it, None if nothing was done."""

    store: Path
    digest: str
    n_trials: int
    n_stimuli: int
    notice: str
    hints: tuple[str, ...]
    history: HistoryEntry | None

    @property
    def up_to_date(self) -> bool:
        """Whether there was nothing to do."""
        return self.history is None

    def document(self) -> dict[str, Any]:
        """The report as a JSON value."""
        facts = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        history = self.history.model_dump(mode="json") if self.history else None
        return facts | {
            "store": str(self.store),
            "history": history,
            "up_to_date": self.up_to_date,
        }
