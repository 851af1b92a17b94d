"""Images that are read again after a build, by a provider that fails by then: it is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

import eegstore
from command import check_refused, run_command
from eegstore import PluginError, Stimuli, digest_bytes
from eegstore.audit import examine
from eegstore.images import TRIED, Images
from eegstore.report import report
from eegstore.search import search_trial
from eegstore.sheet import SIDE, draw_sheet, image_box
from pages import parse
from planted_images import HOG
from third_party import lay_out, plugin

N_IMAGES = 10
FACE = "stimuli 'moody' failed: "
# What a call does instead, by "scan" or the row of an image; and the calls that there were.
MOOD: dict[str | int, Callable[[], Any]] = {}
CALLS: list[str | int] = []


@dataclass(frozen=True)
class Moody:
    """Images of noise, the last of which is the first, brighter; they fail as ``MOOD`` says."""

    name: ClassVar[str] = "moody"
    version: ClassVar[str] = "1"

    def scan(self) -> Stimuli:
        CALLS.append("scan")
        number = np.arange(N_IMAGES)
        found = Stimuli(
            image_path=np.array([f"{one}.png" for one in number]), label=number,
            concept=np.array([f"c{one}" for one in number]),
            caption=np.array([f"a c{one}" for one in number]),
            content_id=np.array([digest_bytes(b"%d" % one) for one in number]),
        )  # fmt: skip
        return MOOD.get("scan", lambda: found)()

    def read(self, start: int, stop: int) -> list[Any]:
        CALLS.extend(range(start, stop))
        return [MOOD.get(one, lambda one=one: pixels(one))() for one in range(start, stop)]


def pixels(number: int) -> Any:
    rng = np.random.default_rng(number % (N_IMAGES - 1))
    coarse = rng.integers(0, 240, (4, 4, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((4, 4, 1), np.uint8)) + np.uint8(number == N_IMAGES - 1)


def raises(error: BaseException) -> Callable[[], Any]:
    def call() -> Any:
        raise error

    return call


@pytest.fixture
def store(tmp_path: Path, register: Callable[..., None]) -> Iterator[eegstore.Store]:
    register(Moody, kind="stimuli")
    source = {"plugin": "synthetic", "n_trials": 60, "n_channels": 1, "n_times": 36}
    made = {
        "source": source, "stimuli": {"plugin": "moody"}, "pairing": {"plugin": "label"},
        "split": {"plugin": "concept", "test": [f"c{one}" for one in range(5)]}, "extract": [HOG],
    }  # fmt: skip
    eegstore.build(made, tmp_path / "s.zarr", executor="serial")
    CALLS.clear()
    yield eegstore.open_store(tmp_path / "s.zarr")
    MOOD.clear()


WRONG = {
    "scan raises": ("scan", raises(KeyError("catalogue")), f"{FACE}KeyError: 'catalogue'"),
    "scan exits": ("scan", raises(SystemExit(3)), f"{FACE}SystemExit: 3"),
    "scan gives another": ("scan", lambda: None, r"scan\(\) gave NoneType, expected a Stimuli"),
    "read raises": (3, raises(RuntimeError("decoder")), f"{FACE}RuntimeError: decoder .read of st"),
    "floats": (3, lambda: np.zeros((4, 4, 3)), r"read\(3, 4\) gave 1 images, 1 of them wrong"),
    "one channel": (3, lambda: np.zeros((4, 4), np.uint8), "each uint8 .y, x, 3."),
    "no pixel": (3, lambda: np.zeros((0, 4, 3), np.uint8), "each uint8 .y, x, 3."),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_provider_does_is_its_own_error(store: eegstore.Store, case: str) -> None:
    what, does, line = WRONG[case]
    MOOD[what] = does
    with pytest.raises(PluginError, match=line) as caught:
        store.image(3)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    MOOD.clear()
    np.testing.assert_array_equal(store.image(3), pixels(3))


def test_no_more_are_tried_once_the_first_cannot_be_read(store: eegstore.Store) -> None:
    MOOD["scan"] = raises(KeyError("catalogue"))
    images = Images(store)
    assert [images.read(one) for one in range(N_IMAGES)] == [None] * N_IMAGES
    assert CALLS == ["scan"] * TRIED
    assert list(images.lost) == list(range(N_IMAGES))
    assert images.none_read
    MOOD.clear()
    some = Images(store)
    for one in range(N_IMAGES):
        MOOD[one] = raises(KeyError("file")) if one else lambda: pixels(0)
        some.read(one)
    assert list(some.lost) == list(range(1, N_IMAGES))
    assert CALLS[-N_IMAGES:] == list(range(N_IMAGES))


def test_an_audit_tells_of_images_that_cannot_be_read(store: eegstore.Store) -> None:
    (alike,) = of_images(store)
    assert (alike.severity, alike.examples) == ("error", ["0.png and 9.png"])
    MOOD[4] = raises(RuntimeError("decoder"))
    alike, lost = of_images(store)
    assert (alike.severity, lost.severity, lost.count) == ("error", "note", 1)
    assert lost.examples[0].startswith(f"4.png: {FACE}RuntimeError: decoder")
    MOOD["scan"] = raises(KeyError("catalogue"))
    found = examine(eegstore.open_store(store.path))
    reason = found.not_checked["near-duplicate-images"]
    assert reason.startswith(f"the images cannot be read: {FACE}KeyError: 'catalogue'")


def test_an_image_that_cannot_be_read_a_second_time_is_told_too(store: eegstore.Store) -> None:
    given = iter([pixels(9)])
    MOOD[9] = lambda: next(given)
    (lost,) = of_images(store)
    assert (lost.severity, lost.count) == ("note", 1)
    assert lost.examples[0].startswith(f"9.png: {FACE}StopIteration")


def of_images(store: eegstore.Store) -> list[Any]:
    found = examine(store).findings
    return [one for one in found if one.check == "near-duplicate-images"]


def test_a_report_leaves_the_images_out_that_cannot_be_read(store: eegstore.Store) -> None:
    out = store.folder.parent / "a.html"
    MOOD[4] = raises(RuntimeError("decoder"))
    page = parse(report(store, out, with_audit=False).read_text(encoding="utf-8"))
    shown = page.one("figure", id="stimuli")
    assert len(shown.all("img")) == N_IMAGES - 1
    (missing,) = shown.all("span", class_="no-image")
    assert str(missing.attributes["title"]).startswith(f"{FACE}RuntimeError: decoder")
    assert f"1 image is not at hand: {FACE}RuntimeError: decoder" in shown.text()
    MOOD["scan"] = raises(KeyError("catalogue"))
    again = eegstore.open_store(store.path)
    page = parse(report(again, out, with_audit=False).read_text(encoding="utf-8"))
    assert not page.all("img")
    told = page.one("figure", id="stimuli").text()
    assert f"The images are not at hand: {FACE}KeyError: 'catalogue'" in told


def test_a_sheet_has_the_reason_in_the_place_of_an_image(store: eegstore.Store) -> None:
    found, out = search_trial(store, 0, "eeg", "hog", k=4), store.folder.parent / "out.png"
    assert found.true is not None
    lost = next(one.stimulus for one in found.hits if one.stimulus != found.true.stimulus)
    MOOD[lost] = raises(RuntimeError("decoder"))
    draw_sheet(store, found, out)
    with Image.open(out) as opened:
        sheet = np.asarray(opened)
    for number, one in enumerate([found.true, *found.hits]):
        left, top, right, bottom = image_box(number)
        cell = sheet[top:bottom, left:right]
        if one.stimulus == lost:
            assert np.isin(cell[[0, -1]], 0x5F).all()  # a frame, and words in it
            assert 0.6 < (cell == 255).mean() < 0.95
        else:
            larger = np.kron(pixels(one.stimulus), np.ones((SIDE // 16, SIDE // 16, 1), np.uint8))
            np.testing.assert_array_equal(cell, larger)
    MOOD["scan"] = raises(KeyError("catalogue"))
    with pytest.raises(PluginError, match=f"{FACE}KeyError: 'catalogue'"):
        draw_sheet(eegstore.open_store(store.path), found, out)


def test_a_command_names_the_provider_that_failed(tmp_path: Path) -> None:
    body = """
