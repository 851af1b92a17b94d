"""What an audit says: a finding, and why a check could not be made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Final, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")
SHOWN: Final = 5


class NotCheckedError(Exception):
    """A check cannot be made of this store; says what it lacks."""


@dataclass(frozen=True)
class Finding:
    """Something that makes a score say more than it should, or may.

    Parameters
    ----------
    check
        Name of the check.
    severity
        ``"error"``: a score over these splits is not what it is taken for. ``"warning"``: it may
        not be. ``"note"``: to be said beside the score.
    count
        How many trials, stimuli or columns it concerns; ``what`` says which.
    what
        What was found, in a sentence.
    examples
        A few of them: rows of the table, image paths.
    advice
        What mends it, in a sentence.
    """

    check: str
    severity: Severity
    count: int
    what: str
    examples: list[str]
    advice: str

    def document(self) -> dict[str, Any]:
        """The finding as JSON values."""
        return asdict(self)


def few(examples: Iterable[str]) -> list[str]:
    """The first examples, as many as a finding shows."""
    return list(islice(examples, SHOWN))
