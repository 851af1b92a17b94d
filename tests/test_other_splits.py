"""Splits by time, and those that a file holds."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eegstore
from eegstore import InputError, RecipeError
from eegstore.registry import create
from eegstore_plugins.chronological import ChronologicalSplit
from eegstore_plugins.published import PublishedSplit, _by_path
from test_group_splits import answer, make_trials
from test_pairing import make_stimuli
from test_pairing import make_trials as keyed


def letters(split):
    return "".join(name[1] for name in split.tolist())  # tRain, vAl, tEst, gAp


def test_the_last_trials_are_the_test_and_those_before_val():
    split = answer(ChronologicalSplit(test_size=0.3, val_size=0.2), make_trials([0] * 10))
    assert split.tolist() == ["train"] * 5 + ["val"] * 2 + ["test"] * 3


def test_onsets_and_runs_order_the_trials_and_not_their_rows():
    onset = [5.0, 1.0, 3.0, 0.5, 9.0]
    trials = make_trials(onset=onset)
    assert answer(ChronologicalSplit(test_size=0.4), trials).tolist() == [
        "test", "train", "train", "train", "test"
    ]  # fmt: skip
    trials = make_trials(onset=onset, run=[1, 1, 1, 2, 0])
    assert answer(ChronologicalSplit(test_size=0.4), trials).tolist() == [
        "test", "train", "train", "test", "train"
    ]  # fmt: skip


def test_runs_that_are_text_are_in_natural_order():
    runs = [f"run-{number}" for number in (10, 9, 2, 1, 11)]
    trials = make_trials(run=np.repeat(runs, 2), onset=[1.0, 0.0] * 5)
    split = answer(ChronologicalSplit(test_size=0.3), trials)
    assert split.tolist() == ["test"] + ["train"] * 7 + ["test"] * 2
    padded = make_trials(run=[f"{number:02}" for number in (10, 9, 2, 1, 11)])
    assert answer(ChronologicalSplit(test_size=0.2), padded).tolist() == ["train"] * 4 + ["test"]


@given(
    n_trials=st.integers(1, 12),
    gap=st.integers(0, 1),
    n_folds=st.sampled_from([0, 2, 3]),
    sizes=st.tuples(st.floats(0.01, 0.99), st.floats(0, 0.99)).filter(lambda one: sum(one) < 1),
)
def test_no_part_of_a_recording_is_empty(n_trials, gap, n_folds, sizes):
    plugin = ChronologicalSplit(sizes[0], sizes[1], gap=gap, n_folds=n_folds)
    try:
        found = answer(plugin, make_trials([0] * n_trials))
    except InputError:
        return
    split, fold = (found.split, found.fold) if n_folds else (found, np.zeros(n_trials))
    assert set(split) >= {"train", "test"} | ({"val"} if sizes[1] else set())
    assert set(fold[split == "train"]) == set(range(n_folds or 1))


@pytest.mark.parametrize(
    ("n_trials", "options", "said"),
    [
        (
            3,
            {"val_size": 0.2, "test_size": 0.5},
            "leave 0 to train on, expected at least 1: 3 part",
        ),
        (4, {"n_folds": 3, "test_size": 0.5}, "leave 2 to train on, expected at least 3: 4 parts"),
    ],
)
def test_a_recording_that_sizes_leave_too_little_to_train_on_is_refused(n_trials, options, said):
    trials = make_trials([0] * (n_trials + 9), session=np.array([0] * n_trials + [1] * 9))
    message = f"a recording has {n_trials} trials, of which val_size and test_size {said}"
    with pytest.raises(InputError, match=message):
        answer(ChronologicalSplit(**options), trials)
    whole = answer(ChronologicalSplit(**options, within=()), trials)
    assert "train" in (whole.split if "n_folds" in options else whole)


def test_each_subject_and_session_is_split_by_itself():
    subject = np.tile(["a", "b"], 10)
    split = answer(ChronologicalSplit(), make_trials(subject=subject))
    for one in "ab":
        assert split[subject == one].tolist() == ["train"] * 8 + ["test"] * 2
    whole = answer(ChronologicalSplit(within=()), make_trials(subject=subject))
    assert whole.tolist() == ["train"] * 16 + ["test"] * 4


@given(
    seed=st.integers(0, 2**40),
    gap=st.integers(0, 3),
    n_folds=st.sampled_from([0, 2, 3]),
    sizes=st.sampled_from([(None, 0.0), (0.3, 0.0), (0.2, 0.2)]),
)
def test_parts_are_in_order_with_gaps_between_and_follow_the_time(seed, gap, n_folds, sizes):
    rng = np.random.default_rng(seed)
    n_trials = int(rng.integers(25, 60))
    onset = rng.permutation(n_trials) * 0.5
    plugin = ChronologicalSplit(sizes[0], sizes[1], gap=gap, n_folds=n_folds)
    found = answer(plugin, make_trials(onset=onset))
    split, fold = (found.split, found.fold) if n_folds else (found, np.full(n_trials, -1))
    order = np.argsort(onset)
    test_size = sizes[0] if sizes[0] is not None or n_folds else 0.2
    parts = [f"train{one}" for one in (range(n_folds) if n_folds else [-1])]
    parts += ["val-1"] * bool(sizes[1]) + ["test-1"] * bool(test_size)
    seen = [f"{name}{number}" for name, number in zip(split[order], fold[order], strict=True)]
    expected = []
    for number, part in enumerate(parts):
        expected += ["gap-1"] * (gap if number else 0) + [part] * seen.count(part)
    assert seen == expected
    n_kept = n_trials - gap * (len(parts) - 1)
    for part, size in (("test-1", test_size or 0), ("val-1", sizes[1])):
        assert abs(seen.count(part) - n_kept * size) <= 0.5
    train = [seen.count(part) for part in parts if part.startswith("train")]
    assert max(train) - min(train) <= 1


def test_too_few_trials_for_the_gaps_are_refused():
    message = r"a recording has 4 trials, expected at least 7: 2 parts with gaps of 5"
    with pytest.raises(InputError, match=message):
        answer(ChronologicalSplit(gap=5), make_trials([0] * 4))


def test_an_onset_that_is_no_time_is_refused():
    with pytest.raises(InputError, match="the column 'onset' has values that are no times"):
        answer(ChronologicalSplit(), make_trials(onset=[0.0, np.nan]))


def published(path, content, trials, stimulus=None, stimuli=None, **options):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return answer(PublishedSplit(path, **options), trials, stimulus, stimuli).tolist()


STIMULI = make_stimuli([0, 1, 2], ["a/x.jpg", "b/y.jpg", "c/z.jpg"], ["cat", "dog", "fox"])
SHOWN = [0, 2, 1, 0]
EXPECTED = ["train", "test", "train", "train"]


@pytest.mark.parametrize(
    "content",
    [
        ["train", "test", "train", "train"],
        {"train": [0, 2, 3], "test": [1]},
        {"0": "train", "1": "test", "2": "train", "3": "train"},
        {"train": ["a/x.jpg", "b/y.jpg"], "test": ["c/z.jpg", "d/unseen.jpg"]},
        {"train": ["x.jpg", "y.jpg"], "test": ["./images\\z.jpg"]},
        {"cat": "train", "dog": "train", "fox": "test"},
        {"train": ["k1", "k3"], "test": ["k2"]},
        "image_path,split\na/x.jpg,train\nb/y.jpg,train\nc/z.jpg,test\n",
        "split,concept\ntrain,cat\n\ntrain,dog\ntest,fox\n",
        "\ufefftrial,split\r\n0,train\r\n1,test\r\n2,train\r\n3,train\r\n",
    ],
    ids=str,
)
def test_a_file_may_go_by_rows_keys_paths_or_concepts(tmp_path, content):
    trials = keyed([5, 6, 7, 5], ["k1", "k2", "k3", "k1"])
    path = tmp_path / ("split.csv" if isinstance(content, str) else "split.json")
    assert published(path, content, trials, SHOWN, STIMULI) == EXPECTED


def test_by_says_what_a_key_is_where_two_would_do(tmp_path):
    content = {"train": [0, 1], "test": [2, 3]}
    trials = keyed([3, 2, 1, 0])
    path = tmp_path / "split.json"
    message = (
        "every key of split.json is a trial and a label, which give different splits; say "
        "by = 'trial' or by = 'label'"
    )
    with pytest.raises(InputError, match=message):
        published(path, content, trials)
    by_row = published(path, content, trials, by="trial")
    assert by_row == ["train", "train", "test", "test"]
    by_label = published(path, content, trials, by="label")
    assert by_label == ["test", "test", "train", "train"]
    # Where both give the same, nothing has to be said.
    assert published(path, content, keyed([0, 1, 2, 3])) == by_row


def test_rows_are_not_read_as_labels_though_more_trials_have_one(tmp_path):
    trials, path = keyed(np.arange(400) % 10), tmp_path / "split.json"
    content = {"train": list(range(300)), "test": list(range(301, 400))}
    message = r"no split of the trial '300' \(trials: 1\); add it, .*, or what a key is \(by\)$"
    with pytest.raises(InputError, match=message):
        published(path, content, trials)
    split = published(path, content, trials, unnamed="rest")
    assert split == ["train"] * 300 + ["rest"] + ["test"] * 99


def test_labels_are_not_read_as_the_first_rows(tmp_path):
    trials, path = keyed(np.arange(40) % 10), tmp_path / "split.json"
    content = {"train": list(range(8)), "test": [8, 9]}
    assert published(path, content, trials) == (["train"] * 8 + ["test"] * 2) * 4
    # Where the others are train, it may as well be the first ten rows.
    with pytest.raises(InputError, match="is a trial and a label, which give different splits"):
        published(path, content, trials, unnamed="train")
    # That no trial has the label 9 does not make it a row: a stimulus has it.
    stimuli = make_stimuli([8, 9], ["a.png", "b.png"])
    split = published(path, content, keyed(np.arange(36) % 9), [0] * 36, stimuli)
    assert split == (["train"] * 8 + ["test"]) * 4


SAME_NAMES = [f"{concept}/{number}.png" for concept in ("bird", "cat", "dog") for number in (0, 1)]
IN_FOLDERS = make_stimuli(np.arange(6), SAME_NAMES)


def in_folders(path, content, **options):
    """The split of each image of three concepts, whose files have the same names."""
    return published(path, content, keyed(np.arange(6)), range(6), IN_FOLDERS, **options)


@pytest.mark.parametrize("before", ["images/", "./images/", "C:\\data\\", ""])
def test_an_image_has_the_split_of_its_own_path_whatever_is_before_it(tmp_path, before):
    content = {f"{before}{name}": f"of {name}" for name in SAME_NAMES}
    split = in_folders(tmp_path / "split.json", content)
    assert split == [f"of {name}" for name in SAME_NAMES]


@pytest.mark.parametrize("others", [["cat", "dog"], ["cat"]])
def test_an_image_that_is_not_named_takes_no_split_of_another_of_its_name(tmp_path, others):
    path = tmp_path / "split.json"
    content = {
        f"images/{one}/{number}.png": one for one in others for number in (0, 1)
    }  # fmt: skip
    with pytest.raises(InputError, match=r"names no split of the image_path 'bird/0.png'"):
        in_folders(path, content, by="image_path")
    split = in_folders(path, content, by="image_path", unnamed="rest")
    assert split == [
        name.split("/")[0] if name.split("/")[0] in others else "rest" for name in SAME_NAMES
    ]


def test_a_name_that_several_images_have_names_none(tmp_path):
    content = {"0.png": "train", "1.png": "test"}
    path = tmp_path / "split.json"
    with pytest.raises(InputError, match=r"names no split of the image_path 'bird/0.png'"):
        in_folders(path, content, by="image_path")
    assert set(in_folders(path, content, by="image_path", unnamed="rest")) == {"rest"}


def test_paths_that_end_in_one_image_have_to_agree(tmp_path):
    path, trials, stimuli = tmp_path / "split.json", keyed([0]), make_stimuli([0], ["0.png"])
    agreed = {"a/0.png": "test", "b/0.png": "test"}
    assert published(path, agreed, trials, [0], stimuli) == ["test"]
    message = "gives the image_path '0.png' two splits: 'a/0.png' is in 'test', 'b/0.png' in 'val'"
    for options in ({}, {"unnamed": "train"}):
        with pytest.raises(InputError, match=message):
            published(
                path, agreed | {"b/0.png": "val"}, trials, [0], stimuli, by="image_path", **options
            )
    # The image's own path is above what ends with it.
    whole = agreed | {"b/0.png": "val", "0.png": "train"}
    assert published(path, whole, trials, [0], stimuli) == ["train"]


@given(
    paths=st.sets(st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join)),
    keys=st.dictionaries(
        st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join),
        st.sampled_from(["train", "test"]),
    ),
)
def test_a_path_is_named_by_the_one_key_that_has_more_in_common_with_it_than_with_others(
    paths, keys
):
    def shared(one, other):
        pairs = zip(one.split("/")[::-1], other.split("/")[::-1], strict=False)
        return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))

    named = _by_path(keys, paths)
    for path in paths:
        most = max((shared(path, key) for key in keys), default=0)
        nearest = [key for key in keys if shared(path, key) == most]
        alike = [one for one in paths if shared(path, one) >= most]
        depth = path.count("/") + 1
        if path in keys:
            assert named[path] == {path: keys[path]}
        elif not most or len(alike) > 1 or (len(nearest) > 1 and most < depth):
            assert path not in named
        else:
            assert named[path] == {key: keys[key] for key in nearest}
    # No key names two images.
    used = [key for splits in named.values() for key in splits]
    assert len(used) == len(set(used))


def test_trials_without_a_stimulus_or_a_split_are_told(tmp_path):
    path, trials = tmp_path / "split.json", keyed([0, 0, 0])
    content = {"cat": "train", "dog": "test"}
    assert published(path, content, trials, [0, -1, 1], STIMULI) == ["train", "unpaired", "test"]
    message = r"split.json names no split of the concept 'fox' \(trials: 1\); .*; add it, or say"
    with pytest.raises(InputError, match=message):
        published(path, content, trials, [0, 1, 2], STIMULI)
    other = published(path, content, trials, [0, 2, -1], STIMULI, unnamed="rest")
    assert other == ["train", "rest", "rest"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"train": ["a"], "test": ["a"]}, "'a' is in 'train' and in 'test', expected in one"),
        ({}, "is empty, expected keys and their splits"),
        (["train"], "1 names of splits, expected one for each of 2 trials"),
        ({"train": [1.5]}, "gives 1.5 the split 'train', expected a key and a name"),
        ({"a": 3}, "gives 'a' the split 3, expected a key and a name"),
        ("3", "is a int, expected an object"),
        ("{", "is no JSON or CSV"),
        ("[" * 100_000, "is no JSON or CSV"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_file_of_another_form_is_refused(tmp_path, content, said):
    with pytest.raises(InputError, match=said):
        published(tmp_path / "split.json", content, keyed([0, 1]))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "begins with nothing, expected two columns: split, and one of trial, stimulus_key"),
        ("image,split\na,train\n", "begins with image, split, expected two columns"),
        ("trial,split\n0,train,x\n", r"a row has 3 values, expected 2: \['0', 'train', 'x'\]"),
        ("concept,split\ncat,train\n", "goes by concept, which trials of this recipe do not have"),
    ],
)
def test_a_table_of_another_form_is_refused(tmp_path, content, said):
    with pytest.raises(InputError, match=said):
        published(tmp_path / "split.csv", content, keyed([0, 1]))


def test_a_file_that_changed_makes_the_split_anew(tmp_path):
    path = tmp_path / "split.json"
    recipe = {
        "source": {"plugin": "synthetic", "n_trials": 4, "n_channels": 2, "n_times": 32},
        "split": {"plugin": "published", "path": str(path)},
    }
    for content in (["train", "test", "val", "dev"], ["test", "test", "val", "dev"]):
        path.write_text(json.dumps(content))
        eegstore.build(recipe, tmp_path / "a.zarr", executor="serial")
        assert eegstore.open_store(tmp_path / "a.zarr").trials["split"][:].tolist() == content


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("chronological", {"gap": -1}, "gap: got -1"),
        ("chronological", {"n_folds": 1}, "n_folds is 1"),
        ("published", {}, "path: "),
        ("published", {"path": "a.json", "by": "row"}, "by: got 'row'"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, name, options, said):
    with pytest.raises(RecipeError, match=said):
        create("split", name, options, tmp_path)
