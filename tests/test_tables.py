"""The two tables, the spec of a column and a block: what they refuse, and what they give."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eegstore import Block, ColumnSpec, Stimuli, Trials


def make_trials(**changes: Any) -> Trials:
    whole: dict[str, Any] = {
        "n_trials": 3,
        "ch_names": ["Cz", "Pz"],
        "sfreq": 128.0,
        "times": [0.0, 0.5, 1.0, 1.5],
        "units": "uV",
        "label": [0, 1, -1],
    }
    return Trials(**whole | changes)


def make_stimuli(**changes: Any) -> Stimuli:
    whole: dict[str, Any] = {
        "image_path": ["a.png", "b.png"],
        "label": [0, 1],
        "concept": ["cat", "dog"],
        "caption": ["a cat", "a dog"],
        "content_id": ["00", "11"],
    }
    return Stimuli(**whole | changes)


def test_trials_holds_what_it_is_given_in_the_types_of_the_store():
    trials = make_trials(
        label=np.array([2, 1, 0], dtype=np.uint8),
        stimulus_key=np.array(["a", "", "ß"], dtype=object),
        split=["train", "test", "train"],
        columns={
            "onset": np.float32([0.5, 1, 2]),
            "block": np.int16([0, 0, 1]),
            "odd": [1 > 0] * 3,
        },
    )
    assert trials.ch_names == ("Cz", "Pz")
    assert (trials.n_channels, trials.n_times) == (2, 4)
    assert (trials.label.dtype, trials.label.tolist()) == (np.int64, [2, 1, 0])
    assert (trials.times.dtype, trials.times.tolist()) == (np.float64, [0, 0.5, 1, 1.5])
    assert trials.stimulus_key is not None
    assert trials.stimulus_key.dtype.kind == "U"
    assert trials.stimulus_key.tolist() == ["a", "", "ß"]
    assert trials.split is not None
    assert trials.split.tolist() == ["train", "test", "train"]
    kinds = {name: values.dtype for name, values in trials.columns.items()}
    assert kinds == {"onset": np.float64, "block": np.int64, "odd": np.bool_}
    assert trials.columns["onset"].tolist() == [0.5, 1, 2]


def test_trials_are_of_eeg_channels_without_key_or_split_by_default():
    trials = make_trials()
    assert trials.ch_types == ("eeg", "eeg")
    assert trials.stimulus_key is None
    assert trials.split is None
    assert dict(trials.columns) == {}
    assert make_trials(ch_types=["eeg", "eog"]).ch_types == ("eeg", "eog")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_trials": 0, "label": []}, "Trials.n_trials is 0, expected at least one trial"),
        ({"ch_names": []}, r"Trials.ch_names \(\) must be one or more different names"),
        ({"ch_names": ["Cz", "Cz"]}, r"Trials.ch_names \('Cz', 'Cz'\) must be .*different"),
        ({"ch_types": ["eeg"]}, "Trials.ch_types has 1 entries for 2 channels"),
        ({"times": []}, "Trials.times must be a non-empty vector"),
        ({"times": [[0.0, 1.0]]}, "Trials.times must be a non-empty vector"),
        ({"times": [0.0, np.nan]}, "Trials.times must be .*finite seconds"),
        ({"times": [0.0, np.inf]}, "Trials.times must be .*finite seconds"),
        ({"sfreq": 0.0}, "Trials.sfreq is 0.0, expected a positive rate in Hz"),
        ({"sfreq": -1.0}, "Trials.sfreq is -1.0, expected"),
        ({"sfreq": np.nan}, "Trials.sfreq is nan, expected"),
        ({"sfreq": np.inf}, "Trials.sfreq is inf, expected"),
        ({"label": [0, 1]}, r"Trials.label has shape \(2,\), expected \(3,\)"),
        ({"label": [[0], [1], [2]]}, r"Trials.label has shape \(3, 1\), expected \(3,\)"),
        ({"label": [0, -1, -2]}, "Trials.label has -2, expected 0 or more, or -1 for none"),
        ({"label": [0.0, 1.0, 2.0]}, "Trials.label has dtype float64, expected int"),
        ({"label": ["0", "1", "2"]}, "Trials.label has dtype <U1, expected int"),
        ({"label": [True, False, True]}, "Trials.label has dtype bool, expected int"),
        (
            {"label": np.array([0, 1, 2**64 - 1], np.uint64)},
            r"Trials.label has 18446744073709551615, expected at most 2\*\*63 - 1",
        ),
        ({"stimulus_key": [1, 2, 3]}, "Trials.stimulus_key has dtype int64, expected str"),
        ({"split": [0.0, 1.0, 1.0]}, "Trials.split has dtype float64, expected str"),
        ({"columns": {"n_samples": [1.0, 2, 3]}}, "Trials.n_samples has dtype float64, expected i"),
        ({"stimulus_key": ["a"]}, r"Trials.stimulus_key has shape \(1,\), expected \(3,\)"),
        ({"split": ["train"] * 4}, r"Trials.split has shape \(4,\), expected \(3,\)"),
        ({"columns": {"run": [1, 2]}}, r"Trials.run has shape \(2,\), expected \(3,\)"),
        (
            {"columns": {"when": np.zeros(3, "datetime64[s]")}},
            r"Trials.when has dtype datetime64\[s\], expected bool, int, float, str",
        ),
    ],
)
def test_trials_refuses_what_is_no_recording(changes, message):
    with pytest.raises(ValueError, match=message):
        make_trials(**changes)


RESERVED = [
    "eeg",
    "label",
    "stimulus",
    "score",
    "split",
    "valid",
    "stimulus_key",
    "channel",
    "time",
]
NO_NAMES = ["", "Run", "1st", "a-b", "a b", "a/b", "_a", "a\n", "é"]


@pytest.mark.parametrize("name", [*RESERVED, *NO_NAMES])
def test_trials_refuses_a_column_whose_name_is_taken_or_no_name(name):
    with pytest.raises(ValueError, match=r"Trials.columns has .*: not a free lower-case column"):
        make_trials(columns={name: [1, 2, 3]})


@pytest.mark.parametrize(
    "name", ["image", "image_path", "label", "concept", "caption", "content_id", "Width"]
)
def test_stimuli_refuses_a_column_whose_name_is_taken_or_no_name(name):
    with pytest.raises(ValueError, match=f"Stimuli.columns has '{name}': not a free"):
        make_stimuli(columns={name: [1, 2]})


def test_tables_take_names_that_only_the_other_table_reserves():
    assert "concept" in make_trials(columns={"concept": ["a", "b", "c"]}).columns
    assert "split" in make_stimuli(columns={"split": ["a", "b"]}).columns


def test_arrays_of_tables_are_read_only_and_the_givers_stay_writeable():
    label, run = np.array([0, 1, 2]), np.array([1, 1, 2])
    trials = make_trials(label=label, split=["a", "b", "c"], columns={"run": run})
    stimuli = make_stimuli(columns={"width": [1, 2]})
    frozen = [trials.label, trials.times, trials.split, trials.columns["run"]]
    frozen += [stimuli.image_path, stimuli.label, stimuli.content_id, stimuli.columns["width"]]
    for array in frozen:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]
    label[0] = run[0] = 7
    with pytest.raises(FrozenInstanceError):
        trials.label = label


def test_n_valid_is_every_sample_where_no_length_is_known():
    n_valid = make_trials().n_valid
    assert n_valid.dtype == np.int64
    assert n_valid.tolist() == [4, 4, 4]


def test_n_valid_is_the_recorded_length_and_never_more_than_the_trial():
    trials = make_trials(columns={"n_samples": [2, 4, 9]})
    assert trials.n_valid.tolist() == [2, 4, 4]
    assert trials.columns["n_samples"].tolist() == [2, 4, 9]


def test_stimuli_holds_what_it_is_given():
    stimuli = make_stimuli(columns={"width": np.float32([0.5, 2])})
    assert stimuli.n_stimuli == 2
    assert stimuli.concept.tolist() == ["cat", "dog"]
    assert stimuli.label.dtype == np.int64
    assert stimuli.columns["width"].dtype == np.float64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_path": []}, "Stimuli has no rows, expected at least one image"),
        ({"label": [0]}, r"Stimuli.label has shape \(1,\), expected \(2,\)"),
        ({"concept": ["a", "b", "c"]}, r"Stimuli.concept has shape \(3,\), expected \(2,\)"),
        ({"caption": [["a", "b"]]}, r"Stimuli.caption has shape \(1, 2\), expected \(2,\)"),
        ({"content_id": ["00"]}, r"Stimuli.content_id has shape \(1,\), expected \(2,\)"),
        ({"content_id": [b"00", b"11"]}, r"Stimuli.content_id has dtype \|S2, expected str"),
        ({"label": [0, -2]}, "Stimuli.label has -2, expected 0 or more, or -1 for none"),
        ({"label": [0.0, 1.0]}, "Stimuli.label has dtype float64, expected int"),
        ({"concept": [0, 1]}, "Stimuli.concept has dtype int64, expected str"),
        ({"columns": {"width": [1]}}, r"Stimuli.width has shape \(1,\), expected \(2,\)"),
    ],
)
def test_stimuli_refuses_what_is_no_set_of_images(changes, message):
    with pytest.raises(ValueError, match=message):
        make_stimuli(**changes)


def test_column_spec_counts_the_bytes_of_a_row():
    assert ColumnSpec(("channel", "time"), (14, 256), "float32").row_bytes == 14 * 256 * 4
    assert ColumnSpec((), (), "int16").row_bytes == 2
    assert ColumnSpec(("feature",), (0,), "float64").row_bytes == 0


def test_column_spec_refuses_dims_that_are_not_those_of_the_shape():
    with pytest.raises(ValueError, match=r"dims \('channel',\) for shape \(2, 3\)"):
        ColumnSpec(("channel",), (2, 3), "float32")


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        ({"channel": ["Cz"]}, r"coords\['channel'\]: 1 values for 2"),
        ({"time": [0.0, 0.1]}, r"coords\['time'\]: 2 values for None"),
    ],
)
def test_column_spec_refuses_coordinates_that_do_not_fit_its_axes(coords, message):
    with pytest.raises(ValueError, match=message):
        ColumnSpec(("channel",), (2,), "float32", coords=coords)


def make_block(**changes: Any) -> Block:
    columns = {"eeg": np.zeros((2, 3, 4), np.float32), "caption": ["a", "b"]}
    return Block(columns, 10, 12, **changes)


def test_block_is_a_mapping_of_its_columns():
    block = make_block()
    assert list(block) == ["eeg", "caption"]
    assert len(block) == 2
    assert "eeg" in block
    assert "image" not in block
    assert block["caption"] == ["a", "b"]
    assert block.get("image") is None
    with pytest.raises(KeyError, match="image"):
        block["image"]
    with pytest.raises(TypeError):
        block["eeg"] = np.zeros(2)


def test_block_knows_its_rows_and_what_they_are():
    block = make_block(sfreq=128.0, times=np.arange(4) / 128, ch_names=["C3", "Cz", "C4"])
    assert (block.start, block.stop, block.n_rows) == (10, 12, 2)
    assert block.sfreq == 128.0
    assert block.times.tolist() == [0, 1 / 128, 2 / 128, 3 / 128]
    assert block.ch_names == ("C3", "Cz", "C4")
    assert block.n_valid.tolist() == [4, 4]
    assert make_block(n_valid=np.array([4, 1])).n_valid.tolist() == [4, 1]


def test_block_of_stimuli_has_no_rate_times_or_channels():
    block = Block({"image": [np.zeros((2, 2, 3), np.uint8)]}, 0, 5)
    assert np.isnan(block.sfreq)
    assert len(block.times) == 0
    assert block.ch_names == ()
    assert block.n_rows == 1


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=5))
def test_block_arrays_are_read_only_and_the_givers_stay_writeable(values):
    given_array = np.array(values, np.float32)
    block = Block({"eeg": given_array}, 0, len(values))
    with pytest.raises(ValueError, match="read-only"):
        block["eeg"][0] = 2
    given_array[0] = 2
    assert block["eeg"][0] == 2


def test_a_negative_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n_samples.*negative"):
        Trials(
            n_trials=2,
            ch_names=["Cz"],
            sfreq=128,
            times=np.arange(4) / 128,
            units="V",
            label=np.zeros(2, dtype=np.int64),
            columns={"n_samples": np.array([4, -1])},
        )
