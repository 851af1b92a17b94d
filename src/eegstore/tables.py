"""The two tables: what a source, a stimulus provider and an extractor hand over."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eegstore.answers import comes_with

Table = Literal["trials", "stimuli"]
TABLES: Final[tuple[Table, ...]] = ("trials", "stimuli")

COLUMN_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
# It becomes a folder's name, after the column's.
AXIS_NAME: Final = re.compile(r"\w[\w .:-]{0,127}")
NUMBERS: Final = frozenset(
    ["bool", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """The array for a reader: whoever writes to it is refused."""
    view = array.view()
    view.flags.writeable = False
    return view


def is_whole(value: Any) -> bool:
    """Whether a value is an integer, Python's or numpy's; a truth is none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


# What the kinds of numpy's types become in a narrow column, and the columns that are of one kind.
STORED: Final = {"b": np.bool_, "i": np.int64, "u": np.int64, "f": np.float64, "U": np.str_}
INTEGERS: Final = frozenset({"label", "n_samples"})
STRINGS: Final = frozenset(
    {"stimulus_key", "split", "image_path", "concept", "caption", "content_id"}
)


def _narrow(owner: str, name: str, values: ArrayLike, n_rows: int) -> NDArray[Any]:
    """A narrow column as a read-only vector of bool, int64, float64 or str."""
    array = np.asarray(values)
    if array.shape != (n_rows,):
        raise ValueError(f"{owner}.{name} has shape {array.shape}, expected ({n_rows},)")
    if array.dtype.kind in "OT":
        array = array.astype(np.str_)
    kinds = "iu" if name in INTEGERS else "U" if name in STRINGS else "biufU"
    if array.dtype.kind not in kinds:
        expected = {"iu": "int", "U": "str"}.get(kinds, "bool, int, float, str")
        raise ValueError(f"{owner}.{name} has dtype {array.dtype}, expected {expected}")
    if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{owner}.{name} has {array.max()}, expected at most 2**63 - 1")
    if name == "label" and array.min(initial=0) < -1:
        raise ValueError(f"{owner}.label has {array.min()}, expected 0 or more, or -1 for none")
    return frozen(array.astype(STORED[array.dtype.kind], copy=False))


def _words(owner: str, name: str, values: Any) -> tuple[str, ...]:
    """A sequence of strings as a tuple."""
    words = (values,) if isinstance(values, str) else tuple(values)
    wrong = [word for word in words if not isinstance(word, str)]
    if wrong or isinstance(values, str):
        given = type(wrong[0] if wrong else values).__name__
        raise ValueError(f"{owner}.{name}: got {given}, expected str in a list")
    return words


def _extra_columns(
    owner: str, columns: Mapping[str, ArrayLike], n_rows: int, taken: frozenset[str]
) -> dict[str, NDArray[Any]]:
    for name in columns:
        if not COLUMN_NAME.fullmatch(name) or name in taken or is_answered(owner.lower(), name):
            raise ValueError(f"{owner}.columns has {name!r}: not a free lower-case column name")
    return {name: _narrow(owner, name, values, n_rows) for name, values in columns.items()}


def is_answered(table: str, name: str) -> bool:
    """Whether a column is one that a pairing or a split may give."""
    return table == "trials" and bool(comes_with(name))


