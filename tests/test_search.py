"""``eegstore search``: the nearest images to a trial, a text or an image, and their sheet."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import eegstore
from command import check_refused, run_command
from eegstore import InputError, UsageError, evaluation_pages
from eegstore import sheet as sheets
from eegstore.embed import read_image
from eegstore.search import Gallery, search_image, search_text, search_trial
from eegstore.sheet import FRAME, RIGHT, SIDE, draw_sheet, image_box
from planted_images import HOG, planted

GREEN = tuple(bytes.fromhex(RIGHT[1:]))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> eegstore.Store:
    return planted(tmp_path_factory.mktemp("planted"), noise=1.0, n_repeats=2)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> eegstore.Store:
    """A store with the images and captions of a small CLIP model."""
    pytest.importorskip("transformers")
    from tiny_clip import write_tiny_clip

    folder = tmp_path_factory.mktemp("clip")
    model = str(write_tiny_clip(folder / "model", width=16, image_size=16))
    extract = [{"plugin": f"clip-{side}", "model": model} for side in ("image", "text")]
    return planted(folder, noise=1.0, n_repeats=1, extract=[*extract, HOG])


def page_text(page):
    console = Console(width=80, file=io.StringIO())
    console.print(page)
    return console.file.getvalue()


def unit(values):
    return values.astype(np.float64) / np.linalg.norm(values.astype(np.float64), axis=-1)[..., None]


def test_the_stimuli_nearest_to_a_trial_are_found_best_first(store):
    found = search_trial(store, 7, "eeg", "hog", k=5)
    scores = unit(store.stimuli["hog"][:]) @ unit(store.trials["eeg"][7].reshape(-1))
    order = np.argsort(-scores)
    assert [one.stimulus for one in found.hits] == order[:5].tolist()
    np.testing.assert_allclose([one.score for one in found.hits], scores[order[:5]], atol=1e-6)
    assert [one.rank for one in found.hits] == [1, 2, 3, 4, 5]
    first = found.hits[0]
    assert first.concept == store.stimuli["concept"][first.stimulus]
    assert first.image_path == store.stimuli["image_path"][first.stimulus]
    assert found.mark == "true"
    assert (found.n_gallery, found.query, found.gallery) == (24, "trials/eeg", "stimuli/hog")


def test_the_true_stimulus_is_marked_and_its_rank_told_wherever_it_stands(store):
    for trial in range(0, 48, 5):
        found = search_trial(store, trial, "eeg", "hog", k=3)
        shown = store.trials["stimulus"][trial]
        assert found.true is not None
        assert found.true.stimulus == shown
        scores = unit(store.stimuli["hog"][:]) @ unit(store.trials["eeg"][trial].reshape(-1))
        assert found.true.rank == 1 + (scores > scores[shown]).sum()
        marked = [one.rank for one in found.hits if one.is_true]
        assert marked == ([found.true.rank] if found.true.rank <= 3 else [])


def test_a_gallery_of_thousands_agrees_with_top_k_and_ties_go_to_the_lower_row(store):
    pytest.importorskip("torch")
    from eegstore.retrieval import top_k

    gallery = Gallery(store, "hog")
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3000, 36)).astype(np.float32)
    vectors[2000:] = vectors[:1000]
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    gallery._unit, gallery.items = (vectors / lengths).astype(np.float32), np.arange(3000)
    gallery._concepts = gallery._paths = np.full(3000, "")
    query = rng.normal(size=36)
    hits, none = gallery.nearest(query, 500)
    expected, scores = top_k(query[None], vectors, 500)
    assert none is None
    assert [one.stimulus for one in hits] == expected[0].tolist()
    np.testing.assert_allclose([one.score for one in hits], scores[0], atol=1e-6)


def test_an_image_file_finds_itself(store):
    path = store.folder.parent / "images" / "003_c3" / "1.png"
    found = search_image(store, read_image(path), str(path), None, "hog", k=2)
    assert found.hits[0].image_path == "003_c3/1.png"
    assert found.hits[0].score == pytest.approx(1)
    assert found.true is None
    assert found.query == "stimuli/hog"


def test_an_image_is_read_upright_and_without_transparency(tmp_path):
    pixels = np.zeros((4, 8, 4), np.uint8)
    pixels[:, :4] = (255, 0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "half.png")
    read = read_image(tmp_path / "half.png")
    assert read[0, 0].tolist() == [255, 0, 0]
    assert read[0, 7].tolist() == [255, 255, 255]
    turned = Image.fromarray(read)
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=turned.getexif())
    assert read_image(tmp_path / "turned.jpg").shape == (8, 4, 3)


def test_a_file_that_is_no_image_is_refused_by_its_name(tmp_path):
    (tmp_path / "odd.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=rf"{tmp_path}/odd.png'?: 8 bytes that are no image"):
        read_image(tmp_path / "odd.png")
    with pytest.raises(InputError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png")
    (tmp_path / "study.toml").write_text("[source]")
    with pytest.raises(InputError, match=rf"^'{tmp_path}/study.toml': no image, expected names "):
        read_image(tmp_path / "study.toml")


def test_a_text_is_embedded_by_the_model_of_the_captions(clip):
    caption = str(clip.stimuli["caption"][5])
    found = search_text(clip, caption, None, "clip_image", k=24)
    scores = unit(clip.stimuli["clip_image"][:]) @ unit(clip.stimuli["clip_text"][5])
    assert [one.stimulus for one in found.hits] == np.argsort(-scores).tolist()
    np.testing.assert_allclose([one.score for one in found.hits], np.sort(scores)[::-1], atol=1e-5)
    assert (found.query, found.asked) == ("stimuli/clip_text", f"text {caption!r}")
    own = search_text(clip, caption, None, "clip_text", k=1).hits[0]
    assert own.score == pytest.approx(1, abs=1e-5)
    assert clip.stimuli["caption"][own.stimulus] == caption


def test_an_image_is_embedded_by_the_model_of_the_images(clip):
    pixels = clip.image(9)
    found = search_image(clip, pixels, "nine", None, "clip_image", k=1)
    assert found.hits[0].stimulus == 9
    assert found.hits[0].score == pytest.approx(1, abs=1e-5)


def test_a_model_that_is_another_by_now_is_refused(clip, tmp_path):
    weights = clip.folder.parent / "model" / "model.safetensors"
    content = weights.read_bytes()
    try:
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(
            InputError, match="files that stimuli/clip_text was made by have changed"
        ):
            search_text(clip, "a word", None, "clip_image")
    finally:
        weights.write_bytes(content)


def test_another_version_of_the_extractor_is_refused(store, monkeypatch):
    from eegstore import registry

    find = registry.find
    monkeypatch.setattr(
        registry, "find",
        lambda kind, name: replace(find(kind, name), version="2"),
    )  # fmt: skip
    with pytest.raises(
        InputError, match="stimuli/hog was made by hog 1, and 2 is installed; build"
    ):
        search_image(store, store.image(0), "0", None, "hog")


def test_columns_of_other_models_are_not_compared(clip, monkeypatch):
    attributes = clip.document("stimuli/clip_text")["attributes"]
    monkeypatch.setitem(attributes, "weights_sha256", "0" * 64)
    with pytest.raises(InputError, match="are of different models, so their vectors are in diffe"):
        search_text(clip, "a word", "clip_text", "clip_image")
    with pytest.raises(
        UsageError, match=r"made from the caption and in the space of .*; add the extractor of one"
    ):
        search_text(clip, "a word", None, "clip_image")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((99, "eeg", "hog"), "--trial 99: the store has trials 0 to 47"),
        ((-1, "eeg", "hog"), "--trial -1: the store has trials 0 to 47"),
        ((0, "egg", "hog"), "there is no column 'trials/egg'"),
        ((0, "eeg", "hog", 0), "-k 0: expected 1 or more"),
        ((0, "eeg", "hog", 3, "val"), "there is no split 'val'; name one that there is: test"),
        ((0, "eeg", "trials/eeg"), "the gallery is trials/eeg, expected a column of stimuli"),
    ],
)
def test_what_cannot_be_searched_is_refused(store, arguments, line):
    with pytest.raises(UsageError) as caught:
        search_trial(store, *arguments)
    assert line in str(caught.value)


def test_a_text_needs_a_column_of_captions(store):
    line = "from the caption and in the space of stimuli/hog; a text needs a column of clip-image a"
    with pytest.raises(UsageError, match=f"no column of stimuli is made {line}"):
        search_text(store, "a cat", None, "hog")
    with pytest.raises(UsageError, match="stimuli/hog is not made from the caption alone"):
        search_text(store, "a cat", "hog", "hog")
    with pytest.raises(UsageError, match="--text is empty"):
        search_text(store, " ", None, "hog")


@pytest.mark.parametrize("pairing", ["similarity", "label"])
def test_a_pair_that_does_not_say_what_was_shown_is_not_called_true(pairing, tmp_path, monkeypatch):
    options = {"similarity": {"query": "trials/eeg", "gallery": "stimuli/hog"},
               "label": {"choose": "cycle"}}  # fmt: skip
    made = planted(tmp_path, noise=1.0, n_repeats=1, pairing={"plugin": pairing} | options[pairing])
    found = search_trial(made, 2, "eeg", "hog", k=24)
    assert found.document()["mark"] == "paired"
    assert [one.stimulus for one in found.hits if one.is_true] == [made.trials["stimulus"][2]]
    drawn = []
    fitting = sheets._fitting
    monkeypatch.setattr(sheets, "_fitting", lambda *one: drawn.append(one[0]) or fitting(*one))
    draw_sheet(made, found, tmp_path / "out.png")
    assert drawn[1] == "paired"
    assert [one for one in drawn if one.endswith("   paired")] == [
        f"{found.true.rank}   {found.true.score:.3f}   paired"
    ]
    assert not {"shown", "true"} & {word for one in drawn for word in one.split()}
    told = page_text(evaluation_pages.search(found, None))
    assert sum(line.rstrip().endswith("paired") for line in told.splitlines()) == 1
    assert "true" not in told


# The sheet.


def cell(sheet, number):
    left, top, right, bottom = image_box(number)
    return sheet[top:bottom, left:right]


def test_the_sheet_shows_the_true_image_and_the_hits_in_order(store, tmp_path):
    trial = 2
    found = search_trial(store, trial, "eeg", "hog", k=7)
    draw_sheet(store, found, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as opened:
        assert (opened.format, opened.mode) == ("PNG", "RGB")
        sheet = np.asarray(opened)
    shown = [int(store.trials["stimulus"][trial]), *(one.stimulus for one in found.hits)]
    for number, stimulus in enumerate(shown):
        larger = np.kron(store.image(stimulus), np.ones((SIDE // 16, SIDE // 16, 1), np.uint8))
        np.testing.assert_array_equal(cell(sheet, number), larger)
    framed = [True, *(one.is_true for one in found.hits)]
    assert sum(framed) == 2
    for number, is_framed in enumerate(framed):
        left, top, right, bottom = image_box(number)
        edges = (sheet[top - FRAME : top, left:right], sheet[top:bottom, right : right + FRAME])
        for edge in edges:
            assert (edge == (GREEN if is_framed else 255)).all()
        # There is a label below each.
        assert (sheet[bottom + FRAME : bottom + 20, left:right] < 128).any()


def test_an_image_that_is_not_square_keeps_its_shape(store, tmp_path, monkeypatch):
    found = search_trial(store, 2, "eeg", "hog", k=1)
    wide = np.full((20, 80, 3), (0, 0, 200), np.uint8)
    monkeypatch.setattr(type(store), "image", lambda *_: wide)
    draw_sheet(store, found, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as opened:
        blue = (cell(np.asarray(opened), 0) == (0, 0, 200)).all(axis=-1)
    rows, columns = np.flatnonzero(blue.any(axis=1)), np.flatnonzero(blue.any(axis=0))
    assert (len(rows), len(columns)) == (SIDE // 4, SIDE)
    assert rows[0] == (SIDE - SIDE // 4) // 2


def test_a_sheet_replaces_the_last_and_goes_nowhere_else(store, tmp_path):
    found = search_trial(store, 0, "eeg", "hog", k=2)
    draw_sheet(store, found, tmp_path / "out.png")
    first = (tmp_path / "out.png").read_bytes()
    draw_sheet(store, replace(found, hits=found.hits[:1]), tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes() != first
    assert [one.name for one in tmp_path.iterdir()] == ["out.png"]
    with pytest.raises(UsageError, match=r"expected a name that ends in \.png"):
        draw_sheet(store, found, tmp_path / "out.jpg")
    with pytest.raises(InputError, match="lies inside the store"):
        draw_sheet(store, found, store.folder / "out.png")
    with pytest.raises(InputError, match="cannot be written: No such file"):
        draw_sheet(store, found, tmp_path / "none" / "out.png")


def test_long_and_odd_names_fit_their_cells(store, tmp_path):
    found = search_trial(store, 0, "eeg", "hog", k=1)
    odd = replace(found.hits[0], concept="猫" * 200 + "\x1b[31m")
    draw_sheet(store, replace(found, hits=[odd], true=None), tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as opened:
        beside = np.asarray(opened)[:, image_box(0)[2] + FRAME :]
    assert (beside[image_box(0)[3] :] == 255).all()


# The command.


def shown_by(*arguments, cwd, code=0):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "eegstore", "search", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, ""), done.stderr
    return done.stdout


def test_the_command_prints_a_table_and_draws_the_sheet(store, tmp_path):
    asked = ("--trial", 2, "--query", "eeg", "--gallery", "hog", "-k", 3)
    sheet = tmp_path / "out.png"
    said = shown_by("planted.zarr", *asked, "--sheet", sheet, cwd=store.folder.parent)
    assert max(map(len, said.splitlines())) <= 80
    found = search_trial(store, 2, "eeg", "hog", k=3)
    rows = [line.split() for line in said.splitlines() if ".png" in line and "/" in line][:3]
    for row, one in zip(rows, found.hits, strict=True):
        assert row[:4] == [str(one.rank), f"{one.score:.4f}", str(one.stimulus), one.concept]
        assert (row[-1] == "true") == one.is_true
    with Image.open(sheet) as opened:
        assert opened.size[1] > SIDE
    document = json.loads(shown_by("planted.zarr", *asked, "--json", cwd=store.folder.parent))
    assert document["hits"] == [one.document() for one in found.hits]
    assert document["true"]["stimulus"] == 2


def test_the_command_searches_for_one_thing(store):
    where = ("search", "planted.zarr", "--gallery", "hog", "--trial", "1")
    refused = run_command(*where, "--text", "a", cwd=store.folder.parent)
    check_refused(refused, 2, "search for one thing: --trial N, --text TEXT or --image FILE")
    refused = run_command(*where, cwd=store.folder.parent)
    check_refused(refused, 2, "--trial needs --query")


def test_a_search_by_a_trial_needs_no_torch(store):
    code = (
        "import sys; sys.modules['torch'] = None; import eegstore; from eegstore.search import *; "
        "print(search_trial(eegstore.open_store('planted.zarr'), 2, 'eeg', 'hog').hits[0].rank)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=store.folder.parent, capture_output=True, text=True
    )
    assert done.stdout == "1\n", done.stderr
