"""What a person reads: plans, reports and stores as tables of a terminal's width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from eegstore.account import Report
from eegstore.prepare import Plan, losses
from eegstore.provenance import difference, facts_of
from eegstore.store import Store
from eegstore.verification import Damage
from eegstore.wording import plural, printable

UNITS = ("B", "kB", "MB", "GB", "TB")
SHORT_DIGEST = 12
SHOWN = 20


def size(n_bytes: float) -> str:
    """Bytes as a person reads them: three digits and a decimal unit."""
    unit = 0
    while n_bytes >= 999.5 and unit < len(UNITS) - 1:
        n_bytes, unit = n_bytes / 1000, unit + 1
    return f"{n_bytes:.3g} {UNITS[unit]}" if unit else f"{n_bytes:.0f} B"


def new_table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    """A table without lines; ``numbers`` are the columns that are set to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left")
    return table


def add_row(table: Table, *cells: str | Text) -> None:
    """Add a row; text is shown as it is, never read as markup."""
    table.add_row(*(as_text(cell) if isinstance(cell, str) else cell for cell in cells))


def as_text(text: str, style: str = "") -> Text:
    """A line that is shown as it is; names in data drive no terminal."""
    return Text(printable(text), style=style)


def shape_of(shape: Sequence[int]) -> str:
    """Lengths as ``60 × 4 × 128``."""
    return " × ".join(f"{length:,}" for length in shape)


def titled(title: str, facts: str, notice: str) -> Iterator[RenderableType]:
    """What is shown, a fact of it, and the notice where there is one."""
    yield Text.assemble((printable(title), "bold"), "  ", printable(facts))
    if notice:
        yield as_text(notice, style="yellow")
    yield ""


def report(done: Report) -> RenderableType:
    """What a build did."""
    facts = f"{plural(done.n_trials, 'trial')}, {plural(done.n_stimuli, 'stimulus')}"
    lines = list(titled(str(done.store), facts, done.notice))
    lines += _notes(done.hints)
    if done.history is None:
        lines.append("Up to date: nothing to do.")
    else:
        lines += _history(done)
    lines.append(as_text(f"digest {done.digest[:SHORT_DIGEST]}"))
    return Group(*lines)


def _notes(hints: Sequence[str]) -> list[RenderableType]:
    return [as_text(f"note: {hint}", style="yellow") for hint in hints]


def _history(done: Report) -> Iterator[RenderableType]:
    history = done.history
    assert history is not None
    numbers = ("seconds", "rate", "bytes")
    table = new_table("stage", *numbers, numbers=numbers)
    for stage in history.stages:
        rate = f"{stage.rows / stage.seconds:,.0f} {stage.of}/s" if stage.seconds else ""
        n_bytes = size(stage.bytes) if stage.bytes else ""
        add_row(table, stage.name, f"{stage.seconds:.2f}", rate, n_bytes)
    yield table
    yield ""
    workers = plural(history.n_workers, "worker")
    where = "serial" if history.executor == "serial" else f"{history.executor}, {workers}"
    yield as_text(f"{history.seconds:.1f} s in all ({where})")
    for verb in ("computed", "mended", "reused", "dropped"):
        paths = getattr(history, verb)
        if paths:
            yield as_text(f"{verb:9}{_some(paths)}")
    counts = history.counts
    if not done.n_stimuli:
        counts = counts | {"unpaired": 0}
    for what, remark in (
        ("unpaired", "trials without a stimulus"),
        ("invalid", "trials with NaN or Inf, kept in the split 'skipped'"),
        ("skipped", "events left out:"),
    ):
        if counts.get(what):
            yield as_text(f"{what:9}{counts[what]:,} {remark}", style="yellow")
    shown = 5
    for line in history.skipped[:shown]:
        yield as_text(f"         {line}", style="yellow")
    if len(history.skipped) > shown:
        yield as_text(f"         … and {len(history.skipped) - shown} more, in the store's history")


def _deed(planned: Plan, path: str) -> str:
    if path not in planned.renewed:
        return "mend"
    return "replace" if path in {entry.path for entry in planned.lost} else "compute"


