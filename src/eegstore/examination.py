"""Examines the classes that distributions offer: what the host could not use is named."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Mapping
from typing import Any, Final

from eegstore import protocols
from eegstore.hookspecs import HOOK_OF_KIND
from eegstore.tables import TABLES

PLUGIN_NAME: Final = re.compile(r"(?=.{1,64}$)[a-z][a-z0-9]*(-[a-z0-9]+)*")
Calls = Mapping[str, tuple[str, ...]]

# What the host calls, and what it hands over: by position, so that other names are as good.
CALLS: Final[Mapping[str, Calls]] = {
    "source": {"scan": (), "read": ("start", "stop")},
    "stimuli": {"scan": (), "read": ("start", "stop")},
    "extractor": {"describe": ("inputs",), "__call__": ("block",)},
    "pairing": {"__call__": ("trials", "stimuli", "columns")},
    "split": {"__call__": ("trials", "stimulus", "stimuli")},
    "exporter": {"__call__": ("store", "out")},
    "executor": {"__call__": ("n_workers",)},
}
ANY_MAY_HAVE: Final[Calls] = {"fingerprint": ()}
MAY_HAVE: Final[Mapping[str, Calls]] = {
    "source": {"state": (), "restore": ("state",)},
    "stimuli": {"state": (), "restore": ("state",)},
    "extractor": {"prepare": (), "fit": ("blocks",), "restore": ("state",)},
}
CLASS_VARIABLES: Final = {"extractor": ("table", "reads")}


def problem(kind: str, cls: Any) -> str:
    """Why a class is no plugin of a kind, or an empty string."""
    if not isinstance(cls, type):
        return f"{HOOK_OF_KIND[kind]} returned {cls!r:.40}, expected a class"
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not PLUGIN_NAME.fullmatch(name):
        return f"{cls.__name__}.name is {name!r}, expected a kebab-case name"
    if not isinstance(getattr(cls, "version", None), str):
        return f"{cls.__name__}.version is missing, expected a string"
    if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return f"{cls.__name__} is not a frozen dataclass"
    members = _members(cls)
    wanted = (*CLASS_VARIABLES.get(kind, ()), *CALLS[kind])
    missing = [member for member in wanted if member not in members]
    if missing:
        return f"{cls.__name__} lacks {', '.join(missing)}"
    return _reads_problem(kind, cls) or _fit_problem(kind, members, cls) or _call_problem(kind, cls)


def _members(cls: type[Any]) -> set[str]:
    """What a class and its bases define, but for the protocols, whose methods do nothing.

    ``hasattr`` would find those, and the ``__call__`` of ``type`` itself in any class.
    """
    bases = [base for base in cls.__mro__ if base.__module__ != protocols.__name__]
    return {member for base in bases for member in vars(base)}


def _reads_problem(kind: str, cls: Any) -> str:
    """Why a plugin cannot be given what it reads, or an empty string."""
    if kind == "extractor" and cls.table not in TABLES:
        return f"{cls.__name__}.table is {cls.table!r}, expected 'trials' or 'stimuli'"
    reads = getattr(cls, "reads", ())
    if isinstance(reads, property | functools.cached_property):  # it follows from the options
        return ""
    none = kind == "extractor" and not reads
    if none or not isinstance(reads, tuple) or any(not isinstance(one, str) for one in reads):
        return f"{cls.__name__}.reads is {reads!r:.40}, expected a tuple of column names"
    return ""


def _fit_problem(kind: str, members: set[str], cls: type[Any]) -> str:
    """Why what an extractor learns would be lost, or an empty string."""
    has, lacks = ("fit", "restore") if "fit" in members else ("restore", "fit")
    if kind == "extractor" and has in members and lacks not in members:
        return f"{cls.__name__} has {has} but lacks {lacks}; it needs both, or neither"
    return ""


def _call_problem(kind: str, cls: type[Any]) -> str:
    """Which method cannot be called as the host calls it, or an empty string."""
    members, optional = _members(cls), MAY_HAVE.get(kind, {})
    # One alone is no pair of the host's, but a name like any other.
    paired = kind == "extractor" or set(optional) <= members
    for name, given in {**CALLS[kind], **ANY_MAY_HAVE, **(optional if paired else {})}.items():
        if name in members and not _takes(inspect.getattr_static(cls, name), given):
            shown = _shown(inspect.getattr_static(cls, name))
            return f"{cls.__name__}.{name}{shown} cannot be called with ({', '.join(given)})"
    return ""


def _takes(member: Any, given: tuple[str, ...]) -> bool:
    """Whether a method can be called with as many arguments; what cannot be known is believed."""
    if isinstance(member, staticmethod | classmethod):
        alone = isinstance(member, staticmethod)
        return _takes_all(member.__func__, given if alone else ("cls", *given))
    if inspect.isfunction(member):
        return _takes_all(member, ("self", *given))
    # A descriptor, such as a property, may give a function.
    return callable(member) or hasattr(type(member), "__get__")


def _takes_all(function: Any, given: tuple[str, ...]) -> bool:
    try:
        inspect.signature(function).bind(*given)
    except TypeError:
        return False
    except ValueError:  # compiled, and it does not tell
        return True
    return True


def _shown(member: Any) -> str:
    """The parameters of a method, without their types."""
    function = getattr(member, "__func__", member)
    if not callable(function):
        return f", of type {type(member).__name__},"
    signature = inspect.signature(function)
    bare = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))
