"""The source of recordings that MNE-Python reads, held against MNE's own calls."""

from __future__ import annotations

import shutil
import sys
import tracemalloc
import warnings
from pathlib import Path

import mne
import numpy as np
import pytest

from eegstore import InputError, RecipeError, registry
from eegstore_plugins.mne import MneRecording
from eegstore_plugins.mne_files import files_of
from recordings import signal, write_eeglab

SFREQ = 100.0
ANNOTATIONS = [(1.0, "face"), (3.0, "house"), (5.0, "face"), (7.0, "car 10"), (9.0, "car 9")]


def source(path, **options):
    paths = [str(one) for one in path] if isinstance(path, list) else str(path)
    return registry.create("source", "mne", {"path": paths} | options, Path("/"))


def make_raw(seed=0, ch_names=("Fz", "Cz", "Pz"), sfreq=SFREQ, seconds=12, stim=False):
    rng = np.random.default_rng(seed)
    n_times = round(seconds * sfreq)
    data = rng.normal(size=(len(ch_names), n_times)) * 1e-5
    info = mne.create_info(list(ch_names), sfreq, "eeg")
    raw = mne.io.RawArray(data, info, first_samp=50, verbose="ERROR")
    if stim:
        trigger = np.zeros((1, n_times))
        for sample, value in ((200, 7), (400, 10), (600, 7)):
            trigger[0, sample : sample + 5] = value
        stim_info = mne.create_info(["STI"], sfreq, "stim")
        extra = mne.io.RawArray(trigger, stim_info, first_samp=50, verbose="ERROR")
        raw.add_channels([extra], force_update_info=True)
    return raw


def annotate(raw, events, duration=0.0):
    onset, description = zip(*events, strict=True)
    raw.set_annotations(mne.Annotations(onset, duration, description))
    return raw


def save(raw, path):
    raw.save(path, verbose="ERROR")
    return path


@pytest.fixture
def recording(tmp_path):
    return save(annotate(make_raw(), ANNOTATIONS), tmp_path / "sub-01_raw.fif")


def own_epochs(raw, codes, **options):
    """What a user of MNE would write."""
    events, _ = mne.events_from_annotations(raw, codes, verbose="ERROR")
    settings = {"tmin": -0.2, "tmax": 0.8, "baseline": None, "preload": True, "verbose": "ERROR"}
    return mne.Epochs(raw, events, **(settings | options))


def values(epochs):
    return epochs.get_data().astype(np.float32)


def test_continuous_recording_is_cut_as_mne_cuts_it(recording):
    trials = source(recording).scan()
    raw = mne.io.read_raw(recording, verbose="ERROR")
    expected = own_epochs(raw, {"face": 1, "house": 2, "car 9": 3, "car 10": 4})
    eeg = source(recording).read(0, 5)
    assert eeg.dtype == np.float32
    assert np.array_equal(eeg, values(expected))
    assert trials.n_trials == 5
    assert trials.units == "V"
    assert trials.sfreq == SFREQ
    assert trials.ch_names == ("Fz", "Cz", "Pz")
    assert trials.ch_types == ("eeg",) * 3
    np.testing.assert_array_equal(trials.times, expected.times)
    np.testing.assert_allclose(trials.columns["onset"], [1, 3, 5, 7, 9], atol=1e-9)
    assert trials.columns["run"].tolist() == [0] * 5
    assert trials.stimulus_key.tolist() == ["face", "house", "face", "car 10", "car 9"]


def test_default_labels_follow_the_natural_order_of_the_names(recording):
    # car 9, car 10, face, house
    assert source(recording).scan().label.tolist() == [2, 3, 2, 1, 0]


def test_labels_of_names_that_differ_in_leading_zeros_are_the_same_in_any_process():
    names = ["car 10", *(f"car {9:0{width}}" for width in range(9, 0, -1))]
    expected = [*names[1:], "car 10"]
    assert list(MneRecording(path=Path("a.fif"))._label_of(set(names))) == expected


