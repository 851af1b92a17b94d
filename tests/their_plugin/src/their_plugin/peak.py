"""The largest amplitude of each channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec, hookimpl

EEGSTORE_PLUGIN_API = 1


@dataclass(frozen=True)
class Peak:
    """Largest absolute value of each channel: float32, (trial, channel), in the EEG's unit."""

    name: ClassVar[str] = "peak"
    version: ClassVar[str] = "1"
    table: ClassVar[Literal["trials", "stimuli"]] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("eeg",)

    scale: float = field(
        default=1.0,
        metadata={
            "description": "Factor that the values are multiplied by.",
            "gt": 0,
            "json_schema_extra": {"unit": "1"},
        },
    )

    def describe(self, inputs: Mapping[str, ColumnSpec]) -> ColumnSpec:
        """One value a channel."""
        eeg = inputs["eeg"]
        return ColumnSpec(dims=("channel",), shape=eeg.shape[:1], dtype="float32", units=eeg.units)

    def __call__(self, block: Block) -> NDArray[np.float32]:
        """The values of a block; padding does not count."""
        sample = np.arange(len(block.times))
        recorded = sample < block.n_valid[:, None, None]
        amplitude: NDArray[np.float32] = np.abs(block["eeg"]).max(
            axis=-1, where=recorded, initial=0
        )
        return np.float32(self.scale) * amplitude


@hookimpl
def eegstore_extractors() -> list[type[Peak]]:
    """Offer the extractor."""
    return [Peak]
