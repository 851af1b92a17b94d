"""Orders of trials: what each promises, for any sizes, ranks and epochs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eegstore import InputError
from eegstore.samplers import Balanced, Distinct, InOrder, Sampler, Shuffle, WindowShuffle

MAKE: dict[str, Callable[..., Sampler]] = {
    "in-order": lambda values, *given, **options: InOrder(len(values), *given, **options),
    "shuffle": lambda values, *given, **options: Shuffle(len(values), *given, **options),
    "window": lambda values, *given, **options: WindowShuffle(
        values, *given, window_chunks=3, **options
    ),
    "balanced": Balanced,
    "distinct": Distinct,
}
EACH_ONCE = ("in-order", "shuffle", "window")


def values_of(n_trials: int, n_values: int = 9) -> Any:
    return np.random.default_rng(n_trials).integers(0, n_values, n_trials)


def together(ranks: list[Sampler], epoch: int = 0) -> list[int]:
    return [int(trial) for rank in ranks for batch in rank.batches(epoch) for trial in batch]


@pytest.mark.parametrize("name", MAKE)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_all_ranks_get_equal_batches(name: str, data: st.DataObject) -> None:
    values = values_of(data.draw(st.integers(30, 200)))
    world_size = data.draw(st.integers(1, 4))
    # A distinct batch has no more trials than there are values.
    batch_size = data.draw(st.integers(1, len(np.unique(values)) // world_size))
    options = {"world_size": world_size, "drop_last": data.draw(st.booleans())}
    ranks = [MAKE[name](values, batch_size, rank=n, **options) for n in range(world_size)]
    epoch = data.draw(st.integers(0, 5))
    sizes = [[len(batch) for batch in rank.batches(epoch)] for rank in ranks]
    assert all(of_rank == sizes[0] for of_rank in sizes)
    assert [len(rank) for rank in ranks] == [len(sizes[0])] * world_size
    assert all(1 <= size <= batch_size for size in sizes[0])
    if options["drop_last"]:
        assert set(sizes[0]) <= {batch_size}


@pytest.mark.parametrize("name", EACH_ONCE)
@settings(deadline=None, max_examples=60)
@given(
    n_trials=st.integers(0, 200),
    batch_size=st.integers(1, 50),
    world_size=st.integers(1, 5),
    drop_last=st.booleans(),
)
def test_every_trial_comes_once(
    name: str, n_trials: int, batch_size: int, world_size: int, drop_last: bool
) -> None:
    ranks = [
        MAKE[name](
            values_of(n_trials), batch_size, rank=n, world_size=world_size, drop_last=drop_last
        )
        for n in range(world_size)
    ]
    counts = Counter(together(ranks))
    n_given = len(ranks[0]) * batch_size * world_size
    if drop_last:
        assert set(counts.values()) <= {1}
        assert n_given == sum(counts.values()) > n_trials - batch_size * world_size
    else:
        assert sorted(counts) == list(range(n_trials))
        assert sum(counts.values()) - n_trials < world_size


@pytest.mark.parametrize("name", ["shuffle", "window", "balanced", "distinct"])
def test_the_order_follows_from_seed_and_epoch(name: str) -> None:
    values = values_of(300)

    def order(seed: int, epoch: int) -> list[int]:
        return together([MAKE[name](values, 8, seed=seed)], epoch)

    assert order(0, 0) == order(0, 0)
    orders = [order(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(found) for found in orders}) == 4


def test_each_pass_is_another_epoch() -> None:
    sampler = Shuffle(100, 8, seed=3)
    passes = [np.concatenate(list(sampler)).tolist() for _ in range(3)]
    assert passes == [np.concatenate(sampler.batches(epoch)).tolist() for epoch in range(3)]
    next(iter(sampler))  # epoch 3 is left
    sampler.set_epoch(1)
    assert np.concatenate(list(sampler)).tolist() == passes[1]
    iter(sampler)  # is never used
    assert np.concatenate(list(sampler)).tolist() == passes[2]


def test_any_order_is_as_likely() -> None:
    firsts = Counter(int(Shuffle(6, 6).batches(epoch)[0][0]) for epoch in range(6000))
    assert sorted(firsts) == list(range(6))
    assert all(870 < count < 1130 for count in firsts.values())  # 4.5 standard deviations


def test_a_window_holds_whole_chunks_and_each_is_in_one() -> None:
    chunks = np.repeat(np.arange(40), 10)
    sampler = WindowShuffle(chunks, 30, window_chunks=3)
    for epoch in range(3):
        windows = [set(chunks[batch]) for batch in sampler.batches(epoch)]
        assert [len(window) for window in windows] == [3] * 13 + [1]
        assert sorted(chunk for window in windows for chunk in window) == list(range(40))
        first = sampler.batches(epoch)[0]
        assert np.diff(chunks[first]).astype(bool).sum() > 5  # it is shuffled


def test_ranks_share_no_more_chunks_than_their_ends() -> None:
    chunks = np.repeat(np.arange(40), 10)
    ranks = [WindowShuffle(chunks, 7, rank=rank, world_size=3) for rank in range(3)]
    held = Counter(
        chunk for rank in ranks for chunk in {int(chunks[trial]) for trial in together([rank])}
    )
    assert sum(held.values()) <= 40 + 3


def test_recordings_that_are_stored_one_by_one_meet_in_a_window() -> None:
    subject = np.repeat(np.arange(4), 1000)
    chunks = np.arange(4000) // 10
    batches = WindowShuffle(chunks, 320, window_chunks=32).batches(0)
    assert all(len(np.unique(subject[batch])) == 4 for batch in batches[:-1])


def test_labels_are_as_frequent_in_each_batch() -> None:
    labels = np.r_[np.zeros(700), np.ones(90), np.full(10, 2), np.full(50, -1)].astype(int)
    sampler = Balanced(labels, 30)
    batches = sampler.batches(0)
    for batch in batches[:-1]:
        assert np.bincount(labels[batch]).tolist() == [10, 10, 10]
    counts = Counter(together([sampler]))
    assert sum(counts.values()) == 801
    of_label = [[counts[trial] for trial in np.flatnonzero(labels == n)] for n in range(3)]
    assert set(of_label[0]) == {0, 1}
    assert set(of_label[1]) == {2, 3}
    assert set(of_label[2]) <= {26, 27}
    seen = {trial for epoch in range(60) for trial in together([sampler], epoch)}
    assert set(np.flatnonzero(labels >= 0).tolist()) == seen


@pytest.mark.parametrize("labels", [[-1, -1], []])
def test_an_epoch_without_a_label_to_balance_is_refused(labels: list[int]) -> None:
    with pytest.raises(InputError, match="'balanced' has nothing to go by: no trial has a label"):
        Balanced(np.array(labels, dtype=np.int64), 4)


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_no_stimulus_comes_twice_in_a_batch_of_all_ranks(data: st.DataObject) -> None:
    n_stimuli = data.draw(st.integers(4, 30))
    counts = data.draw(st.lists(st.integers(1, 12), min_size=n_stimuli, max_size=n_stimuli))
    stimulus = np.random.default_rng(0).permutation(np.repeat(np.arange(n_stimuli), counts))
    world_size = data.draw(st.integers(1, 2))
    batch_size = data.draw(st.integers(1, n_stimuli // world_size))
    ranks = [
        Distinct(stimulus, batch_size, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for batches in zip(*[rank.batches(1) for rank in ranks], strict=True):
        shown = stimulus[np.concatenate(batches)]
        assert len(np.unique(shown)) == len(shown)
    trials = together(ranks)
    assert len(set(trials)) == len(trials)


def test_repetitions_that_fit_are_all_used() -> None:
    stimulus = np.random.default_rng(0).permutation(np.repeat(np.arange(200), 4))
    sampler = Distinct(stimulus, 50)
    assert sorted(together([sampler])) == list(range(800))
    assert [len(batch) for batch in sampler.batches(0)] == [50] * 16


def test_of_a_stimulus_shown_often_others_are_left_out_in_each_epoch() -> None:
    stimulus = np.r_[np.zeros(100), np.repeat(np.arange(1, 20), 3), -np.ones(5)].astype(int)
    sampler = Distinct(stimulus, 20)
    assert [len(batch) for batch in sampler.batches(0)] == [16, 15, 15, 15]
    seen = {trial for epoch in range(200) for trial in together([sampler], epoch)}
    assert seen == set(range(157))


def test_a_batch_of_more_trials_than_stimuli_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"a batch of 16 trials of different stimuli; there are 10"
    ):
        Distinct(np.arange(100) % 10, 8, world_size=2)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"rank": 2, "world_size": 2}, {"rank": -1}])
def test_sizes_that_are_none_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"expected a batch_size of 1 or more, and a rank"):
        Shuffle(10, **{"batch_size": 2} | options)


@pytest.mark.parametrize("name", ["batch_size", "seed", "rank", "world_size"])
@pytest.mark.parametrize("number", ["8", 8.0, None, True])
def test_what_is_no_whole_number_is_refused_by_its_name(name: str, number: Any) -> None:
    with pytest.raises(InputError, match=f"^{name} is {number!r}, expected a whole number$"):
        Shuffle(10, **{"batch_size": 2} | {name: number})


def test_a_seed_is_not_negative_and_numbers_of_numpy_are_whole() -> None:
    with pytest.raises(InputError, match=r"^seed is -1, expected 0 or more$"):
        Shuffle(10, 2, seed=-1)
    assert len(Shuffle(10, np.int64(2), seed=np.uint8(3))) == 5


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("n_given", [0, 1, 7, None])
def test_a_pass_is_resumed_behind_the_batches_that_were_given(
    name: str, n_given: int | None
) -> None:
    values = values_of(150)
    sampler = MAKE[name](values, 8, seed=2)
    sampler.set_epoch(4)
    epoch = iter(sampler)
    for _ in range(len(sampler) if n_given is None else n_given):
        next(epoch)
    state = epoch.state_dict()
    resumed = MAKE[name](values, 8, seed=2)
    again = iter(resumed)
    again.load_state_dict(state)
    for expected in epoch:
        np.testing.assert_array_equal(next(again), expected)
    with pytest.raises(StopIteration):
        next(again)
    for found, expected in zip(resumed, sampler, strict=True):  # the epoch after it
        np.testing.assert_array_equal(found, expected)


def test_the_state_of_another_order_is_refused() -> None:
    state = Shuffle(100, 8, seed=1).state_dict()
    for other in (Shuffle(100, 8), Shuffle(101, 8, seed=1), InOrder(100, 8, seed=1)):
        with pytest.raises(InputError, match="make it with the same arguments"):
            other.load_state_dict(state)
