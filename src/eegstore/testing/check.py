"""A check, what comes of it, and the list of a kind's checks."""

from __future__ import annotations

import importlib
import inspect
import sys
import unittest
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from eegstore.testing.subject import Subject

KINDS: Final = ("source", "stimuli", "extractor", "pairing", "split", "exporter", "executor")
# The parameters of each kind's call, where a class is offered by no hook.
PARAMETERS: Final = {
    ("trials", "stimuli", "columns"): "pairing",
    ("trials", "stimulus", "stimuli"): "split",
    ("store", "out"): "exporter",
    ("n_workers",): "executor",
}
MAX_TEXT: Final = 300


class Violation(AssertionError):
    """A plugin breaks a promise: what was done, what came, and what was expected."""


class NotApplicable(unittest.SkipTest):
    """A check has nothing to look at in this plugin, or could not be tried; says why."""


@dataclass(frozen=True)
class Check:
    """One promise of a kind's plugins.

    Parameters
    ----------
    kind
        The kind of plugin.
    name
        A kebab-case name, unique within the kind.
    what
        The promise, in one sentence.
    body
        Looks at a plugin, and raises where the promise is broken.
    alone
        Whether it can be looked at where the plugin's rehearsal went wrong.
    """

    kind: str
    name: str
    what: str
    body: Callable[[Subject], None] = field(repr=False, compare=False)
    alone: bool = field(default=False, repr=False, compare=False)

    def __call__(self, plugin: Any) -> None:
        """Look at a plugin, an instance with its options set.

        Raises
        ------
        Violation
            Where the promise is broken.
        NotApplicable
            Where there is nothing to look at, or another broken promise stands in the way.
        """
        from eegstore.testing.subject import subject_of

        subject = subject_of(plugin, self.kind)
        with warnings.catch_warnings(action="ignore"):
            try:
                self._refuse_trouble(subject)
                self.body(subject)
            except (Violation, NotApplicable, KeyboardInterrupt):
                raise
            except BaseException as error:
                raise Violation(f"{self.name}: the plugin raised {told(error)}") from error

    def _refuse_trouble(self, subject: Subject) -> None:
        """Raise where the rehearsal broke this promise, or does not let it be tried."""
        trouble = None if self.alone else subject.rehearsal.trouble
        if trouble is None:
            return
        if trouble.check == self.name:
            raise Violation(trouble.reason)
        if trouble.fatal:
            why = f"({trouble.check}) " if trouble.check else ""
            raise NotApplicable(f"not tried: {why}{trouble.reason}")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Outcome:
    """What came of a check: ``passed`` is None where it does not apply, and ``detail`` says why."""

    check: Check
    passed: bool | None
    detail: str = ""


def told(error: BaseException) -> str:
    """The class of an error and what it says, on one line."""
    try:
        text = " ".join(str(error).split())
    except BaseException:
        text = "(its text cannot be had)"
    text = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
    text = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} …"
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def checks(kind: str) -> tuple[Check, ...]:
    """Every check of a kind, in the order in which they tell most.

    Raises
    ------
    ValueError
        Where there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"no kind is called {kind!r:.80}, expected one of {', '.join(KINDS)}")
    found: tuple[Check, ...] = importlib.import_module(f"eegstore.testing.{kind}").CHECKS
    return found


def run(plugin: Any, kind: str | None = None) -> list[Outcome]:
    """Try every check of a plugin's kind; whatever the plugin does, it is an outcome.

    Parameters
    ----------
    plugin
        An instance of the plugin's class, with its options set.
    kind
        Its kind, where it does not follow from the class.
    """
    return [_outcome(check, plugin) for check in checks(kind or kind_of(plugin))]


def _outcome(check: Check, plugin: Any) -> Outcome:
    try:
        check(plugin)
    except NotApplicable as reason:
        return Outcome(check, None, str(reason))
    except Violation as broken:
        return Outcome(check, False, str(broken))
    return Outcome(check, True)


def conforms(plugin: Any, kind: str | None = None) -> None:
    """Raise one Violation that names every promise that a plugin breaks."""
    failed = [one for one in run(plugin, kind) if one.passed is False]
    if failed:
        lines = [f"{one.check}: {one.detail}" for one in failed]
        raise Violation("\n".join([f"{type(plugin).__name__} breaks {len(failed)}:", *lines]))


def kind_of(plugin: Any) -> str:
    """The kind of a plugin: of the hook that offers it, else by what it can do.

    Raises
    ------
    ValueError
        Where it follows from neither.
    """
    cls = type(plugin)
    offered = next(_offering(cls), None)
    if offered is not None:
        return offered
    if hasattr(cls, "describe"):
        return "extractor"
    if hasattr(cls, "scan"):
        shown = str(inspect.signature(cls.scan).return_annotation)
        if "Stimuli" in shown or "Trials" in shown:
            return "stimuli" if "Stimuli" in shown else "source"
    if "__call__" in {name for base in cls.__mro__ for name in vars(base)}:
        names = tuple(inspect.signature(plugin).parameters)
        if names in PARAMETERS:
            return PARAMETERS[names]
    raise ValueError(f"the kind of {cls.__name__} does not follow from its class; give kind=…")


def _offering(cls: type[Any]) -> Iterator[str]:
    """The kinds of the hooks in the class' own module that offer it."""
    module = sys.modules.get(cls.__module__)
    for kind in KINDS:
        hook = getattr(module, hook_of(kind), None)
        if callable(hook):
            try:
                offered = cls in hook()
            except Exception:
                continue
            if offered:
                yield kind


def hook_of(kind: str) -> str:
    """The hook through which a kind's plugins are offered."""
    return "eegstore_stimuli" if kind == "stimuli" else f"eegstore_{kind}s"
