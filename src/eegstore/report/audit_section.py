"""What the audit found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from eegstore.audit import Audit, unmade, verdict
from eegstore.findings import Finding, Severity
from eegstore.report.markup import Markup, data, element, joined
from eegstore.report.material import Material, Omitted

SIGNS: Final[Mapping[Severity, str]] = {"error": "✕", "warning": "!", "note": "i"}
MAX_EXAMPLES: Final = 5
MEANING: Final = (
    " An error means that a score over these splits is not what it is taken for, a warning that it "
    "may not be, a note is to be said beside it."
)


def audited(material: Material) -> Markup | Omitted:
    """The verdict, the findings by severity with examples and what to do, and what was not made."""
    if material.audit is None:
        return Omitted("the store was not audited.")
    said = verdict(material.audit)
    intro = element("p", f"{said[0].upper()}{said[1:]}.", MEANING if material.findings else "")
    ordered = sorted(material.findings, key=lambda one: list(SIGNS).index(one.severity))
    entries = [_finding(one) for one in ordered]
    found = element("ul", entries, class_="findings") if entries else None
    return joined(intro, found, _not_checked(material.audit))


def _not_checked(audit: Audit) -> Markup | None:
    """How many checks could not be made, which a page in print says too, and why of each."""
    if not audit.not_checked:
        return None
    told = f"{unmade(audit)}: what they look for may be there all the same."
    entries = [
        element("li", f"{check}: ", data(reason, 300))
        for check, reason in audit.not_checked.items()
    ]
    why = element("details", element("summary", "Why each could not"), element("ul", entries))
    return joined(element("p", told), why)


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
