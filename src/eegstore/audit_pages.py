"""What a person reads of an audit: the worst first, and what was not looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from eegstore.audit import Audit, verdict
from eegstore.findings import SHOWN, Finding, Severity
from eegstore.render import as_text, titled
from eegstore.store import Store
from eegstore.wording import plural

STYLES: Final[dict[Severity, str]] = {"error": "bold red", "warning": "bold yellow", "note": "bold"}


def page(store: Store, found: Audit) -> RenderableType:
    """The findings by severity, the checks that could not be made, and the verdict."""
    splits = ", ".join(f"{name} {count:,}" for name, count in store.splits.items())
    folds = f"; {plural(len(store.folds), 'fold')}" if store.folds else ""
    lines = list(titled(str(store.path), f"{splits}{folds}", store.notice))
    for severity, style in STYLES.items():
        of_severity = [one for one in found.findings if one.severity == severity]
        if of_severity:
            lines.append(as_text(plural(len(of_severity), severity), style=style))
            for one in of_severity:
                lines += _finding(one)
            lines.append("")
    if found.not_checked:
        lines.append(as_text("not checked", style="bold"))
        lines += [_Indented(f"{name}: {why}", 2) for name, why in found.not_checked.items()]
        lines.append("")
    return Group(*lines, as_text(verdict(found)))


def _finding(one: Finding) -> Iterator[RenderableType]:
    yield as_text(f"  {one.check}", style="bold")
    yield _Indented(f"{one.what}.", 4)
    for example in one.examples:
        yield _Indented(f"· {example}", 6)
    if one.count > len(one.examples) == SHOWN:
        yield _Indented("· …", 6)
    yield _Indented(f"→ {one.advice}", 4)


@dataclass(frozen=True)
class _Indented:
    """Text that is wrapped at the terminal's width, all its lines indented."""

    text: str
    width: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in as_text(self.text).wrap(console, options.max_width - self.width):
            line.rstrip()
            yield Text(" " * self.width) + line
