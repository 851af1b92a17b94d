"""The conformance kit over sources, stimuli, pairings, splits, exporters and executors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broken_extractors import BROKEN as BROKEN_EXTRACTORS
from broken_plugins import BROKEN, SOUND, ReadHangs, Source, WritesItsFile
from eegstore import testing
from eegstore.testing import stage
from test_testing import failed, named

BREAKING = [
    (kind, check, plugin)
    for kind, checks in BROKEN.items()
    for check, plugins in checks.items()
    for plugin in plugins
]
# Each takes a process or two: the suite tries some of them, the night all.
SOME = [
    pytest.param(*one, marks=[pytest.mark.nightly] if number % 4 else [])
    for number, one in enumerate(BREAKING)
]
# Each is looked at by the same code whatever the kind; extractors show that it is seen.
SHARED = {"bounded-time", "bounded-memory", "options-checked", "defaults-accepted",
          "options-travel"}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "plugin"), [(kind, one) for kind, some in SOUND.items() for one in some], ids=named
)
def test_a_sound_plugin_passes_every_check(kind, plugin):
    outcomes = testing.run(plugin, kind)
    assert failed(outcomes) == {}
    assert sum(one.passed is True for one in outcomes) >= 9


@pytest.mark.parametrize(("kind", "check", "plugin"), SOME, ids=named)
def test_a_plugin_fails_the_check_of_the_promise_that_it_breaks(kind, check, plugin):
    found = failed(testing.run(plugin, kind))
    assert list(found) == [check], found
    assert 0 < len(found[check].splitlines()) <= 2


@pytest.mark.parametrize("kind", testing.KINDS)
def test_every_check_of_a_kind_has_a_plugin_that_breaks_it(kind):
    names = {str(check) for check in testing.checks(kind)}
    assert names >= SHARED
    broken = BROKEN_EXTRACTORS if kind == "extractor" else BROKEN[kind]
    # Providers scan and read by the code that sources are checked by.
    read = BROKEN["source"] if kind == "stimuli" else {}
    assert names - SHARED - {"input-untouched"} <= set(broken) | set(read)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A file of 11 trials."""
    path = tmp_path / "trials.f4"
    np.arange(11 * 16, dtype=np.float32).tofile(path)
    return path


@pytest.mark.parametrize(("cls", "expected"), [(Source, True), (WritesItsFile, False)])
def test_a_source_that_writes_its_input_is_named(recording, cls, expected):
    plugin: Any = cls(path=recording)
    outcomes = testing.run(plugin)
    assert [one.passed for one in outcomes if str(one.check) == "input-untouched"] == [expected]
    assert list(failed(outcomes)) == ([] if expected else ["input-untouched"])


def test_a_source_that_hangs_is_named(monkeypatch):
    monkeypatch.setattr(stage, "CALL_LIMIT_S", 5.0)
    found = failed(testing.run(ReadHangs()))
    assert found == {"bounded-time": "read(0, 1) gave no answer within 5 s"}
