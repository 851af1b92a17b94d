"""Predicts the embedding of the stimulus from the EEG through their canonical components."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from eegstore import hookimpl
from eegstore_plugins.gram import Sums, Values
from eegstore_plugins.linear import Centred, lower_root
from eegstore_plugins.ridge import LinearExtractor


@dataclass(frozen=True)
class Cca(LinearExtractor):
    """Each trial's prediction of its stimulus' embedding by its canonical components.

    float32, (embedding,), in the target's own space and unit: to be compared with the target. It
    is the ridge regression, kept to the directions of the target that the first canonical
    components span (Hotelling 1936; with penalties, Vinod 1976; as a regression of low rank,
    Izenman 1975): each component of the EEG predicts that of the target by their correlation.
    The penalty on the EEG is chosen as by ``ridge``; parts and train trials are as there too. With
    as many components as there are different targets in train, it is ``ridge`` itself.
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

    def _solved(self, products: Centred, sums: Sums, added: float) -> Values:
        from scipy.linalg import solve_triangular

        covariance = sums.yy - np.outer(sums.y, sums.y / sums.n)
        more = self.target_penalty * np.trace(covariance) / len(covariance)
        roots = [
            lower_root(matrix, extra)
            for matrix, extra in ((products.gram, added), (covariance, more or 1.0))
        ]
        half = solve_triangular(roots[0], products.cross, lower=True)
        whitened = solve_triangular(roots[1], half.T, lower=True).T
        components = _left_components(whitened, self.n_components)
        kept = components @ (components.T @ half)
        weights: Values = solve_triangular(roots[0], kept, lower=True, trans="T")
        return weights


def _left_components(matrix: Values, n_components: int) -> Values:
    """Left singular vectors of the largest singular values: float64, (row, component)."""
    from scipy.linalg import eigh

    n_rows, n_columns = matrix.shape
    size = min(n_rows, n_columns)
    largest = (max(0, size - n_components), size - 1)
    if n_rows <= n_columns:
        left: Values = eigh(matrix @ matrix.T, subset_by_index=largest)[1]
        return left
    squares, right = eigh(matrix.T @ matrix, subset_by_index=largest)
    some = squares > 1e-12 * squares.max(initial=0)
    components: Values = matrix @ right[:, some] / np.sqrt(squares[some])
    return components


@hookimpl
def eegstore_extractors() -> list[type[Cca]]:
    """The extractor of this module."""
    return [Cca]
