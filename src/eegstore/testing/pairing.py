"""The checks of a pairing."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore import ColumnSpec, EegStoreError, Pairs, Trials
from eegstore.testing import material
from eegstore.testing.check import Check, NotApplicable, Violation
from eegstore.testing.common import FINGERPRINT, common, described_array, same_bytes
from eegstore.testing.stage import Stage, Trouble
from eegstore.testing.subject import Subject

MADE_FROM: Final = re.compile(r"stimulus_key|label|(trials|stimuli)/[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True)
class HeldColumn:
    """A column in memory, for a pairing that reads one."""

    spec: ColumnSpec
    values: NDArray[Any]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        found: NDArray[Any] = self.values[rows].copy()
        return found


def _columns(plugin: Any, order: list[int] | None = None) -> Mapping[str, HeldColumn]:
    """The wide columns that a pairing reads, named ``table/column``."""
    found = {}
    for path in getattr(plugin, "reads", ()):
        table, _, name = path.partition("/")
        spec, values = material.vectors(table, name)
        n_rows = material.N_ROWS if table == "trials" else material.N_STIMULI
        rows = order if table == "trials" and order is not None else list(range(n_rows))
        found[path] = HeldColumn(spec, np.asarray(values)[rows])
    return found


def _pairs(plugin: Any, trials: Trials, order: list[int] | None = None) -> Any:
    return plugin(trials, material.stimuli(), _columns(plugin, order))


def rehearse(stage: Stage, plugin: Any) -> dict[str, Any]:
    """Pair the trials of the material."""
    tables = material.trials(), material.stimuli()
    pairs = stage.call("a call", plugin, *tables, _columns(plugin), check="answers")
    if not isinstance(pairs, Pairs):
        raise Trouble("gives-pairs", f"a call gave {type(pairs).__name__}, expected Pairs")
    values: dict[str, Any] = {"held": _held(pairs)}
    if hasattr(plugin, "fingerprint"):
        values["fingerprint"] = stage.start("fingerprint()", plugin.fingerprint, check="answers")
    return values


def _stimulus(pairs: Any) -> NDArray[np.int64]:
    """The rows of a pairing's answer, where there is one for each trial."""
    stimulus = np.asarray(pairs.stimulus)
    if stimulus.shape != (material.N_ROWS,) or stimulus.dtype.kind != "i":
        raise NotApplicable("not tried (pairs-described): it gives no row for each trial")
    return stimulus


def gives_pairs(subject: Subject) -> None:
    """A call gives Pairs, as the rehearsal shows."""
    subject.value("held")


def pairs_described(subject: Subject) -> None:
    """A row and a score for each trial."""
    pairs = _pairs(subject.new(), material.trials())
    stimulus, score = np.asarray(pairs.stimulus), np.asarray(pairs.score)
    n_trials = material.N_ROWS
    if stimulus.shape != (n_trials,) or stimulus.dtype.kind != "i":
        raise Violation(f"gave {described_array(stimulus)}, expected int64 ({n_trials},)")
    if score.shape != (n_trials,) or score.dtype.kind not in "iuf":
        raise Violation(f"gave scores {described_array(score)}, expected float32 ({n_trials},)")


def rows_exist(subject: Subject) -> None:
    """Each pair is a row of the stimuli, or -1."""
    stimulus = _stimulus(_pairs(subject.new(), material.trials()))
    outside = (stimulus < -1) | (stimulus >= material.N_STIMULI)
    if outside.any():
        trial = int(np.argmax(outside))
        raise Violation(
            f"trial {trial} got stimulus {stimulus[trial]} of {material.N_STIMULI}, expected a row "
            "that exists, or -1 for none"
        )


def more_described(subject: Subject) -> None:
    """Further stimuli are rows that exist, each once a trial, with scores; -1 after the last."""
    pairs = _pairs(subject.new(), material.trials())
    if pairs.more is None and pairs.more_score is None:
        raise NotApplicable("it gives a trial one stimulus at most")
    more, score = np.asarray(pairs.more), np.asarray(pairs.more_score)
    sound = more.ndim == 2 and len(more) == material.N_ROWS and more.dtype.kind == "i"
    if not sound or more.shape != score.shape or score.dtype.kind not in "iuf":
        raise Violation(
            f"gave more {described_array(more)} and more_score {described_array(score)}, expected "
            f"int64 and float32 ({material.N_ROWS}, further)"
        )
    for trial, rows in enumerate(np.hstack([_stimulus(pairs)[:, None], more]).tolist()):
        real = [row for row in rows if row != -1]
        if rows[: len(real)] != real or len(set(real)) < len(real):
            raise Violation(
                f"trial {trial} got stimuli {rows!s:.80}, expected none twice, and -1 only after "
                "the last"
            )
        if not all(0 <= row < material.N_STIMULI for row in real):
            raise Violation(
                f"trial {trial} got stimuli {rows!s:.80} of {material.N_STIMULI}, expected rows "
                "that exist, or -1 for none"
            )


def made_from_named(subject: Subject) -> None:
    """What it says decides the pairs is a tuple of columns."""
    names = getattr(subject.new(), "made_from", ())
    if names == ():
        raise NotApplicable("it does not say what decides the pairs (made_from)")
    if not isinstance(names, tuple) or not all(
        isinstance(one, str) and MADE_FROM.fullmatch(one) for one in names
    ):
        raise Violation(
            f"made_from is {names!r:.80}, expected a tuple of 'stimulus_key', 'label', "
            "'trials/NAME' and 'stimuli/NAME'"
        )


