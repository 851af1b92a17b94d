"""What was decoded: the verdict, and retrieval results with intervals and chance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from eegstore.audit import unmade
from eegstore.report.bars import Estimate, estimates
from eegstore.report.figures import MAX_LISTED, DataTable, figure
from eegstore.report.learned import learned_pairs
from eegstore.report.markup import Content, Markup, data, element, joined
from eegstore.report.material import Material, Omitted
from eegstore.report.scales import Axis, counted, percent
from eegstore.tautology import is_doubt

ALPHA: Final = 0.05
MEASURES: Final = {
    "top1": "top-1", "top3": "top-3", "top5": "top-5", "top10": "top-10", "map": "mAP", "mrr": "MRR"
}  # fmt: skip
MAX_PARTS: Final = 30
FEW_STIMULI: Final = 20  # of fewer the first five are no feat
MAX_CONFUSED: Final = 20
AGAINST: Final = {
    "error": "which can produce such a result without any decoding",
    "warning": "for which such a result may say less than it seems to",
}
NOTHING: Final = "No evidence of decoding in this store."
UNEVALUATED: Final = "Nothing was evaluated, so there is no evidence of decoding in this store."
TOO_FEW: Final = (
    "Too few stimuli or permutations to tell whether there is decoding in this store: p cannot be "
    "below"
)
NO_TEST: Final = (
    "What was evaluated is no test of decoding: the pairs hold by construction, no EEG is in the "
    "query, or every answer is right."
)
FOUND: Final = "Evidence of decoding in this store."
WEAK: Final = "Weak evidence of decoding in this store: the interval of the score covers chance."
DOUBTFUL: Final = (
    "Above chance, but no evidence of decoding: leaks between the splits can explain it."
)
EXPLAINED: Final = (
    "Above chance, but no evidence of decoding: how the columns or the pairs were made can explain "
    "it."
)

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What the store shows, in a sentence, and what it rests on.

    Parameters
    ----------
    kind
        ``none``, ``found``, or ``doubtful`` where it is weak, or something else can explain it.
    sentence
        The sentence.
    reasons
        Each evaluation in a sentence, with interval and chance; and what speaks against it.
    """

    kind: Literal["none", "found", "doubtful"]
    sentence: str
    reasons: Sequence[str]


def is_decoding(one: Document) -> bool:
    """Whether an evaluation is of EEG, asks something, and its pairs hold not by construction."""
    is_empty = one.get("tautology") or one.get("is_empty")
    return not is_empty and not str(one.get("query", "")).startswith("stimuli/")


def is_doubtful(one: Document) -> bool:
    """Whether a score can be had without decoding; an older record has its warnings alone."""
    if "doubtful" in one:
        return bool(one["doubtful"])
    return any(is_doubt(str(warning)) for warning in one.get("warnings") or ())


def _p(one: Document, n_tested: int) -> float:
    """The p-value after Bonferroni's correction; NaN where nothing was permuted."""
    value = one.get("p_value")
    return math.nan if value is None else min(1.0, float(value) * n_tested)


def _could_be(one: Document, n_tested: int) -> bool:
    """Whether a p-value below 0.05 is possible at all; an older record does not say."""
    return float(one.get("smallest_p") or 0.0) * n_tested < ALPHA


def verdict(material: Material) -> Verdict:
    """Whether there is evidence of decoding: p below 0.05 after correction, and above chance."""
    done = [one for one in material.evaluations if is_decoding(one)]
    if not done:
        sentence = NOTHING if material.evaluations else UNEVALUATED
        return Verdict("none", sentence, _nothing_told(material))
    found = [one for one in done if _p(one, len(done)) < ALPHA and _could_be(one, len(done))]
    reasons = [_told(one, len(done)) for one in done]
    if not found:
        return Verdict("none", _nothing_found(done), reasons)
    best = min(found, key=lambda one: (is_doubtful(one), _p(one, len(done))))
    against = list(_against(material, best))
    if any(one.severity == "error" for one in material.findings):
        return Verdict("doubtful", DOUBTFUL, [*reasons, *against])
    if is_doubtful(best):
        return Verdict("doubtful", EXPLAINED, [*reasons, *against])
    if _covers_chance(best):
        return Verdict("doubtful", WEAK, [*reasons, *against])
    return Verdict("found", FOUND, [*reasons, *against])


def _nothing_found(done: Sequence[Document]) -> str:
    """That there is no evidence, or that there could be none: p-values are corrected for."""
    smallest = [one.get("smallest_p") for one in done]
    known = [float(one) * len(done) for one in smallest if one is not None]
    if len(known) < len(done) or min(known) < ALPHA:
        return NOTHING
    after = f" after correction for {len(done)} evaluations" if len(done) > 1 else ""
    return f"{TOO_FEW} {min(1.0, *known):.2g}{after}."


def _covers_chance(one: Document) -> bool:
    """Whether the interval of the score that is told reaches down to chance."""
    score = one.get(_told_measure(one)) or {}
    low, chance = score.get("low"), score.get("chance")
    return low is not None and chance is not None and low <= chance


