"""What a store is, how it was made, and how its trials fall into concepts and splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore.provenance import provenance
from eegstore.render import shape_of, size
from eegstore.report.bars import stacked_bars
from eegstore.report.figures import MAX_LISTED, MAX_SERIES, DataTable, figure, legend, listed
from eegstore.report.graph import Node, graph
from eegstore.report.markup import Content, Markup, data, element, joined
from eegstore.report.material import Material, Omitted
from eegstore.report.scales import MINUS, counted

MAX_BARS: Final = 20
MAX_TOLD: Final = 4
USUAL_SPLITS: Final = ("train", "val", "test")
MAX_NODES: Final = 40


def facts(material: Material) -> Markup:
    """The store in numbers."""
    store, times = material.store, material.times
    n_channels = material.eeg.spec.shape[0]
    entries: list[tuple[str, Content, Content]] = [
        ("Trials", f"{store.trials.n_rows:,}", _splits_told(material)),
        ("Stimuli", f"{store.stimuli.n_rows:,}", _stimuli_told(material)),
        ("Channels", f"{n_channels:,}", f"{len(material.channels)} of type EEG"),
        ("Samples a trial", f"{len(times):,}", f"at {material.sfreq:g} Hz"),
        ("Window", f"{_short(times[0])} to {_short(times[-1])}", "s from stimulus onset"),
        (
            "Columns",
            f"{len(store.trials) + len(store.stimuli)}",
            f"{size(_stored(material))} stored",
        ),
    ]
    tiles = [
        element("div", element("dt", name), element("dd", value, element("small", remark)))
        for name, value, remark in entries
    ]
    return element("dl", tiles, class_="facts")


def _short(seconds: float) -> str:
    return f"{seconds:.3g}".replace("-", MINUS)


def _splits_told(material: Material) -> Markup:
    splits, folds = list(material.store.splits.items()), material.store.folds
    return joined(
        [(", " if number else "", data(name, 20), f" {count:,}")
         for number, (name, count) in enumerate(splits[:MAX_TOLD])],
        f" and {len(splits) - MAX_TOLD:,} more" if len(splits) > MAX_TOLD else None,
        f"; {counted(len(folds), 'fold')}" if folds else None,
    )  # fmt: skip


def _stimuli_told(material: Material) -> str:
    if not material.has_stimuli:
        return "none: nothing is paired"
    distinct = len(np.unique(material.store.stimuli["content_id"][:]))
    return f"{distinct:,} different images"


def _stored(material: Material) -> int:
    """Bytes of the wide columns' shards, as they are stored."""
    store, total = material.store, 0
    for entry in store.attributes.columns:
        if entry.kind == "wide":
            sizes = store.shard_records(entry)[:, 32:].copy().view("<i8")
            total += int(sizes.sum())
    return total


def origin(material: Material) -> Markup:
    """Who built the store and when, its digest, and what the build left out."""
    store = material.store
    builds = [one for one in store.attributes.history if one.evaluation is None]
    built, counts = builds[-1], builds[-1].counts
    lines: list[Content] = [
        ("Built by eegstore ", built.eegstore, " on ", built.started[:10], " (UTC)",
         f"; {counted(len(builds), 'build')} in its history."),
        ("Digest of its content: ", element("code", store.digest)),
    ]  # fmt: skip
    if counts.get("invalid"):
        lines.append(f"{counted(counts['invalid'], 'trial')} with NaN or Inf, kept aside.")
    if counts.get("unpaired") and material.has_stimuli:
        lines.append(f"{counted(counts['unpaired'], 'trial')} without a stimulus.")
    if counts.get("skipped"):
        lines.append(f"{counted(counts['skipped'], 'event')} left out, listed in its history.")
    return joined([element("p", line, class_="small-print") for line in lines])


def made(material: Material) -> Markup | Omitted:
    """The graph of what each column is made of."""
    nodes, members = _nodes(material)
    drawn = graph(
        "made-graph", "How the columns were made",
        f"{len(nodes)} boxes, from the source at the left to what follows from it at the right; "
        "the table lists every column with what it was made from.",
        nodes,
    )  # fmt: skip
    caption = (
        "Read from left to right: an arrow leads from what was read to what was made of it. "
        "Columns of one maker share a box; those of stimuli have a dashed frame."
    )
    box = element("div", drawn, class_="scroll wide", role="region", tabindex="0",
                  aria_label="Graph of the columns")  # fmt: skip
    return figure("made", "Provenance", [box], caption, _columns_table(material, members),
                  class_="whole")  # fmt: skip


