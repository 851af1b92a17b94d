"""EEG recordings and the images people saw, in one chunked Zarr v3 store."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if "EEGSTORE_COMMAND" in os.environ:  # a worker, which finds what its command finds
    from eegstore.distributions import tolerate

    tolerate()

if TYPE_CHECKING:
    from eegstore.answers import Pairs, Splits
    from eegstore.builder import build
    from eegstore.disk import digest_bytes, digest_files
    from eegstore.errors import (
        DamageError,
        EegStoreError,
        IncompleteError,
        InputError,
        InterruptedBuildError,
        LockedError,
        PluginError,
        RecipeError,
        UsageError,
    )
    from eegstore.exports import export
    from eegstore.hookspecs import EEGSTORE_PLUGIN_API, hookimpl
    from eegstore.protocols import (
        Executor,
        Exporter,
        Extractor,
        Fingerprinted,
        Fitted,
        Pairing,
        Source,
        Split,
        Stateful,
        StimulusProvider,
    )
    from eegstore.recipe import nearest
    from eegstore.registry import configure, installed, options_of, path_options
    from eegstore.store import Store, open_store
    from eegstore.tables import Block, Column, ColumnSpec, Stimuli, Trials
    from eegstore.verification import verify

# Importing the package imports none of these: each public name is fetched when it is first used.
_HOME = {
    "answers": ("Pairs", "Splits"),
    "builder": ("build",),
    "disk": ("digest_bytes", "digest_files"),
    "errors": (
        "DamageError",
        "EegStoreError",
        "IncompleteError",
        "InputError",
        "InterruptedBuildError",
        "LockedError",
        "PluginError",
        "RecipeError",
        "UsageError",
    ),
    "exports": ("export",),
    "hookspecs": ("EEGSTORE_PLUGIN_API", "hookimpl"),
    "protocols": (
        "Executor",
        "Exporter",
        "Extractor",
        "Fingerprinted",
        "Fitted",
        "Pairing",
        "Source",
        "Split",
        "Stateful",
        "StimulusProvider",
    ),
    "recipe": ("nearest",),
    "registry": ("configure", "installed", "options_of", "path_options"),
    "store": ("Store", "open_store"),
    "tables": ("Block", "Column", "ColumnSpec", "Stimuli", "Trials"),
    "verification": ("verify",),
}
# Modules that are reached by their name; `torch` is the one whose import needs an extra.
_SUBMODULES = frozenset({"audit", "evaluate", "report", "search", "torch"})
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "EEGSTORE_PLUGIN_API",
    "Block",
    "Column",
    "ColumnSpec",
    "DamageError",
    "EegStoreError",
    "Executor",
    "Exporter",
    "Extractor",
    "Fingerprinted",
    "Fitted",
    "IncompleteError",
    "InputError",
    "InterruptedBuildError",
    "LockedError",
    "Pairing",
    "Pairs",
    "PluginError",
    "RecipeError",
    "Source",
    "Split",
    "Splits",
    "Stateful",
    "Stimuli",
    "StimulusProvider",
    "Store",
    "Trials",
    "UsageError",
    "__version__",
    "build",
    "configure",
    "digest_bytes",
    "digest_files",
    "export",
    "hookimpl",
    "installed",
    "nearest",
    "open_store",
    "options_of",
    "path_options",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return _submodule(name)
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'eegstore' has no attribute {name!r}")
    return getattr(importlib.import_module(f"eegstore.{_MODULE_OF[name]}"), name)


def _submodule(name: str) -> Any:
    try:
        return importlib.import_module(f"eegstore.{name}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
    errors = importlib.import_module("eegstore.errors")
    raise errors.InputError(f"eegstore.{name} needs torch; run: pip install 'eegstore[train]'")


def __dir__() -> list[str]:
    return sorted(__all__)
