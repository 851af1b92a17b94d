"""A worker that imports what takes long while the recipe is planned.

To import torch takes seconds, and so does to digest a recording. The worker is asked before there
is a plan, waits for its file, and runs the plan's first task, which is one of images if any is.
Nothing is read that a plan has to vouch for.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eegstore import registry
from eegstore.attributes import DOCUMENT
from eegstore.calls import declared
from eegstore.errors import EegStoreError
from eegstore.extract import run_task
from eegstore.machine import n_cpus
from eegstore.recipe import Recipe
from eegstore.worker import new_plan_id, plan_path

EXECUTOR: Final = "processes"
LOOK_S: Final = 0.01


@dataclass(frozen=True)
class HeadStart:
    """An executor, and its first call, which runs the first task of a plan of this id."""

    plan_id: str
    executor: Executor
    first: Future[dict[str, Any]]

    def close(self) -> None:
        """End the worker, if it has not ended."""
        self.executor.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def head_start(
    recipe: Recipe, folder: Path, store: Path, executor: str | None, n_workers: int | None
) -> Iterator[HeadStart | None]:
    """The first worker, where the build may choose processes and there is much to import.

    A store that is there may need no task at all, and gets none.
    """
    begun, n_workers = None, n_cpus() if n_workers is None else n_workers
    if executor is None and n_workers > 1 and not (store / DOCUMENT).exists():
        # What cannot be had is told by the plan and its tasks, which ask for it again.
        with contextlib.suppress(EegStoreError, OSError):
            begun = _begun(_imports(recipe), folder, store, n_workers)
    try:
        yield begun
    finally:
        if begun is not None:
            begun.close()


def _imports(recipe: Recipe) -> list[str]:
    """What the extractors of images say that they import."""
    classes: list[Any] = [registry.find("extractor", one.plugin).cls for one in recipe.extract]
    named = [declared("extractor", cls, "imports") for cls in classes if cls.table == "stimuli"]
    return list(dict.fromkeys(itertools.chain(*named)))


def _begun(modules: Sequence[str], folder: Path, store: Path, n_workers: int) -> HeadStart | None:
    if not modules:
        return None
    plan_id = new_plan_id()
    pool = registry.create("executor", EXECUTOR, {}, folder)(n_workers)
    first = pool.submit(run_first_task, modules, str(plan_path(store, plan_id)))
    return HeadStart(plan_id, pool, first)


def run_first_task(modules: Sequence[str], plan_file: str) -> dict[str, Any]:
    """Import modules; then wait for the plan, and run its first task."""
    for name in modules:
        with contextlib.suppress(Exception):  # the task imports it again, and tells
            importlib.import_module(name)
    while not Path(plan_file).exists():
        time.sleep(LOOK_S)
    return run_task(plan_file, 0)
