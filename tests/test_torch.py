"""The torch data set: a store's values in batches, with workers or without, and a training."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import eegstore
from eegstore import DamageError, InputError, open_store
from eegstore.torch import Dataset
from samples import EEG, recipe

COLUMNS = ("eeg", "hog", "label", "caption", "stimulus")
N_TRIALS = 200


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("torch") / "s.zarr"
    eegstore.build(recipe(source=EEG | {"n_trials": N_TRIALS}), store)
    return store


def epoch(loader: DataLoader[dict[str, Any]]) -> dict[str, Any]:
    """All batches of an epoch, one behind the other."""
    batches = list(loader)
    return {
        name: torch.cat([batch[name] for batch in batches])
        if isinstance(batches[0][name], torch.Tensor)
        else [value for batch in batches for value in batch[name]]
        for name in batches[0]
    }


def check_values(path: Path, rows: np.ndarray[Any, Any], found: dict[str, Any]) -> None:
    """What was loaded is what the store holds in these trials."""
    store = open_store(path)
    stimulus = store.trials["stimulus"][rows]
    np.testing.assert_array_equal(found["eeg"].numpy(), store.trials["eeg"][rows])
    np.testing.assert_array_equal(found["label"].numpy(), store.trials["label"][rows])
    np.testing.assert_array_equal(found["stimulus"].numpy(), stimulus)
    np.testing.assert_array_equal(found["hog"].numpy(), store.stimuli["hog"][stimulus])
    assert found["caption"] == store.stimuli["caption"][stimulus].tolist()


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "eegstore.torch")
    monkeypatch.delattr(eegstore, "torch")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"needs torch; run: pip install 'eegstore\[train\]'$"):
        _ = eegstore.torch.Dataset


def test_an_item_is_a_trial(path: Path) -> None:
    store = open_store(path)
    dataset = Dataset(path, split="test", columns=COLUMNS)
    rows = np.flatnonzero(store.trials["split"][:] == "test")
    assert len(dataset) == len(rows) == 50
    item = dataset[7]
    assert list(item) == list(COLUMNS)
    assert item["eeg"].shape == (4, 128)
    assert item["eeg"].dtype == torch.float32
    assert item["label"].dtype == torch.int64
    assert item["label"].ndim == 0
    check_values(path, rows[7:8], torch.utils.data.default_collate([item]))
    check_values(path, rows[[3, 0, 3]], epoch(DataLoader(dataset, sampler=[3, 0, 3])))


@pytest.mark.parametrize("number", [-1, 50, 10**9])
def test_a_trial_that_is_not_there_is_refused(path: Path, number: int) -> None:
    dataset = Dataset(path, split="test")
    with pytest.raises(IndexError, match=f"trial {number} of 50"):
        dataset[number]
    with pytest.raises(IndexError, match=f"row {number} of 50"):
        dataset.__getitems__([0, number])


def test_a_data_set_is_iterated_to_its_end(path: Path) -> None:
    labels = [int(item["label"]) for item in Dataset(path, columns=["label"])]
    assert labels == [trial % 10 for trial in range(N_TRIALS)]


def test_tensors_are_the_callers_own(path: Path) -> None:
    dataset = Dataset(path, columns=["eeg", "label"])
    before = dataset[0]["eeg"].clone()
    item = dataset[0]
    item["eeg"].zero_()
    item["label"].fill_(5)
    assert torch.equal(dataset[0]["eeg"], before)
    assert dataset[0]["label"] == 0


def test_batches_in_order_hold_the_stores_values(path: Path) -> None:
    dataset = Dataset(path, split="train", columns=COLUMNS)
    loader = DataLoader(dataset, batch_size=8)
    assert [len(batch["label"]) for batch in loader] == [8] * 18 + [6]
    rows = np.flatnonzero(open_store(path).trials["split"][:] == "train")
    check_values(path, rows, epoch(loader))


def test_a_shuffled_epoch_holds_each_trial_once_in_the_generators_order(path: Path) -> None:
    dataset = Dataset(path, columns=("eeg", "hog", "label", "caption", "stimulus", "repetition"))

    def load(seed: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        return epoch(DataLoader(dataset, batch_size=8, shuffle=True, generator=generator))

    found = load(1)
    rows = (found["repetition"] * 10 + found["label"]).numpy()
    assert sorted(rows) == list(range(N_TRIALS))
    assert rows.tolist() != list(range(N_TRIALS))
    check_values(path, rows, found)
    assert torch.equal(load(1)["eeg"], found["eeg"])
    assert not torch.equal(load(2)["label"], found["label"])


@pytest.mark.parametrize("start", ["spawn", "fork", "forkserver"])
def test_workers_read_the_same(path: Path, start: str) -> None:
    dataset = Dataset(path, split="train", columns=COLUMNS)
    dataset[0]  # its shards are mapped before the workers start
    alone = epoch(
        DataLoader(dataset, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(3))
    )
    together = epoch(
        DataLoader(
            dataset,
            batch_size=8,
            shuffle=True,
            generator=torch.Generator().manual_seed(3),
            num_workers=2,
            multiprocessing_context=start,
        )
    )
    for name in COLUMNS:
        np.testing.assert_array_equal(together[name], alone[name])
    assert len(together["label"]) == 150


def test_a_pickled_data_set_opens_the_store_itself(path: Path) -> None:
    dataset = Dataset(path, columns=COLUMNS, rows=np.array([9, 4, 4]))
    content = pickle.dumps(dataset)
    assert len(content) < 1000 + len(str(path))
    again = pickle.loads(content)
    assert len(again) == 3
    check_values(path, np.array([9, 4, 4]), epoch(DataLoader(again, batch_size=2)))


def test_errors_are_those_of_the_store(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no split 'trian'; did you mean 'train'"):
        Dataset(path, split="trian")
    with pytest.raises(InputError, match="has no column 'hgo'; did you mean 'hog'"):
        Dataset(path, columns=["hgo"])
    with pytest.raises(InputError, match="not an eegstore store"):
        Dataset(tmp_path)


def test_damage_reaches_the_training_loop(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    eegstore.build(recipe(), store)
    shard = store / "trials/eeg/c/0/0/0"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DamageError, match="trials/eeg/c/0/0/0: inner chunk 0 fails its crc32c"):
        next(iter(DataLoader(Dataset(store), batch_size=8)))


def test_a_linear_model_learns_labels_that_the_eeg_shows_clearly(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    eegstore.build(recipe(source=EEG | {"n_trials": N_TRIALS, "effect": 5.0}, extract=[]), store)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4 * 128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(
        Dataset(store, split="train"),
        batch_size=8,
        shuffle=True,
        generator=torch.Generator().manual_seed(0),
    )
    for _ in range(3):
        for batch in loader:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(batch["eeg"] / 20), batch["label"])
            loss.backward()
            optimizer.step()
    [batch] = DataLoader(Dataset(store, split="test"), batch_size=50)
    with torch.no_grad():
        correct = (model(batch["eeg"] / 20).argmax(1) == batch["label"]).double().mean()
    assert correct > 0.9
