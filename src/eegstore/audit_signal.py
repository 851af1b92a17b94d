"""Checks of the EEG itself: copies of trials, and normalisers that saw the test."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore.audit_rows import TRAIN, Rows
from eegstore.findings import Finding, NotCheckedError, few
from eegstore.neighbours import partners
from eegstore.sketching import BLOCK_BYTES, Signal, lines, without_trend
from eegstore.wording import plural

ALIKE: Final = 0.99  # correlation from which on two trials are copies
MAINS_HZ: Final = (50.0, 100.0, 150.0, 60.0, 120.0, 180.0)
ROUNDING: Final = 1e-18  # of a power in double precision; one in single leaves 1e-15
SKETCH_ALIKE: Final = 0.96  # a sketch of copies is off by a little
# A normaliser leaves float32's rounding; a part of the rows is off by what rows differ.
STANDARD: Final = 1e-3
TIMES_OFF: Final = 20.0

Pairs = NDArray[np.int64]


def near_duplicate_trials(rows: Rows) -> Iterator[Finding]:
    """Trials whose EEG is a copy of another's: to the bit, or but for gain, offset and noise."""
    if not len(rows):
        raise NotCheckedError("no trial is valid")
    signal = rows.signal
    exact = _exact(rows, signal.checksum)
    found = partners(signal.sketch, rows.part, SKETCH_ALIKE)
    near = [_pairs(one) for one in found]
    spec = rows.store.trials["eeg"].spec
    judge = functools.partial(_is_alike, basis=usual(spec.shape[1], float(spec.attrs["sfreq"])))
    pairs = np.concatenate([exact, *(one[_judged(rows, one, judge)] for one in near)])
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    torn = rows.part[pairs[:, 0]] != rows.part[pairs[:, 1]]
    if torn.any():
        yield _copies(rows, pairs[torn], exact, "error")
    if not torn.all():
        yield _copies(rows, pairs[~torn], exact, "note")


def _copies(rows: Rows, pairs: Pairs, exact: Pairs, severity: Any) -> Finding:
    """The finding of copies across splits, or of those within one."""
    bits = set(map(tuple, np.sort(exact, axis=1).tolist()))
    n_exact = sum(tuple(pair) in bits for pair in pairs.tolist())
    n_trials = len(np.unique(pairs))
    where = "another split" if severity == "error" else "the same split"
    examples = (f"{rows.where(one)} and {rows.where(other)}" for one, other in pairs.tolist())
    return Finding(
        "near-duplicate-trials",
        severity,
        n_trials,
        f"{plural(n_trials, 'trial')} with a copy of their EEG in {where}: "
        f"{plural(n_exact, 'pair')} equal to the bit, {plural(len(pairs) - n_exact, 'pair')} "
        f"correlated above {ALIKE} in the mean of the channels",
        few(examples),
        "Look for files that were read twice, and for trials that were copied to balance labels; "
        "leave all but one of each out of the source.",
    )  # fmt: skip


def _pairs(partner: NDArray[np.int64]) -> Pairs:
    """int64, (pair, 2): rows and their partners, each pair once."""
    row = np.flatnonzero(partner >= 0)
    return np.unique(np.sort(np.stack([row, partner[row]], axis=1), axis=1), axis=0)


def _exact(rows: Rows, checksum: NDArray[np.uint32]) -> Pairs:
    """int64, (pair, 2): rows that are equal to the bit and not flat, with one other each.

    That is the first of its checksum, or the first of it in another part.
    """
    _, code, counts = np.unique(checksum, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts[code] > 1)
    order = repeated[np.argsort(code[repeated], kind="stable")]
    pairs = []
    for group in np.split(order, np.flatnonzero(np.diff(code[order])) + 1) if len(order) else ():
        elsewhere = group[rows.part[group] != rows.part[group[0]]]
        pairs += [(group[0], row) for row in group[1:]]
        pairs += [(elsewhere[0], row) for row in group[1:] if len(elsewhere)]
    made = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    made = _pairs_of_two(made)
    return made[_judged(rows, made, _is_equal)]


def _pairs_of_two(pairs: Pairs) -> Pairs:
    """The pairs of two different rows, each once."""
    distinct = pairs[pairs[:, 0] != pairs[:, 1]]
    return np.unique(np.sort(distinct, axis=1), axis=0)


