"""Linear models from sums of products: the penalty, one model a part, and what they predict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError
from eegstore_plugins.cores import each
from eegstore_plugins.gram import Gram, Sums, Values

# Times the number of trials: what is added to the sum of squares of each feature.
PENALTIES: Final = tuple(10.0**exponent for exponent in range(-4, 4))
SKETCH: Final = 64
# Rows that are computed at once, always: of other numbers libraries sum in another order.
ROWS: Final = 16
FLAT: Final = 1e-6
FLOAT32_MAX: Final = float(np.finfo(np.float32).max)


class Centred(NamedTuple):
    """Products of standardised features and centred targets.

    ``gram`` is float64, (feature, feature), and ``cross`` (feature, embedding).
    """

    gram: Values
    cross: Values


class Standard(NamedTuple):
    """The means of features and targets, and the features' standard deviations; float64."""

    x: Values
    y: Values
    scale: Values


# From the products and the sums of one fit, and what is added, to (feature, embedding) weights.
Solve = Callable[[Centred, Sums, float], Values]


def standard_of(sums: Sums) -> Standard:
    """What the trials of some sums are standardised by; a flat feature comes to nothing."""
    mean, square = sums.x / sums.n, np.diagonal(sums.xx) / sums.n
    variance = np.maximum(square - np.square(mean), 0)
    # The products are of single precision: less is the rounding of a constant.
    flat = variance <= FLAT * square
    return Standard(mean, sums.y / sums.n, np.where(flat, np.inf, np.sqrt(variance)))


def centred(sums: Sums, standard: Standard) -> Centred:
    """The products of some trials as they are by the means and deviations of the same or others."""
    half = sums.x - sums.n / 2 * standard.x
    gram = sums.xx - np.outer(half, standard.x)
    gram -= np.outer(standard.x, half)
    gram /= standard.scale
    gram /= standard.scale[:, np.newaxis]
    cross = sums.xy - np.outer(sums.x, standard.y)
    cross -= np.outer(standard.x, sums.y - sums.n * standard.y)
    cross /= standard.scale[:, np.newaxis]
    return Centred(gram, cross)


def lower_root(matrix: Values, added: float) -> Values:
    """float64: the lower factor of a matrix of products with more on its diagonal (Cholesky).

    Of few trials with values that are far from all others, rounding leaves sums of squares that are
    negative: these count as 0.
    """
    from scipy.linalg import LinAlgError, cholesky, eigh

    more = matrix.copy()
    more[np.diag_indices_from(more)] += added
    try:
        root: Values = cholesky(more, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:
        squares, vectors = eigh(matrix, check_finite=False)
        root = np.linalg.qr((vectors * np.sqrt(np.maximum(squares, 0) + added)).T)[1].T
    return root


def solved(products: Centred, added: float) -> Values:
    """float64, (feature, embedding): the weights of least penalised squared error."""
    from scipy.linalg import cho_solve

    root = lower_root(products.gram, added)
    weights: Values = cho_solve((root, True), products.cross, check_finite=False)
    return weights


def without(parts: Sequence[Sums], part: Sums) -> Sums:
    """The sums of the other parts; not what is left of all, which one large value would spoil."""
    return replace(reduce(add, [one for one in parts if one is not part]))


def chosen_penalty(parts: Sequence[Sums]) -> float:
    """The penalty of least squared error on the parts, each predicted by the others.

    The error is measured on 64 random sums and differences of the target's dimensions, which
    have the same expectation (Hutchinson 1990), where there are more.
    """
    width = parts[0].y.size
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (width, SKETCH))
    sketch = signs / SKETCH**0.5 if width > SKETCH else np.eye(width)

    def errors(part: Sums) -> list[float]:
        """Of each penalty, less what does not depend on it."""
        rest = without(parts, part)
        standard = standard_of(rest)
        (gram, cross), unseen = centred(rest, standard), centred(part, standard)
        del rest.xx, rest.xy
        cross, wanted = cross @ sketch, 2 * unseen.cross @ sketch
        found = []
        for penalty in PENALTIES:
            weights = solved(Centred(gram, cross), penalty * rest.n)
            found.append(float(np.vdot(weights, unseen.gram @ weights - wanted)))
        return found

    return PENALTIES[int(np.argmin(np.sum(each(errors, parts), axis=0)))]


