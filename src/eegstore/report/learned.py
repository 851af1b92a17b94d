"""Columns that were learnt from EEG to be like a column of stimuli, and their evaluations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eegstore.report.material import Material
from eegstore.store import Store


def _targets(store: Store) -> Iterator[tuple[str, str]]:
    """Names of columns of trials, each with the column of stimuli that it was fitted to."""
    for name, column in store.trials.items():
        options = (column.attrs["eegstore"].get("producer") or {}).get("options") or {}
        table, _, target = str(options.get("target") or "").partition("/")
        if column.entry.kind != "wide" or table != "stimuli" or target not in store.stimuli:
            continue
        if column.spec.shape == store.stimuli[target].spec.shape:
            yield name, target


def learned_pairs(material: Material) -> list[tuple[str, str]]:
    """Columns of trials with the column of stimuli that each finds; the evaluated ones first."""
    known = list(_targets(material.store))
    evaluated = [
        (str(one["query"]).removeprefix("trials/"), str(one["gallery"]).removeprefix("stimuli/"))
        for one in material.evaluations
        if str(one.get("query", "")).startswith("trials/")
    ]
    there = [
        (query, gallery) for query, gallery in evaluated
        if query in material.store.trials and gallery in material.store.stimuli
    ]  # fmt: skip
    return list(dict.fromkeys([*there, *known]))


def recorded(store: Store) -> list[Mapping[str, Any]]:
    """Evaluations in a store's history that are of its content as it is, the last of each kind."""
    found: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for entry in store.attributes.history:
        one = getattr(entry, "evaluation", None)
        if one and one.get("digest", store.digest) == store.digest:
            kind = tuple(
                one.get(name) for name in ("query", "gallery", "target", "split", "average")
            )
            found.pop(kind, None)
            found[kind] = one
    return list(found.values())


def evaluated(store: Store, seed: int) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Evaluate each learnt column; documents, and a line for each that was refused."""
    raise NotImplementedError


def evaluations(store: Store, seed: int) -> tuple[Sequence[Mapping[str, Any]], list[str]]:
    """What the store's history records; where it has nothing, what is found now."""
    known = recorded(store)
    return (known, []) if known else evaluated(store, seed)
