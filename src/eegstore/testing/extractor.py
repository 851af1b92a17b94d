"""The checks of an extractor."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from eegstore import ColumnSpec
from eegstore.testing import fitted, keys, material
from eegstore.testing.check import Check, NotApplicable, Violation
from eegstore.testing.common import common, described_array, same_bytes, sent
from eegstore.testing.signals import extremes_survive, nan_stays, padding_accepted
from eegstore.testing.stage import Stage, Trouble
from eegstore.testing.subject import Subject
from eegstore.testing.values import (
    BLOCK_ROWS,
    close,
    given_values,
    limited,
    rows_of,
    steady,
)

MAX_ROW_BYTES: Final = 1 << 30


def rehearse(stage: Stage, plugin: Any) -> dict[str, Any]:
    """Describe, fit, prepare and call a plugin; then build tiny stores with it."""
    job = stage.job
    with keys.offered(job.kind, job.module, job.cls) as folder:
        values, sound = _called(stage, plugin)
        values["keys"] = keys.rehearsed(stage, folder, plugin) if sound else keys.UNSOUND
    return values


def _called(stage: Stage, plugin: Any) -> tuple[dict[str, Any], bool]:
    """What it gives for blocks of each length, and whether a build would take that."""
    specs = _material(material.specs, plugin)
    columns = _material(material.columns, plugin)
    spec = stage.call("describe()", plugin.describe, specs, check="describes")
    _refuse_spec(spec)
    state = fitted.fitted_state(stage, plugin)
    plugin = stage.make()
    if hasattr(plugin, "prepare"):
        stage.start("prepare()", plugin.prepare, check="answers")
    if state is not None:
        stage.start("restore()", plugin.restore, state, check="state-restored")
    sound = True
    for n_rows in limited(plugin, BLOCK_ROWS):
        block = material.block(plugin.table, columns, range(n_rows))
        result = stage.call(f"a call on {n_rows} rows", plugin, block, check="answers")
        sound = sound and fits(result, spec, n_rows) and bool(np.isfinite(result).all())
    return {"state": state, "spec": spec, "last": sent(result)}, sound


def _material(of: Any, plugin: Any) -> Any:
    try:
        return of(plugin)
    except NotApplicable as reason:
        raise Trouble("", str(reason)) from None


def _refuse_spec(spec: Any) -> None:
    """Refuse what no column can be made of."""
    if not isinstance(spec, ColumnSpec):
        reason = f"describe() gave {type(spec).__name__}, expected a ColumnSpec"
        raise Trouble("describes", reason)
    if spec.dtype == "str" or min(spec.shape, default=1) < 1 or spec.row_bytes > MAX_ROW_BYTES:
        raise Trouble(
            "describes",
            f"describe() gave {spec.dtype} {spec.shape}, expected numbers, lengths of at least 1 "
            "and rows of at most 1 GiB",
        )


def fits(values: Any, spec: ColumnSpec, n_rows: int) -> bool:
    """Whether values are the rows that a spec describes."""
    expected = (np.dtype(spec.dtype), (n_rows, *spec.shape))
    return isinstance(values, np.ndarray) and (values.dtype, values.shape) == expected


def _described(subject: Subject) -> None:
    subject.value("spec")


def _facts(spec: ColumnSpec) -> tuple[Any, ...]:
    coords = {dim: list(values) for dim, values in spec.coords.items()}
    return spec.dims, spec.shape, spec.dtype, coords, spec.units, dict(spec.attrs)


def describe_is_pure(subject: Subject) -> None:
    """One description, before and after calls of any number of rows, in any instance."""
    first = _facts(subject.value("spec"))
    plugin, inputs = subject.new(), material.specs(subject.plugin)
    before = {name: _facts(spec) for name, spec in inputs.items()}
    told = [("again", plugin.describe(inputs)), ("a third time", plugin.describe(inputs))]
    for rows in rows_of(plugin):
        given_values(subject, plugin, rows)
        told.append((f"after a call on {len(rows)} rows", plugin.describe(inputs)))
    for when, spec in told:
        if _facts(spec) != first:
            raise Violation(
                f"describe() {when} gave {_facts(spec)!s:.90}, before {first!s:.90}; expected one "
                "answer, which follows from its options and inputs alone"
            )
    if {name: _facts(spec) for name, spec in inputs.items()} != before:
        raise Violation("describe() changed the specs that it was given, expected them untouched")


def described_shape(subject: Subject) -> None:
    """Blocks of 1, 2 and 7 rows, and a short last one, give rows as they were described."""
    spec, plugin = subject.value("spec"), subject.new()
    for n_rows in limited(plugin, BLOCK_ROWS):
        for rows in rows_of(plugin, [n_rows]):
            values = given_values(subject, plugin, rows)
            if not fits(values, spec, len(rows)):
                raise Violation(
                    f"a call on {len(rows)} rows gave {described_array(values)}, described as "
                    f"{spec.dtype} {(len(rows), *spec.shape)}"
                )


def rows_alone(subject: Subject) -> None:
    """Whatever rows come together, each has the same values."""
    expected, plugin = steady(subject), subject.new()
    for n_rows in limited(plugin, BLOCK_ROWS):
        for rows in rows_of(plugin, [n_rows]):
            values = given_values(subject, plugin, rows)
            wrong = close(values, expected[rows[0] : rows[-1] + 1])
            if wrong:
                raise Violation(
                    f"rows {rows[0]} to {rows[-1]} in a block of {len(rows)} have other values "
                    f"than in other blocks: {wrong}; row i may depend on row i alone"
                )


def rows_permuted(subject: Subject) -> None:
    """The rows of a block in another order give the same rows in that order."""
    steady(subject)
    plugin = subject.new()
    rows = max(rows_of(plugin), key=len)
    if len(rows) < 2:
        raise NotApplicable("it takes one row at a time")
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    order = order if order != sorted(order) else order[::-1]
    expected = given_values(subject, plugin, rows)
    values = given_values(subject, plugin, [rows[one] for one in order], start=rows[0])
    wrong = close(values, expected[order])
    if wrong:
        raise Violation(
            f"{len(rows)} rows in another order gave other values: {wrong}; expected the values "
            "of each row, in that order"
        )


def input_untouched(subject: Subject) -> None:
    """The arrays that it is given are the same afterwards, whatever way they could be written."""
    plugin, columns = subject.new(), material.columns(subject.plugin)
    rows = rows_of(plugin)[0]
    held = {name: material.chosen(values, rows) for name, values in columns.items()}
    n_valid = np.full(len(rows), material.N_TIMES)
    plugin(material.held_block(subject.cls.table, held, 0, len(rows), n_valid))
    for name, values in held.items():
        before = material.chosen(columns[name], rows)
        if not same_bytes(values, before):
            raise Violation(f"a call changed block[{name!r}], expected it untouched: it is shared")
    if (n_valid != material.N_TIMES).any():
        raise Violation("a call changed block.n_valid, expected it untouched")


def deterministic(subject: Subject) -> None:
    """Two calls, and another instance, give the same bytes."""
    plugin = subject.new()
    rows = rows_of(plugin)[0]
    first = np.array(given_values(subject, plugin, rows))
    for who, one in (("again", plugin), ("by another instance", subject.new())):
        if not same_bytes(first, np.array(given_values(subject, one, rows))):
            raise Violation(
                f"a call on the same {len(rows)} rows {who} gave other values, expected the same "
                "bytes; seed its random numbers and fix its threads"
            )


def finite(subject: Subject) -> None:
    """Finite numbers give finite numbers."""
    plugin = subject.new()
    for rows in rows_of(plugin):
        values = given_values(subject, plugin, rows)
        if not np.isfinite(values).all():
            bad = ~np.isfinite(values).reshape(len(rows), -1).all(axis=1)
            raise Violation(
                f"row {rows[int(np.argmax(bad))]} gave NaN or Inf, and its input is finite"
            )


def spawned_process(subject: Subject) -> None:
    """Imported by name in a new process it gives the same bytes."""
    there = subject.value("last")
    steady(subject)
    plugin = subject.new()
    rows = list(range(limited(plugin, BLOCK_ROWS)[-1]))
    here = given_values(subject, plugin, rows)
    if not same_bytes(sent(here), there):
        raise Violation(
            f"{len(rows)} rows gave {described_array(here)} here and other values in a spawned "
            f"process ({described_array(there)}), expected the same bytes"
        )


def column_key(subject: Subject) -> None:
    """Two builds with the same options have one column key, one with another has another."""
    found: Mapping[str, Any] = subject.value("keys")
    if "reason" in found:
        raise NotApplicable(found["reason"])
    if "problem" in found:
        raise Violation(found["problem"])
    first, again = found["same"]
    if first != again:
        raise Violation(
            f"two builds with the same options gave the column keys {first:.12}… and "
            f"{again:.12}…, expected one; does fingerprint() follow from the content alone?"
        )
    if found.get("other") == first:
        raise Violation(f"with {found['changed']} the column key was the same, expected another")


_check = functools.partial(Check, "extractor")
CHECKS: Final = (
    *common("extractor"),
    _check("describes", "describe() gives a ColumnSpec of numbers, each length at least 1.",
           _described),
    _check("describe-is-pure", "describe() gives one answer: before and after calls on blocks of "
           "any length, and in any instance.", describe_is_pure),
    _check("described-shape", "Blocks of 1, 2 and 7 rows and a short last one give arrays of the "
           "described shape and dtype.", described_shape),
    _check("rows-alone", "Row i depends on row i alone: the same values for any batching, within "
           "1e-4 of a feature's largest (1e-2 as float16).", rows_alone),
    _check("rows-permuted", "Rows in another order give their values in that order.",
           rows_permuted),
    _check("input-untouched", "What it is given stays as it was, nested arrays included.",
           input_untouched),
    _check("deterministic", "Two calls, and a new instance of the same options, give the same "
           "bytes.", deterministic),
    _check("finite", "Finite input gives finite values.", finite),
    _check("nan-stays", "NaN in one row is refused with an error, or stays in that row.",
           nan_stays),
    _check("extremes-survive", "Flat and huge signals, images of one colour or one pixel, and "
           "long captions give finite values.", extremes_survive),
    _check("padding-accepted", "Trials of which fewer samples were recorded (n_valid) give "
           "finite values.", padding_accepted),
    _check("spawned-process", "A spawned process imports it by name, restores it where it is "
           "fitted, and gets the same bytes.", spawned_process),
    _check("column-key", "A store's column has one key for the same options, and another for "
           "others.", column_key),
    *fitted.CHECKS,
)  # fmt: skip