@dataclass(frozen=True, eq=False)
class Linear:
    """Linear models, the last of which has seen all parts.

    Parameters
    ----------
    mean
        float32, (model, feature): what is subtracted from the features.
    weight
        float32, (model, feature, embedding).
    bias
        float32, (model, embedding): the mean of the targets.
    penalty, gain
        What was chosen; see ``fitted``.
    """

    mean: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    penalty: float
    gain: float

    @classmethod
    def of_state(cls, state: Mapping[str, NDArray[Any]]) -> Linear:
        """From the arrays of ``state``."""
        penalty, gain = float(state["penalty"]), float(state["gain"])
        return cls(state["mean"], state["weight"], state["bias"], penalty, gain)

    def state(self) -> dict[str, NDArray[Any]]:
        """Its arrays."""
        return {name: np.asarray(value) for name, value in vars(self).items()}

    def predict(
        self, features: NDArray[np.float32], model: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """float32, (row, embedding), from features and the number of the model of each row."""
        predicted = np.empty((len(features), self.bias.shape[1]), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for number in np.unique(model).tolist():
                rows = np.flatnonzero(model == number)
                for start in range(0, len(rows), ROWS):
                    some = rows[start : start + ROWS]
                    given = features[np.resize(some, ROWS)] - self.mean[number]
                    product = given @ self.weight[number]
                    predicted[some] = self.gain * product[: len(some)] + self.bias[number]
        clipped: NDArray[np.float32] = np.clip(predicted, -FLOAT32_MAX, FLOAT32_MAX)
        return clipped


def fitted(
    gram: Gram, numbers: Sequence[int], penalty: float | None, matched: bool, solve: Solve
) -> Linear:
    """Fit a model without each of the parts of some numbers, and one to all.

    Parameters
    ----------
    penalty
        What is added to the squares of each standardised feature, times the number of trials;
        chosen where it is None.
    matched
        Whether predictions are spread by a gain, one for all models, so that those of the parts,
        each predicted by the others, vary about their mean as much as the targets do.
    solve
        Gives the weights of each fit.

    Raises
    ------
    InputError
        Where a feature or target is not finite.
    """
    assert gram.origin is not None
    parts = [gram.parts[number] for number in numbers]
    total = reduce(add, parts)
    _refuse_infinite(total)
    chosen = chosen_penalty(parts) if penalty is None else penalty

    def model(part: Sums | None) -> tuple[Standard, NDArray[np.float32], float]:
        """Means, weights, and how much the predictions of what it has not seen vary."""
        rest = total if part is None else without(parts, part)
        standard = standard_of(rest)
        products = centred(rest, standard)
        weights = solve(products, rest, chosen * rest.n)
        del products
        single = _single(weights / standard.scale[:, np.newaxis])
        if part is None:
            return standard, single, 0.0
        return standard, single, float(np.vdot(weights, centred(part, standard).gram @ weights))

    models = each(model, [*parts, None])
    spread = sum(one[2] for one in models) / total.n
    gain = float(np.sqrt(_variance(total) / spread)) if matched and spread > 0 else 1.0
    return Linear(
        np.stack([gram.origin[0] + one.x for one, _, _ in models]).astype(np.float32),
        np.stack([weights for _, weights, _ in models]),
        np.stack([gram.origin[1] + one.y for one, _, _ in models]).astype(np.float32),
        chosen,
        gain,
    )


def _single(values: Values) -> NDArray[np.float32]:
    return np.clip(values, -FLOAT32_MAX, FLOAT32_MAX).astype(np.float32)


def _variance(total: Sums) -> float:
    """The targets' variance, summed over their dimensions."""
    squares = np.diagonal(total.yy) if total.yy.ndim == 2 else total.yy
    return float(np.sum(squares / total.n - np.square(total.y / total.n)))


def _refuse_infinite(total: Sums) -> None:
    if not (np.isfinite(total.xx).all() and np.isfinite(total.yy).all()):
        raise InputError(
            "the train trials' input or their targets have NaN or Inf, or are too large for "
            "single precision; look at the columns that the extractor reads"
        )