def _nodes(material: Material) -> tuple[dict[str, Node], dict[str, list[str]]]:
    """The boxes by key, and the columns that are in each."""
    store = material.store
    trees = {
        entry.path: provenance(store, entry.path)
        for entry in store.attributes.columns
        if entry.kind in ("wide", "narrow")
    }
    key_of = {path: f"{tree['kind']}{tree['key']}" for path, tree in trees.items()}
    members: dict[str, list[str]] = {}
    for path, key in key_of.items():
        members.setdefault(key, []).append(path)
    nodes: dict[str, Node] = {}
    for key, paths in list(members.items())[:MAX_NODES]:
        tree = trees[paths[0]]
        inputs = list(_inputs(tree, key_of, nodes))
        names = ", ".join(path.partition("/")[2] for path in paths)
        nodes[key] = Node(paths[0].partition("/")[0], names, _maker(tree), inputs)
    return nodes, members


def _inputs(
    tree: Mapping[str, Any], key_of: Mapping[str, str], nodes: dict[str, Node]
) -> Iterator[str]:
    """Keys of the boxes that a column is made of; where it begins, of its source."""
    for one in tree.get("inputs", ()):
        if one["column"] in key_of:
            yield key_of[one["column"]]
        else:
            yield from _origin(one, nodes)
    if not tree.get("inputs"):
        yield from _origin(tree, nodes)


def _origin(tree: Mapping[str, Any], nodes: dict[str, Node]) -> Iterator[str]:
    """The box of a source or a provider of stimuli."""
    producer = tree.get("producer") or {}
    if producer.get("kind") not in ("source", "stimuli"):
        return
    files = tree.get("files") or ()
    key = f"{producer['kind']} {producer['name']}"
    if key not in nodes or files:
        what = "recording" if producer["kind"] == "source" else "images"
        told = counted(len(files), "file") if files else what
        nodes[key] = Node("source", f"{producer['name']} {producer['version']}", told)
    yield key


def _maker(tree: Mapping[str, Any]) -> str:
    producer = tree.get("producer") or {}
    if not producer:
        return "eegstore"
    fitted = f", fit on {tree['fitted']['split']}" if "fitted" in tree else ""
    kind = f"{producer['kind']} " if producer["kind"] in ("pairing", "split") else ""
    return f"{kind}{producer['name']} {producer['version']}{fitted}"


def _columns_table(material: Material, members: Mapping[str, list[str]]) -> DataTable:
    """Every column: shape, type, maker, options, inputs."""
    store, rows = material.store, []
    for path in [path for paths in members.values() for path in paths]:
        tree = provenance(store, path)
        options = (tree.get("producer") or {}).get("options") or {}
        told = ", ".join(
            f"{name} = {value}" for name, value in options.items() if value is not None
        )
        inputs = ", ".join(one["column"] for one in tree.get("inputs", ())) or "–"
        rows.append(
            [data(path), data(shape_of(tree["shape"])), tree["dtype"], data(_maker(tree)),
             data(inputs, 120), data(told or "–", 200)]
        )  # fmt: skip
    head = ["Column", "Shape", "Type", "Made by", "Made from", "Options"]
    return DataTable("Columns of the store", head, rows, frozenset(range(6)))


def balance(material: Material) -> Markup | Omitted:
    """How many trials each split, fold and concept has."""
    parts = [_split_figure(material)]
    fold = material.narrow("fold")
    if fold is not None and (fold >= 0).any():
        parts.append(_fold_figure(fold))
    if material.concepts:
        parts.append(_concept_figure(material))
    return joined(parts)


def _split_names(material: Material) -> list[str]:
    """Splits, the usual ones first, the largest of the others next."""
    counts = material.store.splits
    others = sorted(set(counts) - set(USUAL_SPLITS), key=lambda name: (-counts[name], name))
    return [*(name for name in USUAL_SPLITS if name in counts), *others]


def _drawn_told(n_bars: int) -> str:
    """That not all bars are drawn; empty where they are."""
    return f" The first {MAX_BARS} of {n_bars:,} are drawn." if n_bars > MAX_BARS else ""