def _told_measure(one: Document) -> str:
    """The measure that stands for an evaluation in a sentence."""
    return "top5" if one.get("n_gallery", 0) >= FEW_STIMULI else "top1"


def _against(material: Material, best: Document) -> Iterator[str]:
    """What else could have produced a result."""
    if material.store.notice:
        yield f"This is no recording: {material.store.notice}."
    for severity, told in AGAINST.items():
        found = [one.check for one in material.findings if one.severity == severity]
        if found:
            checks = ", ".join(dict.fromkeys(found))
            yield f"The audit found {counted(len(found), severity)} ({checks}), {told}."
    if material.audit is None:
        yield "The store was not audited: a leak between its splits can produce such a result."
    elif material.audit.not_checked:
        yield (
            f"Of the audit, {unmade(material.audit)}: a leak that they look for can produce such a "
            "result."
        )
    for warning in best.get("warnings") or ():
        yield f"{str(warning)[:1].upper()}{str(warning)[1:]}."


def _nothing_told(material: Material) -> list[str]:
    """Why no evaluation is a test of decoding, or there is none."""
    if material.evaluations:
        return [NO_TEST]
    if not material.has_stimuli:
        return ["The store has no stimuli to find."]
    if not learned_pairs(material):
        return [
            "No column of the trials was learnt to be like a column of the stimuli, as the "
            "extractors ridge, cca and contrastive do."
        ]
    if not material.refused:
        return ["Columns were learnt from the EEG, and none was evaluated."]
    where = f"{material.store.path}: "
    said = [one.removeprefix(where).removeprefix("not evaluated: ") for one in material.refused]
    return [f"{one[:1].upper()}{one[1:]}." for one in said]


def _score_told(one: Document) -> str:
    name = _told_measure(one)
    score = one.get(name) or {}
    n_gallery = one.get("n_gallery", 0)
    return (
        f"{one['query']} finds the {one.get('target', 'stimulus')} in {one['gallery']} at "
        f"{MEASURES[name]} of {n_gallery:,} in {_share(score.get('value'))} (95 % interval "
        f"{_share(score.get('low'))} to {_share(score.get('high'))}, chance "
        f"{_share(score.get('chance'))}; {_p_told(one.get('p_value'))})"
    )


def _told(one: Document, n_tested: int) -> str:
    corrected = ""
    if n_tested > 1 and one.get("p_value") is not None:
        corrected = f", {_p_told(_p(one, n_tested))} after correction for {n_tested} evaluations"
    return f"{_score_told(one)}{corrected}."


def _share(value: float | None) -> str:
    return percent(math.nan if value is None else float(value))


def _p_told(value: float | None) -> str:
    if value is None:
        return "p not tested"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def verdict_box(material: Material) -> Markup:
    """The verdict, near the top of the page."""
    said = verdict(material)
    reasons = [element("li", data(one, 600)) for one in said.reasons]
    grounds = element("ul", reasons) if reasons else None
    return element(
        "section",
        element("h2", "Verdict", id="verdict-head", class_="eyebrow"),
        element("p", data(said.sentence, 600), class_="verdict"),
        grounds,
        id="verdict", aria_labelledby="verdict-head",
        class_=f"callout {said.kind}",
    )  # fmt: skip


def retrieval(material: Material) -> Markup | Omitted:
    """Every evaluation: its measures with intervals and chance lines, and its parts."""
    if not material.evaluations:
        return Omitted("nothing was evaluated; the verdict says why.")
    return joined([_evaluation(number, one) for number, one in enumerate(material.evaluations, 1)])


def _evaluation(number: int, one: Document) -> Markup:
    key = f"retrieval-{number}"
    tops, ways = _tops(one), _ways(one)
    panels = []
    if tops:
        panels.append(_panel(f"{key}-tops", "Found among the first", tops))
    if ways:
        panels.append(_panel(f"{key}-ways", "Identified among k", ways))
    parts = [
        _parts(f"{key}-{what}", what, one.get(f"per_{what}") or [])
        for what in ("subject", "concept")
    ]
    parts.append(_parts(f"{key}-fold", "fold", one.get("folds") or []))
    title = f"{one['query']} finds {one['gallery']}"
    shown = figure(key, title, panels, _caption(one), _scores_table(one))
    return joined(shown, parts, _confusion(f"{key}-confusion", one.get("confusion")))


def _estimate(name: str, score: Mapping[str, Any]) -> Estimate:
    numbers = [score.get(part) for part in ("value", "low", "high", "chance")]
    return Estimate(name, *(math.nan if part is None else float(part) for part in numbers))


def _tops(one: Document) -> list[Estimate]:
    return [_estimate(shown, one[name]) for name, shown in MEASURES.items() if name in one]


def _ways(one: Document) -> list[Estimate]:
    return [_estimate(f"{k}-way", score) for k, score in (one.get("kway") or {}).items()]


def _panel(key: str, title: str, rows: Sequence[Estimate]) -> Markup:
    axis = Axis("value (%)", 0.0, 1.0, 100)
    return estimates(
        key, title, "Each row is a measure: a dot with its 95 % interval, and a dashed mark at "
        "chance.", rows, axis, percent,
    )  # fmt: skip


