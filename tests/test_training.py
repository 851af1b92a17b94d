"""What a training loop needs: whole batches, their order, a resumption, other types of numbers."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset

import eegstore
from eegstore import InputError, mapping, open_store
from eegstore.samplers import Shuffle
from eegstore.torch import Batch, Batches, Dataset, collate, loader, positives, sampler
from samples import EEG, recipe, write_npy

N_TRIALS, BATCH = 200, 16
COLUMNS = ("eeg", "hog", "label", "stimulus", "repetition", "caption")


@pytest.fixture(scope="module", params=["raw", "fast"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store: Path = tmp_path_factory.mktemp("training") / "s.zarr"
    given = recipe(source=EEG | {"n_trials": N_TRIALS}) | {"store": {"codec": request.param}}
    eegstore.build(given, store)
    return store


def rows_of(batch: Batch) -> Any:
    """The trials of a batch: trial t shows digit t % 10 for the t // 10th time."""
    return (batch["repetition"] * 10 + batch["label"]).numpy()


def check(path: Path, batch: Batch) -> None:
    store, rows = open_store(path), rows_of(batch)
    stimulus = store.trials["stimulus"][rows]
    np.testing.assert_array_equal(batch["eeg"].numpy(), store.trials["eeg"][rows])
    np.testing.assert_array_equal(batch["hog"].numpy(), store.stimuli["hog"][stimulus])
    assert batch["caption"] == store.stimuli["caption"][stimulus].tolist()


def test_a_batch_is_columns_and_trials(path: Path) -> None:
    batch = Dataset(path, columns=COLUMNS).__getitems__([7, 3, 7])
    assert type(batch) is Batch
    assert rows_of(batch).tolist() == [7, 3, 7]
    check(path, batch)
    assert batch["eeg"].is_contiguous()
    trial = batch[1]
    assert torch.equal(trial["eeg"], batch["eeg"][1])
    assert trial["caption"] == "This picture is digit 3"
    again = collate([batch[0], batch[1], batch[2]])
    assert type(again) is Batch
    check(path, again)
    assert rows_of(again).tolist() == [7, 3, 7]
    assert collate(batch) is batch