def test_event_id_gives_the_labels_and_leaves_other_events_out(recording):
    one = source(recording, event_id={"house": 40, "face": 7})
    assert one.scan().label.tolist() == [7, 40, 7]
    raw = mne.io.read_raw(recording, verbose="ERROR")
    assert np.array_equal(one.read(0, 3), values(own_epochs(raw, {"house": 1, "face": 2})))


def test_processing_equals_mne_calls_in_the_documented_order(recording):
    one = source(
        recording, reference=["Pz"], picks=["Fz", "Cz"], l_freq=1.0, h_freq=20.0,
        tmin=-0.5, tmax=0.5, baseline=[-0.5, 0.0], resample=50,
    )  # fmt: skip
    trials = one.scan()
    raw = mne.io.read_raw(recording, preload=True, verbose="ERROR")
    raw.set_eeg_reference(["Pz"], verbose="ERROR").pick(["Fz", "Cz"])
    raw.filter(1.0, 20.0, verbose="ERROR")
    codes = {"face": 1, "house": 2, "car 9": 3, "car 10": 4}
    expected = own_epochs(raw, codes, tmin=-0.5, tmax=0.5, baseline=(-0.5, 0.0))
    expected.resample(50.0, verbose="ERROR")
    assert trials.sfreq == 50.0
    assert trials.ch_names == ("Fz", "Cz")
    np.testing.assert_array_equal(trials.times, expected.times)
    assert np.array_equal(one.read(0, 5), values(expected))


def test_average_reference_takes_the_mean_of_the_channels_away(recording):
    assert np.abs(source(recording).read(0, 5).mean(axis=1)).max() > 1e-6
    eeg = source(recording, reference="average").read(0, 5)
    assert np.abs(eeg.mean(axis=1)).max() < 1e-11


def test_stim_channel_gives_the_events(tmp_path):
    path = save(make_raw(stim=True), tmp_path / "stim_raw.fif")
    one = source(path, events="stim", stim_channel="STI", event_id={"7": 0, "10": 1})
    trials = one.scan()
    assert trials.stimulus_key.tolist() == ["7", "10", "7"]
    assert trials.label.tolist() == [0, 1, 0]
    np.testing.assert_allclose(trials.columns["onset"], [2, 4, 6])
    raw = mne.io.read_raw(path, verbose="ERROR")
    events = mne.find_events(raw, "STI", verbose="ERROR")
    expected = mne.Epochs(raw, events, tmin=-0.2, tmax=0.8, baseline=None, picks="eeg",
                          preload=True, verbose="ERROR")  # fmt: skip
    assert np.array_equal(one.read(0, 3), values(expected))
    # By default too, and 7 comes before 10.
    assert source(path, events="stim").scan().label.tolist() == [0, 1, 0]


@pytest.fixture
def two_files(tmp_path):
    """Files of 2 and 3 trials; the second has its channels in another order."""
    first = annotate(make_raw(1), [(1.0, "b"), (3.0, "c")])
    second = annotate(make_raw(2, ("Pz", "Fz", "Cz")), [(2.0, "a"), (4.0, "b"), (6.0, "a")])
    return [save(first, tmp_path / "z_raw.fif"), save(second, tmp_path / "a_raw.fif")]


def test_several_files_follow_each_other_with_channels_matched_by_name(two_files):
    one = source(two_files)
    trials = one.scan()
    assert trials.columns["run"].tolist() == [0, 0, 1, 1, 1]
    assert trials.ch_names == ("Fz", "Cz", "Pz")
    assert trials.label.tolist() == [1, 2, 0, 1, 0]
    np.testing.assert_allclose(trials.columns["onset"], [1, 3, 2, 4, 6])
    raws = [mne.io.read_raw(path, verbose="ERROR") for path in two_files]
    expected = [
        values(own_epochs(raws[0], {"b": 1, "c": 2})),
        values(own_epochs(raws[1], {"a": 1, "b": 2}))[:, [1, 2, 0]],
    ]
    assert np.array_equal(one.read(0, 5), np.concatenate(expected))