def _judged(rows: Rows, pairs: Pairs, judge: Any) -> NDArray[np.bool_]:
    """bool, (pair,): what is said of both trials; they are read a few at a time."""
    eeg = rows.store.trials["eeg"]
    n_channels, n_times = eeg.spec.shape
    step = max(1, BLOCK_BYTES // (16 * n_channels * n_times))
    kept = np.zeros(len(pairs), dtype=np.bool_)
    n_valid = rows.n_valid
    for start in range(0, len(pairs), step):
        one, other = pairs[start : start + step].T
        recorded = np.arange(n_times) < np.minimum(n_valid[one], n_valid[other])[:, None, None]
        signals = (
            np.where(recorded, eeg.take(rows.trial[row]), np.float32(0)) for row in (one, other)
        )
        kept[start : start + step] = judge(*signals)
    return kept


def _is_equal(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.bool_]:
    flat = (one == one[..., :1]).all(axis=(1, 2))
    equal: NDArray[np.bool_] = (one == other).all(axis=(1, 2)) & ~flat
    return equal


def usual(n_times: int, sfreq: float) -> NDArray[np.float64]:
    """float64, (time, basis): what trials have in common that are no copies: offset, trend, mains.

    In an unfiltered recording the mains may be all but the whole of a trial, and trials that meet
    them in one phase are then as alike as copies.
    """
    waves = [hz for hz in MAINS_HZ if 2 * hz < sfreq]
    phase = 2j * np.pi * np.outer(np.arange(n_times) / sfreq, waves)
    basis = np.concatenate([lines(n_times), np.exp(phase).real, np.exp(phase).imag], axis=1)
    return np.linalg.qr(basis)[0] if n_times > 2 * basis.shape[1] else lines(n_times)


def _is_alike(
    one: NDArray[np.float32], other: NDArray[np.float32], basis: NDArray[np.float64]
) -> NDArray[np.bool_]:
    first, second = without_trend(one, basis), without_trend(other, basis)
    power = [(signal**2).sum(axis=-1) for signal in (first, second)]
    # A flat channel says nothing: what is left of it is rounding.
    told = (power[0] > ROUNDING * _power(one)) & (power[1] > ROUNDING * _power(other))
    size = np.sqrt(power[0] * power[1])
    product = (first * second).sum(axis=-1)
    correlation = np.divide(product, size, out=np.zeros_like(size), where=told)
    n_told = np.maximum(told.sum(axis=-1), 1)
    alike: NDArray[np.bool_] = correlation.sum(axis=-1) / n_told > ALIKE
    return alike


def _power(eeg: NDArray[np.float32]) -> NDArray[np.float64]:
    """float64, (…, channel): sum of squares over time."""
    power: NDArray[np.float64] = np.square(eeg, dtype=np.float64).sum(axis=-1)
    return power


def fitted_on_test(rows: Rows) -> Iterator[Finding]:
    """Columns that were fitted to another split, and EEG that was normalised with its test."""
    rows.need_parts()
    yield from _fitted_columns(rows)
    yield from _normalised(rows)


def _fitted_columns(rows: Rows) -> Iterator[Finding]:
    """Columns whose state is not of the train rows of the split as it is committed."""
    store = rows.store
    split_key = store.trials["split"].entry.key
    wrong = []
    for table in (store.trials, store.stimuli):
        for column in table.values():
            why = _why_unfit(column.attrs.get("eegstore", {}), split_key, rows.has("fold"))
            wrong += [f"{column.entry.path}: {why}"] if why else []
    if wrong:
        yield Finding(
            "fitted-on-test",
            "error",
            len(wrong),
            f"{plural(len(wrong), 'column')} fitted to rows that are scored",
            few(wrong),
            "Build the store again with its recipe; where it has folds, use an extractor that "
            "reads the column fold, or a test split.",
        )


def _why_unfit(facts: Mapping[str, Any], split_key: str, has_folds: bool) -> str:
    """What is wrong with a column's fit; empty where nothing is, or where it has none."""
    fitted = facts.get("fitted")
    if not fitted:
        return ""
    if fitted.get("split") != TRAIN:
        return f"fitted on the split {fitted.get('split')}"
    if fitted.get("key") != split_key:
        return "fitted on train rows of a split that is not the store's"
    reads = [*facts.get("inputs", {}), *fitted.get("inputs", {})]
    knows_folds = "fold" in {name.rpartition("/")[2] for name in reads}
    return "fitted on all folds at once" if has_folds and not knows_folds else ""


def _normalised(rows: Rows) -> Iterator[Finding]:
    """EEG of mean 0 and standard deviation 1 over all rows, and not over those of train."""
    signal, n_parts = rows.signal, len(rows.part_names)
    whole = _off(signal, np.arange(n_parts))
    trains = [np.unique(rows.part[pair.train]) for pair in rows.held_out]
    train = min((_off(signal, parts) for parts in trains), default=0.0)
    if whole < STANDARD and train > TIMES_OFF * whole:
        yield Finding(
            "fitted-on-test",
            "error",
            len(rows),
            f"the EEG has mean 0 and standard deviation 1 over all {len(rows):,} trials (off by "
            f"{whole:.1g}), not over the train trials (off by {train:.1g}): it was normalised "
            "with what is scored",
            _channels(rows, signal, trains),
            "Give the source the EEG as it was before that, and normalise by train alone "
            '(eegstore.torch.Dataset, normalize = "train") or by trial.',
        )


def _off(signal: Signal, parts: NDArray[np.int64]) -> float:
    """How far the channels are from mean 0 and standard deviation 1: the worst that is not flat."""
    mean, std = signal.moments(parts)
    off = np.maximum(abs(mean), abs(std - 1))[std > 0]
    return float(off.max(initial=0)) if len(off) else np.inf


def _channels(rows: Rows, signal: Signal, trains: Iterable[NDArray[np.int64]]) -> list[str]:
    mean, std = signal.moments(next(iter(trains)))
    names = rows.store.trials.coords.get("channel", range(len(mean)))
    return few(
        f"{name}: mean {m:.3g}, standard deviation {s:.3g} over train"
        for name, m, s in zip(names, mean.tolist(), std.tolist(), strict=True)
    )
