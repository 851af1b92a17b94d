"""The report of a store: its structure, its numbers, and that no text of a store can harm it."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy import stats
from scipy.signal import welch

import eegstore
from command import check_refused, run_command
from eegstore import InputError, UsageError
from eegstore.report import report
from pages import Element, number, parse
from reporting import CH_NAMES, HOSTILE, build, installed

MAX_BYTES = 5_000_000


@pytest.fixture(scope="module", autouse=True)
def plugins() -> Iterator[None]:
    with installed():
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> eegstore.Store:
    return build(tmp_path_factory.mktemp("report") / "waves.zarr")


@pytest.fixture(scope="module")
def text(store: eegstore.Store) -> str:
    out = report(store, store.folder.parent / "waves.html")
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Element:
    return parse(text)


def table(page: Element, key: str) -> list[list[str]]:
    """The rows of a figure's table of numbers."""
    return page.one("figure", id=key).one("table").rows()


def caption(page: Element, key: str) -> str:
    return page.one("figure", id=key).all("figcaption")[0].text()


def check_structure(page: Element) -> None:
    """Names, ids, landmarks and headings, as whoever cannot see the page needs them."""
    ids = [one.attributes["id"] for one in page.walk() if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    for one in page.walk():
        for name in ("aria-labelledby", "aria-describedby", "href"):
            named = (one.attributes.get(name) or "").split()
            if one.tag == "a" or name != "href":
                assert {target.removeprefix("#") for target in named} <= set(ids), one
        for target in re.findall(r"url\(#([^)]+)\)", one.attributes.get("style") or ""):
            assert target in ids
        assert not [name for name in one.attributes if name.startswith("on")]
    for svg in page.all("svg"):
        if svg.attributes.get("aria-hidden") != "true":
            assert svg.attributes["role"] == "img"
            assert all(svg.all(tag)[0].text().strip() for tag in ("title", "desc"))
    for image in page.all("img"):
        assert image.attributes["alt"]
        assert str(image.attributes["src"]).startswith("data:image/")
    levels = [int(one.tag[1]) for one in page.walk() if re.fullmatch("h[1-6]", one.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for cell in page.all("th"):
        assert cell.attributes["scope"] in ("row", "col")
    for one in page.all("table"):
        assert one.all("caption")
    assert [len(page.all(tag)) for tag in ("header", "nav", "main", "footer")] == [1, 1, 1, 1]
    assert page.one("html").attributes["lang"] == "en"
    assert page.one("a", class_="skip").attributes["href"] == "#main"


def test_its_structure_is_whole(page: Element) -> None:
    check_structure(page)
    titles = [one.text() for one in page.one("main").all("h2")]
    assert titles == [
        "Verdict", "Audit", "How it was made", "Splits and concepts", "What was shown",
        "Evoked responses", "Power spectra", "Topographies", "Quality", "Embeddings",
        "CLIP: image and text", "Not in this report",
    ]  # fmt: skip
    assert [one.text() for one in page.one("nav").all("a")] == titles


def test_nothing_is_asked_of_the_network(text: str, page: Element) -> None:
    assert not re.search(r"https?:|//[a-z]|@import", text.partition("<body>")[0])
    for one in page.walk():
        for name in ("src", "href", "srcset", "action", "data"):
            value = one.attributes.get(name) or ""
            assert not value or value.startswith(("data:", "#")), one.attributes
    policy = str(page.all("meta", http_equiv="Content-Security-Policy")[0].attributes["content"])
    digest = hashlib.sha256(page.one("script").text().encode()).digest()
    assert f"'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "script-src 'sha256" in policy
    assert "connect-src" not in policy


def test_the_same_store_gives_the_same_bytes(
    store: eegstore.Store, text: str, tmp_path: Path
) -> None:
    again = report(eegstore.open_store(store.folder), tmp_path / "other name.html")
    assert again.read_text(encoding="utf-8") == text
    assert len(text.encode()) < 500_000


def signals(store: eegstore.Store) -> Any:
    """float64, (trial, EEG channel, time), in µV, less the mean before the stimulus."""
    eeg = store.trials["eeg"][:][:, :9].astype(np.float64) * 1e6
    before = np.arange(128) / 128 - 0.25 < 0
    return eeg - eeg[..., before].mean(axis=-1, keepdims=True)


def test_evoked_responses_are_those_of_numpy(store: eegstore.Store, page: Element) -> None:
    eeg, label = signals(store), store.trials["label"][:]
    head, *rows = table(page, "evoked")
    assert head[:4] == ["Time (s)", "Oz, cat", "Oz, dog", "Oz, owl"]
    assert len(rows) == 43  # every third sample
    for row in rows:
        sample = round((number(row[0]) + 0.25) * 128)
        for concept in range(3):
            values = eeg[label == concept][:, CH_NAMES.index("Oz"), sample]
            mean, margin = row[1 + concept].split("±")
            low, high = stats.t.interval(0.95, 29, values.mean(), stats.sem(values))
            assert number(mean) == pytest.approx(values.mean(), rel=1e-3, abs=1e-3)
            assert number(margin) == pytest.approx((high - low) / 2, rel=1e-2)
    assert "From all 90 trials of the concepts." in caption(page, "evoked")
    assert "the mean of the time before the stimulus subtracted" in caption(page, "evoked")


def test_global_field_power_is_the_spread_over_channels(
    store: eegstore.Store, page: Element
) -> None:
    eeg, label = signals(store), store.trials["label"][:]
    head, *rows = table(page, "evoked")
    assert head[-3:] == ["field power, cat", "field power, dog", "field power, owl"]
    for row in rows[::7]:
        sample = round((number(row[0]) + 0.25) * 128)
        expected = eeg[label == 2].mean(axis=0)[:, sample].std()
        assert number(row[-1]) == pytest.approx(expected, rel=1e-3)


def test_spectra_are_those_of_welch_and_peak_at_the_rhythm(
    store: eegstore.Store, page: Element
) -> None:
    eeg, label = store.trials["eeg"][:][:, :9].astype(np.float64) * 1e6, store.trials["label"][:]
    _, density = welch(eeg, 128.0, nperseg=128)
    power = 10 * np.log10(density.mean(axis=1))
    _, *rows = table(page, "spectra")
    assert [number(row[0]) for row in rows] == list(range(1, 64))
    for row in rows:
        values = power[label == 1][:, int(number(row[0]))]
        mean, margin = row[2].split("±")
        assert number(mean) == pytest.approx(values.mean(), abs=2e-3)
        assert number(margin) == pytest.approx(stats.t.ppf(0.975, 29) * stats.sem(values), rel=1e-2)
    loudest = max(rows, key=lambda row: number(row[1].split("±")[0]))
    assert number(loudest[0]) == 10


def test_maps_have_the_mean_amplitude_at_each_latency(store: eegstore.Store, page: Element) -> None:
    pytest.importorskip("mne")
    head, *rows = table(page, "scalp")
    assert head == ["Channel", "100 ms", "170 ms", "250 ms", "350 ms", "500 ms"]
    assert [row[0] for row in rows] == list(CH_NAMES[:9])
    times, mean = np.arange(128) / 128 - 0.25, signals(store).mean(axis=0)
    for column, latency in enumerate((0.1, 0.17, 0.25, 0.35, 0.5), 1):
        expected = mean[:, np.abs(times - latency) <= 0.02].mean(axis=1)
        found = [number(row[column]) for row in rows]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    assert len(page.one("figure", id="scalp").all("image")) == 5


def test_a_figure_says_from_how_many_trials_it_is(store: eegstore.Store, tmp_path: Path) -> None:
    page = parse(report(store, tmp_path / "a.html", max_trials=30, seed=5).read_text())
    assert "From 30 of 90 trials of the concepts." in caption(page, "evoked")
    assert "from 30 of 90 trials" in caption(page, "scalp")
    assert "From 30 of 90 trials." in caption(page, "quality")
    legend = page.one("figure", id="evoked").one("ul", class_="legend").text()
    assert sum(int(one) for one in re.findall(r"n = (\d+)", legend)) == 30
    rows = np.sort(np.random.default_rng(5).choice(np.arange(90), 30, replace=False))
    values = store.trials["quality"][:][rows, 0]
    assert number(table(page, "quality")[2][3]) == pytest.approx(np.median(values), rel=1e-3)
    assert (
        report(store, tmp_path / "b.html", max_trials=30, seed=6).read_text()
        != (tmp_path / "a.html").read_text()
    )


def test_counts_are_those_of_the_store(store: eegstore.Store, page: Element) -> None:
    assert table(page, "splits")[1:] == [["train", "72", "80.0 %"], ["test", "18", "20.0 %"]]
    assert table(page, "concepts")[0] == ["Concept", "train", "test", "All"]
    assert table(page, "concepts")[1] == ["cat", "24", "6", "30"]
    facts = {one.all("dt")[0].text(): one.all("dd")[0].text() for one in page.one("dl").all("div")}
    assert facts["Trials"] == "90test 18, train 72"
    assert facts["Channels"] == "109 of type EEG"
    assert facts["Window"] == "−0.25 to 0.742s from stimulus onset"
    assert store.digest in page.one("header").text()


@dataclass(frozen=True)
class Many:
    """Train, test, and then as many splits as there are trials for."""

    name: ClassVar[str] = "many"
    version: ClassVar[str] = "1"
    n_splits: int = field(default=10, metadata={"description": "Number."})

    def __call__(self, trials: Any, stimulus: Any, stimuli: Any) -> Any:
        names = np.array(["train", "test", *(f"x{one:03}" for one in range(2, self.n_splits))])
        return names[np.arange(trials.n_trials) % self.n_splits]


def test_more_splits_than_colours_are_all_in_the_tables(
    tmp_path: Path, register: Callable[..., None]
) -> None:
    register(Many, kind="split")
    store = build(tmp_path / "a.zarr", split={"plugin": "many"}, extract=[])
    page = parse(report(store, tmp_path / "a.html", with_audit=False).read_text())
    check_structure(page)
    names = ["train", "test", *(f"x{one:03}" for one in range(2, 10))]
    assert [row[:2] for row in table(page, "splits")[1:]] == [[one, "9"] for one in names]
    assert len(page.one("figure", id="splits").all("rect")) == 10
    head, *rows = table(page, "concepts")
    assert head == ["Concept", *names, "All"]
    assert [row[-1] for row in rows] == ["30", "30", "30"]
    assert all(sum(map(int, row[1:-1])) == 30 for row in rows)
    trials = store.trials["split"][:][np.arange(90) % 3 == 0]
    assert rows[0][1:-1] == [str(np.sum(trials == one)) for one in names]
    concepts = page.one("figure", id="concepts")
    assert len(concepts.one("ul", class_="legend").all("li")) == 6
    assert "The bars, and the numbers at their ends, are of 6 of 10 splits." in concepts.text()
    assert "test 9, train 9, x002 9, x003 9 and 6 more" in page.one("dl").text()


def test_lists_that_are_too_long_say_how_much_they_leave_out(
    tmp_path: Path, register: Callable[..., None]
) -> None:
    register(Many, kind="split")
    concepts = [f"c{one:03}" for one in range(230)]
    store = build(
        tmp_path / "a.zarr", source={"plugin": "waves", "n_trials": 690, "n_labels": 230},
        stimuli={"plugin": "shown", "concepts": concepts, "per_concept": 1}, extract=[],
        split={"plugin": "many", "n_splits": 201},
    )  # fmt: skip
    page = parse(report(store, tmp_path / "a.html", with_audit=False).read_text())
    assert len(table(page, "splits")) == 1 + 200
    splits = page.one("figure", id="splits")
    assert "1 more row is not listed." in splits.one("details").text()
    assert "The first 20 of 201 are drawn." in caption(page, "splits")
    assert len(splits.all("rect")) == 20
    rows = table(page, "concepts")
    assert (len(rows), len(rows[0])) == (1 + 200, 1 + 200 + 1)
    assert {row[-1] for row in rows[1:]} == {"3"}
    assert "30 more rows are not listed." in page.one("figure", id="concepts").text()
    assert "6 of 201 splits. The table has 200 of them." in caption(page, "concepts")


def test_likeness_compares_own_captions_with_others(store: eegstore.Store, page: Element) -> None:
    image, text = (
        store.stimuli[name][:].astype(np.float64) for name in ("clip_image", "clip_text")
    )
    image, text = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (image, text))
    cosines, captions = image @ text.T, store.stimuli["caption"][:]
    own, others = np.diagonal(cosines), cosines[captions[:, None] != captions[None]]
    told = caption(page, "likeness")
    means = [number(one) for one in re.findall(r"mean ([−\d.]+)", told)]
    np.testing.assert_allclose(means, [own.mean(), others.mean()], rtol=1e-3)
    above = (own[:, None] > others[None]).mean()
    assert f"{100 * above:.1f} % of comparisons" in told
    shares = np.array([[number(cell) for cell in row[1:]] for row in table(page, "likeness")[1:]])
    np.testing.assert_allclose(shares.sum(axis=0), 100, atol=0.5 * len(shares))


def test_an_embedding_s_map_has_its_principal_components(
    store: eegstore.Store, page: Element
) -> None:
    from sklearn.decomposition import PCA

    values = store.stimuli["clip_image"][:].astype(np.float64)
    fitted = PCA(2).fit(values)
    drawn = page.one("svg", aria_labelledby="map-stimuli-clip_image-pca-title")
    labels = [one.text() for one in drawn.all("text")]
    for one, share in enumerate(fitted.explained_variance_ratio_, 1):
        assert any(f"component {one} ({100 * share:.1f} % of variance)" in text for text in labels)
    points = fitted.transform(values)
    [row] = [row for row in table(page, "map-stimuli-clip_image") if row[0] == "dog"]
    means = points[store.stimuli["concept"][:] == "dog"].mean(axis=0)
    np.testing.assert_allclose(np.abs([number(one) for one in row[2:4]]), np.abs(means), rtol=2e-3)


def test_the_graph_has_every_column_and_what_it_is_made_of(
    store: eegstore.Store, page: Element
) -> None:
    rows = {row[0]: row for row in table(page, "made")[1:]}
    assert set(rows) == {
        entry.path for entry in store.attributes.columns if entry.kind in ("wide", "narrow")
    }
    assert rows["trials/quality"][3:5] == ["worth 1", "trials/eeg"]
    assert rows["trials/stimulus"][3] == "pairing label 1"
    assert rows["stimuli/clip_text"][4] == "stimuli/caption"
    boxes = page.one("figure", id="made").all("rect")
    assert len(boxes) == 11
    assert len(page.one("figure", id="made").all("path", class_="arrow")) == 10


def test_padding_is_in_no_average(tmp_path: Path) -> None:
    store = build(tmp_path / "a.zarr", source={"plugin": "waves", "short": True}, stimuli=None,
                  pairing=None, extract=[])  # fmt: skip
    page = parse(report(store, tmp_path / "a.html").read_text())
    check_structure(page)
    head, *rows = table(page, "evoked")
    assert head[1] == "Oz, label 0"
    eeg = signals(store)[store.trials["label"][:] == 0][:, 3]
    for row in rows[-5:]:
        sample = round((number(row[0]) + 0.25) * 128)
        expected = np.nanmean(eeg[:, sample])
        assert number(row[1].split("±")[0]) == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert "the first 100 samples of each trial" in caption(page, "spectra")
    left_out = page.one("section", id="omitted").text()
    assert "What was shown: the store has no stimuli." in left_out
    assert "Quality: the store has no column quality" in left_out
    assert "Retrieval results: nothing was evaluated; the verdict says why." in left_out
    box = page.one("section", id="verdict")
    said = box.one("p", class_="verdict").text()
    assert said == "Nothing was evaluated, so there is no evidence of decoding in this store."
    assert [one.text() for one in box.all("li")] == ["The store has no stimuli to find."]


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    stimuli = {"plugin": "shown", "concepts": list(HOSTILE), "per_concept": 1}
    source = {"plugin": "waves", "notice": HOSTILE[0]}
    store = build(tmp_path / "a.zarr", name=HOSTILE[0] + HOSTILE[1], source=source,
                  stimuli=stimuli)  # fmt: skip
    text = report(store, tmp_path / "a.html").read_text(encoding="utf-8")
    page = parse(text)
    check_structure(page)
    assert len(page.all("script")) == 1
    assert "alert" not in page.one("script").text()
    assert not [one for one in page.walk() if "autofocus" in one.attributes]
    assert HOSTILE[0] in page.one("h1").text()
    assert HOSTILE[0] in page.one("p", class_="notice").text()
    assert HOSTILE[5] in page.one("figure", id="stimuli").text()
    assert "\u202e" not in text
    assert "\\u202etxet desrever" in page.one("figure", id="stimuli").text()
    assert len(text) < MAX_BYTES


def test_a_store_of_many_concepts_and_images_stays_small(tmp_path: Path) -> None:
    concepts = [f"concept {one:03} {'x' * 40}" for one in range(300)]
    store = build(tmp_path / "a.zarr", source={"plugin": "waves", "n_trials": 300},
                  stimuli={"plugin": "shown", "concepts": concepts, "per_concept": 3},
                  pairing={"plugin": "label", "unmatched": "keep"})  # fmt: skip
    out = report(store, tmp_path / "a.html", with_audit=False)
    assert out.stat().st_size < MAX_BYTES
    assert (
        "Audit: the store was not audited."
        in parse(out.read_text()).one("section", id="omitted").text()
    )


def test_images_that_are_gone_are_told_and_the_page_is_made(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.touch()
    stimuli = {"plugin": "shown", "missing": str(there)}
    store = build(tmp_path / "a.zarr", stimuli=stimuli)
    there.unlink()
    page = parse(report(store, tmp_path / "a.html").read_text())
    check_structure(page)
    assert not page.all("img")
    assert "The images are not at hand" in caption(page, "stimuli")
    assert "there is no such file" in caption(page, "stimuli")


def test_it_is_written_whole_or_not_at_all(
    store: eegstore.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.html"
    assert report(store, out, with_audit=False) == out
    before = out.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("eegstore.report.writing.put", full)
    with pytest.raises(InputError, match=r"a\.html: cannot be written: No space left on device"):
        report(store, out, with_audit=False)
    assert out.read_bytes() == before
    assert list(out.parent.iterdir()) == [out]


def test_a_place_that_cannot_be_is_refused(store: eegstore.Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lies inside the store"):
        report(store, store.folder / "a.html")
    with pytest.raises(InputError, match="is a folder, expected the file to write"):
        report(store, tmp_path)
    with pytest.raises(UsageError, match="OUT is empty"):
        report(store, "")
    with pytest.raises(UsageError, match="max_trials 1; expected 0 or more, and 2 or more"):
        report(store, tmp_path / "a.html", max_trials=1)
    assert not list(tmp_path.iterdir())


def test_without_mne_the_maps_are_left_out_and_why_is_said(
    store: eegstore.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mne.channels", None)
    page = parse(report(store, tmp_path / "a.html", with_audit=False).read_text())
    assert "Topographies: the channels' places need MNE; run: pip install 'eegstore[mne]'" in (
        page.one("section", id="omitted").text()
    )


def test_a_map_by_umap_is_beside_the_principal_components(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Umap:
        def __init__(self, **given: Any) -> None:
            assert given == {"n_components": 2, "random_state": 3, "n_jobs": 1}

        def fit_transform(self, values: Any) -> Any:
            return values[:, :2]

    module = type("module", (), {"UMAP": Umap})
    monkeypatch.setitem(sys.modules, "umap", module)
    store = build(tmp_path / "a.zarr", stimuli={"plugin": "shown", "per_concept": 10})
    page = parse(report(store, tmp_path / "a.html", seed=3, with_audit=False).read_text())
    check_structure(page)
    names = [one.all("title")[0].text() for one in
             page.one("figure", id="map-stimuli-clip_image").all("svg", role="img")]  # fmt: skip
    assert names == ["PCA", "UMAP"]
    assert "UMAP keeps neighbourhoods alone" in caption(page, "map-stimuli-clip_image")


@pytest.mark.shared_data
def test_real_eeg_has_the_averages_of_mne_and_no_evidence(
    shared_data: Path, tmp_path: Path
) -> None:
    mne = pytest.importorskip("mne")
    file = shared_data / "eeglab-epochs" / "eeglab_data_epochs_ica.set"
    eegstore.build({"source": {"plugin": "mne", "path": str(file)}}, tmp_path / "a.zarr")
    out = report(eegstore.open_store(tmp_path / "a.zarr"), tmp_path / "a.html")
    page = parse(out.read_text(encoding="utf-8"))
    check_structure(page)
    said = page.one("p", class_="verdict").text()
    assert said == "Nothing was evaluated, so there is no evidence of decoding in this store."
    epochs = mne.read_epochs_eeglab(file, verbose="ERROR").pick("eeg")
    epochs.apply_baseline((None, -1 / 128), verbose="ERROR")
    chosen = epochs[np.flatnonzero(epochs.events[:, 2] == epochs.event_id["square/rt"])]
    expected = dict(zip(chosen.ch_names, 1e6 * chosen.average().data, strict=True))
    head, *rows = table(page, "evoked")
    assert head[1] == "Oz, square/rt"
    at = [int(np.argmin(np.abs(chosen.times - number(row[0])))) for row in rows]
    found = [number(row[1].partition("±")[0]) for row in rows]
    np.testing.assert_allclose(found, expected["Oz"][at], rtol=1e-3, atol=1e-2)


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    eegstore.build({"source": {"plugin": "synthetic", "n_trials": 30}}, tmp_path / "a.zarr")
    done = run_command("report", "a.zarr", "-o", "page.html", "--no-audit", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.out.startswith("page.html: ")
    assert "synthetic EEG: generated from a seed" in " ".join(done.out.split())
    page = parse((tmp_path / "page.html").read_text())
    assert "synthetic EEG" in page.one("p", class_="notice").text()
    assert "Audit: the store was not audited" in page.one("section", id="omitted").text()


def test_the_command_refuses_what_is_no_store(tmp_path: Path) -> None:
    check_refused(run_command("report", "no.zarr", cwd=tmp_path), 3, "no.zarr: not an eegstore")
    assert not list(tmp_path.iterdir())
