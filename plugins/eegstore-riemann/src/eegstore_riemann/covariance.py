"""The spatial covariance of each trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec, digest_bytes, hookimpl

EEGSTORE_PLUGIN_API = 1

Estimator = Literal["oas", "lwf", "scm", "cov"]

ESTIMATOR: Final[Mapping[str, Any]] = {
    "description": "How a covariance is estimated: oracle approximating shrinkage, Ledoit-Wolf "
    "shrinkage, the sample covariance (divided by n), or numpy's (divided by n - 1)."
}


def of_trials(block: Block, estimator: Estimator) -> NDArray[np.float64]:
    """Estimate the covariance of each trial's recorded samples.

    Returns
    -------
    float64, (trial, channel, channel), symmetric, in the EEG's unit squared. A trial without
    variance, or of less than two samples, has 0; one with NaN or Inf has NaN.
    """
    signals, lengths = block["eeg"], block.n_valid.tolist()
    n_trials, n_channels, _ = signals.shape
    covariances = np.zeros((n_trials, n_channels, n_channels))
    for row, n_valid in enumerate(lengths):
        covariances[row] = _of_samples(signals[row, :, :n_valid].astype(np.float64), estimator)
    return covariances


def _of_samples(samples: NDArray[np.float64], estimator: Estimator) -> NDArray[np.float64]:
    """float64, (channel, channel), from float64 (channel, time)."""
    from pyriemann.geometry.covariance import covariances

    n_channels, n_times = samples.shape
    if not np.isfinite(samples).all():
        return np.full((n_channels, n_channels), np.nan)
    if n_times < 2 or not np.ptp(samples, axis=1).any():
        return np.zeros((n_channels, n_channels))
    covariance: NDArray[np.float64] = np.reshape(covariances(samples, estimator), (n_channels, -1))
    # A product of matrices is symmetric but for its rounding.
    return (covariance + covariance.T) / 2


def squared(unit: str) -> str:
    """The square of a signal's unit, ``"1"`` being none."""
    return "1" if unit in ("", "1") else f"{unit}^2"


def pyriemann_version() -> str:
    """Digest of pyriemann's version: another one may give other values."""
    return digest_bytes(f"pyriemann {version('pyriemann')}".encode())


@dataclass(frozen=True)
class RiemannCovariance:
    """Spatial covariance of each trial: float64, (trial, channel, channel), in unit squared.

    The whole matrix is stored, symmetric to the bit, so that pyriemann takes the column as it is.
    It is float64 because what is done with a covariance takes logarithms of its smallest
    eigenvalues, which float32 rounds away. Only recorded samples count. A trial without any
    variance, or of less than two samples, has 0. Estimators: pyriemann.geometry.covariance.
    """

    name: ClassVar[str] = "riemann-covariance"
    version: ClassVar[str] = "1"
    table: ClassVar[Literal["trials", "stimuli"]] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("eeg",)

    estimator: Estimator = field(default="oas", metadata=ESTIMATOR)

    def describe(self, inputs: Mapping[str, ColumnSpec]) -> ColumnSpec:
        eeg = inputs["eeg"]
        ch_names = eeg.coords["channel"]
        return ColumnSpec(
            dims=("channel", "other_channel"),
            shape=(len(ch_names), len(ch_names)),
            dtype="float64",
            coords={"channel": ch_names, "other_channel": ch_names},
            units=squared(eeg.units),
        )

    def fingerprint(self) -> str:
        """Digest of the version of pyriemann."""
        return pyriemann_version()

    def prepare(self) -> None:
        """Import pyriemann, which takes a second or two, before the first block."""
        import pyriemann.geometry.covariance  # noqa: F401

    def __call__(self, block: Block) -> NDArray[np.float64]:
        return of_trials(block, self.estimator)


@hookimpl
def eegstore_extractors() -> list[type[RiemannCovariance]]:
    """The extractor of this module."""
    return [RiemannCovariance]
