"""Sections of images: what was shown, and what was found for a few trials."""

from __future__ import annotations

import base64
import io
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eegstore.errors import InputError
from eegstore.images import Images
from eegstore.report.learned import learned_pairs
from eegstore.report.markup import Content, Markup, data, element, joined, shortened
from eegstore.report.material import Material, Omitted, Rows
from eegstore.report.scales import counted, number
from eegstore.search import Gallery, mark

SIDE: Final = 96
QUALITY: Final = 72
N_SHOWN: Final = 12
N_TRIALS: Final = 6
N_FOUND: Final = 5
MAX_TEXT: Final = 48
TEST: Final = "test"


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
        self._images = Images(material.store)
        self._uris: dict[int, str] = {}

    def told(self) -> str:
        """Why there are no images, or which are missing, for a caption."""
        lost = self._images.lost
        if not lost:
            return ""
        missing = "The images are" if self._images.none_read else (
            f"{counted(len(lost), 'image is', 'images are')}"
        )  # fmt: skip
        return f" {missing} not at hand: {self._images.problem}."

    def _uri(self, stimulus: int) -> str | None:
        """A small image in a data URI; None where it could not be read."""
        if stimulus not in self._uris and stimulus not in self._images.lost:
            image = self._images.read(stimulus)
            if image is not None:
                self._uris[stimulus] = _encoded(image)
        return self._uris.get(stimulus)

    def _why(self, stimulus: int) -> str:
        """Why there is no image."""
        return shortened(str(self._images.lost[stimulus]), 400)

    def tile(self, stimulus: int, remark: Content, class_: str = "tile") -> Markup:
        """A stimulus: its image, its concept, and a remark."""
        concept = str(self._store.stimuli["concept"][stimulus])
        uri = self._uri(stimulus)
        alt = shortened(f"stimulus {stimulus}: {concept or 'no concept'}", 120)
        image = (
            element("img", src=uri, alt=alt, width=str(SIDE), height=str(SIDE))
            if uri else element("span", "no image", class_="no-image", title=self._why(stimulus))
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


def found(material: Material) -> Markup | Omitted:
    """A few trials of the test, each with its own stimulus and those nearest to it."""
    pairs = learned_pairs(material)
    if not pairs or not material.has_stimuli:
        return Omitted("the store has no column learnt from EEG to find images with.")
    query, column = pairs[0]
    split, rows = _asked(material)
    if not len(rows):
        return Omitted("no trial is paired with a stimulus.")
    try:
        gallery = Gallery(material.store, column, split)
    except InputError as error:
        return Omitted(f"{error}.")
    asked = material.sample(rows, N_TRIALS)
    tiles = Tiles(material)
    entries = [_trial(material, tiles, gallery, query, trial) for trial in asked.rows.tolist()]
    where = f"the split {split}" if split else "the store"
    caption = (
        f"{asked.told('paired trial')} of {where}, drawn at random and not for their success: at "
        "the left the stimulus that the trial is paired with, beside it those of "
        f"{len(gallery):,} stimuli whose {column} is nearest to the trial's {query} (cosine "
        f"beneath each). A double frame and the word {mark(material.store)} mark the paired one."
        f"{tiles.told()}"
    )
    return element(
        "figure", element("h3", "Trials and what they find", id="found-head"),
        element("ol", entries, class_="found"), element("figcaption", caption),
        id="found", aria_labelledby="found-head",
    )  # fmt: skip


def _asked(material: Material) -> tuple[str | None, Rows]:
    """The trials that may ask: of the split test, else all; paired and valid."""
    paired = material.valid[material.stimulus[material.valid] >= 0]
    of_test = paired[material.store.trials["split"][:][paired] == TEST]
    return (TEST, of_test) if len(of_test) else (None, paired)


def _trial(material: Material, tiles: Tiles, gallery: Gallery, query: str, trial: int) -> Markup:
    """One trial: what it is paired with, and what is nearest."""
    vector = material.store.trials[query][trial].ravel()
    own = int(material.stimulus[trial])
    if not np.isfinite(vector).all():
        return element("li", element("p", f"trial {trial:,}: its {query} is not finite"))
    hits, true = gallery.nearest(vector, N_FOUND, [own])
    rank = f"rank {true.rank:,} of {len(gallery):,}" if true else "not among those searched"
    called = mark(material.store)
    answers = [
        tiles.tile(one.stimulus, [f"{called}, " if one.is_true else "", number(one.score, 3)],
                   "tile hit" if one.is_true else "tile")
        for one in hits
    ]  # fmt: skip
    return element(
        "li", element("p", f"trial {trial:,}: {rank}", class_="small-print"),
        element("div", tiles.tile(own, "shown" if called == "true" else called, "tile own"),
                element("span", "→", aria_hidden="true", class_="leads"), answers,
                class_="answers"),
    )  # fmt: skip
