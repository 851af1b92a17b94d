"""Stages that overlap: the order of what is written, and the errors of other threads."""

from __future__ import annotations

import threading

import pytest

from eegstore.overlap import MOST_WAITING, Later


def test_calls_run_later_in_the_order_in_which_they_were_asked_for() -> None:
    done: list[int] = []
    with Later() as later:
        for number in range(50):
            later.call(done.append, number)
        later.finish()
        assert done == list(range(50))


def test_an_error_of_a_later_call_is_raised_where_calls_are_asked_for() -> None:
    def fail() -> None:
        raise OSError("no space left")

    with Later() as later:
        later.call(fail)
        with pytest.raises(OSError, match="no space left"):
            later.finish()
    with Later() as later:
        for _ in range(MOST_WAITING):
            later.call(fail)
        with pytest.raises(OSError, match="no space left"):
            later.call(fail)


def test_whoever_leaves_early_waits_for_the_call_that_runs_alone() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), []

    def wait() -> None:
        begun.set()
        go_on.wait()
        done.append("first")

    def leave() -> None:
        with Later() as later:
            later.call(wait)
            later.call(done.append, "second")
            begun.wait()
            threading.Timer(0.05, go_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert done == ["first"]
