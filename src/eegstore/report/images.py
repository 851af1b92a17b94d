"""Sections of images: what was shown, and what was found for a few trials."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore.errors import EegStoreError, InputError
from eegstore.report.learned import learned_pairs
from eegstore.report.markup import Content, Markup, data, element, joined, shortened
from eegstore.report.material import Material, Omitted, Rows, Sample
from eegstore.report.scales import number
from eegstore.retrieval import top_k

SIDE: Final = 96
QUALITY: Final = 72
N_SHOWN: Final = 12
N_TRIALS: Final = 6
N_FOUND: Final = 5
MAX_GALLERY: Final = 20_000
MAX_TEXT: Final = 48


def _encoded(pixels: NDArray[np.uint8]) -> str:
    """An image, its longer side 96 pixels at most, as WebP in a data URI."""
    from PIL import Image

    image = Image.fromarray(pixels).convert("RGB")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, format="WEBP", quality=QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


class Tiles:
    """Stimuli as tiles: the image with its concept beneath."""

    def __init__(self, material: Material) -> None:
        self._store = material.store
        self._uris: dict[int, str] = {}
        self._problem = ""

    def told(self) -> str:
        """Why there are no images, for a caption."""
        return f" The images are not at hand: {self._problem}." if self._problem else ""

    def _uri(self, stimulus: int) -> str | None:
        """A small image in a data URI; None once one could not be read."""
        if stimulus not in self._uris and not self._problem:
            try:
                self._uris[stimulus] = _encoded(self._store.image(stimulus))
            except (EegStoreError, OSError) as error:
                self._problem = str(error)
        return self._uris.get(stimulus)

    def tile(self, stimulus: int, remark: Content, class_: str = "tile") -> Markup:
        """A stimulus: its image, its concept, and a remark."""
        concept = str(self._store.stimuli["concept"][stimulus])
        uri = self._uri(stimulus)
        alt = shortened(f"stimulus {stimulus}: {concept or 'no concept'}", 120)
        image = (
            element("img", src=uri, alt=alt, width=str(SIDE), height=str(SIDE))
            if uri else element("span", "no image", class_="no-image")
        )  # fmt: skip
        name = element("span", data(concept or f"stimulus {stimulus}", MAX_TEXT), class_="concept")
        return element("div", image, name, element("small", remark), class_=class_)


def shown(material: Material) -> Markup | Omitted:
    """A few stimuli of different concepts, with their captions and numbers of trials."""
    if not material.has_stimuli:
        return Omitted("the store has no stimuli.")
    tiles = Tiles(material)
    n_trials = np.bincount(
        material.stimulus[material.stimulus >= 0], minlength=material.store.stimuli.n_rows
    )
    captions = material.store.stimuli["caption"]
    entries = []
    for stimulus in _of_different_concepts(material):
        remark = joined(f"{n_trials[stimulus]:,} trials", element("br"),
                        data(str(captions[stimulus]), MAX_TEXT))  # fmt: skip
        entries.append(element("li", tiles.tile(stimulus, remark)))
    caption = (
        f"{len(entries)} of {material.store.stimuli.n_rows:,} stimuli, of different concepts where "
        f"there are as many, with the trials paired with each and its caption.{tiles.told()}"
    )
    return element(
        "figure", element("h3", "Stimuli", id="stimuli-head"),
        element("ul", entries, class_="tiles"), element("figcaption", caption),
        id="stimuli", aria_labelledby="stimuli-head",
    )  # fmt: skip


def _of_different_concepts(material: Material) -> list[int]:
    """Rows of stimuli: one of each concept first, then others, seeded."""
    concepts = material.store.stimuli["concept"][:]
    _, first = np.unique(concepts, return_index=True)
    chosen = material.sample(np.sort(first), N_SHOWN).rows
    if len(chosen) < N_SHOWN:
        rest = np.setdiff1d(np.arange(len(concepts)), first)
        chosen = np.concatenate([chosen, material.sample(rest, N_SHOWN - len(chosen)).rows])
    return [int(one) for one in chosen]


class Found(NamedTuple):
    """Trials that asked, and what each found.

    Attributes
    ----------
    trials
        int64, (trial,): their rows.
    stimuli
        int64, (trial, k): rows of stimuli, best first.
    scores
        float32, (trial, k): cosines.
    rank
        int64, (trial,): the place of the true stimulus among the gallery, from 1.
    n_gallery
        How many stimuli there were to find.
    """

    trials: Rows
    stimuli: NDArray[np.int64]
    scores: NDArray[np.float32]
    rank: NDArray[np.int64]
    n_gallery: int


def found(material: Material) -> Markup | Omitted:
    """A few trials of the test, each with the stimulus that was shown and those nearest to it."""
    pairs = learned_pairs(material)
    if not pairs or not material.has_stimuli:
        return Omitted("the store has no column learnt from EEG to find images with.")
    query, gallery = pairs[0]
    where, rows = _asked(material)
    if not len(rows):
        return Omitted("no trial of the test is paired with a stimulus.")
    sample = material.sample(rows, N_TRIALS)
    try:
        result = _search(material, query, gallery, sample, rows)
    except InputError as error:
        return Omitted(f"{error}.")
    return _found_figure(material, (query, gallery, where), sample, result)


def _asked(material: Material) -> tuple[str, Rows]:
    """The trials that may ask: of the split test, else of fold 0, else all; paired and valid."""
    paired = material.valid[material.stimulus[material.valid] >= 0]
    split, fold = material.store.trials["split"][:], material.narrow("fold")
    if (of_test := paired[split[paired] == "test"]).size:
        return "the split test", of_test
    if fold is not None and (of_fold := paired[fold[paired] == 0]).size:
        return "fold 0", of_fold
    return "all trials", paired


def _search(material: Material, query: str, gallery: str, sample: Sample, rows: Rows) -> Found:
    """Rank the different images of the asked trials by their cosine with a few of the trials."""
    content = material.store.stimuli["content_id"][:]
    _, item = np.unique(content, return_inverse=True)
    _, first = np.unique(item, return_index=True)
    own = first[item[material.stimulus[sample.rows]]]
    others = np.setdiff1d(first[np.unique(item[material.stimulus[rows]])], own)
    kept = material.sample(others, MAX_GALLERY).rows
    items = np.sort(np.concatenate([np.unique(own), kept]))
    vectors = material.store.stimuli[gallery][items]
    asked = material.store.trials[query][sample.rows]
    places, scores = top_k(asked, vectors, len(items))
    true = np.searchsorted(items, own)
    rank = 1 + np.argmax(places == true[:, None], axis=1)
    return Found(sample.rows, items[places[:, :N_FOUND]], scores[:, :N_FOUND], rank, len(items))


def _found_figure(
    material: Material, names: tuple[str, str, str], sample: Sample, result: Found
) -> Markup:
    tiles = Tiles(material)
    query, gallery, where = names
    rows = list(_found_rows(material, tiles, result))
    caption = (
        f"{sample.told()} of {where}, drawn at random and not for their success: at the left the "
        f"stimulus that the trial is paired with, beside it the {result.stimuli.shape[1]} of "
        f"{result.n_gallery:,} stimuli whose {gallery} is nearest to the trial's {query} (cosine "
        f"beneath each). A double frame and the word true mark the paired one.{tiles.told()}"
    )
    return element(
        "figure", element("h3", "Trials and what they find", id="found-head"),
        element("ol", rows, class_="found"), element("figcaption", caption),
        id="found", aria_labelledby="found-head",
    )  # fmt: skip


def _found_rows(material: Material, tiles: Tiles, result: Found) -> Iterator[Markup]:
    content = material.store.stimuli["content_id"][:]
    for number_, trial in enumerate(result.trials.tolist()):
        own = int(material.stimulus[trial])
        answers = [
            _answer(tiles, stimulus, score, content[stimulus] == content[own])
            for stimulus, score in zip(
                result.stimuli[number_].tolist(), result.scores[number_].tolist(), strict=True
            )
        ]  # fmt: skip
        told = f"trial {trial:,}: rank {result.rank[number_]:,} of {result.n_gallery:,}"
        yield element(
            "li", element("p", told, class_="small-print"),
            element("div", tiles.tile(own, "shown", "tile own"),
                    element("span", "→", aria_hidden="true", class_="leads"), answers,
                    class_="answers"),
        )  # fmt: skip


def _answer(tiles: Tiles, stimulus: int, score: float, is_true: bool) -> Markup:
    remark: Sequence[Content] = ["true, " if is_true else "", number(score, 3)]
    return tiles.tile(stimulus, remark, "tile hit" if is_true else "tile")
