"""The hooks through which a distribution offers plugins, one a kind.

Each returns classes, and the module that implements them is named by an entry point of the group
``eegstore``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

import pluggy

from eegstore import protocols

PROJECT: Final = "eegstore"
EEGSTORE_PLUGIN_API: Final = 1

Offer = TypeVar(
    "Offer",
    bound=Callable[
        [],
        Sequence[type[protocols.Source]]
        | Sequence[type[protocols.StimulusProvider]]
        | Sequence[type[protocols.Extractor]]
        | Sequence[type[protocols.Pairing]]
        | Sequence[type[protocols.Split]]
        | Sequence[type[protocols.Exporter]]
        | Sequence[type[protocols.Executor]],
    ],
)


class Marker(Protocol):
    """Marks a function as its module's implementation of the hook that has its name.

    To a type checker it says more than pluggy's own: what the function returns are plugin classes.
    """

    def __call__(self, function: Offer, /) -> Offer:
        """The function, marked."""
        ...


hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl: Final[Marker] = pluggy.HookimplMarker(PROJECT)


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
