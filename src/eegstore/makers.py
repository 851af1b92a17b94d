"""Who made what is in a store, and how to have the plugin again where it is missing."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from eegstore import registry
from eegstore.distributions import normalised
from eegstore.errors import HiddenPluginError, MissingPluginError

# What a store names is data: a command is made of it only where it can be nothing but a name.
DISTRIBUTION: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?", re.ASCII)
VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]{0,99}", re.ASCII)
Producer = Mapping[str, Any]


@contextlib.contextmanager
def remedied(producers: Callable[[], Iterable[Producer]]) -> Iterator[None]:
    """Say of a plugin that is missing which distribution made what is in the store by it."""
    try:
        yield
    except (MissingPluginError, HiddenPluginError) as error:
        remedy = _remedy(producers(), error.kind, error.name)
        if not remedy:
            raise
        raise type(error)(f"{error}; {remedy}", error.kind, error.name) from None


def _remedy(producers: Iterable[Producer], kind: str, name: str) -> str:
    """Who made a store's columns by a plugin, and how to have it again; empty if nobody knows."""
    for producer in producers:
        if (producer.get("kind"), producer.get("name")) != (kind, name):
            continue
        distribution, version = (
            str(producer.get(one) or "") for one in ("distribution", "distribution_version")
        )
        if not DISTRIBUTION.fullmatch(distribution) or not VERSION.fullmatch(version):
            continue
        made = f"the store's was made by {distribution} {version}"
        if there := _installed_version(distribution):
            return f"{made}{_instead(distribution, there, kind)}"
        if "source" in producer:
            return f"{made}, as it was edited; run in its folder: pip install -e ."
        return f"{made}; run: pip install {distribution}=={version}"
    return ""


def _instead(distribution: str, version: str, kind: str) -> str:
    """Why a distribution that is installed does not have the plugin."""
    theirs = [
        one for one in registry.plugins()
        if normalised(one.distribution) == normalised(distribution)
    ]  # fmt: skip
    if not theirs and os.environ.get("EEGSTORE_PLUGINS") is not None:
        return ", which EEGSTORE_PLUGINS leaves out"
    if any(not one.kind for one in theirs):
        return ", which could not be loaded"
    names = ", ".join(repr(one.name) for one in theirs if one.kind == kind)
    return (
        f"; {distribution} {version}, which is installed, has {names or f'no {kind}'}: the "
        "plugin may have another name now, to be changed in the recipe"
    )


def _installed_version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
