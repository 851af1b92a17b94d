"""Sections on columns: quality, maps of embeddings, likeness of images and their captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore.report.charts import Frame, cloud, histogram
from eegstore.report.figures import MAX_SERIES, DataTable, figure, legend
from eegstore.report.markup import Markup, data, joined
from eegstore.report.material import Material, Omitted, Rows, Sample
from eegstore.report.scales import Axis, counted, covering, number, percent
from eegstore.store import StoredColumn

N_BINS: Final = 30
MAX_PARTS: Final = 12
MAX_MAPS: Final = 4
MIN_WIDTH: Final = 4
MAX_VALUES: Final = 1 << 25
MAX_LIKENESS: Final = 1000

Values = NDArray[np.float64]


def _histogram(values: Sequence[Values]) -> tuple[Values, list[Values]]:
    """Edges of the bins over all values, and the share of each series in each bin."""
    every = np.concatenate(values)
    low, high = float(every.min()), float(every.max())
    if low == high:
        low, high = (0.0, 1.0) if 0 <= low <= 1 else (low - 0.5, high + 0.5)
    edges = np.linspace(low, high, N_BINS + 1)
    return edges, [np.histogram(one, edges)[0] / len(one) for one in values]


def _bins_table(edges: Values, names: Sequence[str], shares: Sequence[Values]) -> DataTable:
    rows = [
        [f"{number(low)} to {number(high)}", *(percent(float(share[place])) for share in shares)]
        for place, (low, high) in enumerate(pairwise(edges))
    ]
    return DataTable("Share of each bin", ["From, to", *names], rows)


def quality(material: Material) -> Markup | Omitted:
    """Histograms of the quality of trials: the score, and the parts that it is made of."""
    column = material.store.trials.get("quality")
    if column is None or len(column.spec.shape) != 1 or not len(material.valid):
        return Omitted('the store has no column quality; an extractor "quality" adds it.')
    names = [str(one) for one in column.spec.coords.get(
        column.spec.dims[0], range(column.spec.shape[0]))]  # fmt: skip
    sample = material.sample(material.valid)
    values = column[sample.rows].astype(np.float64)
    order = [len(names) - 1, *range(len(names) - 1)][: MAX_PARTS + 1]
    units = column.spec.attrs.get("feature_units") or [""] * len(names)
    panels = [_part(f"quality-{part}", names[part], str(units[part]), values[:, part])
              for part in order]  # fmt: skip
    rows = [[data(names[part]), *_summary(values[:, part])] for part in order]
    table = DataTable(
        "Quality of the trials", ["Part", "Least", "5 %", "Median", "95 %", "Most"], rows
    )
    caption = (
        f"From {sample.told()}. The score is from 0, unusable, to 1, clean; the other panels are "
        "its parts. A long tail on one side shows trials that a recipe may filter or weigh less."
    )
    return figure(
        "quality", "Quality of the trials", [one for one in panels if one], caption, table
    )


def _part(key: str, name: str, unit: str, values: Values) -> Markup | None:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    edges, [share] = _histogram([finite])
    label = name if unit in ("", "1") else f"{name} ({unit})"
    axis = Axis(label, float(edges[0]), float(edges[-1]))
    frame = Frame(axis, Axis("share of trials (%)", 0.0, float(share.max()) * 1.1, 100))
    return histogram(key, name, f"Histogram of {name} over trials.", frame, edges, [share])


def _summary(values: Values) -> list[str]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return ["–"] * 5
    return [number(one, 4) for one in np.quantile(finite, [0, 0.05, 0.5, 0.95, 1])]


class Embedding(NamedTuple):
    """A column of vectors, a sample of its rows, and the concept of each."""

    column: StoredColumn
    sample: Sample
    concepts: NDArray[np.object_]
    noun: tuple[str, str]


def maps(material: Material) -> Markup | Omitted:
    """Embeddings in the plane: their principal components, and UMAP where it is installed."""
    found = list(_embeddings(material))[:MAX_MAPS]
    if not found:
        return Omitted("the store has no column of embeddings.")
    figures = [_map_figure(material, one, number == 0) for number, one in enumerate(found)]
    return joined(figures) if any(figures) else Omitted("the embeddings do not differ by row.")


def _embeddings(material: Material) -> Iterator[Embedding]:
    """Columns of vectors of floats, those of trials first, with a sample of their rows."""
    store, others = material.store, {"quality", "eeg"}
    tables: list[tuple[Any, Rows, NDArray[np.object_], tuple[str, str]]] = [
        (store.trials, material.valid, material.concept, ("trial", "trials"))
    ]
    if material.has_stimuli:
        _, first = np.unique(store.stimuli["content_id"][:], return_index=True)
        concept = store.stimuli["concept"][:].astype(object)
        tables.append((store.stimuli, np.sort(first), concept, ("stimulus", "stimuli")))
    for table, rows, concepts, noun in tables:
        for column in [column for name, column in table.items() if name not in others]:
            spec = column.spec
            if column.entry.kind != "wide" or len(spec.shape) != 1 or spec.shape[0] < MIN_WIDTH:
                continue
            if not spec.dtype.startswith("float") or len(rows) < MIN_WIDTH:
                continue
            most = max(MIN_WIDTH, min(material.max_rows, MAX_VALUES // spec.shape[0]))
            sample = material.sample(rows, most)
            yield Embedding(column, sample, concepts[sample.rows], noun)


class Plane(NamedTuple):
    """Points in the plane: float64, (row, 2); and the share of variance on each axis."""

    points: Values
    shares: Values


def principal(values: Values) -> Plane | None:
    """The first two principal components; None where the rows do not differ.

    Each has the sign that makes its largest weight positive. Follows Jolliffe (2002), Principal
    Component Analysis.
    """
    centred = values - values.mean(axis=0)
    left, singular, right = np.linalg.svd(centred, full_matrices=False)
    total = float(np.square(singular).sum())
    if len(singular) < 2 or total <= 1e-12 * max(float(np.square(values).sum()), 1e-300):
        return None
    largest = np.take_along_axis(right[:2], np.abs(right[:2]).argmax(1)[:, None], 1)[:, 0]
    signs = np.where(largest < 0, -1.0, 1.0)
    return Plane(left[:, :2] * singular[:2] * signs, np.square(singular[:2]) / total)


def neighbourhood(values: Values, seed: int) -> Values | None:
    """UMAP's map of the rows; None where it is not installed, or the rows are too few.

    Follows McInnes et al. (2018), https://doi.org/10.21105/joss.00861.
    """
    try:
        from umap import UMAP
    except ImportError:
        return None
    if len(values) < 20:
        return None
    mapped = UMAP(n_components=2, random_state=seed, n_jobs=1).fit_transform(values)
    return np.asarray(mapped, dtype=np.float64)


def _map_figure(material: Material, one: Embedding, is_first: bool) -> Markup | None:
    values = one.column[one.sample.rows].astype(np.float64)
    whole = np.isfinite(values).all(axis=1)
    values, concepts = values[whole], one.concepts[whole]
    plane = principal(values) if len(values) >= MIN_WIDTH else None
    if plane is None:
        return None
    key = f"map-{one.column.entry.path.replace('/', '-')}"
    chosen = [name for name, _ in _most_frequent(concepts)][:MAX_SERIES]
    panels = [_plane_panel(f"{key}-pca", plane, concepts, chosen)]
    near = neighbourhood(values, material.seed)
    if near is not None:
        panels.append(_near_panel(f"{key}-umap", near, concepts, chosen))
    rest = "" if len(chosen) == len(set(concepts)) else " Small dots are of other concepts."
    caption = (
        f"From {one.sample.told(*one.noun)}, {one.column.spec.shape[0]:,} numbers each."
        f"{_how_to_read(near) if is_first else ''}{rest}"
    )
    return figure(key, f"Map of {one.column.entry.path}", panels, caption,
                  _centres(plane, concepts, chosen),
                  key_of=legend([data(name, 40) for name in chosen], "dot"))  # fmt: skip


def _how_to_read(near: Values | None) -> str:
    """What a map shows and what not; said of the first alone."""
    umap = (
        " A map by UMAP is beside it where eegstore[umap] is installed."
        if near is None
        else " UMAP keeps neighbourhoods alone: its distances and axes have no unit."
    )
    return (
        " Each point is a row, near to those it is like. Principal components keep distances, and "
        "the axes say how much of the variance they show: what lies apart here differs, what lies "
        f"together may still differ in the components that are not shown.{umap}"
    )


def _most_frequent(concepts: NDArray[np.object_]) -> list[tuple[str, int]]:
    names, counts = np.unique(concepts[concepts != ""].astype(str), return_counts=True)
    order = np.lexsort((names, -counts))
    return [(str(names[one]), int(counts[one])) for one in order]


def _grouped(
    points: Values, concepts: NDArray[np.object_], chosen: Sequence[str]
) -> list[tuple[str, Values]]:
    rest = ~np.isin(concepts, np.array(chosen, dtype=object))
    return [("", points[rest]), *((name, points[concepts == name]) for name in chosen)]


def _plane_panel(
    key: str, plane: Plane, concepts: NDArray[np.object_], chosen: Sequence[str]
) -> Markup:
    across, up = (
        covering(f"component {number} ({percent(float(share))} of variance)", values)
        for number, (share, values) in enumerate(zip(plane.shares, plane.points.T, strict=True), 1)
    )
    return cloud(key, "PCA", "Rows by their first two principal components.", Frame(across, up),
                 _grouped(plane.points, concepts, chosen))  # fmt: skip


def _near_panel(
    key: str, points: Values, concepts: NDArray[np.object_], chosen: Sequence[str]
) -> Markup:
    across, up = (
        covering("UMAP 1 (no unit)", points[:, 0]),
        covering("UMAP 2 (no unit)", points[:, 1]),
    )
    return cloud(key, "UMAP", "Rows by their neighbourhoods.", Frame(across, up),
                 _grouped(points, concepts, chosen))  # fmt: skip


def _centres(plane: Plane, concepts: NDArray[np.object_], chosen: Sequence[str]) -> DataTable:
    """Where the middle of each concept is, and how far its rows lie around it."""
    rows = []
    for name in chosen:
        points = plane.points[concepts == name]
        spread = float(np.sqrt(np.square(points - points.mean(axis=0)).sum(axis=1).mean()))
        middle = [number(float(one), 4) for one in points.mean(axis=0)]
        rows.append([data(name), f"{len(points):,}", *middle, number(spread, 4)])
    head = ["Concept", "Rows", "Mean of component 1", "Mean of component 2", "Spread"]
    return DataTable("Concepts in the plane of the first two components", head, rows)


def likeness(material: Material) -> Markup | Omitted:
    """Cosines of image embeddings with the embedding of their own caption, and of others'."""
    if not material.has_stimuli:
        return Omitted("the store has no stimuli.")
    image, text = (_made_by(material, name) for name in ("clip-image", "clip-text"))
    if image is None or text is None or image.spec.shape != text.spec.shape:
        return Omitted("the store lacks clip_image or clip_text, or they are of different models.")
    _, first = np.unique(material.store.stimuli["content_id"][:], return_index=True)
    sample = material.sample(np.sort(first), min(material.max_rows, MAX_LIKENESS))
    own, others = _cosines(material, image, text, sample.rows)
    if not len(own) or not len(others):
        return Omitted("all images have the same caption.")
    return _likeness_figure(own, others, sample)


