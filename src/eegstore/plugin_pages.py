"""What a person reads of plugins: the list, all of one, and what was tried with them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from eegstore.catalogue import EXAMPLE_INPUTS_ARE, Entry, Option
from eegstore.checking import Checked
from eegstore.registry import OK, Plugin
from eegstore.render import add_row, as_text, new_table, shape_of, titled
from eegstore.scaffolding import Project
from eegstore.tables import ColumnSpec
from eegstore.wording import plural, printable


def plugins(found: Iterable[Plugin]) -> RenderableType:
    """The plugins that are installed."""
    table = new_table("kind", "name", "version", "distribution", "status")
    for plugin in found:
        row = plugin.row()
        status = as_text(row["status"], style="green" if row["status"] == OK else "red")
        add_row(table, row["kind"] or "?", *(row[key] for key in list(row)[1:4]), status)
    return table


def plugin(entry: Entry) -> RenderableType:
    """All that is known of a plugin."""
    facts, status = entry.plugin, entry.plugin.status
    version = f"version {facts.version}, " if facts.version else ""
    origin = f"{version}of {facts.row()['distribution']}"
    lines: list[RenderableType] = [
        Text.assemble((printable(facts.path), "bold"), f"  {printable(origin)}")
    ]
    if status != OK:
        return Group(*lines, as_text(f"cannot be used: {facts.reason}", style="red"))
    does = entry.does or "(it has no docstring)"
    lines += ["", *map(_indented, does.splitlines()), "", *_flow(entry)]
    if entry.options:
        table = new_table("option", "type", "default", "unit", "meaning")
        for option in entry.options:
            add_row(table, *_option_cells(option))
        lines += [table, ""]
    return Group(*lines, *map(as_text, entry.example.splitlines()))


def _indented(line: str) -> RenderableType:
    """A line whose further lines, where the terminal is narrow, are indented as it is."""
    text = line.replace("``", "").lstrip()
    margin = " " * (len(line) - len(line.lstrip())) + "- " * text.startswith("- ")
    if not margin:
        return as_text(text)
    table = Table.grid()
    add_row(table, margin, text.removeprefix("- "))
    return table


def _flow(entry: Entry) -> Iterator[RenderableType]:
    """What a plugin reads and writes."""
    table = Table.grid(padding=(0, 2, 0, 0))
    place = f"{entry.table}/" if entry.table else ""
    if entry.reads:
        add_row(table, "reads", ", ".join(place + name for name in entry.reads))
    if entry.fitted:
        beside = [name if "/" in name else place + name for name in entry.fit_reads]
        also = f", and from {', '.join(beside)} of these" if beside else ""
        add_row(table, "learns", f"from the rows of the split 'train'{also}")
    if entry.table:
        column = f"{place}{entry.plugin.name.replace('-', '_')}"
        add_row(table, "writes", f"{column}: {_written(entry.writes)}")
    if table.row_count:
        yield from (table, "")


def _written(spec: ColumnSpec | None) -> str:
    """What one row is, from the spec of an example."""
    if spec is None:
        return "its shape follows from the options, and from what it reads"
    axes = f"{shape_of(spec.shape)} ({', '.join(spec.dims)})" if spec.dims else "one value a row"
    unit = f" in {spec.units}" if spec.units not in ("", "1") else ""
    return f"{spec.dtype}, {axes}{unit}, where it is given {EXAMPLE_INPUTS_ARE}"


def _option_cells(option: Option) -> tuple[str, ...]:
    needed = "(required)" if option.required else "(none)"
    default = needed if option.default is None else json.dumps(option.default, ensure_ascii=False)
    # Without the space a bound is one word, which is not broken into two lines.
    bounds = re.sub(r"([<>≤≥]) ", r"\1", option.bounds)
    remarks = [option.description, f"({bounds})" if bounds else ""]
    return option.name, option.type, default, option.unit, " ".join(filter(None, remarks))


def project(written: Project) -> RenderableType:
    """What was scaffolded."""
    lines = list(titled(str(written.folder), plural(len(written.files), "file"), ""))
    lines += [as_text(f"  {file}") for file in sorted(written.files)]
    return Group(*lines, "", "Next:")


def _verdict(one: Checked) -> str:
    """How many checks passed, failed, and had nothing to look at."""
    results = [tried.passed for tried in one.tried]
    counts = {word: results.count(of) for word, of in
              (("passed", True), ("failed", False), ("not applicable", None))}  # fmt: skip
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def checked(found: Sequence[Checked]) -> RenderableType:
    """What was tried with some plugins, and what came of it; what failed is read last."""
    lines: list[RenderableType] = []
    for one in found:
        lines += [*titled(one.plugin.path, _verdict(one), "")]
        table = new_table("check", "", "what was tried")
        for tried in sorted(one.tried, key=lambda tried: tried.passed is False):
            word, style = {True: ("ok", "green"), False: ("FAILED", "red"), None: ("-", "dim")}[
                tried.passed
            ]
            what = as_text(tried.detail, style) if tried.passed is None else tried.what
            add_row(table, tried.name, as_text(word, style), what)
            if tried.passed is False:
                add_row(table, "", "", as_text(tried.detail, style))
        lines += [table, ""]
    return Group(*lines[:-1])
