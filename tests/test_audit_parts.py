"""What the checks of an audit stand on: sketches, neighbours, chance, time and looks of images."""

from __future__ import annotations

import io
import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from eegstore import ColumnSpec, sketching
from eegstore.audit_images import HASH_ALIKE, perceptual_hash
from eegstore.audit_signal import SKETCH_ALIKE
from eegstore.audit_time import overlapping
from eegstore.chance import clusters, score
from eegstore.neighbours import LEAF_ROWS, partners
from eegstore.sketching import Projections, read_signal
from studies import pattern

SEEDS = st.integers(0, 2**32 - 1)


class Made:
    """A column of EEG that is made when it is read; remembers how much was asked for."""

    def __init__(self, n_rows: int, n_channels: int, n_times: int) -> None:
        self.spec = ColumnSpec(("channel", "time"), (n_channels, n_times), "float32")
        self.n_rows = n_rows
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, rows: Any) -> Any:
        self.asked.append(len(rows))
        return np.random.default_rng(rows[0]).random((len(rows), *self.spec.shape), np.float32)


def eeg_like(rng: np.random.Generator, n: int, n_channels: int, n_times: int) -> Any:
    """Random walks, as slow as EEG is."""
    return rng.normal(size=(n, n_channels, n_times)).cumsum(axis=-1).astype(np.float32)


@given(
    SEEDS,
    st.integers(1, 9),
    st.integers(16, 90),
    st.floats(1e-3, 1e3),
    st.floats(-1e3, 1e3),
    st.floats(-1, 1),
)
@settings(deadline=None, max_examples=60)
def test_a_sketch_keeps_its_direction_under_gain_offset_and_trend(
    seed: int, n_channels: int, n_times: int, gain: float, offset: float, slope: float
) -> None:
    eeg = eeg_like(np.random.default_rng(seed), 3, n_channels, n_times)
    copy = gain * (eeg + offset + slope * np.arange(n_times)).astype(np.float32)
    project = Projections.of(n_channels, n_times).sketch
    likeness = (project(eeg) * project(copy.astype(np.float32))).sum(axis=1)
    assert likeness.min() > SKETCH_ALIKE
    np.testing.assert_allclose(np.linalg.norm(project(eeg), axis=1), 1, rtol=1e-5)


@given(SEEDS, st.floats(0.99, 0.9999))
@settings(deadline=None, max_examples=10)
def test_copies_find_each_other_among_many_rows_in_any_order(seed: int, alike: float) -> None:
    rng = np.random.default_rng(seed)
    n, n_copies = 5 * LEAF_ROWS, 20
    sketch = rng.standard_normal((n, 64))
    order = rng.permutation(n)
    first, copy = order[:n_copies], order[n_copies : 2 * n_copies]
    noise = rng.standard_normal((n_copies, 64))
    sketch /= np.linalg.norm(sketch, axis=1, keepdims=True)
    noise -= (noise * sketch[first]).sum(axis=1, keepdims=True) * sketch[first]
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    sketch[copy] = alike * sketch[first] + np.sqrt(1 - alike**2) * noise
    part = rng.integers(0, 2, n)
    part[copy] = 1 - part[first]
    found = partners(sketch.astype(np.float32), part, 0.98)
    assert np.mean(found.elsewhere[copy] == first) >= 0.95
    assert set(np.flatnonzero(found.elsewhere >= 0)) <= {*first, *copy}
    assert (found.here == -1).all()
    rows = np.flatnonzero(found.elsewhere >= 0)
    assert (part[found.elsewhere[rows]] != part[rows]).all()


def test_rows_of_zeros_are_like_none() -> None:
    found = partners(np.zeros((10, 4), np.float32), np.arange(10) % 2, 0.5)
    assert (np.array(found) == -1).all()


def test_memory_and_reads_grow_with_the_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketching, "BLOCK_BYTES", 1 << 20)
    told: list[tuple[str, int, int]] = []

    def tell(what: str, done: int, total: int) -> None:
        told.append((what, done, total))

    for n_rows in (500, 2000):
        eeg = Made(n_rows, 8, 256)
        rows = np.arange(n_rows)
        tracemalloc.start()
        read_signal(eeg, rows, rows % 2, np.full(n_rows, 256), tell)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert sum(eeg.asked) == n_rows
        assert max(eeg.asked) * 4 * 8 * 256 <= 1 << 20
        assert told[-1] == ("read eeg", n_rows, n_rows)
        # Some blocks are in the works at once; of 16 MB of EEG a sketch of 260 bytes a row stays.
        assert peak < 6 * (1 << 20) + n_rows * 260