@pytest.mark.parametrize("shuffle", [True, False, "window", "balanced", "distinct"])
def test_an_epoch_of_any_order_holds_the_stores_values(path: Path, shuffle: Any) -> None:
    dataset = Dataset(path, columns=COLUMNS)
    batch_size = 10 if shuffle == "distinct" else BATCH
    rows = []
    loading = loader(dataset, batch_size, shuffle, seed=1)
    assert len(loading) == -(-N_TRIALS // batch_size)
    for batch in loading:
        check(path, batch)
        rows.append(rows_of(batch))
        if shuffle == "distinct":
            assert len(set(batch["stimulus"].tolist())) == 10
        if shuffle == "balanced" and len(batch["label"]) == BATCH:
            assert np.ptp(np.bincount(batch["label"], minlength=10)) <= 2
    together = np.concatenate(rows)
    assert sorted(together) == list(range(N_TRIALS))
    assert (together.tolist() == sorted(together)) == (shuffle is False)
    second = np.concatenate([rows_of(batch) for batch in loading])
    assert (second.tolist() == together.tolist()) == (shuffle is False)


def test_an_order_that_is_none_is_refused(path: Path) -> None:
    with pytest.raises(InputError, match="shuffle is 'windows', expected True, False, 'window'"):
        loader(Dataset(path), shuffle="windows")  # type: ignore[arg-type]


def keyed(folder: Path, keys: list[str], **sections: Any) -> Path:
    """A store of trials that have a key and no label; the digits' paths are ``digits#0``, …."""
    eeg = np.random.default_rng(0).normal(size=(len(keys), 2, 8)).astype(np.float32)
    npy = write_npy(folder / "npy", all_data=eeg, shown=np.array(keys))
    source = {"plugin": "npy", "path": str(npy), "sfreq": 8.0, "stimulus_keys": "shown.npy"}
    stimuli = {"plugin": "digits", "per_label": 2}
    whole = {"source": source, "stimuli": stimuli, "pairing": {"plugin": "event"}} | sections
    eegstore.build({key: one for key, one in whole.items() if one}, folder / "s.zarr")
    return folder / "s.zarr"


def test_without_labels_every_concept_comes_as_often(tmp_path: Path) -> None:
    # Rows 0 and 10 are two images of the digit 0, row 1 one of the digit 1.
    keys = ["digits#0"] * 10 + [""] * 3 + ["digits#10"] * 5 + ["digits#1"] * 5
    dataset = Dataset(keyed(tmp_path, keys), columns=["label", "stimulus"])
    batches = list(loader(dataset, 4, shuffle="balanced"))
    assert len(batches) == 5
    shown = torch.cat([batch["stimulus"] for batch in batches]).numpy()
    assert (np.unique(np.where(shown == 10, 0, shown), return_counts=True)[1] == [10, 10]).all()
    assert set(shown.tolist()) <= {0, 1, 10}  # none of the unpaired trials


def test_with_neither_label_nor_concept_a_balance_is_refused(tmp_path: Path) -> None:
    path = keyed(tmp_path, [""] * 8, stimuli=None, pairing=None)
    with pytest.raises(InputError, match=r"no trial has a label, nor a paired stimulus with a con"):
        loader(Dataset(path), 4, shuffle="balanced")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rank": 1}, r"^rank is 1 and world_size None; give both, or neither$"),
        ({"world_size": 2}, r"^rank is None and world_size 2; give both, or neither$"),
        ({"sampler": range(3)}, r"^sampler is what shuffle says here; give it to a torch Data"),
        ({"batch_sampler": [[0]]}, r"^batch_sampler is what shuffle says here"),
        (
            {"batch_size": 150, "drop_last": True, "rank": 0, "world_size": 2},
            r"^drop_last leaves no batch of 200 trials: a batch has 150 on each of 2 ranks;",
        ),
    ],
)
def test_what_would_train_on_nothing_or_on_something_else_is_refused(
    path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        loader(Dataset(path), **options)


@pytest.mark.parametrize("columns", [[], (), np.array([], dtype=str)])
def test_a_data_set_of_no_column_is_refused(path: Path, columns: Any) -> None:
    with pytest.raises(InputError, match=r"^columns has no name, expected at least one"):
        Dataset(path, columns=columns)


def test_a_data_set_is_of_a_path_and_its_trials_of_numbers(path: Path) -> None:
    with pytest.raises(InputError, match="expected the folder or URL of a store"):
        Dataset(eegstore.open_store(path))
    for wrong in (slice(0, 3), "eeg", True, 1.0):
        with pytest.raises(TypeError, match="trials are counted from 0, not by "):
            Dataset(path)[wrong]


def test_another_function_may_put_batches_together(path: Path) -> None:
    batches = loader(Dataset(path), BATCH, collate_fn=lambda batch: len(batch["label"]))
    assert list(batches) == [BATCH] * 12 + [8]


def test_a_data_set_says_what_it_is(path: Path) -> None:
    data = Dataset(path, "train", ["eeg", "hog"])
    text = f"<Dataset {path}: eeg, hog of {len(data)} trials of the split train>"
    assert repr(data) == text
    assert repr(Dataset(path, columns="eeg")) == f"<Dataset {path}: eeg of 200 trials>"


def test_two_ranks_share_an_epoch(path: Path) -> None:
    dataset = Dataset(path, columns=COLUMNS)
    ranks = [loader(dataset, BATCH, rank=rank, world_size=2) for rank in range(2)]
    rows = [np.concatenate([rows_of(batch) for batch in rank]) for rank in ranks]
    assert len(rows[0]) == len(rows[1]) == 100
    assert sorted(np.concatenate(rows)) == list(range(N_TRIALS))


@pytest.mark.parametrize("start", ["fork", "forkserver", "spawn"])
def test_workers_give_the_same_batches(path: Path, start: str) -> None:
    dataset = Dataset(path, "train", COLUMNS, normalize="train")
    alone = list(loader(dataset, BATCH, seed=5))
    workers = loader(dataset, BATCH, seed=5, num_workers=2, multiprocessing_context=start)
    for found, expected in zip(workers, alone, strict=True):
        assert type(found) is Batch
        assert torch.equal(found["eeg"], expected["eeg"])
        assert found["caption"] == expected["caption"]
    order = sampler(dataset, BATCH, seed=5)
    ready = DataLoader(
        Batches(dataset, order), batch_size=None, num_workers=2, multiprocessing_context=start
    )
    for found, expected in zip(ready, alone, strict=True):
        assert torch.equal(found["eeg"], expected["eeg"])


def test_ready_batches_are_those_of_the_loader(path: Path) -> None:
    dataset = Dataset(path, columns=COLUMNS)
    batches = Batches(dataset, sampler(dataset, BATCH, "window", seed=2))
    assert len(batches) == 13
    expected = loader(dataset, BATCH, "window", seed=2)
    for _ in range(2):
        for found, wanted in zip(batches, expected, strict=True):
            assert torch.equal(found["eeg"], wanted["eeg"])


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata's own call
@pytest.mark.parametrize("n_workers", [0, 2])
@pytest.mark.parametrize("kind", ["loader", "ready"])
@pytest.mark.parametrize("n_given", [1, 5, 12])
def test_a_training_is_resumed_in_mid_epoch_with_the_next_batch(
    path: Path, n_workers: int, kind: str, n_given: int
) -> None:
    from torchdata.stateful_dataloader import StatefulDataLoader

    dataset = Dataset(path, columns=COLUMNS)

    def make() -> Any:
        if kind == "loader":
            return loader(dataset, BATCH, seed=7, stateful=True, num_workers=n_workers)
        order = sampler(dataset, BATCH, seed=7)
        return StatefulDataLoader(Batches(dataset, order), batch_size=None, num_workers=n_workers)

    first = make()
    if kind == "loader":
        list(first)  # an epoch before
    epoch = iter(first)
    for _ in range(n_given):
        next(epoch)
    state = pickle.loads(pickle.dumps(copy.deepcopy(first.state_dict())))
    expected = [rows_of(batch).tolist() for batch in epoch]
    assert len(expected) == 13 - n_given
    resumed = make()
    resumed.load_state_dict(state)
    assert [rows_of(batch).tolist() for batch in resumed] == expected
    if kind == "loader":
        after = [rows_of(batch).tolist() for batch in first]
        assert [rows_of(batch).tolist() for batch in resumed] == after
        assert after[0] != expected[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_columns_get_the_type_that_is_asked_for(path: Path, dtype: torch.dtype) -> None:
    batch = Dataset(path, columns=COLUMNS, dtype=dtype).__getitems__([4, 9])
    plain = Dataset(path, columns=COLUMNS).__getitems__([4, 9])
    for name in ("eeg", "hog"):
        assert batch[name].dtype == dtype
        assert torch.equal(batch[name], plain[name].to(dtype))
    assert batch["label"].dtype == torch.int64


def scaled(batch: Batch) -> Batch:
    batch["eeg"] *= 2
    batch["first"] = batch["eeg"][:, :, 0]
    return batch


@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_transform_takes_the_whole_batch(path: Path, n_workers: int) -> None:
    dataset = Dataset(path, columns=COLUMNS, transform=scaled, channels=[1, 0], tmin=0.1)
    plain = Dataset(path, columns=COLUMNS, channels=[1, 0], tmin=0.1)
    for found, expected in zip(
        loader(dataset, BATCH, num_workers=n_workers), loader(plain, BATCH), strict=True
    ):
        assert torch.equal(found["eeg"], expected["eeg"] * 2)
        assert torch.equal(found["first"], found["eeg"][:, :, 0])
    assert torch.equal(dataset[3]["first"], plain[3]["eeg"][:, 0] * 2)


def test_a_data_set_of_a_relative_path_is_read_from_anywhere(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(path.parent)
    dataset = Dataset(path.name)
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(dataset[3]["eeg"], again[3]["eeg"])


def test_what_is_no_data_set_or_no_floating_type_is_refused(path: Path) -> None:
    with pytest.raises(InputError, match=r"Dataset, not a Subset; .* rows"):
        loader(Subset(Dataset(path), [1, 2]))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"dtype is torch\.int32, expected a floating one"):
        Dataset(path, dtype=torch.int32)
    with pytest.raises(InputError, match="dtype is 'float16', expected a floating one"):
        Dataset(path, dtype="float16")  # type: ignore[arg-type]


def pair(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    return batch["eeg"], batch["label"]


@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_transform_may_give_a_tuple(path: Path, n_workers: int) -> None:
    dataset, plain = Dataset(path, transform=pair), Dataset(path)
    for (eeg, label), expected in zip(
        loader(dataset, BATCH, num_workers=n_workers), loader(plain, BATCH), strict=True
    ):
        assert torch.equal(eeg, expected["eeg"])
        assert torch.equal(label, expected["label"])
    eeg, label = dataset[3]
    assert torch.equal(eeg, plain[3]["eeg"])
    assert label == plain[3]["label"]
    several: Any = ConcatDataset([dataset, dataset])
    for loading in (
        DataLoader(several, batch_size=3),
        DataLoader(several, batch_size=3, collate_fn=collate),
        DataLoader(dataset, batch_size=3, collate_fn=collate),
    ):
        eeg, label = next(iter(loading))
        assert torch.equal(eeg, plain.__getitems__([0, 1, 2])["eeg"])
        assert torch.equal(label, plain.__getitems__([0, 1, 2])["label"])


@pytest.mark.parametrize("n_workers", [0, 2])
def test_what_is_random_after_an_epoch_is_so_after_torchs_own(path: Path, n_workers: int) -> None:
    dataset, order = Dataset(path), Shuffle(N_TRIALS, BATCH)
    drawn = []
    for loading in (
        loader(dataset, BATCH, num_workers=n_workers),
        DataLoader(dataset, batch_sampler=order),
    ):
        torch.manual_seed(0)
        for _ in loading:
            pass
        drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1]


def fails_once(batch: Batch) -> Batch:
    if (rows_of(batch) == 5).any():
        raise RuntimeError("trial 5")
    return batch


def test_a_loader_gives_the_batches_of_torchs_own_and_goes_on_behind_an_error(path: Path) -> None:
    dataset = Dataset(path, columns=COLUMNS, transform=fails_once)
    order = Shuffle(len(dataset), BATCH, seed=3)
    expected = ["trial 5" if 5 in rows else rows.tolist() for rows in order.batches(0)]
    for loading in (loader(dataset, BATCH, seed=3), DataLoader(dataset, batch_sampler=order)):
        batches, taken = iter(loading), []
        for _ in expected:
            try:
                taken.append(rows_of(next(batches)).tolist())
            except RuntimeError as error:
                taken.append(str(error))
        assert taken == expected
        with pytest.raises(StopIteration):
            next(batches)


def test_torchs_own_subsets_and_loaders_read_on(path: Path) -> None:
    dataset = Dataset(path, columns=COLUMNS)
    for mine, n_trials in (
        (DataLoader(dataset, batch_size=BATCH, shuffle=True), N_TRIALS),
        (DataLoader(dataset, batch_sampler=Shuffle(N_TRIALS, BATCH)), N_TRIALS),
        (DataLoader(Subset(dataset, [5, 199, 5]), batch_size=2), 3),
        (DataLoader(ConcatDataset([dataset, dataset]), batch_size=BATCH, shuffle=True), 400),
    ):
        batches = list(mine)
        for batch in batches:
            check(path, batch)
        assert sum(len(batch["label"]) for batch in batches) == n_trials
    single = list(DataLoader(dataset, batch_size=None))
    check(path, collate(single))
    assert rows_of(collate(single)).tolist() == list(range(N_TRIALS))


def test_where_files_are_mapped_one_by_one_the_values_are_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Dataset(path, columns=COLUMNS).__getitems__([150, 2])
    monkeypatch.setattr(mapping, "MOST_IN_ONE_RANGE", 0)
    batch = Dataset(path, columns=COLUMNS).__getitems__([150, 2])
    assert torch.equal(batch["eeg"], expected["eeg"])
    batch["eeg"].zero_()


def test_positives_show_the_same_stimulus() -> None:
    found = positives(torch.tensor([3, 1, 3, -1, -1]))
    assert found.tolist() == [
        [True, False, True, False, False],
        [False, True, False, False, False],
        [True, False, True, False, False],
        [False] * 5,
        [False] * 5,
    ]


def test_the_scale_of_train_travels_with_the_data_set(path: Path) -> None:
    dataset = Dataset(path, "test", normalize="train")
    again = pickle.loads(pickle.dumps(dataset))
    assert again.trials.scale is not None
    assert dataset.trials.scale is not None
    np.testing.assert_array_equal(again.trials.scale.std, dataset.trials.scale.std)
    assert torch.equal(again.__getitems__([3])["eeg"], dataset.__getitems__([3])["eeg"])
