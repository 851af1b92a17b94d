"""Exporter ``npy``: the flat files that older training code reads, one set a split."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError, hookimpl

if TYPE_CHECKING:
    from eegstore import Store

BLOCK_BYTES = 1 << 22
SKIPPED = "skipped"
IMAGE_FEATURES = ("image", "clip_image", "image_features")
TEXT_FEATURES = ("caption", "clip_text", "text_features")


@dataclass(frozen=True)
class NpyExporter:
    """One ``.npy`` file a split and kind of value, and JSON files that describe them.

    For each split ``s``, rows in trial order: ``s_eeg_data.npy`` float32 (trial, channel, time);
    ``s_labels.npy`` int64 (trial,), the paired stimulus' label where the trial has none;
    ``s_img_features.npy`` and ``s_text_features.npy`` float32 (trial, feature), the stimulus'
    embedding; ``s_eeg_features.npy`` float32 (trial, feature), every EEG feature column
    flattened; ``s_images.npy`` uint8 (trial, y, x, 3) on request; ``s_image_paths.json``;
    ``s_metadata.json``. Trials that are unpaired (in a store with stimuli) or invalid are left
    out and counted.
    """

    name: ClassVar[str] = "npy"
    version: ClassVar[str] = "1"
    normalize: bool = field(
        default=True, metadata={"description": "Scale each embedding to unit L2 norm."}
    )
    images: bool = field(
        default=False, metadata={"description": "Write the images' pixels, one a trial."}
    )
    image_size: int | None = field(
        default=None,
        metadata={
            "description": "Resize the images to this many pixels square.",
            "gt": 0,
            "json_schema_extra": {"unit": "px"},
        },
    )
    image_features: str | None = field(
        default=None,
        metadata={"description": "Image embedding to write; clip_image, or the only one."},
    )
    text_features: str | None = field(
        default=None,
        metadata={"description": "Text embedding to write; clip_text, or the only one."},
    )

    def __call__(self, store: Store, out: Path) -> None:
        """Write the files into the new folder ``out``."""
        out.mkdir()
        splits = [split for split in store.splits if split != SKIPPED]
        for split in splits:
            self._export_split(store, split, out)
        facts = {
            "name": store.name,
            "notice": store.notice,
            "digest": store.digest,
            "splits": {split: f"{split}_metadata.json" for split in splits},
            "recipe": store.recipe,
        }
        _write_json(out / "metadata.json", facts)

    def _export_split(self, store: Store, split: str, out: Path) -> None:
        rows, n_unpaired = _exported_rows(store, split)
        eeg = store.trials["eeg"]
        shape = eeg.spec.shape
        _write_npy(out / f"{split}_eeg_data.npy", "float32", shape, rows, eeg.__getitem__)
        labels = _labels(store, rows)
        file = out / f"{split}_labels.npy"
        _write_npy(file, "int64", (), rows, lambda block: _labels(store, block))
        feature_names = _export_eeg_features(store, rows, out / f"{split}_eeg_features.npy")
        models = {
            kind: self._export_embedding(store, rows, kinds, out / f"{split}_{kind}_features.npy")
            for kind, kinds in (("img", IMAGE_FEATURES), ("text", TEXT_FEATURES))
        }
        if "image_path" in store.stimuli:
            paths = store.stimuli["image_path"][store.trials["stimulus"][rows]]
            _write_json(out / f"{split}_image_paths.json", paths.tolist())
        if self.images:
            self._export_images(store, rows, out / f"{split}_images.npy")
        times = eeg.spec.coords["time"]
        facts = {
            "mode": split,
            "notice": store.notice,
            "n_trials": len(rows),
            "n_unpaired": n_unpaired,
            "n_classes": len(np.unique(labels[labels >= 0])),
            "eeg_shape": list(shape),
            "eeg_units": eeg.spec.units,
            "ch_names": list(eeg.spec.coords["channel"]),
            "sfreq": eeg.spec.attrs["sfreq"],
            "time_window": [times[0], times[-1]],
            "model_type": models["img"] or models["text"],
            "img_features": models["img"],
            "text_features": models["text"],
            "normalized": self.normalize,
            "stimuli_path": _stimuli_path(store.recipe),
            "eeg_feature_names": feature_names,
        }
        _write_json(out / f"{split}_metadata.json", facts)

    def _export_embedding(
        self, store: Store, rows: NDArray[np.int64], kinds: tuple[str, str, str], file: Path
    ) -> str | None:
        """Write one embedding, expanded to a row a trial; returns the model or the column."""
        name = _embedding(store, *kinds, getattr(self, kinds[2]))
        if name is None:
            return None
        column = store.stimuli[name]
        stimulus = store.trials["stimulus"]

        def read(block: NDArray[np.int64]) -> NDArray[Any]:
            values = column[stimulus[block]].astype(np.float32)
            if self.normalize:
                norms = np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True)
                values = (values / np.where(norms > 0, norms, 1)).astype(np.float32)
            return values

        _write_npy(file, "float32", column.spec.shape, rows, read)
        model: str = column.attrs.get("model", name)
        return model

    def _export_images(self, store: Store, rows: NDArray[np.int64], file: Path) -> None:
        stimulus = store.trials["stimulus"]
        if not len(rows):
            return
        shape = self._image(store, int(stimulus[int(rows[0])])).shape

        def read(block: NDArray[np.int64]) -> NDArray[np.uint8]:
            distinct, inverse = np.unique(stimulus[block], return_inverse=True)
            images = [self._image(store, int(row)) for row in distinct]
            for row, image in zip(distinct, images, strict=True):
                if image.shape != shape:
                    raise InputError(
                        f"image of stimulus {row} is {image.shape[1]} x {image.shape[0]}, others "
                        f"{shape[1]} x {shape[0]}; give one size with --image-size"
                    )
            return np.stack(images)[inverse]

        _write_npy(file, "uint8", shape, rows, read)

    def _image(self, store: Store, stimulus: int) -> NDArray[np.uint8]:
        """uint8, (y, x, 3): a stimulus' image, resized where that is asked for."""
        image = store.image(stimulus)
        if self.image_size is None:
            return image
        from PIL import Image

        size = (self.image_size, self.image_size)
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _exported_rows(store: Store, split: str) -> tuple[NDArray[np.int64], int]:
    """The trials of a split that are written, and how many unpaired ones are left out."""
    rows = np.flatnonzero(store.trials["split"][:] == split)
    if not len(store.stimuli):
        return rows, 0
    paired = store.trials["stimulus"][rows] >= 0
    return rows[paired], int((~paired).sum())


