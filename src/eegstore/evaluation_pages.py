"""What a person reads of an evaluation and of a search, at a terminal's width."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from eegstore.evaluate import ALPHA, Evaluation
from eegstore.measures import TOP
from eegstore.pool import Part, Score
from eegstore.render import add_row, as_text, new_table, titled
from eegstore.search import Hit, Search
from eegstore.wording import plural

SHARE: Final = ".1%"
MEAN: Final = ".3f"
PLACE: Final = ",.1f"
NONE: Final = "–"
NUMBERS: Final = ("value", "95 % interval", "chance")
MAX_PARTS: Final = 20


def evaluation(found: Evaluation, *, recorded: bool = False) -> RenderableType:
    """The warnings, what was asked, the measures, and the verdict."""
    asked = found.asked
    lines = list(titled(found.store, f"{asked.query} in {asked.gallery}", found.notice))[:-1]
    lines += [as_text(f"warning: {one}", style="yellow") for one in found.warnings]
    lines += ["", as_text(_question(found)), "", _measures(found), ""]
    lines += _parts("fold", found.folds)
    lines += _parts("subject", found.per_subject)
    lines += [as_text(f"note: {one}") for one in (*_best(found.per_concept), *found.notes)]
    lines.append(_verdict(found))
    if recorded:
        lines.append(as_text("recorded in the store's history"))
    return Group(*lines)


def _question(found: Evaluation) -> str:
    asked = found.asked
    where = f"over {plural(len(found.folds), 'fold')}" if found.folds else (
        f"of the split '{asked.split}'"
    )  # fmt: skip
    queries = plural(found.n_query, "query").replace("querys", "queries")
    if found.n_query < found.n_trials:
        queries += f" (averages of {found.n_trials:,} trials)"
    candidates = plural(found.n_gallery, "candidate")
    wanted = "the stimulus itself" if asked.target == "stimulus" else "any of its concept"
    drawn = plural(found.n_clusters, asked.by)
    text = f"{queries} {where}, each among {candidates}; wanted is {wanted}."
    return f"{text} Intervals are over {drawn}." if found.n_clusters > 1 else text


def _measures(found: Evaluation) -> Table:
    table = new_table("measure", *NUMBERS, numbers=NUMBERS)
    scores = found.scores
    shares = {f"top-{k}": scores[f"top{k}"] for k in TOP}
    shares |= {f"{k}-way": score for k, score in found.kway.items()}
    for name, score in shares.items():
        add_row(table, name, *_cells(score, SHARE))
    add_row(table, "MRR", *_cells(scores["mrr"], MEAN))
    add_row(table, "mAP", *_cells(scores["map"], MEAN))
    add_row(table, "median rank", *_cells(scores["median_rank"], PLACE))
    return table


def _cells(score: Score, form: str) -> tuple[str, str, str]:
    """The value, the interval, and chance."""
    low, high = _number(score.low, form).removesuffix(" %"), _number(score.high, form)
    interval = NONE if NONE in (low, high) else f"{low} – {high}"
    return _number(score.value, form), interval, _number(score.chance, form)


def _number(value: float, form: str) -> str:
    return NONE if math.isnan(value) else format(value, form).replace("%", " %")


def _parts(of: str, parts: Sequence[Part]) -> Iterator[RenderableType]:
    """A table of folds or subjects, as many as a person reads."""
    if not parts:
        return
    columns = ("queries", "top-1", "95 % interval", "chance", "top-5")
    table = new_table(of, *columns, numbers=columns)
    for one in parts[:MAX_PARTS]:
        cells = _cells(one.scores["top1"], SHARE)
        fifth = _number(one.scores["top5"].value, SHARE)
        add_row(table, one.name, f"{one.n_query:,}", *cells, fifth)
    yield table
    if len(parts) > MAX_PARTS:
        yield as_text(f"… and {plural(len(parts) - MAX_PARTS, of)} more, which --json lists")
    yield ""


def _best(concepts: Sequence[Part]) -> Iterator[str]:
    """The concepts that are found best."""
    if len(concepts) > 1:
        order = sorted(concepts, key=lambda one: -one.scores["top1"].value)[:3]
        named = ", ".join(f"{one.name} {_number(one.scores['top1'].value, SHARE)}" for one in order)
        yield f"best of {len(concepts):,} concepts at top-1: {named}; --json lists all"


def _verdict(found: Evaluation) -> Text:
    if found.tautology or found.is_empty or found.p_value is None:
        return as_text(found.verdict, style="bold yellow")
    is_found = found.p_value <= ALPHA and not found.is_too_small
    style = "bold green" if is_found else "bold yellow"
    n = f"{found.asked.n_perm:,} permutations of the stimuli"
    return as_text(f"{found.verdict}: {n}, by the mean reciprocal rank", style=style)


def search(found: Search, sheet: Path | None) -> RenderableType:
    """The hits, the one that the trial is paired with marked."""
    lines = list(titled(found.store, f"{found.query} in {found.gallery}", found.notice))
    lines.append(as_text(f"{found.asked}, among {plural(found.n_gallery, 'stimulus')}"))
    lines.append("")
    table = new_table("rank", "score", "stimulus", "concept", "image", "",
                      numbers=("rank", "score", "stimulus"))  # fmt: skip
    for one in found.hits:
        _add_hit(table, one, found.mark)
    if found.true is not None and found.true.rank > len(found.hits):
        add_row(table, "…")
        _add_hit(table, found.true, found.mark)
    lines += [table, *(as_text(f"note: {one}") for one in found.notes)]
    if sheet is not None:
        lines += ["", as_text(f"drawn in {sheet}")]
    return Group(*lines)


def _add_hit(table: Table, hit: Hit, mark: str) -> None:
    style = "bold green" if hit.is_true else ""
    cells = (f"{hit.rank:,}", f"{hit.score:.4f}", f"{hit.stimulus:,}", hit.concept,
             hit.image_path, mark if hit.is_true else "")  # fmt: skip
    add_row(table, *(as_text(cell, style=style) for cell in cells))
