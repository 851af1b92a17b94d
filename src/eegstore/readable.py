"""What extractors read: where it lies, what one row of it is, and why it cannot be read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from eegstore.calls import declared
from eegstore.errors import PluginError, RecipeError
from eegstore.protocols import Fitted
from eegstore.recipe import nearest
from eegstore.scan import Scan, digest_array, scanned_columns
from eegstore.tables import ColumnSpec, Table

Place = tuple[Table, str]
IMAGE: Final = ColumnSpec(dims=("y", "x", "rgb"), shape=(-1, -1, 3), dtype="uint8")
# What the pairing and the split make of trials: the type of each.
PAIRED: Final = {"stimulus": "int64", "score": "float32", "split": "str", "fold": "int64"}
OF_STIMULI: Final = frozenset({"stimulus", "score"})


@dataclass(frozen=True)
class Extraction:
    """An ``[[extract]]`` section: its number, its column's name, its plugin, and what that reads.

    ``reads`` are the columns of each block, ``fit_reads`` those that ``fit`` gets beside them.
    """

    number: int
    name: str
    plugin: Any
    reads: tuple[str, ...]
    fit_reads: tuple[str, ...]

    @staticmethod
    def of(number: int, name: str, plugin: Any) -> Extraction:
        """What a plugin reads, where it says that as it should.

        Raises
        ------
        PluginError
            Where it does not.
        """
        reads = declared("extractor", plugin, "reads")
        fit_reads = declared("extractor", plugin, "fit_reads")
        if not reads:
            raise PluginError(f"extractor {plugin.name!r}: reads is empty, expected names")
        if fit_reads and not (plugin.table == "trials" and isinstance(plugin, Fitted)):
            raise PluginError(
                f"extractor {plugin.name!r}: fit_reads is of extractors of trials that are fitted; "
                "this one is not"
            )
        return Extraction(number, name, plugin, reads, fit_reads)

    @property
    def table(self) -> Table:
        """The table that it writes."""
        table: Table = self.plugin.table
        return table

    @property
    def is_fitted(self) -> bool:
        """Whether it is fitted on train rows."""
        return isinstance(self.plugin, Fitted)

    @property
    def places(self) -> dict[str, Place]:
        """Where each column that it reads lies, by the name that its plugin gives it."""
        found: dict[str, Place] = {name: (self.table, name) for name in self.reads}
        for name in self.fit_reads:
            bare = name.removeprefix("stimuli/")
            found[name] = (self.table if bare == name else "stimuli", bare)
        return found

    @property
    def waits_for_pairs(self) -> bool:
        """Whether it reads what the pairing or the split makes."""
        return self.table == "trials" and not PAIRED.keys().isdisjoint(self.reads)


@dataclass
class Known:
    """Specs and keys of the columns that extractors may read, and the phase that makes each."""

    specs: dict[Place, ColumnSpec] = field(default_factory=dict)
    keys: dict[Place, str] = field(default_factory=dict)
    phases: dict[Place, int] = field(default_factory=dict)

    def add(self, place: Place, spec: ColumnSpec, key: str, phase: int = 0) -> None:
        """A column that is planned."""
        self.specs[place], self.keys[place], self.phases[place] = spec, key, phase

    def has_all(self, one: Extraction) -> bool:
        """Whether every column that an extractor reads is known."""
        return all(place in self.specs for place in one.places.values())

    def phase(self, one: Extraction) -> int:
        """How many fits, one after the other, what an extractor computes waits for.

        What reads the pairs or the split waits for them as what is fitted once does.
        """
        latest = max(self.phases[place] for place in one.places.values())
        return max(latest + one.is_fitted, int(one.waits_for_pairs))


def scanned(found: Scan) -> Known:
    """What extractors may read before any has run: what scanning, pairing and splitting give.

    The keys of what pairing and splitting give are empty: they follow from other columns.
    """
    known = Known()
    for place, values in scanned_columns(found).items():
        dtype = "str" if values.dtype.kind == "U" else values.dtype.name
        known.add(place, ColumnSpec((), (), dtype), digest_array(values))
    if found.stimuli is not None:
        known.add(("stimuli", "image"), IMAGE, found.provider_key)
    for name, dtype in PAIRED.items():
        if found.stimuli is not None or name not in OF_STIMULI:
            known.add(("trials", name), ColumnSpec((), (), dtype), "")
    return known


def refuse_pixels(one: Extraction) -> None:
    """Refuse what would read images a trial: pixels are in no column.

    Raises
    ------
    RecipeError
        Names the section.
    """
    if "stimuli/image" in one.fit_reads:
        raise RecipeError(
            f"[[extract]] {one.number + 1} ({one.name}) is fitted to stimuli/image, but pixels are "
            "read by extractors of stimuli alone; give it a column of stimuli"
        )


def unreadable(found: Scan, waiting: Iterable[Extraction], known: Known) -> RecipeError:
    """Why none of the waiting extractors can run: a cycle, or a column that is not there."""
    waiting = list(waiting)
    coming = {(one.table, one.name) for one in waiting}
    for one in waiting:
        for place in one.places.values():
            if place not in known.specs and place not in coming:
                return RecipeError(_missing(found, one, place, known.specs))
    names = ", ".join(one.name for one in waiting)
    return RecipeError(f"[[extract]]: these columns read each other in a cycle: {names}")


def _missing(found: Scan, one: Extraction, place: Place, known: Mapping[Place, Any]) -> str:
    """What is said of a column that is not there."""
    table, name = place
    where = f"[[extract]] {one.number + 1} ({one.name}) reads {table}/{name}"
    if found.stimuli is None and (table == "stimuli" or name in OF_STIMULI):
        return f"{where}, but the recipe has no [stimuli], so that no trial is paired; add it"
    if option := _option_of(one.plugin, f"{table}/{name}"):
        fit = [f"{of}/{column}" for (of, column), spec in known.items()
               if of == table and spec.shape and min(spec.shape) > 0]  # fmt: skip
        such = f", such as {fit[0]!r}" if fit else ""
        return f"{where}, which is not there; set {option} to a column of the recipe{such}"
    there = [column for of, column in known if of == table]
    if table != one.table:  # as the recipe names it
        name, there = f"{table}/{name}", [f"{table}/{column}" for column in there]
    return f"{where}, which is not there; {nearest(name, there)}"


def _option_of(plugin: Any, column: str) -> str:
    """The option whose default names a column; empty where none does, or another was set."""
    fields = dataclasses.fields(plugin)
    names = [one.name for one in fields if getattr(plugin, one.name) == one.default == column]
    return names[0] if names else ""