def test_any_range_after_restore_equals_the_slice_of_everything(two_files):
    scanned = source(two_files)
    scanned.scan()
    everything = scanned.read(0, 5)
    worker = source(two_files)
    worker.restore(scanned.state())
    for start in range(5):
        for stop in range(start + 1, 6):
            assert np.array_equal(worker.read(start, stop), everything[start:stop])


def test_consecutive_blocks_load_each_file_once(two_files, monkeypatch):
    one = source(two_files)
    one.scan()
    opened = []
    read_raw = mne.io.read_raw
    monkeypatch.setattr(mne.io, "read_raw", lambda path: opened.append(path) or read_raw(path))
    for row in range(5):
        one.read(row, row + 1)
    assert opened == two_files


def test_scan_keeps_no_signal_and_read_keeps_one_file(tmp_path):
    paths = []
    for seed in range(3):
        raw = annotate(make_raw(seed, seconds=200), [(t, "x") for t in range(1, 199)])
        paths.append(save(raw, tmp_path / f"{seed}_raw.fif"))
    signal_bytes = 198 * 3 * 101 * 4
    one = source(paths)
    source(paths[0]).scan()  # what MNE itself caches is not counted
    tracemalloc.start()
    try:
        one.scan()
        assert tracemalloc.get_traced_memory()[0] < signal_bytes / 2
        for row in range(0, 3 * 198, 99):
            one.read(row, row + 1)
        assert tracemalloc.get_traced_memory()[0] < 2 * signal_bytes
    finally:
        tracemalloc.stop()


def test_a_file_that_changes_after_the_scan_is_refused(two_files):
    one = source(two_files)
    one.scan()
    raw = annotate(make_raw(2, ("Pz", "Fz", "Cz")), [(2.0, "a")])
    raw.save(two_files[1], overwrite=True, verbose="ERROR")
    with pytest.raises(InputError, match=r"a_raw\.fif: changed since it was scanned"):
        one.read(2, 3)


def test_lost_events_are_listed_and_counted(tmp_path):
    events = [(0.1, "face"), (3.0, "face"), (3.0, "house"), (5.0, "face"), (11.9, "house")]
    raw = annotate(make_raw(), events)
    raw.annotations.append(5.2, 0.1, "BAD_blink")
    trials = source(save(raw, tmp_path / "lossy_raw.fif")).scan()
    assert trials.stimulus_key.tolist() == ["face"]
    assert trials.columns["onset"].tolist() == [3.0]
    assert list(trials.skipped) == [
        "lossy_raw.fif: 'face' at 0.100 s: too close to an edge",
        "lossy_raw.fif: 'house' at 3.000 s: at the sample of another event",
        "lossy_raw.fif: 'face' at 5.000 s: BAD_blink",
        "lossy_raw.fif: 'house' at 11.900 s: too close to an edge",
    ]
    assert "4 of 5 events left out" in trials.hints[0]
    assert trials.label.tolist() == [0]


def test_a_recording_whose_events_are_all_lost_is_refused(tmp_path):
    path = save(annotate(make_raw(), [(0.1, "face")]), tmp_path / "short_raw.fif")
    with pytest.raises(InputError, match=r"no event is left as a trial.*'face' at 0\.100 s"):
        source(path).scan()


def test_epochs_file_is_read_whole_or_cropped(tmp_path, recording):
    raw = mne.io.read_raw(recording, verbose="ERROR")
    codes = {"face": 5, "house": 9}
    epochs = own_epochs(raw, codes, event_id=codes)
    path = tmp_path / "sub-01-epo.fif"
    epochs.save(path, fmt="double", verbose="ERROR")
    trials = source(path).scan()
    assert trials.stimulus_key.tolist() == ["face", "house", "face"]
    np.testing.assert_allclose(
        trials.columns["onset"], [1.5, 3.5, 5.5]
    )  # MNE counts from first_samp
    assert np.array_equal(source(path).read(0, 3), values(epochs))
    one = source(path, tmin=0.0, tmax=0.5, event_id={"face": 3}, baseline=[0.0, 0.1])
    expected = epochs["face"].crop(0.0, 0.5).apply_baseline((0.0, 0.1), verbose="ERROR")
    assert one.scan().label.tolist() == [3, 3]
    assert np.array_equal(one.read(0, 2), values(expected))


