"""The conformance kit names the promise that a plugin breaks, and that one alone."""

from __future__ import annotations

import time
from typing import Any

import pytest

import broken_extractors
from broken_extractors import Hangs, Sound, SoundFitted, SoundOfImages
from eegstore import testing
from eegstore.testing import stage

EXTRACTORS = [
    (check, plugin) for check, plugins in broken_extractors.BROKEN.items() for plugin in plugins
]


def failed(outcomes: list[testing.Outcome]) -> dict[str, str]:
    """Name and detail of each check that a plugin fails."""
    return {str(one.check): one.detail for one in outcomes if one.passed is False}


def named(value: Any) -> str:
    return value if isinstance(value, str) else type(value).__name__


@pytest.mark.parametrize("plugin", [Sound(), SoundOfImages(), SoundFitted()], ids=named)
def test_a_sound_extractor_passes_every_check(plugin):
    outcomes = testing.run(plugin)
    assert failed(outcomes) == {}
    fitted = [one.passed for one in outcomes if str(one.check) in ("fit-repeats", "state-restored")]
    assert set(fitted) == {True if isinstance(plugin, SoundFitted) else None}


@pytest.mark.parametrize(("check", "plugin"), EXTRACTORS, ids=named)
def test_an_extractor_fails_the_check_of_the_promise_that_it_breaks(check, plugin):
    found = failed(testing.run(plugin, "extractor"))
    assert list(found) == [check], found
    assert 0 < len(found[check].splitlines()) <= 2


def test_every_check_of_an_extractor_has_a_plugin_that_breaks_it():
    names = {str(check) for check in testing.checks("extractor")}
    assert names == set(broken_extractors.BROKEN) | {"bounded-time"}


def test_an_extractor_that_hangs_is_named_and_left_behind(monkeypatch):
    monkeypatch.setattr(stage, "CALL_LIMIT_S", 5.0)
    begin = time.monotonic()
    outcomes = testing.run(Hangs())
    assert time.monotonic() - begin < 60
    assert failed(outcomes) == {"bounded-time": "a call on 1 rows gave no answer within 5 s"}
    others = [one for one in outcomes if one.passed is None]
    assert all("bounded-time" in one.detail or "fit()" in one.detail for one in others)
