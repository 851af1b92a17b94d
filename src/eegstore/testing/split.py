"""The checks of a split."""

from __future__ import annotations

import functools
import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError, Splits
from eegstore.testing import material
from eegstore.testing.check import Check, NotApplicable, Violation, told
from eegstore.testing.common import FINGERPRINT, common, described_array, same_bytes
from eegstore.testing.stage import Stage
from eegstore.testing.subject import Subject

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SKIPPED: Final = "skipped"  # the host's own, for trials that are not valid


def _stimulus() -> NDArray[np.int64]:
    """int64, (trial,): the paired rows; trials of label -1 are unpaired. Read-only."""
    label = np.array(material.LABELS)
    stimulus = np.where(label >= 0, label, -1).astype(np.int64)
    stimulus.flags.writeable = False
    return stimulus


def _split(plugin: Any) -> Any:
    return plugin(material.trials(), _stimulus(), material.stimuli())


def rehearse(stage: Stage, plugin: Any) -> dict[str, Any]:
    """Split the trials of the material."""
    arguments = material.trials(), _stimulus(), material.stimuli()
    answer = stage.call("a call", plugin, *arguments, check="answers")
    values: dict[str, Any] = {"held": _held(answer)}
    if hasattr(plugin, "fingerprint"):
        values["fingerprint"] = stage.start("fingerprint()", plugin.fingerprint, check="answers")
    return values


def _held(answer: Any) -> list[NDArray[Any]]:
    """The names, and the folds where there are some."""
    if isinstance(answer, Splits):
        return [np.asarray(answer.split).astype(np.str_), np.array(answer.fold)]
    return [np.asarray(answer).astype(np.str_)]


def name_a_trial(subject: Subject) -> None:
    """One string for each trial."""
    _refuse_other_names(_split(subject.new()), "a call")


def _refuse_other_names(given: Any, what: str) -> NDArray[np.str_]:
    names = np.asarray(given.split if isinstance(given, Splits) else given)
    if names.shape != (material.N_ROWS,) or names.dtype.kind not in "UT":
        raise Violation(
            f"{what} gave {names.dtype} {names.shape}, expected a name (str) for each of "
            f"{material.N_ROWS} trials"
        )
    return names.astype(np.str_)


def _names(subject: Subject) -> NDArray[np.str_]:
    given = _split(subject.new())
    names = np.asarray(given.split if isinstance(given, Splits) else given)
    if names.shape != (material.N_ROWS,) or names.dtype.kind not in "UT":
        raise NotApplicable("not tried (name-a-trial): it gives no name for each trial")
    return names.astype(np.str_)


def names_usable(subject: Subject) -> None:
    """Names that files can have, none of them empty, and not the host's own."""
    for name in np.unique(_names(subject)).tolist():
        if name == SKIPPED or not NAME.fullmatch(name):
            raise Violation(
                f"a split is called {name!r:.80}; expected letters, digits, '_', '-' and '.', and "
                f"not {SKIPPED!r}"
            )


def folds_described(subject: Subject) -> None:
    """Where there are folds, a number for each trial, from 0, or -1."""
    given = _split(subject.new())
    if not isinstance(given, Splits):
        raise NotApplicable("it makes no folds")
    fold = np.asarray(given.fold)
    if fold.shape != (material.N_ROWS,) or fold.dtype.kind != "i":
        raise Violation(f"gave folds {described_array(fold)}, expected int64 ({material.N_ROWS},)")
    numbers = np.unique(fold[fold != -1]).tolist()
    if numbers != list(range(len(numbers))):
        raise Violation(
            f"gave the folds {numbers!s:.80}, expected numbers from 0 without gaps, or -1 for none"
        )


def deterministic(subject: Subject) -> None:
    """Two calls, and another instance, give the same names and folds."""
    _names(subject)
    plugin, first = subject.new(), _held(_split(subject.new()))
    for who, one in (("again", plugin), ("by another instance", subject.new())):
        for _ in range(2):
            if not same_bytes(first, _held(_split(one))):
                raise Violation(
                    f"a call {who} gave other splits, expected the same; seed what is drawn"
                )


def unpaired_handled(subject: Subject) -> None:
    """Trials of which none is paired, and a recipe without stimuli, are split too."""
    _names(subject)
    plugin = subject.new()
    none = np.full(material.N_ROWS, -1, dtype=np.int64)
    cases = {"no trial paired": material.stimuli(), "no stimuli at all": None}
    for what, stimuli in cases.items():
        try:
            names = plugin(material.trials(), none, stimuli)
        except InputError:
            continue  # it says in one line what it needs
        except Exception as error:
            raise Violation(
                f"{what}: a call raised {told(error)}; expected names, or an InputError that says "
                "what is needed"
            ) from error
        _refuse_other_names(names, f"{what}: a call")


def spawned_process(subject: Subject) -> None:
    """A spawned process imports it by name and splits alike."""
    there, plugin = subject.value("held"), subject.new()
    runs = [_held(_split(plugin)) for _ in range(2)]
    if not same_bytes(*runs):
        raise NotApplicable("not tried (deterministic): a call again gave other splits")
    if not same_bytes(runs[0], there):
        raise Violation("a spawned process got other splits, expected the same")


def input_untouched(subject: Subject) -> None:
    """It writes to nothing that it is given; all is read-only, as the rehearsal shows."""
    trials, stimulus = material.trials(), _stimulus()
    subject.new()(trials, stimulus, material.stimuli())
    if not same_bytes(stimulus, _stimulus()) or not same_bytes(
        trials.label, material.trials().label
    ):
        raise Violation("a call changed the pairs or labels it was given, expected them untouched")


_check = functools.partial(Check, "split")
CHECKS: Final = (
    *common("split"),
    _check("name-a-trial", "There is one name, a string, for each trial.", name_a_trial),
    _check("names-usable", "No name is empty, 'skipped', or unfit for a file.", names_usable),
    _check("folds-described", "Folds, where there are some, are numbers from 0 without gaps, or "
           "-1, one for each trial.", folds_described),
    _check("deterministic", "Two calls, and a new instance of the same options, give the same "
           "names and folds.", deterministic),
    _check("unpaired-handled", "Trials without a stimulus, and a recipe without stimuli, are "
           "split or refused with an InputError.", unpaired_handled),
    _check("input-untouched", "What it is given stays as it was.", input_untouched),
    _check("spawned-process", "A spawned process imports it by name and gets the same names.",
           spawned_process),
    _check(*FINGERPRINT),
)  # fmt: skip
