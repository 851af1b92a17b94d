"""The checks of a factory of executors."""

from __future__ import annotations

import functools
import operator
from concurrent.futures import Executor, Future, wait
from typing import Any, Final

from eegstore.testing.check import Check, Violation
from eegstore.testing.common import common
from eegstore.testing.stage import Stage, Trouble
from eegstore.testing.subject import Subject

N_WORKERS: Final = 2
N_CALLS: Final = 9


def rehearse(stage: Stage, plugin: Any) -> dict[str, Any]:
    """Submit calls, one of which raises, and shut the executor down."""
    # A worker may be a job of a cluster, which takes long to start.
    executor = stage.start("a call", plugin, N_WORKERS, check="answers")
    if not isinstance(executor, Executor):
        reason = f"a call gave {type(executor).__name__}, expected a concurrent.futures.Executor"
        raise Trouble("gives-executor", reason)
    values = stage.start("submitting calls", _worked, executor, check="answers")
    values["after"] = stage.start("shutdown()", _ended, executor, check="answers")
    return dict(values)


def _worked(executor: Executor) -> dict[str, Any]:
    futures = [executor.submit(operator.mul, number, number) for number in range(N_CALLS)]
    failing = executor.submit(operator.truediv, 1, 0)
    sound = all(isinstance(one, Future) for one in [*futures, failing])
    if not sound:
        raise Trouble("runs-calls", "submit() gave no concurrent.futures.Future")
    done, waiting = wait([*futures, failing], 60)
    if waiting:
        raise Trouble("runs-calls", f"{len(waiting)} of {len(done) + len(waiting)} calls never end")
    error = failing.exception()
    return {
        "results": [one.result() for one in futures if one.exception() is None],
        "error": type(error).__name__ if error else "no error",
    }


def _ended(executor: Executor) -> str:
    """What a call that is submitted after the end comes to."""
    executor.shutdown()
    try:
        future = executor.submit(operator.mul, 2, 2)
    except RuntimeError as error:
        return f"refused: {error}"
    return f"accepted: {future}"


def gives_executor(subject: Subject) -> None:
    """A call gives an executor, as the rehearsal shows."""
    subject.value("results")


def runs_calls(subject: Subject) -> None:
    """Each call that is submitted has its result."""
    results = subject.value("results")
    expected = [number * number for number in range(N_CALLS)]
    if results != expected:
        raise Violation(f"{N_CALLS} calls gave {results!s:.80}, expected {expected}")


def errors_arrive(subject: Subject) -> None:
    """What a call raises comes to the caller."""
    error = subject.value("error")
    if error != "ZeroDivisionError":
        raise Violation(f"a call that raises ZeroDivisionError came to {error}, expected that")


def shutdown_ends(subject: Subject) -> None:
    """After ``shutdown`` it refuses calls."""
    after = subject.value("after")
    if not after.startswith("refused"):
        raise Violation(f"after shutdown() a call was {after:.80}, expected a RuntimeError")


def spawned_process(subject: Subject) -> None:
    """A new process imports it by name, as the rehearsal shows."""
    subject.value("results")


_check = functools.partial(Check, "executor")
CHECKS: Final = (
    *common("executor"),
    _check("gives-executor", "A call gives a concurrent.futures.Executor.", gives_executor),
    _check("runs-calls", "Each call that is submitted has its result.", runs_calls),
    _check("errors-arrive", "What a call raises comes to the caller.", errors_arrive),
    _check("shutdown-ends", "After shutdown() it refuses calls.", shutdown_ends),
    _check("spawned-process", "A spawned process imports it by name.", spawned_process),
)  # fmt: skip
