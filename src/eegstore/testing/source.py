"""The checks of a source of EEG."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from eegstore import Trials
from eegstore.testing import reader
from eegstore.testing.check import Check, Violation
from eegstore.testing.common import described_array
from eegstore.testing.stage import Stage
from eegstore.testing.subject import Subject


def rehearse(stage: Stage, plugin: Any) -> dict[str, Any]:
    """Scan and read."""
    return reader.rehearse(stage, plugin, Trials)


def read_as_scanned(subject: Subject) -> None:
    """A range is float32, (trial, channel, time), with the lengths of the scan."""
    plugin, trials = reader.scanned(subject)
    for stop in sorted({1, min(trials.n_trials, 7)}):
        values = plugin.read(0, stop)
        expected = (stop, trials.n_channels, trials.n_times)
        sound = isinstance(values, np.ndarray) and values.dtype == np.float32
        if not sound or values.shape != expected:
            raise Violation(
                f"read(0, {stop}) gave {described_array(values)}, expected float32 {expected}"
            )


def new_arrays(subject: Subject) -> None:
    """Each range is an array of its own: those read before are still in use."""
    plugin, trials = reader.scanned(subject)
    stop = min(trials.n_trials, 7)
    first = plugin.read(0, stop)
    for start in range(stop):
        again = plugin.read(start, stop)
        if np.may_share_memory(first, again):
            raise Violation(
                f"read({start}, {stop}) gave memory of an array that read(0, {stop}) had given, "
                "expected a new one: the one before is still in use"
            )


CHECKS: Final = (
    *reader.reader_checks("source", "Trials"),
    Check("source", "read-as-scanned", "read() gives float32 (trial, channel, time) with the "
          "lengths of the scan.", read_as_scanned),
    Check("source", "new-arrays", "read() gives a new array each time.", new_arrays),
)  # fmt: skip
