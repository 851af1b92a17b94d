"""What the kit offers to plugins: a few trials and images of which every value is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec, Stimuli, Trials, configure, installed
from eegstore.testing.check import NotApplicable

N_ROWS: Final = 16
CH_NAMES: Final = ("Fz", "Cz", "Pz", "Oz")
SFREQ: Final = 128.0
N_TIMES: Final = 256
STD_UV: Final = 20.0
ALPHA_HZ: Final = 10.0
LABELS: Final = (0, 1, 2, 3, -1, 1, 0, 2, 3, -1, 1, 2, 0, 3, 1, 0)
N_LABELS: Final = 4
N_STIMULI: Final = 8
N_TRAIN: Final = 12  # the first rows
WIDTH: Final = 8  # of an embedding


def trials(order: Sequence[int] | None = None, keys: bool = True) -> Trials:
    """A recording's table; ``order`` permutes its rows, ``keys`` says whether it names stimuli."""
    rows = np.arange(N_ROWS) if order is None else np.asarray(order)
    label = np.array(LABELS)[rows]
    shown = [f"images/{label_ + N_LABELS * (row % 2)}.png" if label_ >= 0 else ""
            for row, label_ in zip(rows.tolist(), label.tolist(), strict=True)]  # fmt: skip
    return Trials(
        n_trials=len(rows),
        ch_names=CH_NAMES,
        sfreq=SFREQ,
        times=times(),
        units="uV",
        label=label,
        stimulus_key=np.array(shown) if keys else None,
        split=np.where(rows % 4 == 3, "test", "train"),
        columns={name: values[rows] for name, values in _trial_columns().items()},
    )


def stimuli() -> Stimuli:
    """The images' table: two of each label."""
    row = np.arange(N_STIMULI)
    columns: dict[str, Any] = _stimulus_columns()
    return Stimuli(**{name: values[row] for name, values in columns.items()})


def times() -> NDArray[np.float64]:
    """float64, (time,): seconds from stimulus onset."""
    return np.arange(N_TIMES) / SFREQ - 0.2