def _reasons(planned: Plan) -> dict[str, str]:
    """Path of each column that is replaced, and what it is that its values follow from no more."""
    lost = {entry.path for entry in planned.lost}
    committed, renewed = planned.committed, set(planned.renewed)
    if committed is None:
        return {}
    return {
        column.path: difference(facts_of(committed, column.path), column.attributes["eegstore"])
        for column in planned.columns
        if column.path in lost & renewed
    }


def _some(paths: Sequence[str]) -> str:
    """The paths, as many as a person reads."""
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more


def plan(planned: Plan) -> RenderableType:
    """What a build would do."""
    rows = planned.found.n_rows
    facts = f"{plural(rows['trials'], 'trial')}, {plural(rows['stimuli'], 'stimulus')}"
    reused = {entry.path for entry in planned.reused}
    table = new_table("column", "shape", "dtype", "bytes", "", numbers=("bytes",))
    for column in planned.columns:
        layout = column.layout
        add_row(
            table,
            column.path,
            shape_of([layout.n_rows, *layout.row_shape]),
            layout.dtype,
            size(column.n_bytes),
            "reuse" if column.path in reused else _deed(planned, column.path),
        )
    lines = [*titled(str(planned.store), facts, planned.found.trials.notice), table, ""]
    lines += _notes(planned.hints)
    lines += [as_text(f"replace  {path}: {why}") for path, why in _reasons(planned).items()]
    lines += [as_text(f"drop     {loss} (needs --overwrite)") for loss in losses(planned)]
    lines += [as_text(f"mend     {one.file}: {one.problem}") for one in planned.damage]
    if planned.up_to_date:
        lines.append("Up to date: nothing to do.")
    else:
        if planned.rewritten:
            lines.append(as_text(f"write    {', '.join(planned.rewritten)}"))
        if planned.resumes:
            lines.append("An unfinished build is resumed.")
        learnt = [path for path in planned.rewritten if path in _states(planned)]
        besides = f" besides {', '.join(learnt)}, whose size follows from a fit," if learnt else ""
        told = (
            f"{plural(len(planned.tasks), 'task')}, {size(planned.bytes_left)} to write"
            f"{besides or ','} {size(planned.worker_bytes)} of arrays a worker. Nothing was done."
        )
        lines.append(as_text(told))
    return Group(*lines)


def _states(planned: Plan) -> set[str]:
    return {column.state_path for column in planned.columns if column.is_fitted}


def plan_document(planned: Plan) -> dict[str, Any]:
    """What ``eegstore build --plan --json`` prints."""
    reused, reasons = {entry.path for entry in planned.reused}, _reasons(planned)
    return {
        "store": str(planned.store),
        "up_to_date": planned.up_to_date,
        "columns": [
            {
                "path": column.path,
                "shape": [column.layout.n_rows, *column.layout.row_shape],
                "dtype": column.layout.dtype,
                "bytes": column.n_bytes,
                "reused": column.path in reused,
                "why": reasons.get(column.path, ""),
            }
            for column in planned.columns
        ],
        "dropped": [entry.path for entry in planned.dropped],
        "damage": [{"file": one.file, "problem": one.problem} for one in planned.damage],
        "rewritten": list(planned.rewritten),
        "resumes": planned.resumes,
        "tasks": len(planned.tasks),
        "bytes_left": planned.bytes_left,
        "worker_bytes": planned.worker_bytes,
    }


def store(opened: Store) -> RenderableType:
    """What a store holds."""
    rows = f"{plural(opened.trials.n_rows, 'trial')}, {plural(opened.stimuli.n_rows, 'stimulus')}"
    lines = list(titled(opened.name or str(opened.path), rows, opened.notice))
    table = new_table("column", "shape", "dtype", "unit", "made by")
    for view in (opened.trials, opened.stimuli):
        for column in view.values():
            entry, producer = column.entry, column.attrs["eegstore"]["producer"]
            add_row(
                table,
                entry.path,
                shape_of(entry.shape),
                entry.dtype,
                column.attrs.get("units", ""),
                f"{producer['name']} {producer['version']}" if producer else "",
            )
    lines += [table, ""]
    splits = ", ".join(f"{name} {count:,}" for name, count in opened.splits.items())
    n_evaluations = sum(one.evaluation is not None for one in opened.attributes.history)
    builds = plural(len(opened.attributes.history) - n_evaluations, "build")
    folds = f"; {plural(len(opened.folds), 'fold')}" if opened.folds else ""
    lines.append(as_text(f"splits {splits}{folds}"))
    for entry in opened.attributes.columns:
        if entry.kind == "state":
            lines.append(as_text(f"learnt {entry.path}, {size(entry.shape[0])}"))
    lines.append(as_text(f"digest {opened.digest}"))
    if n_evaluations:
        builds += f"; {plural(n_evaluations, 'evaluation')}"
    lines.append(as_text(f"built by eegstore {opened.attributes.version}, {builds}"))
    return Group(*lines)