def test_epochs_are_told_from_continuous_signals_by_content(tmp_path, recording):
    raw = mne.io.read_raw(recording, verbose="ERROR")
    path = tmp_path / "renamed.fif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own_epochs(raw, {"face": 5}).save(path, verbose="ERROR")
    assert source(path).scan().n_trials == 2


@pytest.mark.shared_data
def test_fingerprint_follows_content_and_sidecars_and_not_the_place(tmp_path, shared_data):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for file in (shared_data / "eeg-formats").glob("*.v*"):
            text = file.read_text("latin-1").replace("eeglab_testbva.dat", "signal.bin")
            (tmp_path / folder / file.name).write_text(text, "latin-1")
        shutil.copy(
            shared_data / "eeg-formats/eeglab_testbva.dat", tmp_path / folder / "signal.bin"
        )
    names = [tmp_path / folder / "eeglab_testbva.vhdr" for folder in ("one", "two")]
    assert source(names[0]).fingerprint() == source(names[1]).fingerprint()
    before = source(names[0]).fingerprint()
    for sidecar in ("signal.bin", "eeglab_testbva.vmrk"):
        file = tmp_path / "one" / sidecar
        file.write_bytes(file.read_bytes() + b" ")
        after = source(names[0]).fingerprint()
        assert after != before
        before = after


def test_fingerprint_covers_the_parts_of_a_split_file(tmp_path, recording):
    before = source(recording).fingerprint()
    (tmp_path / "sub-01_raw-1.fif").write_bytes(b"part")
    assert source(recording).fingerprint() != before


@pytest.mark.parametrize("nested", [True, False])
def test_an_eeglab_signal_under_another_name_is_read_and_covered(tmp_path, nested):
    write_eeglab(tmp_path / "renamed.set", "signal.fdt", nested)
    one = source(tmp_path / "renamed.set", tmin=0.0, tmax=0.5)
    assert one.scan().stimulus_key.tolist() == ["face", "house"]
    assert np.allclose(one.read(1, 2)[0] * 1e6, signal()[:, 300:351], atol=1e-5)
    before = one.fingerprint()
    (2 * signal().T).tofile(tmp_path / "signal.fdt")
    assert one.fingerprint() != before


def test_an_eeglab_set_of_its_own_signal_is_its_only_file(tmp_path):
    for nested in (True, False):
        write_eeglab(tmp_path / "whole.set", nested=nested)
        assert files_of(tmp_path / "whole.set") == [tmp_path / "whole.set"]
        assert source(tmp_path / "whole.set", tmin=0.0, tmax=0.5).scan().n_trials == 2


def test_a_stale_name_of_the_signal_falls_back_on_the_sets_own(tmp_path):
    write_eeglab(tmp_path / "rec.set", "../gone.fdt")
    (tmp_path.parent / "gone.fdt").rename(tmp_path / "rec.fdt")
    assert source(tmp_path / "rec.set", tmin=0.0, tmax=0.5).scan().n_trials == 2
    assert files_of(tmp_path / "rec.set") == [tmp_path / "rec.set", tmp_path / "rec.fdt"]


def test_a_part_of_a_fif_file_under_a_name_of_its_own_is_refused(tmp_path):
    raw = annotate(make_raw(seconds=340, ch_names=[f"C{i}" for i in range(16)]), ANNOTATIONS)
    raw.save(tmp_path / "one_raw.fif", split_size="2MB", buffer_size_sec=1, verbose="ERROR")
    assert source(tmp_path / "one_raw.fif").scan().n_trials == 5
    content = (tmp_path / "one_raw.fif").read_bytes()
    (tmp_path / "one_raw.fif").write_bytes(content.replace(b"one_raw-1.fif", b"two_raw-1.fif"))
    (tmp_path / "one_raw-1.fif").rename(tmp_path / "two_raw-1.fif")
    refused(r"one_raw\.fif: continues in .*two_raw-1\.fif; rename", tmp_path / "one_raw.fif")


