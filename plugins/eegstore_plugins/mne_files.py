"""The files of a recording: its own, those that its format keeps beside it, those that it names."""

from __future__ import annotations

import functools
import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from eegstore import InputError

# Under the same stem as the file that is named.
SIDECARS: Final = (
    *(".fdt", ".vmrk", ".eeg", ".dat", ".head", ".dap", ".rs3", ".dpa", ".cdt.dpa"),
    *(".pnt", ".PNT", ".21E", ".LOG"),
)
HEADER_FILE: Final = re.compile(rb"^(?:DataFile|MarkerFile)\s*=\s*([^\r\n]+)", re.MULTILINE)
MAX_HEADER_BYTES: Final = 1 << 24


def files_of(path: Path) -> list[Path]:
    """All files that a recording is read from, its own first.

    Raises
    ------
    InputError
        Where it names a file outside of its folder.
    """
    found = {file for file in map(path.with_suffix, SIDECARS) if file.exists()}
    stem, dot, end = glob.escape(path.name).partition(".fif")
    if dot:
        parts = (f"{stem}-[0-9]*", stem.replace("split-01", "split-[0-9]*"))
        found.update(*(path.parent.glob(part + dot + end) for part in parts))
    for name in _names_in(path) if path.is_file() else ():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(
                f"{path}: names a file outside of its folder, {name!r}; put it beside the "
                "recording and correct the name"
            )
        found.add(path.parent / name)
    return [path, *sorted(found - {path})]


def _names_in(path: Path) -> Iterator[str]:
    """The names of files that a recording's own bytes give."""
    suffix = path.suffix.lower()
    if suffix in (".vhdr", ".ahdr"):
        with path.open("rb") as file:
            header = file.read(MAX_HEADER_BYTES)
        for name in HEADER_FILE.findall(header):
            yield os.fsdecode(name.strip()).replace("$b", path.stem)
    elif suffix == ".set":
        name = _eeglab_data(path, path.stat().st_mtime_ns)
        # MNE falls back on the set's own stem where the name is of a file that is not there.
        if name and (path.parent / name).exists():
            yield name


@functools.lru_cache(maxsize=64)
def _eeglab_data(path: Path, _changed_ns: int) -> str:
    """The file that an EEGLAB set keeps its signal in; empty where that is the set itself."""
    from scipy.io import loadmat, whosmat

    try:
        kind_of = {name: kind for name, _, kind in whosmat(path)}
        if kind_of.get("data", "char") != "char":
            return ""
        found = loadmat(path, variable_names=["EEG", "data"], squeeze_me=True, simplify_cells=True)
    except Exception:  # what is wrong with the file is for MNE to say
        return ""
    while isinstance(found.get("EEG"), dict):
        found = found["EEG"]
    return str(found["data"]) if isinstance(found.get("data"), str) else ""