def _plain(value: Any) -> Any:
    """A numpy value as the JSON value that it is."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise ValueError(f"ColumnSpec.attrs has a {type(value).__name__}, expected JSON values")


def _coordinate(dim: str, values: Any) -> list[Any]:
    """The values of an axis: names, or finite numbers."""
    array = np.asarray(values)
    finite = array.dtype.kind != "f" or np.isfinite(array).all()
    if array.ndim != 1 or array.dtype.kind not in "biufU" or not finite:
        raise ValueError(f"ColumnSpec.coords[{dim!r}]: expected names or finite numbers")
    return list(array.tolist())


RESERVED_TRIALS = frozenset(
    {"eeg", "label", "stimulus", "score", "split", "valid", "stimulus_key", "channel", "time"}
)
RESERVED_STIMULI = frozenset({"image", "image_path", "label", "concept", "caption", "content_id"})


@dataclass(frozen=True, eq=False, kw_only=True)
class Trials:
    """All of a recording but its signal: one row a stimulus presentation.

    Parameters
    ----------
    n_trials
        Number of rows.
    ch_names
        Channel names, in the order of the signal's second axis.
    sfreq
        Sampling rate in Hz.
    times
        float64, (time,): seconds from stimulus onset.
    units
        Unit of the signal, such as ``"V"`` or ``"uV"``.
    label
        int64, (trial,): the concept's integer, -1 where there is none.
    ch_types
        MNE channel types, one a channel; all ``"eeg"`` by default.
    stimulus_key
        str, (trial,): what was shown, as the source names it (``""`` where nothing was).
    split
        str, (trial,): the split that the source itself gives, such as ``"train"``.
    columns
        Further narrow columns: name to a vector of bool, int, float or str, one value a trial.
        ``n_samples``, where given, is each trial's original length; samples past it are padding.
    notice
        One sentence that the store and every output repeat (a synthetic source says so here).
    skipped
        One line for each event that ``allow_skips`` left out.
    hints
        Lines that the user is shown once.
    """

    n_trials: int
    ch_names: Sequence[str]
    sfreq: float
    times: NDArray[np.float64]
    units: str
    label: NDArray[np.int64]
    ch_types: Sequence[str] = ()
    stimulus_key: NDArray[np.str_] | None = None
    split: NDArray[np.str_] | None = None
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    notice: str = ""
    skipped: Sequence[str] = ()
    hints: Sequence[str] = ()

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        for name in ("ch_names", "ch_types", "skipped", "hints"):
            set_(self, name, _words("Trials", name, getattr(self, name)))
        _words("Trials", "notice and units", [self.notice, self.units])
        names = self.ch_names
        types = self.ch_types or ("eeg",) * len(names)
        times = np.asarray(self.times, dtype=np.float64)
        if self.n_trials < 1:
            raise ValueError("Trials.n_trials is 0, expected at least one trial")
        if not names or len(set(names)) != len(names):
            raise ValueError(f"Trials.ch_names {names} must be one or more different names")
        if len(types) != len(names):
            raise ValueError(f"Trials.ch_types has {len(types)} entries for {len(names)} channels")
        if times.ndim != 1 or not len(times) or not np.isfinite(times).all():
            raise ValueError("Trials.times must be a non-empty vector of finite seconds")
        if not (np.isfinite(self.sfreq) and self.sfreq > 0):
            raise ValueError(f"Trials.sfreq is {self.sfreq}, expected a positive rate in Hz")
        set_(self, "ch_types", types)
        set_(self, "sfreq", float(self.sfreq))
        set_(self, "times", frozen(times))
        set_(self, "label", _narrow("Trials", "label", self.label, self.n_trials))
        for name in ("stimulus_key", "split"):
            values = getattr(self, name)
            if values is not None:
                set_(self, name, _narrow("Trials", name, values, self.n_trials))
        set_(
            self,
            "columns",
            _extra_columns("Trials", self.columns, self.n_trials, RESERVED_TRIALS),
        )
        if (self.n_valid < 0).any():
            raise ValueError("Trials.columns['n_samples'] has a negative length")

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return len(self.ch_names)

    @property
    def n_times(self) -> int:
        """Number of samples a trial."""
        return len(self.times)

    @property
    def n_valid(self) -> NDArray[np.int64]:
        """int64, (trial,): how many samples of each trial are recorded; the rest is padding."""
        n_samples = self.columns.get("n_samples")
        if n_samples is None:
            return np.full(self.n_trials, self.n_times, dtype=np.int64)
        return np.minimum(n_samples.astype(np.int64), self.n_times)


@dataclass(frozen=True, eq=False, kw_only=True)
class Stimuli:
    """The images of a provider, without their pixels: one row an image.

    Parameters
    ----------
    image_path
        str, (stimulus,): the image's file, relative to the provider's folder.
    label
        int64, (stimulus,): the concept's integer, -1 where there is none.
    concept
        str, (stimulus,): the category's name.
    caption
        str, (stimulus,): the text that goes with the image.
    content_id
        str, (stimulus,): digest of the encoded file's bytes (of the raw pixels for IDX).
        Rows with one ``content_id`` share every computation on the image.
    columns
        Further narrow columns.
    """

    image_path: NDArray[np.str_]
    label: NDArray[np.int64]
    concept: NDArray[np.str_]
    caption: NDArray[np.str_]
    content_id: NDArray[np.str_]
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.image_path)
        if n < 1:
            raise ValueError("Stimuli has no rows, expected at least one image")
        for name in ("image_path", "label", "concept", "caption", "content_id"):
            object.__setattr__(self, name, _narrow("Stimuli", name, getattr(self, name), n))
        columns = _extra_columns("Stimuli", self.columns, n, RESERVED_STIMULI)
        object.__setattr__(self, "columns", columns)

    @property
    def n_stimuli(self) -> int:
        """Number of rows."""
        return len(self.image_path)


@dataclass(frozen=True, eq=False)
class ColumnSpec:
    """What one row of a column is; the row axis itself is left out.

    Parameters
    ----------
    dims
        Axis names after the row's, such as ``("channel", "feature")``.
    shape
        Their lengths.
    dtype
        numpy name of the element type, such as ``"float32"``.
    coords
        For some or all of ``dims``: the axis' values (names or numbers).
    units
        Unit of the values, ``"1"`` or ``""`` where there is none.
    attrs
        Further facts for the array's attributes; JSON values.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    coords: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    units: str = ""
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dims, shape = tuple(self.dims), tuple(operator.index(length) for length in self.shape)
        if len(dims) != len(shape) or len(set(dims)) != len(dims):
            raise ValueError(f"ColumnSpec has dims {dims} for shape {shape}: one name an axis")
        for dim in dims:
            if not (isinstance(dim, str) and AXIS_NAME.fullmatch(dim)):
                raise ValueError(f"ColumnSpec has the axis {dim!r}, expected a name as 'frequency'")
        _words("ColumnSpec", "units", [self.units])
        coords = {dim: _coordinate(dim, values) for dim, values in self.coords.items()}
        for dim, values in coords.items():
            length = dict(zip(dims, shape, strict=True)).get(dim)
            if length != len(values):
                raise ValueError(f"ColumnSpec.coords[{dim!r}]: {len(values)} values for {length}")
        set_ = object.__setattr__
        set_(self, "dims", dims)
        set_(self, "shape", shape)
        set_(self, "coords", coords)
        # Of a big-endian type too: bytes are stored little-endian, whatever the machine's order.
        set_(self, "dtype", self.dtype if self.dtype == "str" else np.dtype(self.dtype).name)
        if self.dtype != "str" and self.dtype not in NUMBERS:
            raise ValueError(f"ColumnSpec.dtype is {self.dtype}, expected bool, int or float")
        attrs = json.dumps(dict(self.attrs), default=_plain, allow_nan=False)
        set_(self, "attrs", json.loads(attrs))

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in memory."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class Column(Protocol):
    """A column that can be read by rows."""

    @property
    def spec(self) -> ColumnSpec:
        """What one row is."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """The rows named by an integer, a slice, or an array of integers or booleans."""
        ...


def _lent(values: Any) -> Any:
    """A column's values for a plugin that may not change them: others get the same."""
    if isinstance(values, list):
        return [_lent(one) for one in values]
    return frozen(values) if isinstance(values, np.ndarray) else values


