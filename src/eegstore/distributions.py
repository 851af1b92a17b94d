"""What is installed: the entry points of each distribution, and those whose own are malformed."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
from importlib.metadata import Distribution, EntryPoint, EntryPoints
from typing import Any, Final, NamedTuple

from eegstore.wording import described

COMMAND: Final = "EEGSTORE_COMMAND"
_own: Any = Distribution.__dict__["entry_points"]
_malformed: list[Malformed] = []


class Malformed(NamedTuple):
    """A distribution whose entry points cannot be read, and why."""

    name: str
    version: str
    reason: str


def entry_points(group: str) -> list[EntryPoint]:
    """The entry points of a group; those of a malformed distribution are left out."""
    _malformed.clear()
    try:
        return sorted(importlib.metadata.entry_points(group=group))
    except Exception:
        found: dict[str, EntryPoints] = {}
        for one in importlib.metadata.distributions():
            name = normalised(_facts(one)[0])
            if name not in found:  # of two with one name the first on the path counts
                found[name] = _readable(one)
        return sorted(point for points in found.values() for point in points.select(group=group))


def malformed() -> list[Malformed]:
    """The distributions that ``entry_points`` left out when it was last asked."""
    return list(dict.fromkeys(_malformed))


def tolerate() -> None:
    """Let libraries pass over a malformed distribution too, in a command and in what it starts.

    When pydantic, zarr and numcodecs are imported they read all entry points there are. A process
    that is not ours keeps its ``importlib.metadata`` as it is.
    """
    os.environ[COMMAND] = "1"
    Distribution.entry_points = property(_readable)  # type: ignore[assignment, method-assign]


def _readable(distribution: Distribution) -> EntryPoints:
    try:
        found: EntryPoints = _own.__get__(distribution)
    except Exception as error:
        reason = f"its entry_points.txt is malformed ({described(error)}); install it again"
        _malformed.append(Malformed(*_facts(distribution), reason))
        return EntryPoints()
    return found


def _facts(distribution: Distribution) -> tuple[str, str]:
    """Name and version, as far as its own files tell."""
    facts: Any = {}
    with contextlib.suppress(Exception):
        facts = distribution.metadata or {}
    name, version = (str(facts.get(one) or "") for one in ("Name", "Version"))
    return name or str(getattr(distribution, "_path", "?")), version


def wanted(distribution: str) -> bool:
    """Whether the variable ``EEGSTORE_PLUGINS`` lets a third party's distribution in."""
    chosen = os.environ.get("EEGSTORE_PLUGINS")
    names = {normalised(name) for name in (chosen or "").split(",")}
    return chosen is None or normalised(distribution) in names


def normalised(distribution: str) -> str:
    """A distribution's name as installers compare it.

    See https://peps.python.org/pep-0503/#normalized-names.
    """
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()
