"""What an extractor was fitted to: arrays, as bytes that the store keeps and workers restore."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegstore.calls import given
from eegstore.errors import DamageError, PluginError
from eegstore.root import build_folder
from eegstore.work import PlannedColumn

State = Mapping[str, NDArray[Any]]


def state_file(store: Path, column: PlannedColumn) -> Path:
    """Where a build keeps a column's state; the key is in its name, so that no other is taken."""
    return build_folder(store) / f"state-{column.table}-{column.name}-{column.key[:32]}.npz"


def fit_folder(store: Path, column: PlannedColumn) -> Path:
    """Where a fit keeps what it wants to find again, if the build is interrupted; with the key."""
    return build_folder(store) / f"fit-{column.table}-{column.name}-{column.key[:32]}"


def plain_arrays(kind: str, plugin: Any, call: str, values: Any) -> dict[str, NDArray[Any]]:
    """What a plugin wants to be kept, where it is names of arrays without objects."""
    state = given(kind, plugin, call, values, Mapping)  # type: ignore[type-abstract]
    arrays = {str(name): np.asarray(value) for name, value in state.items()}
    objects = [name for name, value in arrays.items() if value.dtype.hasobject]
    if objects:
        raise PluginError(
            f"{kind} {plugin.name!r}: {call} gave objects as {objects[0]!r}, expected numbers or "
            "strings"
        )
    return arrays


def encoded(arrays: State) -> NDArray[np.uint8]:
    """uint8, (byte,): an ``.npz`` file; equal arrays give equal bytes."""
    file = io.BytesIO()
    np.savez(file, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]
    return np.frombuffer(file.getvalue(), dtype=np.uint8)


def decoded(content: NDArray[np.uint8], where: str) -> dict[str, NDArray[Any]]:
    """The arrays of ``encoded``; nothing in them is executed.

    Raises
    ------
    DamageError
        Where they are not; names ``where``.
    """
    try:
        with np.load(io.BytesIO(content.tobytes()), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise DamageError(f"{where}: is no state that a build has kept ({error})") from None


def is_kept(store: Path, column: PlannedColumn) -> bool:
    """Whether a build has a column's state already, and it is whole."""
    file = state_file(store, column)
    try:
        decoded(np.frombuffer(file.read_bytes(), dtype=np.uint8), str(file))
    except (OSError, DamageError):
        return False
    return True


def read_state(store: Path, column: PlannedColumn) -> NDArray[np.uint8]:
    """uint8, (byte,): the state that this build has fitted, or taken from the store."""
    return np.frombuffer(state_file(store, column).read_bytes(), dtype=np.uint8)
