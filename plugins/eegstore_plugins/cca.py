"""Predicts the embedding of the stimulus from the EEG through their canonical components."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from eegstore import hookimpl
from eegstore_plugins.gram import Sums, Values
from eegstore_plugins.linear import Centred
from eegstore_plugins.ridge import LinearExtractor


@dataclass(frozen=True)
class Cca(LinearExtractor):
    """Each trial's prediction of its stimulus' embedding by its canonical components.

    float32, (embedding,), in the target's own space and unit: to be compared with the target. It
    is the ridge regression, kept to the directions of the target that the first canonical
    components span (Hotelling 1936; with penalties, Vinod 1976; as a regression of low rank,
    Izenman 1975): each component of the EEG predicts that of the target by their correlation.
    The penalty on the EEG is chosen as by ``ridge``; parts and train trials are as there too.
    """

    name: ClassVar[str] = "cca"
    _of_targets: ClassVar[bool] = True

    n_components: int = field(
        default=64, metadata={"description": "Canonical components that are kept.", "ge": 1}
    )
    target_penalty: float = field(
        default=0.1,
        metadata={
            "description": "What is added to the variance of each dimension of the target, as a "
            "share of their mean variance.",
            "ge": 1e-6,
            "le": 1e9,
            "json_schema_extra": {"unit": "1"},
        },
    )

    def _projected(self, weights: Values, products: Centred, sums: Sums) -> Values:
        from scipy.linalg import cholesky, eigh, solve_triangular

        width = len(sums.y)
        covariance = sums.yy - np.outer(sums.y, sums.y / sums.n)
        added = self.target_penalty * np.trace(covariance) / width
        covariance[np.diag_indices(width)] += added or 1.0
        root = cholesky(covariance, lower=True, check_finite=False)
        # The whitened cross-covariance K, of features and targets, as K'K.
        half = solve_triangular(root, products.cross.T @ weights, lower=True)
        squared = solve_triangular(root, half.T, lower=True)
        kept = (max(0, width - self.n_components), width - 1)
        _, components = eigh((squared + squared.T) / 2, subset_by_index=kept)
        whitened = solve_triangular(root, weights.T, lower=True).T
        projected: Values = (whitened @ components) @ (root @ components).T
        return projected


@hookimpl
def eegstore_extractors() -> list[type[Cca]]:
    """The extractor of this module."""
    return [Cca]
