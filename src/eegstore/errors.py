"""What can go wrong, and the exit code that the command line gives it."""

from __future__ import annotations

from typing import ClassVar, Final

MAX_TEXT: Final = 400
MAX_DESCRIBED: Final = 190


class EegStoreError(Exception):
    """An expected failure: one or two lines that say where, what came and what to do."""

    exit_code: ClassVar[int] = 1


class UsageError(EegStoreError):
    """The command or the call itself is wrong."""

    exit_code = 2


class InputError(EegStoreError):
    """Input data is rejected: it is damaged, missing, or not what was declared."""

    exit_code = 3


class RecipeError(InputError):
    """A recipe is rejected: not TOML, an unknown key, a wrong type, an option out of range."""


class PluginError(EegStoreError):
    """A plugin failed: it cannot be loaded, raised, or broke its promise."""

    exit_code = 4


class DamageError(EegStoreError):
    """A store is damaged: a file is missing, truncated, or not the one that was written."""

    exit_code = 5


class LockedError(EegStoreError):
    """Another writer holds the store."""

    exit_code = 6


class IncompleteError(EegStoreError):
    """A build stopped early, kept what it had done, and can be run again."""

    exit_code = 75


class InterruptedBuildError(EegStoreError):
    """A person or the system stopped the build; running it again resumes it."""

    exit_code = 130


def text_of(error: BaseException, limit: int = MAX_TEXT) -> str:
    """What an error says, on one line that a person can read, whoever wrote its class."""
    try:
        text = " ".join(str(error).split())
    except BaseException:
        text = "(its text cannot be had)"
    return text if len(text) <= limit else f"{text[:limit]} …"


def described(error: BaseException) -> str:
    """The class of an error and what it says, on one line."""
    name = type(error).__name__
    return f"{name}: {text_of(error, MAX_DESCRIBED - len(name))}".removesuffix(": ")
