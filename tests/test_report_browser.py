"""The report in a browser: nothing is asked for, nothing overflows, keys and themes work."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import CHROMIUM, Page, browser
from eegstore.report import report
from reporting import HOSTILE, build, installed

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]

WIDTHS = (1280, 400)
SCHEMES = ("light", "dark")
GROUND = {"light": "rgb(247, 247, 245)", "dark": "rgb(18, 20, 23)"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("browser")
    with installed():
        whole = build(folder / "whole.zarr")
        stimuli = {"plugin": "shown", "concepts": list(HOSTILE), "per_concept": 1}
        source = {"plugin": "waves", "notice": HOSTILE[6]}
        name = "".join(HOSTILE[:6]) + "x" * 300
        hostile = build(folder / "hostile.zarr", name=name, source=source, stimuli=stimuli)
        return {
            store.folder.stem: report(store, folder / f"{store.folder.stem}.html")
            for store in (whole, hostile)
        }


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as one:
        yield one


def opened(page: Page, file: Path, width: int = 1280, scheme: str = "light") -> Page:
    page.show(width, scheme)
    page.open(file)
    return page


def check_quiet(page: Page, file: Path) -> None:
    assert page.complaints() == []
    assert page.requests() == [file.resolve().as_uri()]


@pytest.mark.parametrize("name", ["whole", "hostile"])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_asks_for_nothing_and_has_no_errors(
    page: Page, files: dict[str, Path], name: str, scheme: str, width: int
) -> None:
    opened(page, files[name], width, scheme)
    check_quiet(page, files[name])
    assert page.value("innerWidth") == width
    assert page.value("document.documentElement.scrollWidth") <= width
    outside = page.value(
        "[...document.querySelectorAll('main *, header *, nav *')].filter(one => "
        "!one.closest('.scroll, .unseen, .skip, svg') && "
        f"one.getBoundingClientRect().right > {width} + 1).map(one => one.outerHTML.slice(0, 99))"
    )
    assert outside == []
    assert page.value("getComputedStyle(document.body).backgroundColor") == GROUND[scheme]
    assert page.value("[...document.images].every(one => one.naturalWidth > 0)")


def test_no_text_of_a_store_runs(page: Page, files: dict[str, Path]) -> None:
    opened(page, files["hostile"])
    assert page.value("document.scripts.length") == 1
    names = "[...document.querySelectorAll('*')].flatMap(one => [...one.attributes])"
    assert page.value(f"{names}.filter(one => one.name.startsWith('on')).length") == 0
    assert page.value("document.querySelector('h1').textContent").startswith(HOSTILE[0])


def test_the_theme_is_toggled_by_keys(page: Page, files: dict[str, Path]) -> None:
    opened(page, files["whole"])
    assert not page.value("document.getElementById('theme').hidden")
    page.press("Tab")
    assert page.value("document.activeElement.className") == "skip"
    assert page.value("document.activeElement.getBoundingClientRect().top") >= 0
    page.press("Tab")
    assert page.value("document.activeElement.id") == "theme"
    page.press("Enter")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.value(ground) == GROUND["dark"]
    assert page.value("document.activeElement.getAttribute('aria-pressed')") == "true"
    page.press("Enter")
    assert page.value(ground) == GROUND["light"]
    page.show(1280, "dark")
    assert page.value(ground) == GROUND["light"]  # what was chosen stays


def test_every_table_and_link_is_reached_by_keys(page: Page, files: dict[str, Path]) -> None:
    opened(page, files["whole"])
    page.value("document.querySelectorAll('details').forEach(one => one.open = true)")
    wanted = page.value(
        "document.querySelectorAll('a[href], button, summary, [tabindex=\"0\"]').length"
    )
    reached = set()
    for _ in range(wanted + 2):
        page.press("Tab")
        reached.add(page.value(
            "(() => { const all = [...document.querySelectorAll('*')]; "
            "return all.indexOf(document.activeElement); })()"
        ))  # fmt: skip
    assert len(reached - {page.value("[...document.querySelectorAll('*')].indexOf(document.body)")}
               ) == wanted  # fmt: skip
    assert wanted > 25


def test_a_link_leads_to_its_section(page: Page, files: dict[str, Path]) -> None:
    opened(page, files["whole"])
    page.value("document.querySelector('nav a[href=\"#power\"]').click()")
    assert page.value("location.hash") == "#power"
    page.value("document.documentElement.style.scrollBehavior = 'auto'")
    page.value("document.getElementById('power').scrollIntoView()")
    assert abs(page.value("document.getElementById('power').getBoundingClientRect().top")) < 60


def test_whoever_cannot_see_gets_names_and_tables(page: Page, files: dict[str, Path]) -> None:
    """The tree that Chromium gives a screen reader."""
    opened(page, files["whole"])
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]

    def named(role: str) -> list[str]:
        return [one.get("name", {}).get("value", "") for one in nodes
                if not one["ignored"] and one.get("role", {}).get("value") == role]  # fmt: skip

    assert all(named("image"))
    assert {"PCA", "score", "Oz", "How the columns were made"} <= set(named("image"))
    assert [len(named(role)) for role in ("main", "navigation", "banner", "contentinfo")] == [1] * 4
    assert "Provenance" in named("figure")
    assert named("button") == ["Dark theme"]


def test_it_prints_on_white_without_what_only_a_screen_has(
    page: Page, files: dict[str, Path], tmp_path: Path
) -> None:
    opened(page, files["whole"], scheme="dark")
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    shown = "getComputedStyle(document.querySelector('{}')).display"
    assert page.value(shown.format("nav")) == "none"
    assert page.value(shown.format("#theme")) == "none"
    page.call("Emulation.setEmulatedMedia", media="")
    page.print(tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    check_quiet(page, files["whole"])


def test_a_picture_of_it_is_not_empty(page: Page, files: dict[str, Path], tmp_path: Path) -> None:
    from PIL import Image

    opened(page, files["whole"], 400, "dark")
    page.screenshot(tmp_path / "a.png")
    head = (tmp_path / "a.png").read_bytes()[16:24]
    assert struct.unpack(">II", head)[0] == 400
    pixels: Any = Image.open(tmp_path / "a.png").convert("RGB").getcolors(1 << 24)
    assert len(pixels) > 500
    assert max(pixels)[1] in ((18, 20, 23), (26, 29, 34))
