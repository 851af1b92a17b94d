"""What the audit found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from eegstore.report.markup import Markup, data, element, joined
from eegstore.report.material import Material, Omitted
from eegstore.report.scales import counted

SIGNS: Final = {"error": "✕", "warning": "!", "note": "i"}
MAX_EXAMPLES: Final = 5


def audited(material: Material) -> Markup | Omitted:
    """Findings by severity, each with examples and what to do."""
    if material.findings is None:
        return Omitted("the audit was not made.")
    if not material.findings:
        return element("p", "The audit found nothing that makes a score say more than it should.")
    ordered = sorted(material.findings, key=lambda one: list(SIGNS).index(one.severity))
    counts = Counter(one.severity for one in ordered)
    told = ", ".join(counted(counts[one], one) for one in SIGNS if counts[one])
    intro = element(
        "p", f"{told}. An error means that a score over these splits is not what it is taken for, "
        "a warning that it may not be, a note is to be said beside it.",
    )  # fmt: skip
    return joined(intro, element("ul", [_finding(one) for one in ordered], class_="findings"))


def _finding(one: Any) -> Markup:
    sign = element("span", SIGNS[one.severity], aria_hidden="true", class_="sign")
    head = element("h3", sign, f"{one.severity.capitalize()}: ", data(one.check, 80),
                   element("small", f" {one.count:,}"))  # fmt: skip
    return element(
        "li", head, element("p", data(one.what, 600)), _examples(one.examples),
        element("p", element("strong", "What to do: "), data(one.advice, 600)),
        class_=one.severity,
    )  # fmt: skip


def _examples(examples: Sequence[str]) -> Markup | None:
    if not examples:
        return None
    shown = [[", " if number else "", data(one, 80)]
             for number, one in enumerate(examples[:MAX_EXAMPLES])]  # fmt: skip
    return element("p", "For example: ", shown, class_="small-print")