def scan(self):
    if os.path.exists("failing"):
        {}["catalogue"]
    return Stimuli(image_path=["a", "b"], label=[0, 1], concept=["a", "b"], caption=["a", "b"],
                   content_id=["a", "b"])
def read(self, start, stop):
    return [np.full((16, 16, 3), 7 * one, dtype=np.uint8) for one in range(start, stop)]
"""
    env = lay_out(tmp_path / "site", plugin("stimuli", body))
    hog = "\n".join(f"{name} = {value!r}" for name, value in HOG.items())
    (tmp_path / "recipe.toml").write_text(
        '[source]\nplugin = "synthetic"\nn_trials = 4\nn_channels = 1\nn_times = 36\n'
        'n_classes = 2\n[stimuli]\nplugin = "odd"\n[pairing]\nplugin = "label"\n'
        f"[[extract]]\n{hog}\n"
    )
    assert run_command("build", "recipe.toml", "s.zarr", cwd=tmp_path, env=env).code == 0
    (tmp_path / "failing").touch()
    search = ("search", "s.zarr", "--trial", "0", "--query", "eeg", "--gallery", "hog")
    refused = run_command(*search, "--sheet", "out.png", cwd=tmp_path, env=env)
    check_refused(refused, 4, "stimuli 'odd' failed: KeyError: 'catalogue' (scan, theirs.py:")
    assert not (tmp_path / "out.png").exists()
    done = run_command("report", "s.zarr", cwd=tmp_path, env=env)
    assert (done.code, "defect" in done.err) == (0, False)
