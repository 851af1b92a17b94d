"""What a report is drawn with: markup, scales, charts, the graph and the maps of the head."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import eegstore.report
from eegstore.report import heads
from eegstore.report.bars import Estimate, estimates, stacked_bars
from eegstore.report.charts import Frame, Line, cloud, histogram, line_chart
from eegstore.report.figures import symbol
from eegstore.report.graph import Node, graph
from eegstore.report.markup import data, element, joined
from eegstore.report.scales import Axis, covering, number, percent, ticks
from pages import Element, parse

STYLE = (Path(eegstore.report.__file__).parent / "report.css").read_text()
finite = st.floats(-1e12, 1e12)


def tree(markup: str) -> Element:
    return parse(f"<!DOCTYPE html>{markup}")


def numbers(path: str | None) -> list[float]:
    """Every number of a path, in order."""
    return [float(one) for one in re.findall(r"-?\d+(?:\.\d+)?", str(path))]


@settings(max_examples=40)
@given(st.text(), st.text())
def test_any_text_is_text_and_any_attribute_is_one(text: str, value: str) -> None:
    markup = element("p", text, data(text), title=value)
    one = tree(markup).one("p")
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    assert one.text().startswith(shown)
    assert list(one.attributes) == ["title"]
    assert [inner.tag for inner in one.walk()] == ["p", "bdi"]
    markup.encode("utf-8")


def test_markup_is_not_escaped_twice() -> None:
    assert element("p", element("b", "<"), None, ["&", 3]) == "<p><b>&lt;</b>&amp;3</p>"
    assert element("img", alt="a", hidden=False, src=None) == '<img alt="a">'
    assert element("g", cx=-0.04, for_="a", stroke_width="2", hidden=True) == (
        '<g cx="0" for="a" stroke-width="2" hidden></g>'
    )
    assert joined("a", element("br")) == "a<br>"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-1.5, "−1.50"), (1234567, "1,230,000"), (0.00012345, "0.000123"),
     (1.2e-7, "1.20e−07"), (float("nan"), "–"), (99.96, "100"), (3e20, "3.00e+20")],
)  # fmt: skip
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_shares_are_per_cent() -> None:
    assert [percent(0.1234), percent(float("nan"))] == ["12.3 %", "–"]


@given(finite, st.floats(1e-6, 1e12), st.integers(2, 9))
@example(0.0, 1.0, 5)
def test_ticks_are_round_even_and_inside(low: float, span: float, most: int) -> None:
    high = low + span
    if high - low < abs(low) * 1e-9:
        return
    found = ticks(low, high, most)
    assert len(found) <= most
    assert all(low - span * 1e-6 <= one <= high + span * 1e-6 for one in found)
    steps = np.diff(found)
    np.testing.assert_allclose(steps, steps[:1].repeat(len(steps)), rtol=1e-3)


def test_tick_labels_say_their_values() -> None:
    assert [label for _, label in Axis("a", 0, 1, 100).ticks(5)] == ["0", "25", "50", "75", "100"]
    assert [label for _, label in Axis("a", -0.2, 0.8).ticks(7)] == [
        "−0.2", "0.0", "0.2", "0.4", "0.6", "0.8"
    ]  # fmt: skip


@given(st.lists(finite, max_size=20))
def test_an_axis_covers_its_values(values: list[float]) -> None:
    axis = covering("a", np.array(values), [np.nan, np.inf])
    assert axis.low < axis.high
    assert all(axis.low <= one <= axis.high for one in values)


def test_a_line_goes_through_its_points_and_stops_where_there_is_none() -> None:
    x, y = np.arange(5.0), np.array([0.0, 1.0, np.nan, 3.0, 4.0])
    frame = Frame(Axis("x", 0, 4), Axis("y", 0, 4))
    line = Line("a", x, y, y - 1, y + 1)
    chart = tree(line_chart("k", "t", "d", frame, [line])).one("path", class_="s1")
    path = str(chart.attributes["d"])
    assert path.count("M") == 2
    points = np.array(numbers(path)).reshape(-1, 2)
    np.testing.assert_allclose(points[:, 0], [48, 143, 333, 428], atol=0.06)
    np.testing.assert_allclose(points[:, 1], 208 - np.array([0, 1, 3, 4]) * 44.5, atol=0.06)


def test_a_histogram_s_steps_are_as_high_as_its_shares() -> None:
    frame = Frame(Axis("x", 0, 3), Axis("y", 0, 1))
    shares = np.array([0.5, 0.0, 0.5])
    chart = tree(histogram("k", "t", "d", frame, np.arange(4.0), [shares]))
    points = np.array(numbers(chart.one("path", class_="line").attributes["d"])).reshape(-1, 2)
    heights = (208 - points[1:-1:2, 1]) / (208 - 30)
    np.testing.assert_allclose(heights, shares, atol=1e-3)


def test_groups_of_points_differ_in_shape() -> None:
    frame = Frame(Axis("x", -1, 1), Axis("y", -1, 1))
    groups = [("", np.zeros((3, 2))), *((name, np.zeros((1, 2))) for name in "abcdef")]
    chart = tree(cloud("k", "t", "d", frame, groups))
    shapes = [one.attributes["d"] for one in chart.all("path", class_="dot")]
    assert len(set(shapes)) == 6
    assert str(chart.one("path", class_="rest").attributes["d"]).count("M") == 3
    assert symbol(1, 0, 0) == symbol(7, 0, 0)


def test_bars_are_as_long_as_their_counts() -> None:
    counts = np.array([[3, 1], [0, 2]])
    chart = tree(stacked_bars("k", "t", "d", ["a", "b" * 90], counts, "trials"))
    widths = [float(str(one.attributes["width"])) for one in chart.all("rect")]
    full = 440 - 64 - 112
    np.testing.assert_allclose(widths, [full * 3 / 4, full / 4, full / 2], atol=0.06)
    second = chart.all("rect")[1]
    assert second.attributes["style"] == "fill:url(#k-p2)"  # told apart without its colour
    assert f"{'b' * 14}…" in chart.text()


def test_an_estimate_has_its_interval_and_chance() -> None:
    rows = [Estimate("top-1", 0.5, 0.25, 0.75, 0.1), Estimate("none", np.nan, np.nan, np.nan, 0.1)]
    chart = tree(estimates("k", "t", "d", rows, Axis("%", 0, 1, 100), percent))
    full, start = 440 - 64 - 112, 112
    [dot] = chart.all("circle")
    assert float(str(dot.attributes["cx"])) == start + full / 2
    ends = numbers(chart.one("path", class_="interval").attributes["d"])
    assert (ends[0], ends[5]) == (start + full / 4, start + 3 * full / 4)
    chance = [numbers(one.attributes["d"])[0] for one in chart.all("path", class_="chance")]
    assert chance == [pytest.approx(start + full / 10, abs=0.06)] * 2
    assert "50.0 %" in chart.text()


@st.composite
def graphs(draw: Any) -> dict[str, Node]:
    """Nodes, each made of some before it; at times of one that there is not, or of itself."""
    n_nodes = draw(st.integers(1, 14))
    nodes = {}
    for one in range(n_nodes):
        inputs = draw(st.lists(st.integers(0, max(0, one)), max_size=3, unique=True))
        nodes[f"n{one}"] = Node("trials", f"name {one}", "made", [f"n{i}" for i in inputs] + ["x"])
    return nodes


@settings(max_examples=30)
@given(graphs())
def test_no_two_boxes_of_a_graph_overlap_and_arrows_lead_right(nodes: dict[str, Node]) -> None:
    drawn = tree(graph("k", "t", "d", nodes))
    boxes = [(float(str(one.attributes["x"])), float(str(one.attributes["y"])))
             for one in drawn.all("rect")]  # fmt: skip
    assert len(boxes) == len(nodes)
    for number_, (x, y) in enumerate(boxes):
        for other_x, other_y in boxes[:number_]:
            assert abs(x - other_x) >= 138 or abs(y - other_y) >= 54
    width, height = (float(one) for one in str(drawn.one("svg").attributes["viewbox"]).split()[2:])
    assert all(0 <= x <= width - 138 and 0 <= y <= height - 54 for x, y in boxes)
    real = {(one, name) for name, node in nodes.items() for one in node.inputs
            if one in nodes and one != name}  # fmt: skip
    arrows = drawn.all("path", class_="arrow")
    assert len(arrows) == len(real)
    for one in arrows:
        across = numbers(one.attributes["d"].replace("C", " ").replace("H", " "))
        assert across[-2] > across[0]


def test_channels_are_matched_by_their_names() -> None:
    pytest.importorskip("mne")
    names = ["EEG Fpz-REF", "oz", "C3..", "Cz", "C4", "T7", "T8", "Fz", "trigger", "T3"]
    found = heads.montage(names)
    assert found is not None
    assert found.channels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]  # T3 is where T7 is
    place = dict(zip(found.channels.tolist(), found.places, strict=True))
    assert place[0][1] > 0.8  # the nose is up
    assert place[1][1] < -0.8
    assert place[2][0] < -0.3 < 0.3 < place[4][0]
    assert np.hypot(*place[3]) < 0.2
    assert heads.montage(["a", "b", "Cz"]) is None


def test_a_map_has_the_channels_values_where_they_are() -> None:
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    places = np.concatenate([[[0.0, 0.0]], 0.45 * ring[::2], 0.9 * ring])
    values = 3 * places[:, 0] - places[:, 1]
    surface = heads.interpolated(values, places)
    assert surface.shape == (64, 64)
    for place, value in zip(places, values, strict=True):
        column, row = ((place * [1, -1] + 1) / 2 * 64).astype(int).clip(0, 63)
        assert surface[row, column] == pytest.approx(value, abs=0.12)
    assert surface[32, 60] > 2 > -2 > surface[32, 3]


def colours(selector: str) -> dict[str, str]:
    """The variables that a rule of the style sets."""
    block = STYLE[STYLE.index(selector) :].partition("{")[2].partition("}")[0]
    return dict(re.findall(r"(--[\w-]+):\s*(#[0-9a-f]{6})", block))


def luminance(colour: str) -> float:
    """As WCAG 2.2 defines it."""
    parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    "selector", [":root {", ':root:not([data-theme="light"]) {', ':root[data-theme="dark"] {']
)
def test_colours_have_the_contrast_that_wcag_asks_for(selector: str) -> None:
    found = colours(selector)
    for ground in ("--page", "--surface", "--sunken"):
        for ink in ("--ink", "--muted", "--accent", "--warn", "--error", "--found"):
            assert contrast(found[ink], found[ground]) >= 4.5, (ink, ground)
    for mark in ("--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--axis"):
        assert contrast(found[mark], found["--surface"]) >= 3, mark


def test_both_ways_to_the_dark_theme_are_one() -> None:
    by_system = colours(':root:not([data-theme="light"]) {')
    assert by_system == colours(':root[data-theme="dark"] {')
    assert set(by_system) == set(colours(":root {"))


def deficient(colour: str) -> Any:
    """How a colour looks without the red cones (Viénot et al. 1999), as linear parts."""
    parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    red = 0.11238 * linear[0] + 0.88762 * linear[1]
    return np.array([red, red, 0.00401 * linear[0] - 0.00401 * linear[1] + linear[2]])


@pytest.mark.parametrize("selector", [":root {", ':root[data-theme="dark"] {'])
def test_neighbouring_series_differ_for_whoever_sees_no_red(selector: str) -> None:
    found = colours(selector)
    for one, next_ in pairwise(["--c1", "--c2", "--c3", "--c4", "--c5", "--c6"]):
        distance = np.abs(deficient(found[one]) - deficient(found[next_])).max()
        assert distance > 0.05, (one, next_)
