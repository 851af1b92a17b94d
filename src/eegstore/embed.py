"""Embeds a new text or image as the extractor of a store's column would have."""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore import registry
from eegstore.calls import guarded
from eegstore.errors import EegStoreError, InputError, UsageError
from eegstore.provenance import facts_of
from eegstore.rounds import find_column
from eegstore.scan import content_of
from eegstore.store import Store, StoredColumn
from eegstore.tables import Block

Reads = Literal["caption", "image"]
WEIGHTS: Final = "weights_sha256"  # the attribute by which two columns are known to be of one model
SEES: Final = "clip-image"  # the extractor whose vectors of images lie beside those of texts


def maker_of(store: Store, reads: Reads, query: str | None, gallery: StoredColumn) -> StoredColumn:
    """The column of stimuli that is made from captions, or images, alone, in the gallery's space.

    Parameters
    ----------
    store
        The store.
    reads
        What the column is made from.
    query
        Its name; by default the gallery itself where it is one, else the only one that fits.
    gallery
        The column to be compared with.

    Raises
    ------
    UsageError
        Where there is none, or several fit.
    InputError
        Where the two are of different models.
    """
    made = {
        one.entry.path: one
        for one in store.stimuli.values()
        if one.entry.kind == "wide" and list(facts_of(store, one.entry.path)["inputs"]) == [reads]
    }
    if query is not None:
        path = find_column(store, query, "stimuli").entry.path
        if path not in made:
            raise UsageError(f"{store.path}: {path} is not made from the {reads} alone")
        if not _share_a_space(made[path], gallery):
            raise InputError(
                f"{store.path}: {path} and {gallery.entry.path} are of different models, so their "
                "vectors are in different spaces"
            )
        return made[path]
    if gallery.entry.path in made:
        return gallery
    fitting = [one for one in made.values() if _share_a_space(one, gallery)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(one.entry.path for one in fitting)
        raise UsageError(f"{store.path}: name with --query the column to embed by: {names}")
    advice = "add the extractor of one to the recipe and build again"
    if reads == "caption" and facts_of(store, gallery.entry.path)["producer"]["name"] != SEES:
        advice = f"a text needs a column of {SEES} as its --gallery"
    raise UsageError(
        f"{store.path}: no column of stimuli is made from the {reads} and in the space of "
        f"{gallery.entry.path}; {advice}"
    )


def _share_a_space(column: StoredColumn, gallery: StoredColumn) -> bool:
    """Whether two columns may be compared, as far as the store knows."""
    if math.prod(column.spec.shape) != math.prod(gallery.spec.shape):
        return False
    weights = {one.attrs[WEIGHTS] for one in (column, gallery) if WEIGHTS in one.attrs}
    return len(weights) < 2


def embed(store: Store, column: StoredColumn, reads: Reads, item: Any) -> NDArray[Any]:
    """Numbers, (feature,): what the extractor of a column gives for one more caption or image.

    Raises
    ------
    InputError
        Where the extractor or its files are no longer those that made the column.
    RecipeError, PluginError
        Where the extractor is not installed, or fails.
    """
    path = column.entry.path
    facts = facts_of(store, path)
    made_by = facts["producer"]
    if "fitted" in facts:
        raise InputError(f"{store.path}: {path} is fitted, so nothing new is embedded by it")
    folder = Path(store.attributes.history[-1].folder)
    installed = registry.find("extractor", made_by["name"]).version
    if installed != made_by["version"]:
        raise InputError(
            f"{store.path}: {path} was made by {made_by['name']} {made_by['version']}, and "
            f"{installed} is installed; build the store again"
        )
    plugin = registry.create("extractor", made_by["name"], made_by["options"], folder, path)
    if content_of("extractor", plugin, None).digest != made_by.get("content", ""):
        raise InputError(
            f"{store.path}: the files that {path} was made by have changed; build it again"
        )
    if hasattr(plugin, "prepare"):
        guarded("extractor", plugin, plugin.prepare)
    values = guarded("extractor", plugin, plugin, Block({reads: [item]}, 0, 1))
    vector: NDArray[Any] = np.asarray(values)[0].reshape(-1)
    return vector


def read_image(image: Path) -> NDArray[np.uint8]:
    """uint8, (y, x, 3): the pixels of a file, read as the stimuli ``image-folder`` are.

    Raises
    ------
    InputError
        Where it is no file, or no image.
    """
    if not image.is_file():
        raise InputError(f"{image}: no such file")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"0{image.suffix}"
        try:
            shutil.copyfile(image, copy)
            provider = registry.create("stimuli", "image-folder", {"path": folder}, Path(folder))
            guarded("stimuli", provider, provider.scan)
            read: NDArray[np.uint8] = guarded("stimuli", provider, provider.read, 0, 1)[0]
        except OSError as error:
            raise InputError(f"{image}: cannot be read ({error.strerror})") from None
        except EegStoreError as error:
            said = str(error).replace(str(copy), str(image)).replace(folder, str(image))
            said = said.replace(" among its 1 files", "")
            raise InputError(said) from None
    return read