def test_moments_are_those_of_the_samples_that_are_recorded() -> None:
    rng = np.random.default_rng(0)
    eeg = (eeg_like(rng, 30, 3, 40) + 5).astype(np.float32)
    n_valid, part = rng.integers(10, 41, 30), np.arange(30) % 3

    class Whole:
        spec = ColumnSpec(("channel", "time"), (3, 40), "float32")

        def __getitem__(self, rows: Any) -> Any:
            return eeg[rows]

    signal = read_signal(Whole(), np.arange(30), part, n_valid, lambda *_: None)  # type: ignore[arg-type]
    mean, std = signal.moments(np.array([0, 2]))
    recorded = np.concatenate(
        [eeg[row, :, : n_valid[row]] for row in range(30) if part[row] != 1], axis=1
    ).astype(np.float64)
    np.testing.assert_allclose(mean, recorded.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(std, recorded.std(axis=1), rtol=1e-5)


@given(SEEDS, st.integers(1, 40), st.integers(1, 4), st.integers(1, 3), st.booleans())
@settings(deadline=None)
def test_trials_that_overlap_one_of_another_part_are_those_that_a_search_finds(
    seed: int, n: int, n_parts: int, n_recordings: int, of_one_length: bool
) -> None:
    rng = np.random.default_rng(seed)
    onset = np.round(rng.random(n) * 20, 1)
    recording, part = rng.integers(0, n_recordings, n), rng.integers(0, n_parts, n)
    order = np.lexsort((onset, recording))
    onset, recording, part = onset[order], recording[order], part[order]
    end = onset + (0.55 if of_one_length else np.round(rng.random(n) * 3, 1) + 0.05)
    place = np.arange(n)
    overlap = (
        (recording[:, None] == recording)
        & (part[:, None] != part)
        & (place[:, None] < place)
        & (onset < end[:, None])
    )
    pairs = overlapping(onset, end, recording, part)
    assert all(overlap[one, other] for one, other in pairs.tolist())
    assert np.unique(pairs).tolist() == np.flatnonzero(overlap.any(0) | overlap.any(1)).tolist()


@given(SEEDS, st.integers(1, 2))
@settings(deadline=None, max_examples=20)
def test_chance_is_the_mean_over_all_permutations(seed: int, n_strata: int) -> None:
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(5), rng.integers(1, 4, 5))
    predicted, stratum = rng.integers(0, 3, 5), rng.integers(0, n_strata, 5)
    label = rng.integers(0, 3, len(cluster))
    of = clusters(label, predicted[cluster], stratum[cluster], cluster)
    places = [np.flatnonzero(stratum == one) for one in np.unique(stratum)]
    accuracies = []
    for drawn in itertools.product(*(itertools.permutations(place) for place in places)):
        permuted = predicted.copy()
        for place, to in zip(places, drawn, strict=True):
            permuted[place] = predicted[list(to)]
        accuracies.append(np.mean(permuted[cluster] == label))
    found = [score(of, least=-10.0, seed=of_draws) for of_draws in range(16)]
    observed = np.mean(predicted[cluster] == label)
    assert found[0].accuracy == pytest.approx(observed)
    assert found[0].chance == pytest.approx(np.mean(accuracies))
    exact = np.mean(np.array(accuracies) >= observed - 1e-12)
    # A run that ends at ten such permutations is off by a third of the value, and says a tenth too
    # much on average; the mean of sixteen is off by a twelfth of it.
    p_value = np.mean([one.p_value for one in found])
    assert p_value == pytest.approx(exact, rel=0.5)


def test_of_few_clusters_with_many_trials_none_is_left_out() -> None:
    """Ten people, each with one label, and six thousand trials of each."""
    cluster = np.repeat(np.arange(10), 6000)
    label = cluster % 5
    of = clusters(label, label, np.zeros(60_000, dtype=np.int64), cluster)
    assert score(of, least=0.0).p_value < 1e-3


def test_p_values_of_noise_are_no_smaller_than_they_say() -> None:
    rng = np.random.default_rng(1)
    p_values = []
    for seed in range(150):
        cluster = np.arange(120) // 3
        label, predicted = rng.integers(0, 4, 120), rng.integers(0, 4, 40)
        of = clusters(label, predicted[cluster], np.zeros(120, dtype=np.int64), cluster)
        p_values.append(score(of, least=-10.0, seed=seed).p_value)
    for level in (0.05, 0.2, 0.5):
        # Three standard errors above the level.
        assert np.mean(np.array(p_values) <= level) <= level + 3 * np.sqrt(level / 150)


def test_what_is_predicted_for_a_whole_block_is_one_observation() -> None:
    """A block that is right by luck is 50 trials that are right; two of six say nothing."""
    label = np.repeat([0, 1, 2, 3, 0, 1], 50)
    block = np.repeat(np.arange(6), 50)
    predicted = np.array([0, 1, 3, 2, 2, 3])[block]
    whole = np.zeros(300, dtype=np.int64)
    assert score(clusters(label, predicted, whole, block), 0.05).p_value > 0.1
    alone = score(clusters(label, predicted, whole, np.arange(300)), 0.05)
    assert alone.p_value < 0.001


@pytest.mark.parametrize("quality", [90, 40])
@pytest.mark.parametrize("size", [24, 80])
def test_an_image_is_known_by_its_looks_when_it_is_scaled_and_encoded_again(
    quality: int, size: int
) -> None:
    rng = np.random.default_rng(3)
    images = [pattern(rng) for _ in range(40)]
    hashes = np.array([perceptual_hash(np.asarray(one)) for one in images])
    unlike = hashes @ hashes.T - 2 * np.eye(40)
    assert unlike.max() < HASH_ALIKE
    for image, hash_ in zip(images, hashes, strict=True):
        file = io.BytesIO()
        image.resize((size, size)).save(file, "JPEG", quality=quality)
        again = perceptual_hash(np.asarray(Image.open(file)))
        assert again @ hash_ > HASH_ALIKE


def test_an_image_of_one_colour_has_no_looks() -> None:
    grey = np.full((30, 40, 3), 128, dtype=np.uint8)
    assert (perceptual_hash(grey) == 0).all()
