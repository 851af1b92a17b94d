"""Keys of what a build writes whole: the narrow columns, coordinates and states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from eegstore.answers import comes_with
from eegstore.attributes import ColumnEntry
from eegstore.disk import digest_json
from eegstore.scan import (
    STIMULI_COLUMNS,
    Scan,
    digest_rows,
    pairing_plugin,
    pairing_reads,
    plugin_key,
    split_plugin,
)
from eegstore.tables import Table, is_answered
from eegstore.work import PlannedColumn


def narrow_keys(found: Scan, columns: Iterable[PlannedColumn]) -> dict[tuple[Table, str], str]:
    """Key of every narrow column and coordinate: what its values follow from."""
    recipe, trials = found.recipe, found.trials
    names = ["label", "channel", "time", *trials.columns]
    names += [] if trials.stimulus_key is None else ["stimulus_key"]
    keys: dict[tuple[Table, str], str] = {("trials", name): found.source_key for name in names}
    keys["trials", "valid"] = digest_json([found.source_key, recipe.source.allow_skips])
    pairing = split = "none"
    if found.stimuli is not None:
        stimuli_key = digest_json([found.provider_key, digest_rows(found.stimuli, STIMULI_COLUMNS)])
        for name in STIMULI_COLUMNS:
            keys["stimuli", name] = stimuli_key
        keys |= {("stimuli", name): stimuli_key for name in found.stimuli.columns}
        plugin = pairing_plugin(found)
        wide = {column.path: column.key for column in columns}
        read = {path: wide.get(path) for path in pairing_reads(found)}
        pairing = digest_json([plugin_key("pairing", plugin, recipe.pairing), stimuli_key, read])
    pair_key = digest_json([pairing, keys["trials", "valid"]])
    splitter = split_plugin(found)
    split = plugin_key("split", splitter, recipe.split) if splitter else "train"
    keys["trials", "stimulus"] = keys["trials", "score"] = pair_key
    keys["trials", "split"] = digest_json([split, pair_key])
    for column in columns:
        if column.is_fitted:
            keys[column.table, column.state] = column.key
        for dim in column.spec.coords:
            keys.setdefault((column.table, dim), column.key)
    return keys


def with_answered(keys: Mapping[str, str], paths: Iterable[str]) -> dict[str, str]:
    """The keys by path, with the columns that a pairing or a split has given beyond the usual.

    Their keys are those of the columns that they come with, and so is their place in the order.
    """
    given: dict[str, list[str]] = {}
    for path in paths:
        table, _, name = path.partition("/")
        if is_answered(table, name):
            given.setdefault(f"{table}/{comes_with(name)}", []).append(path)
    whole = {}
    for path, key in keys.items():
        whole[path] = key
        whole |= dict.fromkeys(sorted(given.get(path, ()), key=lambda one: (len(one), one)), key)
    return whole


def answered(entries: Iterable[ColumnEntry], keys: Mapping[str, str]) -> list[str]:
    """Committed columns of that kind which a pairing or a split would give again."""
    return [
        entry.path
        for entry in entries
        if is_answered(entry.table, entry.name)
        and keys.get(f"{entry.table}/{comes_with(entry.name)}") == entry.key
    ]