def _split_figure(material: Material) -> Markup:
    names = _split_names(material)
    counts = np.array([material.store.splits[name] for name in names], dtype=np.int64)
    shares = counts / max(material.store.trials.n_rows, 1)
    drawn = stacked_bars(
        "splits-bars", "", "Trials of each split.", names[:MAX_BARS], counts[:MAX_BARS, None],
        "trials",
    )  # fmt: skip
    rows = ([data(name), f"{count:,}", f"{100 * share:.1f} %"]
            for name, count, share in zip(names, counts, shares, strict=True))  # fmt: skip
    table = listed("Trials of each split", ["Split", "Trials", "Share"], rows, len(names))
    caption = (
        f"Trials of each split.{_drawn_told(len(names))} What is fitted learns from train; results "
        "count on test alone."
    )
    return figure("splits", "Splits", [drawn], caption, table)


def _fold_figure(fold: NDArray[np.int64]) -> Markup:
    values, counts = np.unique(fold[fold >= 0], return_counts=True)
    names = [f"fold {value}" for value in values[:MAX_BARS]]
    drawn = stacked_bars(
        "folds-bars", "", "Trials of each fold.", names, counts[:MAX_BARS, None], "trials"
    )
    rows = ([f"fold {value}", f"{count:,}"]
            for value, count in zip(values.tolist(), counts.tolist(), strict=True))  # fmt: skip
    table = listed("Trials of each fold", ["Fold", "Trials"], rows, len(values))
    caption = (
        f"Trials of each fold. Each of the {len(values)} folds is the test once, the others train."
        f"{_drawn_told(len(values))}"
    )
    return figure("folds", "Folds of the cross-validation", [drawn], caption, table)


def _concept_figure(material: Material) -> Markup:
    splits, names = _split_names(material), [name for name, _ in material.concepts]
    counts = _counts(material, names[:MAX_LISTED], splits)
    drawn = stacked_bars(
        "concepts-bars", "", "Trials of each concept, by split.", names[:MAX_BARS],
        counts[:MAX_BARS, :MAX_SERIES], "trials",
    )  # fmt: skip
    rows = (
        [data(name), *(f"{one:,}" for one in row[:MAX_LISTED]), f"{total:,}"]
        for (name, total), row in zip(material.concepts, counts, strict=False)
    )
    head = ["Concept", *(data(split, 20) for split in splits[:MAX_LISTED]), "All"]
    table = listed("Trials of each concept", head, rows, len(names))
    return figure(
        "concepts", "Concepts", [drawn], _concepts_told(material, len(splits)), table,
        key_of=legend([data(split, 20) for split in splits[:MAX_SERIES]], "bar"),
    )  # fmt: skip


def _counts(
    material: Material, concepts: Sequence[str], splits: Sequence[str]
) -> NDArray[np.int64]:
    """int64, (concept, split): trials."""
    row_of = {name: number for number, name in enumerate(concepts)}
    column_of = {name: number for number, name in enumerate(splits)}
    row = np.array([row_of.get(one, -1) for one in material.concept.tolist()])
    column = np.array([column_of[one] for one in material.store.trials["split"][:].tolist()])
    place = (row * len(splits) + column)[row >= 0]
    return np.bincount(place, minlength=len(concepts) * len(splits)).reshape(-1, len(splits))


def _concepts_told(material: Material, n_splits: int) -> str:
    counts = np.array([count for _, count in material.concepts])
    least, most = int(counts.min()), int(counts.max())
    many = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    every = f"{counted(len(counts), 'concept')} of {many} trials"
    shown = f"; the {MAX_BARS} most frequent are drawn" if len(counts) > MAX_BARS else ""
    some = "" if n_splits <= MAX_SERIES else (
        f" The bars, and the numbers at their ends, are of {MAX_SERIES} of {n_splits:,} splits."
    )  # fmt: skip
    some += f" The table has {MAX_LISTED} of them." if n_splits > MAX_LISTED else ""
    balanced = "They are balanced." if most <= 1.5 * least else (
        f"They are not balanced: the most frequent has {most / least:.1f} times the trials of the "
        "rarest, and accuracy is to be read beside that."
    )  # fmt: skip
    return f"Trials of each concept by split: {every}{shown}.{some} {balanced}"
