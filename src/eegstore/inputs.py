"""The files that a source or a provider reads: none of them may change while a build runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eegstore import registry
from eegstore.errors import InputError


@dataclass(frozen=True)
class InputFile:
    """A file of the input, as it was before it was scanned."""

    path: Path
    size: int
    mtime_ns: int


def option_paths(plugin: Any, option: str) -> list[Path]:
    """The paths that an option holds."""
    value = getattr(plugin, option)
    values = value if isinstance(value, tuple | list) else [value]
    return [Path(one) for one in values if one is not None]


def input_files(plugin: Any) -> tuple[InputFile, ...]:
    """The files that a plugin's options name, and how they are now."""
    paths = [
        path for option in registry.path_options(type(plugin))
        for path in option_paths(plugin, option)
    ]  # fmt: skip
    files = dict.fromkeys(file for path in paths for file in _files(path))
    return tuple(_as_it_is(file) for file in sorted(files))


def _files(path: Path) -> Iterator[Path]:
    """A file and those of its stem beside it (.set and .fdt, .vhdr and .eeg), or a folder's.

    Not among them is what no plugin reads: hidden files, and the recipe of the same stem.
    """
    if os.path.isdir(path):  # noqa: PTH112 - of any name, even too long
        yield from (one for one in path.rglob("*") if one.is_file() and one.name[0] != ".")
    elif os.path.isfile(path):  # noqa: PTH113
        yield path
        for beside in path.parent.glob("[!.]*"):
            if beside.stem == path.stem and beside.is_file() and beside.suffix != ".toml":
                yield beside


def _as_it_is(path: Path) -> InputFile:
    facts = path.stat()
    return InputFile(path, facts.st_size, facts.st_mtime_ns)


def check_unchanged(files: Iterable[InputFile]) -> None:
    """Refuse input that is not what was scanned: its values would go by another's key.

    Raises
    ------
    InputError
        Names the file.
    """
    for before in files:
        try:
            now = _as_it_is(before.path)
        except OSError:
            now = None
        if now != before:
            what = "was changed" if now else "was deleted"
            raise InputError(
                f"{before.path}: {what} while the build read it; run the same command again"
            )