def test_nothing_reaches_the_terminal_and_warnings_become_hints(tmp_path, capfd):
    raw = annotate(make_raw(), ANNOTATIONS)
    path = tmp_path / "oddly_named.fif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw.save(path, verbose="ERROR")
    one = source(path)
    trials = one.scan()
    one.read(0, 2)
    assert capfd.readouterr() == ("", "")
    assert len(trials.hints) == 1
    assert trials.hints[0].startswith("oddly_named.fif: This filename")
    assert "\n" not in trials.hints[0]


@pytest.mark.shared_data
def test_real_eeglab_epochs_equal_mne(shared_data):
    path = shared_data / "eeglab-epochs" / "eeglab_data_epochs_ica.set"
    one = source(path)
    trials = one.scan()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = mne.read_epochs_eeglab(path, verbose="ERROR").pick("eeg")
    eeg = one.read(0, 80)
    assert eeg.shape == (80, 30, 384)
    assert trials.sfreq == 128.0
    assert np.array_equal(eeg, values(expected))
    names = {code: name for name, code in expected.event_id.items()}
    assert trials.stimulus_key.tolist() == [names[code] for code in expected.events[:, 2]]
    assert {*trials.stimulus_key.tolist()} == {"square/square/rt", "square/rt", "square"}
    assert any("multiple events" in hint for hint in trials.hints)


@pytest.mark.shared_data
def test_real_edf_equals_mne_by_annotations_and_by_stim_channel(shared_data):
    path = shared_data / "eeg-formats" / "mne_test.edf"
    raw = mne.io.read_raw(path, verbose="ERROR")
    one = source(path, tmax=0.5)
    trials = one.scan()
    assert trials.stimulus_key.tolist() == ["type A", "type B", "type A"]
    assert [line.split("'")[1] for line in trials.skipped] == ["start", "type A"]
    expected = own_epochs(raw, {"type A": 1, "type B": 2}, tmax=0.5, picks="eeg")
    assert np.array_equal(one.read(0, 3), values(expected))
    by_stim = source(path, events="stim", event_id={"4096": 0, "4100": 1}, tmin=0.0, tmax=0.1)
    trials = by_stim.scan()
    events = mne.find_events(raw, verbose="ERROR")
    np.testing.assert_allclose(trials.columns["onset"], events[:, 0] / raw.info["sfreq"])
    assert trials.label.tolist() == (events[:, 2] == 4100).astype(int).tolist()


@pytest.mark.shared_data
def test_real_brainvision_triple_equals_mne(shared_data):
    path = shared_data / "eeg-formats" / "eeglab_testbva.vhdr"
    one = source(path, event_id={"Stimulus/S  1": 1, "Stimulus/S  4": 4}, tmin=-0.1, tmax=0.3)
    trials = one.scan()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = mne.io.read_raw(path, verbose="ERROR")
    codes = {"Stimulus/S  1": 1, "Stimulus/S  4": 4}
    expected = own_epochs(raw, codes, tmin=-0.1, tmax=0.3, picks="eeg")
    assert trials.label.tolist() == expected.events[:, 2].tolist()
    assert np.array_equal(one.read(0, trials.n_trials), values(expected))


def refused(message, *arguments, **options):
    with pytest.raises(InputError, match=message) as caught:
        source(*arguments, **options).scan()
    assert "\n" not in str(caught.value)


def test_missing_mne_names_the_command(recording, monkeypatch):
    monkeypatch.setitem(sys.modules, "mne", None)
    refused(r"pip install 'eegstore\[mne\]'", recording)


def test_files_that_cannot_be_read_are_refused_by_name(tmp_path):
    refused(r"absent\.edf: no such file", tmp_path / "absent.edf")
    refused(r"a folder, expected a recording", tmp_path)
    (tmp_path / "damaged.edf").write_bytes(b"\x00\x1b[31m" * 50)
    refused(r"damaged\.edf: MNE cannot use it: ", tmp_path / "damaged.edf")
    (tmp_path / "notes.txt").write_text("no recording")
    refused(r"notes\.txt: MNE cannot use it: ", tmp_path / "notes.txt")
    (tmp_path / "damaged_raw.fif").write_bytes(b"FIF?" * 99)
    refused(r"damaged_raw\.fif: MNE cannot use it: ", tmp_path / "damaged_raw.fif")


