"""A graph of what is made of what, drawn from left to right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from eegstore.report.figures import drawing
from eegstore.report.markup import Markup, element, joined, shortened

WIDTH: Final = 138.0
STEP: Final = 174.0
# Of a box, and of the gap that an arrow takes to pass between boxes; with each its margin.
HEIGHTS: Final = {False: 54.0, True: 0.0}
MARGIN: Final = 12.0
EDGE: Final = 6.0
MAX_NAME: Final = 16
MAX_DETAIL: Final = 21


@dataclass(frozen=True)
class Node:
    """A box of the graph.

    Parameters
    ----------
    kind
        ``source``, ``trials`` or ``stimuli``.
    name, detail
        Its two lines.
    inputs
        Keys of the nodes that it is made of.
    """

    kind: str
    name: str
    detail: str
    inputs: Sequence[str] = ()


@dataclass(frozen=True)
class Stop:
    """A place in a layer: of a box, or of an arrow that passes by.

    Parameters
    ----------
    depth
        Its layer.
    passing
        Whether an arrow passes here.
    before
        The stops of the layer before that arrows come from.
    """

    depth: int
    passing: bool
    before: Sequence[str]


Places = dict[str, tuple[float, float]]


def _depths(nodes: Mapping[str, Node]) -> dict[str, int]:
    """How many steps each node is from where everything begins."""
    depths: dict[str, int] = {}

    def depth(key: str, above: frozenset[str]) -> int:
        if key not in depths:
            inputs = [one for one in nodes[key].inputs if one in nodes and one not in above]
            depths[key] = max((1 + depth(one, above | {key}) for one in inputs), default=0)
        return depths[key]

    for key in nodes:
        depth(key, frozenset())
    return depths


def _stops(nodes: Mapping[str, Node]) -> tuple[dict[str, Stop], list[list[str]]]:
    """The stops of all layers, and each arrow as the stops on its way (Sugiyama et al. 1981)."""
    depths = _depths(nodes)
    stops: dict[str, Stop] = {}
    ways: list[list[str]] = []
    for key, node in nodes.items():
        before = []
        for one in [one for one in node.inputs if one in nodes and depths[one] < depths[key]]:
            way = [one]
            for depth in range(depths[one] + 1, depths[key]):
                passing = f"{one} \0 {depth}"  # arrows from one box share their way
                stops.setdefault(passing, Stop(depth, True, (way[-1],)))
                way.append(passing)
            before.append(way[-1])
            ways.append([*way, key])
        stops[key] = Stop(depths[key], False, before)
    return stops, ways


def _places(stops: Mapping[str, Stop]) -> Places:
    """Upper left corner of each stop: near the mean height of what it is made of."""
    layers: dict[int, list[str]] = defaultdict(list)
    for key, stop in stops.items():
        layers[stop.depth].append(key)
    tallest = max(_height(stops, layer) for layer in layers.values())
    places: Places = {}
    for depth in sorted(layers):
        wanted = {key: _wanted(stops[key], places, tallest) for key in layers[depth]}
        layer = sorted(layers[depth], key=lambda key, at=wanted: at[key])  # type: ignore[misc]
        y = EDGE + (tallest - _height(stops, layer)) / 2
        for key in layer:
            places[key] = (EDGE + depth * STEP, y)
            y += HEIGHTS[stops[key].passing] + MARGIN
    return places


def _height(stops: Mapping[str, Stop], layer: Sequence[str]) -> float:
    return sum(HEIGHTS[stops[key].passing] + MARGIN for key in layer)


def _wanted(stop: Stop, places: Places, tallest: float) -> float:
    heights = [places[one][1] for one in stop.before if one in places]
    return sum(heights) / len(heights) if heights else tallest / 2


def graph(key: str, title: str, description: str, nodes: Mapping[str, Node]) -> Markup:
    """The graph as a drawing: boxes over the arrows that lead to them."""
    stops, ways = _stops(nodes)
    places = _places(stops)
    width = max(places[name][0] for name in nodes) + WIDTH + EDGE
    height = max(places[name][1] for name in nodes) + HEIGHTS[False] + EDGE
    arrows = [_arrow(key, way, stops, places) for way in ways]
    boxes = [_box(node, *places[name]) for name, node in nodes.items()]
    head = element(
        "marker", element("path", d="M0 0L8 4L0 8z", class_="arrowhead"), id=f"{key}-arrow",
        viewBox="0 0 8 8", refX="7", refY="4", markerWidth="7", markerHeight="7", orient="auto",
    )  # fmt: skip
    return drawing(
        key, title, description, element("defs", head), arrows, boxes,
        width=width, height=height, least=0.8 * width,
    )  # fmt: skip


def _arrow(key: str, way: Sequence[str], stops: Mapping[str, Stop], places: Places) -> Markup:
    """A curve from box to box, straight where it passes between others."""
    path = ""
    for one, next_ in pairwise(way):
        x, y = places[one][0] + WIDTH, places[one][1] + HEIGHTS[stops[one].passing] / 2
        to_x, to_y = places[next_][0], places[next_][1] + HEIGHTS[stops[next_].passing] / 2
        path = path or f"M{x:.0f} {y:.0f}"
        middle = (x + to_x) / 2
        path += f"C{middle:.0f} {y:.0f} {middle:.0f} {to_y:.0f} {to_x:.0f} {to_y:.0f}"
        if stops[next_].passing:
            path += f"H{to_x + WIDTH:.0f}"
    return element("path", d=path, class_="arrow", style=f"marker-end:url(#{key}-arrow)")


def _box(node: Node, x: float, y: float) -> Markup:
    return joined(
        element("rect", x=x, y=y, width=WIDTH, height=HEIGHTS[False], rx="6",
                class_=f"box {node.kind}"),
        element("text", node.kind, x=x + 10, y=y + 15, class_="small"),
        element("text", element("title", node.name[:400]), shortened(node.name, MAX_NAME),
                x=x + 10, y=y + 30, class_="row strong"),
        element("text", shortened(node.detail, MAX_DETAIL), x=x + 10, y=y + 45, class_="small"),
    )  # fmt: skip
