"""What to do where a store lacks the column or the split that was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from eegstore import registry
from eegstore.recipe import nearest
from eegstore.store import Store
from eegstore.tables import TABLES, Table


def vectors_of(store: Store, table: str) -> list[str]:
    """Names of the wide columns of a table."""
    views = {"trials": store.trials, "stimuli": store.stimuli}
    return [name for name, one in views[table].items() if one.entry.kind == "wide"]


def no_column(store: Store, table: str, column: str) -> str:
    """Why there is no such column, and what was meant: another's name, table, or an extractor's."""
    known = [f"{one}/{name}" for one in TABLES for name in vectors_of(store, one)]
    hints = [_elsewhere(store, table, column) or nearest(f"{table}/{column}", known)]
    if (plugin := _maker(table, column)) is not None:
        hints.insert(0, f'add [[extract]] plugin = "{plugin}" to the recipe and build')
    return f"there is no column {f'{table}/{column}'!r:.80}; {'; '.join(hints)}"


def _elsewhere(store: Store, table: str, column: str) -> str:
    """That the other table has the column; empty where it does not."""
    other = {"trials": "stimuli", "stimuli": "trials"}.get(table)
    if other is None or column not in vectors_of(store, other):
        return ""
    if other == "trials":
        return f"{column} is a column of trials, and the gallery is of stimuli"
    return f"{column} is a column of stimuli: to ask by it, name it '{other}/{column}'"


def _maker(table: str, column: str) -> str | None:
    """The built-in extractor whose column has the name, where the recipe gives it no other."""
    made = (one for one in registry.built_in() if one.kind == "extractor" and one.cls is not None)
    for plugin in made:
        if (plugin.name.replace("-", "_"), getattr(plugin.cls, "table", "")) == (column, table):
            return plugin.name
    return None


def swapped(store: Store, query: str, gallery: str) -> str:
    """That the columns of the query and of the gallery are each of the other's table, or empty."""

    def is_of(name: str, usual: Table, other: Table) -> bool:
        """Whether a column is one of the other table, not of the usual one."""
        table, _, column = name.rpartition("/")
        if table:
            return table == other and column in vectors_of(store, other)
        return column not in vectors_of(store, usual) and column in vectors_of(store, other)

    if not (is_of(query, "trials", "stimuli") and is_of(gallery, "stimuli", "trials")):
        return ""
    names = [name.rpartition("/")[2] for name in (query, gallery)]
    return (
        f"{names[0]} is a column of stimuli and {names[1]} one of trials: swap --query and "
        "--gallery"
    )


def no_split(store: Store, split: str) -> str:
    """Why there is no such split, and what to do."""
    names: Sequence[str] = list(store.splits)
    if "split" not in store.recipe and names == ["train"]:
        return (
            f"there is no split {split!r:.80}: the recipe has no [split], so all trials are train: "
            "add one"
        )
    return f"there is no split {split!r:.80}; name one that there is: {', '.join(names)}"