def _caption(one: Document) -> Markup:
    drawn = "subjects" if one.get("by") == "subject" else "stimuli"
    asked = f"{counted(int(one['n_query']), 'query', 'queries')} {_of_what(one)}"
    median = one.get("median_rank") or {}
    lines: list[Content] = [
        f"{asked}, each against {one['n_gallery']:,} stimuli, of which the {one.get('target')} is "
        "to be found. Dots are values, whiskers 95 % intervals from a bootstrap over "
        f"{drawn}, dashed marks chance: an interval that covers its mark is no evidence. "
        f"Median rank {_rank(median.get('value'))} ({_rank(median.get('low'))} to "
        f"{_rank(median.get('high'))}; chance {_rank(median.get('chance'))}). Permutation test of "
        f"the mean reciprocal rank: {_p_told(one.get('p_value'))}."
    ]
    warnings = [element("li", data(warning, 600)) for warning in one.get("warnings") or ()]
    warnings += [element("li", data(note, 600)) for note in one.get("notes") or ()]
    if warnings:
        lines.append(element("ul", warnings, class_="warnings"))
    return joined(lines)


def _of_what(one: Document) -> str:
    """The split or the folds whose trials asked."""
    folds = one.get("folds")
    return f"over {counted(len(folds), 'fold')}" if folds else f"of the split {one.get('split')}"


def _rank(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}"


def _scores_table(one: Document) -> DataTable:
    rows = [[row.name, *(_share(part) for part in (row.value, row.low, row.high, row.chance))]
            for row in [*_tops(one), *_ways(one)]]  # fmt: skip
    return DataTable("Measures", ["Measure", "Value", "From", "To", "Chance"], rows)


def _parts(key: str, what: str, parts: Sequence[Document]) -> Markup | None:
    """``top-1`` of each subject, concept or fold."""
    if len(parts) < 2:
        return None
    measure = "top5" if all("top5" in one and len(parts) > 20 for one in parts) else "top1"
    ordered = list(parts)
    if what == "concept":
        ordered.sort(key=lambda one: (-(one[measure]["value"] or 0.0), str(one[what])))
    shown = [_estimate(str(one[what]), one[measure]) for one in _ends(ordered, MAX_PARTS)]
    in_table = _ends(ordered, MAX_LISTED)
    axis = Axis("share of queries (%)", 0.0, 1.0, 100)
    drawn = estimates(f"{key}-dots", "", f"A row for each {what}.", shown, axis, percent)
    head = [what.capitalize(), "Queries", "Value", "From", "To", "Chance"]
    table = DataTable(
        f"{MEASURES[measure]} by {what}", head,
        [[data(str(one[what])), f"{one['n']:,}",
          *(_share(one[measure].get(part)) for part in ("value", "low", "high", "chance"))]
         for one in in_table], left_out=len(ordered) - len(in_table),
    )  # fmt: skip
    ends = "best and the worst" if what == "concept" else "first and the last"
    some = f" The {ends} {MAX_PARTS // 2} are drawn." if len(shown) < len(ordered) else ""
    if table.left_out:
        some += f" The table has the {ends} {MAX_LISTED // 2}."
    caption = (
        f"{MEASURES[measure].capitalize()} of each {what} with 95 % intervals and chance.{some} "
        "Among many rows a few leave chance by luck."
    )
    return figure(key, f"By {what}", [drawn], caption, table)


def _ends(parts: Sequence[Document], most: int) -> Sequence[Document]:
    """The parts; where there are more, as many of the first as of the last."""
    return parts if len(parts) <= most else [*parts[: most // 2], *parts[-(most // 2) :]]


def _confusion(key: str, found: Mapping[str, Any] | None) -> Markup | None:
    """How often each concept was found for each, as a table whose cells are shaded."""
    if not found or not 2 <= len(found["concepts"]) <= MAX_CONFUSED:
        return None
    names, counts = found["concepts"], found["counts"]
    head = element("tr", element("th", "shown \\ found", scope="col"),
                   [element("th", data(name, 14), scope="col") for name in names])  # fmt: skip
    rows = []
    for name, row in zip(names, counts, strict=True):
        total = sum(row) or 1
        cells = [element("td", f"{one:,}", style=f"--share:{one / total:.2f}") for one in row]
        rows.append(element("tr", element("th", data(name, 14), scope="row"), cells))
    caption = element("caption", "Queries by the concept shown and the one found", class_="unseen")
    table = element("table", caption, element("thead", head), element("tbody", rows), class_="heat")
    box = element("div", table, class_="scroll", role="region", tabindex="0",
                  aria_label="Confusion of concepts")  # fmt: skip
    told = (
        "Queries by the concept that was shown (rows) and the one at the first place (columns); "
        "the stronger the shade, the larger the share of its row. A shaded diagonal is decoding, a "
        "shaded column a stimulus that is found for everything."
    )
    return figure(key, "Confusion", [box], told, None, class_="whole")
