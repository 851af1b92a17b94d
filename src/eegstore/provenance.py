"""What a store says of where its columns come from: plugins, inputs, and the files read."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from eegstore.attributes import ColumnEntry
from eegstore.errors import EegStoreError, MissingPluginError, RecipeError, UsageError
from eegstore.recipe import nearest, recipe_changes
from eegstore.root import build_folder
from eegstore.store import Store, read_store
from eegstore.tables import TABLES

# What a store names is data: a command is made of it only where it can be nothing but a name.
DISTRIBUTION: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?", re.ASCII)
VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]{0,99}", re.ASCII)
Facts = Mapping[str, Any]


def provenance(store: Store, column: str) -> dict[str, Any]:
    """What a column follows from, down to the digests of the files that were read.

    Parameters
    ----------
    store
        The store.
    column
        ``table/column``, or a name that only one table has.

    Returns
    -------
    ``column``, ``kind``, ``key``, ``digest``, ``shape``, ``dtype``, ``producer`` and ``inputs``,
    which are such values themselves. Where there are none, because a source or a provider gave the
    column, ``files``: name and SHA-256 of each, None where the store does not say. What is fitted
    has ``fitted``: the split, and the digest of its state. A column that was met before has no
    more than its path and ``repeated``.

    Raises
    ------
    UsageError
        Where there is no such column; names the nearest, or both that have the name.
    """
    return _Tree(store).node(_path(store, column))


def _path(store: Store, column: str) -> str:
    paths = [entry.path for entry in store.attributes.columns]
    if column in paths:
        return column
    named = [path for path in paths if path.split("/")[1] == column]
    if len(named) == 1:
        return named[0]
    if named:
        raise UsageError(f"{column!r:.80} is a column of both tables; say {' or '.join(named)}")
    table = column.partition("/")[0]
    known = paths if table in TABLES and "/" in column else {one.split("/")[1] for one in paths}
    raise UsageError(f"{store.path}: no column is called {column!r:.80}; {nearest(column, known)}")


class _Tree:
    """A store's columns, each told once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries = {entry.path: entry for entry in store.attributes.columns}
        self._told: set[str] = set()

    def node(self, path: str) -> dict[str, Any]:
        """A column with all that it follows from."""
        if path in self._told:
            return {"column": path, "repeated": True}
        self._told.add(path)
        entry = self._entries.get(path)
        if entry is None:
            return {"column": path} | (self._images() if path == "stimuli/image" else {})
        facts = self._facts(path)
        inputs = [self.node(one) for one in self._inputs(entry, facts)]
        return {
            "column": path,
            "kind": entry.kind,
            "key": entry.key,
            "digest": entry.digest,
            "shape": entry.shape,
            "dtype": entry.dtype,
            "producer": facts.get("producer") or None,
            **self._state(entry, facts),
            "inputs": inputs,
            **({} if inputs else self._files(facts)),
        }

    def _facts(self, path: str) -> dict[str, Any]:
        return facts_of(self._store, path)

    def _inputs(self, entry: ColumnEntry, facts: Facts) -> list[str]:
        """Paths of the columns that a column was made from."""
        if entry.kind in {"coordinate", "state"}:
            return [
                one.path for one in self._entries.values()
                if one.kind == "wide" and (one.table, one.key) == (entry.table, entry.key)
            ]  # fmt: skip
        fitted = facts.get("fitted")
        named = [*facts.get("inputs", {}), *(fitted or {}).get("inputs", {})]
        named += ["trials/split"] if fitted else []
        paths = [one if "/" in one else f"{entry.table}/{one}" for one in named]
        # Of a split without folds there is no such column: it follows from the split.
        none = "trials/fold" not in self._entries
        told = ["trials/split" if one == "trials/fold" and none else one for one in paths]
        return list(dict.fromkeys(told))

    def _state(self, entry: ColumnEntry, facts: Facts) -> dict[str, Any]:
        """On which split a column was fitted, and the digest of what it has learnt there."""
        state = self._entries.get(f"{entry.path}_state")
        if "fitted" not in facts or state is None:
            return {}
        return {"fitted": {"split": facts["fitted"]["split"], "state": state.digest}}

    def _images(self) -> dict[str, Any]:
        """The images themselves, which a store does not hold."""
        facts = self._facts("stimuli/content_id") if "stimuli/content_id" in self._entries else {}
        return {
            "kind": "images",
            "producer": facts.get("producer"),
            "inputs": [],
            **self._files(facts),
        }

    def _files(self, facts: Facts) -> dict[str, Any]:
        """The files that the source or the provider of a column read."""
        places = {"source": "trials/eeg", "stimuli": "stimuli/content_id"}
        producer = facts.get("producer") or {}
        place = places.get(producer.get("kind", ""))
        if place not in self._entries:
            return {}
        files = self._facts(place).get("files")
        if not files and producer.get("kind") == "stimuli" and producer.get("content"):
            files = self._image_files()
        return {"files": files}

    def _image_files(self) -> list[dict[str, str]]:
        """A provider's images: each has its digest in the table."""
        stimuli = self._store.stimuli
        names, digests = (stimuli[one][:].tolist() for one in ("image_path", "content_id"))
        return [
            {"name": name, "sha256": digest} for name, digest in zip(names, digests, strict=True)
        ]