def store_document(opened: Store) -> dict[str, Any]:
    """What ``eegstore info --json`` prints."""
    return {
        "name": opened.name,
        "notice": opened.notice,
        "trials": opened.trials.n_rows,
        "stimuli": opened.stimuli.n_rows,
        "splits": opened.splits,
        "folds": {str(fold): count for fold, count in opened.folds.items()},
        "columns": [entry.model_dump(mode="json") for entry in opened.attributes.columns],
        "digest": opened.digest,
        "format": opened.attributes.format,
        "version": opened.attributes.version,
        "recipe": opened.recipe,
        "history": [entry.model_dump(mode="json") for entry in opened.attributes.history],
    }


def provenance(node: Mapping[str, Any]) -> RenderableType:
    """What a column follows from, as a tree."""
    tree = Tree(_node_label(node))
    for one in node.get("inputs", ()):
        tree.add(provenance(one))
    files = node.get("files", ())
    if files is None:
        tree.add(as_text("the files that were read: not recorded by the eegstore that built it"))
    for file in (files or ())[:SHOWN]:
        tree.add(as_text(f"{file['sha256'][:SHORT_DIGEST]}  {file['name']}"))
    if files and len(files) > SHOWN:
        tree.add(f"… and {plural(len(files) - SHOWN, 'file')} more, which --json lists")
    return tree


def _node_label(node: Mapping[str, Any]) -> Text:
    """A column, its key, and the plugin that made it with its options."""
    shape = f"  {shape_of(node['shape'])} {node['dtype']}" if "shape" in node else ""
    label = Text.assemble((printable(node["column"]), "bold"), printable(shape))
    if node.get("repeated"):
        return label.append("  (as above)")
    lines = [f"key {node['key'][:SHORT_DIGEST]}"] if "key" in node else []
    producer = node.get("producer")
    if producer:
        lines += _made_by(producer)
    if "fitted" in node:
        fitted = node["fitted"]
        lines.append(f"fitted on {fitted['split']}, state {fitted['state'][:SHORT_DIGEST]}")
    for line in lines:
        label.append(f"\n{printable(line)}")
    return label


def _made_by(producer: Mapping[str, Any]) -> Iterator[str]:
    """The plugin that made a column, and its options, as lines."""
    facts = [f"{producer['distribution']} {producer['distribution_version']}"]
    facts += [f"API {producer['api']}"] if "api" in producer else []
    facts += [
        f"{what} {producer[what][:SHORT_DIGEST]}"
        for what in ("source", "content") if what in producer
    ]  # fmt: skip
    yield f"{producer['kind']} {producer['name']} {producer['version']}, of {', '.join(facts)}"
    given = {name: value for name, value in producer["options"].items() if value is not None}
    options = [f"{name} = {value}" for name, value in given.items()]
    if options:
        yield f"options: {', '.join(options)}"


def damage(found: Sequence[Damage]) -> RenderableType:
    """What is damaged in a store."""
    table = new_table("file", "problem")
    for one in found:
        add_row(table, one.file, one.problem)
    return table


def exported(out: Path, files: Sequence[Path], notice: str) -> RenderableType:
    """What an export wrote."""
    total = sum(file.stat().st_size for file in files)
    lines = list(titled(str(out), f"{plural(len(files), 'file')}, {size(total)}", notice))
    table = new_table("file", "bytes", numbers=("bytes",))
    for file in files:
        add_row(table, file.name, size(file.stat().st_size))
    return Group(*lines, table)


def recipes(texts: Mapping[str, str]) -> RenderableType:
    """The shipped recipes, each with the first line of its text."""
    table = new_table("recipe", "what it builds")
    for name, text in texts.items():
        add_row(table, name, text.partition("\n")[0].lstrip("# "))
    return table
