"""The hooks through which a distribution offers plugins, one a kind.

Each returns classes, and the module that implements them is named by an entry point of the group
``eegstore``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pluggy

from eegstore import protocols

PROJECT: Final = "eegstore"
EEGSTORE_PLUGIN_API: Final = 1

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def eegstore_sources() -> Sequence[type[protocols.Source]]:
    """Sources of EEG recordings."""
    raise NotImplementedError


@hookspec
def eegstore_stimuli() -> Sequence[type[protocols.StimulusProvider]]:
    """Providers of images."""
    raise NotImplementedError


@hookspec
def eegstore_extractors() -> Sequence[type[protocols.Extractor]]:
    """Extractors of features and embeddings."""
    raise NotImplementedError


@hookspec
def eegstore_pairings() -> Sequence[type[protocols.Pairing]]:
    """Pairing strategies."""
    raise NotImplementedError


@hookspec
def eegstore_splits() -> Sequence[type[protocols.Split]]:
    """Splits."""
    raise NotImplementedError


@hookspec
def eegstore_exporters() -> Sequence[type[protocols.Exporter]]:
    """Exporters."""
    raise NotImplementedError


@hookspec
def eegstore_executors() -> Sequence[type[protocols.Executor]]:
    """Factories of executors."""
    raise NotImplementedError


HOOK_OF_KIND: Final = {
    "source": "eegstore_sources",
    "stimuli": "eegstore_stimuli",
    "extractor": "eegstore_extractors",
    "pairing": "eegstore_pairings",
    "split": "eegstore_splits",
    "exporter": "eegstore_exporters",
    "executor": "eegstore_executors",
}