def unlabelled_unpaired(subject: Subject) -> None:
    """A trial of label -1 and without a key stays unpaired."""
    made_from = getattr(subject.new(), "made_from", ())
    if made_from and not {"label", "stimulus_key"} & set(made_from):
        raise NotApplicable(f"it pairs by {', '.join(made_from)}, not by labels or keys")
    stimulus = _stimulus(_pairs(subject.new(), material.trials()))
    paired = (np.array(material.LABELS) < 0) & (stimulus >= 0)
    if paired.any():
        trial = int(np.argmax(paired))
        raise Violation(
            f"trial {trial}, of label -1 and without a key, got stimulus {stimulus[trial]}, "
            "expected -1"
        )


def deterministic(subject: Subject) -> None:
    """Two calls, and another instance, give the same pairs."""
    plugin = subject.new()
    first = _held(_pairs(plugin, material.trials()))
    for who, one in (("again", plugin), ("by another instance", subject.new())):
        if not same_bytes(first, _held(_pairs(one, material.trials()))):
            raise Violation(f"a call {who} gave other pairs, expected the same; seed what is drawn")


def _held(pairs: Any) -> list[NDArray[Any]]:
    further = [pairs.more, pairs.more_score]
    held = [pairs.stimulus, pairs.score, *(one for one in further if one is not None)]
    return [np.array(one) for one in held]


def permuted(subject: Subject) -> None:
    """The same trials in another order get the same stimuli, of each label and key.

    Where keys play no part, it may take turns: then the trials of a label are all alike.
    """
    plugin = subject.new()
    _refuse_random(subject)
    keyed = _uses_keys(plugin)
    order = np.random.default_rng(2).permutation(material.N_ROWS).tolist()
    counts = []
    for rows in (list(range(material.N_ROWS)), order):
        trials = material.trials(rows)
        assert trials.stimulus_key is not None
        keys = trials.stimulus_key.tolist() if keyed else [""] * len(rows)
        stimulus = _stimulus(_pairs(plugin, trials, rows)).tolist()
        counts.append(Counter(zip(trials.label.tolist(), keys, stimulus, strict=True)))
    if counts[0] != counts[1]:
        label, key, stimulus = next(iter(counts[0] - counts[1]), (None, None, None))
        raise Violation(
            f"in another order the trials of label {label}{f' and key {key!r}' if keyed else ''} "
            f"got stimulus {stimulus} less often; expected pairs that follow the trials"
        )


def _uses_keys(plugin: Any) -> bool:
    """Whether pairs follow from what the source says was shown."""
    try:
        without = _pairs(plugin, material.trials(keys=False))
    except Exception:
        return True
    return not same_bytes(_held(without), _held(_pairs(plugin, material.trials())))


def _refuse_random(subject: Subject) -> None:
    """Raise where another seed, or another call, gives other pairs: there it is drawn."""
    plugin = subject.new()
    first = _stimulus(_pairs(plugin, material.trials())).tolist()
    others = [plugin]
    if isinstance(getattr(plugin, "seed", None), int):
        others += [dataclasses.replace(plugin, seed=plugin.seed + more) for more in (1, 2)]
    for other in others:
        try:
            pairs = _pairs(other, material.trials())
        except EegStoreError:
            continue
        if _stimulus(pairs).tolist() != first:
            raise NotApplicable("its pairs are drawn: another seed or call gives others")


def spawned_process(subject: Subject) -> None:
    """A spawned process imports it by name and pairs alike."""
    there, plugin = subject.value("held"), subject.new()
    runs = [_held(_pairs(plugin, material.trials())) for _ in range(2)]
    if not same_bytes(*runs):
        raise NotApplicable("not tried (deterministic): a call again gave other pairs")
    if not same_bytes(runs[0], there):
        raise Violation("a spawned process got other pairs, expected the same")


def input_untouched(subject: Subject) -> None:
    """It writes to none of the tables; they are read-only, as the rehearsal shows."""
    trials, stimuli, plugin = material.trials(), material.stimuli(), subject.new()
    plugin(trials, stimuli, _columns(plugin))
    same = same_bytes(trials.label, material.trials().label)
    if not same or not same_bytes(stimuli.label, material.stimuli().label):
        raise Violation("a call changed the labels that it was given, expected them untouched")


_check = functools.partial(Check, "pairing")
CHECKS: Final = (
    *common("pairing"),
    _check("gives-pairs", "A call gives Pairs.", gives_pairs),
    _check("pairs-described", "There is a stimulus (int64) and a score (float32) for each trial.",
           pairs_described),
    _check("rows-exist", "Each stimulus is a row that exists, or -1 for none.", rows_exist),
    _check("more-described", "Further stimuli of a trial, where there are some, are rows that "
           "exist, none twice, -1 after the last, with scores.", more_described),
    _check("made-from-named", "What it says decides the pairs (made_from) names labels, keys or "
           "columns.", made_from_named),
    _check("unlabelled-unpaired", "A trial of label -1 and without a key stays unpaired.",
           unlabelled_unpaired),
    _check("deterministic", "Two calls, and a new instance of the same options, give the same "
           "pairs.", deterministic),
    _check("permuted", "Trials in another order get the same stimuli, counted by label and key.",
           permuted),
    _check("input-untouched", "The tables that it is given stay as they were.", input_untouched),
    _check("spawned-process", "A spawned process imports it by name and gets the same pairs.",
           spawned_process),
    _check(*FINGERPRINT),
)  # fmt: skip
