"""Names and paths of others: one Unicode form, their order, and the ends that paths share."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Key = list[str | int]


def composed(text: str) -> str:
    """The text in one Unicode form: file names that come from macOS are in another than events."""
    return unicodedata.normalize("NFC", text)


def as_path(text: str) -> str:
    """The text in one Unicode form, with the separators of a path."""
    return composed(text).replace("\\", "/").removeprefix("./")


def natural_key(name: str) -> Key:
    """Sorts 9 before 10: digits are numbers."""
    parts: Key = list(re.split("([0-9]+)", name))
    parts[1::2] = map(int, parts[1::2])
    return parts


def in_natural_order(names: Iterable[str], key: Callable[[str], Any] = natural_key) -> list[str]:
    """In natural order; names that differ in leading zeros only, in string order."""
    return sorted(sorted(names), key=key)


def ends(path: str) -> Iterator[str]:
    """The path, then without its first part, without its first two, and so on."""
    yield path
    while "/" in path:
        path = path.split("/", 1)[1]
        yield path


def by_end(paths: Iterable[str]) -> dict[str, list[int]]:
    """Which of the paths, by their number, have each end; the whole path is one too."""
    found: dict[str, list[int]] = {}
    for number, path in enumerate(paths):
        for end in ends(path):
            found.setdefault(end, []).append(number)
    return found
