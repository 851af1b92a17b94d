"""Compiled loops and numpy give the same bytes; which of them runs, nobody can tell."""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from eegstore import Block
from eegstore_plugins import logarithms, spectral, sums, temporal
from eegstore_plugins.spectral import BANDS_HZ, Spectral
from eegstore_plugins.temporal import Temporal

ALL, NONE = 1 << 60, -1 << 60
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
SIGNALS = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(1, 150)), elements=FLOATS
)


def float64_features(signals, n_samples):
    """All features before they are rounded, by numpy alone or by compiled loops."""
    grid = spectral._grid("hann", tuple(BANDS_HZ.values()), signals.shape[-1], 128.0)
    with mock.patch.object(sums.loops, "n_samples", n_samples), np.errstate(all="ignore"):
        return np.concatenate([spectral._features(signals, grid), temporal._features(signals)])


def assert_same_bytes(signals):
    pytest.importorskip("numba")
    compiled, plain = float64_features(signals, ALL), float64_features(signals, NONE)
    assert compiled.tobytes() == plain.tobytes()


@settings(max_examples=300, deadline=None)
@given(signals=SIGNALS)
def test_compiled_loops_give_the_bytes_of_numpy_for_any_numbers(signals):
    assert_same_bytes(signals)


@settings(max_examples=200, deadline=None)
@given(
    signals=SIGNALS,
    spoilt=st.sampled_from([np.nan, np.inf, -np.inf]),
    place=st.integers(0, 149),
    is_all=st.booleans(),
)
def test_compiled_loops_have_no_number_where_numpy_has_none(signals, spoilt, place, is_all):
    pytest.importorskip("numba")
    signals[0, ... if is_all else place % signals.shape[1]] = spoilt
    compiled, plain = float64_features(signals, ALL), float64_features(signals, NONE)
    np.testing.assert_array_equal(compiled, plain)
    assert np.isnan(compiled[-len(temporal.FEATURES) + list(temporal.FEATURES).index("ptp"), 0])


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 1100)),
    seed=st.integers(0, 1000),
    offset=st.sampled_from([0, 4300]),
    digits=st.sampled_from([0, 6]),
)
def test_compiled_loops_give_the_bytes_of_numpy_for_signals(shape, seed, offset, digits):
    walks = np.random.default_rng(seed).normal(size=shape).cumsum(axis=-1) + offset
    assert_same_bytes(walks.round(digits).astype(np.float32))


@pytest.mark.parametrize("value", [0.0, -0.0, 4300.3, -1e38])
@pytest.mark.parametrize("n_times", [1, 2, 3, 8, 9, 64, 65, 256, 520])
def test_compiled_loops_give_the_bytes_of_numpy_for_a_flat_signal(value, n_times):
    signals = np.full((3, n_times), value, dtype=np.float32)
    signals[1, ::2] = 0.0
    assert_same_bytes(signals)


@pytest.mark.parametrize("extractor", [Spectral(), Temporal()], ids=lambda one: one.name)
def test_the_bytes_of_a_mapped_and_padded_block_are_those_of_numpy(extractor):
    pytest.importorskip("numba")
    eeg = np.random.default_rng(0).normal(size=(9, 4, 300)).astype(np.float32)
    eeg.flags.writeable = False
    n_valid = np.resize([300, 1, 220, 0], 9)
    block = Block({"eeg": eeg}, 0, 9, n_valid=n_valid, sfreq=128.0, times=np.arange(300) / 128)
    results = []
    for n_samples in (ALL, NONE):
        with mock.patch.object(sums.loops, "n_samples", n_samples):
            results.append(extractor(block).tobytes())
    assert results[0] == results[1]


def test_compiled_loops_are_loaded_once_there_is_much_to_compute():
    with mock.patch.object(sums, "_load_loops", return_value="loops"):
        loops = sums.Loops()
        assert loops.for_samples(sums.SAMPLES_BEFORE_LOOPS) is None
        assert loops.for_samples(1) == "loops"


def output_of(code):
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


def test_numpy_does_the_work_where_numba_cannot_be_imported():
    assert output_of(
        "import sys; sys.modules['numba'] = None\n"
        "from eegstore_plugins.sums import Loops\n"
        "print(Loops().for_samples(1 << 40))"
    ) == "None"  # fmt: skip


def test_importing_the_extractors_imports_neither_numba_nor_scipy():
    code = (
        "import sys, eegstore_plugins.spectral, eegstore_plugins.temporal;"
        "print({'numba', 'scipy', 'eegstore_plugins.loops'} & set(sys.modules))"
    )
    assert output_of(code) == "set()"


@settings(max_examples=200, deadline=None)
@given(values=arrays.arrays(np.float64, st.integers(0, 700), elements=st.integers(-1000, 1000)))
def test_a_total_of_whole_numbers_is_exact(values):
    assert sums.totals(values[:, np.newaxis], sums.eighth(len(values))).item() == values.sum()


def test_the_order_of_a_total_is_that_of_eighths():
    # Each pair of what is added at a step cancels; any other order would leave something.
    values = np.zeros(64)
    values[[0, 32, 16, 48, 8, 40]] = [1e30, -1e30, 1e20, -1e20, 1e10, 1.0]
    assert sums.totals(values[:, np.newaxis], 8).item() == 1e10 + 1.0


def test_an_early_total_adds_each_eighth_value_of_what_is_left_first():
    values = np.zeros(128)  # of which the eighths leave 16
    values[[0, 8, 1, 4]] = [1e30, -1e30, 1e20, 1.0]
    values[9] = -1e20
    assert sums.early_totals(values[:, np.newaxis], 16).item() == 1.0


@settings(max_examples=300, deadline=None)
@given(
    value=st.floats(min_value=np.finfo(np.float64).tiny, allow_infinity=False)
    | st.floats(min_value=0.7, max_value=1.5)
)
def test_a_logarithm_is_within_one_unit_of_its_last_place(value):
    log = logarithms.log(np.array([value])).item()
    exact = np.log(np.longdouble(value))
    assert abs(np.longdouble(log) - exact) < np.spacing(abs(float(exact)))


def test_the_logarithm_of_1_is_0():
    assert logarithms.log(np.ones(1)).item() == 0.0


def test_the_edge_is_the_lowest_bin_up_to_which_there_is_so_much():
    rng = np.random.default_rng(0)
    for n_bins in range(1, 15):
        power = rng.integers(0, 4, (n_bins, 50)).astype(np.float64)
        edge = power.sum(axis=0) * 0.75  # whole numbers and quarters: every order adds exactly
        below = np.minimum((power.cumsum(axis=0) < edge).sum(axis=0), n_bins - 1)
        assert spectral._below(power, edge).tolist() == below.tolist()


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("eegstore_plugins.loops", ["eegstore_plugins.sums", "eegstore_plugins.logarithms"]),
        ("eegstore.compiled", ["eegstore.steps"]),
    ],
)
def test_compiled_code_that_is_on_disk_is_made_anew_when_its_parts_change(name, parts):
    """numba looks at the bytes of one file only: it has to change with what it is made of."""
    pytest.importorskip("numba")
    sources = [Path(importlib.import_module(part).__file__).read_bytes() for part in parts]
    found = hashlib.sha256(b"".join(sources)).hexdigest()[:16]
    module = importlib.import_module(name)
    assert found == module.MADE_OF, f"{', '.join(parts)} changed: set MADE_OF in {module.__file__}"
