"""Tangent vectors of each trial's covariance, at the mean of the train trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec, InputError, PluginError, hookimpl
from eegstore_riemann.covariance import (
    ESTIMATOR,
    Estimator,
    of_trials,
    pyriemann_version,
    squared,
)

EEGSTORE_PLUGIN_API = 1

FLOAT32_MAX: Final = float(np.finfo(np.float32).max)


class _Fitted(NamedTuple):
    """What the train trials gave.

    ``reference`` is their mean, float64 (channel, channel), and ``variance`` the median over them
    of the mean variance of a channel; both in the EEG's unit squared.
    """

    reference: NDArray[np.float64]
    variance: float


def _variances(covariances: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64, (trial,): the mean variance of a channel in each trial."""
    variances: NDArray[np.float64] = np.diagonal(covariances, axis1=1, axis2=2).mean(axis=1)
    return variances


@dataclass(frozen=True)
class RiemannTangent:
    """Each trial's covariance as a vector in the tangent space at the train trials' mean.

    float32, (trial, feature): the upper triangle of a symmetric matrix, row by row, with the
    elements off the diagonal times sqrt(2), so that the vector is as long as the matrix is
    (Barachant et al. 2012). A feature is named by its two channels, ``Fz:Cz``.

    Notes
    -----
    ``fit`` keeps the mean of the train trials' covariances by the metric, and the median of their
    mean channel variances. Trials without any variance take no part in it.

    Before anything else each covariance is regularised: to the variance of each channel are added
    ``regularisation`` times the trial's mean channel variance and as much of the train trials'
    median. With that, covariances without full rank (after an average reference, or of fewer
    samples than channels) and flat trials have finite logarithms.

    With the metric ``riemann`` the vector is of log(M^-1/2 C M^-1/2), without unit: it does not
    change with the unit of the EEG. With ``logeuclid`` it is of the derivative of the matrix
    exponential at log M, along log C - log M, and with ``euclid`` of C - M; both in the EEG's unit
    squared. What float32 cannot hold is its largest.
    """

    name: ClassVar[str] = "riemann-tangent"
    version: ClassVar[str] = "1"
    table: ClassVar[Literal["trials", "stimuli"]] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("eeg",)
    # No option: what fit has found, from restore on.
    _fitted: ClassVar[_Fitted | None] = None

    estimator: Estimator = field(default="oas", metadata=ESTIMATOR)
    metric: Literal["riemann", "logeuclid", "euclid"] = field(
        default="riemann",
        metadata={"description": "Metric of the mean and of the tangent space at it."},
    )
    regularisation: float = field(
        default=1e-5,
        metadata={
            "description": "What is added to the variance of each channel, as a share of the mean "
            "variance of a channel.",
            "ge": 1e-6,  # less is lost in the rounding of logarithms
            "le": 1,
            "json_schema_extra": {"unit": "1"},
        },
    )

    def describe(self, inputs: Mapping[str, ColumnSpec]) -> ColumnSpec:
        eeg = inputs["eeg"]
        ch_names = eeg.coords["channel"]
        pairs = [f"{name}:{other}" for at, name in enumerate(ch_names) for other in ch_names[at:]]
        return ColumnSpec(
            dims=("feature",),
            shape=(len(pairs),),
            dtype="float32",
            coords={"feature": pairs},
            units="1" if self.metric == "riemann" else squared(eeg.units),
        )

    def fingerprint(self) -> str:
        """Digest of the version of pyriemann."""
        return pyriemann_version()

    def prepare(self) -> None:
        """Import pyriemann, which takes a second or two, before the first block."""
        import pyriemann.geometry.tangentspace  # noqa: F401

    def fit(self, blocks: Iterable[Block]) -> Mapping[str, NDArray[Any]]:
        """Find the mean of the train trials.

        It holds their covariances, 8 bytes for each pair of channels and trial, and a few copies.

        Raises
        ------
        InputError
            Where no trial has any variance.
        """
        from pyriemann.geometry.mean import gmean

        found = [of_trials(block, self.estimator) for block in blocks]
        varying = [some[_variances(some) > 0] for some in found]
        if not any(map(len, varying)):
            raise InputError(
                f"extractor {self.name!r}: all train trials are flat, expected some with a signal; "
                "leave it out of the recipe"
            )
        covariances = np.concatenate(varying)
        variance = float(np.median(_variances(covariances)))
        reference = gmean(self._regularised(covariances, variance), metric=self.metric)
        return {"reference": reference, "variance": np.array(variance)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take the mean that ``fit`` found."""
        fitted = _Fitted(np.asarray(state["reference"]), float(state["variance"]))
        object.__setattr__(self, "_fitted", fitted)

    def __call__(self, block: Block) -> NDArray[np.float32]:
        from pyriemann.geometry.tangentspace import tangent_space

        if self._fitted is None:
            raise PluginError(f"extractor {self.name!r}: called before restore()")
        reference, variance = self._fitted
        covariances = self._regularised(of_trials(block, self.estimator), variance)
        n_channels = len(reference)
        vectors = np.full((block.n_rows, n_channels * (n_channels + 1) // 2), np.nan)
        finite = np.isfinite(covariances).all(axis=(1, 2))
        vectors[finite] = tangent_space(covariances[finite], reference, metric=self.metric)
        np.clip(vectors, -FLOAT32_MAX, FLOAT32_MAX, out=vectors)
        return vectors.astype(np.float32)

    def _regularised(
        self, covariances: NDArray[np.float64], variance: float
    ) -> NDArray[np.float64]:
        """Add to the variance of each channel a share of a trial's, and of the train trials'."""
        added = self.regularisation * (_variances(covariances) + variance)
        unit = np.eye(covariances.shape[-1])
        return covariances + added[:, np.newaxis, np.newaxis] * unit


@hookimpl
def eegstore_extractors() -> list[type[RiemannTangent]]:
    """The extractor of this module."""
    return [RiemannTangent]
