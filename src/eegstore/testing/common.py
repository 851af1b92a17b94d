"""The checks that every kind has: options, and limits of time and memory."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore import EegStoreError, configure, options_of
from eegstore.testing import stage
from eegstore.testing.check import Check, NotApplicable, Violation, told
from eegstore.testing.subject import Subject

# One value of each type that a recipe can hold.
SAMPLES: Final = (True, 1.5, "text", None, ["text"], {"key": 1})
UNKNOWN: Final = "no_such_option"


def common(kind: str) -> tuple[Check, ...]:
    """The checks that every kind has."""

    def check(name: str, what: str, body: Any, alone: bool = False) -> Check:
        return Check(kind, name, what, body, alone)

    return (
        check("answers", "Its calls answer: they neither raise nor end the process.", _rehearsed),
        check("bounded-time", f"A call on a few rows answers within {stage.CALL_LIMIT_S:g} s, and "
              f"what loads a model within {stage.START_LIMIT_S:g} s.", _rehearsed),
        check("bounded-memory", "A call on a few rows takes less than "
              f"{stage.PEAK_BYTES >> 20} MiB of memory.", _bounded_memory),
        check("options-checked", "The host refuses unknown options, and values of a wrong type.",
              options_checked, alone=True),
        check("defaults-accepted", "The default of each option is one that a recipe may give.",
              defaults_accepted, alone=True),
        check("options-travel", "Made again from its options as a store records them, it is the "
              "same.", options_travel, alone=True),
    )  # fmt: skip


def _rehearsed(subject: Subject) -> None:
    """Its rehearsal has shown it; what went wrong was raised before."""
    if subject.rehearsal.trouble is not None:
        raise NotApplicable(f"not tried: {subject.rehearsal.trouble.reason}")


def _bounded_memory(subject: Subject) -> None:
    _rehearsed(subject)
    if not stage.STATUS.exists():
        raise NotApplicable("this platform does not tell how much memory a process has")


def accepts(subject: Subject, options: dict[str, Any]) -> bool:
    """Whether the host makes a plugin with these options."""
    try:
        configure(subject.cls, options, Path(), subject.cls.__name__)
    except EegStoreError:
        return False
    return True


def options_checked(subject: Subject) -> None:
    """Refused are an unknown key, and of each option at least one of the types."""
    given = options_of(subject.plugin)
    if accepts(subject, given | {UNKNOWN: 1}):
        raise Violation(f"the unknown option {UNKNOWN!r} was accepted, expected a refusal")
    for one in dataclasses.fields(subject.cls):
        taken = [sample for sample in SAMPLES if accepts(subject, given | {one.name: sample})]
        if len(taken) == len(SAMPLES):
            raise Violation(
                f"the option {one.name!r} took each of {json.dumps(taken)}, expected a type "
                f"that refuses some; it is annotated {one.type!r}"
            )


def defaults_accepted(subject: Subject) -> None:
    """A plugin without required options is made of nothing, and of its own defaults."""
    required = [
        one.name
        for one in dataclasses.fields(subject.cls)
        if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
    ]
    if required:
        raise NotApplicable(f"it has required options: {', '.join(required)}")
    try:
        default = configure(subject.cls, {}, Path(), "no options")
        configure(subject.cls, options_of(default), Path(), "its defaults")
    except EegStoreError as error:
        raise Violation(f"a recipe that gives the defaults was refused: {told(error)}") from error


def options_travel(subject: Subject) -> None:
    """The options of a plugin, as JSON, make a plugin with these options."""
    given = options_of(subject.plugin)
    try:
        again = options_of(configure(subject.cls, given, Path(), "its options"))
    except EegStoreError as error:
        raise Violation(f"its own options were refused: {told(error)}") from error
    for name, value in given.items():
        if again[name] != value:
            raise Violation(
                f"the option {name!r} was {value!r:.80}, and {again[name]!r:.80} in a plugin made "
                "of it; expected the same"
            )


def same_bytes(one: Any, other: Any) -> bool:
    """Whether two arrays, or lists of arrays, are equal bit by bit."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same_bytes, one, other))
    if not (isinstance(one, np.ndarray) and isinstance(other, np.ndarray)):
        return type(one) is type(other) and bool(one == other)
    if one.dtype.kind == "U":
        return one.shape == other.shape and bool((one == other).all())
    return (one.dtype, one.shape) == (other.dtype, other.shape) and one.tobytes() == other.tobytes()


def described_array(values: Any) -> str:
    """Type and shape of what a plugin gave."""
    if isinstance(values, np.ndarray):
        return f"{values.dtype} {values.shape}"
    return type(values).__name__


def sent(values: Any) -> NDArray[Any] | str:
    """What a plugin gave, as it goes to another process: arrays of numbers or strings alone."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "biufU":
        return np.array(values)
    return described_array(values)


def fingerprint_repeats(subject: Subject) -> None:
    """``fingerprint`` gives one text for the same options and content, in any process."""
    here = [subject.new().fingerprint() for _ in range(2)] if has_fingerprint(subject) else []
    if not here:
        raise NotApplicable("it has no fingerprint()")
    there = subject.value("fingerprint")
    if not isinstance(here[0], str) or len({*here, there}) > 1:
        raise Violation(
            f"fingerprint() gave {here[0]!r:.80}, then {here[1]!r:.80}, and in another process "
            f"{there!r:.80}; expected one text"
        )


def has_fingerprint(subject: Subject) -> bool:
    """Whether the plugin digests itself what its options name."""
    return hasattr(subject.cls, "fingerprint")


FINGERPRINT: Final = (
    "fingerprint-repeats",
    "fingerprint() gives one text for the same content, in any process.",
    fingerprint_repeats,
)
