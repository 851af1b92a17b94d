"""The extractor ``contrastive``: what it finds, its loss, when it stops, and going on."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch

import eegstore
from eegstore import Block, InputError, PluginError, RecipeError
from eegstore_plugins import training
from eegstore_plugins.contrastive import Contrastive
from eegstore_plugins.ridge import Ridge
from eegstore_plugins.training import Training, info_nce
from planted import Planted, top_5
from samples import recipe
from test_learned import as_test, at_chance, learnt, with_columns

TINY = Planted(1.0, n_train=40, n_test=10, repetitions=2, n_channels=4, n_times=24, width=6)
QUICK = Contrastive(
    width=8, batch_size=16, max_epochs=4, n_folds=2, checkpoint_epochs=1, device="cpu"
)


@dataclass
class Blocks:
    """What a build gives to fit: blocks, any rows by their position, and a folder."""

    data: Planted
    folder: Path
    n_taken: int = 0

    def __iter__(self) -> Iterator[Block]:
        return self.data.blocks(self.data.train, 7)

    @property
    def n_rows(self) -> int:
        return len(self.data.train)

    def take(self, numbers: NDArray[np.int64]) -> Block:
        self.n_taken += len(numbers)
        return self.data.block(self.data.train[numbers])


def same(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(
        np.asarray(one[name]).tobytes() == np.asarray(other[name]).tobytes() for name in one
    )


def test_without_torch_a_build_names_the_extra_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contrastive = {"plugin": "contrastive", "target": "stimuli/hog"}
    wanted = recipe(extract=[{"plugin": "hog"}, contrastive])
    monkeypatch.setitem(sys.modules, "torch", None)
    line = r"^extractor 'contrastive': needs torch; run: pip install 'eegstore\[train\]'$"
    with pytest.raises(InputError, match=line):
        eegstore.build(wanted, tmp_path / "s.zarr", executor="serial")
    assert not (tmp_path / "s.zarr").exists()


def test_a_planted_embedding_is_found_in_unseen_stimuli() -> None:
    data = Planted(2.0, n_train=150, repetitions=2, n_channels=6, n_times=32, width=12)
    extractor = Contrastive(
        width=32, batch_size=64, max_epochs=10, n_folds=2, learning_rate=3e-3, device="cpu"
    )
    learnt(extractor, data.blocks(data.train))
    found = extractor(data.block(data.test))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    assert found.dtype == np.float32
    assert top_5(found, data.embeddings[150:], np.arange(200)) > 0.6
    out_of_fold = extractor(data.block(data.train[:150]))
    assert top_5(out_of_fold, data.embeddings[:150], np.arange(150)) > 0.3


def test_without_a_signal_all_is_at_chance_but_what_was_seen() -> None:
    """So few stimuli are trained on to the last pass, and learnt by heart."""
    data = Planted(0.0, n_train=14, repetitions=1, n_channels=6, n_times=32, width=12)
    extractor = Contrastive(
        width=32, batch_size=14, max_epochs=40, n_folds=2, learning_rate=5e-3, dropout=0.0,
        device="cpu",
    )  # fmt: skip
    learnt(extractor, data.blocks(data.train))
    unseen = top_5(extractor(data.block(data.test)), data.embeddings[14:], np.arange(200))
    assert at_chance(unseen, 200, 200)
    train, seen = data.block(data.train), data.embeddings[:14]
    assert at_chance(top_5(extractor(train), seen, np.arange(14)), 14, 14)
    assert top_5(extractor(as_test(train)), seen, np.arange(14)) == 1


def losses_written_out(found: Any, targets: Any, content: Any, weight: Any) -> float:
    """The mean, over pairs that are positives of each other, of both directions."""
    scores = found @ targets.T
    n, total = len(content), 0.0
    for row in range(n):
        positives = [other for other in range(n) if content[other] == content[row]]
        for other in positives:
            to_stimuli = scores[row, other] - np.log(np.exp(scores[row]).sum())
            to_trials = scores[other, row] - np.log(np.exp(scores[:, row]).sum())
            total -= weight[row] * (to_stimuli + to_trials) / 2 / len(positives)
    return total / weight.sum()


def test_trials_of_one_stimulus_are_each_others_positives() -> None:
    rng = np.random.default_rng(0)
    content = np.array([3, 1, 3, 0, 3, 1])
    found, targets = rng.standard_normal((6, 5)), rng.standard_normal((4, 5))[content]
    weight = rng.uniform(0.5, 2, 6)
    loss = info_nce(*(torch.from_numpy(one) for one in (found, targets, content, weight)))
    assert float(loss) == pytest.approx(losses_written_out(found, targets, content, weight))
    # Where all stimuli differ, it is the loss of CLIP.
    alone, ones = torch.arange(6), torch.ones(6, dtype=torch.float64)
    scores = torch.from_numpy(found @ targets.T)
    cross = torch.nn.functional.cross_entropy
    clip = (cross(scores, alone) + cross(scores.T, alone)) / 2
    plain = info_nce(torch.from_numpy(found), torch.from_numpy(targets), alone, ones)
    assert float(plain) == pytest.approx(float(clip))


def test_an_interrupted_training_goes_on_to_the_same_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = QUICK.fit(TINY.blocks(TINY.train, 7))
    passes: list[int] = []
    epoch = Training.epoch

    def counted(self: Training, number: int) -> None:
        if len(passes) in (2, 6):  # in the first network, and in the second
            passes.append(-1)
            raise KeyboardInterrupt
        passes.append(number)
        epoch(self, number)

    monkeypatch.setattr(Training, "epoch", counted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            QUICK.fit(Blocks(TINY, tmp_path))
    resumed = QUICK.fit(Blocks(TINY, tmp_path))
    assert same(whole, resumed)
    assert passes == [0, 1, -1, 2, 3, 0, -1, 1, 2, 3, 0, 1, 2, 3]
    assert same(whole, QUICK.fit(Blocks(TINY, tmp_path)))  # all are finished: none is trained
    assert len(passes) == 14
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [f"training-{number}.safetensors" for number in range(3)]


def test_a_checkpoint_of_other_options_or_of_damaged_bytes_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slower = replace(QUICK, learning_rate=1e-4)
    expected = slower.fit(TINY.blocks(TINY.train, 7))
    QUICK.fit(Blocks(TINY, tmp_path))
    assert same(expected, slower.fit(Blocks(TINY, tmp_path)))
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    assert same(expected, slower.fit(Blocks(TINY, tmp_path)))


def test_trials_that_do_not_fit_into_memory_are_read_batch_by_batch(tmp_path: Path) -> None:
    kept, read = Blocks(TINY, tmp_path / "a"), Blocks(TINY, tmp_path / "b")
    for one in (kept, read):
        one.folder.mkdir()
    in_memory = QUICK.fit(kept)
    assert same(in_memory, replace(QUICK, memory_mb=0).fit(read))
    assert kept.n_taken == 0
    assert read.n_taken > 4 * 3 * 30


@pytest.mark.parametrize("patience", [1, 3])
def test_it_stops_after_passes_without_a_better_loss_and_keeps_the_best(
    monkeypatch: pytest.MonkeyPatch, patience: int
) -> None:
    told = [3.0, 2.0, 2.5, 1.0, 1.5, 1.2, 1.1, 1.4, 0.1]
    passes: list[int] = []
    weights: dict[int, Any] = {}
    epoch = Training.epoch

    def counted(self: Training, number: int) -> None:
        epoch(self, number)
        passes.append(number)
        weights[number] = self.encoder.head.bias.detach().clone().numpy()

    monkeypatch.setattr(Training, "epoch", counted)
    monkeypatch.setattr(Training, "validation_loss", lambda self: told[passes[-1]])
    state = replace(QUICK, max_epochs=9, patience=patience).fit(TINY.blocks(TINY.train))
    best, last = (1, 2) if patience == 1 else (3, 6)
    assert passes == 3 * list(range(last + 1))
    # Those of the last network, which has seen all.
    np.testing.assert_array_equal(state["encoder.head.bias"][-1], weights[best])


def test_what_is_held_out_is_whole_stimuli_of_the_rows_that_are_trained_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    divided: list[Any] = []
    init = Training.__init__

    def kept(self: Training, *arguments: Any) -> None:
        init(self, *arguments)
        content = self.rows.content.numpy()
        chosen, part = arguments[2].numpy(), self.rows.part.numpy()
        divided.append((content, part, chosen, self._fit.numpy(), self._held_out.numpy()))

    monkeypatch.setattr(Training, "__init__", kept)
    replace(QUICK, max_epochs=1).fit(TINY.blocks(TINY.train))
    assert len(divided) == 3
    for number, (content, part, chosen, fit, held_out) in enumerate(divided):
        assert sorted([*fit, *held_out]) == chosen.tolist()
        assert not set(content[fit]) & set(content[held_out])
        assert len(set(content[held_out])) == (4 if number == 2 else 2)
        assert number == 2 or number not in part[chosen]


def test_few_stimuli_are_trained_on_to_the_last_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    few = Planted(1.0, n_train=8, n_test=4, repetitions=2, n_channels=4, n_times=24, width=6)
    passes: list[int] = []
    epoch = Training.epoch
    monkeypatch.setattr(
        Training, "epoch", lambda self, number: (passes.append(number), epoch(self, number))
    )
    replace(QUICK, max_epochs=9, patience=1).fit(few.blocks(few.train))
    assert passes == 3 * list(range(9))


def test_random_numbers_of_others_stay_as_they_were() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    state = replace(QUICK, max_epochs=1).fit(TINY.blocks(TINY.train))
    assert torch.equal(torch.rand(3), expected)
    other = replace(QUICK, max_epochs=1, seed=1).fit(TINY.blocks(TINY.train))
    assert not same(state, other)


def test_what_it_cannot_take_is_refused() -> None:
    with pytest.raises(PluginError, match="called before restore"):
        QUICK(TINY.block(TINY.test))
    flat = eegstore.ColumnSpec(("feature",), (9,), "float32")
    with pytest.raises(RecipeError, match="expected two, such as channel and time"):
        Contrastive(input="flat").describe(TINY.specs() | {"flat": flat})
    rows = TINY.train[TINY.stimulus[TINY.train] == 3]
    with pytest.raises(InputError, match="are 1 parts, expected at least 2"):
        QUICK.fit([TINY.block(rows)])
    train = TINY.block(TINY.train)
    eeg = train["eeg"].copy()
    eeg[:, 0, 0] = np.nan
    with pytest.raises(InputError, match="the loss is nan after pass 1"):
        QUICK.fit([with_columns(train, eeg=eeg)])


def test_trials_that_all_weigh_nothing_are_refused() -> None:
    train, part = TINY.block(TINY.train), TINY.stimulus[TINY.train] % 2
    weighed = replace(QUICK, weight="quality", max_epochs=1)
    # Of one part alone: the network without that part has nothing to learn from.
    for quality in (np.zeros(train.n_rows), part == 1, 1e-50 * part):
        with pytest.raises(InputError, match=r"without one of their 2 parts .* weigh 0 in sum"):
            weighed.fit([with_columns(train, quality=np.asarray(quality, np.float64))])
    with pytest.raises(InputError, match="quality weighs a trial by inf"):
        weighed.fit([with_columns(train, quality=np.where(part, np.inf, 1.0))])
    weighed.fit([with_columns(train, quality=0.5 * part + 0.1)])


def test_the_last_temperature_is_bounded() -> None:
    assert math.exp(training.MOST_SCALE) == pytest.approx(100)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2))
def test_a_faint_embedding_is_found(seed: int) -> None:
    """One part of signal to two of 1/f noise; 200 concepts that no train trial shows."""
    data = Planted(0.5, n_train=600, width=32, n_channels=16, n_times=64, seed=seed)
    extractor = Contrastive(n_folds=2, device="cpu", seed=seed, max_epochs=20)
    learnt(extractor, data.blocks(data.train))
    found, first = extractor(data.block(data.test)), data.block(data.train[:600])
    assert top_5(found, data.embeddings[600:], np.arange(200)) > 0.6
    assert top_5(extractor(first), data.embeddings[:600], np.arange(600)) > 0.4


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["ridge", "contrastive"])
def test_without_a_signal_many_data_sets_together_are_at_chance(name: str) -> None:
    """Of 40: what one data set's trials find hangs together, and its hits are no binomial number.

    Those out of fold may be fewer: stimuli that a model has seen draw its predictions.
    """
    hits = []
    for seed in range(40):
        data = Planted(
            0.0, n_train=150, width=12, n_channels=6, n_times=32, seed=seed, repetitions=2
        )
        network = replace(QUICK, seed=seed, max_epochs=8, width=16, batch_size=64)
        extractor = learnt(Ridge() if name == "ridge" else network, data.blocks(data.train))
        unseen, first = extractor(data.block(data.test)), extractor(data.block(data.train[:150]))
        hits.append(
            (
                200 * top_5(unseen, data.embeddings[150:], np.arange(200)),
                150 * top_5(first, data.embeddings[:150], np.arange(150)),
            )
        )
    mean, error = np.mean(hits, axis=0), np.std(hits, axis=0) / np.sqrt(len(hits))
    assert abs(mean[0] - 5) < 3 * error[0]
    assert 3 < mean[1] < 5 + 3 * error[1]
