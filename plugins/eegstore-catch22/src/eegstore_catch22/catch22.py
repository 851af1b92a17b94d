"""The 22 canonical features of each channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec, digest_bytes, hookimpl

EEGSTORE_PLUGIN_API = 1

MOMENTS: Final = ("mean", "std")
# By catch22's short names; all others are numbers without unit, of the signal scaled to z-scores.
UNITS: Final[Mapping[str, str]] = {
    "acf_timescale": "sample",
    "acf_first_min": "sample",
    "ami_timescale": "sample",
    "periodicity": "sample",
    "stretch_high": "sample",
    "stretch_decreasing": "sample",
    "median_freq": "rad/sample",
}
FLOAT32_MAX: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Catch22:
    """The 22 canonical time-series features of each channel's recorded samples.

    float32, (trial, channel, feature), by the C library of Lubba et al. 2019, "catch22: CAnonical
    Time-series CHaracteristics". The features are of the signal scaled to z-scores: its unit and
    its offset do not matter. Those that count samples, ``feature_units`` says which, change with
    the sampling rate. The axis has catch22's long names; ``short_names`` is an attribute.

    Notes
    -----
    A feature that cannot be estimated (of a flat signal: all) has the value at the end of its range
    that catch22 itself gives it, and so a flat signal has one and the same finite vector whatever
    its level. The standard deviation of one sample is 0. A trial without samples has 0, and a
    channel with NaN or Inf has NaN. What float32 cannot hold is its largest.
    """

    name: ClassVar[str] = "catch22"
    version: ClassVar[str] = "1"
    table: ClassVar[Literal["trials", "stimuli"]] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("eeg",)

    catch24: bool = field(
        default=False,
        metadata={
            "description": "Add the mean and the standard deviation (divided by n - 1), both in "
            "the EEG's unit."
        },
    )

    def describe(self, inputs: Mapping[str, ColumnSpec]) -> ColumnSpec:
        from pycatch22 import feature_table

        eeg = inputs["eeg"]
        features = feature_table(catch24=self.catch24)
        short = [one["short_name"] for one in features]
        units = [eeg.units if name in MOMENTS else UNITS.get(name, "1") for name in short]
        return ColumnSpec(
            dims=("channel", "feature"),
            shape=(eeg.shape[0], len(features)),
            dtype="float32",
            coords={
                "channel": eeg.coords["channel"],
                "feature": [one["name"] for one in features],
            },
            attrs={"feature_units": units, "short_names": short},
        )

    def fingerprint(self) -> str:
        """Digest of the version of pycatch22: 1.0 gave most features other values."""
        return digest_bytes(f"pycatch22 {version('pycatch22')}".encode())

    def __call__(self, block: Block) -> NDArray[np.float32]:
        signals = block["eeg"]
        n_features = 22 + len(MOMENTS) * self.catch24
        result = np.zeros((*signals.shape[:2], n_features))
        for trial in np.flatnonzero(block.n_valid):
            for channel, signal in enumerate(signals[trial, :, : block.n_valid[trial]]):
                result[trial, channel] = self._features(signal)
        np.clip(result, -FLOAT32_MAX, FLOAT32_MAX, out=result)
        return result.astype(np.float32)

    def _features(self, signal: NDArray[np.float32]) -> list[float] | float:
        """The features of one signal, float32 (time,); NaN where it is not finite."""
        from pycatch22 import catch22_all

        if not np.isfinite(signal).all():
            return np.nan
        values: list[float] = catch22_all(signal.tolist(), catch24=self.catch24)["values"]
        # catch22 leaves the standard deviation of a single sample NaN.
        return [0.0 if value != value else value for value in values]  # noqa: PLR0124


@hookimpl
def eegstore_extractors() -> list[type[Catch22]]:
    """The extractor of this module."""
    return [Catch22]
