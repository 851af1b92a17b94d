"""Where a plugin's own code failed, and what is usually behind it."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Container
from pathlib import PurePath
from types import FrameType
from typing import Final

from eegstore.wording import described

# Class of the error, what its text has, and what to do about it.
HINTS: Final[tuple[tuple[type[BaseException], str, str], ...]] = (
    (ValueError, "read-only", "what a plugin is given is read-only: copy it first"),
    (
        dataclasses.FrozenInstanceError,
        "",
        "a plugin is frozen: keep what is no option by object.__setattr__(self, 'name', value)",
    ),
)
LOOK_UP: Final = ("describe", "__call__")


def traced(
    error: BaseException, module: str, rows: str = "", reads: Container[str] | None = None
) -> str:
    """What an error says, where in a plugin's package it was raised, and what to do.

    Parameters
    ----------
    error
        What the plugin raised.
    module
        Name of its module.
    rows
        The rows that it was called for, as ``" of trials 0 to 31"``.
    reads
        The columns that it was given, where it looks them up by name.
    """
    frames = [
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if _module_of(frame).partition(".")[0] == module.partition(".")[0]
        and not frame.f_code.co_filename.startswith("<")  # what a dataclass has generated
    ]
    called = "" if not frames else frames[0][0].f_code.co_name
    doing = f"{called}{rows}, " if called and not called.startswith("<") else ""
    place = f" ({doing}{_short(*frames[-1])})" if frames else ""
    hint = _hint(error, reads if called in LOOK_UP else None)
    return f"{described(error)}{place}{'; ' if hint else ''}{hint}"


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _short(frame: FrameType, line: int) -> str:
    """File and line; of the file's path what its package has."""
    file = PurePath(frame.f_code.co_filename)
    depth = _module_of(frame).count(".") + 1 + (file.name == "__init__.py")
    return f"{PurePath(*file.parts[-depth:])}:{line}"


def _hint(error: BaseException, reads: Container[str] | None) -> str:
    """What to do about an error; empty where that is not known."""
    if isinstance(error, KeyError) and reads is not None:
        names = [one for one in error.args if isinstance(one, str) and one not in reads]
        return f"{names[0]!r:.80} is not in reads" if names else ""
    said = described(error)
    return next((hint for cls, text, hint in HINTS if isinstance(error, cls) and text in said), "")