def _made_by(material: Material, extractor: str) -> StoredColumn | None:
    """The column of an extractor: the one of its name, else the first that it made."""
    stimuli = material.store.stimuli
    if (named := stimuli.get(extractor.replace("-", "_"))) is not None:
        return named
    for column in stimuli.values():
        producer = column.attrs["eegstore"].get("producer") or {}
        if column.entry.kind == "wide" and producer.get("name") == extractor:
            return column
    return None


def _cosines(
    material: Material, image: StoredColumn, text: StoredColumn, rows: Rows
) -> tuple[Values, Values]:
    """float64: cosine of each image with its caption, and with every caption that is another's."""
    units = []
    for column in (image, text):
        values = column[rows].astype(np.float64)
        units.append(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-300))
    cosines = units[0] @ units[1].T
    captions = material.store.stimuli["caption"][rows]
    different = captions[:, None] != captions[None, :]
    own, others = np.diagonal(cosines), cosines[different]
    return own[np.isfinite(own)], others[np.isfinite(others)]


def _likeness_figure(own: Values, others: Values, sample: Sample) -> Markup:
    edges, shares = _histogram([own, others])
    names = ["own caption", "another's caption"]
    axis = Axis("cosine of image and caption", float(edges[0]), float(edges[-1]))
    most = float(max(share.max() for share in shares))
    frame = Frame(axis, Axis("share of pairs (%)", 0.0, most * 1.1, 100))
    drawn = histogram("likeness-hist", "", "Histograms of cosines.", frame, edges, shares)
    above = _above(own, others)
    caption = (
        f"Cosine of clip_image with clip_text, from {sample.told('image')}: with an image's own "
        f"caption (mean {number(float(own.mean()), 4)}) and with another's (mean "
        f"{number(float(others.mean()), 4)}; {counted(len(others), 'pair')}). An own caption is "
        f"nearer than another's in {percent(above)} of comparisons; 50 % would be chance, and "
        "captions that only name the concept cannot tell images of one concept apart."
    )
    return figure("likeness", "Images and their captions", [drawn], caption,
                  _bins_table(edges, names, shares), key_of=legend(names))  # fmt: skip


def _above(own: Values, others: Values) -> float:
    """The share of pairs of an own and another cosine in which the own is larger; ties half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, own, "left") + np.searchsorted(ordered, own, "right")
    return float(below.mean() / 2 / len(others))
