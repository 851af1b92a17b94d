"""What a path names where a file was expected."""

from __future__ import annotations

from pathlib import Path


def what_is_there(path: Path) -> str:
    """Say what a path names that is no regular file; nothing but a regular file is ever opened."""
    if path.is_dir():
        return "a folder"
    return "a pipe, a socket or a device" if path.exists() else "no such file"
