"""The page: its head, its parts in order, and what was left out with the reason."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Final, NamedTuple

from eegstore.report.about import balance, facts, made, origin
from eegstore.report.audit_section import audited
from eegstore.report.column_sections import likeness, maps, quality
from eegstore.report.decoding import retrieval, verdict_box
from eegstore.report.images import found, shown
from eegstore.report.markup import Content, Markup, data, element, joined
from eegstore.report.material import Material, Omitted
from eegstore.report.signal_sections import power, responses, scalp


class Part(NamedTuple):
    """A section of the page: its id, its heading, and what makes it."""

    key: str
    title: str
    make: Callable[[Material], Markup | Omitted]


PARTS: Final = (
    Part("decoding", "Retrieval results", retrieval),
    Part("examples", "What single trials find", found),
    Part("audit", "Audit", audited),
    Part("provenance", "How it was made", made),
    Part("balance", "Splits and concepts", balance),
    Part("shown", "What was shown", shown),
    Part("responses", "Evoked responses", responses),
    Part("power", "Power spectra", power),
    Part("topographies", "Topographies", scalp),
    Part("trial-quality", "Quality", quality),
    Part("maps", "Embeddings", maps),
    Part("captions", "CLIP: image and text", likeness),
)
TITLE_LIMIT: Final = 120
FOOT: Final = (
    "Made by eegstore; this file needs no network. Figures are drawn from seeded samples where "
    "their captions say so."
)


def _asset(name: str) -> str:
    return files("eegstore.report").joinpath(name).read_text(encoding="utf-8")


def _head(title: str, style: str, script: str) -> Markup:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    # The policy's own quotes are needed as they are.
    return Markup(
        '<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<link rel="icon" href="data:,">'
        f"{element('title', title)}<style>{style}</style>"
    )


def _banner(material: Material) -> Markup | None:
    notice = material.store.notice
    if not notice:
        return None
    return element("p", element("strong", "Notice: "), data(notice), class_="notice", role="note")


def _header(material: Material, title: str) -> Markup:
    toggle = element("button", "Dark theme", type="button", id="theme", hidden=True,
                     aria_pressed="false")  # fmt: skip
    return element(
        "header",
        element("div", element("p", "eegstore report", class_="eyebrow"), toggle, class_="top"),
        element("h1", data(title, TITLE_LIMIT)),
        _banner(material),
        facts(material),
        origin(material),
    )


def _contents(parts: Sequence[Part], has_omitted: bool) -> Markup:
    named = [("verdict", "Verdict"), *((one.key, one.title) for one in parts)]
    named += [("omitted", "Not in this report")] if has_omitted else []
    links = [element("li", element("a", title, href=f"#{key}")) for key, title in named]
    return element("nav", element("h2", "Contents", id="contents-head", class_="eyebrow"),
                   element("ul", links), aria_labelledby="contents-head")  # fmt: skip


def _section(part: Part, body: Content) -> Markup:
    return element(
        "section", element("h2", part.title, id=f"{part.key}-heading"), body,
        id=part.key, aria_labelledby=f"{part.key}-heading",
    )  # fmt: skip


def _omitted(left_out: Sequence[tuple[Part, str]], refused: Sequence[str]) -> Markup | None:
    if not left_out and not refused:
        return None
    lines = [element("li", element("strong", f"{part.title}: "), data(why))
             for part, why in left_out]  # fmt: skip
    lines += [
        element("li", element("strong", "Not evaluated: "), data(one, 600)) for one in refused
    ]
    return element(
        "section", element("h2", "Not in this report", id="omitted-heading"),
        element("ul", lines, class_="omitted"), id="omitted", aria_labelledby="omitted-heading",
    )  # fmt: skip


def page(material: Material) -> str:
    """The whole page of a store, and of what was found about it."""
    made_parts = [(part, part.make(material)) for part in PARTS]
    kept = [(part, body) for part, body in made_parts if not isinstance(body, Omitted)]
    left_out = [(part, body.why) for part, body in made_parts if isinstance(body, Omitted)]
    title = material.store.name or "A store without a name"
    style, script = _asset("report.css"), _asset("theme.js")
    omitted = _omitted(left_out, material.refused)
    main = element(
        "main", verdict_box(material), [_section(part, body) for part, body in kept], omitted,
        id="main", tabindex="-1",
    )  # fmt: skip
    foot = element("footer", element("p", FOOT))
    body = joined(
        element("a", "Skip to the results", href="#main", class_="skip"),
        _header(material, title),
        _contents([part for part, _ in kept], omitted is not None),
        main, foot, element("script", Markup(script)),
    )  # fmt: skip
    head = _head(f"{title[:TITLE_LIMIT]} – eegstore report", style, script)
    return (
        f'<!DOCTYPE html>\n<html lang="en">{element("head", head)}{element("body", body)}</html>\n'
    )
