"""Builds tiny stores with an extractor, through the host, and compares the keys of its column."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from eegstore import (
    EegStoreError,
    configure,
    installed,
    options_of,
    path_options,
)
from eegstore.testing import material
from eegstore.testing.check import hook_of, told
from eegstore.testing.stage import Stage

UNSOUND: Final = {"reason": "not tried: its values are not as described, and a build refuses them"}
OFFER: Final = "eegstore-testing-offer"
TRIALS: Final = frozenset({"eeg", "label", "repetition", "block", "split", "fold"})
PAIRED: Final = frozenset({"stimulus", "score"})
STIMULI: Final = frozenset({"image", "image_path", "label", "concept", "caption", "content_id"})
SOURCE: Final = {"plugin": "synthetic", "n_trials": 12, "n_channels": 4, "n_times": 128}
PAIRED_TRIALS: Final = 40
CAPTION: Final = "This picture is {concept}"


@contextlib.contextmanager
def offered(kind: str, module: str, name: str) -> Iterator[Path]:
    """Let the host find a class that no installed distribution offers, as pip would have it.

    It is to be entered before the host has looked for plugins.

    Yields
    ------
    A temporary folder.
    """
    with tempfile.TemporaryDirectory(prefix="eegstore-testing-") as folder:
        if not _is_installed(module):
            _lay_out(Path(folder) / "offered", kind, module, name)
        yield Path(folder)


def _lay_out(site: Path, kind: str, module: str, name: str) -> None:
    """A distribution of one module, whose hook offers the class."""
    code = (
        f"import {module}\nfrom eegstore import hookimpl\n\n\n@hookimpl\n"
        f"def {hook_of(kind)}():\n    return [{module}.{name}]\n"
    )
    facts = site / f"{OFFER.replace('-', '_')}-1.0.dist-info"
    facts.mkdir(parents=True)
    (site / "eegstore_testing_offer.py").write_text(code, encoding="utf-8")
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {OFFER}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[eegstore]\noffer = eegstore_testing_offer\n")
    sys.path.insert(0, str(site))
    if "EEGSTORE_PLUGINS" in os.environ:
        os.environ["EEGSTORE_PLUGINS"] += f",{OFFER}"


def _is_installed(module: str) -> bool:
    """Whether an entry point names the class' own package: asked without loading any plugin."""
    package = module.partition(".")[0]
    return any(
        one.module.partition(".")[0] == package
        for one in importlib.metadata.entry_points(group="eegstore")
    )


def rehearsed(stage: Stage, folder: Path, plugin: Any) -> dict[str, Any]:
    """The keys of the column: of two builds with the same options, and of one with another.

    Returns
    -------
    ``same``, a pair of keys, and ``other`` with ``changed`` where an option could be changed; or
    the ``problem`` that the host has; or the ``reason`` why this was not tried.
    """
    what = "building tiny stores with it"
    found: dict[str, Any] = stage.start(what, _keys, folder, plugin, check="column-key")
    return found


def _keys(folder: Path, plugin: Any) -> dict[str, Any]:
    cls = type(plugin)
    if installed("extractor", cls.name) is not cls:
        return {"reason": f"a build does not take it for {cls.name!r}: another plugin has the "
                          "name, or its distribution does not offer it"}  # fmt: skip
    try:
        others = list(_others(plugin))
    except LookupError as reason:
        return {"reason": str(reason)}
    options = {key: one for key, one in options_of(plugin).items() if one is not None}
    try:
        same = [_key(plugin, options, others, folder / f"{n}.zarr") for n in (1, 2)]
    except EegStoreError as error:
        return {"problem": f"a build with it was refused: {told(error)}"}
    for name, value in _variations(cls, options):
        try:
            changed = options | {name: value}
            other = _key(plugin, changed, others, folder / "other.zarr")
        except EegStoreError:
            continue
        return {"same": same, "other": other, "changed": f"{name} = {value!r}"}
    return {"same": same}


def _others(plugin: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Sections of the extractors whose columns it reads."""
    for read in (*plugin.reads, *material.fit_reads(plugin)):
        slash = read.startswith("stimuli/")
        table, name = ("stimuli" if slash else plugin.table), read.removeprefix("stimuli/")
        if name in (TRIALS | PAIRED if table == "trials" else STIMULI):
            continue
        if slash:  # whatever computes it, it is a vector of each image
            yield {"plugin": "hog", "size": 16, "as": name}
            continue
        other: Any = installed("extractor", name.replace("_", "-"))
        if other is None or depth > 4:
            raise LookupError(f"reads {table}/{name}, which no tiny store here has")
        try:
            made = configure(other, {}, Path(), other.__name__)
        except EegStoreError as error:
            raise LookupError(f"reads {table}/{name}: {told(error)}") from error
        yield from _others(made, depth + 1)
        yield {"plugin": name.replace("_", "-")}


def _key(plugin: Any, options: Mapping[str, Any], others: list[dict[str, Any]], store: Path) -> str:
    """Build a store of a few trials and images, and give the key of the column."""
    sections = [dict(one) for one in {json.dumps(one): one for one in others}.values()]
    from eegstore import build, open_store

    recipe = {
        "source": SOURCE,
        **_stimuli(plugin, store.parent / "images"),
        "split": {"plugin": "random", "test_size": 0.25},
        "extract": [*sections, {"plugin": plugin.name, **options}],
    }
    build(recipe, store, executor="serial", overwrite=True)
    table = getattr(open_store(store), plugin.table)
    key: str = table[plugin.name.replace("-", "_")].attrs["eegstore"]["key"]
    return key


def _stimuli(plugin: Any, folder: Path) -> dict[str, Any]:
    """The sections of the stimuli, where an extractor reads those."""
    if plugin.table == "stimuli":
        return _images(folder)
    reads = (*plugin.reads, *material.fit_reads(plugin))
    if any(read in PAIRED or read.startswith("stimuli/") for read in reads):
        digits = {"plugin": "digits", "size": 16, "caption": CAPTION}
        source = SOURCE | {"n_trials": PAIRED_TRIALS}
        return {"source": source, "stimuli": digits, "pairing": {"plugin": "label"}}
    return {}


def _images(folder: Path) -> dict[str, Any]:
    """The section of a few images, which are written where they are not yet there."""
    from PIL import Image

    for number, pixels in enumerate(material.images()[:6]):
        path = folder / f"concept {number % 2}" / f"{number}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    section = {"plugin": "image-folder", "path": str(folder), "caption": CAPTION}
    return {"stimuli": section, "pairing": {"plugin": "label", "unmatched": "keep"}}


def _variations(cls: type[Any], options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Options of another value that the host accepts; paths, of which content counts, are left."""
    hints = get_type_hints(cls)
    for one in dataclasses.fields(cls):
        if one.name in path_options(cls):
            continue
        value = options.get(one.name)
        candidates: list[Any] = []
        if get_origin(hints[one.name]) is Literal:
            candidates = [choice for choice in get_args(hints[one.name]) if choice != value]
        elif isinstance(value, bool):
            candidates = [not value]
        elif isinstance(value, int | float):
            candidates = [value + 1, value * 2, value / 2, value - 1]
        for candidate in candidates:
            try:
                configure(cls, {**options, one.name: candidate}, Path(), one.name)
            except EegStoreError:
                continue
            yield one.name, candidate
