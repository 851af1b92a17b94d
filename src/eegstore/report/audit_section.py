"""What the audit found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from eegstore.findings import Finding, Severity
from eegstore.report.markup import Markup, data, element, joined
from eegstore.report.material import Material, Omitted
from eegstore.report.scales import counted

SIGNS: Final[Mapping[Severity, str]] = {"error": "✕", "warning": "!", "note": "i"}
MAX_EXAMPLES: Final = 5


def audited(material: Material) -> Markup | Omitted:
    """Findings by severity, each with examples and what to do."""
    if material.audit is None:
        return Omitted("the store was not audited.")
    left_out = _not_checked(material.audit.not_checked)
    if not material.findings:
        told = "The audit found nothing that makes a score say more than it should."
        return joined(element("p", told), left_out)
    ordered = sorted(material.findings, key=lambda one: list(SIGNS).index(one.severity))
    counts = Counter(one.severity for one in ordered)
    told = ", ".join(counted(counts[one], one) for one in SIGNS if counts[one])
    intro = element(
        "p", f"{told}. An error means that a score over these splits is not what it is taken for, "
        "a warning that it may not be, a note is to be said beside it.",
    )  # fmt: skip
    found = element("ul", [_finding(one) for one in ordered], class_="findings")
    return joined(intro, found, left_out)


def _not_checked(reasons: Mapping[str, str]) -> Markup | None:
    """Checks that could not be made, each with its reason."""
    if not reasons:
        return None
    entries = [element("li", f"{check}: ", data(reason, 300)) for check, reason in reasons.items()]
    told = f"{counted(len(reasons), 'check')} could not be made"
    return element("details", element("summary", told), element("ul", entries))


def _finding(one: Finding) -> Markup:
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
    shown = [["; " if number else "", data(one, 80)]
             for number, one in enumerate(examples[:MAX_EXAMPLES])]  # fmt: skip
    return element("p", "For example: ", shown, class_="small-print")
