"""The checks that sources of EEG and providers of images share: both scan, and read ranges."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore.testing.check import Check, NotApplicable, Violation
from eegstore.testing.common import FINGERPRINT, common, described_array, same_bytes
from eegstore.testing.stage import Stage, Trouble
from eegstore.testing.subject import Subject, files_of

MOST_ROWS: Final = 24
MOST_BYTES: Final = 1 << 26


def rehearse(stage: Stage, plugin: Any, table: type[Any]) -> dict[str, Any]:
    """Read without a scan, or with the state of another process' scan; scan, and read again."""
    given = stage.job.given
    if given:
        stage.call("restore()", plugin.restore, given["state"], check="state-restored")
        return {"read": _read(stage, plugin, n_rows_of(given["table"]), "restored-reads")}
    has = [hasattr(plugin, name) for name in ("state", "restore")]
    if any(has) and not all(has):
        raise Trouble("state-is-arrays", "it has one of state() and restore(), expected both")
    # Before a scan has left anything in this process' memory.
    too_early = None if all(has) else _read_early(stage, plugin)
    scanning = stage.make()
    found = stage.start("scan()", scanning.scan, check="answers")
    if not isinstance(found, table):
        reason = f"scan() gave {type(found).__name__}, expected a {table.__name__}"
        raise Trouble("scans", reason)
    values: dict[str, Any] = {"table": found}
    if hasattr(plugin, "fingerprint"):
        values["fingerprint"] = stage.start("fingerprint()", plugin.fingerprint, check="answers")
    _read(stage, scanning, n_rows_of(found), "answers")
    if all(has):
        state = stage.start("state()", scanning.state, check="answers")
        return values | {"scanned_state": _stored(state)}
    if too_early is not None:
        raise too_early
    return values | {"read": _read(stage, plugin, n_rows_of(found), "reads-without-scan")}


def _read_early(stage: Stage, plugin: Any) -> Trouble | None:
    """Read a row before any scan; what goes wrong may have another reason, which a scan shows."""
    try:
        _read(stage, plugin, 1, "reads-without-scan")
    except Trouble as trouble:
        return trouble
    return None


def _read(stage: Stage, plugin: Any, n_rows: int, check: str) -> Any:
    stop = min(n_rows, MOST_ROWS)
    values = stage.call(f"read(0, {stop})", plugin.read, 0, stop, check=check)
    if isinstance(values, list):
        return [np.array(one) if isinstance(one, np.ndarray) else None for one in values]
    return np.array(values) if isinstance(values, np.ndarray) else described_array(values)


def _stored(state: Any) -> dict[str, NDArray[Any]]:
    """A state after a file without objects has held it."""
    pairs = state.items() if isinstance(state, Mapping) else [("state", state)]
    for name, values in pairs:
        array = np.asarray(values)
        if not isinstance(state, Mapping) or not isinstance(name, str) or array.dtype.hasobject:
            shown = described_array(values)
            reason = f"state() gave {shown} as {name!r}, expected a mapping of arrays, no objects"
            raise Trouble("state-is-arrays", reason)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **state)
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def n_rows_of(table: Any) -> int:
    """Rows of a scanned table."""
    return int(getattr(table, "n_trials", 0) or table.n_stimuli)


def facts_of(table: Any) -> dict[str, Any]:
    """What a scan has found, by name."""
    fields = {one.name: getattr(table, one.name) for one in dataclasses.fields(table)}
    return fields | dict(fields.pop("columns"))


def _same_facts(one: Any, other: Any) -> str:
    """The name of a fact that differs between two scans; empty where none does."""
    first, second = facts_of(one), facts_of(other)
    for name in first | second:
        if name not in first or name not in second or not same_bytes(first[name], second[name]):
            return name
    return ""


def scanned(subject: Subject) -> tuple[Any, Any]:
    """An instance of the plugin that has scanned, and what it found."""
    if "scanned" not in subject.facts:
        plugin = dataclasses.replace(subject.plugin)
        subject.facts["scanned"] = (plugin, plugin.scan())
    found: tuple[Any, Any] = subject.facts["scanned"]
    return found


def scan_repeats(subject: Subject) -> None:
    """A scan gives the same again, in the same instance, another, and another process."""
    plugin, first = scanned(subject)
    there = subject.rehearsal.values.get("table", first)
    scans = {
        "again": plugin.scan(),
        "in another instance": dataclasses.replace(subject.plugin).scan(),
        "in another process": there,
    }
    for where, found in scans.items():
        name = _same_facts(first, found)
        if name:
            raise Violation(f"scan() {where} gave another {name}, expected the same as before")


