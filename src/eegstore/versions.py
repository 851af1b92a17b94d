"""The versions of the plugin API: which of them load, and what is deprecated in which."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from eegstore import hookspecs
from eegstore.errors import PluginError
from eegstore.hookspecs import EEGSTORE_PLUGIN_API, HOOK_OF_KIND

FIRST_API: Final = 1


@dataclass(frozen=True)
class Deprecated:
    """A hook or a member under the name that it had until an API version gave it another.

    Parameters
    ----------
    kind
        The plugins that it concerns.
    name
        The old name, of a hook or of a member of the plugin's class.
    instead
        The new name. What goes by it has the meaning that the old one had.
    since
        The API version that has the new name; the next has lost the old one.
    """

    kind: str
    name: str
    instead: str
    since: int

    @property
    def is_hook(self) -> bool:
        """Whether it is a hook, and no member of a class."""
        return self.instead in HOOK_OF_KIND.values()


# What is here works under both names. A row is deleted when ``since`` is no longer the current API.
DEPRECATED: Final[tuple[Deprecated, ...]] = ()


def targeted(module: ModuleType) -> int:
    """The API version that a plugin's module declares; the first where it declares none.

    The current version and the one before it are supported.

    Raises
    ------
    PluginError
        Where it is any other.
    """
    declared = getattr(module, "EEGSTORE_PLUGIN_API", FIRST_API)
    oldest = max(FIRST_API, EEGSTORE_PLUGIN_API - 1)
    if type(declared) is int and oldest <= declared <= EEGSTORE_PLUGIN_API:
        return declared
    ours = " and ".join(str(one) for one in range(oldest, EEGSTORE_PLUGIN_API + 1))
    raise PluginError(f"targets plugin API {declared!r:.20}, this eegstore has {ours}")


def old_hooks() -> list[Deprecated]:
    """The deprecated hooks."""
    return [one for one in DEPRECATED if one.is_hook]


def hooks() -> type[Any]:
    """All hooks as pluggy takes them; a deprecated one has the signature of that in its place."""
    names = {hook: hook for hook in HOOK_OF_KIND.values()}
    names |= {one.name: one.instead for one in old_hooks()}
    return type("Hooks", (), {name: getattr(hookspecs, hook) for name, hook in names.items()})


def renewed(kind: str, cls: Any) -> tuple[Any, list[Deprecated]]:
    """A class whose deprecated members go by their new names too, and which those are.

    The third party's own class stays as it is. One that has both names serves older versions of
    eegstore as well, and is told nothing.
    """
    if not isinstance(cls, type):
        return cls, []
    members = {member for base in cls.__mro__ for member in vars(base)}
    used = [
        one for one in DEPRECATED
        if one.kind == kind and not one.is_hook
        and one.name in members and one.instead not in members
    ]  # fmt: skip
    if not used:
        return cls, []
    origin = {"__doc__": cls.__doc__, "__module__": cls.__module__}
    names = {one.instead: getattr(cls, one.name) for one in used}
    return type(cls.__name__, (cls,), {**origin, **names}), used


def warn(name: str, distribution: str, used: Iterable[Deprecated]) -> tuple[str, ...]:
    """Warn of what a plugin uses, a line each; the lines."""
    lines = tuple(
        f"plugin {name!r} of {distribution}: {'the hook ' if one.is_hook else ''}{one.name} is "
        f"deprecated since plugin API {one.since} and gone with API {one.since + 1}; "
        f"use {one.instead}"
        for one in used
    )
    for line in lines:
        warnings.warn(line, DeprecationWarning, stacklevel=2)
    return lines