def facts_of(store: Store, path: str) -> dict[str, Any]:
    """What a store records of how a column was made."""
    facts: dict[str, Any] = store.document(path)["attributes"]["eegstore"]
    return facts


def difference(before: Facts, after: Facts) -> str:
    """Why a column is made anew: what differs in what it follows from."""
    old, new = before.get("producer") or {}, after.get("producer") or {}
    maker = new.get("distribution") or "eegstore"
    told = [
        f"{name} {old.get(name)} → {new.get(name)}"
        for name in ("name", "version", "distribution")
        if old.get(name) != new.get(name)
    ]
    if old.get("source") != new.get("source"):
        one = old if "source" in old else new
        told.append(
            f"the source of {maker} was edited" if "source" in old and "source" in new
            else f"{one['distribution']} {'was' if one is old else 'is'} installed as editable"
        )  # fmt: skip
    if "api" in old and old["api"] != new.get("api"):
        told.append(f"plugin API {old['api']} → {new.get('api')}")
    if old.get("options") != new.get("options"):
        told.append(recipe_changes(old.get("options") or {}, new.get("options") or {}))
    if "content" in old and old["content"] != new.get("content"):
        told.append(f"the content that {new.get('name')} reads has changed")
    told += [
        f"{does} {', '.join(names)}, made anew"
        for does, names in (("it reads", _renewed(before, after)),
                            ("is fitted to", _renewed(_fitted(before), _fitted(after))))
        if names
    ]  # fmt: skip
    return ", ".join(told) or "the rows, [store] or the format are others"


def _renewed(before: Facts, after: Facts) -> list[str]:
    """The inputs that are others, or made anew."""
    old, new = before.get("inputs", {}), after.get("inputs", {})
    return [name for name in new if old.get(name) != new[name]]


def _fitted(facts: Facts) -> Facts:
    """What a column is fitted to: the split, and what its fit reads beside its inputs."""
    fitted = facts.get("fitted") or {}
    split = {fitted["split"]: fitted.get("key")} if "split" in fitted else {}
    return {"inputs": split | fitted.get("inputs", {})}


@contextlib.contextmanager
def maker_named(path: Path) -> Iterator[None]:
    """Say of a plugin that is missing which distribution made what is in the store by it."""
    try:
        yield
    except MissingPluginError as error:
        remedy = _remedy(path, error.kind, error.name)
        if not remedy:
            raise
        raise RecipeError(f"{error}; {remedy}") from None


def _remedy(path: Path, kind: str, name: str) -> str:
    """Who made a store's columns by a plugin, and how to have it again; empty if nobody knows."""
    for producer in _producers(path):
        if (producer.get("kind"), producer.get("name")) != (kind, name):
            continue
        distribution, version = (
            str(producer.get(one) or "") for one in ("distribution", "distribution_version")
        )
        if not DISTRIBUTION.fullmatch(distribution) or not VERSION.fullmatch(version):
            continue
        made = f"the store's was made by {distribution} {version}"
        if os.environ.get("EEGSTORE_PLUGINS") is not None and _is_installed(distribution):
            return f"{made}, which EEGSTORE_PLUGINS leaves out"
        if "source" in producer:
            return f"{made}, as it was edited; run in its folder: pip install -e ."
        return f"{made}; run: pip install {distribution}=={version}"
    return ""


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _producers(path: Path) -> Iterator[dict[str, Any]]:
    """Whoever made the columns of a committed store, and of an unfinished build of it."""
    facts = list(planned_facts(path).values())
    # What cannot be read says nothing; that a plugin is missing is told all the same.
    with contextlib.suppress(EegStoreError, OSError, LookupError, TypeError, ValueError):
        store = read_store(path)
        facts = [facts_of(store, entry.path) for entry in store.attributes.columns] + facts
    for one in facts:
        producer = one.get("producer")
        if isinstance(producer, dict):
            yield producer


def planned_facts(path: Path) -> dict[str, dict[str, Any]]:
    """Path of each wide column that an unfinished build of a store was to make, and of what."""
    for file in build_folder(path).glob("plan-*.json"):
        with contextlib.suppress(OSError, LookupError, TypeError, ValueError):
            columns = json.loads(file.read_bytes())["columns"]
            return {
                f"{one['table']}/{one['name']}": one["attributes"]["eegstore"] for one in columns
            }
    return {}
