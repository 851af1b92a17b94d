"""Fixtures that all tests share, and the table of promises that a run of the tests prints."""

from __future__ import annotations

import signal
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eegstore import registry

PROMISES = {
    "P1": "SIGKILL at any moment, then resume: the same bytes",
    "P2": "power loss: every receipted shard survives",
    "P3": "whoever opens a store sees committed columns only",
    "P4": "a second writer leaves with exit 6, the store untouched",
    "P5": "a dead writer's lock is free, a live one's never stolen",
    "P6": "a flipped bit raises, and verify names its shard",
    "P7": "whatever is done to a file, it is named",
    "P8": "a failing disk: one line, the old version readable, resume",
    "P9": "any executor, workers and order: the same bytes",
    "P10": "a worker that dies or hangs is replaced, or named",
    "P11": "Ctrl-C and SIGTERM: stopped at once, exit 130, resumable",
    "P12": "stores of every released format stay readable",
    "P13": "nothing in a data file is executed",
    "P14": "bad input: the documented exit code, a line or two",
}


def pytest_configure() -> None:
    """Let Ctrl-C reach the commands under test: a job in a shell's background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings that lies beside the project; never inside it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of real recordings is not beside the project")
    return folder


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Add classes to the plugins that this process finds, as an installed distribution would.

    Of two with one name the last that was added counts.
    """

    def add(*classes: type[Any], kind: str = "extractor") -> None:
        added = tuple(
            registry.Plugin(kind, one.name, one.version, "theirs", "1.0", "ok", one)
            for one in classes
        )
        found = added + registry.plugins()
        monkeypatch.setattr(registry, "plugins", lambda: found)

    return add


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str, int, int], None]:
    """Record what a test of a promise counted: what, how many held, of how many."""
    return lambda what, held, of: record_property("figure", [what, held, of])


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let every report of a test say which promise it proves."""
    for mark in item.iter_markers("promise"):
        assert mark.args[0] in PROMISES
        item.user_properties.append(("promise", mark.args[0]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line a promise: how many tests held, what they counted, what was skipped and why."""
    tests: dict[str, Counter[str]] = defaultdict(Counter)
    figures: dict[str, dict[str, list[int]]] = defaultdict(dict)
    reasons: dict[str, str] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            properties = getattr(report, "user_properties", [])
            for promise in [value for key, value in properties if key == "promise"]:
                tests[promise][outcome] += 1
                if outcome == "skipped":
                    reasons[promise] = report.longrepr[2].removeprefix("Skipped: ")
                for what, held, of in [value for key, value in properties if key == "figure"]:
                    sums = figures[promise].setdefault(what, [0, 0])
                    sums[:] = sums[0] + held, sums[1] + of
    if not tests:
        return
    terminalreporter.section("promises")
    for promise in [one for one in PROMISES if one in tests]:
        counts = tests[promise]
        short = counts["failed"] or counts["error"]
        state = "FALLS SHORT" if short else "held" if counts["passed"] else "skipped"
        terminalreporter.write_line(f"{promise:4}{state:12}{PROMISES[promise]}")
        facts = [f"{counts['passed']:,} of {sum(counts.values()):,} tests"]
        facts += [f"{held:,} of {of:,} {what}" for what, (held, of) in figures[promise].items()]
        facts += [f"skipped: {reasons[promise]}"] if promise in reasons else []
        for fact in facts:
            terminalreporter.write_line(f"{'':16}{fact}")
