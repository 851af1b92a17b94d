"""Pairs in two stages: candidates by what is known of a trial, then the most similar of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore import Column, InputError, Pairs, Stimuli, Trials, hookimpl, nearest
from eegstore_plugins.good_trials import MIN_QUALITY, QUALITY, good_trials, reads_of
from eegstore_plugins.nearness import (
    GALLERY,
    METRIC,
    QUERY,
    Choice,
    Metric,
    Numbers,
    Values,
    best,
    similarity,
    space,
)

NAME = "^([a-z][a-z0-9_]*)?$"


def probabilities(scores: Values, temperature: float) -> Values:
    """float64, (trial, candidate): softmax of the scores divided by a temperature."""
    exponents = (scores - scores.max(axis=1, keepdims=True)) / temperature
    powers = np.exp(exponents)
    shares: Values = powers / powers.sum(axis=1, keepdims=True)
    return shares


@dataclass(frozen=True)
class MultiStagePairing:
    """Pairs each trial with the most similar of the stimuli that share its label or another value.

    The score is the confidence: the share of the stimulus among the trial's candidates, softmax of
    similarity / ``temperature``; 1 where there is one candidate. So ``min_confidence`` leaves
    trials unpaired of which the best candidate is hardly better than the next.

    Notes
    -----
    - coarse: candidates are the stimuli with the trial's value of a narrow column; a trial of
      value -1, NaN or '' has none and stays unpaired
    - filter: trials whose ``quality`` is less than ``min_quality`` stay unpaired
    - fine: the most similar candidate, of equals the lowest row; similarities that differ by less
      than 1e-10 are equal. Rows with NaN or Inf (for the cosine, of zeros) stay unpaired
    - threshold: trials of less than ``min_confidence`` stay unpaired
    """

    name: ClassVar[str] = "multi-stage"
    version: ClassVar[str] = "1"

    query: str = field(metadata=QUERY)
    gallery: str = field(default="stimuli/clip_image", metadata=GALLERY)
    coarse: str = field(
        default="label",
        metadata={
            "description": "Narrow column of trials that names the candidates; '' for all stimuli.",
            "pattern": NAME,
        },
    )
    coarse_stimuli: str = field(
        default="",
        metadata={
            "description": "Narrow column of stimuli with the same values; of the same name by "
            "default.",
            "pattern": NAME,
        },
    )
    metric: Metric = field(default="cosine", metadata=METRIC)
    k: int = field(
        default=1,
        metadata={
            "description": "Stimuli of a trial, best first, of its candidates.", "ge": 1, "le": 1000
        },
    )  # fmt: skip
    temperature: float = field(
        default=0.05,
        metadata={
            "description": "What similarities are divided by in the confidence; in units of the "
            "metric.",
            "gt": 0,
            "allow_inf_nan": False,
        },
    )
    min_confidence: float = field(
        default=0.0, metadata={"description": "Least confidence of a pair.", "ge": 0, "le": 1}
    )
    quality: str = field(default="", metadata=QUALITY)
    min_quality: float = field(default=0.5, metadata=MIN_QUALITY)
    unmatched: Literal["error", "keep"] = field(
        default="error",
        metadata={
            "description": "A value that no stimulus has: reject the build, or keep its trials "
            "unpaired."
        },
    )

    def __post_init__(self) -> None:
        if self.coarse_stimuli and not self.coarse:
            raise ValueError(f"coarse_stimuli is {self.coarse_stimuli!r}, but coarse is empty")

    @property
    def reads(self) -> tuple[str, ...]:
        """The wide columns that are compared, and that of the quality."""
        return (self.query, self.gallery, *reads_of(self.quality))

    @property
    def made_from(self) -> tuple[str, ...]:
        """What decides the pairs."""
        of_stimuli = self.coarse_stimuli or self.coarse
        coarse = {
            "" if not name else name if name == "label" else f"{table}/{name}": None
            for table, name in (("trials", self.coarse), ("stimuli", of_stimuli))
        }
        return (*filter(None, coarse), self.query, self.gallery)

    @property
    def cardinality(self) -> Literal["one", "many"]:
        """How many stimuli a trial has."""
        return "one" if self.k == 1 else "many"

    def __call__(self, trials: Trials, stimuli: Stimuli, columns: Mapping[str, Column]) -> Pairs:
        shared = space(columns, self.query, self.gallery, self.metric)
        of_trial, of_stimulus = self._coarse(trials, stimuli)
        good = good_trials(self.quality, self.min_quality, columns, trials.n_trials)
        of_trial = np.where(good, of_trial, -1)
        chosen = Choice.none(trials.n_trials, self.k)
        candidates = dict(_groups(of_stimulus[shared.stimuli]))
        for rows, vectors in shared.vectors():
            for value, some in _groups(of_trial[rows]):
                if value >= 0 and value in candidates:
                    places = candidates[value]
                    similar = similarity(vectors[some], shared.gallery[places], self.metric)
                    self._choose(chosen, rows[some], shared.stimuli[places], similar)
        return chosen.pairs()

    def _choose(self, chosen: Choice, rows: Numbers, stimuli: Numbers, similar: Values) -> None:
        """Give trials the most similar of their candidates, where that is sure enough."""
        shares = probabilities(similar, self.temperature)
        places = best(similar, self.k)
        scores = np.take_along_axis(shares, places, axis=1)
        sure = scores[:, 0] >= self.min_confidence
        chosen.put(rows[sure], stimuli[places[sure]], scores[sure])

    def _coarse(self, trials: Trials, stimuli: Stimuli) -> tuple[Numbers, Numbers]:
        """int64, (trial,) and (stimulus,): the same number for the same value, -1 for none."""
        if not self.coarse:
            return np.zeros(trials.n_trials, np.int64), np.zeros(stimuli.n_stimuli, np.int64)
        first = _narrow("trials", self.coarse, trials)
        second = _narrow("stimuli", self.coarse_stimuli or self.coarse, stimuli)
        given = np.concatenate([_is_given(first), _is_given(second)])
        if (first.dtype.kind == "U") != (second.dtype.kind == "U"):
            first, second = first.astype(np.str_), second.astype(np.str_)
        values, numbers = np.unique(np.concatenate([first, second]), return_inverse=True)
        numbers[~given] = -1
        of_trial, of_stimulus = numbers[: len(first)], numbers[len(first) :]
        if self.unmatched == "error":
            missing = np.setdiff1d(of_trial[of_trial >= 0], of_stimulus)
            self._refuse(values[missing], of_trial, missing)
        return of_trial, of_stimulus

    def _refuse(self, values: NDArray[Any], of_trial: Numbers, missing: Numbers) -> None:
        if not len(missing):
            return
        counts = [
            f"{value} ({np.count_nonzero(of_trial == number)} trials)"
            for value, number in zip(values[:5].tolist(), missing.tolist(), strict=False)
        ]
        raise InputError(
            f"pairing 'multi-stage': no stimulus has the {self.coarse} {', '.join(counts)}"
            f'{", …" * (len(missing) > 5)}; add the stimuli or set unmatched = "keep"'
        )


def _narrow(table: str, name: str, rows: Trials | Stimuli) -> NDArray[Any]:
    """A narrow column of a table."""
    own = ("label", "stimulus_key") if table == "trials" else (
        "label", "concept", "caption", "image_path", "content_id"
    )  # fmt: skip
    known = {one: getattr(rows, one) for one in own} | dict(rows.columns)
    values: NDArray[Any] | None = known.get(name)
    if values is None:
        there = [one for one, column in known.items() if column is not None]
        raise InputError(
            f"pairing 'multi-stage': {table} have no column {name!r}; {nearest(name, there)}"
        )
    return values


def _is_given(values: NDArray[Any]) -> NDArray[np.bool_]:
    """bool, (row,): whether there is a value: no -1, no empty text, no NaN."""
    none: Any = "" if values.dtype.kind == "U" else -1
    given: NDArray[np.bool_] = values != none
    return given & ~np.isnan(values) if values.dtype.kind == "f" else given


def _groups(numbers: Numbers) -> Iterator[tuple[int, Numbers]]:
    """Each number, and the places where it is, in order."""
    order = np.argsort(numbers, kind="stable")
    found, first = np.unique(numbers[order], return_index=True)
    yield from zip(found.tolist(), np.split(order, first[1:]), strict=True)


@hookimpl
def eegstore_pairings() -> list[type[MultiStagePairing]]:
    """The pairing of this module."""
    return [MultiStagePairing]
