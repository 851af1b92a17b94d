"""The root document of a store: where it and what is beside it lie, and whether it is whole."""

from __future__ import annotations

import errno
import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from eegstore.attributes import DOCUMENT, FORMAT, document_bytes, is_sealed
from eegstore.disk import Place, read_regular
from eegstore.errors import DamageError, EegStoreError, IncompleteError, InputError
from eegstore.tables import Table

READABLE: Final = (1, FORMAT)
MARKER: Final = "eegstore-build"
REMEDY: Final = "'eegstore build' mends it"


def beside(store: Path, suffix: str) -> Path:
    """A path next to a store, named after it."""
    whole = Path(os.path.realpath(store))  # however the store is spelled, there is one lock
    if not whole.name:
        raise InputError(f"{store}: is the root folder, which cannot be a store")
    return whole.with_name(whole.name + suffix)


def build_folder(store: Path) -> Path:
    """Where a build keeps all that is not the product."""
    return beside(store, ".build")


def refuse_inside_store(path: Path) -> None:
    """Nothing is written inside a store: it would not be what was committed.

    Raises
    ------
    InputError
        Names the store.
    """
    for folder in Path(os.path.realpath(path)).parents:
        if (folder / DOCUMENT).is_file() and has_tables(folder):
            raise InputError(f"{path}: lies inside the store {folder}; choose another OUT")


def is_building(store: Path) -> bool:
    """Whether a build of the store has begun and not finished."""
    return os.path.isfile(build_folder(store) / MARKER)  # noqa: PTH113 - of any name, even too long


def records_path(table: Table, column: str) -> str:
    """Path of the array that holds a wide column's shard digests and sizes."""
    return f"digests/{table}_{column}"


def chunk_path(array: str, n_dims: int) -> str:
    """Path of the only chunk of an array that is written whole (Zarr's default chunk keys)."""
    return "/".join([array, "c", *["0"] * n_dims])


def _parse_root(path: Place, root: bytes) -> dict[str, Any]:
    """The root's attributes, where this is a store that this version reads."""
    try:
        attributes = json.loads(root)["attributes"]["eegstore"]
        written = attributes["format"]
    except (ValueError, RecursionError) as error:
        raise DamageError(f"{path}: {DOCUMENT} is not whole ({error}); {REMEDY}") from None
    except (KeyError, TypeError):
        raise InputError(f"{path}: not an eegstore store (its zarr.json is not ours)") from None
    if type(written) is int and written > FORMAT:
        raise InputError(
            f"{path}: store format {written!r:.40} is newer than this eegstore reads ({FORMAT}); "
            "upgrade eegstore"
        )
    if type(written) is not int or written not in READABLE:
        raise InputError(
            f"{path}: {DOCUMENT} says store format {written!r:.40}, which no eegstore has written; "
            f"restore {DOCUMENT}, or build into another folder"
        )
    return dict(attributes)


def _missing_root(path: Place) -> EegStoreError:
    """Why there is no root document: a build's first commit, damage, or something else."""
    if not isinstance(path, Path):
        return InputError(f"{path}: not an eegstore store (there is no {DOCUMENT} in it)")
    if os.path.isdir(build_folder(path)):  # noqa: PTH112 - of any name, even too long
        return IncompleteError(f"{path}: its build has not finished; run it again to resume")
    if has_tables(path):
        return DamageError(f"{path}: {DOCUMENT} is missing; {REMEDY}")
    why = f"there is no {DOCUMENT} in it" if path.exists() else "there is no such folder"
    return InputError(f"{path}: not an eegstore store ({why})")


def has_tables(path: Path) -> bool:
    """Whether a folder has what only the commit of a store puts there, its root aside."""
    return all((path / group / DOCUMENT).is_file() for group in ("trials", "stimuli", "digests"))


def read_root(path: Place) -> bytes:
    """The bytes of a store's root document, its seal checked.

    Raises
    ------
    InputError
        Where there is no store.
    IncompleteError
        Where a build was interrupted before its first commit.
    DamageError
        Where the document was changed or lost since it was committed.
    """
    try:
        root = read_regular(path / DOCUMENT)
    except FileNotFoundError:
        reason = _missing_root(path)
        if (
            isinstance(path, Path) and (path / DOCUMENT).is_file()
        ):  # the first commit came in between
            return read_root(path)
        raise reason from None
    except PermissionError as error:
        raise InputError(f"{path}: {DOCUMENT} cannot be read ({error.strerror})") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(f"{path}: not an eegstore store ({error.strerror})") from None
        raise DamageError(f"{path}: {DOCUMENT} cannot be read ({error.strerror})") from None
    attributes = _parse_root(path, root)
    if not _is_whole(root, attributes):
        raise DamageError(
            f"{path}: {DOCUMENT} was changed since the commit (its seal is broken); {REMEDY}"
        )
    return root


def _is_whole(root: bytes, attributes: Mapping[str, Any]) -> bool:
    """Whether the document and those that it holds are what was sealed, whatever they are now."""
    try:
        return is_sealed(root, attributes["seal"], committed_documents(root))
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError):
        return False


@functools.lru_cache(maxsize=4)  # of a store that is opened, the seal and the files ask for them
def committed_documents(root: bytes) -> Mapping[str, bytes]:
    """File to bytes of every document but the root's, as the root's bytes hold them."""
    documents = json.loads(root)["consolidated_metadata"]["metadata"]
    return {f"{path}/{DOCUMENT}": document_bytes(one) for path, one in documents.items()}
