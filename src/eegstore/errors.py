"""What can go wrong, and the exit code that the command line gives it."""

from __future__ import annotations

from typing import ClassVar


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


class MissingPluginError(RecipeError):
    """A recipe names a plugin that no installed distribution offers."""

    def __init__(self, message: str, kind: str = "", name: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.name = name


class PluginError(EegStoreError):
    """A plugin failed: it cannot be loaded, raised, or broke its promise."""

    exit_code = 4


class HiddenPluginError(PluginError):
    """A recipe names a plugin that none has which could be loaded; others could not."""

    def __init__(self, message: str, kind: str = "", name: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.name = name


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
