"""Columns that were learnt from EEG to be like a column of stimuli, and their evaluations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from eegstore.errors import InputError, UsageError
from eegstore.evaluate import evaluate
from eegstore.report.material import Material
from eegstore.store import Store

# Evaluations that differ in one of these say different things.
KIND: Final = ("query", "gallery", "target", "split", "average", "candidates", "by", "metric")


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
    for one in [entry.evaluation for entry in store.attributes.history]:
        if one is not None and one.get("digest") == store.digest:
            kind = tuple(str(one.get(name)) for name in KIND)
            found.pop(kind, None)
            found[kind] = one
    return list(found.values())


def evaluated(store: Store, seed: int) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Evaluate each learnt column.

    Where the pairs were made from the label, which stimulus is right is the pairing's choice: the
    concept is asked for then.

    Returns
    -------
    Documents, and a line for each column that was refused.
    """
    documents: list[Mapping[str, Any]] = []
    refused: list[str] = []
    for query, gallery in _targets(store):
        try:
            documents.append(_evaluated(store, f"trials/{query}", f"stimuli/{gallery}", seed))
        except (InputError, UsageError) as error:
            refused.append(str(error))
    return documents, refused


def _evaluated(store: Store, query: str, gallery: str, seed: int) -> Mapping[str, Any]:
    try:
        return evaluate(store, query, gallery, seed=seed).document()
    except InputError:
        return evaluate(store, query, gallery, target="concept", seed=seed).document()


def evaluations(store: Store, seed: int) -> tuple[Sequence[Mapping[str, Any]], list[str]]:
    """What the store's history records; where it has nothing, what is found now."""
    known = recorded(store)
    return (known, []) if known else evaluated(store, seed)