def _labels(store: Store, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64, (trial,): each trial's label, or its stimulus' where it has none of its own."""
    labels = store.trials["label"][rows].copy()
    unlabelled = labels < 0
    if len(store.stimuli) and unlabelled.any():
        stimulus = store.trials["stimulus"][rows[unlabelled]]
        labels[unlabelled] = store.stimuli["label"][stimulus]
    return labels


def _embedding(store: Store, read: str, usual: str, option: str, named: str | None) -> str | None:
    """The stimulus column to write: the named one, the usual one, or the only one of its kind."""
    found = [
        name
        for name, column in store.stimuli.items()
        if list(column.attrs["eegstore"].get("inputs", ())) == [read]
        and len(column.spec.shape) == 1
    ]
    if named is not None:
        if named not in store.stimuli or len(store.stimuli[named].spec.shape) != 1:
            known = f"there are {', '.join(found)}" if found else "the store has none"
            raise InputError(f"no embedding is called {named!r}; {known}")
        return named
    if usual in found or len(found) < 2:
        return usual if usual in found else next(iter(found), None)
    flag = "--" + option.replace("_", "-")
    raise InputError(f"several embeddings of {read}: {', '.join(found)}; choose with {flag} NAME")


def _export_eeg_features(store: Store, rows: NDArray[np.int64], file: Path) -> list[str]:
    """Write every EEG feature column side by side; returns a name for each value."""
    columns = {
        name: column
        for name, column in store.trials.items()
        if name != "eeg" and column.entry.kind == "wide"
    }
    if not columns:
        return []
    names = [
        f"{name}/{part}" for name, column in columns.items() for part in _value_names(column.spec)
    ]

    def read(block: NDArray[np.int64]) -> NDArray[np.float32]:
        parts = [column[block].reshape(len(block), -1) for column in columns.values()]
        return np.concatenate(parts, axis=1).astype(np.float32)

    _write_npy(file, "float32", (len(names),), rows, read)
    return names


def _value_names(spec: Any) -> list[str]:
    """A name for each value of a row, such as ``FP1/alpha_power``."""
    axes = [
        [str(value) for value in spec.coords.get(dim, range(length))]
        for dim, length in zip(spec.dims, spec.shape, strict=True)
    ]
    names = [""]
    for axis in axes:
        names = [f"{name}/{value}" if name else value for name in names for value in axis]
    return names


def _stimuli_path(recipe: dict[str, Any]) -> str | None:
    """Where the recipe says that the images are."""
    section = recipe.get("stimuli", {})
    path = section.get("path") or section.get("images")
    return str(path) if path else section.get("plugin")


def _blocks(rows: NDArray[np.int64], row_bytes: int) -> Iterator[NDArray[np.int64]]:
    """The rows, a few megabytes at a time."""
    step = max(1, BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def _write_npy(
    file: Path,
    dtype: str,
    shape: tuple[int, ...],
    rows: NDArray[np.int64],
    read: Callable[[NDArray[np.int64]], NDArray[Any]],
) -> None:
    """Write rows of a shape one after the other; only one block is in memory."""
    stored = np.dtype(dtype).newbyteorder("<")
    row_bytes = int(np.prod(shape)) * stored.itemsize
    header = {
        "descr": np.lib.format.dtype_to_descr(stored),
        "fortran_order": False,
        "shape": (len(rows), *shape),
    }
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for block in _blocks(rows, row_bytes):
            values = np.ascontiguousarray(read(block), dtype=stored)
            stream.write(values.data.cast("B"))


def _write_json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@hookimpl
def eegstore_exporters() -> list[type[NpyExporter]]:
    """The exporter of this module."""
    return [NpyExporter]