class Block(Mapping[str, Any]):
    """One range of rows, as an extractor receives it.

    ``block["eeg"]`` is read-only float32 (row, channel, time); ``block["image"]`` a list of uint8
    (y, x, 3); ``block["caption"]`` a list of str; any other column goes by its name.

    Parameters
    ----------
    columns
        Name to values, one entry a row.
    start, stop
        The row range in the table. Of stimuli with one ``content_id`` only the first row of the
        range is in the block, so ``n_rows`` can be less than ``stop - start``.
    n_valid
        int64, (row,): how many samples of each trial are recorded (the rest is padding).
    sfreq
        Sampling rate in Hz; NaN for stimuli.
    times
        float64, (time,), seconds from stimulus onset; empty for stimuli.
    ch_names
        Channel names; empty for stimuli.
    units
        Unit of ``eeg``, ``"1"`` or ``""`` where it is unknown; empty for stimuli.
    """

    def __init__(
        self,
        columns: Mapping[str, Any],
        start: int,
        stop: int,
        *,
        n_valid: NDArray[np.int64] | None = None,
        sfreq: float = float("nan"),
        times: NDArray[np.float64] | None = None,
        ch_names: Sequence[str] = (),
        units: str = "",
    ) -> None:
        self._columns = {name: _lent(values) for name, values in columns.items()}
        self.start = start
        self.stop = stop
        self.times = np.empty(0) if times is None else frozen(times)
        self.n_rows = len(next(iter(columns.values())))
        if n_valid is None:
            n_valid = np.full(self.n_rows, len(self.times), dtype=np.int64)
        self.n_valid = frozen(n_valid)
        self.sfreq = sfreq
        self.ch_names = tuple(ch_names)
        self.units = units

    def __getitem__(self, name: str) -> Any:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)
