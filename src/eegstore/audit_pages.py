"""What a person reads of an audit: the worst first, and what was not looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding

from eegstore.audit import CHECKS, Audit
from eegstore.findings import SHOWN, Finding, Severity
from eegstore.render import as_text, titled
from eegstore.store import Store
from eegstore.wording import plural

STYLES: Final[dict[Severity, str]] = {"error": "bold red", "warning": "bold yellow", "note": "bold"}


def page(store: Store, found: Audit) -> RenderableType:
    """The findings by severity, the checks that could not be made, and the verdict."""
    splits = ", ".join(f"{name} {count:,}" for name, count in store.splits.items())
    lines = list(titled(str(store.path), splits, store.notice))
    for severity, style in STYLES.items():
        of_severity = [one for one in found.findings if one.severity == severity]
        if of_severity:
            lines.append(as_text(plural(len(of_severity), severity), style=style))
            for one in of_severity:
                lines += _finding(one)
            lines.append("")
    if found.not_checked:
        lines.append(as_text("not checked", style="bold"))
        lines += [_indented(f"{name}: {why}", 2) for name, why in found.not_checked.items()]
        lines.append("")
    return Group(*lines, as_text(verdict(found)))


def _finding(one: Finding) -> Iterator[RenderableType]:
    yield as_text(f"  {one.check}", style="bold")
    yield _indented(f"{one.what}.", 4)
    for example in one.examples:
        yield _indented(f"· {example}", 6)
    if one.count > len(one.examples) == SHOWN:
        yield _indented("· …", 6)
    yield _indented(f"→ {one.advice}", 4)


def _indented(text: str, width: int) -> RenderableType:
    return Padding(as_text(text), (0, 0, 0, width), expand=False)


def verdict(found: Audit) -> str:
    """The audit in a line: what there is, or what was looked for and is not there."""
    counts = [
        plural(found.count(severity), severity) for severity in STYLES if found.count(severity)
    ]
    if not found.is_clean:
        return ", ".join(counts)
    ran = [one for one in CHECKS if one.name not in found.not_checked]
    if not ran:
        return "nothing could be checked"
    notes = f" ({counts[0]})" if counts else ""
    rest = f"; {len(found.not_checked)} of {len(CHECKS)} checks could not be made"
    looked_for = ", ".join(one.looks_for for one in ran)
    return (
        f"no leaks found{notes}; what was looked for: {looked_for}"
        f"{rest if found.not_checked else ''}"
    )