def test_a_header_whose_signal_is_missing_is_refused(tmp_path):
    header = tmp_path / "rec.vhdr"
    header.write_text("[Common Infos]\nDataFile=$b.eeg\nMarkerFile=rec.vmrk\n")
    refused(r"rec\.eeg: no such file", header)


@pytest.mark.parametrize("place", ["..", "{}"])
def test_a_recording_that_names_a_file_elsewhere_is_refused(tmp_path, place):
    folder, name = tmp_path / "recording", f"{place.format(tmp_path)}/signal.fdt"
    folder.mkdir()
    write_eeglab(folder / "rec.set", name)
    (folder / "rec.vhdr").write_text(f"[Common Infos]\nDataFile={name}\n")
    for file in ("rec.set", "rec.vhdr"):
        refused(rf"{file}: names a file outside of its folder, '.*signal\.fdt'", folder / file)
        with pytest.raises(InputError, match="outside of its folder"):
            source(folder / file).fingerprint()


def test_events_that_are_not_there_are_refused_with_what_is(tmp_path, recording):
    empty = save(make_raw(), tmp_path / "empty_raw.fif")
    refused(r"empty_raw\.fif: has no event among its annotations; it has annotations none", empty)
    bad = save(annotate(make_raw(), [(2.0, "BAD_eye")]), tmp_path / "bad_raw.fif")
    refused(r"it has annotations 'BAD_eye'", bad)
    refused(r"no channel of type stim; its stim channels: none", recording, events="stim")
    refused(
        r"no channel 'STI 014'; its stim channels: 'STI'",
        save(make_raw(stim=True), tmp_path / "stim_raw.fif"),
        events="stim",
        stim_channel="STI 014",
    )
    refused(r"no event 'fase'; did you mean 'face'\?", recording, event_id={"fase": 0})
    refused(
        r"no event 'zebra'; known: car 10, car 9, face, house",
        recording,
        event_id={"zebra": 0},
    )
    refused(
        r"event_id: no file has an event 'hose'; did you mean 'house'\?",
        recording,
        event_id={"face": 0, "hose": 1},
    )


def test_files_that_differ_are_refused_with_both_named(tmp_path, recording):
    def other(**facts):
        path = tmp_path / f"other{len(list(tmp_path.iterdir()))}_raw.fif"
        return [recording, save(annotate(make_raw(**facts), ANNOTATIONS), path)]

    refused(
        r"other\d_raw\.fif: it or sub-01_raw\.fif lacks 'Oz', 'Pz'; set picks",
        other(ch_names=("Fz", "Cz", "Oz")),
    )
    refused(
        r"other\d_raw\.fif: 201 samples from -0\.2 to 0\.8 s at 200\.0 Hz, but sub-01_raw\.fif "
        r"has 101 samples from -0\.2 to 0\.8 s at 100\.0 Hz",
        other(sfreq=200.0),
    )


def test_channels_that_are_not_in_volts_are_refused(tmp_path):
    path = save(annotate(make_raw(stim=True), ANNOTATIONS), tmp_path / "stim_raw.fif")
    refused(r"channel 'STI' is not in V; set picks", path, picks=["Fz", "STI"])


def test_options_that_contradict_each_other_are_refused(recording):
    for options, message in (
        ({"tmin": 0.5, "tmax": 0.5}, "tmin 0.5 s is not before tmax 0.5 s"),
        ({"l_freq": 40.0, "h_freq": 1.0}, "l_freq 40.0 Hz is not below h_freq 1.0 Hz"),
        ({"stim_channel": "STI"}, "needs events"),
        ({"event_id": {}}, "event_id"),
        ({"event_id": {"cat": 0, "dog": -2}}, "event_id: 'dog' has label -2, expected -1 or more"),
        ({"resample": 0}, "resample"),
    ):
        with pytest.raises(RecipeError, match=message):
            source(recording, **options)
    with pytest.raises(RecipeError, match="empty list"):
        source([])