def _trial_columns() -> dict[str, NDArray[Any]]:
    row = np.arange(N_ROWS)
    return {
        "subject": np.array(["s1", "s2"])[row // 8],
        "session": row // 8,
        "run": row // 4,
        "repetition": row // N_LABELS,
        "onset": 1.5 * row,
        "block": row // 8,
        "n_samples": np.full(N_ROWS, N_TIMES),
    }


def _stimulus_columns() -> dict[str, NDArray[Any]]:
    row = np.arange(N_ROWS)
    concepts = np.array(["apple", "dog", "Übung", "a red sports car"])[row % N_LABELS]
    return {
        "image_path": np.array([f"images/{one}.png" for one in row]),
        "label": row % N_LABELS,
        "concept": concepts,
        "caption": np.array(
            [f"This picture is {one}, number {n}" for n, one in enumerate(concepts.tolist())]
        ),
        "content_id": np.array([f"{one:064x}" for one in row]),
    }


def eeg(seed: int = 0) -> NDArray[np.float32]:
    """float32, (trial, channel, time), in uV: noise, and a rhythm at 10 Hz."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((N_ROWS, len(CH_NAMES), N_TIMES))
    phase = rng.uniform(0, 2 * np.pi, (N_ROWS, 1, 1))
    rhythm = np.sin(2 * np.pi * ALPHA_HZ * times() + phase)
    gain = np.arange(1, len(CH_NAMES) + 1)[:, np.newaxis] / 2
    return (STD_UV * (noise + gain * rhythm)).astype(np.float32)


def images() -> list[NDArray[np.uint8]]:
    """Images, each uint8 (y, x, 3), of different sizes: gradients with noise."""
    rng = np.random.default_rng(1)
    found = []
    for row in range(N_ROWS):
        height, width = 24 + 4 * (row % 3), 32 - 2 * (row % 5)
        slope = np.linspace(0, 160, width) * np.linspace(0.3, 1, height)[:, np.newaxis]
        noise = rng.integers(0, 90, (height, width, 3))
        found.append((slope[..., np.newaxis] + noise).astype(np.uint8))
    return found


def columns(plugin: Any) -> dict[str, Any]:
    """What an extractor reads, ``N_ROWS`` rows of each.

    Raises
    ------
    NotApplicable
        Where a column is none that is known here, nor of an extractor that is installed.
    """
    return {read: column(plugin.table, read)[1] for read in plugin.reads}


def fit_columns(plugin: Any) -> dict[str, Any]:
    """What an extractor's fit reads, ``N_ROWS`` rows of each."""
    return columns(plugin) | {read: _fitted_to(read)[1] for read in fit_reads(plugin)}


def specs(plugin: Any) -> dict[str, ColumnSpec]:
    """What one row of each column is that an extractor reads, or is fitted to."""
    found = {read: column(plugin.table, read)[0] for read in plugin.reads}
    return found | {read: _fitted_to(read)[0] for read in fit_reads(plugin)}


def fit_reads(plugin: Any) -> tuple[str, ...]:
    """What an extractor's fit reads beside what it reads itself."""
    names: tuple[str, ...] = getattr(plugin, "fit_reads", ())
    return names


def train_rows(plugin: Any) -> list[int]:
    """The rows that an extractor is fitted on; the paired ones, where it reads their stimuli."""
    joined = any(read.startswith("stimuli/") for read in fit_reads(plugin))
    rows = np.arange(N_TRAIN)
    found: list[int] = rows[stimulus()[rows] >= 0].tolist() if joined else rows.tolist()
    return found


def stimulus() -> NDArray[np.int64]:
    """int64, (trial,): the row of the stimuli, -1 for trials of label -1."""
    label = np.array(LABELS)
    turn = N_LABELS * (np.arange(N_ROWS) % 2)
    return np.where(label >= 0, label + turn, -1).astype(np.int64)


def _fitted_to(name: str) -> tuple[ColumnSpec, Any]:
    """A column of trials, or of the stimuli that they are paired with, one row a trial."""
    if not name.startswith("stimuli/"):
        return vectors("trials", name)
    spec, values = vectors("stimuli", name.removeprefix("stimuli/"))
    return spec, np.asarray(values)[np.maximum(stimulus(), 0)]


def vectors(table: str, name: str) -> tuple[ColumnSpec, Any]:
    """A column as ``column`` gives it; an embedding stands for one that cannot be known here."""
    try:
        return column(table, name)
    except NotApplicable:
        rng = np.random.default_rng([len(table), *name.encode()])
        spec = ColumnSpec(dims=("embedding",), shape=(WIDTH,), dtype="float32")
        return spec, rng.standard_normal((N_ROWS, WIDTH)).astype(np.float32)


def column(table: str, name: str, depth: int = 0) -> tuple[ColumnSpec, Any]:
    """What one row of a column is, and ``N_ROWS`` rows of it."""
    if (table, name) == ("trials", "eeg"):
        return _eeg_spec(), eeg()
    if (table, name) == ("stimuli", "image"):
        return ColumnSpec(dims=("y", "x", "rgb"), shape=(-1, -1, 3), dtype="uint8"), images()
    narrow = _stimulus_columns()
    if table == "trials":
        found = trials()
        assert found.stimulus_key is not None
        narrow = {"label": found.label, "stimulus_key": found.stimulus_key, **found.columns}
        narrow |= _paired_columns()
    if name not in narrow:
        return _computed(table, name, depth)
    values = narrow[name]
    spec = ColumnSpec((), (), "str" if values.dtype.kind == "U" else values.dtype.name)
    return spec, values.tolist() if name == "caption" else values


def _paired_columns() -> dict[str, NDArray[Any]]:
    """What pairing and splitting make of the trials."""
    row = np.arange(N_ROWS)
    return {
        "stimulus": stimulus(),
        "score": np.where(stimulus() >= 0, 1, np.nan).astype(np.float32),
        "split": np.where(row < N_TRAIN, "train", "test"),
        "fold": np.where(row < N_TRAIN, row % 3, -1),
    }


def _eeg_spec() -> ColumnSpec:
    return ColumnSpec(
        dims=("channel", "time"),
        shape=(len(CH_NAMES), N_TIMES),
        dtype="float32",
        coords={"channel": CH_NAMES, "time": times().tolist()},
        units="uV",
        attrs={"sfreq": SFREQ, "ch_types": ["eeg"] * len(CH_NAMES)},
    )


def _computed(table: str, name: str, depth: int) -> tuple[ColumnSpec, Any]:
    """A column that an installed extractor computes, with its default options."""
    cls: Any = installed("extractor", name.replace("_", "-"))
    if cls is None or cls.table != table or depth > 4:
        raise NotApplicable(
            f"reads {table}/{name}: no extractor of that name is installed, so what its rows are "
            "is not known here"
        )
    try:
        plugin = configure(cls, {}, Path(), cls.__name__)
        read = {one: column(table, one, depth + 1) for one in plugin.reads}
        spec = plugin.describe({one: spec for one, (spec, _) in read.items()})
        if hasattr(plugin, "prepare"):
            plugin.prepare()
        rows = list(range(N_ROWS))
        return spec, plugin(block(table, {one: values for one, (_, values) in read.items()}, rows))
    except NotApplicable:
        raise
    except Exception as error:
        reason = f"reads {table}/{name}: it could not be computed ({type(error).__name__}: {error})"
        raise NotApplicable(reason) from error


def chosen(values: Any, rows: Sequence[int]) -> Any:
    """Some rows of a column, as arrays or lists of their own."""
    if isinstance(values, list):
        return [np.array(values[row]) if isinstance(values[row], np.ndarray) else values[row]
                for row in rows]  # fmt: skip
    return values[list(rows)].copy()


def block(
    table: str,
    columns: Mapping[str, Any],
    rows: Sequence[int],
    start: int = 0,
    n_valid: NDArray[np.int64] | None = None,
) -> Block:
    """Some rows of the material, as an extractor receives them from row ``start`` on."""
    held = {name: chosen(values, rows) for name, values in columns.items()}
    return held_block(table, held, start, len(rows), n_valid)


def held_block(
    table: str,
    held: Mapping[str, Any],
    start: int,
    n_rows: int,
    n_valid: NDArray[np.int64] | None = None,
) -> Block:
    """A block of arrays that the caller keeps, to see what becomes of them."""
    if table == "stimuli":
        return Block(held, start, start + n_rows)
    return Block(
        held,
        start,
        start + n_rows,
        n_valid=np.full(n_rows, N_TIMES) if n_valid is None else n_valid,
        sfreq=SFREQ,
        times=times(),
        ch_names=CH_NAMES,
    )
