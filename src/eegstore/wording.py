"""Text of others, as a person may be shown it: on one line, not endless, driving no terminal."""

from __future__ import annotations

from typing import Final

MAX_TEXT: Final = 400
MAX_DESCRIBED: Final = 160


def printable(text: str) -> str:
    """The text on one line, what is not printable escaped."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def text_of(error: BaseException, limit: int = MAX_TEXT) -> str:
    """What an error says, whoever wrote its class."""
    try:
        text = " ".join(str(error).split())
    except BaseException:
        text = "(its text cannot be had)"
    return text if len(text) <= limit else f"{text[:limit]} …"


def described(error: BaseException) -> str:
    """The class of an error and what it says."""
    name = type(error).__name__
    return f"{name}: {text_of(error, MAX_DESCRIBED - len(name))}".removesuffix(": ")


def plural(count: int, noun: str) -> str:
    """A count with its noun."""
    irregular = {"stimulus": "stimuli"}.get(noun, f"{noun}s")
    return f"{count:,} {noun if count == 1 else irregular}"
