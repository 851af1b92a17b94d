"""What is done to signals as they are read, against the same done to whole arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eegstore.signals import Repetitions, Scale, averaged, chosen_channels, normalize_trials


def signals(n_trials: int, offset: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(n_trials)
    scales = np.array([1.0, 20.0, 3e-5])[:, None]
    return (generator.standard_normal((n_trials, 3, 50)) * scales + offset).astype(np.float32)


@pytest.mark.parametrize("offset", [0.0, 4200.0])
def test_each_channel_of_each_trial_gets_mean_0_and_deviation_1(offset: float) -> None:
    eeg = signals(7)
    eeg[:, :2] += np.float32(offset)
    exact = eeg.astype(np.float64)
    exact = (exact - exact.mean(-1, keepdims=True)) / exact.std(-1, keepdims=True)
    normalize_trials(eeg, np.full(7, 50))
    np.testing.assert_allclose(eeg, exact, atol=1e-6 if not offset else 2e-3)


@pytest.mark.parametrize("level", [0.0, 4200.1, -1e-7])
def test_a_flat_channel_becomes_zero(level: float) -> None:
    eeg = np.full((2, 3, 50), level, dtype=np.float32)
    eeg[0, 1] = np.arange(50)
    normalize_trials(eeg, np.full(2, 50))
    assert np.abs(eeg[1]).max() < 0.01
    assert np.abs(eeg[0, [0, 2]]).max() < 0.01
    assert eeg[0, 1].std() == pytest.approx(1, abs=1e-6)


def test_padding_is_not_counted_and_becomes_zero() -> None:
    eeg, n_valid = signals(4), np.array([50, 30, 1, 0])
    for trial, n in enumerate(n_valid):
        eeg[trial, :, n:] = 1000
    expected = np.zeros_like(eeg)
    part = eeg[1, :, :30].astype(np.float64)
    expected[1, :, :30] = (part - part.mean(-1, keepdims=True)) / part.std(-1, keepdims=True)
    whole = eeg[:1].copy()
    normalize_trials(whole, np.array([50]))
    expected[:1] = whole
    normalize_trials(eeg, n_valid)
    np.testing.assert_allclose(eeg, expected, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5), data=st.data())
def test_a_scale_is_that_of_all_blocks_together(sizes: list[int], data: st.DataObject) -> None:
    blocks = [(signals(n, offset=n), np.full(n, 50)) for n in sizes]
    is_padded = data.draw(st.booleans())
    if is_padded:
        blocks = [(eeg, np.arange(len(eeg)) * 5) for eeg, _ in blocks]
    kept = [
        trial[:, :n].astype(np.float64)
        for eeg, n_valid in blocks
        for trial, n in zip(eeg, n_valid, strict=True)
    ]
    scale = Scale.of(iter(blocks), [])
    if not sum(trial.shape[1] for trial in kept):
        assert scale is None
        return
    together = np.concatenate(kept, axis=1)
    assert scale is not None
    np.testing.assert_allclose(scale.mean, together.mean(1), rtol=1e-5, atol=1e-6)
    std = together.std(1)
    is_flat = std <= 1e-6 * np.abs(together.mean(1))
    np.testing.assert_allclose(scale.std, np.where(is_flat, 1, std), rtol=1e-4)
    eeg = blocks[0][0].copy()
    scale.apply(eeg)
    np.testing.assert_allclose(
        eeg, (blocks[0][0] - scale.mean[:, None]) / scale.std[:, None], rtol=1e-5, atol=1e-6
    )


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_repetitions_are_those_that_have_all_in_common(data: st.DataObject) -> None:
    n_trials = data.draw(st.integers(1, 40))
    rows = np.random.default_rng(n_trials).permutation(100)[:n_trials]
    stimulus = np.array(
        data.draw(st.lists(st.integers(0, 4), min_size=n_trials, max_size=n_trials))
    )
    subject = np.array(
        data.draw(st.lists(st.sampled_from("ab"), min_size=n_trials, max_size=n_trials))
    )
    groups: dict[tuple[int, str], list[int]] = {}
    for row, *same in zip(rows.tolist(), stimulus.tolist(), subject.tolist(), strict=True):
        groups.setdefault((same[0], same[1]), []).append(row)
    found = Repetitions(rows, stimulus, subject)
    assert found.first.tolist() == [members[0] for members in groups.values()]
    wanted = np.array(data.draw(st.lists(st.integers(0, len(groups) - 1), max_size=9)), dtype=int)
    members, counts = found.members(wanted)
    expected = [list(groups.values())[number] for number in wanted]
    assert members.tolist() == [row for group in expected for row in group]
    assert counts.tolist() == [len(group) for group in expected]
    values = np.random.default_rng(0).standard_normal((100, 2, 3)).astype(np.float32)
    means = [values[group].astype(np.float64).mean(0) for group in expected]
    result = averaged(values[members], counts)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, np.reshape(means, (-1, 2, 3)), atol=1e-6)


def test_channels_are_named_or_numbered() -> None:
    names = ["Fz", "Oz", "O1"]
    assert chosen_channels(names, ["O1", 0, "Oz", -0]) == [2, 0, 1, 0]
    for wrong in ("oz", 3, -1, 1.0, True, np.True_):
        with pytest.raises(KeyError, match=str(wrong)):
            chosen_channels(names, ["Fz", wrong])
