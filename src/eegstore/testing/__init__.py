"""The conformance kit: what a plugin promises, as checks that its tests run.

A plugin's tests are then::

    from eegstore import testing

    @pytest.mark.parametrize("check", testing.checks("extractor"), ids=str)
    def test_it_conforms(check):
        check(MyExtractor())

``run`` and ``conforms`` do the same without pytest. Each plugin is first rehearsed in a process of
its own, with limits of time and memory: one that hangs, dies or takes all memory is reported, and
what could not be tried is not applicable. The rest is called in the caller's process, where a
debugger and a coverage tool see it.
"""

from __future__ import annotations

from eegstore.testing.check import (
    KINDS,
    Check,
    NotApplicable,
    Outcome,
    Violation,
    checks,
    conforms,
    kind_of,
    run,
)

__all__ = [
    "KINDS",
    "Check",
    "NotApplicable",
    "Outcome",
    "Violation",
    "checks",
    "conforms",
    "kind_of",
    "run",
]