def ranges(n_rows: int) -> Iterator[tuple[int, int]]:
    """Ranges to read: none, single, two, seven, and the short last one."""
    most = min(n_rows, MOST_ROWS)
    yield from [(0, 0), (most // 2, most // 2), (0, 1), (most - 1, most)]
    for size in (1, 2, 7):
        yield from [(start, min(start + size, most)) for start in range(0, most, size)]
    yield from [(max(0, n_rows - size), n_rows) for size in (1, 2, 7)]


def any_range(subject: Subject) -> None:
    """Any range is a slice of the whole."""
    plugin, found = scanned(subject)
    n_rows = n_rows_of(found)
    most = min(n_rows, MOST_ROWS)
    whole = plugin.read(0, most)
    whole = list(whole) if isinstance(whole, list) else np.array(whole)
    tail = {row: _one(plugin, row) for row in range(max(0, n_rows - 7), n_rows)}
    for start, stop in ranges(n_rows):
        values = plugin.read(start, stop)
        expected = [tail[row] if row in tail else whole[row] for row in range(start, stop)]
        rows = list(values)
        if len(rows) != stop - start or not same_bytes(rows, [np.array(one) for one in expected]):
            raise Violation(
                f"read({start}, {stop}) gave {len(rows)} rows, others than read(0, {most}) and "
                "reads of single rows gave there; expected a slice of the whole"
            )


def _one(plugin: Any, row: int) -> NDArray[Any]:
    values = plugin.read(row, row + 1)
    if len(values) != 1:
        raise Violation(f"read({row}, {row + 1}) gave {len(values)} rows, expected one")
    return np.array(values[0])


def input_untouched(subject: Subject) -> None:
    """The files that the options name are as they were before."""
    if not subject.files:
        raise NotApplicable("its options name no files")
    plugin, found = scanned(subject)
    plugin.read(0, min(n_rows_of(found), MOST_ROWS))
    after = files_of(subject.plugin)
    for path, facts in subject.files.items():
        if after.get(path) != facts:
            raise Violation(f"{path} was changed while it was read, expected it untouched")
    more = sorted(set(after) - set(subject.files))
    if more:
        raise Violation(f"{more[0]} appeared beside the input, expected nothing to be written")


def spawned_process(subject: Subject) -> None:
    """A spawned process reads the same, by name, without a scan of its own."""
    there = subject.value("read")
    plugin, found = scanned(subject)
    stop = min(n_rows_of(found), MOST_ROWS)
    runs = [one.read(0, stop) for one in (plugin, plugin)]
    if not same_bytes(*[_held(run) for run in runs]):
        raise NotApplicable("not tried (any-range): two reads of one range differ")
    if not same_bytes(_held(runs[0]), there):
        raise Violation(
            f"read(0, {stop}) gave other values in a spawned process, which imported it by its "
            "name, than here; expected the same bytes"
        )


def _held(values: Any) -> Any:
    return [np.array(one) for one in values] if isinstance(values, list) else np.array(values)


def has_state(subject: Subject) -> None:
    """Its state went to another process through a file, as the rehearsal shows."""
    if "scanned_state" not in subject.rehearsal.values:
        raise NotApplicable("it keeps no state: it has no state()")


def _rehearsed(subject: Subject) -> None:
    subject.value("table")


def _reads_without_scan(subject: Subject) -> None:
    if "scanned_state" in subject.rehearsal.values:
        raise NotApplicable("it reads with the state of a scan")
    subject.value("read")


def reader_checks(kind: str, table: str) -> tuple[Check, ...]:
    """The checks of a kind that scans and reads."""

    def check(name: str, what: str, body: Any) -> Check:
        return Check(kind, name, what, body)

    return (
        *common(kind),
        check("scans", f"scan() gives {table}.", _rehearsed),
        check("scan-repeats", "A scan gives the same again, in any instance and process.",
              scan_repeats),
        check("reads-without-scan", "Without state(), another process reads with no scan before.",
              _reads_without_scan),
        check("state-is-arrays", "state() gives arrays without objects, and comes with restore().",
              has_state),
        check("state-restored", "restore() takes what a file has held of state().", has_state),
        check("restored-reads", "Another process reads after restore(), with no scan.", has_state),
        check("any-range", "Any range, of 0 and 1 rows and the last short one too, is a slice of "
              "the whole.", any_range),
        check("input-untouched", "The files that its options name stay as they are.",
              input_untouched),
        check("spawned-process", "A spawned process imports it by name and reads the same bytes.",
              spawned_process),
        check(*FINGERPRINT),
    )  # fmt: skip
